"""The tables. Rows are rows: nothing here validates, and no row leaves this package.

Work is kept at two speeds. What runs here is one row a run and one row a task, because it changes. What is over never
changes and is read whole, half a million tasks at a time: it is kept in columns, many runs to a block.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, MetaData, UniqueConstraint, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from preprov.store.types import BigKey, EpochSeconds, UtcDateTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Row(SQLModel, registry=registry(metadata=MetaData(naming_convention=NAMING))):
    """Base of all rows; its metadata is what migrations are compared with."""


def _key() -> Any:
    return Field(default=None, primary_key=True, sa_type=BigKey)


def _time(**more: Any) -> Any:
    return Field(sa_type=UtcDateTime, **more)


def _where(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index over the rows that matter, in both databases."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


# --------------------------------------------------------------------------- work that is over


class IntakeRow(Row, table=True):
    """One ingest: what was read, and what came of it. The rejected rows themselves are not kept here."""

    __tablename__ = "intake"
    __table_args__ = (_where("uq_intake_pool_digest", "pool", "digest", where="digest <> ''", unique=True),)

    id: int | None = _key()
    pool: str
    key: str
    digest: str
    runs: int
    tasks: int
    rejects: int
    zone: str
    notes: str
    imputed: str


class HistoryBlockRow(Row, table=True):
    """A stretch of runs that are over, with their tasks and edges, each as Parquet (see `columns`).

    Runs that were ingested are here alone; runs that were served here keep their rows (see `fold`).
    """

    __tablename__ = "history_block"
    __table_args__ = (Index("ix_history_block_pool_last_submit", "pool", "last_submit"),)

    id: int | None = _key()
    intake_id: int | None = Field(default=None, sa_column=Column(BigKey, ForeignKey("intake.id")))
    pool: str
    first_submit: float = Field(sa_type=EpochSeconds)
    last_submit: float = Field(sa_type=EpochSeconds)
    run_count: int
    task_count: int
    runs: bytes = Field(sa_type=LargeBinary)
    tasks: bytes = Field(sa_type=LargeBinary)
    edges: bytes = Field(sa_type=LargeBinary)


class DemandSeriesRow(Row, table=True):
    """The demand series that stands for a pool's history: the header as JSON, the columns as npz."""

    __tablename__ = "demand_series"

    pool: str = Field(primary_key=True)
    header: str
    data: bytes = Field(sa_type=LargeBinary)


class ScheduleRow(Row, table=True):
    """A declared recurrence."""

    __tablename__ = "schedule"

    pool: str = Field(primary_key=True)
    dag_id: str = Field(primary_key=True)
    cron: str
    zone: str
    tenant: str
    priority: int = Field(sa_type=BigInteger)
    since: datetime | None = _time(default=None)
    paused: bool
    max_active_runs: int | None = None
    land_by_s: float | None = None


# --------------------------------------------------------------------------- work that runs here


class DagTemplateRow(Row, table=True):
    """The last spec of a DAG, from which its next turns are made."""

    __tablename__ = "dag_template"

    pool: str = Field(primary_key=True)
    dag_id: str = Field(primary_key=True)
    spec: str
    saved_at: datetime = _time()


class LiveRunRow(Row, table=True):
    """A run that is served here. `folded`: what `work` tells of it stands in a history block."""

    __tablename__ = "live_run"
    __table_args__ = (
        Index("ix_live_run_pool_submitted_at", "pool", "submitted_at"),
        _where("uq_live_run_turn", "pool", "dag_id", "scheduled_for", where="scheduled_for IS NOT NULL", unique=True),
        _where("ix_live_run_unfolded", "pool", "submitted_at", where="NOT folded"),
        _where(
            "ix_live_run_open",
            "pool",
            where="state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')",
        ),
    )

    id: int | None = _key()
    run_id: str = Field(unique=True)
    pool: str
    dag_id: str
    tenant: str
    trigger: str
    state: str
    priority: int = Field(sa_type=BigInteger)
    cron: str
    zone: str
    submitted_at: datetime = _time()
    scheduled_for: datetime | None = _time(default=None)
    due: datetime | None = _time(default=None)
    land_by: datetime | None = _time(default=None)
    ended_at: datetime | None = _time(default=None)
    reason: str = ""
    task_count: int
    folded: bool = False


class LiveTaskRow(Row, table=True):
    """A task of a run that is served here. `spec` is the whole of it; the numbers beside it are for reading in bulk.

    `position` counts the run's tasks, parents first; `parents` is a JSON list of positions, `done` one of instances.
    """

    __tablename__ = "live_task"
    __table_args__ = (UniqueConstraint("run", "task_id"),)

    run: int = Field(
        sa_column=Column(BigKey, ForeignKey("live_run.id"), primary_key=True, nullable=False, autoincrement=False)
    )
    position: int = Field(primary_key=True)
    task_id: str
    signature: str
    operator: str
    spec: str
    parents: str
    instances: int = Field(sa_type=BigInteger)
    cpu: float
    memory: float
    gpu: float
    disk_io: float
    network: float
    gang: bool
    hint_s: float | None = None
    state: str
    priority: int = Field(sa_type=BigInteger)
    ready_at: datetime | None = _time(default=None)
    started_at: datetime | None = _time(default=None)
    ended_at: datetime | None = _time(default=None)
    node_id: str | None = None
    attempt: int = 1
    exit_code: int | None = None
    reason: str = ""
    done: str = "[]"
    provision_wait_s: float | None = None


# --------------------------------------------------------------------------- snapshots, forecasts, plans, audit


class SnapshotRow(Row, table=True):
    """What a pass saw of a pool, as JSON."""

    __tablename__ = "pool_snapshot"

    pool: str = Field(primary_key=True)
    at: datetime = _time(primary_key=True)
    document: str


class ForecastRow(Row, table=True):
    """An issued forecast: the header as JSON, the sample paths as npz."""

    __tablename__ = "forecast"
    __table_args__ = (UniqueConstraint("pool", "issued_at", "kind"),)

    forecast_id: str = Field(primary_key=True)
    pool: str
    issued_at: datetime = _time()
    kind: str
    header: str
    data: bytes = Field(sa_type=LargeBinary)


class PlanRow(Row, table=True):
    """A made plan, as JSON."""

    __tablename__ = "plan"
    __table_args__ = (Index("ix_plan_pool_issued_at", "pool", "issued_at"),)

    id: int | None = _key()
    plan_id: str = Field(unique=True)
    pool: str
    issued_at: datetime = _time()
    document: str


class ActionRow(Row, table=True):
    """One audit row; only ever added."""

    __tablename__ = "action"
    __table_args__ = (Index("ix_action_pool_at", "pool", "at"),)

    id: int | None = _key()
    action_id: str = Field(index=True)
    plan_id: str = Field(index=True)
    pool: str
    group: str
    kind: str
    actor: str
    at: datetime = _time()
    result: str
    document: str


class ActionNodeRow(Row, table=True):
    """Which nodes an audit row speaks of."""

    __tablename__ = "action_node"

    action: int = Field(
        sa_column=Column(BigKey, ForeignKey("action.id"), primary_key=True, nullable=False, autoincrement=False)
    )
    node_id: str = Field(primary_key=True, index=True)


# --------------------------------------------------------------------------- reservations, leases, votes, leads


class ReservationRow(Row, table=True):
    """A claim on capacity.

    `segments` is JSON: [[start, end, cpu, memory, gpu, disk_io, network], …], times in epoch microseconds.
    """

    __tablename__ = "reservation"
    __table_args__ = (
        _where("uq_reservation_live", "pool", "claimant", where="state IN ('soft', 'committed')", unique=True),
        _where("ix_reservation_node", "pool", "node_id", where="state = 'committed'"),
        Index("ix_reservation_pool_start", "pool", "start"),
    )

    id: int | None = _key()
    reservation_id: str = Field(unique=True)
    pool: str
    claimant: str
    state: str
    tenant: str
    priority: int = Field(sa_type=BigInteger)
    start: datetime = _time()
    end: datetime = _time()
    segments: str
    expires_at: datetime | None = _time(default=None)
    node_id: str | None = None
    created_at: datetime | None = _time(default=None)
    reason: str = ""


class LeaseRow(Row, table=True):
    """Who passes over a pool, until when. `token` is new with every holding."""

    __tablename__ = "pool_lease"

    pool: str = Field(primary_key=True)
    holder: str
    token: str
    until: datetime = _time()


class VoteRow(Row, table=True):
    """Since when a node has been found superfluous."""

    __tablename__ = "scale_down_vote"

    pool: str = Field(primary_key=True)
    node_id: str = Field(primary_key=True)
    since: datetime = _time()


class LeadRow(Row, table=True):
    """One warming."""

    __tablename__ = "lead_observation"
    __table_args__ = (
        UniqueConstraint("node_id", "came_from", "at"),
        Index("ix_lead_observation_provider_at", "provider", "at"),
    )

    id: int | None = _key()
    at: datetime = _time()
    pool: str
    provider: str
    group: str
    zone: str
    instance_type: str
    image: str
    came_from: str
    seconds: float
    node_id: str
    stages: str
    outcome: str


# --------------------------------------------------------------------------- models, intent


class ModelRow(Row, table=True):
    """A model version with its bytes."""

    __tablename__ = "model_version"
    __table_args__ = (_where("uq_model_version_champion", "pool", "kind", where="champion", unique=True),)

    id: int | None = _key()
    version: str = Field(unique=True)
    pool: str
    kind: str
    format: str
    sha256: str
    created_at: datetime = _time()
    champion: bool
    metrics: str
    backtest_id: str = ""
    reason: str = ""
    data: bytes = Field(sa_type=LargeBinary)


class PromotionRow(Row, table=True):
    """One row each time a version became champion; only ever added."""

    __tablename__ = "model_promotion"
    __table_args__ = (Index("ix_model_promotion_pool_kind", "pool", "kind"),)

    id: int | None = _key()
    pool: str
    kind: str
    version: str
    before: str
    at: datetime = _time()
    reason: str
    backtest_id: str
    actor: str
    rollback: bool


class BacktestRow(Row, table=True):
    """A challenger beside the champion, as JSON."""

    __tablename__ = "model_backtest"
    __table_args__ = (Index("ix_model_backtest_pool_at", "pool", "at"),)

    id: int | None = _key()
    backtest_id: str = Field(unique=True)
    pool: str
    at: datetime = _time()
    document: str


class ForecastScoreRow(Row, table=True):
    """An issued forecast against what came, as JSON."""

    __tablename__ = "forecast_score"
    __table_args__ = (Index("ix_forecast_score_pool_issued_at", "pool", "issued_at"),)

    forecast_id: str = Field(primary_key=True)
    pool: str
    issued_at: datetime = _time()
    document: str


class QuarantinedDayRow(Row, table=True):
    """A day kept out of training, or lifted; `day` is its ISO date in the pool's zone."""

    __tablename__ = "quarantined_day"

    pool: str = Field(primary_key=True)
    day: str = Field(primary_key=True)
    document: str


class PromiseRow(Row, table=True):
    """What was promised, as JSON."""

    __tablename__ = "promise"
    __table_args__ = (Index("ix_promise_pool_at", "pool", "at"),)

    promise_id: str = Field(primary_key=True)
    pool: str
    at: datetime = _time()
    document: str


class HaltRow(Row, table=True):
    """One row each time somebody halted or went on; the last one holds."""

    __tablename__ = "halt"

    id: int | None = _key()
    reason: str
    actor: str
    at: datetime = _time()


class PoolModeRow(Row, table=True):
    """One row each time somebody set a pool's mode; the last one holds."""

    __tablename__ = "pool_mode"

    id: int | None = _key()
    pool: str = Field(index=True)
    mode: str
    until: datetime | None = _time(default=None)
    actor: str
    at: datetime = _time()


class OverrideRow(Row, table=True):
    """A person's floor."""

    __tablename__ = "floor_override"

    id: int | None = _key()
    pool: str = Field(index=True)
    floor: int
    since: datetime = _time()
    until: datetime = _time()
    reason: str


class DrainRow(Row, table=True):
    """A node a person asked to drain; "*" = all of the pool."""

    __tablename__ = "drain"

    pool: str = Field(primary_key=True)
    node_id: str = Field(primary_key=True)
