"""Hand ready room over to the bookings whose time has come, before tasks take what is left."""

from collections.abc import Iterable
from datetime import datetime

import structlog

from preprov.control.context import Context
from preprov.control.observing import claim
from preprov.model.errors import ReservationError
from preprov.model.pools import Pool, PoolObservation
from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.planning.placement import NodeRoom, PlacementRequest, first_fit, rooms_of

log = structlog.get_logger(__name__)


def open_rooms(
    observation: PoolObservation, reservations: Iterable[Reservation], drained: frozenset[str]
) -> list[NodeRoom]:
    """Rooms of ready nodes that may take something new."""
    return [r for r in rooms_of(observation, reservations) if "*" not in drained and r.node_id not in drained]


def hand_over(
    ctx: Context, pool: Pool, observation: PoolObservation, drained: frozenset[str], now: datetime
) -> tuple[Reservation, ...]:
    """Commit what was booked from now on to ready nodes, whole gangs or none; the pool's live reservations after it."""
    ledger = ctx.ports.ledger
    reservations = ledger.reservations(pool.name)
    due = [r for r in reservations if _is_due(r, now)]
    if not due:
        return reservations
    due.sort(key=lambda r: (-r.priority, r.start, r.created_at or r.start, r.reservation_id))
    wanted = [PlacementRequest(r.reservation_id, claim(r), gang=r.gang) for r in due]
    placed = first_fit(wanted, open_rooms(observation, reservations, drained), pool.binding).placed
    nodes = {n.node_id: n for n in observation.nodes}
    for reservation_id, node_id in placed.items():
        try:
            ledger.commit(reservation_id, node_id, pool.claimable(nodes[node_id].offering), now)
        except ReservationError as e:
            log.warning("not handed over", reservation=reservation_id, node=node_id, why=str(e))
    return ledger.reservations(pool.name) if placed else reservations


def _is_due(r: Reservation, now: datetime) -> bool:
    return r.state is ReservationState.SOFT and r.purpose is Purpose.BOOKING and r.start <= now < r.end
