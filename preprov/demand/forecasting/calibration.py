"""Adaptive conformal calibration: each quantile of each block of horizons is moved by what it lately missed by.

Conformalised quantile regression (Romano et al. 2019) with recency weights (Barber et al. 2023, nonexchangeable
conformal prediction), measured in widths of the forecast itself so that a wide day does not shift a narrow one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.aggregation import BLOCK_ENDS_HOURS
from preprov.demand.forecasting.quantiles import GRID, weighted_quantiles
from preprov.demand.forecasting.view import Floats

Ints = NDArray[np.int64]

_LOW, _HIGH = GRID.index(0.1), GRID.index(0.9)


@dataclass(frozen=True)
class CalibrationSettings:
    """How fast it adapts.

    Attributes:
        half_life: origins after which a miss counts half. prior: origins that speak for no change.
        minimum: origins before anything is moved.
    """

    half_life: float = 45.0
    prior: float = 20.0
    minimum: int = 10


def shifts(came: Floats, said: Floats, blocks: Ints, settings: CalibrationSettings) -> Floats:
    """Learn how far to move each quantile, in widths of the forecast.

    Args:
        came: (O, H), NaN = unknown. said: (O, H, G) what was forecast then, out of sample. blocks: (H,).

    Returns:
        (B, G) shifts; zero where there is too little to learn from.
    """
    out = np.zeros((len(BLOCK_ENDS_HOURS), len(GRID)))
    count = len(came)
    if count < settings.minimum:
        return out
    weight = 0.5 ** ((count - 1 - np.arange(count)) / settings.half_life)
    effective = weight.sum() ** 2 / (weight**2).sum()
    trust = effective / (effective + settings.prior)
    miss = (came[..., None] - said) / width(said)[..., None]
    for block in np.unique(blocks):
        inside = miss[:, blocks == block]
        weights = np.repeat(weight, inside.shape[1])
        flat = inside.reshape(-1, len(GRID))
        known = np.isfinite(flat).all(axis=1)
        if known.sum() < settings.minimum:
            continue
        for g, level in enumerate(GRID):
            out[block, g] = trust * weighted_quantiles(flat[known, g], weights[known], [level])[0]
    return out


def apply(said: Floats, moves: Floats, blocks: Ints) -> Floats:
    """(H, G) or (O, H, G) forecasts moved by (B, G) shifts and sorted again."""
    out: Floats = said + moves[blocks] * width(said)[..., None]
    return np.sort(out, axis=-1)


def walk(came: Floats, said: Floats, blocks: Ints, settings: CalibrationSettings) -> Floats:
    """(O, H, G) each past forecast calibrated with what was known before it: what coverage is honestly measured on."""
    out = said.copy()
    for t in range(settings.minimum, len(came)):
        out[t] = apply(said[t], shifts(came[:t], said[:t], blocks, settings), blocks)
    return out


def coverage(came: Floats, said: Floats) -> dict[str, float]:
    """Share of outcomes inside the central 80 % and 90 % intervals, and the number of outcomes."""
    known = np.isfinite(came) & np.isfinite(said).all(axis=-1)
    out = {"points": float(known.sum())}
    for name, low, high in (("80", 0.1, 0.9), ("90", 0.05, 0.95)):
        inside = (came >= said[..., GRID.index(low)]) & (came <= said[..., GRID.index(high)])
        out[name] = float(inside[known].mean()) if known.any() else float("nan")
    return out


def width(said: Floats) -> Floats:
    """Width of the central 80 %, never zero: the unit of the shifts."""
    out: Floats = said[..., _HIGH] - said[..., _LOW] + 1e-9 + 0.02 * np.abs(said[..., GRID.index(0.5)])
    return out
