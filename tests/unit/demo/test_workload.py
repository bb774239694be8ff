"""The company's work: drawn by seed, on schedule, with the habits it is said to have."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.demand.schedules import turns
from preprov.demo.company import Habits, retailer
from preprov.demo.history import HistorySource
from preprov.demo.workload import PlannedRun, TaskMaker, Workload, build_specs, finished, instant, work_table
from preprov.model.work import DagSpec, Schedule, Trigger
from preprov.model.worktable import WorkTable

ZURICH = ZoneInfo("Europe/Zurich")
END = instant(datetime(2025, 10, 31, 1, 56), "Europe/Zurich")  # noqa: DTZ001 - wall clock
START = END - timedelta(weeks=6)


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload(retailer(), START, seed=3)


@pytest.fixture(scope="module")
def runs(workload: Workload) -> tuple[PlannedRun, ...]:
    return workload.runs(START, END)


@pytest.fixture(scope="module")
def specs() -> dict[str, DagSpec]:
    return build_specs(retailer(), TaskMaker())


def by_dag(runs: tuple[PlannedRun, ...], dag_id: str) -> list[PlannedRun]:
    return [r for r in runs if r.shape.dag_id == dag_id]


def test_the_same_seed_draws_the_same_runs_and_another_one_others(
    workload: Workload, runs: tuple[PlannedRun, ...]
) -> None:
    again = Workload(retailer(), START, seed=3).runs(START, END)
    assert [(r.run_id, r.submit, r.seconds.tolist()) for r in again] == [
        (r.run_id, r.submit, r.seconds.tolist()) for r in runs
    ]
    other = Workload(retailer(), START, seed=4).runs(START, END)
    assert [r.seconds.tolist() for r in other] != [r.seconds.tolist() for r in runs]


@given(hours=st.integers(0, 24 * 40), length=st.integers(1, 12))
def test_a_window_shows_exactly_what_the_whole_shows_of_it(hours: int, length: int) -> None:
    workload = Workload(retailer(), START, seed=3)
    a = START + timedelta(hours=hours)
    b = a + timedelta(hours=length)
    middle = a + (b - a) / 2
    whole = [r.run_id for r in workload.runs(a, b)]
    assert whole == [r.run_id for r in (*workload.runs(a, middle), *workload.runs(middle, b))]
    assert len(set(whole)) == len(whole)


def test_scheduled_runs_belong_to_turns_of_their_cron(workload: Workload, runs: tuple[PlannedRun, ...]) -> None:
    for shape in workload.company.scheduled:
        due = set(turns(Schedule(shape.dag_id, "", shape.cron, "Europe/Zurich"), START - timedelta(days=1), END))
        mine = by_dag(runs, shape.dag_id)
        assert {r.scheduled_for for r in mine} <= due
        assert all(r.submit > r.scheduled_for for r in mine if r.scheduled_for is not None)


def test_some_daily_turns_are_skipped_and_some_late_but_hardly_any(runs: tuple[PlannedRun, ...]) -> None:
    nightly = [d.dag_id for d in retailer().scheduled if d.cron.endswith("* * *") and "/" not in d.cron]
    daily = [r for r in runs if r.shape.dag_id in nightly and not r.shape.cron.startswith("20 *")]
    lateness = np.array([(r.submit - r.scheduled_for).total_seconds() for r in daily if r.scheduled_for])
    assert 0 < (lateness > 600).mean() < 0.1
    assert np.median(lateness) < 10
    expected = 42 * len([d for d in nightly if d != "sales.sync"])
    assert 0.93 * expected < len(daily) < expected


def test_months_are_closed_on_their_last_day(workload: Workload, runs: tuple[PlannedRun, ...]) -> None:
    days = {r.submit.astimezone(ZURICH).date().isoformat() for r in by_dag(runs, "finance.month_close")}
    assert days == {"2025-09-30"}
    tonight = workload.runs(END, END + timedelta(minutes=30))
    assert by_dag(tonight, "finance.month_close")


def test_the_input_of_a_month_s_last_day_is_larger(workload: Workload) -> None:
    calm = replace(retailer(), habits=Habits(input_sigma=0.0, task_sigma=0.0, skipped=0.0, late=0.0))
    runs = Workload(calm, START).runs(START, END)
    invoices = {
        r.submit.astimezone(ZURICH).date().isoformat(): r.core_seconds for r in by_dag(runs, "finance.invoices")
    }
    assert invoices["2025-09-30"] > 2 * invoices["2025-09-29"]


def test_weekends_are_quieter(runs: tuple[PlannedRun, ...]) -> None:
    per_day = np.zeros(7)
    for r in runs:
        per_day[r.submit.astimezone(ZURICH).weekday()] += r.core_seconds
    assert per_day[5] < 0.9 * per_day[:5].mean()
    by_hand = np.bincount([r.submit.astimezone(ZURICH).weekday() for r in runs if r.trigger is Trigger.MANUAL])
    assert by_hand[5:].mean() < 0.75 * by_hand[:5].mean()


def test_people_start_work_in_office_hours(runs: tuple[PlannedRun, ...]) -> None:
    hours = np.bincount([r.submit.astimezone(ZURICH).hour for r in runs if r.trigger is Trigger.MANUAL], minlength=24)
    assert hours[9:17].mean() > 3 * hours[0:6].mean()


def test_the_input_grows() -> None:
    grown = replace(retailer(), habits=Habits(weekly_growth=0.05, input_sigma=0.0, task_sigma=0.0))
    runs = Workload(grown, START).runs(START, END)
    work = [r.core_seconds for r in by_dag(runs, "platform.metrics") if r.submit.astimezone(ZURICH).weekday() < 5]
    assert np.mean(work[-96:]) / np.mean(work[:96]) == pytest.approx(1.05 ** (41 / 7), rel=0.05)


def test_run_to_run_spread_is_as_said(runs: tuple[PlannedRun, ...]) -> None:
    seconds = np.log([r.seconds[0] for r in by_dag(runs, "platform.metrics")])
    habits = Habits()
    assert seconds.std() == pytest.approx(np.hypot(habits.input_sigma, habits.task_sigma), abs=0.03)


def test_the_table_times_tasks_as_if_nothing_waited(workload: Workload, specs: dict[str, DagSpec]) -> None:
    runs = workload.runs(END, END + timedelta(minutes=30))
    table = work_table(runs, specs, "Europe/Zurich")
    start, end = table.spans()
    assert len(table.runs) == len(runs)
    assert (start[table.children] >= end[table.parents]).all()
    first = np.flatnonzero(~np.isin(np.arange(len(table)), table.children))
    assert start[first] == pytest.approx(table.runs["submit"].to_numpy()[table.tasks["run"].to_numpy()[first]])
    assert {"cpu", "memory"} <= set(table.tasks.columns)
    assert (table.tasks["memory"] >= table.tasks["cpu"]).all()


def test_no_runs_make_an_empty_table(specs: dict[str, DagSpec]) -> None:
    assert not len(work_table((), specs, "UTC").runs)


def test_the_history_is_whole_and_ends_before_the_slice(workload: Workload, specs: dict[str, DagSpec]) -> None:
    source = HistorySource(workload, specs, END)
    heard: list[float] = []
    batches = list(source.read(lambda share, _: heard.append(share)))
    work = WorkTable.concat([b.work for b in batches])
    _, end = work.spans()
    assert end.max() <= END.timestamp()
    assert {s.dag_id for b in batches for s in b.schedules} == {d.dag_id for d in retailer().scheduled}
    assert heard[-1] == 1.0
    assert len(batches) == 6
    assert source.digest == HistorySource(workload, specs, END).digest
    assert source.digest != HistorySource(replace(workload, seed=9), specs, END).digest


def test_unfinished_runs_are_left_out(workload: Workload, specs: dict[str, DagSpec]) -> None:
    table = work_table(workload.runs(END, END + timedelta(minutes=30)), specs, "Europe/Zurich")
    cut = datetime(2025, 10, 31, 1, 6, tzinfo=UTC).timestamp()
    done = finished(table, cut)
    assert 0 < len(done.runs) < len(table.runs)
    assert done.spans()[1].max() <= cut
