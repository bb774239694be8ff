"""Members that copy the past (last value, same hour a day or a week ago, 7-day profile) with empirical residuals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.member import Member, scalar, thinned
from preprov.demand.forecasting.quantiles import GRID, at_levels
from preprov.demand.forecasting.view import Floats, Ints, View

Copy = Callable[[View, Ints, Ints], Floats]

_MIN_RESIDUALS: Final = 12
# Relative spread assumed when there is next to no history to take residuals from: normal quantiles of the grid x 30 %.
_NORMAL: Final = np.array(
    [-2.326, -1.645, -1.282, -0.842, -0.674, -0.524, -0.253, 0.0, 0.253, 0.524, 0.674, 0.842, 1.282, 1.645, 2.326]
)
_ASSUMED_SPREAD: Final = 0.3


def _last(view: View, origins: Ints, ahead: Ints) -> Floats:
    return view.filled[origins]


def _period(hours: int, repeats: int) -> Copy:
    def copy(view: View, origins: Ints, ahead: Ints) -> Floats:
        past = view.typical[view.back(origins, ahead, view.hours(hours), repeats)]
        out: Floats = past.mean(axis=1)
        return out

    return copy


COPIES: Final[Mapping[str, tuple[Copy, int]]] = {
    "last": (_last, 0),
    "snaive24": (_period(24, 1), 1),
    "snaive168": (_period(168, 1), 7),
    "profile7": (_period(24, 7), 7),
}


@dataclass(frozen=True)
class FittedNaive:
    """Residual quantiles by hour of day at which the forecast begins, and horizon: (24, H, G)."""

    kind: str
    residuals: Floats

    def predict_at(self, view: View, origins: Ints, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(O, H, Q) for the `horizon` steps after each origin."""
        ahead = np.tile(np.arange(1, horizon + 1), len(origins))
        point = COPIES[self.kind][0](view, np.repeat(origins, horizon), ahead).reshape(len(origins), horizon)
        within = np.minimum(np.arange(horizon), self.residuals.shape[1] - 1)
        table = self.residuals[view.bucket(origins)][:, within]
        return at_levels(point[..., None] + table, GRID, quantiles)

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Plain arrays to store."""
        return {"kind": np.array(self.kind), "residuals": self.residuals}


@dataclass(frozen=True)
class Naive(Member):
    """One of COPIES by name."""

    kind: str = "last"

    @property
    def name(self) -> str:
        """Name of the member."""
        return self.kind

    def min_days(self) -> float:
        """Days of known steps it needs."""
        return COPIES[self.kind][1] + 1 if COPIES[self.kind][1] else 0

    def fit_view(self, view: View, horizon: int, seed: int) -> FittedNaive:
        """Collect residuals of the copy at every past origin; nothing is random."""
        first = view.per_day * COPIES[self.kind][1]
        origins = thinned(np.arange(min(first, len(view) - 1), len(view) - 1), horizon, view.per_day)
        residuals = self._residuals(view, origins, horizon)
        table = residual_table(residuals, view.bucket(origins), float(view.filled[-1]))
        return FittedNaive(self.kind, table)

    def _residuals(self, view: View, origins: Ints, horizon: int) -> Floats:
        ahead = np.arange(1, horizon + 1)
        target = origins[:, None] + ahead[None, :]
        inside = target < len(view)
        position = np.minimum(target, len(view) - 1)
        flat_origins, flat_ahead = np.repeat(origins, horizon), np.tile(ahead, len(origins))
        point = COPIES[self.kind][0](view, flat_origins, np.minimum(flat_ahead, len(view) - 1 - flat_origins))
        usable = inside & view.learnable[position]
        return np.where(usable, view.filled[position] - point.reshape(target.shape), np.nan)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedNaive:
        """From `state()`."""
        return FittedNaive(scalar(state, "kind"), state["residuals"])


def residual_table(residuals: Floats, bucket: Ints, level: float) -> Floats:
    """(24, H, G) quantiles of (O, H) residuals by the hour of day (O,) in which the forecast begins.

    An hour with too few residuals takes those of all hours, and next to none at all are mixed with an assumed spread
    around the level.
    """
    everything = _quantiles(residuals, abs(level))
    table = np.empty((24, residuals.shape[1], len(GRID)))
    for hour in range(24):
        here = residuals[bucket == hour]
        enough = np.isfinite(here).sum(axis=0).min(initial=0) >= _MIN_RESIDUALS if len(here) else False
        table[hour] = _quantiles(here, 0.0) if enough else everything
    return table


def _quantiles(residuals: Floats, level: float) -> Floats:
    """(H, G) residual quantiles; where there are too few, mixed with an assumed spread around the level."""
    out = np.empty((residuals.shape[1], len(GRID)))
    assumed = _NORMAL * _ASSUMED_SPREAD * level
    for h in range(residuals.shape[1]):
        known = residuals[np.isfinite(residuals[:, h]), h]
        trust = min(1.0, len(known) / _MIN_RESIDUALS) if level else 1.0
        seen = np.quantile(known, GRID) if len(known) else assumed
        out[h] = trust * seen + (1 - trust) * assumed
    return out
