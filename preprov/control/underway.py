"""What became of a change that was asked of a task where its node makes it later: made, put off, or not to be had.

What is to be less stays in the ledger until it is less; what is to be more is in it from the beginning. So nothing is
given to another that a task still has, and nothing comes into force that nobody reckons with.
"""

from dataclasses import replace
from datetime import datetime
from functools import partial

from preprov.control.adjusted import SAME, Running, attempted, like, record
from preprov.control.allocating.tasks import LEASE_S
from preprov.control.context import Context
from preprov.model.adjusting import Adjusting
from preprov.model.agent import Bounds, Underway
from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Pool
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.planning.adjustment import ADJUSTED, Change, Course, changed


def settled(
    ctx: Context, pool: Pool, r: Running, manner: Adjusting, now: datetime
) -> tuple[Running, list[ActionRecord]]:
    """The task as the ledger has it now, and what is to be said of what was asked of it."""
    bounds = r.report.bounds
    if bounds is None:
        return r, []
    asked = bounds.underway
    if asked is None:
        return _arrived(ctx, pool, r, bounds, now)
    news = replace(asked, why="")  # the words may change with every look
    if not asked.why or news == r.kept.told:
        return r, []
    r.kept.told = news
    if asked.stands:
        why = f"{_said(bounds, asked)}: put off by its node, which gives it as soon as it has the room"
        return r, [record(ctx, pool, r, ActionKind.RESIZE, why, now, "skipped", asked.why, r.claim.most)]
    return _taken_back(ctx, pool, r, bounds, asked, manner, now)


def _arrived(ctx: Context, pool: Pool, r: Running, bounds: Bounds, now: datetime) -> tuple[Running, list[ActionRecord]]:
    """All that was asked for is in force: what a task has less of is free for others."""
    wanted, had = r.kept.lowering, r.claim.most
    r.kept.lowering = r.kept.told = None
    if wanted is None or not all(like(getattr(bounds, k), getattr(wanted, k)) for k in ADJUSTED if k in bounds.can):
        return r, []
    after = booked(ctx, pool, r, had.minimum(wanted), now)
    if after.claim.most == had:
        return r, []
    less = (k for k in ADJUSTED if getattr(wanted, k) < getattr(had, k) * (1 - SAME))
    told = ", ".join(f"{k} {getattr(had, k):.3g} -> {getattr(wanted, k):.3g}" for k in less)
    row = record(ctx, pool, r, ActionKind.RESIZE, f"{told}: its node has taken it", now, "done", "", after.claim.most)
    return after, [row]


def _taken_back(
    ctx: Context, pool: Pool, r: Running, bounds: Bounds, asked: Underway, manner: Adjusting, now: datetime
) -> tuple[Running, list[ActionRecord]]:
    """It will not be made: the task keeps what it has, and as much is not asked for again."""
    has = _amounts(bounds, r.claim.most)
    more = {k: v for k in ADJUSTED if (v := getattr(asked, k)) is not None and v > getattr(has, k) * (1 + SAME)}
    less = [k for k in ADJUSTED if (v := getattr(asked, k)) is not None and v < getattr(has, k) * (1 - SAME)]
    r.kept.impossible.update({k: min(v, r.kept.impossible.get(k, v)) for k, v in more.items()})
    attempted(r.name, r.node, partial(r.adjuster.resize, r.name, r.node, has, LEASE_S))
    regretted = tuple(Change(k, Course.INCREASE, getattr(has, k)) for k in less)
    r.kept.track = changed(r.kept.track, regretted, epoch(now), manner)
    r.kept.lowering = None
    after = booked(ctx, pool, r, has, now)
    why = f"{_said(bounds, asked)}: not to be had on its node; it keeps what it has"
    return after, [record(ctx, pool, r, ActionKind.RESIZE, why, now, "failed", asked.why, after.claim.most)]


def booked(ctx: Context, pool: Pool, r: Running, amount: Resources, now: datetime) -> Running:
    """With so much in the ledger; as it was where that has no room for it, or is no claim any more."""
    room = pool.claimable(r.node.offering)
    try:
        return replace(r, claim=ctx.ports.ledger.resize(r.claim.reservation_id, amount, room, now))
    except (OverbookedError, ReservationError):
        return r


def _amounts(bounds: Bounds, claimed: Resources) -> Resources:
    """What is in force; of what nobody says, what is claimed."""
    told = {k: v for k in ADJUSTED if (v := getattr(bounds, k)) is not None}
    return Resources.of({**claimed.as_dict(), **told})


def _said(bounds: Bounds, asked: Underway) -> str:
    units = {"cpu": "cores", "memory": "GiB"}
    pairs = ((k, getattr(bounds, k), getattr(asked, k)) for k in ADJUSTED)
    told = (f"{k} {now:.3g} -> {then:.3g} {units[k]}" for k, now, then in pairs
            if now is not None and then is not None and abs(then - now) > SAME * now)  # fmt: skip
    return ", ".join(told)
