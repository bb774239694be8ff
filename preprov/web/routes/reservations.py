"""/v1/reservations: ask, look, wait, give back."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from time import monotonic
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from preprov.control import reserving
from preprov.control.allocating import by_hand
from preprov.control.reserving import Asked, Booking
from preprov.model.reservations import Purpose, Segment
from preprov.web.documents import (
    Label,
    ReservationAsk,
    ReservationList,
    ReservationPart,
    SegmentPart,
    UnitsPart,
    VolumePart,
)
from preprov.web.listening import STREAM, LastEventId, Said, answer
from preprov.web.problems import not_found
from preprov.web.security import Caller, Reserver

router = APIRouter(prefix="/v1/reservations", tags=["reservations"])

_LOOK_EVERY_S: Final = 0.5
_PURPOSES: Final[Mapping[Purpose, Literal["window", "volume", "units"]]] = {
    Purpose.WINDOW: "window",
    Purpose.VOLUME: "volume",
    Purpose.UNITS: "units",
}
Id = Annotated[Label, Path(description="As `POST /v1/reservations` answered it.")]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key with the same request gives the same reservation, however often it is sent.",
    ),
]


def part(booking: Booking) -> ReservationPart:
    """A booking as it is answered."""
    first = booking.members[0]
    return ReservationPart(
        reservation_id=booking.booking_id,
        pool=first.pool,
        tenant=first.tenant,
        claimant=first.claimant.removesuffix("[0]") if first.gang else first.claimant,
        state=booking.state.value,
        ready=booking.is_ready,
        count=len(booking.members),
        nodes=[m.node_id for m in booking.members],
        segments=[SegmentPart(start=s.start, end=s.end, **s.amount.as_dict()) for s in first.segments],
        priority=first.priority,
        purpose=_PURPOSES.get(first.purpose, "booking"),
        volume=VolumePart(**asdict(first.volume)) if first.volume is not None else None,
        units=UnitsPart(kind=first.units.kind, amount=dict(first.units.amounts)) if first.units is not None else None,
        created_at=first.created_at,
        expires_at=first.expires_at,
        reason=first.reason,
    )


def _found(caller: Caller, reservation_id: str) -> Booking:
    booking = reserving.find(caller.ctx, reservation_id, caller.sees)
    if booking is None or not caller.token.sees_pool(booking.members[0].pool):
        raise not_found(f"there is no reservation {reservation_id}")
    return booking


@router.post(
    "",
    status_code=201,
    summary="Reserve capacity softly",
    responses={200: {"model": ReservationPart, "description": "This key was used before: the same reservation."}},
)
def create(ask: ReservationAsk, caller: Reserver, key: Key, request: Request, response: Response) -> ReservationPart:
    """Claim capacity of a pool for a time.

    Nodes are warmed for it before `start`; from `start` on it is bound to warm nodes as soon as there is room, all
    instances together. It is void if that has not happened `expires_in` seconds after `start`.
    """
    tenant = caller.tenant(ask.tenant)
    pool = caller.pool(ask.pool)
    spans = ask.spans(caller.ctx.clock.now())
    asked = Asked(
        pool=pool.name,
        tenant=tenant,
        claimant=ask.claimant,
        segments=tuple(Segment(*s) for s in spans),
        count=ask.count,
        key=key,
        fingerprint=hashlib.sha256(ask.model_dump_json().encode()).hexdigest()[:32],
        priority=ask.priority,
        expires_at=reserving.expiry(spans[0][0], ask.expires_in),
        reason=ask.reason,
        dag_id=ask.dag_id,
        trusted=caller.token.is_admin,
    )
    booking = reserving.book(caller.ctx, asked)
    response.status_code = 201 if booking.made else 200
    response.headers["Location"] = str(request.url_for("show", reservation_id=booking.booking_id).path)
    return part(booking)


@router.get("", summary="List reservations")
def list_all(
    caller: Reserver,
    pool: Annotated[Label | None, Query()] = None,
    live: Annotated[bool, Query(description="False: released and expired ones too.")] = True,
    purpose: Annotated[
        list[Literal["booking", "window", "volume", "units"]] | None,
        Query(description="Only these; may be repeated. All if not given."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=reserving.MOST, description="So many at most.")] = reserving.MOST,
    after: Annotated[
        str, Query(max_length=300, description="As `next` of the last answer said; from the first on if not given.")
    ] = "",
) -> ReservationList:
    """The tenant's own reservations by start; an administrator's token sees everybody's.

    They come in pages. What begins, or is released, while one page after the other is fetched makes none of the others
    appear twice, or not at all.
    """
    pools = tuple(p.name for p in caller.pools(pool))
    if not pools:
        return ReservationList(reservations=[])
    wanted = frozenset(Purpose(p) for p in purpose) if purpose else reserving.BOOKED
    found = reserving.bookings(
        caller.ctx, caller.sees, pools=pools, live=live, limit=limit + 1, after=after, purposes=wanted
    )
    more = reserving.place_of(found[limit - 1]) if len(found) > limit else None
    return ReservationList(reservations=[part(b) for b in found[:limit]], next=more)


@router.get("/{reservation_id}", name="show", summary="Look at a reservation")
def show(reservation_id: Id, caller: Reserver) -> ReservationPart:
    """As it is now."""
    return part(_found(caller, reservation_id))


@router.get("/{reservation_id}/wait", summary="Wait until a reservation is ready")
async def wait(
    reservation_id: Id,
    caller: Reserver,
    seconds: Annotated[float, Query(ge=0, le=60, description="How long to wait at the most.")] = 30,
) -> ReservationPart:
    """Answers once the reservation is ready or over, at the latest after `seconds`: look at `ready`, ask again."""
    until = monotonic() + seconds
    while True:
        booking = await run_in_threadpool(_found, caller, reservation_id)
        left = until - monotonic()
        if booking.is_ready or not booking.members[0].is_live or left <= 0:
            return part(booking)
        await asyncio.sleep(min(_LOOK_EVERY_S, left))


@router.get(
    "/{reservation_id}/events",
    summary="Listen to a reservation",
    response_class=StreamingResponse,
    responses=STREAM,
)
def listen(reservation_id: Id, caller: Reserver, request: Request, last: LastEventId = None) -> StreamingResponse:
    """The reservation as it is now, then each time that it has changed: events `state`, the last one `over`.

    Each event's data is the reservation as `GET` answers it. A comment is sent while nothing changes; the stream is
    ended from time to time, and goes on where `Last-Event-ID` says.
    """
    state, tenant = request.app.state, caller.token.tenant
    return answer(state.listeners, tenant, lambda told: _changed(caller, reservation_id, told), last, state.pace)


def _changed(caller: Caller, reservation_id: str, told: str) -> Said | None:
    caller.still_good()
    booking = _found(caller, reservation_id)
    data = part(booking).model_dump_json()
    name = hashlib.sha256(data.encode()).hexdigest()[:16]
    over = not booking.members[0].is_live
    if name == told and not over:
        return None
    return Said(name, "over" if over else "state", data, last=over)


@router.delete("/{reservation_id}", summary="Give a reservation back")
def release(
    reservation_id: Id,
    caller: Reserver,
    reason: Annotated[Label, Query()] = "released by its owner",
) -> ReservationPart:
    """Its room is free at once; a volume is detached first. Giving it back again changes nothing."""
    booking = _found(caller, reservation_id)
    if booking.members[0].purpose in (Purpose.VOLUME, Purpose.UNITS):
        return part(Booking((by_hand.give_back(caller.ctx, reservation_id, reason),)))
    return part(reserving.give_back(caller.ctx, booking, reason))
