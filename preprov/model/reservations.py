"""Reservations: a task's claim on capacity, soft -> committed -> released | expired, as lists of segments."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from preprov.model.errors import ReservationError
from preprov.model.resources import Resources
from preprov.model.time import aware


class ReservationState(StrEnum):
    """Life of a reservation; RELEASED and EXPIRED are final."""

    SOFT = "soft"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"


class Purpose(StrEnum):
    """What a reservation is for."""

    TASK = "task"
    """An instance of a task that is dispatched here: its demand is known already."""
    BOOKING = "booking"
    """Asked for by a person or a program, on top of the known demand; used up by what runs under it, never refilled."""
    WINDOW = "window"
    """A turn of a recurring window: a share of the pool that is held for a tenant."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A constant claim over [start, end)."""

    start: datetime
    end: datetime
    amount: Resources

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", aware(self.start))
        object.__setattr__(self, "end", aware(self.end))
        if self.end <= self.start:
            raise ReservationError(f"a segment must end after it starts: {self.start} .. {self.end}")


@dataclass(frozen=True, slots=True)
class Reservation:
    """A claim of one task run (or of a person) on a pool.

    Attributes:
        claimant: `run_id/task_id#instance`, or any label; at most one live reservation per tenant, claimant and pool.
        expires_at: a SOFT claim is void after this instant; a COMMITTED one is not touched by it.
        node_id: set by commitment.
        gang: reservations of one non-empty name are made and committed all or none.
        fingerprint: of the request that made it, so that the same request again is told from another one of its id.
    """

    reservation_id: str
    pool: str
    claimant: str
    segments: tuple[Segment, ...]
    state: ReservationState = ReservationState.SOFT
    tenant: str = "default"
    priority: int = 0
    expires_at: datetime | None = None
    node_id: str | None = None
    created_at: datetime | None = None
    reason: str = ""
    purpose: Purpose = Purpose.BOOKING
    gang: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.segments:
            raise ReservationError("a reservation needs at least one segment", where=self.reservation_id)
        for a, b in zip(self.segments, self.segments[1:], strict=False):
            if b.start < a.end:
                raise ReservationError("segments must be in order and not overlap", where=self.reservation_id)

    @property
    def start(self) -> datetime:
        """Beginning of the first segment."""
        return self.segments[0].start

    @property
    def end(self) -> datetime:
        """End of the last segment."""
        return self.segments[-1].end

    @property
    def is_live(self) -> bool:
        """True while it claims capacity."""
        return self.state in (ReservationState.SOFT, ReservationState.COMMITTED)

    def commit(self, node_id: str, at: datetime) -> "Reservation":
        """Bind to a node. Committing again to the same node changes nothing.

        Raises:
            ReservationError: it is final, expired, or committed to another node.
        """
        if self.state is ReservationState.COMMITTED and self.node_id == node_id:
            return self
        if self.state is not ReservationState.SOFT:
            raise ReservationError(f"cannot commit a {self.state} reservation", where=self.reservation_id)
        if self.expires_at is not None and at >= self.expires_at:
            raise ReservationError("the soft reservation has expired", where=self.reservation_id, hint="reserve again")
        return replace(self, state=ReservationState.COMMITTED, node_id=node_id)

    def release(self, reason: str = "") -> "Reservation":
        """Give back. Releasing a final one changes nothing."""
        if not self.is_live:
            return self
        return replace(self, state=ReservationState.RELEASED, reason=reason or self.reason)

    def expire(self, at: datetime) -> "Reservation":
        """Void a soft claim whose time is over; anything else is returned unchanged."""
        if self.state is ReservationState.SOFT and self.expires_at is not None and at >= self.expires_at:
            return replace(self, state=ReservationState.EXPIRED, reason="not committed in time")
        return self


def peak(reservations: Iterable[Reservation], start: datetime, end: datetime) -> Resources:
    """Element-wise peak of what live reservations claim together within [start, end)."""
    edges: dict[datetime, list[tuple[int, Resources]]] = {}
    for r in reservations:
        if not r.is_live:
            continue
        for s in r.segments:
            if s.end > start and s.start < end:
                edges.setdefault(max(s.start, start), []).append((1, s.amount))
                edges.setdefault(min(s.end, end), []).append((-1, s.amount))
    level, top = Resources(), Resources()
    for t in sorted(edges):
        for sign, amount in sorted(edges[t], key=lambda e: e[0]):
            level = level + amount if sign > 0 else level.minus_clamped(amount)
        top = top.maximum(level)
    return top
