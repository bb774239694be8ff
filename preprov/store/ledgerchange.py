"""How a reservation is changed in its table: its state alone if its claim stays, and on demand only as it was read."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Text, bindparam, cast, literal_column, select, update
from sqlalchemy.engine import Connection

from preprov.model.reservations import Reservation
from preprov.store.ledgercodec import TABLE, state_values, values
from preprov.store.prepared import Prepared

_STATE: Final = ("state", "node_id", "reason", "expires_at", "bound_at", "over_at")
_ALL: Final = (*_STATE, "segments", "start", "end", "volume_gib", "units")
_IS_IT: Final = TABLE.c.reservation_id == bindparam("which")
_VERSION: Final = cast(literal_column("xmin"), Text)
"""PostgreSQL's own mark of a row's version: another one after each change."""

READ: Final = Prepared(select(TABLE, _VERSION.label("version")).where(_IS_IT))
"""The row of `which`, with its version; on PostgreSQL only."""
LOCK: Final = Prepared(select(TABLE).where(_IS_IT).with_for_update())
"""The row of `which`, which is nobody else's to change until the transaction ends."""


class _Change:
    """An update of one row.

    Args:
        where: more conditions.
    """

    def __init__(self, *where: ColumnElement[bool]) -> None:
        self._state: Final = _update(_STATE, where)
        self._all: Final = _update(_ALL, where)

    def __call__(
        self, connection: Connection, before: Reservation, after: Reservation, now: datetime, **given: Any
    ) -> bool:
        """Write what has changed at `now`; False if the conditions do not hold."""
        as_was = after.segments is before.segments and after.volume is before.volume and after.units is before.units
        if as_was:
            new = _new(state_values(after, now), _STATE)
            return self._state.count(connection, which=after.reservation_id, **given, **new) == 1
        return self._all.count(connection, which=after.reservation_id, **given, **_new(values(after, now), _ALL)) == 1


def _update(columns: Sequence[str], where: Sequence[ColumnElement[bool]]) -> Prepared:
    to: dict[str, Any] = {k: bindparam(f"new_{k}") for k in columns}
    return Prepared(update(TABLE).where(_IS_IT, *where).values(to))


def _new(told: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {f"new_{k}": told[k] for k in columns}


CHANGE: Final = _Change()
CHANGE_IF_SAME: Final = _Change(bindparam("version", type_=Text) == _VERSION)
"""Given the `version` that was read; on PostgreSQL only."""
