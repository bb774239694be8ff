"""Runs and tasks in memory, with a door for a whole trace whose runs show as their submit time passes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd

from preprov.contracts import IngestResult, SourceBatch
from preprov.model.errors import SourceError, StoreError
from preprov.model.series import SeriesHistory
from preprov.model.time import epoch
from preprov.model.work import DagRun, DagSpec, Schedule, State, TaskRun, Trigger
from preprov.model.worktable import Array, WorkTable
from preprov.sim.livework import LiveWork
from preprov.sim.mirror import MemorySourceStore

_OBSERVED: Final = ("ready_at", "started_at", "ended_at")


@dataclass
class _Sorted:
    """A work table by submit time, ready to be sliced without copying.

    Attributes:
        columns: of tasks, (T,) by name.
        observed: times of tasks, (T,) by name, which stand for those in the table: they may be written to.
        last: (first run, last, the part between): asked for again and again while nothing happens.
    """

    work: WorkTable
    submit: Array
    task_at: Array
    edge_at: Array
    columns: dict[str, Array]
    observed: dict[str, Array]
    last: tuple[int, int, WorkTable] | None = None

    @classmethod
    def of(cls, work: WorkTable) -> "_Sorted":
        work = _edges_by_run(by_submit(work))
        run = work.tasks["run"].to_numpy()
        positions = np.arange(len(work.runs) + 1)
        return cls(
            work,
            work.runs["submit"].to_numpy(),
            np.searchsorted(run, positions),
            np.searchsorted(run[work.children], positions),
            {name: work.tasks[name].to_numpy() for name in work.tasks.columns},
            {name: work.tasks[name].to_numpy(dtype=np.float64, copy=True) for name in _OBSERVED},
        )

    def between(self, since: float, until: float) -> WorkTable:
        a = int(np.searchsorted(self.submit, since, side="left"))
        b = int(np.searchsorted(self.submit, until, side="right"))
        if a >= b:
            return WorkTable.empty()
        last = self.last
        if last is None or last[:2] != (a, b):
            self.last = last = (a, b, self._part(a, b))
        return last[2]

    def write(self, tasks: Array, times: Mapping[str, Array]) -> None:
        """Observed times, by name, of the tasks at these positions."""
        self.last = None
        for name, values in times.items():
            self.observed[name][tasks] = values

    def _part(self, a: int, b: int) -> WorkTable:
        t0, t1 = int(self.task_at[a]), int(self.task_at[b])
        edges = slice(int(self.edge_at[a]), int(self.edge_at[b]))
        runs, columns = self.work.runs.iloc[a:b], {name: column[t0:t1] for name, column in self.columns.items()}
        parents, children = self.work.parents[edges], self.work.children[edges]
        if a:
            runs.index = pd.RangeIndex(b - a)
            columns["run"] = columns["run"] - a
            parents, children = parents - t0, children - t0
        columns |= {name: times[t0:t1].copy() for name, times in self.observed.items()}
        # Made anew: to put columns into a part of the table one by one takes twice as long.
        tasks = pd.DataFrame(columns, index=pd.RangeIndex(t1 - t0), copy=False)
        return WorkTable(runs, tasks, parents, children)


def by_submit(work: WorkTable) -> WorkTable:
    """The same runs in order of submit, their tasks with them."""
    submit = work.runs["submit"].to_numpy(dtype=np.float64)
    if np.all(submit[1:] >= submit[:-1]):
        return work
    order = np.argsort(submit, kind="stable")
    new_run = np.empty(len(order), dtype=np.int64)
    new_run[order] = np.arange(len(order))
    run = new_run[work.tasks["run"].to_numpy()]
    task_order = np.argsort(run, kind="stable")
    new_task = np.empty(len(task_order), dtype=np.int64)
    new_task[task_order] = np.arange(len(task_order))
    tasks = work.tasks.iloc[task_order].reset_index(drop=True)
    tasks["run"] = run[task_order]
    runs = work.runs.iloc[order].reset_index(drop=True)
    return WorkTable(runs, tasks, new_task[work.parents], new_task[work.children])


def _edges_by_run(work: WorkTable) -> WorkTable:
    """The same edges, those of earlier runs first."""
    if np.all(work.children[1:] >= work.children[:-1]):
        return work
    order = np.argsort(work.children, kind="stable")
    return WorkTable(work.runs, work.tasks, work.parents[order], work.children[order])


class MemoryWorkStore:
    """WorkStore in memory."""

    def __init__(self) -> None:
        self._history: dict[str, _Sorted] = {}
        self._digests: dict[tuple[str, str], IngestResult] = {}
        self._zones: dict[str, str] = {}
        self._schedules: dict[str, dict[str, Schedule]] = {}
        self._series: dict[str, SeriesHistory] = {}
        self._live = LiveWork()
        self.mirror = MemorySourceStore()
        self.mirror.declared = lambda: self._schedules

    def preload(self, pool: str, work: WorkTable, schedules: Iterable[Schedule] = (), *, zone: str = "UTC") -> None:
        """Make a whole trace the pool's history; `work` then shows only what was submitted by `until`."""
        self._history[pool] = _Sorted.of(work)
        self._zones[pool] = zone
        self._schedules[pool] = {s.dag_id: s for s in schedules}

    def note(self, pool: str, tasks: Array, *, ready_at: Array, started_at: Array, ended_at: Array) -> None:
        """Write observed times of preloaded tasks.

        Args:
            pool: of the preloaded trace.
            tasks: (K,) positions in it, by submit. The times are (K,) epoch seconds, NaN = not known.
            ready_at: when they could run.
            started_at: when they began.
            ended_at: when they ended or will end; a later instant stays hidden until it has come.
        """
        times = dict(zip(_OBSERVED, (ready_at, started_at, ended_at), strict=True))
        self._history[pool].write(tasks, times)

    # ------------------------------------------------------------------ history

    def pools(self) -> Mapping[str, str]:
        """Pools that have history, with the zone of their wall clock."""
        return {**self.mirror.pools(), **self._zones}

    def ingested(self, pool: str, digest: str) -> IngestResult | None:
        """What an earlier ingest of this very content did; None if there was none."""
        done = self._digests.get((pool, digest)) if digest else None
        return None if done is None else replace(done, runs=0, tasks=0, already=True)

    def ingest(
        self, pool: str, key: str, digest: str, batches: Iterable[SourceBatch], *, zone: str = "UTC"
    ) -> IngestResult:
        """Write all batches or nothing."""
        done = self.ingested(pool, digest)
        if done is not None:
            return replace(done, key=key)
        read = list(batches)
        rejects = sum(len(b.rejects) for b in read)
        new = self._unknown(pool, WorkTable.concat([b.work for b in read]))
        usable = sum(len(b.work.runs) for b in read)
        if not usable:
            raise SourceError("no usable run in it", where=key, hint=f"{rejects} rows were rejected")
        self._add(pool, new)
        for s in (s for b in read for s in b.schedules):
            self._schedules.setdefault(pool, {})[s.dag_id] = s
        self._zones[pool] = zone
        result = IngestResult(
            key=key,
            pool=pool,
            runs=len(new.runs),
            tasks=len(new.tasks),
            rejects=rejects,
            notes=tuple(dict.fromkeys(n for b in read for n in b.notes)),
            imputed=_added(b.imputed for b in read),
        )
        if digest:
            self._digests[pool, digest] = result
        return result

    def _unknown(self, pool: str, work: WorkTable) -> WorkTable:
        """The runs whose id is new to the pool, each once."""
        ids = work.runs["run_id"]
        keep = ~ids.duplicated().to_numpy()
        if pool in self._history:
            keep &= ~ids.isin(self._history[pool].work.runs["run_id"]).to_numpy()
        keep &= ~np.fromiter((self._live.has(i) for i in ids), dtype=bool, count=len(ids))
        return work.select_runs(keep)

    def _add(self, pool: str, new: WorkTable) -> None:
        held = [self._history[pool].between(-np.inf, np.inf)] if pool in self._history else []
        self._history[pool] = _Sorted.of(WorkTable.concat([*held, new]))

    def work(self, pool: str, *, since: datetime | None = None, until: datetime | None = None) -> WorkTable:
        """Runs submitted in [since, until] with their tasks, by submit time."""
        first = epoch(since) if since else -np.inf
        last = epoch(until) if until else np.inf
        tables = [self._history[pool].between(first, last)] if pool in self._history else []
        if tables and not self._live.serves(pool) and not self.mirror.serves(pool):
            return tables[0]
        live = WorkTable.concat([self.mirror.work(pool), self._live.table(pool, self._schedules.get(pool, {}))])
        if not len(live.runs):
            return tables[0] if tables else live
        tables.append(_Sorted.of(live).between(first, last))
        if len(tables) == 1:
            return tables[0]
        return _edges_by_run(by_submit(WorkTable.concat(tables)))

    def schedules(self, pool: str) -> tuple[Schedule, ...]:
        """Declared schedules."""
        return tuple({**self.mirror.schedules(pool), **self._schedules.get(pool, {})}.values())

    def has_template(self, pool: str, dag_id: str) -> bool:
        """True if runs of the DAG can be made."""
        return self._live.spec(pool, dag_id) is not None

    def specs(self, pool: str, dag_ids: Sequence[str]) -> tuple[DagSpec, ...]:
        """The last spec of each DAG that was submitted."""
        kept = (self._live.spec(pool, d) for d in sorted(set(dag_ids)))
        return tuple(spec for spec in kept if spec is not None)

    def write_series(self, pool: str, key: str, digest: str, series: SeriesHistory) -> IngestResult:
        """Keep a demand series as the pool's history."""
        done = self._digests.get((pool, digest)) if digest else None
        if done is not None:
            return replace(done, key=key, already=True)
        self._series[pool] = series
        self._zones[pool] = series.zone
        result = IngestResult(key=key, pool=pool, runs=0, tasks=0, rejects=series.dirt.total)
        if digest:
            self._digests[pool, digest] = result
        return result

    def series(self, pool: str) -> SeriesHistory | None:
        """The demand series, if there is one."""
        return self._series.get(pool)

    # ------------------------------------------------------------------ live runs

    def submit(self, dag: DagSpec, pool: str, at: datetime, run_id: str | None = None) -> DagRun | None:
        """Register a DAG and, unless its schedule makes the runs, create one."""
        self._live.keep_spec(dag, pool)
        self._zones.setdefault(pool, dag.zone)
        if dag.schedule:
            land_by_s = (dag.land_by - dag.due).total_seconds() if dag.land_by and dag.due else None
            self._schedules.setdefault(pool, {})[dag.dag_id] = Schedule(
                dag_id=dag.dag_id,
                pool=pool,
                cron=dag.schedule,
                zone=dag.zone,
                tenant=dag.tenant,
                priority=dag.priority,
                since=at,
                land_by_s=land_by_s,
            )
            if dag.due is None:
                return None
        return self._live.create(dag, pool, at, run_id, Trigger.MANUAL, due=dag.due, land_by=dag.land_by)

    def materialise(self, schedule: Schedule, scheduled_for: datetime, at: datetime) -> DagRun:
        """Create the run of a turn; raises StoreError if no spec of the DAG is kept."""
        dag = self._live.spec(schedule.pool, schedule.dag_id)
        if dag is None:
            raise StoreError(f"no spec of DAG {schedule.dag_id} is kept", where=schedule.pool, hint="submit it first")
        lands = schedule.land_by_s
        return self._live.create(
            dag,
            schedule.pool,
            at,
            f"{schedule.dag_id}-{scheduled_for:%Y%m%dT%H%MZ}",
            Trigger.SCHEDULED,
            scheduled_for=scheduled_for,
            due=scheduled_for,
            land_by=None if lands is None else scheduled_for + timedelta(seconds=lands),
        )

    def runs(self, pool: str | None = None, *, live: bool = False, limit: int | None = None) -> tuple[DagRun, ...]:
        """Runs made here, newest first."""
        return tuple(self._live.runs(pool, live=live)[:limit])

    def run(self, run_id: str) -> DagRun | None:
        """One run by id or unique prefix."""
        return self._live.find(run_id)

    def task_runs(self, run_ids: Sequence[str]) -> tuple[TaskRun, ...]:
        """All tasks of these runs, parents before children."""
        return self._live.tasks(run_ids)

    def started(self, pool: str, *, since: datetime, until: datetime) -> tuple[TaskRun, ...]:
        """Tasks that started in [since, until)."""
        tasks = self._live.tasks([r.run_id for r in self._live.runs(pool, live=False)])
        found = [(t.started_at, t) for t in tasks if t.started_at is not None and since <= t.started_at < until]
        return tuple(t for _, t in sorted(found, key=lambda row: (row[0], row[1].run_id, row[1].task_id)))

    def save_tasks(self, tasks: Sequence[TaskRun]) -> None:
        """Write tasks; final ones stay."""
        self._live.save_tasks(tasks)

    def save_run(self, run_id: str, state: State, ended_at: datetime | None, reason: str = "") -> None:
        """Write a run's state; a final one stays."""
        self._live.save_run(run_id, state, ended_at, reason)


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    out: dict[str, int] = {}
    for c in counts:
        for name, n in c.items():
            out[name] = out.get(name, 0) + n
    return out
