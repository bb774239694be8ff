"""What is learnt: forecasts, models, their evidence, lead times, promises."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from preprov.model.demand import DemandCurve
from preprov.model.learning import BacktestRecord, ForecastScore, Promotion, QuarantinedDay
from preprov.model.offerings import Standby
from preprov.model.promises import Promise


class ForecastStore(Protocol):
    """Issued forecasts."""

    def save(self, curve: DemandCurve) -> str:
        """Keep it; returns its id.

        The same (pool, issued_at, kind) replaces the earlier one; kind is `basis["kind"]`, else the step.
        """
        ...

    def latest(self, pool: str, at: datetime | None = None) -> tuple[str, DemandCurve] | None:
        """The last one issued at or before `at`."""
        ...

    def get(self, forecast_id: str) -> DemandCurve | None:
        """One by id."""
        ...

    def issued(self, pool: str, since: datetime, until: datetime) -> tuple[tuple[str, datetime], ...]:
        """(id, issued at) of those issued in [since, until], in time order; the curves themselves are not read."""
        ...


@dataclass(frozen=True, slots=True)
class LeadObservation:
    """One warming, from decision to ready. `outcome`: "ready", "failed", "insufficient_capacity", "partial".

    "partial": it went well, but only parts of the way are known; `seconds` is what these took.

    Attributes:
        seconds: until ready, or until it was given up. stages: allocate, boot, image, data, join.
        recorded: who recorded it before preprov looked (the provider's name); "" = preprov has seen it itself.
    """

    at: datetime
    pool: str
    provider: str
    group: str
    zone: str
    instance_type: str
    image: str
    came_from: Standby
    seconds: float
    node_id: str
    stages: Mapping[str, float] = field(default_factory=dict)
    outcome: str = "ready"
    recorded: str = ""


class LeadTimeStore(Protocol):
    """What warming took."""

    def add(self, *observations: LeadObservation) -> None:
        """Keep them. Idempotent by (node_id, came_from, at)."""
        ...

    def observations(
        self, provider: str | None = None, *, since: datetime | None = None
    ) -> tuple[LeadObservation, ...]:
        """In time order."""
        ...


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A stored model. `format` names the safe format; `sha256` is checked on load."""

    version: str
    pool: str
    kind: str
    format: str
    sha256: str
    created_at: datetime
    champion: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    backtest_id: str = ""
    reason: str = ""


class ModelStore(Protocol):
    """Model versions, stored in formats that cannot run code."""

    def save(
        self,
        pool: str,
        kind: str,
        fmt: str,
        blob: bytes,
        *,
        at: datetime,
        metrics: Mapping[str, float],
        reason: str = "",
    ) -> ModelVersion:
        """Keep a version; the first of a (pool, kind) is promoted at once. UnsafeModelError if it is a pickle."""
        ...

    def load(self, pool: str, kind: str, version: str | None = None) -> tuple[ModelVersion, bytes] | None:
        """The champion, or the version named; None if absent. UnsafeModelError if digest or format is wrong."""
        ...

    def versions(self, pool: str | None = None) -> tuple[ModelVersion, ...]:
        """Newest first."""
        ...

    def promote(
        self,
        version: str,
        *,
        at: datetime,
        reason: str,
        backtest_id: str = "",
        actor: str = "",
        rollback: bool = False,
    ) -> ModelVersion:
        """Make it champion of its (pool, kind), and remember that. The champion again: nothing changes.

        Raises StoreError if there is no such version.
        """
        ...

    def promotions(self, pool: str, kind: str) -> tuple[Promotion, ...]:
        """Newest first; the last one is of the first version that was kept."""
        ...

    def forget(self, versions: Collection[str]) -> int:
        """Delete these versions, a champion never; returns how many. Absent = success; promotions stay on record."""
        ...


class LearningStore(Protocol):
    """The evidence: backtests of challengers, scores of issued forecasts, days kept out of training."""

    def save_backtest(self, record: BacktestRecord) -> None:
        """Keep it, by backtest_id."""
        ...

    def backtests(self, pool: str) -> tuple[BacktestRecord, ...]:
        """Newest first."""
        ...

    def backtest(self, backtest_id: str) -> BacktestRecord | None:
        """One by id."""
        ...

    def save_score(self, score: ForecastScore) -> None:
        """Keep it, by forecast_id: the same one again replaces it."""
        ...

    def scores(self, pool: str, *, since: datetime | None = None) -> tuple[ForecastScore, ...]:
        """Of forecasts issued since then, in the order of their issue."""
        ...

    def quarantine(self, day: QuarantinedDay) -> None:
        """Keep it as it is now, by (pool, day): put there, or lifted."""
        ...

    def quarantined(self, pool: str) -> tuple[QuarantinedDay, ...]:
        """By day, lifted ones too."""
        ...


class PromiseStore(Protocol):
    """What was promised to a pool's owner."""

    def save(self, promise: Promise) -> None:
        """Keep it, by promise_id: the same one again replaces it."""
        ...

    def promises(self, pool: str, *, until: datetime | None = None) -> tuple[Promise, ...]:
        """Made at or before `until`, newest first."""
        ...
