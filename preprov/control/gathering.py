"""Everything a plan of a pool is made from, gathered from the store, the clouds and the demand room."""

from datetime import datetime, timedelta
from typing import Final

from preprov.control.ahead import lateness
from preprov.control.context import Context
from preprov.control.covering import foreseen
from preprov.control.declared import fills, is_nameless
from preprov.control.demanding import current_demand
from preprov.control.ingesting import source_age_s
from preprov.control.lanes import largest_of, parted, together
from preprov.control.lately import lately
from preprov.control.observing import observe_launched, within_reach
from preprov.control.planning_facts import held_optimum, task_sizes
from preprov.control.pricing import interruptions
from preprov.control.readying import busy_until
from preprov.control.remembering import remembered
from preprov.control.sharing import counts_money, shared_rooms, spent_today
from preprov.control.trust import ACTS, in_force, writers
from preprov.model.demand import DemandCurve
from preprov.model.nodes import PoolObservation
from preprov.model.plans import ActionKind
from preprov.model.pools import Group, Pool
from preprov.model.resources import ZERO, Resources
from preprov.planning.inputs import PlanInputs
from preprov.planning.leads import Leads, Telling
from preprov.planning.leads import learn_leads as fit_leads
from preprov.planning.optimum import Optimum
from preprov.planning.packing import Kind, Mix
from preprov.planning.reaction import reacts_in

_LEADS_FRESH: Final = timedelta(minutes=5)
_LEADS_BACK: Final = timedelta(days=90)
_SEEN_LATELY: Final = timedelta(minutes=15)


def reacts(ctx: Context, pool: Pool) -> bool:
    """True where nodes wake and sleep between plans."""
    if not ctx.live or in_force(ctx, pool) not in ACTS or not reacts_in(pool):
        return False
    return all(_between_plans(ctx, pool, g) for g in pool.groups)


def _between_plans(ctx: Context, pool: Pool, group: Group) -> bool:
    """True if the group declares so, and nobody else moves its count: there the plan's floor is all that is written."""
    provider = ctx.providers.get(group.provider)
    if provider is None or not provider.capabilities(pool, group.name).reacts:
        return False
    return not writers(ctx, pool, group).names


def plan_inputs(
    ctx: Context,
    pool: Pool,
    observation: PoolObservation,
    demand: DemandCurve,
    forecast_id: str,
    waiting: Resources = ZERO,
    *,
    wave: tuple[Kind, ...] | None = (),
    tick_s: float | None = None,
    held: Optimum | None = None,
    foresee: bool = True,
) -> PlanInputs:
    """What the planning room may know now.

    Args:
        wave: what `waiting` is made of; None = nobody can say, and then nothing is planned in lanes.
    """
    now = ctx.clock.now()
    sizes = task_sizes(ctx, pool, now)
    launched = sum(
        r.action.count
        for r in ctx.ports.audit.records(pool.name, since=now - timedelta(minutes=1))
        if r.result == "done" and r.action.kind is ActionKind.LAUNCH
    )
    lanes = None if wave is None else parted(ctx, pool, demand, forecast_id, wave)
    kinds = sizes.kinds if lanes is None else lanes.kinds
    largest = sizes.largest if lanes is None else largest_of(lanes.kinds)
    leads = current_leads(ctx, pool)
    late = lateness(ctx, pool, demand, leads)
    reservations = ctx.ports.ledger.reservations(pool.name)
    return PlanInputs(
        pool=within_reach(pool, observation),
        mode=in_force(ctx, pool),
        now=now,
        observation=observation,
        demand=demand if lanes is None else lanes.main,
        leads=leads,
        prices=ctx.prices,
        votes=ctx.ports.votes.votes(pool.name),
        overrides=ctx.ports.intent.overrides(pool.name, now),
        drains=ctx.ports.intent.drains(pool.name),
        committed=reservations,
        foreseen=foreseen(ctx, pool, reservations),
        busy_until=busy_until(ctx, pool, now),
        waiting=waiting if lanes is None else together(lanes.wave),
        spent_today_usd=spent_today(ctx, pool, now) if counts_money(ctx, pool) else 0.0,
        launched_last_minute=launched,
        lately=lately(ctx, pool, observation),
        forecast_id=forecast_id,
        source_age_s=source_age_s(ctx, pool.name),
        halted=ctx.ports.intent.halted(),
        largest=largest,
        grain=Mix.of(kinds),
        wave=(wave or ()) if lanes is None else lanes.wave,
        lanes=() if lanes is None else lanes.lanes,
        tick_s=tick_s,
        shared=shared_rooms(ctx, pool),
        held=held,
        foresee=foresee,
        fills=frozenset(g.name for g in pool.groups if fills(ctx, pool, g)),
        nameless=frozenset(g.name for g in pool.groups if is_nameless(ctx, pool, g)),
        reacts=reacts(ctx, pool),
        urgency=None if late is None else late.tolist(),
        interruptions=interruptions(ctx, pool, now),
        rework_s=sizes.rework_s,
    )


def inputs_of(ctx: Context, pool: Pool) -> PlanInputs:
    """The inputs of a pool that is planned along with another one, whose pass this is.

    What waits there is as its own last pass found it.
    """
    now = ctx.clock.now()
    observation = observe_launched(ctx, pool)
    forecast_id, demand = current_demand(ctx, pool)
    rows = ctx.ports.history.snapshots(pool.name, since=now - _SEEN_LATELY, until=now)
    waiting = rows[-1].waiting if rows else ZERO
    return plan_inputs(ctx, pool, observation, demand, forecast_id, waiting, held=held_optimum(ctx, pool))


def current_leads(ctx: Context, pool: Pool) -> Leads:
    """Lead times as learnt so far, refreshed every few minutes."""
    now = ctx.clock.now()
    return remembered(
        ctx,
        (pool.name, "leads"),
        _LEADS_FRESH,
        lambda: fit_leads(pool, _telling(ctx, now).for_pool(pool), now),
    )


def _telling(ctx: Context, now: datetime) -> Telling:
    """What all pools have seen of warmings, read once for all of them."""
    return remembered(
        ctx,
        ("", "leads"),
        _LEADS_FRESH,
        lambda: Telling.of(o for o in ctx.ports.leads.observations(since=now - _LEADS_BACK) if o.at <= now),
    )
