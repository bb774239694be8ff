"""Bookings: a client's claim on a pool, of one or several instances, from asking to giving back."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from preprov.control.context import Context
from preprov.model.errors import ConfigError, OverbookedError, ReservationError
from preprov.model.plans import stable_id
from preprov.model.pools import UNLIMITED, Pool
from preprov.model.reservations import Purpose, Quota, Reservation, ReservationState, Segment, most
from preprov.model.resources import KINDS, ZERO, Resources
from preprov.model.room import instant, micros
from preprov.planning.placement import misfit

GRACE: Final = timedelta(minutes=15)
"""How long after its beginning a booking waits to be taken up, if nobody says otherwise."""
MOST: Final = 1000
"""So many are listed at once."""
BOOKED: Final = frozenset(Purpose) - {Purpose.TASK}
"""What is asked for, and not dispatched."""


@dataclass(frozen=True)
class Asked:
    """What a client asks for.

    Attributes:
        segments: of one instance. count: instances; all are made and committed together, or none.
        key: the client's own name for this request: the same one again is the same booking; "" = always a new one.
        fingerprint: of the request; another one under the same key is refused.
        priority: None = the tenant's, and no higher than that unless `trusted`.
        dag_id: DAG whose tasks it is for, if their demand is foreseen anyway.
    """

    pool: str
    tenant: str
    claimant: str
    segments: tuple[Segment, ...]
    count: int = 1
    key: str = ""
    fingerprint: str = ""
    priority: int | None = None
    expires_at: datetime | None = None
    reason: str = ""
    dag_id: str = ""
    trusted: bool = False


@dataclass(frozen=True)
class Booking:
    """A booking with all its instances. `made`: by this very call."""

    members: tuple[Reservation, ...]
    made: bool = False

    @property
    def booking_id(self) -> str:
        """The name under which all of it is found again."""
        return self.members[0].gang or self.members[0].reservation_id

    @property
    def state(self) -> ReservationState:
        """Of the whole: SOFT while an instance waits, COMMITTED while one is held."""
        states = [m.state for m in self.members]
        for state in (ReservationState.SOFT, ReservationState.COMMITTED, ReservationState.EXPIRED):
            if state in states:
                return state
        return ReservationState.RELEASED

    @property
    def is_ready(self) -> bool:
        """True while every instance is bound to a node that is warm."""
        return all(m.state is ReservationState.COMMITTED for m in self.members)


def expiry(start: datetime, seconds: float | None) -> datetime:
    """When a booking is void that was not taken up."""
    return start + (GRACE if seconds is None else timedelta(seconds=seconds))


def book(ctx: Context, asked: Asked) -> Booking:
    """Book softly. The same key again gives the booking as it is now, whatever became of it.

    Raises:
        ConfigError: there is no such pool.
        OverbookedError: the pool can never hold it beside what is promised then.
        ReservationError: the key was used for another request, or the claimant has a live booking already.
    """
    pool, now = ctx.pool(asked.pool), ctx.clock.now()
    made = _reservations(ctx, asked, now)
    must_fit_somewhere(pool, most(asked.segments))
    held = ctx.ports.ledger.reserve_all(made, *limits_of(ctx, pool, asked.tenant))
    if held[0] == made[0]:
        return Booking(held, made=True)
    if held[0].fingerprint == asked.fingerprint and _id(held[0]) == _id(made[0]):
        return Booking(held)
    if _id(held[0]) == _id(made[0]):
        raise ReservationError(
            "this key was used for another request", where=_id(held[0]), hint="use a new key for a new request"
        )
    raise ReservationError(
        f"{asked.claimant} has a live reservation already",
        where=_id(held[0]),
        hint="release it first, or give each its own claimant",
    )


def _id(r: Reservation) -> str:
    return r.gang or r.reservation_id


def _reservations(ctx: Context, asked: Asked, now: datetime) -> tuple[Reservation, ...]:
    priority = may_ask_for(ctx, asked.pool, asked.tenant, asked.priority, trusted=asked.trusted)
    key = asked.key or secrets.token_hex(16)
    booking_id = stable_id("booking", asked.tenant, key)
    first = Reservation(
        reservation_id=booking_id,
        pool=asked.pool,
        claimant=asked.claimant,
        segments=asked.segments,
        tenant=asked.tenant,
        priority=priority,
        expires_at=asked.expires_at or asked.segments[0].start + GRACE,
        created_at=now,
        reason=asked.reason,
        purpose=Purpose.BOOKING,
        covers=f"dag:{asked.dag_id}" if asked.dag_id else "",
        fingerprint=asked.fingerprint,
    )
    if asked.count == 1:
        return (first,)
    return tuple(
        replace(first, reservation_id=f"{booking_id}.{i}", claimant=f"{asked.claimant}[{i}]", gang=booking_id)
        for i in range(asked.count)
    )


def may_ask_for(ctx: Context, pool: str, tenant: str, priority: int | None, *, trusted: bool) -> int:
    """The priority of what a tenant reserves: what it asks for, or its usual one.

    Raises:
        ReservationError: it is higher than its usual one, and who asks is not trusted with that.
    """
    known = ctx.tenants.get(tenant)
    usual = known.priority if known else 0
    if priority is not None and priority > usual and not trusted:
        raise ReservationError(
            f"{tenant} reserves with priority {usual} at the most", where=pool, hint="ask for less, or an operator"
        )
    return usual if priority is None else priority


def must_fit_somewhere(pool: Pool, amount: Resources) -> None:
    """What no node could ever hold is refused now, instead of holding a place in the books until it expires.

    Raises:
        OverbookedError: it is so.
    """
    why = misfit(amount, [o for g in pool.groups for o in g.offerings], pool.binding)
    if why:
        raise OverbookedError(f"it fits on no node of pool {pool.name}: {why}", where=pool.name, hint="ask for less")


def limits_of(ctx: Context, pool: Pool, tenant: str) -> tuple[Resources, Quota | None]:
    """What the pool may be promised together, and what of it to this tenant."""
    return most_capacity(pool), quota_of(ctx, pool, tenant)


def quota_of(ctx: Context, pool: Pool, tenant: str) -> Quota | None:
    """What the tenant may hold of the pool at once; None = no limit of its own."""
    known = ctx.tenants.get(tenant)
    if known is None or not known.quota:
        return None
    return Quota(pool.name, tenant, Resources.of({k: known.quota.get(k, UNLIMITED) for k in KINDS}))


def most_capacity(pool: Pool) -> Resources:
    """What the pool could hold at the most: each group at its limit with its largest offering, the pool at its own."""
    whole, best = ZERO, ZERO
    for g in pool.groups:
        largest = ZERO
        for o in g.offerings:
            largest = largest.maximum(pool.claimable(o))
        whole, best = whole + largest * g.max_nodes, best.maximum(largest)
    limit = best * pool.guards.max_nodes
    return Resources.of([min(a, b) for a, b in zip(whole.as_tuple(), limit.as_tuple(), strict=True)])


def find(ctx: Context, booking_id: str, tenant: str | None) -> Booking | None:
    """A booking by its id; None if there is none, or if it is another tenant's.

    Args:
        ctx: the context.
        booking_id: as `book` gave it.
        tenant: who asks; None = who may see all.
    """
    members = tuple(m for m in ctx.ports.ledger.get(booking_id) if m.purpose is not Purpose.TASK)
    if not members or (tenant is not None and members[0].tenant != tenant):
        return None
    return Booking(members)


def bookings(
    ctx: Context,
    tenant: str | None,
    *,
    pools: Sequence[str] = (),
    live: bool = True,
    limit: int = MOST,
    after: str = "",
    purposes: Collection[Purpose] = BOOKED,
) -> tuple[Booking, ...]:
    """Bookings by start; of one tenant, or of all.

    Args:
        ctx: the context. tenant: whose; None = everybody's.
        pools: empty = all. live: False: those that are over too.
        limit: so many at most. after: `place_of` the last that was listed; "" = from the first on.
        purposes: what they are for.

    Raises:
        ConfigError: `after` is nothing that `place_of` gave.
    """
    found = ctx.ports.ledger.page(
        purposes, limit=limit, after=_placed(after), tenant=tenant, pools=tuple(pools), live=live
    )
    return tuple(Booking(members) for members in found)


def place_of(booking: Booking) -> str:
    """Where it stands in a list, to go on after it."""
    first = min(booking.members, key=lambda r: r.reservation_id)
    return f"{micros(first.start)}.{first.reservation_id}"


def _placed(place: str) -> tuple[datetime, str] | None:
    start, dot, name = place.partition(".")
    if not place:
        return None
    try:
        if dot and name:
            return instant(int(start)), name
    except (ValueError, OverflowError):
        pass
    raise ConfigError(f"{place!r} is no place in a list", hint="go on with what the last answer said")


def give_back(ctx: Context, booking: Booking, reason: str) -> Booking:
    """Release every instance; again changes nothing."""
    return Booking(tuple(ctx.ports.ledger.release(m.reservation_id, reason) for m in booking.members))
