"""Statements that are put together once: the same as SQLAlchemy's own execution, values and errors alike."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, or_, select, update
from sqlalchemy.exc import IntegrityError, StatementError

from preprov.model.errors import StoreError
from preprov.model.reservations import Reservation, Segment
from preprov.model.resources import Resources
from preprov.store.database import open_store
from preprov.store.engine import Database, resolve
from preprov.store.ledgercodec import COLUMNS, TABLE, values
from preprov.store.prepared import Prepared

T0 = datetime(2026, 3, 1, 6, tzinfo=timezone(timedelta(hours=2)))
ADD = Prepared(insert(TABLE).inline(), COLUMNS)
FIND = Prepared(
    select(TABLE).where(TABLE.c.pool == bindparam("pool"), or_(TABLE.c.state == "soft", TABLE.c.gang != ""))
)
CHANGE = Prepared(
    update(TABLE).where(TABLE.c.reservation_id == bindparam("which")).values(volume_kept=bindparam("new_kept"))
)


def row(name: str, **more: Any) -> dict[str, Any]:
    part = Segment(T0, T0 + timedelta(minutes=1), Resources(cpu=1))
    return {**values(Reservation(name, "p", name, (part,))), **more}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    open_store("", tmp_path).close()
    db = Database(resolve("", tmp_path))
    yield db
    db.close()


def test_rows_are_as_sqlalchemy_reads_them(database: Database) -> None:
    with database.writing() as connection:
        ADD(connection, **row("a"))
        ADD(connection, **row("b", volume_kept=False, node_id="n", expires_at=T0))
        assert ADD(connection, **row("c", pool="q")) == []
        found = FIND(connection, pool="p")
        plain = connection.execute(select(TABLE).where(TABLE.c.pool == "p")).all()
    assert [tuple(r) for r in found] == [tuple(r) for r in plain]
    a, b = found
    assert (a.reservation_id, a.start, a.start.tzinfo, a.expires_at, a.volume_kept) == ("a", T0, UTC, None, True)
    assert (b.node_id, b.expires_at, b.volume_kept) == ("n", T0, False)
    assert type(b.volume_kept) is bool


def test_a_change_is_part_of_its_transaction(database: Database) -> None:
    with database.writing() as connection:
        ADD(connection, **row("a"))

    def half() -> None:
        with database.writing() as connection:
            CHANGE(connection, which="a", new_kept=False)
            assert [r.volume_kept for r in FIND(connection, pool="p")] == [False]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    with database.writing() as connection:
        assert [CHANGE.count(connection, which=name, new_kept=True) for name in ("a", "b")] == [1, 0]
    with database.writing() as connection:
        assert [r.volume_kept for r in FIND(connection, pool="p")] == [True]


def test_what_the_database_refuses_is_told_as_sqlalchemy_tells_it(database: Database) -> None:
    with database.writing() as connection:
        ADD(connection, **row("a"))
        with pytest.raises(IntegrityError, match="UNIQUE constraint failed"):
            ADD(connection, **row("a"))
        assert len(FIND(connection, pool="p")) == 1, "the connection goes on"


def test_values_never_stand_in_an_error(database: Database) -> None:
    with pytest.raises(StoreError) as refused, database.writing() as connection:
        ADD(connection, **row("a", pool=None, claimant="a secret"))
    assert "secret" not in str(refused.value)
    cause = refused.value.__cause__
    assert isinstance(cause, StatementError)
    assert "secret" not in str(cause)


def test_a_naive_time_is_refused_as_everywhere(database: Database) -> None:
    with pytest.raises(StoreError, match="no time zone"), database.writing() as connection:
        ADD(connection, **row("a", start=datetime(2026, 3, 1)))  # noqa: DTZ001 - that is the point
