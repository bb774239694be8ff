"""What a pool's tasks read: images and datasets, and how often, of what is queued, scheduled and came of itself.

Who submits a DAG says both; of the places that are read some tell the container images of their tasks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

import numpy as np

from preprov.control.context import Context
from preprov.demand.schedules import turns
from preprov.model.images import image_named, is_among
from preprov.model.pools import Pool
from preprov.model.resources import KINDS, Resources
from preprov.model.work import ImageRef, Schedule, TaskRun, TaskSpec, Trigger
from preprov.model.worktable import WorkTable

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """A task that reads something, and how often a day it is expected to be started."""

    dag_id: str
    spec: TaskSpec
    starts: float


@dataclass(frozen=True)
class Readings:
    """Tasks of a pool; `days`: how far back runs without a schedule are counted."""

    ctx: Context
    pool: Pool
    now: datetime
    days: float

    def __iter__(self) -> Iterator[Reading]:
        """What is due within a day, once each what is queued, and what came without a schedule as often as it came."""
        yield from self._due()
        yield from self._queued()
        yield from self._unscheduled()
        yield from self._read()

    def _due(self) -> Iterable[Reading]:
        ctx, pool = self.ctx, self.pool
        schedules = ctx.ports.work.schedules(pool.name)
        names = sorted({s.dag_id for s in schedules})
        specs: dict[str, Sequence[TaskSpec]] = {d.dag_id: d.tasks for d in ctx.ports.work.specs(pool.name, names)}
        for dag_id, spec in _of_table(ctx.ports.sources.shapes(pool.name, [n for n in names if n not in specs])):
            specs[dag_id] = (*specs.get(dag_id, ()), spec)
        return (
            Reading(s.dag_id, t, due) for s in schedules if (due := self._turns(s)) for t in specs.get(s.dag_id, ())
        )

    def _turns(self, schedule: Schedule) -> float:
        return float(len(turns(schedule, self.now, self.now + _DAY)))

    def _queued(self) -> Iterable[Reading]:
        of = {r.run_id: r.dag_id for r in self.ctx.ports.work.runs(self.pool.name, live=True)}
        return (Reading(of[t.run_id], t.spec, 1.0) for t in newest_first(self.ctx, list(of)) if t.started_at is None)

    def _unscheduled(self) -> Iterable[Reading]:
        since = self.now - timedelta(days=self.days)
        of = {
            r.run_id: r.dag_id
            for r in self.ctx.ports.work.runs(self.pool.name)
            if since <= r.submitted_at <= self.now and r.trigger is not Trigger.SCHEDULED and r.state.is_final
        }
        return (Reading(of[t.run_id], t.spec, 1.0 / self.days) for t in newest_first(self.ctx, list(of)))

    def _read(self) -> Iterable[Reading]:
        """Of runs that were read: what has not begun, and what came without a schedule and is over."""
        seen = self.seen
        begun, over = (~np.isnan(seen.tasks[c].to_numpy(np.float64)) for c in ("started_at", "ended_at"))
        scheduled = (seen.runs["trigger"].to_numpy(dtype=object) == str(Trigger.SCHEDULED))[
            seen.tasks["run"].to_numpy()
        ]
        for rows, starts in ((~begun & ~over, 1.0), (over & ~scheduled, 1.0 / self.days)):
            yield from (Reading(dag_id, spec, starts) for dag_id, spec in _of_table(seen, rows))

    @cached_property
    def seen(self) -> WorkTable:
        """The runs of these days, in columns, as they are known now."""
        work = self.ctx.ports.work
        found = work.work(self.pool.name, since=self.now - timedelta(days=self.days), until=self.now)
        return found.as_of(self.now)


def newest_first(ctx: Context, runs: Sequence[str]) -> list[TaskRun]:
    """Tasks of these runs, in their order."""
    place = {run_id: i for i, run_id in enumerate(runs)}
    return sorted(ctx.ports.work.task_runs(runs), key=lambda t: place[t.run_id])


def not_preloaded(ctx: Context, pool: Pool, days: float) -> Mapping[ImageRef, tuple[str, ...]]:
    """Images that tasks run in and `[pool.preload]` does not have -> their DAGs; the most read first."""
    starts: dict[ImageRef, float] = {}
    dags: dict[ImageRef, set[str]] = {}
    for r in Readings(ctx, pool, ctx.clock.now(), days):
        for image in r.spec.images:
            starts[image] = starts.get(image, 0.0) + r.starts * r.spec.instances
            dags.setdefault(image, set()).add(r.dag_id)
    lacking = (i for i in starts if not is_among(i, pool.preload.images))
    return {i: tuple(sorted(dags[i])) for i in sorted(lacking, key=lambda i: (-starts[i], i.uri, i.digest))}


def _of_table(work: WorkTable, keep: np.ndarray | None = None) -> Iterator[tuple[str, TaskSpec]]:
    """(DAG, task) of those rows of which an image is told."""
    if not work.tells_waits:
        return
    told = work.tasks["images"].to_numpy(dtype=object) != ""
    rows = np.flatnonzero(told if keep is None else told & keep)
    dags = work.runs["dag_id"].to_numpy(dtype=object)[work.tasks["run"].to_numpy()[rows]]
    tasks = work.tasks.iloc[rows]
    amounts = np.nan_to_num(tasks[list(KINDS)].to_numpy(np.float64))
    columns = (tasks[c].tolist() for c in ("task_id", "instances", "images"))
    for dag_id, amount, task_id, instances, images in zip(dags.tolist(), amounts.tolist(), *columns, strict=True):
        yield (
            str(dag_id),
            TaskSpec(
                str(task_id),
                request=Resources(*amount),
                instances=int(instances),
                images=tuple(image_named(name) for name in images.split()),
            ),
        )
