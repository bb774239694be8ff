"""Column types of the store."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Double, Integer
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from preprov.model.errors import StoreError

BigKey: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")
"""A growing integer key (SQLite counts up only in a column that says INTEGER)."""

EpochSeconds = Double
"""Seconds since 1970-01-01T00:00Z, UTC by construction: for bulk columns, which are compared and never shown."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant, kept in UTC and returned in UTC. A naive one is refused, not guessed.

    SQLite has no zone of its own: there the column holds the UTC wall clock.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database, in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise StoreError(f"refused to store {value.isoformat()}: it has no time zone", hint="make it aware")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database, aware."""
        if value is None:
            return None
        read: datetime = value
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
