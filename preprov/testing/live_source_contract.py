"""What every place where work lives must do when it is read, whatever it is: one suite, run against each source.

Subclass `LiveSourceContract` and give it a fixture `place`: a small world of that kind, with a reader of it.

    class TestMine(LiveSourceContract):
        @pytest.fixture
        def place(self) -> Place:
            return MyPlace()
"""

from dataclasses import replace
from datetime import datetime
from typing import Protocol

import numpy as np
import pytest

from preprov.contracts import (
    Applied,
    LiveSource,
    PoolRuns,
    Ports,
    RoutedBatch,
    SeenRuns,
    SyncBatch,
)
from preprov.model.errors import SourceError
from preprov.model.resources import KINDS
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable
from preprov.sim.ports import memory_ports

POOL = "pool"
AWKWARD = (
    "größe/ночь 夜 🌙 e\u0301 \u202egnidro",
    "a'b\"c;-- {{ ds }} <b> %s \\ ",
    "n" * 250,
)
"""Names that people do give to things; a place that refuses one gives it another name."""


class Place(Protocol):
    """A world with work in it. Names of runs are the source's own: `start` tells them."""

    def source(self) -> LiveSource:
        """A reader, as a process that just started makes one."""
        ...

    def now(self) -> datetime:
        """What time it is there and here."""
        ...

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        ...

    def start(self, count: int, *, names: tuple[str, ...] = ()) -> list[str]:
        """So many new runs with at least two tasks each, one after the other; returns their run ids.

        Args:
            names: what their DAGs (jobs, flows) are called, in turn; else as you like.
        """
        ...

    def finish(self, run_id: str) -> None:
        """All tasks of the run end well, now."""
        ...

    def delete(self, run_id: str) -> None:
        """The run, and whatever would tell of it, is gone."""
        ...

    def fail_after(self, requests: int | None) -> None:
        """Answer so many requests more, then none; None = answer again."""
        ...


def unrouted(batch: SyncBatch, zone: str) -> RoutedBatch:
    """The batch with everything in one pool, as a router without routes would have it."""
    seen = batch.runs

    def known(work: WorkTable) -> WorkTable:
        return replace(work, tasks=work.tasks.assign(**{k: work.tasks[k].fillna(1.0) for k in KINDS}))

    part = PoolRuns(replace(seen, work=known(seen.work)), np.ones(len(seen.work), dtype=bool))
    return RoutedBatch(
        seen=tuple(seen.work.runs["run_id"]),
        parts={POOL: part} if len(seen) else {},
        gone=batch.gone,
        schedules=None if batch.schedules is None else tuple(replace(s, pool=POOL) for s in batch.schedules),
        shapes=None if batch.shapes is None else {POOL: known(batch.shapes.work)},
        limits=batch.limits,
        cursor=batch.cursor,
        notebook=batch.notebook,
        zone=zone,
    )


def read(place: Place, ports: Ports, source: LiveSource | None = None) -> Applied:
    """One pass into a store; returns what all its batches changed."""
    source = source or place.source()
    total = Applied()
    for batch in source.changes(ports.sources.state(source.key), place.now()):
        check(batch)
        done = ports.sources.apply(source.key, unrouted(batch, source.zone), place.now())
        total = Applied(
            total.new + done.new, total.changed + done.changed, total.same + done.same, total.gone + done.gone
        )
    return total


def check(batch: SyncBatch) -> None:
    """A batch is well made."""
    for seen in (batch.runs, batch.shapes or SeenRuns.empty()):
        runs, tasks = seen.work.runs, seen.work.tasks
        assert dict(runs[list(RUN_COLUMNS)].dtypes.astype(str)) == dict(RUN_COLUMNS)
        assert dict(tasks[list(TASK_COLUMNS)].dtypes.astype(str)) == dict(TASK_COLUMNS)
        assert runs["run_id"].is_unique
        assert not tasks.duplicated(["run", "task_id"]).any()
        assert len(seen.over) == len(runs)
        assert seen.over.dtype == bool
        assert len(seen.queues) == len(tasks)
        assert all(isinstance(q, str) for q in seen.queues)
        assert not (tasks[list(KINDS)].to_numpy() < 0).any()
        assert runs["submit"].notna().all()
        assert not (tasks["ended_at"] < tasks["started_at"]).any()
        for text in (*runs["run_id"], *runs["dag_id"], *tasks["task_id"]):
            assert text
            text.encode()
            assert "\0" not in text
        ends = seen.work.tasks["ended_at"].to_numpy()[seen.over[tasks["run"].to_numpy()]]
        assert not np.isnan(ends).any(), "a task of a run that is over has an end, so that it does not seem to wait"
    assert not set(batch.gone) & set(batch.runs.work.runs["run_id"])


def held(ports: Ports) -> list[str]:
    """Run ids in the store."""
    return sorted(ports.work.work(POOL).runs["run_id"])


def open_runs(ports: Ports, place: Place) -> list[str]:
    """Run ids in the store that are not over."""
    return sorted(r.run_id for r in ports.sources.state(place.source().key).open)


class LiveSourceContract:
    """Every source, against a small world of its kind."""

    @pytest.fixture
    def place(self) -> Place:
        """A world in which nothing has happened yet."""
        raise NotImplementedError("give the suite a fixture `place`")

    @pytest.fixture
    def ports(self) -> Ports:
        """A store; in memory if no other is given."""
        return memory_ports()

    def test_nothing_there_is_nothing_read(self, place: Place, ports: Ports) -> None:
        """And the cursor stands all the same."""
        assert read(place, ports) == Applied()
        assert ports.sources.state(place.source().key).cursor != ""

    def test_every_run_is_read_once_with_its_tasks(self, place: Place, ports: Ports) -> None:
        """Edges stay within their run."""
        runs = place.start(7)
        assert read(place, ports).new == 7
        assert held(ports) == sorted(runs) == open_runs(ports, place)
        work = ports.work.work(POOL)
        assert (work.tasks.groupby("run").size() >= 2).all()
        run = work.tasks["run"].to_numpy()
        assert (run[work.parents] == run[work.children]).all()

    def test_reading_again_changes_nothing(self, place: Place, ports: Ports) -> None:
        """By the same reader or by another, at once or later."""
        place.start(5)
        source = place.source()
        read(place, ports, source)
        for seconds in (0, 60, 3600):
            place.pass_time(seconds)
            for reader in (source, None):
                again = read(place, ports, reader)
                assert (again.new, again.changed, again.gone) == (0, 0, 0)

    def test_what_changed_is_read_and_the_rest_stays(self, place: Place, ports: Ports) -> None:
        """A run that ended is over, a new one is new."""
        runs = place.start(6)
        read(place, ports)
        place.pass_time(90)
        for run_id in runs[:2]:
            place.finish(run_id)
        more = place.start(3)
        done = read(place, ports)
        assert (done.new, done.changed, done.gone) == (3, 2, 0)
        assert held(ports) == sorted([*runs, *more])
        assert open_runs(ports, place) == sorted([*runs[2:], *more])
        work = ports.work.work(POOL)
        over = work.select_runs(work.runs["run_id"].isin(runs[:2]).to_numpy())
        assert over.tasks["ended_at"].notna().all()

    def test_what_began_and_ended_between_two_passes_is_read(self, place: Place, ports: Ports) -> None:
        """Nobody ever saw it run."""
        read(place, ports)
        place.pass_time(120)
        (quick,) = place.start(1)
        place.pass_time(5)
        place.finish(quick)
        place.pass_time(120)
        assert read(place, ports).new == 1
        assert open_runs(ports, place) == []

    def test_a_run_that_was_deleted_is_gone(self, place: Place, ports: Ports) -> None:
        """And does not wait for ever."""
        runs = place.start(4)
        read(place, ports)
        place.delete(runs[1])
        place.pass_time(30)
        assert read(place, ports).gone == 1
        assert held(ports) == sorted([runs[0], *runs[2:]])

    def test_a_pass_that_breaks_off_loses_nothing(self, place: Place, ports: Ports) -> None:
        """Wherever it breaks: what was kept is right, and the next pass brings the rest, nothing twice."""
        runs = place.start(12)
        place.pass_time(10)
        for run_id in runs[:6]:
            place.finish(run_id)
        broken = 0
        for requests in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
            place.fail_after(requests)
            try:
                read(place, ports)
            except SourceError:
                broken += 1
                assert set(held(ports)) <= set(runs)
                continue
            break
        assert broken, "no pass broke: this says nothing"
        place.fail_after(None)
        read(place, ports)
        assert held(ports) == sorted(runs)
        assert open_runs(ports, place) == sorted(runs[6:])
        fresh = memory_ports()
        read(place, fresh)
        assert held(fresh) == sorted(runs)

    def test_rewound_it_is_read_whole_and_nothing_twice(self, place: Place, ports: Ports) -> None:
        """From the beginning."""
        runs = place.start(5)
        place.pass_time(10)
        place.finish(runs[0])
        read(place, ports)
        ports.sources.rewind(place.source().key)
        again = read(place, ports)
        assert (again.new, again.changed, again.gone) == (0, 0, 0)
        assert again.same >= 4
        assert held(ports) == sorted(runs)

    def test_awkward_names_come_through(self, place: Place, ports: Ports) -> None:
        """Any script, quotes, very long ones."""
        runs = place.start(len(AWKWARD), names=AWKWARD)
        read(place, ports)
        assert held(ports) == sorted(runs)
        assert ports.work.work(POOL).runs["dag_id"].nunique() == len(AWKWARD)

    def test_examining_tells_what_can_be_seen(self, place: Place) -> None:
        """In findings, each with words."""
        place.start(2)
        found = place.source().examine()
        assert found
        assert all(f.state == "ok" for f in found), [f for f in found if f.state != "ok"]
        assert all(f.what and f.found for f in found)

    def test_examining_what_does_not_answer_says_what_to_do(self, place: Place) -> None:
        """Never an exception."""
        place.fail_after(0)
        bad = [f for f in place.source().examine() if f.state == "bad"]
        assert bad
        assert all(f.hint for f in bad)
