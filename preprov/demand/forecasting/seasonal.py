"""Seasonal member: a daily and a weekly pattern taken off, the rest smoothed exponentially, empirical residuals.

What a decomposition such as MSTL (Bandara et al. 2021) with simple exponential smoothing amounts to, in a few
vectorised lines that follow the local clock and need a week of history. It counts where demand is regular.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.forecasting.member import Member, thinned
from preprov.demand.forecasting.naive import residual_table
from preprov.demand.forecasting.quantiles import GRID, at_levels
from preprov.demand.forecasting.view import Floats, Ints, View
from preprov.model.errors import UnsafeModelError

_ALPHAS: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
_HALF_LIFE_DAYS: Final = 28.0
_TRUST_WEEKS: Final = 0.5


@dataclass(frozen=True)
class FittedSeasonal:
    """pattern: (steps of a week,) from Monday 00:00 local. alpha: of the smoothing. residuals: (24, H, G)."""

    pattern: Floats
    alpha: float
    residuals: Floats

    def predict_at(self, view: View, origins: Ints, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(O, H, Q) for the `horizon` steps after each origin."""
        point = _points(view, self.pattern, self.alpha, origins, horizon)
        within = np.minimum(np.arange(horizon), self.residuals.shape[1] - 1)
        return at_levels(point[..., None] + self.residuals[view.bucket(origins)][:, within], GRID, quantiles)

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Plain arrays to store."""
        return {"pattern": self.pattern, "alpha": np.array(self.alpha), "residuals": self.residuals}


@dataclass(frozen=True)
class Seasonal(Member):
    """Daily and weekly pattern plus a smoothed level; see the module."""

    @property
    def name(self) -> str:
        """Name of the member."""
        return "seasonal"

    def min_days(self) -> float:
        """Days of known steps it needs."""
        return 8

    def fit_view(self, view: View, horizon: int, seed: int) -> FittedSeasonal:
        """Estimate the pattern, choose the smoothing by its error a horizon ahead; nothing is random."""
        pattern = _pattern(view)
        origins = thinned(np.arange(min(view.per_day, len(view) - 1), len(view) - 1), horizon, view.per_day)
        target = np.minimum(origins[:, None] + np.arange(1, horizon + 1), len(view) - 1)
        inside = origins[:, None] + np.arange(1, horizon + 1) < len(view)
        usable = inside & view.learnable[target]
        age = 0.5 ** ((len(view) - 1 - origins) / view.per_day / _HALF_LIFE_DAYS)
        best, residuals, least = 1.0, np.full(target.shape, np.nan), np.inf
        for alpha in _ALPHAS:
            error = np.where(usable, view.filled[target] - _points(view, pattern, alpha, origins, horizon), np.nan)
            loss = float(np.nansum(np.abs(error) * age[:, None]))
            if loss < least:
                best, residuals, least = alpha, error, loss
        return FittedSeasonal(pattern, best, residual_table(residuals, view.bucket(origins), view.filled[-1]))

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedSeasonal:
        """From `state()`."""
        if any(key not in state or state[key].dtype.kind != "f" for key in ("pattern", "alpha", "residuals")):
            raise UnsafeModelError("a stored seasonal member is damaged", hint="retrain the model")
        return FittedSeasonal(state["pattern"], float(state["alpha"]), state["residuals"])


def _points(view: View, pattern: Floats, alpha: float, origins: Ints, horizon: int) -> Floats:
    """(O, H) pattern of the target plus the smoothed level at the origin."""
    here = np.arange(len(view))
    level = pd.Series(view.filled - pattern[view.step_of_week(here)]).ewm(alpha=alpha, adjust=True).mean().to_numpy()
    ahead = origins[:, None] + np.arange(1, horizon + 1)
    out: Floats = pattern[view.step_of_week(ahead)] + level[origins][:, None]
    return out


def _pattern(view: View) -> Floats:
    """(steps of a week,) weighted mean departure from the running level: the day's, and the week's beyond it."""
    day, week = view.per_day, 7 * view.per_day
    # Whole windows only, held at both ends: half a week at an end would take its weekend for a change of level.
    window = week if len(view) >= week + 3 * day else day
    trend = pd.Series(view.typical).rolling(window, center=True, min_periods=window).mean().bfill().ffill().to_numpy()
    phase = view.step_of_week(np.arange(len(view)))
    age = 0.5 ** ((len(view) - 1 - np.arange(len(view))) / day / _HALF_LIFE_DAYS)
    weight = np.where(view.learnable, age, 0.0)
    departure = view.typical - trend
    daily = _means(departure, weight, phase % day, day)
    beyond = departure - daily[phase % day]
    mass = np.bincount(phase, weight, minlength=week)
    weekly = _means(beyond, weight, phase, week) * mass / (mass + _TRUST_WEEKS)
    return np.tile(daily, 7) + weekly


def _means(values: Floats, weight: Floats, phase: Ints, size: int) -> Floats:
    mass = np.bincount(phase, weight, minlength=size)
    total = np.bincount(phase, weight * values, minlength=size)
    out: Floats = np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), 0.0)
    return out
