"""What was read in places where work lives, in memory."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from preprov.contracts import (
    UNROUTED,
    Applied,
    Claimed,
    OpenRun,
    RoutedBatch,
    SourceState,
    SourceStatus,
    kept_notes,
)
from preprov.model.errors import StoreError
from preprov.model.time import epoch
from preprov.model.waits import SlotLimit
from preprov.model.work import Schedule
from preprov.model.worktable import Array, WorkTable
from preprov.sim.heldruns import HeldRuns


@dataclass
class _Source:
    """One source."""

    zone: str = "UTC"
    cursor: str = ""
    read_at: datetime | None = None
    tried_at: datetime | None = None
    error: str = ""
    pools: set[str] = field(default_factory=set)
    notebook: dict[str, str] = field(default_factory=dict)
    runs: HeldRuns = field(default_factory=HeldRuns)
    schedules: dict[tuple[str, str], Schedule] = field(default_factory=dict)
    shapes: Mapping[str, WorkTable] = field(default_factory=dict)
    limits: tuple[SlotLimit, ...] = ()
    notes: tuple[tuple[datetime, str], ...] = ()


class MemorySourceStore:
    """SourceStore in memory. The work store asks it for its part of `work` and `schedules`."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self._names: frozenset[str] | None = None
        self.declared: Callable[[], Mapping[str, Mapping[str, Schedule]]] = dict
        """Pool -> DAG -> schedule that was submitted or ingested; the work store says."""

    def _of(self, source: str) -> _Source:
        return self._sources.setdefault(source, _Source())

    # ------------------------------------------------------------------ the port

    def state(self, source: str) -> SourceState:
        """What is known of a source."""
        held = self._sources.get(source, _Source())
        open_ = set()
        for part in held.runs.parts.values():
            runs = part.runs.work.runs[~part.runs.over.astype(bool)]
            open_ |= {
                OpenRun(*run) for run in zip(runs["run_id"], runs["dag_id"], runs["submit"].astype(float), strict=True)
            }
        return SourceState(held.cursor, tuple(sorted(open_, key=lambda r: (r.submit, r.run_id))), dict(held.notebook))

    def apply(self, source: str, batch: RoutedBatch, at: datetime) -> Applied:
        """Keep a batch."""
        held = self._of(source)
        notes = self._schedules_of(source, batch.schedules) if batch.schedules is not None else ()
        counts = held.runs.apply(batch)
        held.zone = batch.zone
        held.pools |= ({*batch.parts, *(batch.shapes or ())} | {p for p, _ in held.schedules}) - {UNROUTED}
        held.cursor = held.cursor if batch.cursor is None else batch.cursor
        held.shapes = held.shapes if batch.shapes is None else batch.shapes
        held.limits = held.limits if batch.limits is None else batch.limits
        for key, value in batch.notebook.items():
            held.notebook.pop(key, None)
            if value is not None:
                held.notebook[key] = value
        return replace(counts, notes=notes)

    def held(self, source: str, run_ids: Sequence[str]) -> frozenset[str]:
        """Which of these runs the source has spoken of."""
        return frozenset(self._sources.get(source, _Source()).runs.run_ids() & set(run_ids))

    def began(self, source: str, at: datetime) -> None:
        """A pass begins."""
        self._of(source).tried_at = at

    def ended(self, source: str, at: datetime, error: str = "", notes: Sequence[str] = ()) -> None:
        """A pass came to its end, or broke off."""
        held = self._of(source)
        held.notes = kept_notes(held.notes, notes, at)
        held.error = error
        held.read_at = held.read_at if error else at

    def rewind(self, source: str) -> None:
        """Forget the cursor and the notebook."""
        held = self._of(source)
        held.cursor = ""
        held.notebook.clear()

    def count_only(self, names: Collection[str]) -> tuple[str, ...]:
        """Leave aside what other sources told; returns which these are."""
        self._names = frozenset(names)
        return tuple(sorted(self._sources.keys() - self._counted().keys()))

    def forget(self, source: str) -> int:
        """Drop all that a source told."""
        return len(self._sources.pop(source, _Source()).runs.run_ids())

    def rename(self, old: str, new: str) -> None:
        """Give all that a source told another name."""
        if old not in self._sources:
            raise StoreError(f"no source was ever read under the name {old!r}", hint="preprov source list")
        if new in self._sources:
            hint = f"preprov source remove {old} drops what was read under the old one"
            raise StoreError(f"source {new} was read already: its runs stand under both names", hint=hint)
        self._sources[new] = self._sources.pop(old)
        self._sources[new].limits = ()
        self.rewind(new)

    def _counted(self) -> dict[str, _Source]:
        """Those that are not aside."""
        names = self._names
        return {
            s: held for s, held in self._sources.items() if names is None or s in names or "/" in s or s.startswith(":")
        }

    def statuses(self) -> tuple[SourceStatus, ...]:
        """Every source that was ever read."""
        out = []
        for name, held in sorted(self._sources.items()):
            parts = held.runs.parts.values()
            over = {run: bool(o) for p in parts for run, o in zip(p.runs.work.runs["run_id"], p.runs.over, strict=True)}
            done = sum(over.values())
            times = (held.read_at, held.tried_at, held.error)
            counts = (len(over) - done, done, tuple(sorted(held.pools)))
            out.append(SourceStatus(name, held.zone, held.cursor, *times, *counts, held.notes))
        return tuple(out)

    def shapes(self, pool: str, dag_ids: Sequence[str]) -> WorkTable:
        """A run for each of these DAGs."""
        found = []
        for held in self._counted().values():
            work = held.shapes.get(pool, WorkTable.empty())
            found.append(work.select_runs(work.runs["dag_id"].isin(list(dag_ids)).to_numpy()))
        return WorkTable.concat(found)

    def limits(self) -> tuple[SlotLimit, ...]:
        """Limits that all sources told of."""
        found = (replace(f, source=name) for name, held in self._counted().items() for f in held.limits)
        return tuple(sorted(found, key=lambda f: f.key))

    def claimed(self, since: datetime) -> tuple[Claimed, ...]:
        """What runs submitted since then held."""
        total: dict[tuple[str, str, str, str, str], tuple[int, float]] = {}
        for name, held in self._counted().items():
            for pool, part in held.runs.parts.items():
                runs, tasks = part.runs.work.runs, part.runs.work.tasks
                hours = (
                    (tasks["ended_at"] - tasks["started_at"]) * tasks["cpu"] * tasks["instances"]
                ).to_numpy() / 3600
                of = tasks["run"].to_numpy()
                mine = np.flatnonzero(part.own.astype(bool) & (runs["submit"].to_numpy()[of] >= epoch(since)))
                dags, tenants = runs["dag_id"].to_numpy(object), runs["tenant"].to_numpy(object)
                for i in mine:
                    key = (name, pool, dags[of[i]], part.runs.queues[i], tenants[of[i]])
                    count, so_far = total.get(key, (0, 0.0))
                    value = float(hours[i])
                    ran = value == value
                    total[key] = (count + ran, so_far + (max(value, 0.0) if ran else 0.0))
        return tuple(Claimed(*key, tasks=n, core_hours=hours) for key, (n, hours) in sorted(total.items()))

    # ------------------------------------------------------------------ for the work store

    def pools(self) -> dict[str, str]:
        """Pools that work from here goes to, with the zone."""
        return {pool: held.zone for held in self._sources.values() for pool in held.pools}

    def serves(self, pool: str) -> bool:
        """True if runs of the pool come from here."""
        return any(pool in held.runs.pools() for held in self._counted().values())

    def work(self, pool: str) -> WorkTable:
        """All runs of a pool; of those that no route takes, the ones that are under a limit of their place."""
        parts = [held.runs.parts[pool] for held in self._counted().values() if pool in held.runs.parts]
        found = [part.runs.work for part in parts]
        if pool == UNROUTED:
            found = [w.select_runs(_under_a_limit(w)) for w in found if w.tells_waits]
        return WorkTable.concat(found)

    def schedules(self, pool: str) -> dict[str, Schedule]:
        """DAG -> schedule that a source declares."""
        return {
            dag_id: s for held in self._counted().values() for (p, dag_id), s in held.schedules.items() if p == pool
        }

    def _schedules_of(self, source: str, schedules: Sequence[Schedule]) -> tuple[str, ...]:
        taken = {p: name for name, held in self._counted().items() if name != source for p in held.schedules}
        taken |= {(pool, dag_id): "" for pool, dags in self.declared().items() for dag_id in dags}
        held, notes = self._of(source), []
        before, held.schedules = held.schedules, {}
        for s in sorted(schedules, key=lambda s: (s.pool, s.dag_id)):
            place = (s.pool, s.dag_id)
            if place in taken and s.pool == UNROUTED:
                continue
            if place in taken:
                by = f"source {taken[place]}" if taken[place] else "a submission or a file"
                notes.append(f"the schedule of {s.dag_id} in pool {s.pool} was declared by {by} before: left as it is")
                continue
            held.schedules[place] = _since(s, before.get(place))
        return tuple(notes)


def _since(schedule: Schedule, before: Schedule | None) -> Schedule:
    """The same schedule declared again keeps the instant of its first declaration, unless it was paused."""
    resumed = before is not None and before.paused and not schedule.paused and schedule.since is not None
    if (
        before is None
        or resumed
        or (before.cron, before.zone, before.every_s)
        != (
            schedule.cron,
            schedule.zone,
            schedule.every_s,
        )
    ):
        return schedule
    if schedule.since is None or (before.since is not None and before.since < schedule.since):
        return replace(schedule, since=before.since)
    return schedule


def _under_a_limit(work: WorkTable) -> Array:
    """(R,) bool."""
    out = np.zeros(len(work.runs), dtype=bool)
    out[work.tasks["run"].to_numpy()[work.tasks["slot_of"].to_numpy(object) != ""]] = True
    return out
