"""Routes: which task belongs to which pool, of what is submitted and of what is read where work lives."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final

import numpy as np
import pandas as pd

from preprov.contracts import UNROUTED, PoolRuns, RoutedBatch, SeenRuns, SyncBatch
from preprov.model.limits import next_wall_time
from preprov.model.resources import KINDS, Resources
from preprov.model.time import epoch, from_epoch
from preprov.model.work import DagSpec, Schedule
from preprov.model.worktable import Array, WorkTable

USUAL: Final = Resources(cpu=1.0, memory=1.0)
"""For a task that says nothing, where no route does either."""


@dataclass(frozen=True)
class Route:
    """A rule; patterns match as file names do.

    Attributes:
        land_by: wall-clock time of day by which runs must have finished, in the DAG's zone; "" = none.
        default_request: amounts for tasks that ask for nothing.
    """

    pool: str
    dag: str = "*"
    queue: str = "*"
    tenant: str = "*"
    land_by: str = ""
    default_request: Mapping[str, float] = field(default_factory=dict)

    def matches(self, dag: DagSpec) -> bool:
        """True if all three patterns match."""
        return self.takes(dag.dag_id, dag.queue, dag.tenant)

    def takes(self, dag_id: str, queue: str, tenant: str) -> bool:
        """True if all three patterns match."""
        return all(
            fnmatchcase(value, pattern)
            for value, pattern in ((dag_id, self.dag), (queue, self.queue), (tenant, self.tenant))
        )

    def applied(self, dag: DagSpec) -> DagSpec:
        """The DAG with this route's defaults where it says nothing itself."""
        tasks = dag.tasks
        if self.default_request:
            tasks = tuple(
                replace(t, request=Resources.of(self.default_request)) if t.request.is_zero else t for t in tasks
            )
        land_by = dag.land_by
        if land_by is None and self.land_by and dag.due is not None:
            land_by = next_wall_time(self.land_by, dag.due, dag.zone)
        return replace(dag, tasks=tasks, land_by=land_by)


@dataclass
class Router:
    """The routes in order, and what becomes of what none of them matches.

    Attributes:
        routes: the first that matches wins.
        default: pool of what no route matches; UNROUTED = none.
        zone: of `land_by`, where a run has no zone of its own.
    """

    routes: Sequence[Route] = ()
    default: str = UNROUTED
    zone: str = "UTC"
    _found: dict[tuple[str, str, str], Route] = field(default_factory=dict)

    def route(self, dag_id: str, queue: str, tenant: str) -> Route:
        """The route of such tasks; one to the default pool if none matches."""
        key = (dag_id, queue, tenant)
        if key not in self._found:
            match = next((r for r in self.routes if r.takes(*key)), None)
            self._found[key] = match or Route(self.default)
        return self._found[key]

    def routed(self, batch: SyncBatch, zone: str) -> RoutedBatch:
        """A batch with its pools."""
        shapes = None
        queues = dict(batch.dag_queues)
        if batch.shapes is not None:
            shapes = {p: r.runs.work for p, r in self.parts(batch.shapes).items() if p != UNROUTED}
            queues = {**_queues(batch.shapes), **queues}
        schedules = None
        if batch.schedules is not None:
            schedules = tuple(s for one in batch.schedules for s in self._schedules(one, queues.get(one.dag_id, ("",))))
        return RoutedBatch(
            seen=tuple(batch.runs.work.runs["run_id"]),
            parts=self.parts(batch.runs),
            gone=batch.gone,
            schedules=schedules,
            shapes=shapes,
            limits=batch.limits,
            cursor=batch.cursor,
            notebook=batch.notebook,
            zone=zone,
        )

    def _schedules(self, schedule: Schedule, queues: Sequence[str]) -> Iterator[Schedule]:
        """The schedule in each pool that tasks of its DAG go to; in none, whose slots others may wait for, too."""
        pools = {self.route(schedule.dag_id, q, schedule.tenant).pool for q in queues or ("",)}
        return (replace(schedule, pool=p) for p in sorted(pools))

    def parts(self, seen: SeenRuns) -> dict[str, PoolRuns]:
        """Pool -> the runs that have tasks there. A run without tasks goes where its DAG does."""
        tasks, runs = seen.work.tasks, seen.work.runs
        run = tasks["run"].to_numpy()
        routes = self._routes(runs["dag_id"].to_numpy(dtype=object), runs["tenant"].to_numpy(dtype=object), run, seen)
        pool = np.array([r.pool for r in routes], dtype=object)
        empty = np.setdiff1d(np.arange(len(runs)), run)
        out = {}
        for name in sorted(set(pool) | {self._pool_of_run(runs, i) for i in empty}):
            own = pool == name
            keep = np.zeros(len(runs), dtype=bool)
            keep[run[own]] = True
            keep[[i for i in empty if self._pool_of_run(runs, i) == name]] = True
            mine = keep[run]
            work = self._requests(seen.work, own, routes).select_runs(keep)
            part = SeenRuns(self._landing(work, routes, own, run, keep), seen.over[keep], seen.queues[mine])
            out[name] = PoolRuns(part, own[mine])
        return out

    def _pool_of_run(self, runs: pd.DataFrame, i: int) -> str:
        return self.route(str(runs["dag_id"].iat[i]), "", str(runs["tenant"].iat[i])).pool

    def _routes(self, dags: Array, tenants: Array, run: Array, seen: SeenRuns) -> list[Route]:
        """(T,) route of each task."""
        keys = zip(dags[run].tolist(), seen.queues.tolist(), tenants[run].tolist(), strict=True)
        return [self.route(*key) for key in keys]

    def _requests(self, work: WorkTable, own: Array, routes: Sequence[Route]) -> WorkTable:
        """What each task asks for in this pool: what it says, else its route, else the usual; elsewhere nothing."""
        amounts = work.tasks[list(KINDS)].to_numpy(np.float64).copy()
        silent = np.isnan(amounts)
        for i in np.flatnonzero(own & silent.any(axis=1)).tolist():
            said = routes[i].default_request
            amount = np.array([said.get(k, getattr(USUAL, k)) for k in KINDS])
            amounts[i, silent[i]] = amount[silent[i]]
        amounts[~own] = 0.0
        tasks = work.tasks.assign(**{k: amounts[:, j] for j, k in enumerate(KINDS)})
        if work.tells_waits:  # its wait is counted where it belongs
            tasks["attempt"] = np.where(own, tasks["attempt"].to_numpy(), 0)
        return replace(work, tasks=tasks)

    def _landing(self, work: WorkTable, routes: Sequence[Route], own: Array, run: Array, keep: Array) -> WorkTable:
        """Runs with the time by which a route wants them to have finished."""
        wanted = {int(run[i]): routes[i].land_by for i in np.flatnonzero(own).tolist() if routes[i].land_by}
        if not wanted:
            return work
        land_by = work.runs["land_by"].to_numpy(np.float64).copy()
        for place, number in enumerate(np.flatnonzero(keep).tolist()):
            row = work.runs.iloc[place]
            if number in wanted and np.isnan(land_by[place]):
                begins = row["scheduled_for"] if np.isfinite(row["scheduled_for"]) else row["due"]
                landing = next_wall_time(wanted[number], from_epoch(begins), row["zone"] or self.zone)
                land_by[place] = epoch(landing)
        return replace(work, runs=work.runs.assign(land_by=land_by))


def _queues(shapes: SeenRuns) -> dict[str, tuple[str, ...]]:
    """DAG -> queues of its tasks."""
    dags = shapes.work.runs["dag_id"].to_numpy(dtype=object)[shapes.work.tasks["run"].to_numpy()]
    out: dict[str, set[str]] = {}
    for dag_id, queue in zip(dags, shapes.queues, strict=True):
        out.setdefault(dag_id, set()).add(queue)
    return {dag_id: tuple(sorted(found)) for dag_id, found in out.items()}
