"""The whole account: what all pools have and spend together, looked at just before each raise."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from preprov.control.context import Context
from preprov.control.sharing import last_seen, spent_today
from preprov.model.limits import Account
from preprov.model.offerings import Offering
from preprov.model.plans import Action, ActionKind, ActionRecord
from preprov.model.pools import Pool

_EPS = 1e-9


@dataclass(frozen=True)
class Cap:
    """How many nodes of a raise a guard lets through, and what it says to the rest."""

    most: int
    says: str


def account_caps(ctx: Context, pool: Pool, action: Action, nodes: int, rate: Callable[[], float]) -> Iterator[Cap]:
    """What the limits of the account let through of a raise, all pools taken together.

    Args:
        ctx: the context.
        pool: whose raise it is.
        action: the raise.
        nodes: of this pool, as they are now.
        rate: USD per hour of them; asked only where money is limited.
    """
    account = ctx.account
    if account is None:
        return
    others = [p for p in ctx.pools.values() if p.name != pool.name]
    if action.kind is ActionKind.LAUNCH:
        yield from _counts(ctx, account, others, nodes)
    if account.max_usd_per_hour is not None or account.max_usd_per_day is not None:
        yield from _money(ctx, account, pool, action, rate() + sum(_rate(ctx, p) for p in others))


def _counts(ctx: Context, account: Account, others: list[Pool], nodes: int) -> Iterator[Cap]:
    if account.max_launches_per_minute is not None:
        since = ctx.clock.now() - timedelta(minutes=1)
        recent = sum(r.action.count for p in ctx.pools.values() for r in _launched(ctx, p, since))
        most = account.max_launches_per_minute
        yield Cap(most - recent, f"max_launches_per_minute {most} of the account: {recent} were launched")
    if account.max_nodes is not None:
        there = nodes + sum(_nodes(ctx, p) for p in others)
        yield Cap(account.max_nodes - there, f"max_nodes {account.max_nodes} of the account: {there} exist")


def _money(ctx: Context, account: Account, pool: Pool, action: Action, rate: float) -> Iterator[Cap]:
    at = ctx.clock.now()
    offering = next((o for o in pool.group(action.group).offerings if o.key == action.offering), None)
    price = price_now(ctx, offering, at)
    if account.max_usd_per_hour is not None:
        most = account.max_usd_per_hour
        yield Cap(fit(most - rate, price), f"max_usd_per_hour {most:g} of the account: now {rate:.2f}")
    if account.max_usd_per_day is not None:
        hours = max(pool.lease_s, offering.minimum_billing_s if offering else 0.0) / 3600.0
        spent = sum(spent_today(ctx, p, at) for p in ctx.pools.values())
        left = account.max_usd_per_day - spent - rate * hours
        says = f"max_usd_per_day {account.max_usd_per_day:g} of the account: {spent:.2f} USD are spent"
        yield Cap(fit(left, price * hours), says)


def fit(money: float, price: float) -> int:
    """How many nodes of a price can be had for so much money; no limit where no price is known."""
    return 10**9 if price <= 0 else max(math.floor(money / price + _EPS), 0)


def price_now(ctx: Context, offering: Offering | None, at: datetime) -> float:
    """USD per hour of a running node; 0 where no price is known."""
    return (ctx.prices.usd_per_hour(offering, at) if offering else None) or 0.0


def _launched(ctx: Context, pool: Pool, since: datetime) -> Iterator[ActionRecord]:
    """Launches that were made since then."""
    for r in ctx.ports.audit.records(pool.name, since=since):
        if r.result == "done" and r.action.kind is ActionKind.LAUNCH:
            yield r


def _nodes(ctx: Context, pool: Pool) -> int:
    """Nodes of a pool as its last pass saw it, and what was launched since."""
    seen = last_seen(ctx, pool)
    there = sum(n for phases in seen.nodes.values() for n in phases.values())
    return there + sum(len(r.node_ids) for r in _launched(ctx, pool, seen.at))


def _rate(ctx: Context, pool: Pool) -> float:
    """USD per hour likewise; 0 where no price is known."""
    seen, at = last_seen(ctx, pool), ctx.clock.now()
    later = 0.0
    for r in _launched(ctx, pool, seen.at):
        offering = next((o for o in pool.group(r.action.group).offerings if o.key == r.action.offering), None)
        later += len(r.node_ids) * price_now(ctx, offering, at)
    return (seen.usd_per_hour or 0.0) + later
