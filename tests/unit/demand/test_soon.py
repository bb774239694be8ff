"""Runs as courses, and what the next minutes will want of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.demand.arrivals import LEVELS, PredictedRun
from preprov.demand.soon import START, Course, Moving, Position, rises
from preprov.model.resources import KINDS

OFFSETS = np.array([10.0, 30.0, 60.0])
CPU = KINDS.index("cpu")


def course(*tasks: tuple[float, float, float]) -> Course:
    """Tasks as (start, runtime, cores)."""
    start, runtime, cores = (np.array(x, dtype=float) for x in zip(*tasks, strict=True))
    amount = np.zeros((len(start), len(KINDS)))
    amount[:, CPU] = cores
    return Course.of(start, runtime, amount)


def due(turn: float, *, probability: float = 1.0, late_s: float = 0.0) -> PredictedRun:
    return PredictedRun("d", turn, probability, np.full(LEVELS, late_s))


SPLIT = course((0, 20, 1.0), (20, 60, 30.0), (80, 5, 1.0))


def test_a_course_says_what_is_wanted_when():
    assert SPLIT.wanted(np.array([0.0, 19.9, 20.0, 79.9, 80.0, 85.0]))[:, CPU].tolist() == [1, 1, 30, 30, 1, 0]


NOT = float("nan")


@pytest.mark.parametrize(
    ("lasted", "over", "position", "late"),
    [
        ((NOT, NOT, NOT), (0, 0, 0), 7, 0),  # nobody says that it runs
        ((5, NOT, NOT), (1, 0, 0), 27, 0),
        ((5, NOT, NOT), (0, 0, 0), 5, 0),
        ((500, NOT, NOT), (0, 0, 0), 20, 480),
        ((45, 0, NOT), (1, 0, 0), 20, 0),
        ((95, 50, NOT), (1, 0, 0), 70, 0),
        ((9, 9, 9), (1, 1, 1), 85, 0),
    ],
)
def test_the_tasks_that_run_and_have_ended_tell_how_far_a_run_is(lasted, over, position: float, late: float):
    found = SPLIT.position(np.array(lasted, dtype=float), np.array(over, dtype=float), 7.0)
    assert found.at_s == pytest.approx(position)
    assert found.late_s == late


def test_a_wave_is_awaited_behind_a_task_that_lasts_longer_than_usual():
    """Whatever is next begins as it ends, which is any moment now."""
    run = Moving((SPLIT,), "r1", 64)
    for lasted in (21.0, 24.0):
        where = SPLIT.position(np.array([lasted, NOT, NOT]), np.zeros(3), 0.0)
        now, shortly, later = rises([(run, where)], 0.0, np.array([0.1, 5.0, 25.0]), 64)[:, :, CPU].T
        assert (now == 29.0).mean() < 0.1
        assert 0.3 < (shortly == 29.0).mean() < 0.9
        assert (later == 29.0).mean() > 0.75


def test_what_lasts_three_times_as_long_as_usual_is_not_waited_for():
    run = Moving((SPLIT,), "r1", 64)
    where = SPLIT.position(np.array([60.0, NOT, NOT]), np.zeros(3), 0.0)
    assert not rises([(run, where)], 0.0, OFFSETS, 64).any()
    assert not run.rises(0.0, where, OFFSETS).any()


def test_what_has_ended_of_a_task_is_no_longer_taken_off_when_it_ends():
    """Six of eight instances are over; two thirds of what they had is wanted by what follows."""
    run = Moving((course((0, 70, 32.0), (70, 280, 16.0)),), "r1", 16)
    where = run.courses[0].position(np.array([70.0, NOT]), np.array([0.75, 0.0]), 0.0)
    offsets = np.array([0.0, 80.0])
    assert rises([(run, where)], 0.0, offsets, 16)[:, 1, CPU] == pytest.approx(8.0)
    assert run.rises(0.0, where, offsets)[:, 1, CPU] == pytest.approx(8.0)


def test_of_tasks_side_by_side_the_ones_that_are_over_are_not_counted():
    run = Moving((course((0, 70, 4.0), (0, 70, 4.0), (70, 280, 8.0)),), "r1", 16)
    where = run.courses[0].position(np.array([70.0, 70.0, NOT]), np.array([1.0, 0.0, 0.0]), 0.0)
    assert rises([(run, where)], 0.0, np.array([80.0]), 16)[:, 0, CPU] == pytest.approx(4.0)


def test_a_run_that_is_not_due_yet_is_wanted_when_it_is():
    run = Moving((SPLIT,), "r1", 16)
    found = rises([(run, Position(-30.0))], 0.0, np.array([29.0, 31.0]), 16)[:, :, CPU]
    assert (found == [0.0, 1.0]).all()


def test_a_run_under_way_wants_more_when_its_wave_comes():
    run = Moving((SPLIT,), "r1", 64)
    found = rises([(run, Position(15.0))], 0.0, OFFSETS, 64)[:, :, CPU]
    assert found[:, 0].mean() > 20
    assert found[:, 0].max() == 29.0
    late = rises([(run, START)], 0.0, np.array([5.0]), 64)[:, :, CPU]
    assert late.max() == 0.0


def test_a_due_run_starts_when_such_runs_do_and_only_as_often():
    now = 1000.0
    surely = Moving((SPLIT,), "d@1020", 200, due=due(1020.0))
    assert np.allclose(surely.starts_s(now), 20.0)
    assert (surely.rises(now, START, OFFSETS)[:, 0, CPU] == 0).all()
    assert (surely.rises(now, START, OFFSETS)[:, 1, CPU] > 0).all()
    perhaps = Moving((SPLIT,), "d@1020", 200, due=due(1020.0, probability=0.25))
    assert np.isfinite(perhaps.starts_s(now)).mean() == pytest.approx(0.25, abs=0.02)


def test_a_turn_that_is_over_is_not_waited_for():
    gone = Moving((SPLIT,), "d@900", 50, due=due(900.0, late_s=30.0))
    assert np.isinf(gone.starts_s(1000.0)).all()
    assert not gone.rises(1000.0, START, OFFSETS).any()


def test_runs_that_differ_are_alternatives():
    wide, narrow = course((0, 100, 50.0)), course((0, 100, 2.0))
    found = Moving((wide, narrow), "d@0", 40, due=due(5.0)).rises(0.0, START, OFFSETS)[:, 0, CPU]
    assert sorted(set(found)) == [2.0, 50.0]
    assert (found == 50.0).sum() == 20


@given(
    tasks=st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 100), st.floats(0, 8)), min_size=1, max_size=12),
    position=st.floats(0, 250),
)
def test_rises_end_with_what_runs_now_given_back(tasks, position):
    run = Moving((course(*tasks),), "r", 8)
    now = run.courses[0].wanted(np.array(position))
    found = run.rises(0.0, Position(position), np.array([1e6]))[:, 0]
    assert np.allclose(found, -now, atol=1e-6)


@given(
    st.lists(st.tuples(st.floats(0, 300), st.floats(1, 300), st.integers(1, 9)), min_size=1, max_size=5),
    st.floats(0, 400),
    st.floats(0, 90),
    st.integers(0, 400).map(lambda second: second + 0.123),  # no edge of a task falls on an offset
    st.integers(1, 3),
)
def test_going_through_the_tasks_says_the_same_as_looking_up_the_course(
    tasks: list[tuple[float, float, float]], position: float, late: float, turn: float, shapes: int
):
    offsets, size = np.arange(10.0, 600.0, 30.0), 24
    under_way = Moving((course(*tasks),), "r", size)
    others = tuple(course(*tasks[k % len(tasks) :]) for k in range(shapes))
    coming = Moving(others, "d", size, due=due(turn, probability=0.5, late_s=7.0))
    assert under_way.is_short
    assert coming.is_short
    where = Position(position, late, 50.0, np.array([position + 100.1]), np.ones((1, len(KINDS))))
    both = rises([(under_way, where), (coming, START)], 0.0, offsets, size)
    looked_up = under_way.rises(0.0, where, offsets) + coming.rises(0.0, START, offsets)
    assert np.allclose(both, looked_up, atol=1e-9)
