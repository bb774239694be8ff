"""Vector bin packing: whole tasks of several resources on whole nodes."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.planning.packing import Kind, Mix, coarser, nodes_for_wave, usable_of

ROOM = Resources(16, 64)
NODE = Offering("m", ROOM)
BINDING = ("cpu", "memory")
sizes = st.tuples(st.integers(1, 16), st.integers(1, 64)).map(lambda s: Resources(*map(float, s)))


def least(items: tuple[tuple[int, int], ...]) -> int:
    """Fewest nodes, by trying all ways."""

    @cache
    def fit(left: tuple[tuple[int, int], ...], free: tuple[tuple[int, int], ...]) -> int:
        if not left:
            return len(free)
        (cpu, memory), rest = left[0], left[1:]
        best = fit(rest, tuple(sorted((*free, (16 - cpu, 64 - memory)))))
        for i, (c, m) in enumerate(free):
            if c >= cpu and m >= memory:
                best = min(best, fit(rest, tuple(sorted((*free[:i], (c - cpu, m - memory), *free[i + 1 :])))))
        return best

    return fit(items, ())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 16), st.integers(1, 64)), min_size=1, max_size=6))
def test_a_wave_is_packed_nearly_as_tightly_as_can_be(items):
    found = nodes_for_wave([Kind(Resources(float(c), float(m))) for c, m in items], ROOM, BINDING)
    best = least(tuple(sorted(items, reverse=True)))
    assert best <= found <= math.ceil(best * 1.5)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 500))
def test_like_tasks_are_packed_exactly(size, n):
    each = min(int(16 // size.cpu), int(64 // size.memory))
    assert nodes_for_wave([Kind(size, n)], ROOM, BINDING) == math.ceil(n / each)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sizes, st.floats(0.1, 100)), min_size=1, max_size=6))
def test_what_a_mix_can_use_is_never_more_than_a_node_has_nor_less_than_one_task(kinds):
    mix = Mix.of([Kind(size, count) for size, count in kinds])
    usable = usable_of(mix, NODE, BINDING)
    assert all(0 < u <= have + 1e-9 for u, have in zip(usable[:2], ROOM.as_tuple()[:2], strict=True))
    total = mix.total
    nodes = max(total.cpu / usable[0], total.memory / usable[1])
    assert nodes >= max(total.cpu / 16, total.memory / 64) - 1e-9


def test_tasks_that_leave_half_a_node_free_halve_what_it_is_good_for():
    assert usable_of(Mix.of([Kind(Resources(9, 4))]), NODE, BINDING)[0] == 9
    assert usable_of(Mix.of([Kind(Resources(9, 4)), Kind(Resources(7, 4))]), NODE, BINDING)[0] == 16
    assert usable_of(Mix.of([Kind(Resources(1, 2))]), NODE, BINDING)[:2] == (16, 64)
    assert usable_of(Mix.of([Kind(Resources(100, 2))]), NODE, BINDING)[0] == 16, "what fits nowhere is not counted"
    assert Mix.of([Kind(Resources())]) is None


def test_sizes_that_hardly_differ_are_one():
    amounts = np.array([0.0, 1.0, 1.031, 1.036, 64.0, 0.1103])
    coarse = coarser(amounts)
    assert (coarse >= amounts - 1e-4).all()
    assert coarse[2] == coarse[3]
    assert coarse.tolist()[:2] == [0.0, 1.0]
    assert coarse[5] == pytest.approx(0.1103, rel=0.06)
