"""Hand ready room over to what was reserved and whose time has come, before tasks take what is left."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from preprov.control.context import Context
from preprov.control.reserving import quota_of
from preprov.control.turns import Hold, keep_turns
from preprov.model.errors import ReservationError
from preprov.model.nodes import PoolObservation
from preprov.model.pools import Pool
from preprov.model.reservations import STAYS, Binding, Purpose, Reservation, ReservationState
from preprov.model.resources import sum_of
from preprov.planning.fairness import fair_order
from preprov.planning.held import held_by_tenant
from preprov.planning.order import ReadyTask, launch_order
from preprov.planning.placement import NodeRoom, PlacementRequest, first_fit, rooms_of

log = structlog.get_logger(__name__)

_AHEAD: Final = timedelta(minutes=15)
"""A booking's room is kept from what would still run in it, this long before its start."""


@dataclass(frozen=True)
class Books:
    """What is reserved after a round of handing over.

    Attributes:
        reservations: live ones of the pool. coming: soft ones that are to find room soon -> from when on they use it.
    """

    reservations: tuple[Reservation, ...]
    coming: Mapping[str, datetime]


def open_rooms(
    observation: PoolObservation, reservations: Iterable[Reservation], drained: frozenset[str]
) -> list[NodeRoom]:
    """Rooms of ready nodes that may take something new."""
    return [r for r in rooms_of(observation, reservations) if "*" not in drained and r.node_id not in drained]


def hand_over(ctx: Context, pool: Pool, observation: PoolObservation, drained: frozenset[str], now: datetime) -> Books:
    """Commit to ready nodes what is due from now on: whole gangs of bookings, windows as far as there is room."""
    live = ctx.ports.ledger.reservations(pool.name)
    holds = keep_turns(ctx, pool, live, now)
    if holds or any(r.purpose is Purpose.WINDOW for r in live):
        live = ctx.ports.ledger.reservations(pool.name)
    due = {r.reservation_id: r for r in live if _is_due(r, holds, now)}
    if due:
        _bind(ctx, pool, observation, live, due, drained, now)
        live = ctx.ports.ledger.reservations(pool.name)
    return Books(live, {r.reservation_id: at for r in live if (at := _comes(r, holds, now)) is not None})


def _name(r: Reservation) -> str:
    return r.gang or r.reservation_id


def _is_due(r: Reservation, holds: Mapping[str, Hold], now: datetime) -> bool:
    if r.state is not ReservationState.SOFT or r.purpose in STAYS:
        return False
    hold = holds.get(_name(r))
    return (hold.alone_from if hold else r.start) <= now < r.end


def _comes(r: Reservation, holds: Mapping[str, Hold], now: datetime) -> datetime | None:
    """From when on it uses room, if that is soon and it has none yet."""
    if r.state is not ReservationState.SOFT or r.purpose in STAYS or now >= r.end:
        return None
    hold = holds.get(_name(r))
    if hold is not None:
        return max(hold.used_from, now) if r.start <= now else None
    return max(r.start, now) if r.start - _AHEAD <= now else None


def _bind(
    ctx: Context,
    pool: Pool,
    observation: PoolObservation,
    live: Sequence[Reservation],
    due: Mapping[str, Reservation],
    drained: frozenset[str],
    now: datetime,
) -> None:
    rooms = open_rooms(observation, live, drained)
    wanted = [
        PlacementRequest(t.key, due[t.key].most_after(now), gang=_together(due[t.key]))
        for t in in_turn(ctx, rooms, live, [_ready(r, now) for r in due.values()], now)
    ]
    placed = first_fit(wanted, rooms, pool.binding).placed
    nodes = {n.node_id: n for n in observation.nodes}
    gangs: dict[str, list[Binding]] = {}
    for name, node_id in placed.items():
        room = pool.claimable(nodes[node_id].offering)
        gangs.setdefault(_together(due[name]) or name, []).append(Binding(name, node_id, room))
    for bindings in gangs.values():
        tenant = due[bindings[0].reservation_id].tenant
        try:
            ctx.ports.ledger.commit_all(bindings, now, quota_of(ctx, pool, tenant))
        except ReservationError as e:
            log.warning("not handed over", reservation=bindings[0].reservation_id, why=str(e))


def _together(r: Reservation) -> str:
    """A booking is of use only whole; of a window each instance is."""
    return r.gang if r.purpose is Purpose.BOOKING else ""


def _ready(r: Reservation, now: datetime) -> ReadyTask:
    return ReadyTask(r.reservation_id, r.priority, None, 0.0, r.start, None, 0.0, r.tenant, r.most_after(now))


def in_turn(
    ctx: Context,
    rooms: Sequence[NodeRoom],
    reservations: Sequence[Reservation],
    ready: Sequence[ReadyTask],
    now: datetime,
) -> tuple[ReadyTask, ...]:
    """In launch order, tenants of equal priority taking turns by what each is due of the ready nodes that are ours."""
    ordered = launch_order(ready, now)
    if len({t.tenant for t in ordered}) < 2:
        return ordered
    whole = sum_of(r.capacity.minus_clamped(r.foreign) for r in rooms)
    shares = {name: t.share for name, t in ctx.tenants.items()}
    return fair_order(ordered, held_by_tenant(reservations, now), whole, shares)
