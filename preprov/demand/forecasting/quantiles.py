"""Small arithmetic on quantile forecasts: the inner grid, levels between it, pinball loss, weighted quantiles."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Members are combined and calibrated on this grid; what a caller asks for is read off it.
GRID: Final = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99)
MEDIAN: Final = GRID.index(0.5)


def at_levels(values: Floats, grid: Sequence[float], levels: Sequence[float]) -> Floats:
    """Read quantile functions off at other probabilities.

    Linear between the grid's levels; beyond its ends an exponential tail with the slope of the last interval, so that a
    sample beyond .99 is neither clipped nor wild.

    Args:
        values: (..., G) non-decreasing along G. grid: G increasing probabilities. levels: L probabilities in (0, 1).

    Returns:
        (..., L), non-decreasing where `levels` is.
    """
    g = np.asarray(grid, dtype=np.float64)
    p = np.clip(np.asarray(levels, dtype=np.float64), 1e-6, 1 - 1e-6)
    right = np.clip(np.searchsorted(g, p, side="left"), 1, len(g) - 1)
    share = np.clip((p - g[right - 1]) / (g[right] - g[right - 1]), 0.0, 1.0)
    out: Floats = values[..., right - 1] * (1 - share) + values[..., right] * share
    exact = np.isclose(g[right], p, rtol=0, atol=1e-12)
    out = np.where(exact, values[..., right], out)
    high = np.maximum(np.log((1 - g[-1]) / (1 - p)), 0.0) / np.log((1 - g[-2]) / (1 - g[-1]))
    low = np.maximum(np.log(g[0] / p), 0.0) / np.log(g[1] / g[0])
    out = out + high * (values[..., -1:] - values[..., -2:-1]) - low * (values[..., 1:2] - values[..., 0:1])
    return out


def pinball(actual: Floats, forecast: Floats, grid: Sequence[float]) -> Floats:
    """Pinball loss: actual (...,), forecast (..., G) -> (..., G); NaN where the actual is NaN."""
    gap = actual[..., None] - forecast
    levels = np.asarray(grid)
    out: Floats = np.maximum(levels * gap, (levels - 1) * gap)
    return out


def weighted_quantiles(values: Floats, weights: Floats, levels: Sequence[float]) -> Floats:
    """(L,) quantiles of (N,) values under non-negative weights (N,), linear between the points' middle masses."""
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order])
    middle = (mass - 0.5 * weights[order]) / mass[-1]
    out: Floats = np.interp(np.asarray(levels), middle, values[order])
    return out


def uncross(values: Floats, *, floor: float | None = None) -> Floats:
    """Sort along the last axis (Chernozhukov et al. 2010: never worse), with nothing below `floor`."""
    out: Floats = np.sort(values, axis=-1)
    return out if floor is None else np.maximum(out, floor)
