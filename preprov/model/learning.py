"""What became of forecasts and models: backtests, promotions, scores of issued forecasts, days kept out of training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

Losses = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class BacktestRecord:
    """A challenger beside the champion at the same past origins, out of sample for both, and what was decided.

    Attributes:
        champion, challenger: versions; champion is "" if there was none that could be asked.
        origins: instants from which both forecast, oldest first.
        champion_loss, challenger_loss: per origin, mean pinball loss over hours and quantiles in the series' unit.
        coverage: "champion_80", "challenger_80", … -> share of hours inside the central interval.
        p: of the paired bootstrap, that the challenger is no better; None if there was nothing to compare.
        promoted: the challenger became champion. reason: why, or why not. cause: why it was put up at all.
    """

    backtest_id: str
    pool: str
    kind: str
    at: datetime
    champion: str
    challenger: str
    origins: tuple[datetime, ...] = ()
    champion_loss: tuple[float, ...] = ()
    challenger_loss: tuple[float, ...] = ()
    coverage: Mapping[str, float] = field(default_factory=dict)
    p: float | None = None
    promoted: bool = False
    reason: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version became champion.

    Attributes:
        before: the champion until then, "" if there was none. rollback: it takes an earlier promotion back.
    """

    pool: str
    kind: str
    version: str
    before: str
    at: datetime
    reason: str
    backtest_id: str = ""
    actor: str = ""
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class ForecastScore:
    """An issued forecast against what came.

    Attributes:
        model: version of the learnt part, "" if there was none. resource: the one that is scored.
        start, step_seconds: of the steps scored. loss: per step, pinball loss over the typical change from one day to
            the next; None where what came is not known or not counted.
        coverage80, coverage90: share of steps whose mean demand lay inside; None without any.
        wql: twice the pinball loss per unit of demand; None if nothing was demanded.
    """

    forecast_id: str
    pool: str
    issued_at: datetime
    scored_at: datetime
    model: str
    resource: str
    start: datetime
    step_seconds: int
    loss: Losses
    coverage80: float | None
    coverage90: float | None
    wql: float | None

    @property
    def points(self) -> int:
        """Steps that were scored."""
        return sum(v is not None for v in self.loss)


@dataclass(frozen=True, slots=True)
class QuarantinedDay:
    """A day that happened but is not learnt from.

    Attributes:
        day: in the pool's zone. actor: who put it there; `DETECTOR` if it was recognised.
        lifted_at: None = it is in force. lifted_by, lift_reason: who lifted it, and why.
    """

    pool: str
    day: date
    reason: str
    actor: str
    at: datetime
    lifted_at: datetime | None = None
    lifted_by: str = ""
    lift_reason: str = ""

    @property
    def in_force(self) -> bool:
        """True until it is lifted."""
        return self.lifted_at is None


DETECTOR = "anomaly detector"
"""Actor of days that were recognised, not named by a person."""
