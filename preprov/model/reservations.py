"""Reservations: a claim on capacity, soft -> committed -> released | expired, as lists of segments."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from preprov.model.errors import ReservationError
from preprov.model.resources import ZERO, Resources
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
    """An instance of a task: its demand is known already. It may run on beyond its segments; only a release ends it."""
    BOOKING = "booking"
    """Asked for by a person or a program. What starts under it uses it up, and it is never refilled."""
    WINDOW = "window"
    """A turn of a recurring window: a share of the pool held for a tenant, in which its tasks come and go."""
    VOLUME = "volume"
    """A storage volume, asked for by a person or a program. Nothing of a node's room; only a release takes it away."""
    UNITS = "units"
    """Units of a resource type that counts in its own terms, asked for as volumes are, and held as they are."""


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
class WantedVolume:
    """Which volume of its pool a claim is on.

    Attributes:
        name: whoever claims it by this name finds what was written to it before.
        gib: what it has at the least; once it is bound, what it has.
        keep: it outlives the claim; else the release of the claim deletes it.
    """

    name: str
    gib: float
    keep: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            raise ReservationError("a volume needs a name")
        if not 0 < self.gib < math.inf:
            raise ReservationError(f"a volume of {self.gib:g} GiB cannot be", where=self.name, hint="give its size")


@dataclass(frozen=True, slots=True)
class WantedUnits:
    """How much of a resource type that counts in its own terms a claim is on.

    Attributes:
        kind: the type's name.
        amounts: (what, how much) by name, each above 0; once it is bound, what it has.
    """

    kind: str
    amounts: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "amounts", tuple(sorted(dict(self.amounts).items())))
        if not self.kind:
            raise ReservationError("units are of a resource type", hint="preprov reservation units")
        if not self.amounts or not all(0 < v < math.inf for _, v in self.amounts):
            raise ReservationError(f"a claim on {self.kind} says how much, above 0", hint="--amount NAME=NUMBER")

    @classmethod
    def of(cls, kind: str, amounts: Mapping[str, float]) -> "WantedUnits":
        """Of a mapping."""
        return cls(kind, tuple(amounts.items()))


@dataclass(frozen=True, slots=True)
class Reservation:
    """A claim of one task run (or of a person) on a pool.

    Attributes:
        claimant: `run_id/task_id#instance`, or any label; at most one live reservation per tenant, claimant and pool.
        expires_at: a SOFT claim is void after this instant; a COMMITTED one is not touched by it.
        node_id, bound_at: set by commitment.
        gang: reservations of one non-empty name are made and committed all or none.
        under: id of the booking or window that this claim makes use of; "" = none.
        covers: `tenant:NAME` or `dag:ID` whose demand is foreseen anyway: only what exceeds that is wanted on top of
            it; "" = all of it is.
        fingerprint: of the request that made it, so that the same request again is told from another one of its id.
        volume: of purpose VOLUME, and of no other. At most one committed claim is on a volume of a pool.
        units: of purpose UNITS, and of no other.
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
    under: str = ""
    covers: str = ""
    fingerprint: str = ""
    volume: WantedVolume | None = None
    units: WantedUnits | None = None
    bound_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.segments:
            raise ReservationError("a reservation needs at least one segment", where=self.reservation_id)
        if (self.volume is not None) != (self.purpose is Purpose.VOLUME):
            raise ReservationError("a claim of purpose volume names one, and no other does", where=self.reservation_id)
        if (self.units is not None) != (self.purpose is Purpose.UNITS):
            raise ReservationError("a claim of purpose units says which, and no other does", where=self.reservation_id)
        if (self.volume is not None or self.units is not None) and not self.most.is_zero:
            raise ReservationError(f"a claim on {self.purpose} takes no room of a node", where=self.reservation_id)
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

    @property
    def most(self) -> Resources:
        """The largest amounts it ever claims, element by element."""
        return most(self.segments)

    @property
    def amounts(self) -> Mapping[str, float]:
        """The largest amounts by name: of a volume "disk" in GiB, of units their own, of all else as `most`."""
        if self.units is not None:
            return dict(self.units.amounts)
        return {"disk": self.volume.gib} if self.volume is not None else self.most.as_dict()

    def most_after(self, at: datetime) -> Resources:
        """The largest amounts it claims from `at` on. A task's are those of all its time, for it may run late."""
        if self.purpose is Purpose.TASK:
            return self.most
        return most(s for s in self.segments if s.end > at)

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
        return replace(self, state=ReservationState.COMMITTED, node_id=node_id, bound_at=at)

    def release(self, reason: str = "") -> "Reservation":
        """Give back. Releasing a final one changes nothing."""
        if not self.is_live:
            return self
        return replace(self, state=ReservationState.RELEASED, reason=reason or self.reason)

    def rebook(self, expires_at: datetime, reason: str) -> "Reservation":
        """Back to SOFT, because its node is gone; one that is not committed is returned unchanged."""
        if self.state is not ReservationState.COMMITTED:
            return self
        return replace(
            self, state=ReservationState.SOFT, node_id=None, bound_at=None, expires_at=expires_at, reason=reason
        )

    def resized(self, amount: Resources, at: datetime) -> "Reservation":
        """A committed task's claim of `amount` from `at` on; what it claimed before is over. No claim but it changes.

        Raises:
            ReservationError: it is no committed task's, or the amount is nothing.
        """
        if self.state is not ReservationState.COMMITTED or self.purpose is not Purpose.TASK:
            raise ReservationError(f"cannot resize a {self.state} {self.purpose}", where=self.reservation_id)
        if amount.is_zero:
            raise ReservationError("cannot resize a task to nothing", where=self.reservation_id, hint="release it")
        if len(self.segments) == 1 and self.segments[0].amount == amount:
            return self
        if self.end > at:
            return replace(self, segments=(Segment(at, self.end, amount),))
        return replace(self, segments=(Segment(at - _MOMENT, at, amount),))  # late: it holds what it held last

    def grown(self, gib: float) -> "Reservation":
        """A committed claim on a volume that has so much now. The same again, or less, changes nothing.

        Raises:
            ReservationError: it is no committed claim on a volume.
        """
        if self.state is not ReservationState.COMMITTED or self.volume is None:
            raise ReservationError(f"cannot grow a {self.state} {self.purpose}", where=self.reservation_id)
        return self if gib <= self.volume.gib else replace(self, volume=replace(self.volume, gib=gib))

    def allotted(self, amounts: Mapping[str, float]) -> "Reservation":
        """A committed claim on units that has so much now; what is not named stays.

        Raises:
            ReservationError: it is no committed claim on units, or an amount is not above 0.
        """
        if self.state is not ReservationState.COMMITTED or self.units is None:
            raise ReservationError(f"cannot allot units to a {self.state} {self.purpose}", where=self.reservation_id)
        units = WantedUnits.of(self.units.kind, {**dict(self.units.amounts), **amounts})
        return self if units == self.units else replace(self, units=units)

    def covers_resized(self, amount: Resources, at: datetime) -> bool:
        """True if `resized` claims no more than this does, at any instant: no room has to be looked for."""
        only = self.segments[0]
        return len(self.segments) == 1 and only.start <= at and amount.fits_in(only.amount)

    def expire(self, at: datetime) -> "Reservation":
        """Void a soft claim whose time is over, and end what was held for longer than its segments say.

        A committed task is left alone: it may run late. So are a volume and units: they may be in use.
        """
        if self.state is ReservationState.SOFT and self.expires_at is not None and at >= self.expires_at:
            return replace(self, state=ReservationState.EXPIRED, reason="not committed in time")
        if self.state is ReservationState.COMMITTED and self.purpose not in STAYS and at >= self.end:
            return replace(self, state=ReservationState.RELEASED, reason=OVER)
        return self

    def used(self, amount: Resources, at: datetime) -> "Reservation":
        """A booking less what begins under it at `at`; for good, whatever becomes of that. A window is as it was.

        What is left of it never claims more than before, at any instant. Where nothing is left, it is RELEASED.
        """
        if self.purpose is not Purpose.BOOKING or not self.is_live:
            return self
        kept = []
        for s in self.segments:
            if s.start < at:
                kept.append(Segment(s.start, min(s.end, at), s.amount))
            if s.end > at:
                left = s.amount.minus_clamped(amount)
                if not left.is_zero:
                    kept.append(Segment(max(s.start, at), s.end, left))
        if any(s.end > at for s in kept):
            return replace(self, segments=tuple(kept))
        return replace(self, segments=tuple(kept) or self.segments, state=ReservationState.RELEASED, reason=USED_UP)


STAYS: Final = frozenset({Purpose.TASK, Purpose.VOLUME, Purpose.UNITS})
"""What is held beyond its time until it is released."""
_MOMENT = timedelta(microseconds=1)
OVER = "its time is over"
USED_UP = "used up"


@dataclass(frozen=True, slots=True)
class Binding:
    """Which reservation is to be bound to which node, and how much may be claimed on it together."""

    reservation_id: str
    node_id: str
    allocatable: Resources


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a tenant may hold of a pool at once."""

    pool: str
    tenant: str
    limit: Resources


def most(segments: Iterable[Segment]) -> Resources:
    """The largest amounts of segments, element by element; nothing if there are none."""
    top = ZERO
    for s in segments:
        top = top.maximum(s.amount)
    return top
