"""Documents of the `model` commands."""

from datetime import date, datetime

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class ModelRow(Part):
    """A stored model."""

    version: str
    pool: str
    kind: str
    format: str
    sha256: str
    created_at: datetime
    champion: bool
    metrics: dict[str, float]
    backtest_id: str = Field(description="The backtest it was promoted on; empty if on none.")
    reason: str


class Models(Envelope):
    """model list."""

    models: list[ModelRow]


class BacktestPart(Part):
    """A challenger beside the champion at the same origins."""

    backtest_id: str
    at: datetime
    cause: str = Field(description="Why the challenger was put up.")
    champion: str
    challenger: str
    origins: list[datetime]
    champion_loss: list[float] = Field(description="Mean pinball loss from each origin, in the unit of the demand.")
    challenger_loss: list[float]
    coverage: dict[str, float]
    p: float | None = Field(description="That the challenger is no better; null if nothing was compared.")
    promoted: bool
    reason: str


class PromotionPart(Part):
    """A version became champion."""

    at: datetime
    version: str
    before: str
    reason: str
    backtest_id: str
    actor: str
    rollback: bool


class DriftPart(Part):
    """The loss of issued forecasts rose; 0.5 is what the change from one day to the next would cost."""

    at: datetime
    by: str
    before: float
    after: float


class WatchPart(Part):
    """How the forecasts issued under the champion have done, in the last two weeks."""

    forecasts: int
    hours: int
    coverage80: float | None
    coverage90: float | None
    wql: float | None
    drift: list[DriftPart]
    collapsed: str


class QuarantinePart(Part):
    """A day, in the pool's zone, that is not learnt from, or was not."""

    day: date
    reason: str
    actor: str
    at: datetime
    in_force: bool
    lifted_at: datetime | None
    lifted_by: str
    lift_reason: str


class OneModel(Envelope):
    """model show."""

    champion: ModelRow | None
    promoted_at: datetime | None
    fallback: str = Field(description="Why forecasts rest on too little; empty if they do not.")
    watch: WatchPart
    challengers: list[ModelRow] = Field(description="Fitted since the champion, newest first.")
    backtests: list[BacktestPart]
    promotions: list[PromotionPart]
    quarantine: list[QuarantinePart]


class Retrained(Envelope):
    """model retrain."""

    champion: str
    challenger: str
    backtest: BacktestPart
    watch: WatchPart
    quarantine: list[QuarantinePart]
    curves: str | None = Field(
        description="Version of the sequence model of what tasks use; null = without torch, or too few runs."
    )


class Promoted(Envelope):
    """model promote, model rollback."""

    champion: ModelRow


class Quarantine(Envelope):
    """model quarantine list, model quarantine add, model quarantine lift."""

    days: list[QuarantinePart]
