"""Carry out the actions of a plan that are due: guards just before each call, an audit row before and after it."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from preprov.contracts import LaunchRequest, LeadObservation, SetsFloor, SetsTargets
from preprov.control.adopting import unrecorded
from preprov.control.context import Context
from preprov.control.gating import GUARDED
from preprov.control.guarding import check_guards
from preprov.control.lately import check_disruptions
from preprov.control.observing import committed_by_node, observe_launched
from preprov.control.preflight import fitting
from preprov.control.trust import ACTS, Trust, foreign, may_act, trust, writers
from preprov.control.waves import in_parts
from preprov.control.workers import leave_first
from preprov.model.errors import (
    GuardError,
    InsufficientCapacityError,
    NodeBusyError,
    PoolError,
    StalePlanError,
    UnfinishedError,
)
from preprov.model.nodes import PoolObservation
from preprov.model.offerings import Preload, Standby
from preprov.model.plans import Action, ActionKind, ActionRecord, CapacityPlan, stable_id
from preprov.model.pools import Mode, Pool
from preprov.planning.plan import fingerprint

log = structlog.get_logger(__name__)

_LOWERS = (ActionKind.HIBERNATE, ActionKind.STOP, ActionKind.TERMINATE)
_RECOVER_FOR = timedelta(hours=1)
_HOLDS = timedelta(minutes=5)
"""A floor holds a superfluous node for so long."""


@dataclass(frozen=True)
class _Call:
    """One provider call, ready to be made."""

    action: Action
    make: Callable[[], tuple[str, ...]]
    detail: str = ""


def apply_plan(
    ctx: Context,
    pool: Pool,
    plan: CapacityPlan,
    observation: PoolObservation,
    *,
    kinds: Container[ActionKind] = frozenset(ActionKind),
) -> tuple[ActionRecord, ...]:
    """Do what is due, in the mode that is in force. Safe to repeat: an action already done is not done again.

    Raises:
        StalePlanError: the plan's time is over.
    """
    now = ctx.clock.now()
    if now > plan.valid_until:
        raise StalePlanError(
            f"plan {plan.plan_id} was valid until {plan.valid_until:%H:%M:%S}Z",
            where=pool.name,
            hint="preprov plan make, then apply the new one",
        )
    due = plan.due(now)
    if not due:
        return ()
    done = {r.action.action_id for r in _recent(ctx, pool, now) if r.result == "done"}
    barred = unrecorded(ctx, pool) if may_act(ctx, pool) else {}
    todo = [a for a in due if a.action_id not in done and a.kind in kinds]
    out = []
    for action, later in in_parts(pool, plan.plan_id, todo):
        if later:
            log.info("the rest of a wave follows", pool=pool.name, now=action.count, later=later)
        if action.count or not later:
            fits = fitting(ctx, pool, action)
            out.append(_act(ctx, pool, plan, fits, observation, barred.get(action.group, "")))
    return tuple(out)


def apply_stored(ctx: Context, pool: Pool, plan: CapacityPlan) -> tuple[ActionRecord, ...]:
    """Apply a plan made earlier, if the world is still the one it was made for.

    Raises:
        StalePlanError: its time is over, or the pool has changed since.
    """
    observation = observe_launched(ctx, pool)
    if plan.observed and plan.observed != fingerprint(observation):
        raise StalePlanError(
            f"pool {pool.name} has changed since plan {plan.plan_id} was made",
            where=pool.name,
            hint="preprov plan make",
        )
    return apply_plan(ctx, pool, plan, observation)


def recover(ctx: Context, pool: Pool) -> tuple[ActionRecord, ...]:
    """Send launches again whose answer was never recorded: the same token makes no second node."""
    now = ctx.clock.now()
    last: dict[str, ActionRecord] = {}
    for r in _recent(ctx, pool, now):
        last[r.action.action_id] = r
    cut_short = [r for r in last.values() if r.result == "intended" and r.action.kind is ActionKind.LAUNCH]
    out = []
    for r in cut_short if cut_short and may_act(ctx, pool) else ():
        if r.action.standby_state is not Standby.RUNNING:  # what the vendor keeps is looked at anew
            continue
        group = pool.group(r.action.group)
        if not foreign(ctx, pool, group) and not writers(ctx, pool, group).names:
            out.append(_finish(ctx, pool, r.plan_id, _launch(ctx, pool, r.action, pool.preload)))
    return tuple(out)


def _recent(ctx: Context, pool: Pool, now: datetime) -> tuple[ActionRecord, ...]:
    return ctx.ports.audit.records(pool.name, since=now - _RECOVER_FOR)


def _act(
    ctx: Context,
    pool: Pool,
    plan: CapacityPlan,
    action: Action,
    observation: PoolObservation,
    barred: str,
) -> ActionRecord:
    standing = trust(ctx, pool)
    refused = _refusal(ctx, pool, action, observation, standing, barred)
    if refused is not None:
        result, why = refused
        return _record(ctx, pool, plan.plan_id, action, result, why, quiet=standing.mode is Mode.OBSERVE)
    _record(ctx, pool, plan.plan_id, action, "intended")
    if action.kind.raises and writers(ctx, pool, pool.group(action.group)).names:
        return _finish(ctx, pool, plan.plan_id, as_floor(ctx, pool, plan, action))
    return _finish(ctx, pool, plan.plan_id, _call(ctx, pool, action, pool.preload))


def _refusal(
    ctx: Context, pool: Pool, action: Action, observation: PoolObservation, standing: Trust, barred: str
) -> tuple[str, str] | None:
    """The result and the reason of an action that may not be carried out; None if it may."""
    halted = ctx.ports.intent.halted()
    if halted:
        return "skipped", f"halted: {halted}"
    if standing.mode not in ACTS:
        return "recommended", "; ".join((f"mode is {standing.mode}", *standing.why))
    why = barred or foreign(ctx, pool, pool.group(action.group))
    if why:
        return "skipped", why
    if standing.mode is Mode.FLOOR and action.kind in _LOWERS:
        return "skipped", "; ".join(("mode floor never lowers", *standing.why))
    try:
        check_disruptions(ctx, pool, action, observation)
        if action.kind.raises:
            check_guards(ctx, pool, action, observation)
        elif action.kind in _LOWERS:
            _check_idle(ctx, pool, action)
    except GuardError as e:
        return GUARDED if action.kind.raises else "skipped", str(e)
    except NodeBusyError as e:
        return "skipped", str(e)
    return None


def _check_idle(ctx: Context, pool: Pool, action: Action) -> None:
    held = committed_by_node(ctx.ports.ledger.reservations(pool.name))
    busy = [n for n in action.node_ids if n in held]
    if busy:
        raise NodeBusyError(f"committed reservations name {', '.join(busy)}", where=pool.name)
    leave_first(ctx, pool, action.node_ids)


def _call(ctx: Context, pool: Pool, action: Action, preload: Preload) -> _Call:
    if action.kind is ActionKind.LAUNCH and action.standby_state is not Standby.RUNNING:
        return _fill(ctx, pool, action)
    if action.kind is ActionKind.LAUNCH:
        return _launch(ctx, pool, action, preload)
    provider = ctx.provider(pool.group(action.group).provider)
    ids = action.node_ids
    calls: Mapping[ActionKind, Callable[[], None]] = {
        ActionKind.START: lambda: provider.start(pool, ids, preload),
        ActionKind.HIBERNATE: lambda: provider.hibernate(pool, ids),
        ActionKind.STOP: lambda: provider.stop(pool, ids),
        ActionKind.DRAIN: lambda: provider.drain(pool, ids),
        ActionKind.TERMINATE: lambda: provider.terminate(pool, ids),
    }

    def make() -> tuple[str, ...]:
        calls[action.kind]()
        return ids

    return _Call(action, make)


def as_floor(ctx: Context, pool: Pool, plan: CapacityPlan, action: Action) -> _Call:
    """Where somebody else moves the count, a raise is the floor that they keep to, and nothing else."""
    group = pool.group(action.group)
    provider: object = ctx.provider(group.provider)
    floor = running_target(plan, group.name)
    names = " and ".join(writers(ctx, pool, group).names)

    def make() -> tuple[str, ...]:
        if isinstance(provider, SetsFloor):
            provider.set_floor(pool, group.name, floor)
        return ()

    return _Call(action, make, f"as a floor of {floor}: {names} writes the count too")


def keep_floors(
    ctx: Context, pool: Pool, plan: CapacityPlan, observation: PoolObservation, votes: Mapping[str, datetime]
) -> tuple[ActionRecord, ...]:
    """Bring floors down to what the plan wants, where somebody else moves the count; ends no node.

    Args:
        ctx: the context.
        pool: the pool.
        plan: as just made.
        observation: what it was made on.
        votes: node -> since when it is superfluous; after a while the floor no longer holds it.
    """
    if not may_act(ctx, pool):
        return ()
    out = []
    for group in pool.groups:
        names = writers(ctx, pool, group).names
        provider: object = ctx.providers.get(group.provider)
        if not names or foreign(ctx, pool, group) or not isinstance(provider, SetsFloor):
            continue
        now = ctx.clock.now()
        idle = {n for n, since in votes.items() if now - since >= _HOLDS}
        spare = sum(
            n.group == group.name and n.standby is Standby.RUNNING for n in observation.nodes if n.node_id in idle
        )
        floor = max(running_target(plan, group.name) - spare, 0)
        action = Action(
            stable_id(pool.name, "floor", group.name, now.isoformat()),
            ActionKind.HOLD,
            now,
            group.name,
            floor,
            f"a floor of {floor} is what the plan wants; {' and '.join(names)} writes the count too",
        )
        try:
            changed = provider.set_floor(pool, group.name, floor)
        except PoolError as e:
            out.append(_record(ctx, pool, plan.plan_id, action, "failed", f"{e.kind}: {e}"))
            continue
        if changed:
            out.append(_record(ctx, pool, plan.plan_id, action, "done", f"floor set to {floor}"))
    return tuple(out)


def running_target(plan: CapacityPlan, group: str) -> int:
    """Running nodes of a group that the plan wants now."""
    now = [t for t in plan.targets if t.standby_state is Standby.RUNNING and t.at <= plan.issued_at]
    return {t.group: t.count for t in now}.get(group, 0)


def _launch(ctx: Context, pool: Pool, action: Action, preload: Preload) -> _Call:
    group = pool.group(action.group)
    offering = next((o for o in group.offerings if o.key == action.offering), group.offerings[0])
    request = LaunchRequest(
        pool=pool,
        group=group.name,
        offering=offering,
        count=action.count,
        token=action.action_id,
        preload=preload,
        expires_at=ctx.clock.now() + timedelta(seconds=pool.lease_s),
    )
    return _Call(action, lambda: ctx.provider(group.provider).launch(request))


def _fill(ctx: Context, pool: Pool, action: Action) -> _Call:
    """Have the vendor keep so many more. Sent again it asks for no more, and it never asks for fewer than it did."""
    group, state = pool.group(action.group), action.standby_state
    provider: object = ctx.provider(group.provider)
    wanted = int(action.numbers.get("kept", 0)) + action.count

    def make() -> tuple[str, ...]:
        if isinstance(provider, SetsTargets):
            asked = provider.targets(pool, group.name).get(state, 0)
            provider.set_targets(pool, group.name, {state: max(wanted, asked)})
        return ()

    return _Call(action, make, f"the vendor of {group.name} keeps {wanted} {state}")


def _finish(ctx: Context, pool: Pool, plan_id: str, call: _Call) -> ActionRecord:
    try:
        ids = call.make()
    except NodeBusyError as e:
        return _record(ctx, pool, plan_id, call.action, "skipped", str(e))
    except UnfinishedError as e:  # it stays intended, and `recover` goes on with it
        return _record(ctx, pool, plan_id, call.action, "intended", str(e))
    except PoolError as e:
        if isinstance(e, InsufficientCapacityError):
            _remember_lack(ctx, pool, call.action)
        return _record(ctx, pool, plan_id, call.action, "failed", f"{e.kind}: {e}")
    if call.detail:
        return _record(ctx, pool, plan_id, call.action, "done", call.detail)
    short = call.action.count - len(ids) if call.action.kind is ActionKind.LAUNCH else 0
    if short > 0:
        _remember_lack(ctx, pool, call.action)
    return _record(ctx, pool, plan_id, call.action, "done", f"{short} fewer than asked" if short > 0 else "", ids)


def _remember_lack(ctx: Context, pool: Pool, action: Action) -> None:
    """The vendor had none (or fewer): the next plan looks elsewhere for a while."""
    group = pool.group(action.group)
    offering = next((o for o in group.offerings if o.key == action.offering), group.offerings[0])
    ctx.ports.leads.add(
        LeadObservation(
            at=ctx.clock.now(),
            pool=pool.name,
            provider=group.provider,
            group=group.name,
            zone=offering.zone,
            instance_type=offering.instance_type,
            image="",
            came_from=Standby.COLD,
            seconds=0.0,
            node_id=action.action_id,
            outcome="insufficient_capacity",
        )
    )
    for whose in ("", pool.name):
        ctx.memo.pop((whose, "leads"), None)


def _record(
    ctx: Context,
    pool: Pool,
    plan_id: str,
    action: Action,
    result: str,
    detail: str = "",
    node_ids: tuple[str, ...] = (),
    *,
    quiet: bool = False,
) -> ActionRecord:
    row = ActionRecord(
        action, pool.name, plan_id, ctx.actor, ctx.clock.now(), result, detail, node_ids or action.node_ids
    )
    ctx.ports.audit.record(row)
    if result == "failed" and action.kind is ActionKind.TERMINATE:
        log.error("a node could not be ended and is still paid for", pool=pool.name, nodes=row.node_ids, why=detail)
    elif not quiet:
        log.info(
            "action", pool=pool.name, kind=str(action.kind), count=action.count, result=result, reason=action.reason
        )
    return row
