"""One pass over a Prefect after the other.

In this order: deployments, work pools and queues, and scheduled runs; runs that are open; runs that ended since the
last pass; open runs that are nowhere to be found any more; then as much of the past as there is patience for. Runs that
ended are asked for by windows of time in which nothing changes any more; a window with too many is halved. Windows and
the cursor are in Prefect's time, whatever its clock shows; what is told is in ours.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from preprov.contracts import Clock, OpenRun, Progress, Reject, SeenRuns, SourceState, SyncBatch
from preprov.model.time import epoch, from_epoch
from preprov.sources.instants import NAN, seconds
from preprov.sources.prefect.client import PAGE, PrefectReader
from preprov.sources.prefect.deployments import Declared
from preprov.sources.prefect.facts import OVER, FlowRun, TaskRun, iso
from preprov.sources.prefect.runs import Seen, Shape, limit_of, table

OVERLAP_S: Final = 120.0
_SLICE_S: Final = 86_400.0
_RUNS_A_QUESTION: Final = 100
_UNKNOWN_SIZE: Final = 10
_LATE_S: Final = 10.0
_OPEN: Final = ("RUNNING", "PENDING", "PAUSED", "CANCELLING")
_RUNS: Final = "/flow_runs/filter"
_SKEW: Final = "skew"
"""Where the notebook keeps by how many seconds Prefect's clock is ahead of ours."""


@dataclass
class _Cursor:
    """Epoch seconds of Prefect's clock: what ended before `since`, and from `back` on, was read; `floor` is enough."""

    since: float = NAN
    back: float = NAN
    floor: float = NAN

    @classmethod
    def load(cls, text: str) -> "_Cursor":
        try:
            since, back, floor = json.loads(text)
            return cls(float(since), float(back), float(floor))
        except (ValueError, TypeError):
            return cls()

    def dump(self) -> str:
        return json.dumps([round(self.since, 3), round(self.back, 3), round(self.floor, 3)])


class Reading:
    """Reads passes. Not safe for several threads."""

    def __init__(self, reader: PrefectReader, source: str, tenant: str, zone: str, clock: Clock) -> None:
        """Remember nothing yet."""
        self._reader, self._source, self._clock = reader, source, clock
        self._declared = Declared(reader, source, tenant, zone)
        self._told: dict[str, object] = {}
        self._rejects: list[Reject] = []
        self._broken = False
        self._skew: float | None = None
        self._put_back = 0.0

    def run(
        self, state: SourceState, now: datetime, history_s: float, patience_s: float, progress: Progress | None
    ) -> Iterator[SyncBatch]:
        """One pass."""
        at = epoch(now)
        listed = self._scheduled()
        notebook = self._set_clock(state.notebook)
        at_theirs, cursor = at - self._shift_s, _Cursor.load(state.cursor)
        if not state.cursor or self._broken:  # nobody knows what became of what was told last
            self._told.clear()
            self._declared.tell_again()
        self._broken = True
        if cursor.since != cursor.since:
            cursor = _Cursor(at_theirs, at_theirs, at_theirs - history_s)
        if notebook:
            yield SyncBatch(notebook=notebook)
        self._declared.remember(state.notebook)
        scheduled = self._understood(listed)
        yield self._declared.batch(scheduled, now, self._shift_s)
        found = {r.run_id: r for r in (*self._open(), *(r for r in scheduled if r.expected <= at or not r.auto))}
        yield from self._tell_open(found)
        yield from self._just_ended(cursor, at_theirs)
        yield self._vanished(state.open, found, cursor)
        self._broken = False
        yield from self._past(cursor, patience_s, progress)

    @property
    def _shift_s(self) -> float:
        """From Prefect's time to ours."""
        return -(self._skew or 0.0)

    def _set_clock(self, notebook: Mapping[str, str]) -> Mapping[str, str | None]:
        """Take what was heard of Prefect's clock; returns what is to be kept of it."""
        taken = self._skew if self._skew is not None else float(notebook.get(_SKEW, 0.0))
        self._skew = self._reader.clock.settled(taken)
        self._put_back = max(self._put_back, taken - self._skew)
        return {_SKEW: str(self._skew)} if self._skew != taken else {}

    # ------------------------------------------------------------------ asking

    def _scheduled(self) -> list[dict[str, Any]]:
        body = {
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        return list(self._reader.all(_RUNS, body))

    def _open(self) -> list[FlowRun]:
        body = {"flow_runs": {"state": {"type": {"any_": list(_OPEN)}}}, "sort": "ID_DESC"}
        return self._understood(self._reader.all(_RUNS, body))

    def _ended(self, first: float, last: float) -> Iterator[tuple[float, float, list[FlowRun]]]:
        """Runs that ended in [first, last], newest windows first, each (from, until, runs)."""
        windows = [(first, last)]
        while windows:
            lo, hi = windows.pop()
            within = {"state": {"type": {"any_": sorted(OVER)}}, "end_time": {"after_": iso(lo), "before_": iso(hi)}}
            body = {"flow_runs": within, "sort": "END_TIME_DESC"}
            page = self._reader.filtered(_RUNS, body)
            if len(page) >= PAGE and hi - lo > 2.0:
                middle = (lo + hi) / 2
                windows += [(lo, middle), (middle, hi)]
                continue
            items: Iterable[dict[str, Any]] = page if len(page) < PAGE else self._reader.all(_RUNS, body)
            yield lo, hi, self._understood(items)

    def _understood(self, items: Iterable[Mapping[str, Any]]) -> list[FlowRun]:
        """Runs that make sense and are not part of another one."""
        out: dict[str, FlowRun] = {}
        for item in items:
            try:
                run = FlowRun.of(item, self._shift_s)
            except (ValueError, TypeError, AttributeError) as error:
                self._rejects.append(Reject(0, f"Prefect: {error}", str(item)[:500]))
                continue
            if not run.nested:
                out[run.run_id] = run
        return list(out.values())

    def _tasks(self, runs: Sequence[FlowRun]) -> Iterator[dict[str, list[TaskRun]]]:
        """Task runs of these, some runs at a time."""
        for part in self._portions(runs):
            out: dict[str, dict[str, TaskRun]] = {r: {} for r in part}
            body = {"flow_runs": {"id": {"any_": part}}, "sort": "ID_DESC"}
            for item in self._reader.all("/task_runs/filter", body):
                try:
                    task = TaskRun.of(item, self._shift_s)
                except (ValueError, TypeError, AttributeError) as error:
                    self._rejects.append(Reject(0, f"Prefect: {error}", str(item)[:500]))
                    continue
                if task.flow_run_id in out:
                    out[task.flow_run_id][task.task_run_id] = task
            yield {r: list(found.values()) for r, found in out.items()}

    def _portions(self, runs: Sequence[FlowRun]) -> Iterator[list[str]]:
        """Ids of runs of which one page may well hold all tasks."""
        part: list[str] = []
        tasks = 0
        for run in runs:
            shape = self._declared.shapes.get(self._declared.dag(run))
            more = len(shape.tasks) if shape is not None else _UNKNOWN_SIZE
            if part and (tasks + more >= PAGE or len(part) >= _RUNS_A_QUESTION):
                yield part
                part, tasks = [], 0
            part.append(run.run_id)
            tasks += more
        if part:
            yield part

    def _let_in(self, run: FlowRun) -> float:
        """When it was let in: it then went from scheduled to pending. Asked only of runs that began late."""
        meant = max(run.created, run.expected) if run.expected == run.expected else run.created
        if not run.started - meant > _LATE_S:
            return NAN
        states = self._reader.get("/flow_run_states/", {"flow_run_id": run.run_id}) or []
        pending = [seconds(s.get("timestamp"), self._shift_s) for s in states if s.get("type") == "PENDING"]
        return max((p for p in pending if p <= run.started), default=NAN)

    # ------------------------------------------------------------------ telling

    def _seen(self, run: FlowRun, tasks: Sequence[TaskRun], *, ask: bool = False) -> Seen:
        d = self._declared
        dag = d.dag(run)
        return Seen(
            run=run,
            dag=dag,
            tasks=tuple(tasks),
            shape=d.shapes.get(dag),
            asks=d.asks(run),
            cron=d.cron(run),
            zone=d.zone_of(run),
            tenant=d.tenant,
            queue=f"{run.pool}/{run.queue}" if run.pool else "",
            limit=limit_of(self._source, run.pool, run.queue, d.limited),
            priority=d.priority(run.pool, run.queue),
            traits=d.traits(run),
            pending=self._let_in(run) if ask else NAN,
            image=d.image(run),
            held=run.state == "SCHEDULED" and d.paused(run.pool, run.queue),
        )

    def _tell_open(self, found: Mapping[str, FlowRun]) -> Iterator[SyncBatch]:
        runs = list(found.values())
        begun = [r for r in runs if r.state != "SCHEDULED"]
        waiting = [self._seen(r, ()) for r in runs if r.state == "SCHEDULED"]
        yield self._batch([s for s in waiting if self._is_new(s)])
        for part in self._tasks(begun):
            seen = [self._seen(found[run_id], tasks) for run_id, tasks in part.items()]
            yield self._batch([s for s in seen if self._is_new(s)])
        self._told = {k: v for k, v in self._told.items() if k in found}

    def _is_new(self, seen: Seen) -> bool:
        looks, before = seen.looks, self._told.get(seen.run.run_id)
        self._told[seen.run.run_id] = looks
        return looks != before

    def _batch(self, seen: Sequence[Seen], **more: Any) -> SyncBatch:
        rejects, self._rejects = tuple(self._rejects), []
        return SyncBatch(runs=table(seen), rejects=rejects, **more)

    def _told_whole(self, runs: Sequence[FlowRun], *, ask: bool) -> Iterator[SyncBatch]:
        by_id = {r.run_id: r for r in runs}
        for part in self._tasks(runs):
            for run_id, tasks in part.items():
                if by_id[run_id].state == "COMPLETED" and tasks:
                    version = str(by_id[run_id].told.get("flow_version", ""))
                    self._declared.learn(by_id[run_id], Shape.of(tasks, version))
            seen = [self._seen(by_id[run_id], tasks, ask=ask) for run_id, tasks in part.items()]
            yield self._batch(seen, notebook=self._declared.written())

    def _just_ended(self, cursor: _Cursor, at_theirs: float) -> Iterator[SyncBatch]:
        """Runs that ended since the last pass, oldest first, so that the cursor can follow.

        After Prefect's clock was put back, what ended before that has times that are yet to come, and what ended since
        has times before the cursor.
        """
        first = min(cursor.since - self._put_back, at_theirs) - OVERLAP_S
        last = at_theirs + self._put_back
        for _, until, runs in reversed(list(self._ended(first, last))):
            yield from self._told_whole(runs, ask=True)
            cursor.since = min(until, at_theirs)
            yield SyncBatch(cursor=cursor.dump())
        self._put_back = 0.0

    def _vanished(self, known: Sequence[OpenRun], found: Mapping[str, FlowRun], cursor: _Cursor) -> SyncBatch:
        """Open runs of the store that are not open: over, which is told; or gone."""
        gone, late = [], []
        for run_id in (r.run_id for r in known if r.run_id not in found):
            item = self._reader.get(f"/flow_runs/{run_id}")
            runs = self._understood([item]) if item is not None else []
            if not runs:
                gone.append(run_id)
            elif runs[0].over:
                late += runs
        parts = [b.runs for b in self._told_whole(late, ask=False)]
        told = SeenRuns.empty() if not parts else _joined(parts)
        return SyncBatch(runs=told, gone=tuple(gone), cursor=cursor.dump(), notebook=self._declared.written())

    def _past(self, cursor: _Cursor, patience_s: float, progress: Progress | None) -> Iterator[SyncBatch]:
        began, whole = epoch(self._clock.now()), max(cursor.back - cursor.floor, 1.0)
        while cursor.back > cursor.floor:
            if epoch(self._clock.now()) - began >= patience_s:
                yield SyncBatch(more=True)
                return
            first = max(cursor.back - _SLICE_S, cursor.floor)
            for lo, _, runs in self._ended(first, cursor.back):
                yield from self._told_whole(runs, ask=False)
                cursor.back = lo
                yield SyncBatch(cursor=cursor.dump())
            if progress is not None:
                progress(1.0 - (cursor.back - cursor.floor) / whole, f"{from_epoch(cursor.back):%Y-%m-%d %H:%M}")


def _joined(parts: Sequence[SeenRuns]) -> SeenRuns:
    import numpy as np

    from preprov.model.worktable import WorkTable

    return SeenRuns(
        WorkTable.concat([p.work for p in parts]),
        np.concatenate([p.over for p in parts]),
        np.concatenate([p.queues for p in parts]),
    )
