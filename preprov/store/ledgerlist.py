"""Reservations in pages, and those that are long over forgotten: what need not hold anybody up."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, exists, literal_column, not_, or_, select
from sqlalchemy.engine import Connection

from preprov.model.reservations import Purpose, Reservation
from preprov.store.ledgercodec import TABLE, reservation

_C: Final = TABLE.c
_E: Final = TABLE.alias("e")
# As text: databases use a partial index only where they see that its condition holds.
_LIVE: Final[tuple[ColumnElement[str], ...]] = literal_column("'soft'"), literal_column("'committed'")
_FINAL: Final[tuple[ColumnElement[str], ...]] = literal_column("'released'"), literal_column("'expired'")
_TASK: Final[ColumnElement[str]] = literal_column("'task'")


def page(
    connection: Connection,
    *,
    tenant: str | None,
    pools: Sequence[str],
    purposes: Collection[Purpose],
    live: bool,
    limit: int,
    after: tuple[datetime, str] | None,
) -> tuple[tuple[Reservation, ...], ...]:
    """See `contracts.ReservationLedger.page`."""
    wanted: list[ColumnElement[bool]] = [_C.purpose.in_(sorted(map(str, purposes)))]
    if Purpose.TASK not in purposes:
        wanted.append(_C.purpose != _TASK)
    if tenant is not None:
        wanted.append(_C.tenant == tenant)
    if pools:
        wanted.append(_C.pool.in_(sorted(pools)))
    if live:
        wanted.append(_C.state.in_(_LIVE))
    if after is not None:
        start, name = after
        wanted += [_C.start >= start, or_(_C.start > start, _C.reservation_id > name)]
    first = select(TABLE).where(*wanted, _is_first(live=live)).order_by(_C.start, _C.reservation_id).limit(limit)
    heads = [reservation(row) for row in connection.execute(first).all()]
    gangs = _gangs(connection, [r.gang for r in heads if r.gang], live=live)
    return tuple(gangs[r.gang] if r.gang else (r,) for r in heads)


def _is_first(*, live: bool) -> ColumnElement[bool]:
    """Of its gang, among those that are listed."""
    before: list[ColumnElement[bool]] = [
        _E.c.gang == _C.gang,
        _E.c.gang != literal_column("''"),
        _E.c.reservation_id < _C.reservation_id,
    ]
    if live:
        before.append(_E.c.state.in_(_LIVE))
    return or_(_C.gang == literal_column("''"), not_(exists().where(*before)))


def _gangs(connection: Connection, names: Sequence[str], *, live: bool) -> dict[str, tuple[Reservation, ...]]:
    out: dict[str, list[Reservation]] = {name: [] for name in names}
    if names:
        members = select(TABLE).where(_C.gang.in_(names), _C.gang != literal_column("''"))
        if live:
            members = members.where(_C.state.in_(_LIVE))
        for row in connection.execute(members.order_by(_C.id)).all():
            out[row.gang].append(reservation(row))
    return {name: tuple(of) for name, of in out.items()}


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """See `contracts.ReservationLedger.forget`; nobody else forgets anything at this moment."""
    due = and_(_C.state.in_(_FINAL), _C.over_at < before)
    stays = exists().where(
        _E.c.gang == _C.gang,
        _E.c.gang != literal_column("''"),
        not_(and_(_E.c.state.in_(_FINAL), _E.c.over_at < before)),
    )
    found = connection.execute(
        select(_C.id, _C.gang)
        .where(due, or_(_C.gang == literal_column("''"), not_(stays)))
        .order_by(_C.over_at)
        .limit(limit)
    ).all()
    if not found:
        return 0
    gangs = sorted({gang for _, gang in found if gang})
    gone: ColumnElement[bool] = _C.id.in_([i for i, _ in found])
    if gangs:
        # A gang goes whole: half of one would be another reservation.
        gone = or_(gone, and_(_C.gang.in_(gangs), _C.gang != literal_column("''")))
    return int(connection.execute(delete(TABLE).where(gone)).rowcount)
