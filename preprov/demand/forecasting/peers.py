"""The forecasters that the yardstick measures us against, each behind the public Forecaster protocol.

Naive ones with empirical residual quantiles, MSTL and AutoETS (statsforecast), LightGBM quantile regression, plain
quantile regression forests on the level and on the change, and skforecast's recursive random forest. The last five need
the extra `bench` and are imported when first used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.forecasting.boosting import Boosting
from preprov.demand.forecasting.forest import FittedForest, Forest, flatten
from preprov.demand.forecasting.member import Member, Public, learnable_rows
from preprov.demand.forecasting.naive import Naive
from preprov.demand.forecasting.protocol import FittedForecaster, Forecaster
from preprov.demand.forecasting.quantiles import at_levels, uncross
from preprov.demand.forecasting.view import Floats, View
from preprov.model.series import SeriesHistory

_NORMAL_LEVELS: Final = (50, 80, 90, 98)
_NORMAL_GRID: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class PlainForest(Forest):
    """A bootstrap quantile regression forest as the library gives it, on the same features."""

    trees: int = 50
    rows: int = 8_000

    def fit_view(self, view: View, horizon: int, seed: int) -> FittedForest:
        """Grow it on one thread."""
        from quantile_forest import RandomForestQuantileRegressor

        origins, ahead = learnable_rows(view, horizon, self.rows, seed)
        target = view.filled[origins + ahead] - (view.filled[origins] if self.change else 0.0)
        grown = RandomForestQuantileRegressor(
            n_estimators=self.trees,
            min_samples_leaf=self.leaf,
            max_samples_leaf=self.leaf,
            max_features=1 / 3,
            n_jobs=1,
            random_state=seed,
        ).fit(view.rows(origins, ahead), target)
        return FittedForest(flatten(grown, np.sort(target)), self.change, grown.feature_importances_)


@dataclass(frozen=True)
class _Once:
    """A peer is never stored."""

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class _FittedSmoothing(_Once):
    model: Any

    def predict(self, history: SeriesHistory, horizon: int, quantiles: Sequence[float]) -> Floats:
        """Update the fitted model with the newer steps and read its normal intervals."""
        said = self.model.forward(View(history).filled, horizon, level=list(_NORMAL_LEVELS))
        columns = [said[f"lo-{level}"] for level in reversed(_NORMAL_LEVELS)] + [said["mean"]]
        columns += [said[f"hi-{level}"] for level in _NORMAL_LEVELS]
        grid = np.stack([np.asarray(c, dtype=np.float64) for c in columns], axis=1)
        return uncross(at_levels(grid, _NORMAL_GRID, quantiles), floor=0.0)


@dataclass(frozen=True)
class Smoothing:
    """MSTL(24, 168) or AutoETS(24) of statsforecast."""

    name: str
    make: Callable[[int], Any]
    min_steps: int = 14 * 24 + 1

    def fit(self, history: SeriesHistory, *, seed: int) -> _FittedSmoothing:
        """Fit on all of the history, gaps filled from their past."""
        return _FittedSmoothing(self.make(history.per_day).fit(View(history).filled))

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedForecaster:
        """Peers are not stored."""
        raise NotImplementedError


@dataclass(frozen=True)
class _FittedRecursive(_Once):
    model: Any
    seed: int

    def predict(self, history: SeriesHistory, horizon: int, quantiles: Sequence[float]) -> Floats:
        """Bootstrapped residual paths, as skforecast makes them."""
        window, steps = self.model.window_size, _indexed(history, horizon)
        said = self.model.predict_quantiles(
            steps=horizon,
            last_window=steps.iloc[-horizon - window : -horizon],
            exog=_clock(steps.index[-horizon:]),
            quantiles=list(quantiles),
            n_boot=200,
            random_state=self.seed,
            suppress_warnings=True,
        )
        return uncross(said.to_numpy(np.float64), floor=0.0)


@dataclass(frozen=True)
class Recursive:
    """skforecast's ForecasterRecursive over scikit-learn's random forest."""

    name: str = "skforecast_rf"
    min_steps: int = 10 * 24
    lags: tuple[int, ...] = field(default=(1, 2, 3, 4, 6, 12, 23, 24, 25, 48, 72, 144, 167, 168, 169))

    def fit(self, history: SeriesHistory, *, seed: int) -> _FittedRecursive:
        """Fit on one thread."""
        from skforecast.preprocessing import RollingFeatures
        from skforecast.recursive import ForecasterRecursive
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(60, min_samples_leaf=5, max_features=1 / 3, n_jobs=1, random_state=seed)
        rolling = RollingFeatures(stats=["mean", "mean"], window_sizes=[24, 168])
        model = ForecasterRecursive(forest, lags=list(self.lags), window_features=rolling)
        steps = _indexed(history, 0)
        model.fit(steps, exog=_clock(steps.index), store_in_sample_residuals=True, suppress_warnings=True)
        return _FittedRecursive(model, seed)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedForecaster:
        """Peers are not stored."""
        raise NotImplementedError


def peers(names: Sequence[str] | None = None, *, horizon: int = 24) -> dict[str, Forecaster]:
    """The peers by name, all of them by default.

    Raises:
        KeyError: a name is not a peer's.
    """

    def alone(member: Member) -> Callable[[], Forecaster]:
        return lambda: Public(member, horizon)

    offered: dict[str, Callable[[], Forecaster]] = {
        "last": alone(Naive("last")),
        "snaive24": alone(Naive("snaive24")),
        "snaive168": alone(Naive("snaive168")),
        "profile7": alone(Naive("profile7")),
        "mstl": lambda: Smoothing("mstl", _mstl),
        "autoets": lambda: Smoothing("autoets", _autoets),
        "lightgbm": alone(Boosting()),
        "forest_level": alone(PlainForest(change=False)),
        "forest_change": alone(PlainForest(change=True)),
        "skforecast_rf": Recursive,
    }
    return {name: offered[name]() for name in (names if names is not None else offered)}


PEERS: Final = (
    "last",
    "snaive24",
    "snaive168",
    "profile7",
    "mstl",
    "autoets",
    "lightgbm",
    "forest_level",
    "forest_change",
    "skforecast_rf",
)


def _mstl(per_day: int) -> Any:
    from statsforecast.models import MSTL

    return MSTL(season_length=[per_day, 7 * per_day])


def _autoets(per_day: int) -> Any:
    from statsforecast.models import AutoETS

    return AutoETS(season_length=per_day)


def _indexed(history: SeriesHistory, more: int) -> "pd.Series[float]":
    """Filled values on a regular index, with `more` steps to come as zeros."""
    index = pd.date_range(history.start, periods=len(history) + more, freq=pd.Timedelta(seconds=history.step_seconds))
    return pd.Series(np.concatenate([View(history).filled, np.zeros(more)]), index=index, name="y")


def _clock(index: "pd.Index[Any]") -> pd.DataFrame:
    times = pd.DatetimeIndex(index)
    return pd.DataFrame({"hour": times.hour, "weekday": times.dayofweek}, index=index)


def missing_libraries(names: Sequence[str]) -> list[str]:
    """Libraries of the extra `bench` that these peers need and that are not installed."""
    needed = {
        "mstl": "statsforecast",
        "autoets": "statsforecast",
        "lightgbm": "lightgbm",
        "skforecast_rf": "skforecast",
    }
    wanted = sorted({needed[name] for name in names if name in needed})
    return [library for library in wanted if find_spec(library) is None]
