"""What every table has in common: the naming of constraints, and how keys, times and partial indexes are said."""

from typing import Any

from sqlalchemy import Index, MetaData, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from preprov.store.types import BigKey, UtcDateTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Row(SQLModel, registry=registry(metadata=MetaData(naming_convention=NAMING))):
    """Base of all rows; its metadata is what migrations are compared with."""


def growing_key() -> Any:
    """A growing integer key."""
    return Field(default=None, primary_key=True, sa_type=BigKey)


def instant(**more: Any) -> Any:
    """An aware instant."""
    return Field(sa_type=UtcDateTime, **more)


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index over the rows that matter, in both databases."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))
