"""The reservation ledger in memory, exact under threads."""

from collections.abc import Sequence
from datetime import datetime
from threading import RLock

from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.reservations import Reservation, peak
from preprov.model.resources import Resources


class MemoryLedger:
    """ReservationLedger in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, Reservation] = {}
        self._live: dict[tuple[str, str, str], str] = {}
        self._lock = RLock()

    def reserve(self, reservation: Reservation, capacity: Resources | None = None) -> Reservation:
        """Add a soft claim, or return the live one of the same claimant."""
        with self._lock:
            held = self._rows.get(reservation.reservation_id)
            if held is not None and held.is_live:
                return held
            claimant = _claimant(reservation)
            if claimant in self._live:
                return self._rows[self._live[claimant]]
            if held is not None:
                raise ReservationError(f"reservation is {held.state}", where=held.reservation_id, hint="use a new id")
            if capacity is not None:
                self._must_fit([*self._of(reservation.pool), reservation], reservation, capacity)
            self._put(reservation)
            return reservation

    def reserve_all(self, gang: Sequence[Reservation], capacity: Resources | None = None) -> tuple[Reservation, ...]:
        """Add soft claims, all or none."""
        with self._lock:
            if known := self.get(gang[0].gang or gang[0].reservation_id):
                return known
            before = dict(self._rows), dict(self._live)
            try:
                return tuple(self.reserve(r, capacity) for r in gang)
            except ReservationError:
                self._rows, self._live = before
                raise

    def get(self, reservation_id: str) -> tuple[Reservation, ...]:
        """One, or all of a gang."""
        with self._lock:
            if reservation_id in self._rows:
                return (self._rows[reservation_id],)
            return tuple(r for r in self._rows.values() if reservation_id and r.gang == reservation_id)

    def commit(self, reservation_id: str, node_id: str, allocatable: Resources, at: datetime) -> Reservation:
        """Bind to a node."""
        with self._lock:
            held = self._get(reservation_id)
            bound = held.commit(node_id, at)
            if bound is not held:
                on_node = [r for r in self._of(held.pool) if r.node_id == node_id]
                self._must_fit([*on_node, bound], bound, allocatable)
                self._put(bound)
            return bound

    def release(self, reservation_id: str, reason: str = "") -> Reservation:
        """Give back."""
        with self._lock:
            released = self._get(reservation_id).release(reason)
            self._put(released)
            return released

    def expire(self, pool: str, at: datetime) -> int:
        """Void soft claims whose time is over."""
        with self._lock:
            before = self._of(pool)
            after = [r.expire(at) for r in before]
            for r in after:
                self._put(r)
            return sum(1 for a, b in zip(before, after, strict=True) if a is not b)

    def reservations(
        self, pool: str | None = None, *, live: bool = True, node_id: str | None = None
    ) -> tuple[Reservation, ...]:
        """Reservations by start."""
        with self._lock:
            rows = [self._rows[i] for i in self._live.values()] if live else list(self._rows.values())
        found = [r for r in rows if pool in (None, r.pool) and node_id in (None, r.node_id)]
        return tuple(sorted(found, key=lambda r: (r.start, r.reservation_id)))

    def _of(self, pool: str) -> list[Reservation]:
        return [self._rows[i] for (p, _, _), i in self._live.items() if p == pool]

    def _get(self, reservation_id: str) -> Reservation:
        held = self._rows.get(reservation_id)
        if held is None:
            raise ReservationError("there is no such reservation", where=reservation_id)
        return held

    def _put(self, r: Reservation) -> None:
        self._rows[r.reservation_id] = r
        if r.is_live:
            self._live[_claimant(r)] = r.reservation_id
        elif self._live.get(_claimant(r)) == r.reservation_id:
            del self._live[_claimant(r)]

    @staticmethod
    def _must_fit(claims: list[Reservation], new: Reservation, room: Resources) -> None:
        top = peak(claims, new.start, new.end)
        if not top.fits_in(room):
            raise OverbookedError(
                f"{new.claimant} would need {top.as_dict()} of {room.as_dict()}", where=new.node_id or new.pool
            )


def _claimant(r: Reservation) -> tuple[str, str, str]:
    return r.pool, r.tenant, r.claimant
