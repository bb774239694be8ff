import numpy as np
import pytest

from preprov.demand.starts import actual_starts, by_chance, code_of, expected_starts, matched
from preprov.model.work import Schedule
from tests.unit.demand.test_learnt import given
from tests.unit.demand.work import AT, HOUR, Run, Task, history, instant, table

TASKS = [Task("a", 300.0), Task("b", 600.0, ("a",)), Task("b2", 600.0, ("a",), signature="nightly/b")]


def test_tasks_of_a_run_that_is_due_are_foretold_in_order() -> None:
    """Each night at two: ten minutes before, its first task and what follows within the hour are expected."""
    at = instant(14 * HOUR - 600)
    asked = given(table(history("nightly", TASKS, days=30)), at=at, start=at)
    found = expected_starts(asked).items().likely()
    order = np.argsort(found.after, kind="stable")
    assert list(found.signature[order]) == ["nightly/a", "nightly/b", "nightly/b"]
    assert found.after[order] == pytest.approx([600.0, 900.0, 900.0], abs=90)
    assert found.probability.min() > 0.9


def test_a_run_without_a_schedule_is_foretold_by_its_recurrence_and_one_submitted_is_not_foretold() -> None:
    runs = history("nightly", TASKS, days=30)
    at = instant(14 * HOUR - 600)
    hidden = given(table(runs), at=at, start=at, schedules=(), recurring=True)
    assert len(expected_starts(hidden).items().likely()) == 3
    early = Run("tonight", "nightly", 14 * HOUR - 700, TASKS, scheduled_for=14 * HOUR, trigger="scheduled")
    work = table([*runs, early])
    told = given(work, seen=work, at=at, start=at, schedules=(Schedule("nightly", "p", "0 2 * * *", "UTC"),))
    assert len(expected_starts(told).items()) == 0


def test_nothing_is_foretold_of_nothing() -> None:
    assert len(expected_starts(given(table([]), schedules=())).items()) == 0


def test_what_really_started_are_tasks_of_later_runs_within_the_hour() -> None:
    work = table(
        [
            Run("before", "d", -60.0, [Task("a", 90.0), Task("b", 60.0, ("a",))]),
            Run("after", "d", 60.0, [Task("a", 90.0), Task("b", 60.0, ("a",)), Task("skipped", 0.0)]),
            Run("late", "d", 3_000.0, [Task("a", 900.0), Task("b", 60.0, ("a",))]),
        ]
    )
    found = actual_starts(work, AT)
    assert sorted(zip(found.signature, found.after, strict=True)) == [("d/a", 60.0), ("d/a", 3_000.0), ("d/b", 150.0)]


def test_chance_is_the_usual_rate() -> None:
    work = table([Run(f"r{i}", "d", -HOUR * i, [Task("t", 60.0)]) for i in range(24 * 28, 0, -1)])
    expected = actual_starts(table([Run("r", "d", 60.0, [Task("t", 60.0)])]), AT)
    assert by_chance(expected, work.as_of(AT), AT) == pytest.approx(1 - np.exp(-1 / 6), rel=0.01)


def test_tasks_of_one_operator_are_one_if_so_wished() -> None:
    """Its tasks are called otherwise each night."""
    runs = [
        Run(
            f"r{d}",
            "nightly",
            14 * HOUR - 24 * HOUR * d,
            [Task(f"part{d}-{i}", 600.0, more={"operator": "Part"}) for i in range(3)],
            scheduled_for=14 * HOUR - 24 * HOUR * d,
            trigger="scheduled",
        )
        for d in range(20, -1, -1)
    ]
    work, at = table(runs), instant(14 * HOUR - 600)
    drawn, names = expected_starts(given(work, seen=work, at=at, start=at)), code_of(work)
    found, real = drawn.items(names).likely(), actual_starts(work, at, names=names)
    assert list(found.signature) == list(real.signature) == ["nightly/Part"] * 3
    assert matched(found, real) == 3
    assert matched(drawn.items().likely(), actual_starts(work, at)) == 0
    assert code_of(table([Run("r", "d", 0.0, [Task("t")])])) == {"d/t": "d/t"}
