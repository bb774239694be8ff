"""What every store must do with places where work lives."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from preprov.contracts import PoolRuns, Ports, RoutedBatch, SeenRuns, SourceBatch
from preprov.model.errors import StoreError
from preprov.model.time import epoch
from preprov.model.waits import Cause, SlotLimit, limit_key
from preprov.model.work import Schedule
from preprov.model.worktable import RUN_COLUMNS, WAIT_COLUMNS, WorkTable
from preprov.testing.store_examples import POOL, T0, PortsContract, assert_same_work, history, minutes

SOURCE = "prod"


def part(work: WorkTable, over: bool = False, queue: str = "") -> PoolRuns:
    """Runs that all belong to one pool."""
    seen = SeenRuns(work, np.full(len(work.runs), over), np.full(len(work), queue, dtype=object))
    return PoolRuns(seen, np.ones(len(work), dtype=bool))


def batch(*works: tuple[WorkTable, bool], pool: str = POOL, **more: object) -> RoutedBatch:
    """A batch of runs for one pool, each table with whether its runs are over."""
    parts = [part(work, over) for work, over in works if len(work.runs)]
    if not parts:
        return RoutedBatch(**more)  # type: ignore[arg-type]
    table = WorkTable.concat([p.runs.work for p in parts])
    joined = SeenRuns(
        table, np.concatenate([p.runs.over for p in parts]), np.concatenate([p.runs.queues for p in parts])
    )
    whole = PoolRuns(joined, np.ones(len(table), dtype=bool))
    return RoutedBatch(seen=tuple(table.runs["run_id"]), parts={pool: whole}, **more)  # type: ignore[arg-type]


def unfinished(work: WorkTable) -> WorkTable:
    """The same runs before anything has happened in them."""
    nothing = dict.fromkeys(("ready_at", "started_at", "ended_at", "runtime_s"), np.nan)
    return replace(work, tasks=work.tasks.assign(**nothing))


def with_waits(work: WorkTable) -> WorkTable:
    """The work, with something told of what each task waited on."""
    n = len(work)
    waits = {
        "slot_at": np.where(np.arange(n) % 3, work.tasks["ready_at"].to_numpy() + 0.1, np.nan),
        "slot_of": np.array([limit_key(Cause.AIRFLOW_POOL, SOURCE, "dü/x")] * n, dtype=object),
        "slots": np.full(n, 2.0),
        "node": np.array(["n1", ""] * n, dtype=object)[:n],
        "placed_at": np.where(np.arange(n) % 2, work.tasks["ready_at"].to_numpy() + 0.2, np.nan),
        "attempt": np.arange(n) % 3 + 1,
        "constraint": np.array(["", "gpu&(a|b)"] * n, dtype=object)[:n],
        "freed_at": np.where(np.arange(n) % 4, np.nan, work.tasks["ready_at"].to_numpy() + 0.3),
        "priority": np.where(np.arange(n) % 2, np.nan, np.arange(n) % 5),
        "images": np.array(["r/etl:1 proxy", "", "ü"] * n, dtype=object)[:n],
        "known_as": np.array(["slurm/7", "", "ns/pöd ns/pod"] * n, dtype=object)[:n],
    }
    return replace(work, tasks=work.tasks.assign(**waits))


def assert_same_waits(found: WorkTable, told: WorkTable) -> None:
    """Of the runs in `told` what was told, of all others that nothing was."""
    assert found.tells_waits
    run = found.runs["run_id"].to_numpy()[found.tasks["run"].to_numpy()]
    mine = np.isin(run, told.runs["run_id"].to_numpy())
    for name, kind in WAIT_COLUMNS.items():
        assert str(found.tasks[name].dtype) == kind
        np.testing.assert_array_equal(found.tasks[name].to_numpy()[mine], told.tasks[name].to_numpy())
    assert set(found.tasks["attempt"][~mine]) == {0}
    assert found.tasks["slot_at"][~mine].isna().all()


class SyncContract(PortsContract):
    """Runs, schedules and shapes that were read where work lives."""

    def test_a_source_that_was_never_read_is_unknown(self, ports: Ports) -> None:
        """Absence is empty."""
        assert ports.sources.state(SOURCE).cursor == ""
        assert ports.sources.state(SOURCE).open == ()
        assert ports.sources.statuses() == ()
        assert ports.sources.claimed(T0) == ()
        assert len(ports.sources.shapes(POOL, ["x"]).runs) == 0
        ports.sources.rewind(SOURCE)

    def test_what_is_read_is_work_of_its_pool_the_same(self, ports: Ports) -> None:
        """Columns, types, order, edges, doubles; whether it is over or not."""
        work = history(40)
        first, second = (work.select_runs(np.arange(40) // 20 == i) for i in range(2))
        done = ports.sources.apply(SOURCE, batch((first, True), (second, False), zone="Europe/Zurich"), T0)
        assert (done.new, done.changed, done.same, done.gone) == (40, 0, 0, 0)
        assert_same_work(ports.work.work(POOL), work)
        assert ports.work.pools() == {POOL: "Europe/Zurich"}
        assert len(ports.work.work(POOL, until=T0 + minutes(10)).runs) == 10
        assert len(ports.work.work("other").runs) == 0

    def test_a_run_is_replaced_by_its_id_and_the_same_again_changes_nothing(self, ports: Ports) -> None:
        """However often it is read."""
        work = history(10)
        ports.sources.apply(SOURCE, batch((unfinished(work), False)), T0)
        assert len(ports.sources.state(SOURCE).open) == 10
        for wanted in ((0, 10, 0), (0, 0, 10)):
            done = ports.sources.apply(SOURCE, batch((work, True)), T0)
            assert (done.new, done.changed, done.same) == wanted
            ids = [*work.runs["run_id"], "nothing"]
            assert ports.sources.held(SOURCE, ids) == set(work.runs["run_id"])
            assert ports.sources.held("other", ids) == frozenset()
            assert_same_work(ports.work.work(POOL), work)
            assert ports.sources.state(SOURCE).open == ()

    def test_open_runs_are_named_by_their_submission(self, ports: Ports) -> None:
        """With what is needed to ask for them again."""
        work = history(5)
        ports.sources.apply(SOURCE, batch((work, False)), T0)
        found = ports.sources.state(SOURCE).open
        assert [(r.run_id, r.dag_id) for r in found] == list(zip(work.runs["run_id"], work.runs["dag_id"], strict=True))
        assert [r.submit for r in found] == work.runs["submit"].tolist()

    def test_a_run_that_is_gone_is_dropped(self, ports: Ports) -> None:
        """As if it had never been; one that is unknown is none."""
        work = history(6)
        ports.sources.apply(SOURCE, batch((work, False)), T0)
        done = ports.sources.apply(SOURCE, RoutedBatch(gone=("run-2", "run-4", "never")), T0)
        assert done.gone == 2
        assert ports.work.work(POOL).runs["run_id"].tolist() == ["run-0", "run-1", "run-3", "run-5"]
        assert len(ports.sources.state(SOURCE).open) == 4

    def test_long_history_is_kept_once_and_a_run_begun_anew_replaces_what_was_folded(self, ports: Ports) -> None:
        """Settled runs are packed together; that must not be seen from outside."""
        work, later = history(3000), T0 + timedelta(days=30)
        ports.sources.apply(SOURCE, batch((work, True)), later)
        assert_same_work(ports.work.work(POOL), work)
        assert ports.sources.apply(SOURCE, batch((work, True)), later).same == 3000
        assert_same_work(ports.work.work(POOL), work)
        chosen = np.isin(np.arange(3000), (7, 1500))
        again = unfinished(work.select_runs(chosen))
        done = ports.sources.apply(SOURCE, batch((again, False)), later)
        assert (done.new, done.changed) == (0, 2)
        now = ports.work.work(POOL)
        assert sorted(now.runs["run_id"]) == sorted(work.runs["run_id"])
        open_ = now.select_runs(now.runs["run_id"].isin(["run-7", "run-1500"]).to_numpy())
        assert open_.tasks["ended_at"].isna().all()
        assert_same_work(
            now.select_runs(~now.runs["run_id"].isin(["run-7", "run-1500"]).to_numpy()), work.select_runs(~chosen)
        )
        assert ports.sources.apply(SOURCE, RoutedBatch(gone=tuple(work.runs["run_id"])), later).gone == 3000
        assert len(ports.work.work(POOL).runs) == 0

    def test_a_run_leaves_a_pool_that_no_longer_takes_it(self, ports: Ports) -> None:
        """When a route has changed."""
        work = history(4)
        ports.sources.apply(SOURCE, batch((work, True)), T0)
        done = ports.sources.apply(SOURCE, batch((work, True), pool="other"), T0)
        assert done.changed == 4
        assert len(ports.work.work(POOL).runs) == 0
        assert_same_work(ports.work.work("other"), work)

    def test_a_run_can_be_in_several_pools(self, ports: Ports) -> None:
        """It counts once."""
        work = history(4)
        ports.sources.apply(
            SOURCE, RoutedBatch(seen=tuple(work.runs["run_id"]), parts={POOL: part(work), "other": part(work)}), T0
        )
        assert len(ports.sources.state(SOURCE).open) == 4
        (status,) = ports.sources.statuses()
        assert (status.open, status.over, status.pools) == (4, 0, (POOL, "other"))
        assert len(ports.work.work("other").runs) == 4

    def test_two_sources_do_not_touch_each_other(self, ports: Ports) -> None:
        """Even with the same run ids."""
        work = history(3)
        for source in (SOURCE, "test"):
            assert ports.sources.apply(source, batch((work, False)), T0).new == 3
        ports.sources.apply("test", RoutedBatch(gone=tuple(work.runs["run_id"])), T0)
        assert_same_work(ports.work.work(POOL), work)

    def test_what_two_sources_call_the_same_is_begun_anew_for_one_of_them_only(self, ports: Ports) -> None:
        """Folded together too."""
        work, later = history(3000), T0 + timedelta(days=30)
        for source in (SOURCE, "test"):
            ports.sources.apply(source, batch((work, True)), later)
        chosen = np.isin(np.arange(3000), (7, 1500))
        ports.sources.apply("test", RoutedBatch(gone=("run-7", "run-1500")), later)
        assert_same_work(self._of_ids(ports, work, chosen), work.select_runs(chosen))
        assert len(ports.work.work(POOL).runs) == 5998

    def _of_ids(self, ports: Ports, work: WorkTable, chosen: np.ndarray) -> WorkTable:
        found = ports.work.work(POOL)
        return found.select_runs(found.runs["run_id"].isin(work.runs["run_id"][chosen]).to_numpy())

    @pytest.mark.parametrize("runs", [6, 3000])
    def test_what_a_source_told_that_is_configured_no_more_counts_for_nothing(self, ports: Ports, runs: int) -> None:
        """Runs, folded or not, schedules, shapes, limits; until it is configured again. What is told counts always."""
        work, later = history(runs), T0 + timedelta(days=30)
        limit = SlotLimit(Cause.AIRFLOW_POOL, "dwh", 8.0)
        mine = Schedule("etl", POOL, "0 1 * * *", "UTC")
        more: dict[str, Any] = {"schedules": (mine,), "shapes": {POOL: history(1, first=9000)}, "limits": (limit,)}
        ports.sources.apply("before", batch((work, True), **more), later)
        ports.sources.apply("before", batch((unfinished(history(2, first=4000)), False)), later)
        ports.sources.apply("team/cron", batch((history(1, first=5000), True)), later)
        ports.sources.apply("after", batch((work, True), schedules=(replace(mine, cron="0 2 * * *"),)), later)
        (dag,) = set(history(1, first=9000).runs["dag_id"])
        assert len(ports.work.work(POOL).runs) == 2 * runs + 3
        for names, aside in ((("after",), ("before",)), (("before", "after"), ()), (("after", "x"), ("before",))):
            assert ports.sources.count_only(names) == aside
            found = ports.work.work(POOL)
            assert len(found.runs) == (runs + 1 if aside else 2 * runs + 3)
            assert found.runs["run_id"].is_unique is bool(aside)
            assert bool(ports.sources.limits()) is not bool(aside)
            assert bool(len(ports.sources.shapes(POOL, [dag]).runs)) is not bool(aside)
            assert {c.source for c in ports.sources.claimed(T0)} == {"after", "team/cron", "before"} - set(aside)
            assert [s.cron for s in ports.work.schedules(POOL)] == ([] if aside else ["0 1 * * *"])
        ports.sources.apply("after", RoutedBatch(schedules=(replace(mine, cron="0 2 * * *"),)), later)
        assert [s.cron for s in ports.work.schedules(POOL)] == ["0 2 * * *"]
        assert {s.source for s in ports.sources.statuses()} == {"before", "after", "team/cron"}

    @pytest.mark.parametrize("runs", [6, 3000])
    def test_a_source_can_be_forgotten_with_all_that_it_told(self, ports: Ports, runs: int) -> None:
        """And nothing of another one, though it has runs of the same ids."""
        work, later = history(runs), T0 + timedelta(days=30)
        mine = Schedule("etl", POOL, "0 1 * * *", "UTC")
        more: dict[str, Any] = {
            "shapes": {POOL: history(1, first=9000)},
            "limits": (SlotLimit(Cause.AIRFLOW_POOL, "dwh", 8.0),),
        }
        ports.sources.apply("test", batch((work, True)), later)
        ports.sources.apply(
            SOURCE, batch((work, True), schedules=(mine,), cursor="c", notebook={"a": "b"}, **more), later
        )
        ports.sources.apply(SOURCE, batch((unfinished(history(2, first=4000)), False)), later)
        assert ports.sources.forget(SOURCE) == runs + 2
        assert_same_work(ports.work.work(POOL), work)
        assert ports.work.schedules(POOL) == ()
        assert ports.sources.limits() == ()
        assert len(ports.sources.shapes(POOL, list(set(history(1, first=9000).runs["dag_id"]))).runs) == 0
        assert [s.source for s in ports.sources.statuses()] == ["test"]
        state = ports.sources.state(SOURCE)
        assert (state.cursor, state.open, dict(state.notebook)) == ("", (), {})
        assert ports.sources.forget(SOURCE) == 0

    @pytest.mark.parametrize("runs", [6, 3000])
    def test_a_source_that_is_renamed_is_read_again_and_nothing_stands_twice(self, ports: Ports, runs: int) -> None:
        """Its schedules are its own; a name that something is held under is not taken."""
        work, later = history(runs), T0 + timedelta(days=30)
        mine = Schedule("etl", POOL, "0 1 * * *", "UTC")
        told = batch((work, True), schedules=(mine,), cursor="c", notebook={"a": "b"})
        ports.sources.apply("before", told, later)
        ports.sources.rename("before", "after")
        assert [s.source for s in ports.sources.statuses()] == ["after"]
        assert ports.sources.state("after").cursor == ""
        assert dict(ports.sources.state("after").notebook) == {}
        assert_same_work(ports.work.work(POOL), work)
        again = ports.sources.apply("after", replace(told, schedules=(replace(mine, cron="0 2 * * *"),)), later)
        assert (again.new, again.same, again.notes) == (0, runs, ())
        assert_same_work(ports.work.work(POOL), work)
        assert [s.cron for s in ports.work.schedules(POOL)] == ["0 2 * * *"]
        ports.sources.apply("other", batch((history(1), True)), later)
        for old, new in (("other", "after"), ("nobody", "x")):
            with pytest.raises(StoreError):
                ports.sources.rename(old, new)

    def test_it_stands_beside_what_was_ingested(self, ports: Ports) -> None:
        """In one order."""
        old, new = history(5), history(5, first=5, start=T0 + minutes(2.5))
        ports.work.ingest(POOL, "k", "d", [SourceBatch(old)])
        ports.sources.apply(SOURCE, batch((new, False)), T0)
        found = ports.work.work(POOL)
        assert len(found.runs) == 10
        assert found.runs["submit"].is_monotonic_increasing

    def test_cursor_and_notebook_are_kept_with_their_batch(self, ports: Ports) -> None:
        """None leaves them; a note of None is dropped; rewinding forgets both, and no run."""
        ports.sources.apply(SOURCE, batch((history(1), False), cursor="c1", notebook={"a": "1", "b": "ü"}), T0)
        ports.sources.apply(SOURCE, RoutedBatch(notebook={"a": None, "c": ""}), T0)
        state = ports.sources.state(SOURCE)
        assert (state.cursor, state.notebook) == ("c1", {"b": "ü", "c": ""})
        ports.sources.rewind(SOURCE)
        state = ports.sources.state(SOURCE)
        assert (state.cursor, state.notebook, len(state.open)) == ("", {}, 1)

    def test_how_reading_goes_is_told(self, ports: Ports) -> None:
        """When it was tried, when it worked, why it did not."""
        ports.sources.began(SOURCE, T0)
        ports.sources.ended(SOURCE, T0)
        ports.sources.began(SOURCE, T0 + minutes(1))
        ports.sources.ended(SOURCE, T0 + minutes(2), "it does not answer")
        (status,) = ports.sources.statuses()
        assert (status.read_at, status.tried_at, status.error) == (T0, T0 + minutes(1), "it does not answer")
        ports.sources.ended(SOURCE, T0 + minutes(3))
        (status,) = ports.sources.statuses()
        assert (status.read_at, status.error) == (T0 + minutes(3), "")

    def test_what_passes_said_is_told_with_when_they_last_did(self, ports: Ports) -> None:
        """Some sources say a thing once only; it stays for about a week."""

        def said() -> list[tuple[datetime, str]]:
            (status,) = [s for s in ports.sources.statuses() if s.source == SOURCE]
            return list(status.notes)

        ports.sources.ended(SOURCE, T0)
        ports.sources.ended("test", T0, notes=("another",))
        assert said() == []
        ports.sources.ended(SOURCE, T0, notes=("partition ü is DOWN", "no right"))
        ports.sources.ended(SOURCE, T0 + minutes(1))
        ports.sources.ended(SOURCE, T0 + minutes(2), "it broke off", notes=("partition ü is DOWN",))
        now = T0 + minutes(2)
        assert said() == [(T0, "no right"), (now, "partition ü is DOWN")]
        ports.sources.apply(SOURCE, RoutedBatch(notebook={"a": "b"}), T0)
        assert dict(ports.sources.state(SOURCE).notebook) == {"a": "b"}
        later = T0 + timedelta(days=8)
        ports.sources.ended(SOURCE, later, notes=tuple(str(i) for i in range(50)))
        assert len(said()) == 20
        assert {at for at, _ in said()} == {later}
        assert ports.sources.forget(SOURCE) == 0
        ports.sources.began(SOURCE, later)
        assert said() == []

    def test_schedules_are_replaced_as_a_whole(self, ports: Ports) -> None:
        """Of every kind; one that is declared again keeps the instant of its first declaration."""
        cron = Schedule("a", POOL, "0 2 * * *", "Europe/Zurich", since=T0, max_active_runs=1)
        even = Schedule("b", POOL, "", "UTC", every_s=5400.5, anchor=T0, paused=True)
        known = Schedule(
            "c", "other", "", "UTC", turns=(T0, T0 + minutes(7)), follows=((("a", "x"), ("b", "y")), (("a", "z"),))
        )
        ports.sources.apply(SOURCE, RoutedBatch(schedules=(cron, even, known)), T0)
        assert ports.work.schedules(POOL) == (cron, even)
        assert ports.work.schedules("other") == (known,)
        ports.sources.apply(SOURCE, RoutedBatch(), T0)
        assert len(ports.work.schedules(POOL)) == 2
        ports.sources.apply(SOURCE, RoutedBatch(schedules=(replace(cron, since=T0 + minutes(5)),)), T0)
        assert ports.work.schedules(POOL) == (cron,)
        assert ports.work.schedules("other") == ()
        resumed = replace(cron, since=T0 + minutes(9))
        for schedule in (replace(cron, paused=True), resumed):
            ports.sources.apply(SOURCE, RoutedBatch(schedules=(schedule,)), T0)
        assert ports.work.schedules(POOL) == (resumed,)

    def test_a_schedule_of_somebody_else_is_left_as_it_is(self, ports: Ports) -> None:
        """And said."""
        mine = Schedule("dag-0", POOL, "0 2 * * *", "UTC")
        ports.work.ingest(POOL, "k", "d", [SourceBatch(history(1), schedules=(mine,))])
        theirs = replace(mine, cron="0 3 * * *")
        done = ports.sources.apply(SOURCE, RoutedBatch(schedules=(theirs,)), T0)
        assert "dag-0" in done.notes[0]
        assert ports.work.schedules(POOL) == (mine,)
        ports.sources.apply(SOURCE, RoutedBatch(schedules=()), T0)
        assert ports.work.schedules(POOL) == (mine,)
        ports.sources.apply(SOURCE, RoutedBatch(schedules=(replace(theirs, dag_id="x"),)), T0)
        done = ports.sources.apply("test", RoutedBatch(schedules=(replace(mine, dag_id="x"),)), T0)
        assert SOURCE in done.notes[0]

    def test_shapes_of_dags_that_never_ran(self, ports: Ports) -> None:
        """Replaced as a whole, found by DAG and pool."""
        shapes = unfinished(history(3))
        ports.sources.apply(SOURCE, RoutedBatch(shapes={POOL: shapes}), T0)
        assert_same_work(
            ports.sources.shapes(POOL, ["dag-1", "no"]), shapes.select_runs(np.array([False, True, False]))
        )
        assert len(ports.sources.shapes("other", ["dag-1"]).runs) == 0
        ports.sources.apply(SOURCE, RoutedBatch(shapes={}), T0)
        assert len(ports.sources.shapes(POOL, ["dag-1"]).runs) == 0

    def test_limits_are_replaced_as_a_whole_and_told_with_their_source(self, ports: Ports) -> None:
        """None leaves them; each source has its own."""
        spans = ((1.5e9, 1.6e9, 2.0), (1.7e9, 1.8e9, 8.0))
        pool = SlotLimit(Cause.AIRFLOW_POOL, "dwh", 8.0, reserved=spans)
        runs = SlotLimit(Cause.MAX_ACTIVE_TASKS, "etl", 16.0, True)
        assert ports.sources.limits() == ()
        ports.sources.apply(SOURCE, RoutedBatch(limits=(pool, runs)), T0)
        ports.sources.apply("test", RoutedBatch(limits=(replace(pool, slots=2.5),)), T0)
        ports.sources.apply(SOURCE, RoutedBatch(), T0)
        mine = (replace(pool, source=SOURCE), replace(runs, source=SOURCE))
        theirs = replace(pool, slots=2.5, source="test")
        assert ports.sources.limits() == tuple(sorted((*mine, theirs), key=lambda f: f.key))
        ports.sources.apply(SOURCE, RoutedBatch(limits=()), T0)
        assert ports.sources.limits() == (theirs,)

    def test_what_tasks_waited_on_is_kept_beside_work_of_which_nobody_told_it(self, ports: Ports) -> None:
        """To the bit; where it is not told, it says so."""
        plain, told = history(10), with_waits(history(30, first=10))
        ports.sources.apply(SOURCE, batch((plain, True)), T0)
        ports.sources.apply(SOURCE, batch((told, True)), T0)
        assert_same_waits(ports.work.work(POOL), told)

    def test_what_work_held_is_counted_wherever_it_goes(self, ports: Ports) -> None:
        """Also what no route sends anywhere, which is no work of any pool; folded or not."""
        work = history(2000)
        ports.sources.apply(SOURCE, batch((work, True)), T0 + timedelta(days=9))
        lost = history(10, first=5000)
        ports.sources.apply(SOURCE, batch((lost, True), pool=""), T0)
        assert "" not in ports.work.pools()
        assert len(ports.work.work("").runs) == 0
        for pool, table in ((POOL, work), ("", lost)):
            found = [c for c in ports.sources.claimed(T0) if c.pool == pool]
            tasks = table.tasks
            held = (tasks["ended_at"] - tasks["started_at"]) * tasks["cpu"] * tasks["instances"] / 3600
            assert sum(c.core_hours for c in found) == pytest.approx(held.sum())
            assert sum(c.tasks for c in found) == int(held.notna().sum())
        since = T0 + minutes(1999)
        assert sum(c.tasks for c in ports.sources.claimed(since)) <= 5
        assert epoch(since) > work.runs["submit"].iloc[1998]

    def test_work_that_no_route_takes_is_kept_where_it_held_slots(self, ports: Ports) -> None:
        """Others waited for these; it is no work of any pool, and what held none is not kept; folded or not."""
        told = with_waits(history(2000))
        for first, until in ((0, 1500), (1500, 2000)):
            some = told.select_runs((np.arange(2000) >= first) & (np.arange(2000) < until))
            ports.sources.apply(SOURCE, batch((some, True), pool=""), T0 + timedelta(days=9))
        free = history(10, first=5000)
        ports.sources.apply(SOURCE, batch((free, True), pool=""), T0 + timedelta(days=9))
        assert "" not in ports.work.pools()
        assert_same_work(ports.work.work(""), told)
        assert len(ports.work.work("", since=T0 + minutes(1990)).runs) == 10
        held = sum(int(np.isfinite(w.tasks["ended_at"] - w.tasks["started_at"]).sum()) for w in (told, free))
        assert sum(c.tasks for c in ports.sources.claimed(T0)) == held
        ports.sources.apply(SOURCE, batch((told, True)), T0)
        assert len(ports.work.work("").runs) == 0, "it has a pool now"

    def test_a_run_without_tasks_is_a_run(self, ports: Ports) -> None:
        """It is read again as well."""
        runs = history(2).runs
        empty = WorkTable(runs, WorkTable.empty().tasks, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        ports.sources.apply(SOURCE, batch((empty, False)), T0)
        pd.testing.assert_frame_equal(ports.work.work(POOL).runs, runs[list(RUN_COLUMNS)])
        assert len(ports.sources.state(SOURCE).open) == 2
