"""Where the waiting comes from: all pools' work of the past days taken apart, and the coming night's bottlenecks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from preprov.contracts import UNROUTED
from preprov.control.context import Context
from preprov.control.waited import gathered, over
from preprov.demand.unseen import shapes_of
from preprov.demand.waiting.attribution import CAUSES, COLUMN, Waits, attribute
from preprov.demand.waiting.nodes import Warming
from preprov.demand.waiting.tonight import foresee
from preprov.model.time import epoch, from_epoch
from preprov.model.waits import FAMILIES, FAMILY, NODES_HELP, Cause, SlotLimit, limit_key, of_key
from preprov.model.work import Schedule
from preprov.model.worktable import PENDING, READY, Array, WorkTable
from preprov.planning.leads import once

_MARGIN: Final = timedelta(days=1)
"""Runs that were submitted so long before may still hold slots, or begin tasks, within the days in question."""
_OF_LATE: Final = timedelta(days=7)
"""What the coming hours are compared with, whatever period is asked for."""
_AHEAD_H: Final = 24
_WORTH_S: Final = 60.0
"""An hour in which all tasks together wait for less has no bottleneck."""
_WORDS: Final = {Cause.AIRFLOW_POOL: "Airflow pool", Cause.SLURM_PARTITION: "Slurm partition"}


@dataclass(frozen=True)
class CauseTotal:
    """What tasks waited on one thing: `name` within `source`, as its owner calls it. slots: now, where it has some."""

    cause: Cause
    source: str
    name: str
    hours: float
    tasks: int
    slots: float | None = None

    @property
    def family(self) -> str:
        """The coarse word."""
        return FAMILY[self.cause]

    def words(self) -> str:
        """For people."""
        what = _WORDS.get(self.cause) or str(self.cause).replace("_", " ")
        unit = "cores" if self.cause is Cause.SLURM_PARTITION else "slots"
        slots = "" if self.slots is None else f" ({self.slots:g} {unit})"
        return f"{what} {self.name}{slots}" if self.name else what


@dataclass(frozen=True)
class DagTotal:
    """What tasks of a DAG waited in all, by family; `worst` is where most of it came from."""

    dag_id: str
    tasks: int
    hours: float
    by_family: Mapping[str, float]
    worst: CauseTotal


@dataclass(frozen=True)
class Bottleneck:
    """An hour to come.

    Attributes:
        limit: what makes tasks wait most, None = nothing that limits will. limit_hours: for how long, together.
        node_hours: what tasks waited in this hour of the day for nodes, a day: in the last week, as far as that is on
            record.
    """

    at: datetime
    limit: CauseTotal | None
    limit_hours: float
    node_hours: float

    @property
    def nodes_help(self) -> bool | None:
        """Whether more nodes, or warmer ones, would spare most of the waiting; None = there is hardly any."""
        if max(self.limit_hours, self.node_hours) * 3600.0 < _WORTH_S:
            return None
        return self.node_hours >= self.limit_hours

    def words(self) -> str:
        """A sentence."""
        if self.nodes_help is None:
            return "no bottleneck"
        if self.nodes_help or self.limit is None:
            return "the bottleneck is nodes that are not ready; warm ones help"
        return f"the bottleneck is {self.limit.words()}; nodes will not help"


@dataclass(frozen=True)
class WaitReport:
    """Where the waiting came from in [since, until].

    Attributes:
        tasks: that started. hours: they waited in all. causes, dags: longest first.
        timeline: (hours of the period, families) hours of waiting by the hour in which it ended; `starts` of them.
        waiting, waiting_hours: tasks that could start and have not, and for how long so far.
        tonight: the coming hours.
    """

    since: datetime
    until: datetime
    pools: tuple[str, ...]
    tasks: int
    hours: float
    causes: tuple[CauseTotal, ...]
    dags: tuple[DagTotal, ...]
    starts: tuple[datetime, ...]
    timeline: Array
    waiting: int
    waiting_hours: float
    tonight: tuple[Bottleneck, ...]

    def of_family(self, family: str) -> float:
        """Hours."""
        return sum(c.hours for c in self.causes if c.family == family)

    @property
    def unknown(self) -> float:
        """Share of the waiting that nothing explains."""
        return self.of_family("unknown") / self.hours if self.hours > 0 else 0.0


def report(ctx: Context, pools: Sequence[str], since: datetime, *, zone: str = "UTC") -> WaitReport:
    """Of tasks of these pools that started since then.

    Args:
        ctx: the context. pools: names; work of the others counts where it held the same slots.
        since: begin. zone: whose hours of the day the coming hours are compared with.
    """
    now = ctx.clock.now()
    begin = min(since, now - _OF_LATE)
    past = gathered(ctx, set(pools), begin - _MARGIN, now)
    work, pool_of = past.work, past.pool_of
    limits, served = _limits(ctx)
    warmings = _warmings(ctx, begin - _MARGIN)
    whole = _for_nodes(attribute(work, (*limits, *served), warmings, epoch(begin), epoch(now)), served)
    whole = whole.of(np.isin(pool_of[whole.task], list(pools)))
    found = whole.of(whole.started >= epoch(since))
    names = _names(work, pool_of, found)
    starts, timeline = _timeline(found, since, now)
    waiting = _waiting(work, pool_of, set(pools), now)
    late = whole.of(whole.started >= epoch(now - _OF_LATE))
    usual = _node_hours(late, max(past.since(set(pools), now), epoch(now - _OF_LATE)), epoch(now), zone)
    return WaitReport(
        since,
        now,
        tuple(pools),
        len(found.task),
        float(found.seconds.sum()) / 3600.0,
        _causes(found, names, limits),
        _dags(work, found, names, limits),
        starts,
        timeline,
        len(waiting),
        float(waiting.sum()) / 3600.0,
        _tonight(_foreseen(ctx, work, limits, now), usual, limits, now, zone),
    )


def for_nodes(ctx: Context, pool: str, since: datetime, until: datetime) -> Mapping[tuple[str, str], tuple[float, int]]:
    """What tasks of a pool that started in [since, until] waited for a node that was warm, and their instances.

    Whoever started them: by what is known of it afterwards, as in `report`. What nothing explains is none of it.

    Returns:
        (run, task) -> (seconds, instances).
    """
    past = gathered(ctx, {pool}, since - _MARGIN, until)
    work, pool_of = past.work, past.pool_of
    limits, served = _limits(ctx)
    warmings = _warmings(ctx, since - _MARGIN)
    found = _for_nodes(attribute(work, (*limits, *served), warmings, epoch(since), epoch(until)), served)
    helped = [i for i, c in enumerate(CAUSES) if FAMILY[c] in NODES_HELP]
    seconds = found.seconds[:, helped].sum(axis=1)
    runs, t = work.runs["run_id"].to_numpy(dtype=object), work.tasks
    names = zip(runs[t["run"].to_numpy()[found.task]], t["task_id"].to_numpy(dtype=object)[found.task], strict=True)
    counts = t["instances"].to_numpy()[found.task].tolist()
    rows = zip(names, found.task.tolist(), seconds.tolist(), counts, strict=True)
    return {(str(run), str(task)): (s, n) for (run, task), at, s, n in rows if pool_of[at] == pool}


# --------------------------------------------------------------------------- what is known


def _limits(ctx: Context) -> tuple[tuple[SlotLimit, ...], tuple[SlotLimit, ...]]:
    """Limits as they are; and those that follow warm nodes, as if always full: they were what they had to be."""
    follow = frozenset(own for places in ctx.served.values() for p in places for own in p.service.limits)
    every = ctx.ports.sources.limits()
    served = tuple(replace(f, slots=0.0) for f in every if (f.cause, f.name) in follow)
    return tuple(f for f in every if (f.cause, f.name) not in follow), served


def _for_nodes(found: Waits, served: Sequence[SlotLimit]) -> Waits:
    """With the waiting for limits that follow warm nodes as waiting for room on nodes."""
    keys = {f.key: CAUSES.index(f.cause) for f in served}
    seconds = found.seconds.copy()
    for row in np.flatnonzero([k in keys for k in found.limit]):
        column = keys[found.limit[row]]
        seconds[row, CAUSES.index(Cause.ROOM)] += seconds[row, column]
        seconds[row, column] = 0.0
    return Waits(found.task, found.could, found.started, seconds, found.limit)


def _warmings(ctx: Context, since: datetime) -> list[Warming]:
    seen = (o for o in once(ctx.ports.leads.observations(since=since)) if o.outcome == "ready")
    return [Warming(o.node_id, epoch(o.at) - o.seconds, epoch(o.at), dict(o.stages)) for o in seen]


def _waiting(work: WorkTable, pool_of: Array, pools: set[str], now: datetime) -> Array:
    """Seconds so far of each task that could start and has not."""
    states = work.states(now)
    ready = work.tasks["ready_at"].to_numpy()
    mine = np.array([p in pools for p in pool_of], dtype=bool)
    due = work.runs["due"].to_numpy()[work.tasks["run"].to_numpy()] if len(work) else np.empty(0)
    waits = mine & ((states == READY) | ((states == PENDING) & np.isfinite(ready))) & (due <= epoch(now))
    out: Array = np.maximum(epoch(now) - ready[waits], 0.0)
    return out


def _once(schedules: Sequence[Schedule]) -> list[Schedule]:
    """A DAG that goes to several pools is declared in each of them."""
    return list({(s.dag_id, s.cron, s.every_s): s for s in schedules}.values())


# --------------------------------------------------------------------------- put together


def _names(work: WorkTable, pool_of: Array, found: Waits) -> Mapping[Cause, list[tuple[str, str]]]:
    """Cause -> (N,) (source, name) of what a task waited on, if it did on that."""
    dags = work.runs["dag_id"].to_numpy(dtype=object)[work.tasks["run"].to_numpy()[found.task]].tolist()
    nodes = work.tasks["node"].to_numpy(dtype=object)[found.task].tolist()
    keys = [of_key(k) for k in found.limit.tolist()]
    pools = [("", str(pool_of[i])) for i in found.task]
    dag = [(source, d) for (_, source, _), d in zip(keys, dags, strict=True)]
    own = [(source, name) for _, source, name in keys]
    images = [own[i] if key[0] is Cause.IMAGE else pools[i] for i, key in enumerate(keys)]
    out = {c: own if FAMILY[c] == "limits" else pools for c in CAUSES}
    source = [(s, "") for _, s, _ in keys]
    return {
        **out,
        Cause.IMAGE: images,
        Cause.MAX_ACTIVE_RUNS: dag,
        Cause.MAX_ACTIVE_TASKS: dag,
        Cause.WORKERS: [(s, n) for (_, s, _), n in zip(keys, nodes, strict=True)],
        Cause.SCHEDULER: source,
        Cause.UNKNOWN: source,
    }


def _causes(
    found: Waits, names: Mapping[Cause, list[tuple[str, str]]], limits: Sequence[SlotLimit]
) -> tuple[CauseTotal, ...]:
    slots = {f.key: f.slots for f in limits}
    out = []
    for cause in CAUSES:
        seconds = found.seconds[:, COLUMN[cause]]
        total: dict[tuple[str, str], tuple[float, int]] = {}
        for i in np.flatnonzero(seconds > 0).tolist():
            held, count = total.get(names[cause][i], (0.0, 0))
            total[names[cause][i]] = (held + float(seconds[i]), count + 1)
        out += [
            CauseTotal(cause, *name, held / 3600.0, count, slots.get(limit_key(cause, *name)))
            for name, (held, count) in total.items()
        ]
    return tuple(sorted(out, key=lambda c: -c.hours))


def _dags(
    work: WorkTable,
    found: Waits,
    names: Mapping[Cause, list[tuple[str, str]]],
    limits: Sequence[SlotLimit],
) -> tuple[DagTotal, ...]:
    dags = work.runs["dag_id"].to_numpy(dtype=object)[work.tasks["run"].to_numpy()[found.task]]
    family = np.array([FAMILIES.index(FAMILY[c]) for c in CAUSES])
    out = []
    for dag, rows in pd.Series(np.arange(len(dags))).groupby(dags):
        at = rows.to_numpy()
        seconds = found.seconds[at]
        hours = float(seconds.sum()) / 3600.0
        if hours <= 0:
            continue
        part = Waits(found.task[at], found.could[at], found.started[at], seconds, found.limit[at])
        worst = _causes(part, {c: [n[i] for i in at] for c, n in names.items()}, limits)[0]
        by_family = {f: float(seconds[:, family == j].sum()) / 3600.0 for j, f in enumerate(FAMILIES)}
        out.append(DagTotal(str(dag), len(at), hours, by_family, worst))
    return tuple(sorted(out, key=lambda d: -d.hours))


def _timeline(found: Waits, since: datetime, now: datetime) -> tuple[tuple[datetime, ...], Array]:
    first = epoch(since) // 3600 * 3600
    count = max(int(np.ceil((epoch(now) - first) / 3600)), 1)
    hour = ((found.started - first) // 3600).astype(int)
    family = [FAMILIES.index(FAMILY[c]) for c in CAUSES]
    out = np.zeros((count, len(FAMILIES)))
    for cause in range(len(CAUSES)):
        np.add.at(out[:, family[cause]], hour, found.seconds[:, cause] / 3600.0)
    return tuple(from_epoch(first + 3600 * i) for i in range(count)), out


def _foreseen(ctx: Context, work: WorkTable, limits: Sequence[SlotLimit], now: datetime) -> Mapping[str, Array]:
    """`waits.limit_key` -> (hours,) seconds to be waited; of DAGs without a run that ended, by the shape told."""
    pools = [*ctx.ports.work.pools(), UNROUTED]
    schedules = _once([s for pool in pools for s in ctx.ports.work.schedules(pool)])
    new = sorted({s.dag_id for s in schedules} - set(work.runs["dag_id"][over(work)]))
    told = [ctx.ports.sources.shapes(pool, new) for pool in pools] if new else []
    submitted = [shapes_of(ctx.ports.work.specs(pool, new), now) for pool in pools] if new else []
    shapes = WorkTable.concat([t for t in (*submitted, *told) if t is not None])
    return foresee(work, schedules, limits, now, _AHEAD_H, shapes=shapes)


def _tonight(
    waits: Mapping[str, Array], usual: Array, limits: Sequence[SlotLimit], now: datetime, zone: str
) -> tuple[Bottleneck, ...]:
    slots = {f.key: f.slots for f in limits}
    out = []
    for h in range(_AHEAD_H):
        at = now + timedelta(hours=h)
        key = max(waits, key=lambda k: float(waits[k][h]), default="")
        hours = float(waits[key][h]) / 3600.0 if key else 0.0
        cause, source, name = of_key(key)
        limit = None if cause is None or hours <= 0 else CauseTotal(cause, source, name, hours, 0, slots.get(key))
        out.append(Bottleneck(at, limit, hours, float(usual[at.astimezone(ZoneInfo(zone)).hour])))
    return tuple(out)


def _node_hours(found: Waits, first: float, now: float, zone: str) -> Array:
    """(24,) hours that tasks wait for nodes in each hour of the day, a day: of those on record, from `first` on."""
    helped = [i for i, c in enumerate(CAUSES) if FAMILY[c] in NODES_HELP]
    seconds = found.seconds[:, helped].sum(axis=1)
    edges = np.unique([min(first, now), *np.arange(np.ceil(first / 3600.0) * 3600.0, now, 3600.0), now])
    recorded = np.bincount(_hours_of_day(edges[:-1], zone), weights=np.diff(edges) / 3600.0, minlength=24)
    total = np.bincount(_hours_of_day(found.started, zone), weights=seconds / 3600.0, minlength=24)
    out: Array = total / np.maximum(recorded, 1.0)
    return out


def _hours_of_day(at: Array, zone: str) -> Array:
    """(N,) of instants."""
    return np.array([from_epoch(t).astimezone(ZoneInfo(zone)).hour for t in at.tolist()], dtype=np.int64)
