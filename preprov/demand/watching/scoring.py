"""An issued forecast against what came, once its hours have passed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.quantiles import pinball
from preprov.demand.live import amounts
from preprov.demand.occupancy import Grid, Intervals, means
from preprov.model.demand import DemandCurve
from preprov.model.learning import Losses
from preprov.model.resources import KINDS
from preprov.model.series import SeriesHistory
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable

Floats = NDArray[np.float64]

DAYS_BACK: Final = 28
_LEVELS: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Scored:
    """loss: per step, see `model.learning.ForecastScore`. The rest is None where nothing was known, or demanded."""

    loss: Losses
    coverage80: float | None
    coverage90: float | None
    wql: float | None


def came(seen: WorkTable, at: datetime, start: datetime, step_seconds: int, steps: int, kind: str) -> Floats:
    """(steps,) mean demand of one resource in each step from `start`, as known at `at`; NaN for steps not over then.

    Args:
        seen: as of `at`; a task that still runs counts until then, on its run's own timing.
    """
    origin = epoch(start)
    begin, end = seen.spans()
    end = np.where(np.isfinite(end), np.minimum(end, epoch(at)), epoch(at))
    ours = np.isfinite(begin) & (end > begin) & (end > origin) & (begin < origin + steps * step_seconds)
    amount = amounts(seen.tasks[ours])[:, [KINDS.index(kind)]]
    intervals = Intervals(begin[ours] - origin, end[ours] - origin, np.zeros(int(ours.sum()), np.int64), amount)
    out: Floats = np.asarray(means(intervals, Grid(float(step_seconds), steps), 1)[0, :, 0], np.float64)
    over = origin + (np.arange(steps) + 1) * step_seconds <= epoch(at) + 1e-6
    return np.where(over, out, np.nan)


def came_in(series: SeriesHistory, start: datetime, step_seconds: int, steps: int) -> Floats:
    """(steps,) the same, of a pool whose history is a series; NaN where it has no value or another step."""
    out = np.full(steps, np.nan)
    shift = epoch(start) - epoch(series.start)
    fold = step_seconds // series.step_seconds
    if step_seconds % series.step_seconds or shift % series.step_seconds:
        return out
    first = int(shift // series.step_seconds)
    for i in range(steps):
        low = first + i * fold
        part = series.values[max(0, low) : max(0, low + fold)]
        if len(part) == fold:
            out[i] = part.mean()
    return out


def usual_change(past: Floats, per_day: int) -> Floats:
    """(per_day,) how much demand at each step of the day differs from the day before, as a rule.

    Half its own, half the whole day's, so that a quiet hour does not turn a little into a lot.

    Args:
        past: (days * per_day,) steps before the forecast, NaN = unknown; the first is the step of the day with which
            the forecast begins.
    """
    days = past[: len(past) // per_day * per_day].reshape(-1, per_day)
    change = np.abs(np.diff(days, axis=0)) if len(days) > 1 else np.full((1, per_day), np.nan)
    known = np.isfinite(change)
    each = np.where(known.any(axis=0), np.where(known, change, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0.0)
    level = float(np.nanmean(past)) if np.isfinite(past).any() else 0.0
    whole = float(each.mean())
    out: Floats = np.maximum(0.5 * each + 0.5 * whole, max(0.02 * level, 1e-3))
    return out


def score(curve: DemandCurve, actual: Floats, usual: Floats, kind: str) -> Scored:
    """Score a forecast's mean demand per step.

    Args:
        curve: the forecast. actual: (T,) what came; NaN = not known, or not to be counted.
        usual: (D,) from `usual_change`; step t is set against usual[t % D].
        kind: the resource.
    """
    column = KINDS.index(kind)
    samples = (curve.samples if curve.mean is None else curve.mean)[:, :, column].astype(np.float64)
    said = np.moveaxis(np.quantile(samples, _LEVELS, axis=0), 0, -1)
    each = pinball(actual, said, _LEVELS).mean(axis=1)
    known = np.isfinite(actual)
    relative = each / usual[np.arange(len(actual)) % len(usual)]
    loss = tuple(float(v) if k else None for v, k in zip(relative.tolist(), known.tolist(), strict=True))
    if not known.any():
        return Scored(loss, None, None, None)
    total = float(actual[known].sum())
    return Scored(
        loss,
        _inside(actual, said, 1, 5, known),
        _inside(actual, said, 0, 6, known),
        float(2 * each[known].sum() / total) if total > 0 else None,
    )


def _inside(actual: Floats, said: NDArray[Any], low: int, high: int, known: NDArray[np.bool_]) -> float:
    tiny = 1e-6 * (1.0 + np.abs(actual))  # a certain forecast that came true to the rounding is inside
    inside = (actual >= said[:, low] - tiny) & (actual <= said[:, high] + tiny)
    return float(inside[known].mean())
