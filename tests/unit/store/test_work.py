"""Ingested and live work beyond the contract: blocks, crashes, rows that must not be."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.contracts import SourceBatch
from preprov.model.errors import StoreError, WorkError
from preprov.model.work import State
from preprov.model.worktable import DONE, WorkTable
from preprov.store import columns, fold
from preprov.store.database import Store, open_store
from preprov.testing.store_examples import A_DAG, POOL, T0, assert_same_work, history, minutes
from tests.processes import join, start


def decoded(blocks: list[columns.Block]) -> WorkTable:
    return columns.decode([(b.runs, b.tasks, b.edges) for b in blocks])


@given(n=st.integers(1, 60), size=st.integers(1, 40), seed=st.integers(0, 9))
def test_work_cut_into_blocks_of_any_size_is_the_same_work(n: int, size: int, seed: int) -> None:
    work = history(n, seed=seed)
    blocks = list(columns.encode(work, size))
    assert_same_work(decoded(blocks), work)
    assert sum(b.run_count for b in blocks) == n
    assert all(b.task_count <= size or b.run_count == 1 for b in blocks)
    assert all(b.first_submit <= b.last_submit for b in blocks)


def test_a_run_without_tasks_is_kept() -> None:
    work = history(5).select_runs(np.array([True, False, True, True, True]))
    lonely = WorkTable(
        work.runs, work.tasks[work.tasks["run"] != 1].reset_index(drop=True), *[np.empty(0, np.int64)] * 2
    )
    assert_same_work(decoded(list(columns.encode(lonely, 2))), lonely)


@given(st.permutations(range(12)))
def test_runs_in_any_order_become_ordered_with_their_tasks_and_edges(order: list[int]) -> None:
    work = history(12)
    shuffled = WorkTable.concat([work.select_runs(np.arange(12) == i) for i in order])
    assert_same_work(columns.by_submit(shuffled), work)


def test_edges_keep_their_order_within_a_run() -> None:
    work = history(8)
    backwards = WorkTable(work.runs, work.tasks, work.parents[::-1].copy(), work.children[::-1].copy())
    found = decoded(list(columns.encode(backwards, 5)))
    run = found.tasks["run"].to_numpy()[found.children]
    assert set(zip(found.parents.tolist(), found.children.tolist(), strict=True)) == set(
        zip(work.parents.tolist(), work.children.tolist(), strict=True)
    )
    assert all((np.diff(found.children[run == r]) < 0).all() for r in range(8))


@pytest.mark.parametrize("column", ["run_id", "tenant"])
def test_a_column_of_the_wrong_type_is_refused_and_nothing_kept(store: Store, column: str) -> None:
    work = history(3)
    work.runs[column] = pd.Series([object()] * 3, dtype=object)
    with pytest.raises(WorkError, match="type"):
        store.ports().work.ingest(POOL, "k", "d", [SourceBatch(work)])
    assert store.ports().work.pools() == {}


def _killed_while_writing(home: str, after: int) -> None:
    store = open_store("", Path(home))
    encode = columns.encode

    def dying(work: WorkTable) -> Iterator[columns.Block]:
        for i, block in enumerate(encode(work, 20)):
            if i == after:
                os.kill(os.getpid(), signal.SIGKILL)
            yield block

    columns.encode = dying  # type: ignore[assignment]
    store.ports().work.ingest(POOL, "k", "d", [SourceBatch(history(100))])


@pytest.mark.slow
def test_an_ingest_that_is_killed_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    before = open_store("", tmp_path)
    before.ports().work.ingest(POOL, "k0", "d0", [SourceBatch(history(5, first=500))])
    assert join(start(_killed_while_writing, [(str(tmp_path), 3)])) == [-signal.SIGKILL]
    work = open_store("", tmp_path).ports().work
    assert len(work.work(POOL).runs) == 5
    assert work.ingest(POOL, "k", "d", [SourceBatch(history(100))]).runs == 100


def test_others_can_write_while_a_source_is_being_read(store: Store) -> None:
    work = store.ports().work

    def slow() -> Iterator[SourceBatch]:
        yield SourceBatch(history(3))
        assert work.submit(A_DAG, POOL, T0, run_id="meanwhile") is not None
        yield SourceBatch(history(3, first=10))

    assert work.ingest(POOL, "k", "d", slow()).runs == 6
    assert len(work.work(POOL).runs) == 7


def test_one_file_ingested_by_many_at_once_is_ingested_once(store: Store) -> None:
    work = store.ports().work
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: work.ingest(POOL, "k", "d", [SourceBatch(history(9))]), range(4)))
    assert sorted(r.already for r in results) == [False, True, True, True]
    assert len(work.work(POOL).runs) == 9


def test_a_live_run_is_not_ingested_over_nor_an_ingested_one_submitted(store: Store) -> None:
    work = store.ports().work
    work.submit(A_DAG, POOL, T0, run_id="run-1")
    assert work.ingest(POOL, "k", "d", [SourceBatch(history(3))]).runs == 2
    with pytest.raises(StoreError, match="ingested"):
        work.submit(A_DAG, POOL, T0, run_id="run-2")


def test_a_turn_is_made_once_however_many_ask(store: Store) -> None:
    work = store.ports().work
    work.submit(replace(A_DAG, schedule="0 2 * * *"), POOL, T0)
    (schedule,) = work.schedules(POOL)
    with ThreadPoolExecutor(6) as threads:
        made = set(threads.map(lambda _: work.materialise(schedule, T0, T0).run_id, range(6)))
    assert len(made) == len(work.runs(POOL)) == 1


def test_a_due_time_that_is_a_turn_of_the_schedule_is_one_run(store: Store) -> None:
    work = store.ports().work
    run = work.submit(replace(A_DAG, schedule="0 2 * * *", due=T0), POOL, T0 - minutes(5))
    assert run is not None
    assert work.materialise(work.schedules(POOL)[0], T0, T0) == run
    again = work.submit(replace(A_DAG, schedule="0 2 * * *", due=T0), POOL, T0 - minutes(4))
    assert again == run


def test_a_schedule_declared_again_keeps_its_first_instant_unless_it_changed(store: Store) -> None:
    work = store.ports().work
    nightly = replace(A_DAG, schedule="0 2 * * *")
    for dag, minute in ((nightly, 0), (nightly, 5)):
        work.submit(dag, POOL, T0 + minutes(minute))
    assert work.schedules(POOL)[0].since == T0
    work.submit(replace(nightly, schedule="0 3 * * *"), POOL, T0 + minutes(9))
    (changed,) = work.schedules(POOL)
    assert (changed.cron, changed.since) == ("0 3 * * *", T0 + minutes(9))


def test_what_is_saved_of_an_unknown_task_or_run_is_an_error(store: Store) -> None:
    work = store.ports().work
    run = work.submit(A_DAG, POOL, T0)
    assert run is not None
    task = work.task_runs([run.run_id])[0]
    with pytest.raises(StoreError, match="nobody"):
        work.save_tasks([replace(task, state=State.RUNNING), replace(task, task_id="nobody")])
    assert work.task_runs([run.run_id])[0].state is State.PENDING
    with pytest.raises(StoreError, match="no run"):
        work.save_run("nobody", State.RUNNING, None)
    work.save_tasks([])


def test_tasks_of_a_cancelled_run_want_nothing_any_more(store: Store) -> None:
    work = store.ports().work
    run = work.submit(A_DAG, POOL, T0)
    assert run is not None
    work.save_run(run.run_id, State.CANCELLED, T0 + minutes(2))
    now = T0 + minutes(3)
    assert (work.work(POOL).as_of(now).states(now) == DONE).all()


def test_many_runs_are_asked_for_at_once(store: Store) -> None:
    work = store.ports().work
    run = work.submit(A_DAG, POOL, T0, run_id="r")
    assert run is not None
    names = [f"no-{i}" for i in range(1200)] + ["r"]
    assert len(work.task_runs(names)) == 3
    assert len(work.task_runs(["r", "r"])) == 3


def finish(store: Store, *names: str, until: float = 9) -> None:
    """Let all tasks of these runs have run, one after the other, and the runs succeed."""
    work = store.ports().work
    done = [
        replace(t, state=State.SUCCEEDED, ready_at=T0, started_at=T0 + minutes(1), ended_at=T0 + minutes(until))
        for t in work.task_runs(names)
    ]
    work.save_tasks(done)
    for name in names:
        work.save_run(name, State.SUCCEEDED, T0 + minutes(until))


def test_runs_that_are_over_fold_into_blocks_and_nothing_changes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    work = store.ports().work
    names = [f"r{i}" for i in range(9)]
    for i, name in enumerate(names):
        work.submit(replace(A_DAG, due=T0 + minutes(i)), POOL, T0 + minutes(i / 7), run_id=name)
    finish(store, *names[:4])
    work.save_run("r4", State.CANCELLED, T0 + minutes(2), "asked for")
    before, runs, tasks = work.work(POOL), work.runs(POOL), work.task_runs(names)
    monkeypatch.setattr(fold, "FOLD_TASKS", 12)
    assert fold.fold(store._db) == 5
    assert fold.fold(store._db) == 0
    assert_same_work(work.work(POOL), before)
    assert (work.runs(POOL), work.task_runs(names)) == (runs, tasks)
    finish(store, *names[5:])
    assert_same_work(work.work(POOL).select_runs(np.arange(9) < 5), before.select_runs(np.arange(9) < 5))
    assert work.work(POOL).tasks["runtime_s"].notna().sum() == 24
    assert work.ingest(POOL, "k", "d", [SourceBatch(renamed(history(2), "r0"))]).runs == 1


def test_a_run_with_a_task_that_may_still_end_is_not_folded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "FOLD_TASKS", 1)
    work = store.ports().work
    work.submit(A_DAG, POOL, T0, run_id="r")
    task = replace(work.task_runs(["r"])[0], state=State.RUNNING, ready_at=T0, started_at=T0)
    work.save_tasks([task])
    work.save_run("r", State.FAILED, T0 + minutes(1))
    work.save_tasks([replace(task, state=State.SUCCEEDED, ended_at=T0 + minutes(5))])
    assert work.work(POOL).tasks["runtime_s"].iloc[0] == 300.0


def renamed(work: WorkTable, first: str) -> WorkTable:
    work.runs.loc[0, "run_id"] = first
    return work
