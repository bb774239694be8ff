"""Pools that share a quota or a budget: what the others have of it, and one plan for all of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from preprov.contracts import PoolSnapshot
from preprov.control.context import Context
from preprov.control.observing import observe, snapshot, spent_usd
from preprov.control.planning_facts import hold_optimum
from preprov.model.errors import LeaseHeldError
from preprov.model.limits import SharedLimit
from preprov.model.plans import ActionKind
from preprov.model.pools import Pool
from preprov.model.resources import ZERO
from preprov.planning.inputs import PlanInputs, SharedRoom, Use
from preprov.planning.plan import has_moved, optimise_together

log = structlog.get_logger(__name__)

MOST_TOGETHER: Final = 24
"""More pools than this are not solved in one programme; each then takes the others as they are."""
_SEEN_LATELY: Final = timedelta(minutes=15)
_LEASE_S: Final = 60.0
_PATIENCE_S: Final = 20.0


def limits_of(ctx: Context, pool: Pool) -> tuple[SharedLimit, ...]:
    """The limits that bind this pool."""
    return tuple(limit for limit in ctx.limits if pool.name in limit.members)


def family(ctx: Context, pool: Pool) -> tuple[str, ...]:
    """Names of the pools that limits tie to this one, directly or through others; itself first."""
    found, todo = {pool.name: None}, [pool.name]
    while todo:
        name = todo.pop()
        for limit in ctx.limits:
            if name in limit.members:
                new = [m for m in sorted(limit.members) if m not in found and m in ctx.pools]
                found.update(dict.fromkeys(new))
                todo.extend(new)
    return tuple(found)


@contextmanager
def limits_held(ctx: Context, pool: Pool) -> Iterator[None]:
    """Inside, nobody else raises within the limits that this pool shares, those of the whole account among them.

    Raises:
        LeaseHeldError: another process held one of them for too long.
    """
    names = [f"limit {limit.name}" for limit in limits_of(ctx, pool)] + (["account"] if ctx.account else [])
    if not names:
        yield
        return
    import stamina

    ttl_s = _LEASE_S * float(getattr(ctx.clock, "speed", 1.0))
    again = stamina.RetryingCaller(timeout=_PATIENCE_S, attempts=None, wait_initial=0.1, wait_max=1.0)
    with ExitStack() as stack:
        for name in sorted(names):
            again(LeaseHeldError, _enter, stack, ctx, name, ttl_s)
        yield


def _enter(stack: ExitStack, ctx: Context, name: str, ttl_s: float) -> None:
    stack.enter_context(ctx.ports.leases.hold(name, ctx.holder, ttl_s, ctx.clock.now()))


def shared_rooms(ctx: Context, pool: Pool) -> tuple[SharedRoom, ...]:
    """The limits of this pool with what each other pool has of them now."""
    limits = limits_of(ctx, pool)
    others = {m for limit in limits for m in limit.members if m != pool.name and m in ctx.pools}
    seen = {name: last_seen(ctx, ctx.pools[name]) for name in sorted(others)}
    return tuple(
        SharedRoom(limit, {m: _use(ctx, ctx.pools[m], limit, seen[m]) for m in sorted(limit.members & others)})
        for limit in limits
    )


def used_by(ctx: Context, pool: Pool, limit: SharedLimit) -> Use:
    """What a pool has of a limit now."""
    return _use(ctx, pool, limit, last_seen(ctx, pool))


def last_seen(ctx: Context, pool: Pool) -> PoolSnapshot:
    """As its last pass saw it; asked of its cloud if there was none lately."""
    now = ctx.clock.now()
    rows = ctx.ports.history.snapshots(pool.name, since=now - _SEEN_LATELY, until=now)
    if rows:
        return rows[-1]
    return snapshot(ctx, pool, observe(ctx, pool), (), target=0, waiting=ZERO)


def _use(ctx: Context, pool: Pool, limit: SharedLimit, seen: PoolSnapshot) -> Use:
    """Of a limit, what was seen and what was launched since; a group of several types is taken to be of the largest."""
    now = ctx.clock.now()
    counts = {g: sum(phases.values()) for g, phases in seen.nodes.items()}
    rate = seen.usd_per_hour or 0.0
    for r in ctx.ports.audit.records(pool.name, since=seen.at):
        if r.result == "done" and r.action.kind is ActionKind.LAUNCH:
            counts[r.action.group] = counts.get(r.action.group, 0) + r.action.count
            offering = next((o for o in pool.group(r.action.group).offerings if o.key == r.action.offering), None)
            rate += r.action.count * ((ctx.prices.usd_per_hour(offering, now) if offering else None) or 0.0)
    nodes = {g.name: counts.get(g.name, 0) for g in pool.groups if (pool.name, g.name) in limit.groups}
    cores = {g.name: max(o.capacity.cpu for o in g.offerings) for g in pool.groups}
    paid = pool.name in limit.pools and limit.max_usd_per_day is not None
    return Use(
        sum(nodes.values()),
        sum(n * cores[g] for g, n in nodes.items()),
        spent_today(ctx, pool, now) if paid else 0.0,
        rate if paid else 0.0,
    )


def spent_today(ctx: Context, pool: Pool, now: datetime) -> float:
    """USD since midnight in the pool's zone."""
    midnight = now.astimezone(ZoneInfo(pool.zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    return spent_usd(ctx, pool, midnight, now)


def counts_money(ctx: Context, pool: Pool) -> bool:
    """True if what was spent today matters to a plan."""
    shared = any(limit.max_usd_per_day is not None and pool.name in limit.pools for limit in ctx.limits)
    return shared or pool.guards.max_usd_per_day is not None


def jointly(ctx: Context, pool: Pool, inputs: PlanInputs, of: Callable[[Pool], PlanInputs]) -> PlanInputs:
    """The inputs with an optimum that was found for all pools tied to this one, if it has to be found anew.

    Each pool's optimum is held until its own inputs move; then all are found again together, under what they share.

    Args:
        of: makes the inputs of another pool.
    """
    names = family(ctx, pool)
    if len(names) < 2 or len(names) > MOST_TOGETHER:
        return inputs
    why = has_moved(inputs)
    if not why:
        return inputs
    others = [ctx.pools[name] for name in names[1:]]
    together = [inputs, *(of(p) for p in others)]
    found = optimise_together(together)
    if isinstance(found, str):
        log.warning("not planned together", pool=pool.name, why=found)
        return replace(inputs, held=None)
    now = ctx.clock.now()
    for p, optimum in zip(others, found[1:], strict=True):
        hold_optimum(ctx, p, optimum, now)
    return replace(inputs, found=(found[0], why))
