"""Runs ahead of a pool: when they will start and end under the capacity there will be, and in which order to go."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from preprov.control.context import Context
from preprov.control.demanding import runtime_model, templates
from preprov.demand.ahead import ComingRun, coming_runs
from preprov.model.demand import DemandCurve
from preprov.model.nodes import Phase, PoolObservation
from preprov.model.offerings import Standby
from preprov.model.plans import CapacityPlan
from preprov.model.pools import Pool
from preprov.model.worktable import Array
from preprov.planning.deadlines import (
    Capacity,
    RunAhead,
    RunForecast,
    first_come,
    forecast_runs,
    landing,
    order_score,
    propose_order,
    urgency,
)
from preprov.planning.leads import Leads

SAMPLES: Final = 64
_SHAPES_BACK: Final = timedelta(days=62)
_FRESH: Final = timedelta(minutes=1)
_STEPS: Final = 96
_SOON: Final = timedelta(hours=1)
_MOST: Final = 300
"""With more runs than this, tasks are ordered one by one."""
_FEW: Final = 40
"""With more than this, simple orders only are tried within a pass."""


@dataclass(frozen=True)
class Ahead:
    """A run that is not over, as the demand room and as the planner sees it."""

    coming: ComingRun
    run: RunAhead


@dataclass(frozen=True)
class Placed:
    """A run in its place."""

    ahead: Ahead
    forecast: RunForecast


@dataclass(frozen=True)
class Proposal:
    """In which order runs should get the capacity there is.

    Attributes:
        order: in that order. capacity: that there will be. binds: limits that hold it back; none = there is enough.
        proposed, first_come: what either order comes to: deadlines missed by expectation, USD of lateness, mean seconds
            until a run ends.
    """

    order: tuple[Placed, ...]
    capacity: Capacity
    binds: tuple[str, ...]
    proposed: tuple[float, float, float]
    first_come: tuple[float, float, float]


@dataclass(frozen=True)
class _Late:
    """(T,) USD per core-hour of waiting, by steps of so many seconds."""

    step_s: float
    usd: Array


def runs_ahead(
    ctx: Context, pool: Pool, *, samples: int = SAMPLES, within: timedelta | None = None
) -> tuple[Ahead, ...]:
    """Live runs and those that schedules announce within a time (the pool's horizon), with their deadlines."""
    now = ctx.clock.now()
    within = within or timedelta(seconds=pool.horizon_s)
    runs = ctx.ports.work.runs(pool.name, live=True)
    known = (now, runs[0].run_id if runs else "", len(runs))
    key = (pool.name, "ahead", str(samples), str(within))
    held = ctx.memo.get(key)
    if held is not None and isinstance(held[1], tuple):
        (since, *same), found = held[1]
        if same == list(known[1:]) and timedelta(0) <= now - since < _FRESH:
            return found  # type: ignore[no-any-return]
    found = _runs_ahead(ctx, pool, now, samples, within)
    ctx.memo[key] = (now, (known, found))
    return found


def _runs_ahead(ctx: Context, pool: Pool, now: datetime, samples: int, within: timedelta) -> tuple[Ahead, ...]:
    seen = ctx.ports.work.work(pool.name, since=now - _SHAPES_BACK, until=now).as_of(now)
    schedules = ctx.ports.work.schedules(pool.name)
    node = max((o.allocatable for g in pool.groups for o in g.offerings), key=lambda a: (a.gpu, a.cpu, a.memory))
    coming = coming_runs(
        seen,
        schedules,
        now,
        now + within,
        runtime_model(ctx, pool, seen, now),
        node=node,
        binding=pool.binding,
        samples=samples,
        seed=ctx.seed,
        templates=templates(ctx, pool, seen, schedules, now),
    )
    return tuple(Ahead(c, _as_planned(pool, c)) for c in coming)


def _as_planned(pool: Pool, c: ComingRun) -> RunAhead:
    land_by, usd = landing(pool, c.dag_id, c.tenant, c.due, c.land_by)
    return RunAhead(c.run_id, c.path_s, c.work_s, c.width, c.ready_at, c.priority, land_by, usd)


def lateness(ctx: Context, pool: Pool, demand: DemandCurve, leads: Leads) -> Array | None:
    """(T,) USD per core-hour of waiting by step from now on, where it makes runs late; None if that has no price.

    It is kept for what is decided before the next plan (`late_within`).
    """
    ctx.memo.pop((pool.name, "lateness"), None)
    priced = pool.objective.late_usd_per_minute or any(d.late_usd_per_minute for d in pool.deadlines)
    if not priced or not demand.steps:
        return None
    now = ctx.clock.now()
    runs = [a.run for a in runs_ahead(ctx, pool)]
    if not any(r.land_by is not None and r.late_usd_per_minute for r in runs):
        return None
    first = max((now - demand.start).total_seconds() // demand.step_seconds, 0)
    begins = demand.start + timedelta(seconds=first * demand.step_seconds)
    steps = max(min(int(demand.steps - first), pool.horizon_s // demand.step_seconds), 1)
    group = pool.groups[0]
    lead = leads(group.name, group.offerings[0], Standby.COLD)
    late = urgency(runs, Capacity(begins, demand.step_seconds, np.zeros(steps)), lead.mean_s)
    ctx.memo[(pool.name, "lateness")] = (begins, _Late(float(demand.step_seconds), late))
    return late


def late_within(ctx: Context, pool: Pool, seconds: float) -> float:
    """The most of what `lateness` last found, in the steps from now until then; 0 without any."""
    held = ctx.memo.get((pool.name, "lateness"))
    if held is None or not isinstance(held[1], _Late):
        return 0.0
    past_s, late = (ctx.clock.now() - held[0]).total_seconds(), held[1]
    first, last = (int(s // late.step_s) for s in (past_s, past_s + seconds))
    return float(late.usd[max(first, 0) : max(last + 1, 0)].max(initial=0.0))


def capacity_ahead(
    pool: Pool,
    plan: CapacityPlan,
    observation: PoolObservation,
    leads: Leads,
    now: datetime,
    *,
    binds: Sequence[str] = (),
    wanted: float = 0.0,
    most: int | None = None,
) -> Capacity:
    """Cores that there will be for runs, step by step.

    The plan says what is ready beforehand. What it gives up when work is likely over is not gone for work that is not:
    a busy node is never ended, and more are launched for what waits. So where nothing binds there is enough a lead time
    from now on; where a number of nodes binds, what the plan reached stays within reach; where money binds, there is
    what the plan has.

    Args:
        binds: limits that hold the plan back. wanted: cores that all runs together can use.
        most: no more than so many nodes, whatever the plan says.
    """
    step = max(pool.horizon_s / _STEPS, 1.0)
    cores, nodes = np.zeros(_STEPS + 1), np.zeros(_STEPS + 1)
    for after_s, per_node, more in (*_there(observation, leads, now), *_planned(pool, plan, observation, leads, now)):
        # What comes counts from the step after, what goes from the step itself.
        exact = max(after_s, 0.0) / step
        i = int(min(np.ceil(exact - 1e-9) if more > 0 else exact, _STEPS))
        cores[i] += per_node * more
        nodes[i] += more
    have, count = np.maximum(np.cumsum(cores)[:_STEPS], 0.0), np.cumsum(nodes)[:_STEPS]
    if most is not None:
        have *= np.minimum(1.0, most / np.maximum(count, 1.0))
    if not binds and most is None:
        group = pool.groups[0]
        first = int(np.ceil(leads(group.name, group.offerings[0], Standby.COLD).median_s / step))
        have[first:] = np.maximum(have[first:], wanted)
    elif not any("usd" in name for name in binds):
        have = np.maximum.accumulate(have)
    return Capacity(now, step, have)


def _there(observation: PoolObservation, leads: Leads, now: datetime) -> Iterator[tuple[float, float, float]]:
    """(seconds from now, cores of a node, nodes) of what exists: at once, or when it should be warm."""
    for n in observation.in_phase(Phase.READY, Phase.WARMING):
        ready = now if n.phase is Phase.READY else n.since + _seconds(leads(n.group, n.offering, n.came_from).median_s)
        yield (ready - now).total_seconds(), n.offering.allocatable.cpu, 1.0


def _planned(
    pool: Pool, plan: CapacityPlan, observation: PoolObservation, leads: Leads, now: datetime
) -> Iterator[tuple[float, float, float]]:
    """The same of each change of running nodes that the plan makes: a rise is ready a lead time later."""
    for group in pool.groups:
        have = float(sum(n.group == group.name for n in observation.in_phase(Phase.READY, Phase.WARMING)))
        ways = {a.at: a for a in plan.actions if a.group == group.name and a.kind.raises}
        for t in plan.targets:
            if t.group != group.name or t.standby_state is not Standby.RUNNING or t.count == have:
                continue
            way = ways.get(t.at)
            offering = next((o for o in group.offerings if way and o.key == way.offering), group.offerings[0])
            cold_s = leads(group.name, offering, Standby.COLD).median_s
            lead_s = (way.numbers.get("lead_median_s", cold_s) if way else cold_s) if t.count > have else 0.0
            yield (t.at - now).total_seconds() + lead_s, offering.allocatable.cpu, t.count - have
            have = float(t.count)


def _seconds(s: float) -> timedelta:
    return timedelta(seconds=s)


def propose(
    ctx: Context,
    pool: Pool,
    plan: CapacityPlan,
    observation: PoolObservation,
    leads: Leads,
    *,
    binds: Sequence[str] = (),
    most: int | None = None,
    quick: bool = False,
) -> Proposal | None:
    """The order in which the pool's runs should get what the plan will have; None if they are too many to be ranked.

    Args:
        most: as if there were no more nodes than that. quick: fewer samples, no exchanges, and of runs that only
            schedules announce those within the hour: for use within a pass.
    """
    now = ctx.clock.now()
    found = runs_ahead(ctx, pool, samples=SAMPLES // 4, within=_SOON) if quick else runs_ahead(ctx, pool)
    if len(found) > _MOST:
        return None
    by_id = {a.run.run_id: a for a in found}
    runs = [a.run for a in found]
    wanted = sum(r.width for r in runs)
    capacity = capacity_ahead(pool, plan, observation, leads, now, binds=binds, wanted=wanted, most=most)
    swaps = 0 if quick and len(runs) > _FEW else 60
    order = propose_order(runs, capacity, swaps=swaps)
    forecasts = forecast_runs(order, capacity)
    usual = forecast_runs(first_come(runs), capacity)
    placed = tuple(Placed(by_id[f.run_id], f) for f in forecasts)
    return Proposal(placed, capacity, tuple(binds), order_score(forecasts), order_score(usual))


def remember_order(ctx: Context, pool: Pool, proposal: Proposal | None) -> None:
    """Have dispatch go by it until the next plan; None = by its own rule."""
    ranks = {} if proposal is None else {p.ahead.run.run_id: i for i, p in enumerate(proposal.order)}
    ctx.memo[(pool.name, "order")] = (ctx.clock.now(), ranks)


def remembered_order(ctx: Context, pool: Pool) -> Mapping[str, int]:
    """Rank by run id, as long as the last plan found that capacity binds."""
    held = ctx.memo.get((pool.name, "order"))
    return held[1] if held and isinstance(held[1], dict) else {}
