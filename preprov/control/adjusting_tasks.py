"""What running tasks may use is made to follow what they use: read, judged, agreed with the ledger, enforced, recorded.

The ledger is raised before the task, and lowered after it, so that a crash in between leaves no node overbooked. It is
done before ready tasks are placed: what one task gives up another gets in the same round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import inf
from statistics import fmean
from typing import Final

from preprov.contracts import ResourceAdjuster, TaskReport
from preprov.control.adjusted import SAME, Kept, Running, attempted, like, record
from preprov.control.allocating.tasks import LEASE_S, Tasks
from preprov.control.context import Context
from preprov.control.lifecycle import Live
from preprov.control.moving import claim_elsewhere, moving_to, where_to
from preprov.control.observing import observe, of_tasks
from preprov.control.outlooks import curves_of, is_worth_another_look, outlook
from preprov.control.trust import ACTS, in_force
from preprov.control.underway import booked, settled
from preprov.model.adjusting import Adjusting
from preprov.model.errors import NotFoundError, PoolError, RefusedError, ReservationError
from preprov.model.nodes import Phase, PoolObservation
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Mode, Pool
from preprov.model.reservations import Reservation, ReservationState
from preprov.model.resources import ZERO, Resources
from preprov.model.time import epoch
from preprov.planning.adjustment import ADJUSTED, Change, Course, Granted, Reading, Wish, changed, grant, look
from preprov.planning.held import held_by_tenant, taken_by_node

_RENEW_S: Final = 30.0
_THROTTLED: Final = 0.05
"""A task that is held back for this share of the time, or more, wants more cores than it has."""
_NEARLY: Final = 0.9
"""Of its time limit: one that has run for so long gets more time."""
_LONGER: Final = 1.5


def adjust_tasks(
    ctx: Context, pool: Pool, live: Live, observation: PoolObservation, reports: Sequence[TaskReport], now: datetime
) -> tuple[ActionRecord, ...]:
    """One look at every running task; returns what was changed, and what could not be.

    Args:
        ctx: the context. pool: the pool.
        live: live work. observation: what exists. reports: what its schedulers just said.
        now: the present instant.
    """
    if pool.adjusting is None and not any(_limited(r) for r in reports):
        return ()
    if ctx.ports.intent.halted():
        return ()  # limits end with their leases
    reservations = ctx.ports.ledger.reservations(pool.name)
    running = _running(ctx, pool, live, observation, reports, reservations)
    manner = _manner(pool, in_force(ctx, pool))
    if manner is None:
        for r in running:
            if _limited(r.report) and (_asked_again(ctx, pool, r, now) or not r.adjuster.adjustable(r.node).lasts):
                _lift(r)
        return ()
    return _adjusted(ctx, pool, live, observation, running, reservations, manner, now)


def _adjusted(
    ctx: Context,
    pool: Pool,
    live: Live,
    observation: PoolObservation,
    running: Sequence[Running],
    reservations: Sequence[Reservation],
    manner: Adjusting,
    now: datetime,
) -> tuple[ActionRecord, ...]:
    out: list[ActionRecord] = []
    staying: dict[str, Running] = {}
    for r in running:
        if moving_to(r.task, r.claim, reservations):
            _checkpoint(r, manner)
        else:
            staying[r.name], rows = settled(ctx, pool, r, manner, now)
            out.extend(rows)
    wishes = [w for r in staying.values() if (w := _wish(ctx, pool, live, r, manner, now)) is not None]
    free = _free(pool, observation, ctx.ports.ledger.reservations(pool.name) if out else reservations)
    for granted in grant(wishes, free):
        out.extend(_carry_out(ctx, pool, observation, free, staying[granted.wish.claimant], granted, manner, now))
    done = {row.action.task for row in out}
    for name, r in staying.items():
        if name not in done:
            _keep_up(r, now)
        out.extend(_extended(ctx, pool, r, manner, now))
    return tuple(out)


def _asked_again(ctx: Context, pool: Pool, r: Running, now: datetime) -> bool:
    """Whether the ledger has what it asked for again; else it waits for the room, where limits do not end anyhow."""
    wanted = r.claim.most.maximum(r.task.spec.request)
    return booked(ctx, pool, r, wanted, now).claim.most == wanted


def _limited(report: TaskReport) -> bool:
    """Whether it has limits of ours that may be less than it would have without us."""
    bounds = report.bounds
    return bounds is not None and bool(bounds.cpu or bounds.memory) and not bounds.free


def give_back(ctx: Context, pool: Pool) -> None:
    """Lift the limits of everything that runs: tasks are as they would be without us."""
    nodes = {n.node_id: n for n in observe(ctx, pool).nodes}
    for claim in of_tasks(ctx.ports.ledger.reservations(pool.name)):
        node = nodes.get(claim.node_id or "")
        adjuster: object = ctx.schedulers.get(pool.group(node.group).provider) if node is not None else None
        if node is not None and isinstance(adjuster, ResourceAdjuster):
            attempted(claim.claimant, node, partial(adjuster.lift, claim.claimant, node))


def _manner(pool: Pool, mode: Mode) -> Adjusting | None:
    """How far the mode lets it go: where things may only be raised, nothing is lowered, and no task is ended."""
    if pool.adjusting is None or mode not in ACTS:
        return None
    return pool.adjusting if mode is Mode.FULL else replace(pool.adjusting, decrease=False, move=False)


def _running(
    ctx: Context,
    pool: Pool,
    live: Live,
    observation: PoolObservation,
    reports: Sequence[TaskReport],
    reservations: Sequence[Reservation],
) -> list[Running]:
    tasks = live.by_claimant()
    nodes = {n.node_id: n for n in observation.in_phase(Phase.READY, Phase.DRAINING)}
    claims = {r.claimant: r for r in of_tasks(reservations) if r.state is ReservationState.COMMITTED}
    before = _remembered(ctx, pool)
    out: list[Running] = []
    for report in reports:
        task, claim, node = tasks.get(report.claimant), claims.get(report.claimant), nodes.get(report.node_id)
        if report.ended_at is not None or task is None or claim is None or node is None:
            continue
        adjuster: object = ctx.schedulers.get(pool.group(node.group).provider)
        if isinstance(adjuster, ResourceAdjuster) and claim.node_id == node.node_id:
            kept = before.get(report.claimant) or Kept()
            out.append(Running(task, claim, report, node, adjuster, kept))
    ctx.memo[(pool.name, "adjusting")] = (observation.at, {r.name: r.kept for r in out})
    return out


def _remembered(ctx: Context, pool: Pool) -> Mapping[str, Kept]:
    held = ctx.memo.get((pool.name, "adjusting"))
    return held[1] if held else {}  # type: ignore[return-value]


# ---- read and judge


def _wish(ctx: Context, pool: Pool, live: Live, r: Running, manner: Adjusting, now: datetime) -> Wish | None:
    can = r.report.bounds.can if r.report.bounds else ()
    reading = _reading(r, now)
    if not can or not reading.use or r.kept.given_up:
        return None
    elapsed, machine = (now - r.report.started_at).total_seconds(), r.node.offering.instance_type
    if r.kept.curves is None:
        r.kept.curves = curves_of(ctx, pool, live.runs[r.task.run_id], r.task, machine=machine)
    elif not r.kept.looked_again and is_worth_another_look(ctx, pool, r.kept.curves, elapsed):
        later = curves_of(ctx, pool, live.runs[r.task.run_id], r.task, elapsed, reading.use, machine)
        r.kept.curves, r.kept.looked_again = (later, True) if later is not None else (r.kept.curves, False)
    outlooks = {k: outlook(c, elapsed, manner.ahead_s) for k, c in (r.kept.curves or {}).items()}
    allocated = r.claim.most
    r.kept.track, changes = look(r.kept.track, reading, allocated, r.task.spec.request, outlooks, manner)
    if r.adjuster.adjustable(r.node).booked:
        changes = _down_to(r.task.spec.request, allocated, changes)
    changes = tuple(c for c in changes if c.resource in can and _possible(r, c))
    return Wish(r.name, r.node.node_id, allocated, changes) if changes else None


def _down_to(request: Resources, allocated: Resources, changes: Sequence[Change]) -> tuple[Change, ...]:
    """Nobody else gets what it asked for, so nothing of that is taken."""
    floored = (
        c if c.course is Course.INCREASE else replace(c, amount=max(c.amount, getattr(request, c.resource)))
        for c in changes
    )
    return tuple(c for c in floored if c.course is Course.INCREASE or c.amount < getattr(allocated, c.resource))


def _possible(r: Running, change: Change) -> bool:
    """Not more than its node was found to have, and not less where that cannot be, or is being made just now."""
    if change.course is Course.INCREASE:
        return change.amount < r.kept.impossible.get(change.resource, inf) * (1 - SAME)
    return r.kept.lowering is None


def _reading(r: Running, now: datetime) -> Reading:
    """What it used since the last look: of cores the mean, for they can be waited for; of memory the most."""
    at, bounds, use = epoch(now), r.report.bounds, dict[str, float]()
    cpu = [u.cpu for u in r.report.usage if u.cpu is not None]
    if cpu:
        use["cpu"] = fmean(cpu)
    memory = [u.memory for u in r.report.usage if u.memory is not None]
    if bounds is not None and bounds.working_set is not None:
        use["memory"] = bounds.working_set
    elif memory:
        use["memory"] = max(memory)
    held = set()
    if bounds is not None:
        since = at - r.kept.read_at
        if r.kept.read_at and bounds.throttled_s - r.kept.throttled_s > _THROTTLED * since:
            held.add("cpu")
        if bounds.stalled:
            held.add("memory")
        r.kept.throttled_s = bounds.throttled_s
    r.kept.read_at = at
    return Reading(at, use, frozenset(held))


def _free(pool: Pool, observation: PoolObservation, reservations: Sequence[Reservation]) -> Mapping[str, Resources]:
    """Of each node, what nobody holds. What a tenant's quota leaves is looked at when a raise is made."""
    taken = taken_by_node(observation, reservations)
    return {
        n.node_id: pool.claimable(n.offering).minus_clamped(taken.get(n.node_id, ZERO))
        for n in observation.in_phase(Phase.READY, Phase.DRAINING)
    }


# ---- do


def _carry_out(
    ctx: Context,
    pool: Pool,
    observation: PoolObservation,
    free: Mapping[str, Resources],
    r: Running,
    granted: Granted,
    manner: Adjusting,
    now: datetime,
) -> list[ActionRecord]:
    if granted.short and manner.increase:
        wanted = replace(granted.amount, memory=max(c.amount for c in granted.wish.changes if c.urgent))
        stalled = r.report.bounds is not None and r.report.bounds.stalled
        place = where_to(pool, observation, free, r.task, wanted, r.node, stalled=stalled)
        if place and manner.move and r.adjuster.adjustable(r.node).checkpoint:
            claim_elsewhere(ctx, pool, r.task, r.claim, wanted, now)
            _checkpoint(r, manner)
            why = f"{_said(granted.wish, granted.wish.changes)}; its node has no room: {place}"
            return [record(ctx, pool, r, ActionKind.MOVE, why, now, "done", "", wanted)]
        if stalled and not any(c.resource == "memory" for c in granted.changes):
            return _give_up(ctx, pool, r, granted, now)
    if not granted.changes or not _within_quota(ctx, pool, r, granted, now):
        return []
    result, detail, amount = _resize(ctx, pool, r, granted.amount, now)
    if result == "done":
        r.kept.track = changed(r.kept.track, granted.changes, epoch(now), manner)
        r.kept.renewed_at = epoch(now)
    said = _said(granted.wish, granted.changes)
    return [record(ctx, pool, r, ActionKind.RESIZE, said, now, result, detail, amount)]


def _give_up(ctx: Context, pool: Pool, r: Running, granted: Granted, now: datetime) -> list[ActionRecord]:
    """It waits for memory that is nowhere to be had: what its node as a whole can give decides, as without us."""
    if r.kept.given_up:
        return []
    r.kept.given_up = True
    _lift(r)
    why = f"{_said(granted.wish, granted.wish.changes)}; no node has room for it: its limits are lifted"
    return [record(ctx, pool, r, ActionKind.RESIZE, why, now, "done", "", granted.wish.allocated)]


def _within_quota(ctx: Context, pool: Pool, r: Running, granted: Granted, now: datetime) -> bool:
    """True unless its tenant would then hold more than it may; what lowers is always right."""
    tenant = ctx.tenants.get(r.task.tenant)
    if tenant is None or not any(c.course is Course.INCREASE for c in granted.changes):
        return True
    held = held_by_tenant(ctx.ports.ledger.reservations(pool.name), now).get(r.task.tenant, ZERO)
    after = held.minus_clamped(granted.wish.allocated) + granted.amount
    return all(getattr(after, k) <= limit for k, limit in tenant.quota.items())


def _resize(ctx: Context, pool: Pool, r: Running, amount: Resources, now: datetime) -> tuple[str, str, Resources]:
    """(result, detail, what the task has then)."""
    try:
        after = Tasks(ctx).resize(pool, r.claim, r.node, amount.as_dict()).most
    except PoolError as e:
        r.kept.track = replace(r.kept.track, changed_at=epoch(now))  # not at once again
        r.kept.given_up = isinstance(e, RefusedError)
        return ("skipped" if isinstance(e, NotFoundError) else "failed"), str(e), r.claim.most
    except ReservationError as e:
        return "skipped", str(e), r.claim.most
    later = any(getattr(after, k) > getattr(amount, k) * (1 + SAME) for k in ADJUSTED)
    r.kept.lowering = amount if later else None
    return "done", "not all of what is less is given up yet" if later else "", after


def _keep_up(r: Running, now: datetime) -> None:
    """Have in force what the ledger says, and say it again before its lease ends."""
    bounds, allocated = r.report.bounds, r.claim.most
    if bounds is None or not bounds.can or r.kept.given_up or bounds.underway is not None:
        return
    same = all(like(getattr(bounds, k), getattr(allocated, k)) for k in ADJUSTED if k in bounds.can)
    last = r.kept.renewed_at
    if same and (r.adjuster.adjustable(r.node).lasts or (last is not None and epoch(now) - last < _RENEW_S)):
        return
    if attempted(r.name, r.node, partial(r.adjuster.resize, r.name, r.node, allocated, LEASE_S)):
        r.kept.renewed_at = epoch(now)


def _extended(ctx: Context, pool: Pool, r: Running, manner: Adjusting, now: datetime) -> list[ActionRecord]:
    """More time for one that is about to be ended for its time limit, where that can be had."""
    limit = r.report.bounds.time_limit_s if r.report.bounds else None
    if limit is None or not manner.increase or r.kept.given_up or not r.adjuster.adjustable(r.node).time_limit:
        return []
    r.kept.first_limit_s = r.kept.first_limit_s or limit
    elapsed, longer = (
        (now - r.report.started_at).total_seconds(),
        min(limit * _LONGER, r.kept.first_limit_s * manner.most),
    )
    if elapsed < limit * _NEARLY or longer <= limit:
        return []
    result, detail = "done", ""
    try:
        r.adjuster.extend(r.name, r.node, longer)
    except PoolError as e:
        result, detail = "failed", str(e)
        r.kept.given_up = not e.retryable
    why = f"time limit {limit / 60:.0f} -> {longer / 60:.0f} min: it has run for {elapsed / 60:.0f}"
    return [record(ctx, pool, r, ActionKind.RESIZE, why, now, result, detail, r.claim.most)]


def _lift(r: Running) -> None:
    attempted(r.name, r.node, partial(r.adjuster.lift, r.name, r.node))


def _checkpoint(r: Running, manner: Adjusting) -> None:
    attempted(r.name, r.node, partial(r.adjuster.checkpoint, r.name, r.node, manner.signal, manner.grace_s))


# ---- record


def _said(wish: Wish, changes: Sequence[Change]) -> str:
    """`cpu 1 -> 2 cores: 0.98 cores in use, and it is held back; memory ...`."""
    units = {"cpu": "cores", "memory": "GiB"}
    told = (
        f"{c.resource} {getattr(wish.allocated, c.resource):.3g} -> {c.amount:.3g} {units[c.resource]}: {c.why}"
        for c in changes
    )
    return "; ".join(told)
