"""Hard caps, looked at once more just before a raise: whatever the plan knew, this is what is so now."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from preprov.control.accounting import Cap, account_caps, fit, price_now
from preprov.control.context import Context
from preprov.control.lately import lately
from preprov.control.preflight import preflight_caps
from preprov.control.sharing import shared_rooms, spent_today
from preprov.model.errors import GuardError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Offering, Standby
from preprov.model.plans import Action, ActionKind
from preprov.model.pools import Pool
from preprov.planning.inputs import SharedRoom
from preprov.planning.room import nodes_left

_TRIED_AGAIN = timedelta(hours=1)
"""After a group made a node of a type that it does not name, one more is launched to see what it makes now."""


@dataclass(frozen=True)
class _Now:
    """What exists: observed nodes that did not fail, and those launched since by group, which no listing shows yet."""

    pool: Pool
    alive: Sequence[Node]
    unseen: dict[str, list[Offering]]

    def count(self, group: str | None = None) -> int:
        """Nodes of a group, or of all."""
        seen = sum(group in (None, n.group) for n in self.alive)
        return seen + sum(len(o) for g, o in self.unseen.items() if group in (None, g))

    def cpu(self, group: str) -> float:
        """Cores of a group's machines."""
        seen = sum(n.offering.capacity.cpu for n in self.alive if n.group == group)
        return seen + sum(o.capacity.cpu for o in self.unseen.get(group, ()))

    def usd_per_hour(self, ctx: Context) -> float:
        """What they cost; 0 for those of no known price."""
        at = ctx.clock.now()
        later = sum(price_now(ctx, o, at) for offerings in self.unseen.values() for o in offerings)
        return sum(_rate(ctx, n, at) for n in self.alive) + later


def check_guards(ctx: Context, pool: Pool, action: Action, observation: PoolObservation) -> None:
    """Refuse a raise that a guard, a group, or a limit across pools forbids.

    Raises:
        GuardError: naming the guard.
    """
    least = min(_caps(ctx, pool, action, observation), key=lambda c: c.most, default=None)
    if least is not None and action.count > least.most:
        raise GuardError(f"{least.says}, {action.count} more asked", where=pool.name)


def within_guards(ctx: Context, pool: Pool, action: Action, observation: PoolObservation) -> Action | None:
    """As much of a raise as the guards let through; None if nothing is. What is no raise goes as it is."""
    if not action.kind.raises:
        return action
    most = min((c.most for c in _caps(ctx, pool, action, observation)), default=action.count)
    if most >= action.count:
        return action
    return replace(action, count=most, node_ids=action.node_ids[:most]) if most > 0 else None


def _caps(ctx: Context, pool: Pool, action: Action, observation: PoolObservation) -> Iterator[Cap]:
    offering = _offering(pool, action.group, action.offering)
    rooms = shared_rooms(ctx, pool)
    now = _now(ctx, pool, observation)
    if action.kind is ActionKind.LAUNCH:
        yield from _counts(ctx, pool, action, now)
        yield from _named(pool, action, now, ctx.clock.now())
        yield from (c for room in rooms for c in _shared(action, now, room, offering))
    group = pool.group(action.group)
    left = lately(ctx, pool, observation).steps_left(group)
    raised = f"{group.max_step - left} were raised within the last minute"
    yield Cap(left, f"max_step {group.max_step} of {group.name}: {raised}")
    yield from _money(ctx, now, rooms, offering)
    yield from account_caps(ctx, pool, action, now.count(), lambda: now.usd_per_hour(ctx))
    yield from preflight_caps(ctx, pool, action)


def _offering(pool: Pool, group: str, key: str) -> Offering | None:
    return next((o for o in pool.group(group).offerings if o.key == key), None)


def _now(ctx: Context, pool: Pool, observation: PoolObservation) -> _Now:
    listed = {n.node_id for n in observation.nodes}
    unseen: dict[str, list[Offering]] = {}
    for r in ctx.ports.audit.records(pool.name, since=observation.at):
        offering = _offering(pool, r.action.group, r.action.offering)
        if r.result == "done" and r.action.kind is ActionKind.LAUNCH and offering is not None:
            unseen.setdefault(r.action.group, []).extend(offering for n in r.node_ids if n not in listed)
    return _Now(pool, [n for n in observation.nodes if n.phase is not Phase.FAILED], unseen)


def _counts(ctx: Context, pool: Pool, action: Action, now: _Now) -> Iterator[Cap]:
    guards, group = pool.guards, pool.group(action.group)
    there, here = now.count(), now.count(group.name)
    yield Cap(guards.max_nodes - there, f"max_nodes {guards.max_nodes}: {there} exist")
    yield Cap(group.max_nodes - here, f"max_nodes {group.max_nodes} of {group.name}: {here} exist")
    if guards.max_launches_per_minute is not None:
        since = ctx.clock.now() - timedelta(minutes=1)
        recent = sum(
            r.action.count
            for r in ctx.ports.audit.records(pool.name, since=since)
            if r.result == "done" and r.action.kind is ActionKind.LAUNCH
        )
        most = guards.max_launches_per_minute
        yield Cap(most - recent, f"max_launches_per_minute {most}: {recent} were launched")


def _named(pool: Pool, action: Action, now: _Now, at: datetime) -> Iterator[Cap]:
    """A node of a type that no offering names holds nothing: whatever is wanted, launching more would never end."""
    group = pool.group(action.group)
    named = {o.instance_type for o in group.offerings}
    strange = [n for n in now.alive if n.group == group.name and n.offering.instance_type not in named]
    if strange:
        last = max(strange, key=lambda n: n.created_at)
        yield Cap(
            int(at - last.created_at >= _TRIED_AGAIN),
            f"{group.name} makes {last.offering.instance_type or 'nodes of no type'}, which none of its offerings "
            f"names ({len(strange)} exist, nothing is counted on them): add a [[pool.group.offering]] of that type, "
            "or mend what the group launches",
        )


def _shared(action: Action, now: _Now, room: SharedRoom, offering: Offering | None) -> Iterator[Cap]:
    groups = [g for pool, g in room.limit.groups if pool == now.pool.name]
    if action.group not in groups:
        return
    nodes, cpu = sum(now.count(g) for g in groups), sum(now.cpu(g) for g in groups)
    left = nodes_left(room, nodes, cpu, offering.capacity.cpu if offering else 0.0)
    if left < math.inf:
        yield Cap(int(left), f"limit {room.limit.name} leaves {max(left, 0):g} nodes")


def _money(ctx: Context, now: _Now, rooms: Sequence[SharedRoom], offering: Offering | None) -> Iterator[Cap]:
    """A node counts for its running price, where that is known; of a day's budget, for what a raise is committed to."""
    at, pool, guards = ctx.clock.now(), now.pool, now.pool.guards
    shared = [r for r in rooms if r.limit.max_usd_per_day is not None and pool.name in r.limit.pools]
    if guards.max_usd_per_hour is None and guards.max_usd_per_day is None and not shared:
        return
    price, rate = price_now(ctx, offering, at), now.usd_per_hour(ctx)
    if guards.max_usd_per_hour is not None:
        yield Cap(
            fit(guards.max_usd_per_hour - rate, price), f"max_usd_per_hour {guards.max_usd_per_hour}: now {rate:.2f}"
        )
    hours = max(pool.lease_s, offering.minimum_billing_s if offering else 0.0) / 3600.0
    budgets: list[tuple[str, float, float, float]] = []
    if guards.max_usd_per_day is not None:
        budgets.append(("max_usd_per_day", guards.max_usd_per_day, 0.0, 0.0))
    for room in shared:
        others, name = room.outside(), f"max_usd_per_day of {room.limit.name}"
        budgets.append((name, room.limit.max_usd_per_day or 0.0, others.spent_today_usd, others.usd_per_hour))
    spent = spent_today(ctx, pool, at) if budgets else 0.0
    for name, cap, elsewhere, their_rate in budgets:
        left = cap - spent - elsewhere - (rate + their_rate) * hours
        yield Cap(fit(left, price * hours), f"{name} {cap}: {spent + elsewhere:.2f} USD are spent")


def _rate(ctx: Context, node: Node, at: datetime) -> float:
    """USD per hour of a node in the state it is in; 0 where no price is known."""
    if node.standby is Standby.RUNNING:
        return price_now(ctx, node.offering, at)
    return ctx.prices.standby_usd_per_hour(node.offering, node.standby, at) or 0.0
