"""The port for reservations: exact under concurrency.

Who may decide at once is settled before anything is read: on SQLite a writer is alone from its first moment; on
PostgreSQL a claim on a pool's capacity holds the pool's lock, and a commitment the node's lock and its own row.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, update
from sqlmodel import Session, col, select

from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment
from preprov.model.resources import KINDS, Resources
from preprov.store.engine import Database
from preprov.store.rows import ReservationRow

_SOFT, _COMMITTED = str(ReservationState.SOFT), str(ReservationState.COMMITTED)
_LIVE: Final = (_SOFT, _COMMITTED)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class SqlReservationLedger:
    """Implements `contracts.ReservationLedger`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def reserve(self, reservation: Reservation, capacity: Resources | None = None) -> Reservation:
        """Add a SOFT reservation; a live one of the same claimant is returned instead."""
        _must_be_soft(reservation)
        with self._db.write(*_locks([reservation], capacity)) as session:
            return _reserve(session, reservation, capacity)

    def reserve_all(self, gang: Sequence[Reservation], capacity: Resources | None = None) -> tuple[Reservation, ...]:
        """Add SOFT reservations of one pool, all or none."""
        for reservation in gang:
            _must_be_soft(reservation)
        with self._db.write(*_locks(gang, capacity)) as session:
            if known := _members(session, gang[0].gang or gang[0].reservation_id):
                return known
            return tuple(_reserve(session, r, capacity) for r in gang)

    def get(self, reservation_id: str) -> tuple[Reservation, ...]:
        """The reservation of that id, or all of the gang of that name."""
        with self._db.read() as session:
            return _members(session, reservation_id)

    def commit(self, reservation_id: str, node_id: str, allocatable: Resources, at: datetime) -> Reservation:
        """Bind to a node."""
        with self._db.write(f"node:{node_id}") as session:
            row = _locked(session, reservation_id)
            before = _reservation(row)
            after = before.commit(node_id, at)
            if after != before:
                on_node = (col(ReservationRow.state) == _COMMITTED, col(ReservationRow.node_id) == node_id)
                _check_room(session, after, allocatable, f"node {node_id}", *on_node)
                row.state, row.node_id = str(after.state), node_id
                session.add(row)
            return after

    def release(self, reservation_id: str, reason: str = "") -> Reservation:
        """Give back."""
        with self._db.write() as session:
            row = _locked(session, reservation_id)
            after = _reservation(row).release(reason)
            row.state, row.reason = str(after.state), after.reason
            session.add(row)
            return after

    def expire(self, pool: str, at: datetime) -> int:
        """Void soft claims whose time is over."""
        table = ReservationRow.__table__  # type: ignore[attr-defined]
        over = (
            update(table)
            .where(table.c.pool == pool, table.c.state == _SOFT, table.c.expires_at <= at)
            .values(state=str(ReservationState.EXPIRED), reason="not committed in time")
        )
        with self._db.write() as session:
            return int(session.connection().execute(over).rowcount)

    def reservations(
        self, pool: str | None = None, *, live: bool = True, node_id: str | None = None
    ) -> tuple[Reservation, ...]:
        """Reservations by start."""
        wanted = select(ReservationRow)
        if pool is not None:
            wanted = wanted.where(col(ReservationRow.pool) == pool)
        if live:
            wanted = wanted.where(col(ReservationRow.state).in_(_LIVE))
        if node_id is not None:
            wanted = wanted.where(col(ReservationRow.node_id) == node_id)
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(ReservationRow.start), col(ReservationRow.id))).all()
        return tuple(_reservation(r) for r in rows)


def _must_be_soft(reservation: Reservation) -> None:
    if reservation.state is not ReservationState.SOFT:
        raise ReservationError(f"cannot reserve a {reservation.state} claim", where=reservation.reservation_id)


def _locks(claims: Sequence[Reservation], capacity: Resources | None) -> set[str]:
    """Who claims a pool's capacity is alone in the pool; who claims none only has to be alone with its name."""
    names = {f"claimant:{r.pool}:{r.tenant}:{r.claimant}" for r in claims}
    return names if capacity is None else names | {f"ledger:{r.pool}" for r in claims}


def _reserve(session: Session, reservation: Reservation, capacity: Resources | None) -> Reservation:
    mine = (
        col(ReservationRow.pool) == reservation.pool,
        col(ReservationRow.tenant) == reservation.tenant,
        col(ReservationRow.claimant) == reservation.claimant,
    )
    held = _first(session, *mine, col(ReservationRow.state).in_(_LIVE))
    if held is not None:
        return _reservation(held)
    if _first(session, col(ReservationRow.reservation_id) == reservation.reservation_id) is not None:
        raise ReservationError("this reservation id was used before", where=reservation.reservation_id)
    if capacity is not None:
        _check_room(session, reservation, capacity, f"pool {reservation.pool}", col(ReservationRow.state).in_(_LIVE))
    session.add(_row(reservation))
    session.flush()
    return reservation


def _members(session: Session, name: str) -> tuple[Reservation, ...]:
    alone = _first(session, col(ReservationRow.reservation_id) == name)
    if alone is not None:
        return (_reservation(alone),)
    of_gang = select(ReservationRow).where(col(ReservationRow.gang) == name, col(ReservationRow.gang) != "")
    return tuple(_reservation(r) for r in session.exec(of_gang.order_by(col(ReservationRow.id))).all())


def _first(session: Session, *where: ColumnElement[bool]) -> ReservationRow | None:
    return session.exec(select(ReservationRow).where(*where)).first()


def _locked(session: Session, reservation_id: str) -> ReservationRow:
    wanted = select(ReservationRow).where(col(ReservationRow.reservation_id) == reservation_id).with_for_update()
    row = session.exec(wanted).first()
    if row is None:
        raise _missing(reservation_id)
    return row


def _missing(reservation_id: str) -> ReservationError:
    return ReservationError(f"no reservation {reservation_id}", hint="preprov reservation list")


def _check_room(session: Session, claim: Reservation, room: Resources, where: str, *which: ColumnElement[bool]) -> None:
    """Refuse a claim that would not fit beside the others of its pool that `which` names.

    Raises:
        OverbookedError: it would not.
    """
    others = session.exec(
        select(ReservationRow.segments).where(
            col(ReservationRow.pool) == claim.pool,
            col(ReservationRow.reservation_id) != claim.reservation_id,
            col(ReservationRow.start) < claim.end,
            col(ReservationRow.end) > claim.start,
            *which,
        )
    ).all()
    top = _peak([*(json.loads(s) for s in others), _segments(claim)], _micros(claim.start), _micros(claim.end))
    if not top.fits_in(room):
        short = ", ".join(
            f"{kind} {want:g} of {have:g}"
            for kind, want, have in zip(KINDS, top.as_tuple(), room.as_tuple(), strict=True)
            if want > have
        )
        raise OverbookedError(f"{claim.claimant} does not fit: {short}", where=where, hint="another node or time")


def _peak(claims: Iterable[list[list[float]]], start: int, end: int) -> Resources:
    """What the claims want together at their highest within [start, end), element by element."""
    flat = [segment for claim in claims for segment in claim if segment[1] > start and segment[0] < end]
    if not flat:
        return Resources()
    amounts = np.array([s[2:] for s in flat])
    begins = np.array([max(int(s[0]), start) for s in flat], dtype=np.int64)
    ends = np.array([min(int(s[1]), end) for s in flat], dtype=np.int64)
    # At an instant where one ends and one begins, the end counts first: intervals are open on the right.
    order = np.lexsort((np.repeat([1, 0], len(flat)), np.concatenate([begins, ends])))
    level = np.cumsum(np.concatenate([amounts, -amounts])[order], axis=0)
    return Resources.of(np.maximum(level.max(axis=0), 0.0).round(9).tolist())


# --------------------------------------------------------------------------- rows


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _segments(reservation: Reservation) -> list[list[Any]]:
    return [[_micros(s.start), _micros(s.end), *s.amount.as_tuple()] for s in reservation.segments]


def _row(r: Reservation) -> ReservationRow:
    return ReservationRow(
        reservation_id=r.reservation_id,
        pool=r.pool,
        claimant=r.claimant,
        state=str(r.state),
        tenant=r.tenant,
        priority=r.priority,
        start=r.start,
        end=r.end,
        segments=json.dumps(_segments(r), separators=(",", ":")),
        expires_at=r.expires_at,
        node_id=r.node_id,
        created_at=r.created_at,
        reason=r.reason,
        purpose=str(r.purpose),
        gang=r.gang,
        fingerprint=r.fingerprint,
    )


def _reservation(row: ReservationRow) -> Reservation:
    segments = tuple(
        Segment(_EPOCH + start * _MICROSECOND, _EPOCH + end * _MICROSECOND, Resources.of(amount))
        for start, end, *amount in json.loads(row.segments)
    )
    return Reservation(
        reservation_id=row.reservation_id,
        pool=row.pool,
        claimant=row.claimant,
        segments=segments,
        state=ReservationState(row.state),
        tenant=row.tenant,
        priority=row.priority,
        expires_at=row.expires_at,
        node_id=row.node_id,
        created_at=row.created_at,
        reason=row.reason,
        purpose=Purpose(row.purpose),
        gang=row.gang,
        fingerprint=row.fingerprint,
    )
