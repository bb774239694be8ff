"""Joint sample paths from marginal quantiles: the rank order of past error trajectories is imposed on them.

The Schaake shuffle (Clark et al. 2004). Maxima over a window and differences between hours, which a plan needs, are
then as correlated as they were in the past; taken from marginal quantiles they would not be.
"""

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.quantiles import GRID, at_levels
from preprov.demand.forecasting.view import Floats, View

Ints = NDArray[np.int64]

_MIN_TEMPLATES = 20
_MAX_TEMPLATES = 2_000


def sample_paths(quantiles: Floats, templates: Floats, count: int, seed: int) -> Floats:
    """Draw joint paths whose marginals are the given quantiles.

    Args:
        quantiles: (H, G) on the inner grid, non-decreasing along G.
        templates: (N, H') error trajectories without NaN; only their order within each column matters. With none, all
            hours move together, which is the safe side for maxima.
        count: S paths. seed: of the ties and repeats.

    Returns:
        (S, H); each column holds the S evenly spread quantiles of its hour in an order borrowed from the templates.
    """
    horizon = len(quantiles)
    spread = at_levels(quantiles, GRID, list((np.arange(count) + 0.5) / count))
    order = _orders(templates, count, horizon, seed)
    return np.take_along_axis(spread.T, order, axis=0)


def _orders(templates: Floats, count: int, horizon: int, seed: int) -> Ints:
    """(S, H) rank 0..S-1 of each path at each hour."""
    rng = np.random.default_rng(seed)
    if not len(templates):
        return np.repeat(rng.permutation(count)[:, None], horizon, axis=1)
    columns = templates[:, np.minimum(np.arange(horizon), templates.shape[1] - 1)]
    ties = rng.random(columns.shape[0])
    rank = np.stack([np.lexsort((ties, column)).argsort() for column in columns.T], axis=1)
    chosen = np.concatenate([rng.permutation(len(rank)) for _ in range(-(-count // len(rank)))])[:count]
    # One jitter per path keeps a repeated template smooth along the day instead of making it jump between neighbours.
    level = rank[chosen] + rng.random(count)[:, None]
    out: Ints = level.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    return out


def templates(levels: Floats, view: View, horizon: int) -> Floats:
    """(N, H) trajectories to borrow the order from: the track's levels, else changes seen in the history, else none.

    Args:
        levels: (O, H) where in its forecast each outcome lay (0 to 1), NaN where unknown.
        view: the history, for a track too short to show an order.
        horizon: H of the changes.
    """
    complete = levels[np.isfinite(levels).all(axis=1)]
    if len(complete) >= _MIN_TEMPLATES:
        return complete
    origins = np.arange(max(0, len(view) - horizon - _MAX_TEMPLATES), len(view) - horizon)
    if len(origins) < _MIN_TEMPLATES:
        return np.zeros((0, horizon))
    out: Floats = view.filled[origins[:, None] + np.arange(1, horizon + 1)] - view.filled[origins][:, None]
    return out


def levels_of(values: Floats, quantiles: Floats) -> Floats:
    """Where in its forecast each value lies: values (N,), quantiles (N, G) -> (N,) in [0, 1], NaN stays NaN.

    Beyond the outermost quantiles the level keeps moving towards 0 and 1, so that order among extremes is kept.
    """
    grid = np.asarray(GRID)
    out = np.full(len(values), np.nan)
    for i in np.flatnonzero(np.isfinite(values)):
        q, y = quantiles[i], values[i]
        width = max(q[-1] - q[0], 1e-12)
        if y < q[0]:
            out[i] = grid[0] * np.exp((y - q[0]) / width)
        elif y > q[-1]:
            out[i] = 1 - (1 - grid[-1]) * np.exp((q[-1] - y) / width)
        else:
            low, high = np.searchsorted(q, y, "left"), np.searchsorted(q, y, "right")
            out[i] = np.interp(y, q, grid) if high <= low + 1 else 0.5 * (grid[min(low, 14)] + grid[min(high, 15) - 1])
    return out
