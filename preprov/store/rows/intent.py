"""What people asked for at run time."""

from datetime import datetime

from sqlmodel import Field

from preprov.store.rows.base import Row, growing_key, instant


class HaltRow(Row, table=True):
    """One row each time somebody halted or went on; the last one holds."""

    __tablename__ = "halt"

    id: int | None = growing_key()
    reason: str
    actor: str
    at: datetime = instant()


class PoolModeRow(Row, table=True):
    """One row each time somebody set a pool's mode; the last one holds."""

    __tablename__ = "pool_mode"

    id: int | None = growing_key()
    pool: str = Field(index=True)
    mode: str
    until: datetime | None = instant(default=None)
    actor: str
    at: datetime = instant()


class OverrideRow(Row, table=True):
    """A person's floor."""

    __tablename__ = "floor_override"

    id: int | None = growing_key()
    pool: str = Field(index=True)
    floor: int
    since: datetime = instant()
    until: datetime = instant()
    reason: str


class DrainRow(Row, table=True):
    """A node a person asked to drain; "*" = all of the pool."""

    __tablename__ = "drain"

    pool: str = Field(primary_key=True)
    node_id: str = Field(primary_key=True)
