"""One pass over one pool: observe, dispatch, forecast, plan, act. Idempotent; safe to run again after a crash."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import perf_counter

from preprov.control.ahead import Proposal, propose, remember_order
from preprov.control.apply import apply_plan, keep_floors, recover, running_target
from preprov.control.calling import invite
from preprov.control.context import Context
from preprov.control.demanding import current_demand
from preprov.control.dispatch import DispatchResult, dispatch
from preprov.control.forgetting import forget_reservations
from preprov.control.gathering import current_leads, inputs_of, plan_inputs, reacts
from preprov.control.gating import note_guards
from preprov.control.heeding import heed
from preprov.control.ingesting import source_age_s
from preprov.control.lately import lately
from preprov.control.observing import learn_leads, observe_launched, snapshot
from preprov.control.orphans import collect_benches, collect_orphans
from preprov.control.planning_facts import held_optimum, hold_optimum, reaction_seconds, tick_seconds
from preprov.control.reacting import carry_out, reaction, why_blocked
from preprov.control.remembering import remembered
from preprov.control.serving import serve as serve_places
from preprov.control.sharing import jointly, limits_held
from preprov.control.tending import keep, tend
from preprov.control.thinking import thinking
from preprov.control.vanishing import note_vanished
from preprov.control.waiting_requests import ask_anew
from preprov.model.demand import DemandCurve
from preprov.model.nodes import PoolObservation
from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind, ActionRecord, CapacityPlan
from preprov.model.pools import Pool
from preprov.model.resources import ZERO, Resources
from preprov.planning.optimum import Optimum
from preprov.planning.packing import Kind
from preprov.planning.plan import PlanOutcome, make_plan

LEASE_S = 60.0
"""Wall seconds a pass may take before another may begin; on a clock that runs faster that is more of its seconds."""
EVERYTHING = frozenset(ActionKind)
RAISES = frozenset({ActionKind.LAUNCH, ActionKind.START})
LOWERS = EVERYTHING - RAISES
_ORDER_KEPT = 50
_Seen = set[tuple[str, datetime]]


@dataclass(frozen=True)
class PassResult:
    """What one pass saw, decided and did.

    Attributes:
        again: when to plan again, since a ramp or a disruption budget left something for then; None = as usual.
    """

    pool: str
    at: datetime
    observation: PoolObservation
    plan: CapacityPlan | None
    records: tuple[ActionRecord, ...]
    dispatched: DispatchResult | None
    demand: DemandCurve | None
    seconds: float
    again: datetime | None = None


def pool_pass(
    ctx: Context,
    pool: Pool,
    *,
    plan: bool = True,
    serve: bool = True,
    kinds: frozenset[ActionKind] = EVERYTHING,
    waiting: Resources = ZERO,
    foresee: bool = True,
    react: bool = True,
    order: bool = False,
) -> PassResult:
    """One pass under the pool's lease.

    Args:
        ctx: the context.
        pool: the pool.
        plan: also forecast, plan and act (else only dispatch: the quick tick).
        serve: also dispatch work to nodes (replay has its own engine for that).
        kinds: the kinds of action this pass may take; others stay in the plan for the next one.
        waiting: what waits for room, where somebody else dispatches.
        foresee: also plan what comes after now; False is quicker, where nobody reads it.
        react: also wake and put away nodes by what the next minutes want (replay does that by itself).
        order: also propose in which order runs should go where a limit binds, though somebody else dispatches.

    Raises:
        LeaseHeldError: another pass over this pool is under way.
        PreprovError: the store or the demand room refused; a provider that fails is a problem in the result instead.
    """
    began = perf_counter()
    ttl_s = LEASE_S * float(getattr(ctx.clock, "speed", 1.0))
    with ctx.ports.leases.hold(pool.name, ctx.holder, ttl_s, ctx.clock.now()):
        records = recover(ctx, pool) if plan else ()
        observation = observe_launched(ctx, pool)
        records = (*records, *heed(ctx, pool, observation))
        if plan or serve:
            learn_leads(ctx, pool, observation, remembered(ctx, (pool.name, "leads-seen"), timedelta(days=1), _Seen))
            invite(ctx, pool, observation)
        dispatched = dispatch(ctx, pool, observation) if serve else None
        if plan or (dispatched and dispatched.started):
            tend(ctx, pool)
        if plan:
            records = (*records, *ask_anew(ctx, pool, ctx.clock.now()))
        made, demand, again = None, None, None
        waiting = dispatched.waiting if dispatched else waiting
        if plan:
            wave = dispatched.wave if dispatched else None
            with limits_held(ctx, pool):
                made, demand, acted, later = _plan_and_act(
                    ctx, pool, observation, waiting, kinds, wave=wave, foresee=foresee, ordered=serve or order
                )
            records = (*records, *acted)
            again = lately(ctx, pool, observation).until if later and not reacts(ctx, pool) else None
        if react and reacts(ctx, pool):
            seen = observe_launched(ctx, pool) if records else observation
            may = kinds - {ActionKind.LAUNCH} if any(r.action.kind is ActionKind.LAUNCH for r in records) else kinds
            records = (*records, *_react(ctx, pool, seen, waiting, may, anew=_begun(ctx, pool, dispatched) or plan))
        records = (*records, *serve_places(ctx, pool, observation, records))
    if plan:
        forget_reservations(ctx)
    return PassResult(
        pool.name, ctx.clock.now(), observation, made, records, dispatched, demand, perf_counter() - began, again
    )


def _plan_and_act(
    ctx: Context,
    pool: Pool,
    observation: PoolObservation,
    waiting: Resources,
    kinds: frozenset[ActionKind],
    *,
    wave: tuple[Kind, ...] | None,
    foresee: bool,
    ordered: bool,
) -> tuple[CapacityPlan, DemandCurve, tuple[ActionRecord, ...], bool]:
    with thinking():
        forecast_id, demand = current_demand(ctx, pool)
    now = ctx.clock.now()
    outcome = plan_for(
        ctx,
        pool,
        observation,
        demand,
        forecast_id,
        waiting,
        wave=wave,
        tick_s=tick_seconds(ctx, pool, now),
        held=held_optimum(ctx, pool),
        foresee=foresee,
    )
    hold_optimum(ctx, pool, outcome.optimum, now)
    plan = _ordered(ctx, pool, outcome, observation) if ordered else outcome.plan
    if any(a.kind is not ActionKind.HOLD and a.at <= plan.valid_until for a in plan.actions):
        ctx.ports.plans.save(plan)
    ctx.ports.votes.replace(pool.name, _votes(ctx, pool, observation, outcome))
    note_guards(ctx, pool, plan, outcome.binding, stale=source_age_s(ctx, pool.name) > pool.guards.stale_source_s)
    acted = apply_plan(ctx, pool, plan, observation, kinds=kinds)
    acted = (*acted, *keep_floors(ctx, pool, plan, observation, outcome.votes))
    acted = (*acted, *note_vanished(ctx, pool, observation, plan.plan_id))
    gone = {i for r in acted if r.result == "done" and not r.action.kind.raises for i in r.node_ids}
    keep(ctx, pool, observation, gone, outcome.votes.keys())
    acted = (*acted, *collect_orphans(ctx, pool, observation, plan.plan_id), *collect_benches(ctx, pool))
    target = sum(running_target(plan, g.name) for g in pool.groups)
    reservations = ctx.ports.ledger.reservations(pool.name)
    ctx.ports.history.record(snapshot(ctx, pool, observation, reservations, target=target, waiting=waiting))
    return plan, demand, acted, outcome.later


def _begun(ctx: Context, pool: Pool, dispatched: DispatchResult | None) -> bool:
    """True if runs began since the last look at the next minutes: what it foresaw of them would be counted twice."""
    key, runs = (pool.name, "runs begun"), dispatched.begun if dispatched else frozenset()
    held = ctx.memo.get(key)
    ctx.memo[key] = (ctx.clock.now(), runs)
    return held is None or not runs <= held[1]  # type: ignore[operator]


def _react(
    ctx: Context,
    pool: Pool,
    observation: PoolObservation,
    waiting: Resources,
    kinds: frozenset[ActionKind],
    *,
    anew: bool,
) -> tuple[ActionRecord, ...]:
    """Wake and put away; `anew`: work may have come that the last look did not know, or foresaw as yet to come.

    A pass that has launched launches no more: it began as much of a wave as one may.
    """
    with thinking():
        found = reaction(
            ctx,
            pool,
            observation,
            current_leads(ctx, pool),
            waiting=waiting,
            tick_s=reaction_seconds(ctx, pool, ctx.clock.now()),
            blocked=why_blocked(ctx, pool),
            anew=anew,
        )
    return carry_out(ctx, pool, observation, found, kinds=kinds)


def _ordered(ctx: Context, pool: Pool, outcome: PlanOutcome, observation: PoolObservation) -> CapacityPlan:
    """The plan and, where capacity or budget binds, the order in which runs should get it: dispatch goes by that."""
    plan, proposal = outcome.plan, None
    if outcome.binding:
        leads = current_leads(ctx, pool)
        proposal = propose(ctx, pool, plan, observation, leads, binds=outcome.binding, quick=True)
    remember_order(ctx, pool, proposal)
    if proposal is None:
        return plan
    order = [p.ahead.run.run_id for p in proposal.order[:_ORDER_KEPT]]
    return replace(plan, basis={**plan.basis, "order": order})


def _votes(ctx: Context, pool: Pool, observation: PoolObservation, outcome: PlanOutcome) -> Mapping[str, datetime]:
    """The plan's, and those on idle running nodes that reactions cast."""
    if not reacts(ctx, pool):
        return outcome.votes
    running = {n.node_id for n in observation.nodes if n.standby is Standby.RUNNING and not n.is_busy}
    held = ctx.ports.votes.votes(pool.name)
    return {n: at for n, at in held.items() if n in running} | dict(outcome.votes)


def plan_for(
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
) -> PlanOutcome:
    """Hand the planning room everything it may know now; pools that share a limit are optimised together."""
    with thinking():
        inputs = plan_inputs(
            ctx, pool, observation, demand, forecast_id, waiting, wave=wave, tick_s=tick_s, held=held, foresee=foresee
        )
    inputs = jointly(ctx, pool, inputs, lambda other: inputs_of(ctx, other))
    with thinking():
        return make_plan(inputs)


def make_plan_now(ctx: Context, pool: Pool) -> tuple[CapacityPlan, DemandCurve]:
    """Plan for the present of the context without acting, and keep the plan so that it can be applied or explained."""
    observation = observe_launched(ctx, pool)
    forecast_id, demand = current_demand(ctx, pool)
    plan = plan_for(ctx, pool, observation, demand, forecast_id).plan
    ctx.ports.plans.save(plan)
    return plan, demand


def order_now(ctx: Context, pool: Pool, *, most: int | None = None) -> Proposal | None:
    """The order in which the runs ahead should go under a plan made now, without acting; None if they are too many.

    Args:
        most: as if there were no more nodes than that.
    """
    observation = observe_launched(ctx, pool)
    forecast_id, demand = current_demand(ctx, pool)
    capped = pool if most is None else replace(pool, guards=replace(pool.guards, max_nodes=most))
    outcome = plan_for(ctx, capped, observation, demand, forecast_id)
    leads = current_leads(ctx, pool)
    return propose(ctx, pool, outcome.plan, observation, leads, binds=outcome.binding, most=most)
