"""Direct linear member: one ridge per horizon on the change since the last value, residuals scaled by recent spread.

It reverts to the mean at a learnt speed per horizon, which trees approximate only in steps; in the mix it earns weight
on noisy series with short history.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting import calendar
from preprov.demand.forecasting.member import Member, thinned
from preprov.demand.forecasting.quantiles import GRID, at_levels, weighted_quantiles
from preprov.demand.forecasting.view import Floats, Ints, View
from preprov.model.errors import UnsafeModelError

_ANCHORS: Final = 48
_TIMES: Final = 200  # a stand-in for the horizon: at most 10,000 origins, for every horizon has a fit of its own
_FEWEST: Final = 48
_SAME_HOUR: Final = 3.0


@dataclass(frozen=True)
class FittedLinear:
    """Per anchor horizon: coefficients (A, F), intercepts (A,), and scaled residual quantiles (24, A, G) by hour."""

    anchors: Ints
    coefficients: Floats
    intercepts: Floats
    residuals: Floats

    def predict_at(self, view: View, origins: Ints, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(O, H, Q) for the `horizon` steps after each origin."""
        ahead = np.arange(1, horizon + 1)
        nearest = np.abs(ahead[:, None] - self.anchors[None, :]).argmin(axis=1)
        rows = _rows(view, np.repeat(origins, horizon), np.tile(ahead, len(origins)))
        at = np.tile(nearest, len(origins))
        change = np.einsum("nf,nf->n", rows, self.coefficients[at]) + self.intercepts[at]
        scale = spread(view, origins)
        spreads = self.residuals[view.bucket(origins)][:, nearest]
        shape = (len(origins), horizon)
        moved = scale[:, None, None] * (change.reshape(shape)[..., None] + spreads)
        inner = view.filled[origins][:, None, None] + moved
        return at_levels(inner, GRID, quantiles)

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Plain arrays to store."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Linear(Member):
    """Ridge per horizon; see the module."""

    alpha: float = 30.0
    half_life_days: float = 120.0

    @property
    def name(self) -> str:
        """Name of the member."""
        return "linear"

    def min_days(self) -> float:
        """Days of known steps it needs."""
        return 28

    def fit_view(self, view: View, horizon: int, seed: int) -> FittedLinear:
        """Solve the ridges; nothing is random."""
        anchors = np.unique(np.linspace(1, horizon, min(horizon, _ANCHORS)).round().astype(np.int64))
        every = thinned(np.arange(7 * view.per_day, len(view) - 1), _TIMES, view.per_day)
        solved = [self._solve(view, every, int(h)) for h in anchors]
        return FittedLinear(
            anchors,
            np.stack([s[0] for s in solved]),
            np.array([s[1] for s in solved]),
            np.stack([s[2] for s in solved], axis=1),
        )

    def _solve(self, view: View, every: Ints, ahead: int) -> tuple[Floats, float, Floats]:
        origins = every[every + ahead < len(view)]
        origins = origins[view.learnable[origins + ahead]]
        if len(origins) < _FEWEST:
            return np.zeros(_rows(view, every[:1], np.array([1])).shape[1]), 0.0, np.zeros((24, len(GRID)))
        rows = _rows(view, origins, np.full(len(origins), ahead))
        target = (view.filled[origins + ahead] - view.filled[origins]) / spread(view, origins)
        bound = np.quantile(np.abs(target), 0.99)
        clipped = np.clip(target, -bound, bound)
        age = (len(view) - 1 - origins) / view.per_day
        bucket, now = view.bucket(origins), int(view.bucket(np.array([len(view) - 1]))[0])
        weight = 0.5 ** (age / self.half_life_days) * np.where(_apart(bucket, now) <= 1, _SAME_HOUR, 1.0)
        mean, centre = np.average(rows, axis=0, weights=weight), float(np.average(clipped, weights=weight))
        scale = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weight)) + 1e-9
        unit = (rows - mean) / scale
        gram = (unit * weight[:, None]).T @ unit + self.alpha * np.eye(unit.shape[1])
        slope = np.linalg.solve(gram, (unit * weight[:, None]).T @ (clipped - centre)) / scale
        intercept = centre - float(mean @ slope)
        error = target - (rows @ slope + intercept)
        recency = 0.5 ** (age / self.half_life_days)
        table = np.empty((24, len(GRID)))
        for hour in range(24):
            near = _apart(bucket, hour) <= 1
            use = near if near.sum() >= 30 else np.ones(len(error), dtype=bool)
            table[hour] = weighted_quantiles(error[use], recency[use], GRID)
        return slope, intercept, table

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedLinear:
        """From `state()`."""
        names = FittedLinear.__dataclass_fields__
        if any(name not in state or state[name].dtype.kind not in "if" for name in names):
            raise UnsafeModelError("a stored linear member is damaged", hint="retrain the model")
        return FittedLinear(**{name: state[name] for name in names})


def spread(view: View, origins: Ints) -> Floats:
    """(O,) recent variation of the series at each origin, never zero: the unit in which changes are learnt."""
    rolling = view.rolling
    typical = np.abs(rolling["mean_672h"][origins])
    out: Floats = rolling["std_168h"][origins] + 0.05 * typical + 1e-9
    return out


def _rows(view: View, origins: Ints, ahead: Ints) -> Floats:
    """(N, F) reversions and seasonal changes in units of spread, and a few columns of the calendar."""
    rows, names = view.rows(origins, ahead).astype(np.float64), view.names()
    unit = spread(view, origins)[:, None]
    levels = ("mean_", "change_", "max_", "min_", "day", "week")
    relative = [i for i, n in enumerate(names) if n.startswith(levels) and n not in calendar.NAMES]
    flags = [names.index(n) for n in ("weekend", "holiday", "days_to_month_end")]
    angle = rows[:, names.index("hour")] * (np.pi / 12)
    clock = np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], axis=1)
    return np.concatenate([rows[:, relative] / unit, rows[:, flags], clock], axis=1)


def _apart(hours: Ints, hour: int) -> Ints:
    """Distance on the clock."""
    gap = np.abs(hours - hour)
    out: Ints = np.minimum(gap, 24 - gap)
    return out
