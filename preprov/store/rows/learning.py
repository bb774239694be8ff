"""Models, how they are judged, and what was promised of them."""

from datetime import datetime

from sqlalchemy import Index, LargeBinary
from sqlmodel import Field

from preprov.store.rows.base import Row, growing_key, instant, partial_index


class ModelRow(Row, table=True):
    """A model version with its bytes."""

    __tablename__ = "model_version"
    __table_args__ = (partial_index("uq_model_version_champion", "pool", "kind", where="champion", unique=True),)

    id: int | None = growing_key()
    version: str = Field(unique=True)
    pool: str
    kind: str
    format: str
    sha256: str
    created_at: datetime = instant()
    champion: bool
    metrics: str
    backtest_id: str = ""
    reason: str = ""
    data: bytes = Field(sa_type=LargeBinary)


class PromotionRow(Row, table=True):
    """One row each time a version became champion; only ever added."""

    __tablename__ = "model_promotion"
    __table_args__ = (Index("ix_model_promotion_pool_kind", "pool", "kind"),)

    id: int | None = growing_key()
    pool: str
    kind: str
    version: str
    before: str
    at: datetime = instant()
    reason: str
    backtest_id: str
    actor: str
    rollback: bool


class BacktestRow(Row, table=True):
    """A challenger beside the champion, as JSON."""

    __tablename__ = "model_backtest"
    __table_args__ = (Index("ix_model_backtest_pool_at", "pool", "at"),)

    id: int | None = growing_key()
    backtest_id: str = Field(unique=True)
    pool: str
    at: datetime = instant()
    document: str


class ForecastScoreRow(Row, table=True):
    """An issued forecast against what came, as JSON."""

    __tablename__ = "forecast_score"
    __table_args__ = (Index("ix_forecast_score_pool_issued_at", "pool", "issued_at"),)

    forecast_id: str = Field(primary_key=True)
    pool: str
    issued_at: datetime = instant()
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
    at: datetime = instant()
    document: str
