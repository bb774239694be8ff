"""Lanes of a pool from what is known of its tasks: which kinds there are, and what those with nodes of their own want.

Of what nobody announced it cannot be told which nodes it will need: it stays in the main lane, and is served where it
fits once it is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeAlias

import numpy as np

from preprov.control.context import Context
from preprov.control.demanding import inputs
from preprov.control.planning_facts import kinds_of
from preprov.control.remembering import remembered
from preprov.demand.inputs import DemandInputs
from preprov.demand.known import Steps, expand_seen
from preprov.demand.learnt import expected_otherwise
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.seen import live
from preprov.model.demand import DemandCurve
from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.model.resources import KINDS, ZERO, Resources
from preprov.model.worktable import Array, WorkTable
from preprov.planning.features import CONSTRAINT, differ
from preprov.planning.inputs import Lane
from preprov.planning.lanes import LaneShape, lane_of, lanes_of
from preprov.planning.packing import Kind, Mix
from preprov.planning.placement import NodeRoom, why_nowhere

Labels: TypeAlias = Mapping[tuple[str, str], Mapping[str, str]]
"""(DAG, task) -> labels that its node must have."""

_FRESH: Final = timedelta(minutes=10)
_RECENT: Final = timedelta(days=7)


@dataclass(frozen=True)
class Parted:
    """A pool's demand parted into lanes.

    Attributes:
        main: what stays; kinds: of its tasks; wave: of what waits. lanes: the others.
    """

    main: DemandCurve
    kinds: tuple[Kind, ...]
    wave: tuple[Kind, ...]
    lanes: tuple[Lane, ...]


def parted(ctx: Context, pool: Pool, demand: DemandCurve, forecast_id: str, wave: Sequence[Kind]) -> Parted | None:
    """The demand in lanes; None if one kind of node does for all.

    Args:
        wave: what is ready and found no room, kind by kind.
    """
    alike = len({o.allocatable for g in pool.groups for o in g.offerings}) < 2 and not differ(pool)
    if alike or not demand.steps:
        return None
    shapes = remembered(ctx, (pool.name, "lanes"), _FRESH, lambda: _shapes(ctx, pool))
    if len(shapes) < 2:
        return None
    held = ctx.memo.get((pool.name, "lane-demand"))
    if held is None or held[1][0] != (forecast_id, shapes):  # type: ignore[index]
        found = ((forecast_id, shapes), _demands(ctx, pool, demand, shapes))
        held = ctx.memo[(pool.name, "lane-demand")] = (ctx.clock.now(), found)
    main, *others = held[1][1]  # type: ignore[index]
    mine = [[k for k in wave if lane_of(pool, shapes, k.request, k.affinity) == i] for i in range(len(shapes))]
    lanes = [_lane(pool, s, d, w) for s, d, w in zip(shapes[1:], others, mine[1:], strict=True)]
    return Parted(main, shapes[0].kinds, tuple(mine[0]), tuple(lanes))


def known_lanes(ctx: Context, pool: Pool) -> tuple[LaneShape, ...]:
    """The lanes by which the last plan of this process was made; none = one kind of node does for all."""
    held = ctx.memo.get((pool.name, "lanes"))
    shapes = held[1] if held else ()
    return shapes if isinstance(shapes, tuple) and len(shapes) > 1 else ()


def in_lanes(shapes: Sequence[LaneShape], rooms: Sequence[NodeRoom], nodes: Mapping[str, Node]) -> list[NodeRoom]:
    """Rooms with the lane of their node."""
    home = {key: i for i, shape in enumerate(shapes) for key in shape.offerings}
    if not home:
        return list(rooms)
    of = {n.node_id: home.get((n.group, n.offering.key), 0) for n in nodes.values()}
    return [replace(r, lane=of.get(r.node_id, 0)) for r in rooms]


def _shapes(ctx: Context, pool: Pool) -> tuple[LaneShape, ...]:
    now = ctx.clock.now()
    seen = ctx.ports.work.work(pool.name, since=now - _RECENT, until=now).as_of(now)
    return lanes_of(pool, kinds_of(seen, affinities(ctx, pool, seen)), lambda o: ctx.prices.usd_per_hour(o, now))


def affinities(ctx: Context, pool: Pool, seen: WorkTable) -> Labels:
    """Of live runs, of DAGs that are to run again, and of what was read; tasks without are left out."""
    runs = {r.run_id: r.dag_id for r in ctx.ports.work.runs(pool.name, live=True)}
    tasks = [(runs[t.run_id], t.spec) for t in ctx.ports.work.task_runs(list(runs))]
    again = ctx.ports.work.specs(pool.name, sorted({s.dag_id for s in ctx.ports.work.schedules(pool.name)}))
    tasks += [(dag.dag_id, spec) for dag in again for spec in dag.tasks]
    return _constraints(seen) | {(dag_id, spec.task_id): spec.affinity for dag_id, spec in tasks if spec.affinity}


def _constraints(seen: WorkTable) -> dict[tuple[str, str], Mapping[str, str]]:
    """What tasks demand of the features of their nodes, as they did the last time."""
    if not seen.tells_waits:
        return {}
    told = seen.tasks["constraint"].to_numpy(dtype=object)
    rows = np.flatnonzero(told != "")
    dags = seen.runs["dag_id"].to_numpy(dtype=object)[seen.tasks["run"].to_numpy()[rows]]
    names = zip(dags.tolist(), seen.tasks["task_id"].to_numpy(dtype=object)[rows].tolist(), strict=True)
    return {name: {CONSTRAINT: str(text)} for name, text in zip(names, told[rows].tolist(), strict=True)}


def _lane(pool: Pool, shape: LaneShape, demand: DemandCurve, wave: Sequence[Kind]) -> Lane:
    group, key = shape.offerings[0]
    name = next(o.instance_type for o in pool.group(group).offerings if o.key == key)
    return Lane(
        name,
        frozenset(shape.offerings),
        demand,
        together(wave),
        tuple(wave),
        largest_of(shape.kinds),
        Mix.of(shape.kinds),
    )


def largest_of(kinds: Sequence[Kind]) -> Resources | None:
    """The largest request; None if there are none."""
    return max((k.request for k in kinds), key=lambda r: (r.gpu, r.cpu, r.memory), default=None)


def together(wave: Sequence[Kind]) -> Resources:
    """What a wave asks for in all."""
    return sum((k.request * k.count for k in wave), ZERO)


@dataclass(frozen=True)
class Nowhere:
    """A task that is not over and fits on no node that the pool could have."""

    run_id: str
    task_id: str
    instances: int
    request: Resources
    why: str


def fits_nowhere(ctx: Context, pool: Pool) -> tuple[Nowhere, ...]:
    """Open tasks that will wait for ever, each with the reason."""
    now = ctx.clock.now()
    seen = ctx.ports.work.work(pool.name, since=now - _RECENT, until=now).as_of(now)
    labels, known = affinities(ctx, pool, seen), dict[tuple[Resources, tuple[tuple[str, str], ...]], str]()
    out = []
    alive = np.flatnonzero(live(seen, seen.states(now)))
    rows = seen.tasks.iloc[alive]
    run_ids, dags = (seen.runs[c].to_numpy(dtype=object)[rows["run"].to_numpy()] for c in ("run_id", "dag_id"))
    amounts = np.nan_to_num(rows[list(KINDS)].to_numpy(dtype=np.float64)).tolist()
    told = zip(run_ids, dags, rows["task_id"], rows["instances"], amounts, strict=True)
    for run_id, dag_id, task_id, instances, amount in told:
        request, affinity = Resources(*amount), labels.get((dag_id, task_id), {})
        key = (request, tuple(sorted(affinity.items())))
        if key not in known:
            known[key] = why_nowhere(pool, request, affinity)
        if known[key]:
            out.append(Nowhere(run_id, task_id, int(instances), request, known[key]))
    return tuple(out)


# --------------------------------------------------------------------------- demand


def _demands(ctx: Context, pool: Pool, demand: DemandCurve, shapes: Sequence[LaneShape]) -> tuple[DemandCurve, ...]:
    """The curve of each lane, the main one first: all of the demand less what is known of the others.

    The same runs draw the same numbers, so that in each future the lanes add up to the whole.
    """
    at = demand.issued_at
    given = inputs(ctx, pool, at, start=demand.start, horizon_s=demand.steps * demand.step_seconds)
    labels = affinities(ctx, pool, given.seen)
    others = [_known(given, pool, demand, shapes, i, labels) for i in range(1, len(shapes))]
    samples = demand.samples - sum(o.samples for o in others)
    whole = demand.samples if demand.mean is None else demand.mean
    mean = np.maximum(whole - sum(o.samples if o.mean is None else o.mean for o in others), 0.0)
    main = replace(demand, samples=np.maximum(np.maximum(samples, mean), 0.0), mean=mean, parts={})
    return (main, *others)


def _known(
    given: DemandInputs,
    pool: Pool,
    demand: DemandCurve,
    shapes: Sequence[LaneShape],
    lane: int,
    labels: Labels,
) -> DemandCurve:
    """What is queued, running or due of a lane's tasks; the rest of their runs takes its time and wants nothing."""
    seen = _only(given.seen.as_of(given.at), pool, shapes, lane, labels)
    dags = set(seen.runs["dag_id"])
    templates = None if given.templates is None else _only(given.templates, pool, shapes, lane, labels)
    if templates is not None:
        dags |= set(templates.runs["dag_id"])
    length = demand.steps * demand.step_seconds
    steps = Steps.of(given.at, demand.start, length, demand.step_seconds, given.n_samples, given.seed)
    _, recurring = expected_otherwise(given, steps.until(given.at))
    known = expand_seen(
        seen,
        [s for s in given.schedules if s.dag_id in dags],
        given.at,
        given.runtimes or RuntimeModel.learn(given.seen, given.at),
        steps,
        predicted=[p for p in (*given.predicted, *recurring) if p.dag_id in dags],
        templates=templates,
    )
    return DemandCurve(
        pool.name, given.at, demand.start, demand.step_seconds, known.samples[: len(demand.samples)], known.mean
    )


def _only(work: WorkTable, pool: Pool, shapes: Sequence[LaneShape], lane: int, labels: Labels) -> WorkTable:
    """Runs with such tasks; their other tasks ask for nothing."""
    mine = _lanes_of_tasks(work, pool, shapes, labels) == lane
    keep = np.zeros(len(work.runs), dtype=bool)
    keep[work.tasks["run"].to_numpy()[mine]] = True
    amounts = {k: np.where(mine, work.tasks[k].to_numpy(dtype=np.float64), 0.0) for k in KINDS}
    return replace(work, tasks=work.tasks.assign(**amounts)).select_runs(keep)


def _lanes_of_tasks(work: WorkTable, pool: Pool, shapes: Sequence[LaneShape], labels: Labels) -> Array:
    """(T,) position of each task's lane; -1 = it fits nowhere."""
    tasks = work.tasks
    amounts = np.nan_to_num(tasks[list(KINDS)].to_numpy(dtype=np.float64))
    sizes, number = np.unique(amounts, axis=0, return_inverse=True)

    known: dict[tuple[object, ...], int] = {}

    def position(size: Sequence[float], affinity: Mapping[str, str]) -> int:
        key = (*size, *sorted(affinity.items()))
        if key not in known:
            found = lane_of(pool, shapes, Resources(*size), affinity)
            known[key] = -1 if found is None else found
        return known[key]

    out: Array = np.array([position(s, {}) for s in sizes.tolist()], dtype=np.int64)[number.ravel()]
    if labels:
        dags = work.runs["dag_id"].to_numpy(dtype=object)[tasks["run"].to_numpy()]
        for i, name in enumerate(zip(dags.tolist(), tasks["task_id"].tolist(), strict=True)):
            if name in labels:
                out[i] = position(amounts[i].tolist(), labels[name])
    return out
