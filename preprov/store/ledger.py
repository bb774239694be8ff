"""The port for reservations: exact under concurrency.

Who may decide at once is settled before anything is read. On SQLite a writer is alone from its first moment. On
PostgreSQL a claim on a pool's capacity holds the pool's lock, one against a quota the tenant's, a commitment the node's
lock and its own row; that a claimant has one live reservation is kept by an index alone. There a change of one
reservation that touches nobody else's room holds nothing: it is made only if the row is still what it was.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, insert, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.reservations import OVER, STAYS, Binding, Purpose, Quota, Reservation, ReservationState
from preprov.model.resources import KINDS, Resources
from preprov.model.room import fits, micros, must_be_there, must_take_room
from preprov.model.time import from_epoch
from preprov.store.engine import Database
from preprov.store.ledgerchange import CHANGE, CHANGE_IF_SAME, LOCK, READ
from preprov.store.ledgercodec import COLUMNS, TABLE, claim, reservation, values
from preprov.store.ledgerlist import forget, page
from preprov.store.prepared import Prepared

_C: Final = TABLE.c
_SOFT, _COMMITTED = str(ReservationState.SOFT), str(ReservationState.COMMITTED)
_IS_LIVE: Final = or_(_C.state == _SOFT, _C.state == _COMMITTED)
_IS_HELD: Final = or_(_C.state == _COMMITTED, _C.purpose != str(Purpose.TASK))
"""What counts against a quota of promises: tasks that only hope for room do not."""
_TRIES: Final = 10
_UNIQUE: Final = "23505"
"""PostgreSQL's code for a unique index that refuses."""

_ADD: Final = Prepared(insert(TABLE).inline(), COLUMNS)
_CLAIMS: Final = select(_C.reservation_id, _C.segments, _C.purpose, _C.under, _C.state)
_DURING: Final = (_C.start < bindparam("last"), _C.end > bindparam("first"))
_IN_POOL: Final = Prepared(_CLAIMS.where(_C.pool == bindparam("pool"), _IS_LIVE, *_DURING))
_ON_NODE: Final = Prepared(
    _CLAIMS.where(_C.pool == bindparam("pool"), _C.state == _COMMITTED, _C.node_id == bindparam("node"))
)
_OF_TENANT: Final = _CLAIMS.where(_C.pool == bindparam("pool"), _C.tenant == bindparam("tenant"), *_DURING)
_PROMISED: Final = Prepared(_OF_TENANT.where(_IS_LIVE, _IS_HELD))
_BOUND: Final = Prepared(_OF_TENANT.where(_C.state == _COMMITTED))


class SqlReservationLedger:
    """Implements `contracts.ReservationLedger`.

    Args:
        db: where it is kept. now: epoch seconds: when something was over is noted by it.
    """

    def __init__(self, db: Database, now: Callable[[], float] = time.time) -> None:
        self._db = db
        self._epoch = now

    def _now(self) -> datetime:
        return from_epoch(self._epoch())

    def reserve(self, reservation: Reservation, capacity: Resources | None = None) -> Reservation:
        """Add a SOFT reservation; a live one of the same claimant is returned instead."""
        held = self.reserve_all([reservation], capacity)[0]
        if not held.is_live:
            raise ReservationError(f"this reservation is {held.state}", where=held.reservation_id, hint="use a new id")
        return held

    def reserve_all(
        self, gang: Sequence[Reservation], capacity: Resources | None = None, quota: Quota | None = None
    ) -> tuple[Reservation, ...]:
        """Add SOFT reservations of one pool, all or none."""
        for r in gang:
            if r.state is not ReservationState.SOFT:
                raise ReservationError(f"cannot reserve a {r.state} claim", where=r.reservation_id)
        for _ in range(_TRIES):
            if self._added(gang, capacity, quota):
                return tuple(gang)
            with self._db.reading() as connection:
                if held := _in_the_way(connection, gang):
                    return held
        raise ReservationError(f"{gang[0].claimant} is claimed and given back all the time", where=gang[0].pool)

    def _added(self, gang: Sequence[Reservation], capacity: Resources | None, quota: Quota | None) -> bool:
        """Write them and see whether they fit; False if there is one of that id, or a live one of that claimant."""
        first = gang[0]
        alone = len(gang) == 1 and capacity is None and quota is None
        locks = {*([f"ledger:{first.pool}"] if capacity is not None else []), *_quota_lock(quota)}
        try:
            with self._db.writing_one() if alone else self._db.writing(*locks) as connection:
                for r in gang:
                    _add(connection, r)
                if capacity is not None:
                    _check(connection, gang, capacity, f"pool {first.pool}", _IN_POOL, pool=first.pool)
                if quota is not None:
                    _check_quota(connection, gang, quota, _PROMISED)
        except _Taken:
            return False
        return True

    def get(self, reservation_id: str) -> tuple[Reservation, ...]:
        """The reservation of that id, or all of the gang of that name."""
        with self._db.reading() as connection:
            return _members(connection, reservation_id)

    def commit(self, reservation_id: str, node_id: str, allocatable: Resources, at: datetime) -> Reservation:
        """Bind to a node."""
        return self.commit_all([Binding(reservation_id, node_id, allocatable)], at)[0]

    def commit_all(
        self, bindings: Sequence[Binding], at: datetime, quota: Quota | None = None
    ) -> tuple[Reservation, ...]:
        """Bind to nodes, all or none."""
        nodes = {b.node_id: b.allocatable for b in bindings}
        now = self._now()
        bound: dict[str, Reservation] = {}
        changed: list[Reservation] = []
        with self._db.writing(*(f"node:{n}" for n in nodes), *_quota_lock(quota)) as connection:
            for b in sorted(bindings, key=lambda b: b.reservation_id):
                before = _locked(connection, b.reservation_id)
                after = bound[b.reservation_id] = before.commit(b.node_id, at)
                if after is not before:
                    changed.append(after)
                    must_take_room([after])
                    _bind(connection, before, after, now)
                    _use_up(connection, after, now)
            for node, allocatable in nodes.items():
                mine = [r for r in changed if r.node_id == node]
                if mine:
                    _check_node(connection, mine, node, allocatable, at)
            if quota is not None and changed:
                _check_quota(connection, changed, quota, _BOUND)
        return tuple(bound[b.reservation_id] for b in bindings)

    def release(self, reservation_id: str, reason: str = "") -> Reservation:
        """Give back."""
        return self._changed(reservation_id, lambda before: before.release(reason))

    def resize(self, reservation_id: str, amount: Resources, allocatable: Resources, at: datetime) -> Reservation:
        """Let a committed task claim so much from now on."""
        with self._db.reading() as connection:
            found = _members(connection, reservation_id)
        node = found[0].node_id if found else None
        with self._db.writing(*([f"node:{node}"] if node else [])) as connection:
            before = _locked(connection, reservation_id)
            after = before.resized(amount, at)
            if after.node_id != node:
                raise ReservationError("it was bound meanwhile", where=reservation_id, hint="try again")
            if after is not before:
                CHANGE(connection, before, after, self._now())
                if not before.covers_resized(amount, at):
                    _check_node(connection, [after], str(node), allocatable, at)
            return after

    def grow(self, reservation_id: str, gib: float) -> Reservation:
        """A committed claim on a volume has so much now."""
        return self._changed(reservation_id, lambda before: before.grown(gib))

    def allot(
        self, reservation_id: str, node_id: str, amounts: Mapping[str, float], there: Mapping[str, float], at: datetime
    ) -> Reservation:
        """Bind a claim on units, or change what it has."""
        with self._db.reading() as connection:
            found = _members(connection, reservation_id)
        units = found[0].units if len(found) == 1 else None
        with self._db.writing(*([f"units:{found[0].pool}:{units.kind}"] if units else [])) as connection:
            before = _locked(connection, reservation_id)
            after = before.commit(node_id, at).allotted(amounts)
            if after is not before:
                CHANGE(connection, before, after, self._now())
                kind = after.units.kind if after.units else ""
                which = (_C.pool == after.pool, _C.unit_kind == kind, _C.state == _COMMITTED)
                held = connection.execute(select(TABLE).where(*which)).all()
                must_be_there([reservation(row) for row in held], before, after, there)
            return after

    def rebook(self, reservation_id: str, expires_at: datetime, reason: str) -> Reservation:
        """Back to SOFT."""
        return self._changed(reservation_id, lambda before: before.rebook(expires_at, reason))

    def _changed(self, reservation_id: str, change: Callable[[Reservation], Reservation]) -> Reservation:
        """One reservation after a change that touches nobody else's room."""
        if not self._db.is_sqlite:
            after = self._changed_if_same(reservation_id, change)
            if after is not None:
                return after
        with self._db.writing() as connection:
            before = _locked(connection, reservation_id)
            after = change(before)
            if after is not before:
                CHANGE(connection, before, after, self._now())
            return after

    def _changed_if_same(self, reservation_id: str, change: Callable[[Reservation], Reservation]) -> Reservation | None:
        """Changed as it was read, in two statements without a lock; None if that was not to be."""
        with self._db.writing_one() as connection:
            rows = READ(connection, which=reservation_id)
            if not rows:
                return None
            before = reservation(rows[0])
            after = change(before)
            if after is before:
                return after
            same = CHANGE_IF_SAME(connection, before, after, self._now(), version=rows[0].version)
            return after if same else None

    def expire(self, pool: str, at: datetime) -> int:
        """Void soft claims whose time is over, and end what was held until now.

        What somebody changes at this moment is passed over: the next call will find it, and nobody waits for anybody.
        """
        void = (_C.state == _SOFT, _C.expires_at <= at)
        over = (_C.state == _COMMITTED, _C.purpose.not_in(sorted(map(str, STAYS))), _C.end <= at)
        count = 0
        with self._db.writing() as connection:
            for which, state, reason in (
                (void, ReservationState.EXPIRED, "not committed in time"),
                (over, ReservationState.RELEASED, OVER),
            ):
                ids = select(_C.id).where(_C.pool == pool, *which).with_for_update(skip_locked=True)
                new = {"state": str(state), "reason": reason, "over_at": at}
                done = update(TABLE).where(_C.id.in_(ids.scalar_subquery())).values(new)
                count += int(connection.execute(done).rowcount)
        return count

    def reservations(
        self, pool: str | None = None, *, live: bool = True, node_id: str | None = None
    ) -> tuple[Reservation, ...]:
        """Reservations by start."""
        wanted = select(TABLE)
        if pool is not None:
            wanted = wanted.where(_C.pool == pool)
        if live:
            wanted = wanted.where(_IS_LIVE)
        if node_id is not None:
            wanted = wanted.where(_C.node_id == node_id)
        with self._db.reading() as connection:
            rows = connection.execute(wanted.order_by(_C.start, _C.id)).all()
        return tuple(reservation(r) for r in rows)

    def page(
        self,
        purposes: Collection[Purpose],
        *,
        limit: int,
        after: tuple[datetime, str] | None = None,
        tenant: str | None = None,
        pools: Sequence[str] = (),
        live: bool = True,
    ) -> tuple[tuple[Reservation, ...], ...]:
        """Some of the reservations by start, gangs whole."""
        with self._db.reading() as connection:
            return page(connection, tenant=tenant, pools=pools, purposes=purposes, live=live, limit=limit, after=after)

    def forget(self, before: datetime, limit: int) -> int:
        """Drop some that were over before then, one caller after the other: half of a gang each would be a deadlock."""
        with self._db.writing("forget") as connection:
            return forget(connection, before, limit)


class _Taken(Exception):
    """There is one of that id, or a live one of that claimant."""


def _quota_lock(quota: Quota | None) -> tuple[str, ...]:
    return () if quota is None else (f"quota:{quota.pool}:{quota.tenant}",)


def _in_the_way(connection: Connection, gang: Sequence[Reservation]) -> tuple[Reservation, ...]:
    """What has the id, else what is live of the first claimant that has something."""
    if known := _members(connection, gang[0].gang or gang[0].reservation_id):
        return known
    for r in gang:
        mine = (_C.pool == r.pool, _C.tenant == r.tenant, _C.claimant == r.claimant)
        row = connection.execute(select(TABLE).where(*mine, _IS_LIVE)).first()
        if row is not None:
            return _members(connection, row.gang or row.reservation_id)
    return ()


def _members(connection: Connection, name: str) -> tuple[Reservation, ...]:
    alone = connection.execute(select(TABLE).where(_C.reservation_id == name)).first()
    if alone is not None:
        return (reservation(alone),)
    of_gang = select(TABLE).where(_C.gang == name, _C.gang != "").order_by(_C.id)
    return tuple(reservation(r) for r in connection.execute(of_gang).all())


def _locked(connection: Connection, reservation_id: str) -> Reservation:
    rows = LOCK(connection, which=reservation_id)
    if not rows:
        raise ReservationError(f"no reservation {reservation_id}", hint="preprov reservation list")
    return reservation(rows[0])


def _bind(connection: Connection, before: Reservation, r: Reservation, now: datetime) -> None:
    """Write a commitment. Who has a volume is settled by an index, as who claims is."""
    try:
        CHANGE(connection, before, r, now)
    except IntegrityError as refused:
        if r.volume is not None and _is_unique(refused):
            hint = "wait for its release: preprov reservation list"
            raise OverbookedError(f"volume {r.volume.name} is somebody else's", where=r.pool, hint=hint) from refused
        raise


def _is_unique(refused: IntegrityError) -> bool:
    return getattr(refused.orig, "sqlstate", None) == _UNIQUE or "UNIQUE constraint" in str(refused.orig)


def _use_up(connection: Connection, bound: Reservation, now: datetime) -> None:
    """Take from a booking what is bound under it; the two are changed together or not at all."""
    if not bound.under:
        return
    holder = _locked(connection, bound.under)
    if (holder.pool, holder.tenant) != (bound.pool, bound.tenant):
        raise ReservationError("it is under another tenant's reservation", where=bound.reservation_id)
    left = holder.used(bound.most, bound.start)
    if left is not holder:
        CHANGE(connection, holder, left, now)


def _add(connection: Connection, r: Reservation) -> None:
    """Write it, unless there is one."""
    try:
        _ADD(connection, **values(r))
    except IntegrityError as refused:
        if _is_unique(refused):
            raise _Taken from refused
        raise


def _check_node(
    connection: Connection, new: Sequence[Reservation], node: str, allocatable: Resources, at: datetime
) -> None:
    _check(connection, new, allocatable, f"node {node}", _ON_NODE, at=at, pool=new[0].pool, node=node)


def _check(
    connection: Connection,
    new: Sequence[Reservation],
    room: Resources,
    where: str,
    claims: Prepared,
    *,
    at: datetime | None = None,
    **names: str,
) -> None:
    """Refuse what was just written if it does not fit beside the others that `claims` finds.

    Args:
        connection: in the transaction that wrote it. new: what was written.
        room: how much may be claimed. where: of what, for people.
        claims: finds the others, of which `names` say what it asks for.
        at: tasks that should have ended by then count on until they are released.

    Raises:
        OverbookedError: it does not fit.
    """
    start, end = min(r.start for r in new), max(r.end for r in new)
    when = {} if at is not None else {"first": start, "last": end}
    held = [claim(row) for row in claims(connection, **names, **when)]
    first, last = micros(start), micros(end)
    if at is not None:
        held, last = [c.late(micros(at)) for c in held], max(last, micros(at) + 1)
    top = fits(held, first, last, room)
    if top is not None:
        raise OverbookedError(
            f"{new[0].claimant} does not fit: {_short(top, room)}", where=where, hint="another node or time"
        )


def _check_quota(connection: Connection, new: Sequence[Reservation], quota: Quota, claims: Prepared) -> None:
    where = f"quota of {quota.tenant}"
    _check(connection, new, quota.limit, where, claims, pool=quota.pool, tenant=quota.tenant)


def _short(top: Resources, room: Resources) -> str:
    pairs = zip(KINDS, top.as_tuple(), room.as_tuple(), strict=True)
    return ", ".join(f"{kind} {want:g} of {have:g}" for kind, want, have in pairs if want > have + 1e-9)
