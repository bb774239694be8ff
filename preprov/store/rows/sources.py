"""Places where work lives, and what was read there.

A run is one row for each pool it goes to. What it holds is `content` (JSON, see `runcodec`) until it is settled; it is
then in a history block, and the row remains so that nothing is kept twice and a run that is begun anew is found again.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from preprov.store.rows.base import Row, growing_key, instant, partial_index
from preprov.store.types import EpochSeconds


class SourceRow(Row, table=True):
    """How far reading a source has come. `pools` is a JSON list."""

    __tablename__ = "source"

    source: str = Field(primary_key=True)
    zone: str
    cursor: str
    read_at: datetime | None = instant(default=None)
    tried_at: datetime | None = instant(default=None)
    error: str = ""
    pools: str = "[]"


class SourceRunRow(Row, table=True):
    """A run as one pool sees it; pool "" = no route sends it anywhere.

    `claims` is JSON: [[queue, tasks that ran, core seconds], …]. `fingerprint` is of the content.
    """

    __tablename__ = "source_run"
    __table_args__ = (
        UniqueConstraint("source", "run_id", "pool"),
        Index("ix_source_run_submit", "submit"),
        partial_index("ix_source_run_open", "source", where="NOT over"),
        partial_index("ix_source_run_unfolded", "pool", "submit", where="block IS NULL"),
    )

    id: int | None = growing_key()
    source: str
    run_id: str
    pool: str
    dag_id: str
    tenant: str
    submit: float = Field(sa_type=EpochSeconds)
    ended: float = Field(sa_type=EpochSeconds)
    over: bool
    task_count: int
    fingerprint: str
    claims: str
    content: str
    block: int | None = Field(default=None, sa_type=BigInteger)


class SourceShapeRow(Row, table=True):
    """What a run of a DAG looks like, told by the place it lives in."""

    __tablename__ = "source_shape"

    source: str = Field(primary_key=True)
    pool: str = Field(primary_key=True)
    dag_id: str = Field(primary_key=True)
    content: str


class SourceLimitRow(Row, table=True):
    """A limit that a source keeps; `cause` as of `model.waits`. `reserved` is JSON: [[since, until, slots], …]."""

    __tablename__ = "source_limit"

    source: str = Field(primary_key=True)
    cause: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    slots: float
    per_run: bool
    reserved: str = Field(default="[]", sa_column_kwargs={"server_default": "[]"})


class SourceNoteRow(Row, table=True):
    """What a source keeps for itself."""

    __tablename__ = "source_note"

    source: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    value: str
