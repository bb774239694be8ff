"""What claims want together, reckoned the slow and obvious way: one instant after the other."""

from collections.abc import Iterable
from datetime import datetime

from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.model.resources import ZERO, Resources


def wanted_at(r: Reservation, t: datetime, at: datetime | None = None) -> Resources:
    """What one claim wants at an instant; a committed task that should have ended by `at` wants on what it had last."""
    late = at is not None and r.state is ReservationState.COMMITTED and r.purpose is Purpose.TASK and r.end <= at
    if late and t >= r.end:
        return r.segments[-1].amount
    return next((s.amount for s in r.segments if s.start <= t < s.end), ZERO)


def together(claims: Iterable[Reservation], t: datetime, at: datetime | None = None) -> Resources:
    """What they want at an instant, what is under a window or an unbound claim under a booking counted once."""
    claims = list(claims)
    holders = {r.reservation_id: r for r in claims if r.purpose is not Purpose.TASK}
    total = ZERO
    for holder in holders.values():
        within = ZERO
        for r in claims:
            if r.under == holder.reservation_id and _is_within(r, holder):
                within = within + wanted_at(r, t, at)
        total = total + wanted_at(holder, t, at).maximum(within)
    for r in claims:
        inside = r.under in holders and _is_within(r, holders[r.under])
        if r.reservation_id not in holders and not inside:
            total = total + wanted_at(r, t, at)
    return total


def _is_within(r: Reservation, holder: Reservation) -> bool:
    return holder.purpose is Purpose.WINDOW or r.state is not ReservationState.COMMITTED


def peak(claims: Iterable[Reservation], start: datetime, end: datetime, at: datetime | None = None) -> Resources:
    """The highest of it within [start, end), element by element."""
    claims = list(claims)
    edges = {start, *(t for r in claims for s in r.segments for t in (s.start, s.end) if start <= t < end)}
    if at is not None and start <= at < end:
        edges.add(at)
    top = ZERO
    for t in edges:
        top = top.maximum(together(claims, t, at))
    return top
