"""Hard caps, looked at once more just before a raise: whatever the plan knew, this is what is so now."""

from datetime import datetime, timedelta

from preprov.control.context import Context
from preprov.control.sharing import shared_rooms, spent_today
from preprov.model.errors import GuardError
from preprov.model.plans import Action, ActionKind
from preprov.model.pools import Node, Offering, Phase, Pool, PoolObservation, Standby
from preprov.planning.inputs import SharedRoom
from preprov.planning.room import nodes_left


def check_guards(ctx: Context, pool: Pool, action: Action, observation: PoolObservation) -> None:
    """Refuse a raise that a guard, a group, or a limit across pools forbids.

    Raises:
        GuardError: naming the guard.
    """
    alive = [n for n in observation.nodes if n.phase is not Phase.FAILED]
    offering = next((o for o in pool.group(action.group).offerings if o.key == action.offering), None)
    rooms = shared_rooms(ctx, pool)
    if action.kind is ActionKind.LAUNCH:
        _check_counts(ctx, pool, action, alive)
        for room in rooms:
            _check_shared(pool, action, alive, room, offering)
    _check_money(ctx, pool, action, alive, rooms, offering)


def _check_counts(ctx: Context, pool: Pool, action: Action, alive: list[Node]) -> None:
    guards, group = pool.guards, pool.group(action.group)
    if len(alive) + action.count > guards.max_nodes:
        raise GuardError(
            f"max_nodes {guards.max_nodes}: {len(alive)} exist, {action.count} more asked", where=pool.name
        )
    there = sum(n.group == group.name for n in alive)
    if there + action.count > group.max_nodes:
        raise GuardError(
            f"max_nodes {group.max_nodes} of {group.name}: {there} exist, {action.count} more asked", where=pool.name
        )
    if guards.max_launches_per_minute is not None:
        since = ctx.clock.now() - timedelta(minutes=1)
        recent = sum(
            r.action.count
            for r in ctx.ports.audit.records(pool.name, since=since)
            if r.result == "done" and r.action.kind is ActionKind.LAUNCH
        )
        if recent + action.count > guards.max_launches_per_minute:
            raise GuardError(f"max_launches_per_minute {guards.max_launches_per_minute} reached", where=pool.name)


def _check_shared(pool: Pool, action: Action, alive: list[Node], room: SharedRoom, offering: Offering | None) -> None:
    if (pool.name, action.group) not in room.limit.groups:
        return
    mine = [n for n in alive if (pool.name, n.group) in room.limit.groups]
    cpu = sum(n.offering.capacity.cpu for n in mine)
    left = nodes_left(room, len(mine), cpu, offering.capacity.cpu if offering else 0.0)
    if action.count > left:
        raise GuardError(
            f"limit {room.limit.name} leaves {max(left, 0):g} nodes, {action.count} are asked", where=pool.name
        )


def _check_money(
    ctx: Context,
    pool: Pool,
    action: Action,
    alive: list[Node],
    rooms: tuple[SharedRoom, ...],
    offering: Offering | None,
) -> None:
    now, guards = ctx.clock.now(), pool.guards
    price = ((ctx.prices.usd_per_hour(offering, now) if offering else None) or 0.0) * action.count
    rate = sum(_rate(ctx, n, now) for n in alive)
    if guards.max_usd_per_hour is not None and rate + price > guards.max_usd_per_hour:
        raise GuardError(f"max_usd_per_hour {guards.max_usd_per_hour}: now {rate:.2f}", where=pool.name)
    minimum_s = offering.minimum_billing_s if offering else 0.0
    hours = max(pool.lease_s, minimum_s) / 3600.0
    budgets = [("max_usd_per_day", guards.max_usd_per_day, 0.0, 0.0)] if guards.max_usd_per_day is not None else []
    for room in rooms:
        if room.limit.max_usd_per_day is not None and pool.name in room.limit.pools:
            others = room.outside()
            name = f"max_usd_per_day of {room.limit.name}"
            budgets.append((name, room.limit.max_usd_per_day, others.spent_today_usd, others.usd_per_hour))
    spent = spent_today(ctx, pool, now) if budgets else 0.0
    for name, cap, elsewhere, their_rate in budgets:
        if spent + elsewhere + (rate + their_rate + price) * hours > cap + 1e-9:
            raise GuardError(f"{name} {cap}: {spent + elsewhere:.2f} USD are spent", where=pool.name)


def _rate(ctx: Context, node: Node, now: datetime) -> float:
    """USD per hour of a node in the state it is in; 0 where no price is known."""
    if node.standby is Standby.RUNNING:
        return ctx.prices.usd_per_hour(node.offering, now) or 0.0
    return ctx.prices.standby_usd_per_hour(node.offering, node.standby, now) or 0.0
