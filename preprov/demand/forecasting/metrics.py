"""The yardstick's metrics of one series of forecasts. All of them ignore hours that are not known."""

from collections.abc import Sequence

import numpy as np

from preprov.demand.forecasting.quantiles import Floats, pinball


def metrics(actual: Floats, forecast: Floats, quantiles: Sequence[float], *, season_error: float) -> dict[str, float]:
    """Score forecasts.

    Args:
        actual: (N,), NaN = unknown. forecast: (N, Q). quantiles: the Q levels, with .05, .1, .5, .9, .95 among them.
        season_error: mean absolute difference to 24 hours before, over the history before the test: MASE's unit.

    Returns:
        wql (mean over quantiles of twice the pinball loss per unit of demand), wape of the median, mase, pinball95,
        coverage80, coverage90, as ratios; NaN where there is no demand at all to divide by.
    """
    known = np.isfinite(actual)
    y, q = actual[known], forecast[known]
    at = {level: quantiles.index(level) for level in (0.05, 0.1, 0.5, 0.9, 0.95)}
    loss = pinball(y, q, quantiles)
    total = float(np.abs(y).sum())
    error = float(np.abs(y - q[:, at[0.5]]).mean()) if len(y) else float("nan")

    def inside(low: float, high: float) -> float:
        return float(((y >= q[:, at[low]]) & (y <= q[:, at[high]])).mean()) if len(y) else float("nan")

    return {
        "wql": float(2 * loss.sum(axis=0).mean()) / total if total else float("nan"),
        "wape": error * len(y) / total if total else float("nan"),
        "mase": error / season_error if season_error else float("nan"),
        "pinball95": float(loss[:, at[0.95]].mean()) if len(y) else float("nan"),
        "coverage80": inside(0.1, 0.9),
        "coverage90": inside(0.05, 0.95),
    }


def geometric(ratios: Sequence[float]) -> float:
    """Geometric mean of the usable ratios; NaN without any."""
    usable = [r for r in ratios if np.isfinite(r) and r > 0]
    return float(np.exp(np.mean(np.log(usable)))) if usable else float("nan")
