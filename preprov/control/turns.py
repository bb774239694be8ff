"""Turns of recurring windows on the books: made ahead of time, taken off again when their window is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from preprov.control.context import Context
from preprov.control.reserving import limits_of
from preprov.model.errors import ReservationError
from preprov.model.plans import stable_id
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, Segment
from preprov.model.windows import RecurringWindow, Turn

log = structlog.get_logger(__name__)

_AGAIN: Final = timedelta(minutes=5)
"""A turn that found no place on the books is tried again after this long."""


@dataclass(frozen=True)
class Hold:
    """When a turn's room is to be the tenant's.

    Attributes:
        alone_from: nobody else begins anything in it from then on. used_from: its start.
    """

    alone_from: datetime
    used_from: datetime


@dataclass(frozen=True)
class ComingTurn:
    """A turn and its window."""

    window: RecurringWindow
    turn: Turn

    @property
    def name(self) -> str:
        """The id of its reservation, another one if the window is changed."""
        w = self.window
        shape = (w.request.as_tuple(), w.count, w.lead_s, w.priority, self.turn.end.isoformat())
        return stable_id("window", w.pool, w.tenant, w.name, self.turn.start.isoformat(), *shape)

    @property
    def hold(self) -> Hold:
        """From when on it is held."""
        return Hold(self.turn.start - timedelta(seconds=self.window.held_s), self.turn.start)

    def reservations(self, now: datetime) -> tuple[Reservation, ...]:
        """One for each instance, warm from `lead_s` before the start."""
        w = self.window
        start = self.turn.start - timedelta(seconds=w.lead_s)
        first = Reservation(
            reservation_id=self.name,
            pool=w.pool,
            claimant=f"{w.name}@{self.turn.start:%Y-%m-%dT%H:%MZ}",
            segments=(Segment(start, self.turn.end, w.request),),
            tenant=w.tenant,
            priority=w.priority,
            expires_at=self.turn.end,
            created_at=now,
            reason=w.reason,
            purpose=Purpose.WINDOW,
            covers=f"tenant:{w.tenant}",
        )
        if w.count == 1:
            return (first,)
        return tuple(
            replace(first, reservation_id=f"{self.name}.{i}", claimant=f"{first.claimant}[{i}]", gang=self.name)
            for i in range(w.count)
        )


def coming_turns(windows: Sequence[RecurringWindow], now: datetime, horizon: timedelta) -> list[ComingTurn]:
    """Turns that are not over and begin to be held within the horizon."""
    return [ComingTurn(w, t) for w in windows for t in w.turns(now, now + horizon + timedelta(seconds=w.lead_s))]


def keep_turns(ctx: Context, pool: Pool, live: Sequence[Reservation], now: datetime) -> Mapping[str, Hold]:
    """Bring the books in line with the windows: id of a turn's reservation -> when it is held.

    Args:
        live: the pool's live reservations.
    """
    windows = ctx.ports.windows.windows(pool.name)
    turns = {c.name: c for c in coming_turns(windows, now, timedelta(seconds=pool.horizon_s))}
    held = {r.gang or r.reservation_id for r in live if r.purpose is Purpose.WINDOW}
    for r in live:
        if r.purpose is Purpose.WINDOW and (r.gang or r.reservation_id) not in turns:
            ctx.ports.ledger.release(r.reservation_id, "its window was changed or removed")
    key = (pool.name, "turns-tried")
    known = ctx.memo.get(key)
    tried: dict[str, datetime] = dict(known[1]) if known else {}  # type: ignore[call-overload]
    for name, coming in turns.items():
        if name not in held and not (name in tried and now < tried[name] + _AGAIN):
            _book(ctx, pool, coming, now)
            tried[name] = now
    ctx.memo[key] = (now, {n: at for n, at in tried.items() if n in turns})
    return {n: c.hold for n, c in turns.items()}


def _book(ctx: Context, pool: Pool, coming: ComingTurn, now: datetime) -> None:
    w = coming.window
    capacity, quota = limits_of(ctx, pool, w.tenant)
    try:
        ctx.ports.ledger.reserve_all(coming.reservations(now), capacity, quota)
    except ReservationError as e:  # the next turn may fit
        log.warning("turn not booked", pool=pool.name, tenant=w.tenant, window=w.name, why=str(e))
