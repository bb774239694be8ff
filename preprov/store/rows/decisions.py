"""What was seen, foreseen, decided and done: snapshots, forecasts, plans, audit."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field

from preprov.store.rows.base import Row, growing_key, instant
from preprov.store.types import BigKey


class SnapshotRow(Row, table=True):
    """What a pass saw of a pool, as JSON."""

    __tablename__ = "pool_snapshot"

    pool: str = Field(primary_key=True)
    at: datetime = instant(primary_key=True)
    document: str


class ForecastRow(Row, table=True):
    """An issued forecast: the header as JSON, the sample paths as npz."""

    __tablename__ = "forecast"
    __table_args__ = (UniqueConstraint("pool", "issued_at", "kind"),)

    forecast_id: str = Field(primary_key=True)
    pool: str
    issued_at: datetime = instant()
    kind: str
    header: str
    data: bytes = Field(sa_type=LargeBinary)


class PlanRow(Row, table=True):
    """A made plan, as JSON."""

    __tablename__ = "plan"
    __table_args__ = (Index("ix_plan_pool_issued_at", "pool", "issued_at"),)

    id: int | None = growing_key()
    plan_id: str = Field(unique=True)
    pool: str
    issued_at: datetime = instant()
    document: str


class ActionRow(Row, table=True):
    """One audit row; only ever added."""

    __tablename__ = "action"
    __table_args__ = (Index("ix_action_pool_at", "pool", "at"),)

    id: int | None = growing_key()
    action_id: str = Field(index=True)
    plan_id: str = Field(index=True)
    pool: str
    group: str
    kind: str
    actor: str
    at: datetime = instant()
    result: str
    document: str


class ActionNodeRow(Row, table=True):
    """Which nodes an audit row speaks of."""

    __tablename__ = "action_node"

    action: int = Field(
        sa_column=Column(BigKey, ForeignKey("action.id"), primary_key=True, nullable=False, autoincrement=False)
    )
    node_id: str = Field(primary_key=True, index=True)
