"""A run unlike those before it is told and not learnt from; three alike are what is usual now."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.usage import UsageRun
from preprov.profiles.oddities import oddities, sort_out


def run(memory: float = 2.0, cpu: float = 1.0, seconds: float = 600.0, size: float = float("nan")) -> UsageRun:
    at = np.linspace(0, seconds, 20, endpoint=False)
    curve = np.linspace(0.5, 1.0, 20)
    return UsageRun("w", "p", 0.0, seconds, at, memory * curve, np.full(20, cpu), input_bytes=size)


def steady(n: int = 8) -> list[UsageRun]:
    rng = np.random.default_rng(0)
    return [run(2.0 * rng.uniform(0.95, 1.05), rng.uniform(0.95, 1.05), 600 * rng.uniform(0.9, 1.1)) for _ in range(n)]


@pytest.mark.parametrize(
    ("odd", "what", "used"),
    [(run(memory=9.0), "memory", 9.0), (run(cpu=0.1), "cpu", 0.1), (run(seconds=4000), "runtime", 4000)],
)
def test_one_that_is_unlike_the_others_is_told_and_kept_out(odd, what, used):
    found = sort_out([*steady(), odd, *steady(2)])
    assert found.kept == (*range(8), 9, 10)
    (how,) = found.odd[8]
    assert (how.what, how.used) == (what, pytest.approx(used))
    assert f"where {how.usual:.3g} is usual" in how.words()
    assert found.since == 0


def test_half_as_much_again_is_not_worth_telling():
    assert sort_out([*[run() for _ in range(8)], run(memory=2.9)]).odd == {}


def test_three_in_a_row_that_are_odd_alike_are_what_is_usual_now():
    """A new version of what it reads, say: what it learnt before is forgotten."""
    found = sort_out([*steady(), *[run(memory=6.0) for _ in range(3)], run(memory=6.1)])
    assert found.since == 8
    assert found.kept == (8, 9, 10, 11)
    assert found.odd == {}


def test_odd_ones_that_have_nothing_in_common_stay_odd():
    found = sort_out([*steady(), run(memory=9.0), run(memory=0.2), run(seconds=9000), run()])
    assert sorted(found.odd) == [8, 9, 10]
    assert found.kept == (*range(8), 11)


def test_what_input_size_explains_is_not_odd():
    sizes = [2.0**30 * s for s in (1, 2, 3, 4, 5, 6, 7, 8)]
    past = [run(memory=s / 2.0**30, size=s) for s in sizes]
    assert oddities(run(memory=7.5, size=7.5 * 2.0**30), past) == ()
    (how,) = oddities(run(memory=7.5, size=1.5 * 2.0**30), past)
    assert how.usual == pytest.approx(1.5, rel=0.2)


def test_an_input_of_a_size_never_seen_is_not_judged():
    past = [run(size=2.0**30 * s) for s in (1, 1.1, 1.2, 1.3, 1.4, 1.5)]
    assert oddities(run(memory=50, size=2.0**40), past) == ()


def test_too_few_to_say_what_is_usual():
    assert oddities(run(memory=50), [run() for _ in range(4)]) == ()
    assert sort_out([]).kept == ()


def test_what_was_not_observed_is_not_odd():
    blind = UsageRun("w", "p", 0.0, 600.0, np.array([0.0]), np.array([np.nan]), np.array([np.nan]))
    assert oddities(blind, steady()) == ()
    assert oddities(run(memory=50), [blind] * 8) == ()


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 10), st.floats(1, 1e5)), max_size=40))
def test_every_run_is_kept_or_odd_or_forgotten(shapes):
    runs = [run(*s) for s in shapes]
    found = sort_out(runs)
    assert set(found.kept).isdisjoint(found.odd)
    assert {i for i in range(len(runs)) if i >= found.since} <= {*found.kept, *found.odd}
    assert all(i >= found.since for i in found.kept)
    assert list(found.kept) == sorted(found.kept)
