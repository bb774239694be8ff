"""Time that slots were taken, against a count second by second."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.demand.waiting.occupancy import NEVER, Lanes, Taken, When

SECONDS = 60
spans = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 3)), max_size=10)
waits = st.lists(st.tuples(st.integers(0, 55), st.integers(0, 55)).map(sorted), min_size=1, max_size=5)


def taken(of: list[tuple[int, int, int]]) -> Taken:
    since, until, need = (np.array(c, dtype=float) for c in (zip(*of, strict=True) if of else ((), (), ())))
    return Taken.of(since, np.fmax(since, until), need)


def level(of: list[tuple[int, int, int]]) -> np.ndarray:
    return np.array([sum(n for a, b, n in of if a <= s < max(a, b)) for s in range(SECONDS)])


def asked(of: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    since, until = np.array(of, dtype=float).T
    return since, until


def counted(on: np.ndarray, of: list[list[int]]) -> list[int]:
    return [int(on[a:b].sum()) for a, b in of]


@given(spans, spans, waits, st.integers(0, 4), st.integers(0, 4))
def test_time_over_a_limit_while_another_was_not_full(mine, others, of, slots, more):
    here, there = taken(mine).over(slots), taken(others).over(more)
    on, off = level(mine) > slots, ~(level(others) > more)
    assert here.seconds(*asked(of)).tolist() == counted(on, of)
    assert here.seconds_without(there, *asked(of)).tolist() == counted(on & off, of)
    assert here.seconds_without(NEVER, *asked(of)).tolist() == counted(on, of)


@given(spans, waits, st.integers(0, 3), st.integers(0, 8))
def test_short_breaks_are_closed_and_longer_ones_are_not(mine, of, slots, gap):
    on = level(mine) > slots
    filled, begun, ended = on.copy(), False, 0
    for second, held in enumerate(on):
        if held and begun and second - ended <= gap:
            filled[ended:second] = True
        begun, ended = begun or held, second + 1 if held else ended
    assert taken(mine).over(slots).closed(gap).seconds(*asked(of)).tolist() == counted(filled, of)


@given(spans, st.integers(0, 3))
def test_how_long_ago_it_last_held(mine, slots):
    on = level(mine) > slots
    at = np.arange(1.0, SECONDS)
    found = taken(mine).over(slots).over_for(at)
    for second, ago in zip(at.astype(int), found, strict=True):
        held = np.flatnonzero(on[:second])
        assert ago == (second - 1 - held[-1] if len(held) else np.inf)


@given(st.lists(spans, min_size=1, max_size=4), st.lists(waits, min_size=4, max_size=4), st.integers(0, 3), spans)
def test_many_places_side_by_side_are_as_each_by_itself(places, of, slots, shared):
    lanes = Lanes(1_000.0, 1_000.0 + SECONDS, len(places))
    rows = [(lane, *span) for lane, some in enumerate(places) for span in some]
    lane, since, until, need = (
        np.array(c, dtype=float) for c in (zip(*rows, strict=True) if rows else ((), (), (), ()))
    )
    lane = lane.astype(np.int64)
    all_of = lanes.taken(lane, since + 1_000.0, np.fmax(since, until) + 1_000.0, need)
    alone = [taken(some) for some in places]
    assert lanes.most(all_of).tolist() == [t.most for t in alone]
    limits = np.array([slots + i for i in range(len(places))], dtype=float)
    full = lanes.over(all_of, limits)
    other = taken(shared).over(1)
    other = When(other.at + 1_000.0, other.on)
    for i, (one, some) in enumerate(zip(alone, of, strict=False)):
        a, b = asked(some)
        at = [lanes.on_axis(np.full(len(a), i), x + 1_000.0) for x in (a, b)]
        assert full.seconds(*at) == pytest.approx(one.over(limits[i]).seconds(a, b), abs=1e-6)
        alike = one.over(limits[i]).seconds_without(When(other.at - 1_000.0, other.on), a, b)
        assert full.seconds_without(other, *at, real=lanes.real) == pytest.approx(alike, abs=1e-5)
