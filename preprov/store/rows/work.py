"""Work, kept at two speeds.

What runs here is one row a run and one row a task, because it changes. What is over never changes and is read whole,
half a million tasks at a time: it is kept in columns, many runs to a block.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field

from preprov.store.rows.base import Row, growing_key, instant, partial_index
from preprov.store.types import BigKey, EpochSeconds


class IntakeRow(Row, table=True):
    """One ingest: what was read, and what came of it. The rejected rows themselves are not kept here."""

    __tablename__ = "intake"
    __table_args__ = (partial_index("uq_intake_pool_digest", "pool", "digest", where="digest <> ''", unique=True),)

    id: int | None = growing_key()
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

    id: int | None = growing_key()
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
    """A declared recurrence. `source`: who declared it, "" = submitted or ingested; `turns`, `follows`: JSON lists."""

    __tablename__ = "schedule"

    pool: str = Field(primary_key=True)
    dag_id: str = Field(primary_key=True)
    cron: str
    zone: str
    tenant: str
    priority: int = Field(sa_type=BigInteger)
    since: datetime | None = instant(default=None)
    paused: bool
    max_active_runs: int | None = None
    land_by_s: float | None = None
    source: str = Field(default="", sa_column_kwargs={"server_default": ""})
    every_s: float | None = None
    anchor: datetime | None = instant(default=None)
    turns: str = Field(default="[]", sa_column_kwargs={"server_default": "[]"})
    follows: str = Field(default="[]", sa_column_kwargs={"server_default": "[]"})


# --------------------------------------------------------------------------- work that runs here


class DagTemplateRow(Row, table=True):
    """The last spec of a DAG, from which its next turns are made."""

    __tablename__ = "dag_template"

    pool: str = Field(primary_key=True)
    dag_id: str = Field(primary_key=True)
    spec: str
    saved_at: datetime = instant()


class LiveRunRow(Row, table=True):
    """A run that is served here. `folded`: what `work` tells of it stands in a history block."""

    __tablename__ = "live_run"
    __table_args__ = (
        Index("ix_live_run_pool_submitted_at", "pool", "submitted_at"),
        partial_index(
            "uq_live_run_turn", "pool", "dag_id", "scheduled_for", where="scheduled_for IS NOT NULL", unique=True
        ),
        partial_index("ix_live_run_unfolded", "pool", "submitted_at", where="NOT folded"),
        partial_index(
            "ix_live_run_open",
            "pool",
            where="state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')",
        ),
    )

    id: int | None = growing_key()
    run_id: str = Field(unique=True)
    pool: str
    dag_id: str
    tenant: str
    trigger: str
    state: str
    priority: int = Field(sa_type=BigInteger)
    cron: str
    zone: str
    submitted_at: datetime = instant()
    scheduled_for: datetime | None = instant(default=None)
    due: datetime | None = instant(default=None)
    land_by: datetime | None = instant(default=None)
    ended_at: datetime | None = instant(default=None)
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
    ready_at: datetime | None = instant(default=None)
    started_at: datetime | None = instant(default=None)
    ended_at: datetime | None = instant(default=None)
    node_id: str | None = None
    attempt: int = 1
    exit_code: int | None = None
    reason: str = ""
    done: str = "[]"
    provision_wait_s: float | None = None
    slot_at: datetime | None = instant(default=None)
