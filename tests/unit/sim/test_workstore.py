"""Work in memory: a trace shows only as its submit times pass; live runs join it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.contracts import SourceBatch, WorkStore
from preprov.model.errors import SourceError, StoreError
from preprov.model.time import from_epoch
from preprov.model.work import DagSpec, Schedule, State, TaskSpec
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable
from preprov.sim.workstore import MemoryWorkStore

T0 = datetime(2026, 1, 5, tzinfo=UTC)
E0 = T0.timestamp()


def table(submits: list[float], tasks_per_run: int = 2, prefix: str = "r") -> WorkTable:
    """Runs submitted so many seconds after T0, each a chain of tasks of 60 s."""
    runs = pd.DataFrame(
        {
            "run_id": [f"{prefix}{i}" for i in range(len(submits))],
            "dag_id": "d",
            "tenant": "t",
            "priority": 0,
            "schedule": "",
            "zone": "UTC",
            "trigger": "manual",
            "scheduled_for": np.nan,
            "submit": [E0 + s for s in submits],
            "due": [E0 + s for s in submits],
            "land_by": np.nan,
            "timing": "nominal",
        },
        columns=list(RUN_COLUMNS),
    ).astype(RUN_COLUMNS)
    n = len(submits) * tasks_per_run
    run = np.repeat(np.arange(len(submits)), tasks_per_run)
    place = np.tile(np.arange(tasks_per_run), len(submits))
    tasks = pd.DataFrame(
        {
            "run": run,
            "task_id": [f"t{k}" for k in place],
            "signature": "s",
            "operator": "",
            "instances": 1,
            "cpu": 1.0,
            "memory": 1.0,
            "gpu": 0.0,
            "disk_io": 0.0,
            "network": 0.0,
            "gang": False,
            "hint_s": np.nan,
            "ready_at": runs["due"].to_numpy()[run] + 60.0 * place,
            "started_at": np.nan,
            "ended_at": np.nan,
            "runtime_s": 60.0,
        },
        columns=list(TASK_COLUMNS),
    ).astype(TASK_COLUMNS)
    parents = np.flatnonzero(place < tasks_per_run - 1)
    assert n == len(tasks)
    return WorkTable(runs, tasks, parents, parents + 1)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12), st.integers(-10, 1010), st.integers(-10, 1010))
def test_preloaded_work_is_sliced_by_submit(submits: list[int], a: int, b: int):
    store = MemoryWorkStore()
    store.preload("p", table([float(s) for s in submits], 3))
    got = store.work("p", since=T0 + timedelta(seconds=a), until=T0 + timedelta(seconds=b))
    assert sorted(got.runs["run_id"]) == sorted(f"r{i}" for i, s in enumerate(submits) if a <= s <= b)
    assert list(got.runs["submit"]) == sorted(got.runs["submit"])
    assert len(got.tasks) == 3 * len(got.runs)
    if len(got.tasks):
        assert (np.diff(got.tasks["run"]) >= 0).all()
        assert (got.tasks["run"].to_numpy()[got.parents] == got.tasks["run"].to_numpy()[got.children]).all()
        assert len(got.parents) == 2 * len(got.runs)
        assert dict(got.tasks.dtypes.astype(str)) == TASK_COLUMNS


def test_what_was_noted_since_shows_when_the_same_part_is_read_again():
    store = MemoryWorkStore()
    store.preload("p", table([0.0, 100.0]))
    until = T0 + timedelta(seconds=150)
    before = store.work("p", since=T0, until=until)
    assert store.work("p", since=T0, until=until) is before
    at = E0 + np.array([160.0])
    store.note("p", np.array([2]), ready_at=at, started_at=at, ended_at=at + 60.0)
    after = store.work("p", since=T0, until=until)
    assert after.tasks["started_at"].tolist()[2] == at[0]
    assert np.isnan(before.tasks["started_at"]).all()


def test_nothing_of_the_future_shows():
    store = MemoryWorkStore()
    store.preload("p", table([0.0, 100.0, 200.0]))
    at = T0 + timedelta(seconds=130)
    seen = store.work("p", until=at).as_of(at)
    assert list(seen.runs["run_id"]) == ["r0", "r1"]
    assert list(np.isnan(seen.tasks["runtime_s"])) == [False, False, True, True]


def test_ingest_is_idempotent_and_all_or_nothing():
    store: WorkStore = MemoryWorkStore()
    work = table([0.0, 10.0])
    schedule = Schedule("d", "p", "0 1 * * *", "UTC")
    result = store.ingest("p", "f", "abc", [SourceBatch(work, (schedule,))], zone="Europe/Zurich")
    assert (result.runs, result.tasks, result.already) == (2, 4, False)
    assert store.ingest("p", "f", "abc", [SourceBatch(work)]).already
    assert store.ingest("p", "g", "def", [SourceBatch(WorkTable.concat([work, table([5.0], prefix="x")]))]).runs == 1
    assert list(store.work("p").runs["run_id"]) == ["r0", "x0", "r1"]
    assert store.pools() == {"p": "UTC"}
    assert store.schedules("p") == (schedule,)

    def broken():
        yield SourceBatch(table([1.0], prefix="y"))
        raise SourceError("truncated")

    with pytest.raises(SourceError):
        store.ingest("p", "h", "ghi", broken())
    with pytest.raises(SourceError, match="no usable run"):
        store.ingest("p", "h", "ghi", [SourceBatch(WorkTable.empty())])
    assert len(store.work("p").runs) == 3
    assert store.work("nowhere").runs.empty


DAG = DagSpec("etl", (TaskSpec("a"), TaskSpec("b", parents=("a",), runtime_hint_s=60.0, instances=2)))


def test_a_live_run_is_followed_and_final_states_stay():
    store = MemoryWorkStore()
    run = store.submit(DAG, "p", T0, "etl-1")
    assert run is not None
    assert store.submit(DAG, "p", T0 + timedelta(seconds=5), "etl-1") == run
    a, b = store.task_runs(["etl-1"])
    assert (a.task_id, b.task_id, a.state) == ("a", "b", State.PENDING)
    done = replace(
        a,
        state=State.SUCCEEDED,
        ready_at=T0,
        started_at=T0 + timedelta(seconds=1),
        ended_at=T0 + timedelta(seconds=31),
    )
    store.save_tasks([done])
    store.save_tasks([replace(a, state=State.RUNNING)])
    assert store.task_runs(["etl-1"])[0].state is State.SUCCEEDED
    work = store.work("p")
    assert work.tasks["runtime_s"].iloc[0] == 30.0
    assert list(work.tasks["instances"]) == [1, 2]
    assert (list(work.parents), list(work.children)) == ([0], [1])
    store.save_run("etl-1", State.SUCCEEDED, T0 + timedelta(minutes=5))
    store.save_run("etl-1", State.FAILED, None)
    found = store.run("etl")
    assert found is not None
    assert found.state is State.SUCCEEDED
    assert store.runs("p", live=True) == ()
    assert len(store.runs("p", limit=5)) == 1


def test_scheduled_runs_are_made_once_per_turn():
    store = MemoryWorkStore()
    nightly = replace(DAG, schedule="0 2 * * *", zone="Europe/Zurich")
    assert store.submit(nightly, "p", T0) is None
    (schedule,) = store.schedules("p")
    assert schedule.since == T0
    assert store.has_template("p", "etl")
    turn = from_epoch(E0 + 3600)
    run = store.materialise(schedule, turn, turn)
    assert store.materialise(schedule, turn, turn + timedelta(seconds=1)) == run
    assert run.scheduled_for == turn
    assert list(store.work("p").runs["schedule"]) == ["0 2 * * *"]
    with pytest.raises(StoreError):
        store.materialise(replace(schedule, dag_id="other"), turn, turn)
    again = store.submit(replace(nightly, due=T0 + timedelta(minutes=5)), "p", T0)
    assert again is not None


def test_history_and_live_runs_come_together_by_submit():
    store = MemoryWorkStore()
    store.preload("p", table([0.0, 100.0]))
    store.submit(DAG, "p", T0 + timedelta(seconds=50), "live")
    work = store.work("p", until=T0 + timedelta(seconds=99))
    assert list(work.runs["run_id"]) == ["r0", "live"]
    assert list(work.tasks["run"]) == [0, 0, 1, 1]
    assert [(int(p), int(c)) for p, c in zip(work.parents, work.children, strict=True)] == [(0, 1), (2, 3)]
