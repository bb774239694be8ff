"""What a forecasting member is. A third party's model enters through these two protocols and an entry point."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from preprov.model.series import SeriesHistory

Arrays = Mapping[str, NDArray[Any]]


@runtime_checkable
class FittedForecaster(Protocol):
    """A member that has learnt from one series and can be asked again as the series grows."""

    def predict(self, history: SeriesHistory, horizon: int, quantiles: Sequence[float]) -> NDArray[np.float64]:
        """Forecast the `horizon` steps after `history.end`.

        Args:
            history: the same series as at fit, the same or longer; nothing else may be looked at.
            horizon: steps ahead, H >= 1.
            quantiles: Q increasing probabilities in (0, 1).

        Returns:
            (H, Q) finite values, non-decreasing along Q, in the unit of the series. The same call gives the same bits.
        """
        ...

    def state(self) -> Arrays:
        """Everything needed to restore the member, as plain numpy arrays (no object dtype; text as str or uint8)."""
        ...


@runtime_checkable
class Forecaster(Protocol):
    """A way of forecasting; the entry-point group `preprov.forecasters` names callables that make one, no arguments."""

    @property
    def name(self) -> str:
        """Its name in weights, tables and configuration."""
        ...

    @property
    def min_steps(self) -> int:
        """Fewer known steps than this and the member is left out (never an error)."""
        ...

    def fit(self, history: SeriesHistory, *, seed: int) -> FittedForecaster:
        """Learn from `history`; steps that are quarantined or NaN must not be learnt from.

        Deterministic by seed. A ForecastError leaves the member out of this model, with its reason recorded.
        """
        ...

    def restore(self, state: Arrays) -> FittedForecaster:
        """The fitted member whose `state()` this was.

        Raises:
            UnsafeModelError: the state is not one that this forecaster writes.
        """
        ...
