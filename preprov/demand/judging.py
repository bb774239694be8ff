"""What demand forecasts are judged by: demand as it was realised, which days count, and losses that add up.

Truth is nominal demand: a task wants its resources from when its parents have ended (a root from its run's submission)
for as long as it ran, whether or not there was room. The mean of a step is that of all instants in it, the peak the
most that was wanted at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from preprov.demand.forecasting.quantiles import pinball
from preprov.demand.live import amounts
from preprov.demand.occupancy import Grid, Intervals, means, peaks
from preprov.demand.runtime_tables import Floats
from preprov.model.demand import QUANTILES, DemandCurve
from preprov.model.errors import ForecastError
from preprov.model.resources import KINDS
from preprov.model.time import epoch, from_epoch
from preprov.model.worktable import WorkTable

STEP: Final = 300
HORIZONS: Final = (900, 3_600, 21_600, 86_400)
WINDOWS: Final = (300, 600, 1_800)
"""Seconds over which a planner looks for the highest demand."""
STEPS: Final = HORIZONS[-1] // STEP
REACH_S: Final = HORIZONS[-1] + WINDOWS[-1] - STEP
"""How far a forecast must reach for the last window."""
MEAN: Final = "mean"
MEASURES: Final = (MEAN, *(str(w) for w in WINDOWS))
_HISTORY_SHARE: Final = 0.6
_JUDGED: Final = timedelta(days=14)
_ENDS_AT: Final = 0.995
_TOLERANCE: Final = 1e-6

Said = Mapping[str, Floats]
"""Measure of MEASURES -> (STEPS, Q) quantiles: of each step's mean, of the peak of the window that begins with it."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Demand for one resource as it was: mean and peak, (T,) each, of the steps of STEP seconds from `start` on."""

    start: float
    mean: Floats
    peak: Floats

    @classmethod
    def of(cls, work: WorkTable, kind: str = "cpu") -> "Truth":
        """All that a log says of one resource.

        Raises:
            ForecastError: the log says of no task when it ran.
        """
        start, end = work.spans()
        ran = np.isfinite(start) & np.isfinite(end) & (end > start)
        if not ran.any():
            raise ForecastError("no task of the trace has a start and an end")
        start, end = start[ran], end[ran]
        first = float(start.min()) // STEP * STEP
        # Windows that begin with the last steps end after them.
        grid = Grid(float(STEP), int(np.ceil((float(end.max()) - first + WINDOWS[-1]) / STEP)))
        amount = amounts(work.tasks)[ran][:, [KINDS.index(kind)]]
        intervals = Intervals(start - first, end - first, np.zeros(len(start), np.int64), amount)
        return cls(first, means(intervals, grid, 1)[0, :, 0], peaks(intervals, grid, 1)[0, :, 0])

    def step_at(self, at: datetime) -> int:
        """Number of the step that begins at an instant, which is a multiple of STEP since the epoch."""
        return int((epoch(at) - self.start) // STEP)

    def highest(self, window: int) -> Floats:
        """(T,) peak of the window of so many seconds that ends with each step."""
        out = self.peak.copy()
        for k in range(1, window // STEP):
            np.maximum(out[k:], self.peak[:-k], out=out[k:])
        return out

    def after(self, at: datetime) -> dict[str, Floats]:
        """Measure -> (STEPS,) what came after an instant."""
        first = self.step_at(at)
        out = {MEAN: _cut(self.mean, first)}
        for window in WINDOWS:
            out[str(window)] = _cut(self.highest(window), first + window // STEP - 1)
        return out


def _cut(values: Floats, first: int) -> Floats:
    """(STEPS,) from a position on; zeros beyond the end."""
    inside = values[first : first + STEPS]
    return np.pad(inside, (0, STEPS - len(inside)))


def judged_days(
    work: WorkTable, zone: str, *, at_the_end: bool = False, since: datetime | None = None, days: float | None = None
) -> tuple[datetime, datetime]:
    """Which days of a log are judged: 14 from the first local midnight after 60 % of it, or its last 14.

    Args:
        zone: IANA zone of midnights. at_the_end: the last days instead. since, days: other ones.

    Raises:
        ForecastError: the log is too short to leave a day to judge.
    """
    submit = work.runs["submit"].to_numpy(np.float64)
    if not len(submit):
        raise ForecastError("the trace holds no run")
    # A handful of runs long after all others is the tail of a log that was cut off, not a part to judge.
    first, last = from_epoch(float(submit.min())), from_epoch(float(np.quantile(submit, _ENDS_AT)))
    length = _JUDGED if days is None else timedelta(days=days)
    end = _midnight(last, zone) + timedelta(days=1) if at_the_end else last
    if since is not None:
        begin = since
    elif at_the_end:
        begin = end - length
    else:
        begin = _midnight(first + _HISTORY_SHARE * (last - first), zone) + timedelta(days=1)
        if end - begin < timedelta(seconds=REACH_S + 6 * 3600):
            begin = from_epoch(epoch(first + _HISTORY_SHARE * (last - first)) // 3600 * 3600)
    until = min(end, begin + length)
    if begin <= first or until - begin <= timedelta(seconds=REACH_S):
        raise ForecastError(
            "the trace is too short to judge a day ahead", hint="history, and after it more than a day, are needed"
        )
    return begin, until


def _midnight(at: datetime, zone: str) -> datetime:
    return at.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(at.tzinfo)


def instants(begin: datetime, until: datetime, count: int) -> list[datetime]:
    """So many instants to forecast from, spread over the days and, without a pattern, over the hours of the day.

    They are multiples of STEP, and what comes after the last one is still before `until`.
    """
    span = (until - begin).total_seconds() - REACH_S
    if count <= 0 or span <= 0:
        return []
    golden = (5**0.5 - 1) / 2
    # Cells of equal length, and a place in each that never repeats itself: no hour of the day is favoured.
    places = (np.arange(count) + np.arange(1, count + 1) * golden % 1.0) / count * span
    moments = np.unique((epoch(begin) + places) // STEP * STEP)
    return [from_epoch(float(m)) for m in moments if m >= epoch(begin)]


def said_by(curve: DemandCurve, kind: str = "cpu") -> dict[str, Floats]:
    """The quantiles that a curve from the instant on gives, read off its samples."""
    number = KINDS.index(kind)
    mean = curve.samples if curve.mean is None else curve.mean
    out = {MEAN: _quantiles(mean[:, :STEPS, number])}
    for window in WINDOWS:
        out[str(window)] = _quantiles(curve.window_max(window // STEP)[:, :STEPS, number])
    return out


def _quantiles(samples: Floats) -> Floats:
    out: Floats = np.quantile(samples.astype(np.float64), QUANTILES, axis=0).T
    return out


@dataclass(frozen=True)
class Losses:
    """Sums over steps.

    Attributes:
        pinball: (Q,) pinball loss. error: of the median. demand: what was wanted. inside80, inside90: steps within the
            central intervals. points: steps.
    """

    pinball: tuple[float, ...]
    error: float
    demand: float
    inside80: int
    inside90: int
    points: int

    @classmethod
    def of(cls, actual: Floats, said: Floats, levels: Sequence[float] = QUANTILES) -> "Losses":
        """Of (N,) demand and its (N, Q) quantiles."""
        at = {q: levels.index(q) for q in (0.05, 0.1, 0.5, 0.9, 0.95)}
        slack = _TOLERANCE * (1.0 + np.abs(actual))

        def inside(low: float, high: float) -> int:
            return int(((actual >= said[:, at[low]] - slack) & (actual <= said[:, at[high]] + slack)).sum())

        return cls(
            tuple(float(v) for v in pinball(actual, said, levels).sum(axis=0)),
            float(np.abs(actual - said[:, at[0.5]]).sum()),
            float(np.abs(actual).sum()),
            inside(0.1, 0.9),
            inside(0.05, 0.95),
            len(actual),
        )

    def __add__(self, other: "Losses") -> "Losses":
        return Losses(
            tuple(a + b for a, b in zip(self.pinball, other.pinball, strict=True)),
            self.error + other.error,
            self.demand + other.demand,
            self.inside80 + other.inside80,
            self.inside90 + other.inside90,
            self.points + other.points,
        )

    def metrics(self, levels: Sequence[float] = QUANTILES) -> dict[str, float]:
        """Weighted quantile loss, WAPE of the median, pinball loss at .95 per step, coverage; NaN if undefined."""
        nothing = float("nan")
        return {
            "wql": 2 * float(np.mean(self.pinball)) / self.demand if self.demand else nothing,
            "wape": self.error / self.demand if self.demand else nothing,
            "pinball95": self.pinball[levels.index(0.95)] / self.points if self.points else nothing,
            "coverage80": self.inside80 / self.points if self.points else nothing,
            "coverage90": self.inside90 / self.points if self.points else nothing,
        }


def judged(actual: Mapping[str, Floats], said: Said) -> dict[str, dict[str, Losses]]:
    """Horizon in seconds -> measure -> losses over the steps of that horizon, of what `said` says anything of."""
    return {
        str(h): {m: Losses.of(actual[m][: h // STEP], said[m][: h // STEP]) for m in MEASURES if m in said}
        for h in HORIZONS
    }
