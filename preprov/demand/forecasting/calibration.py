"""Adaptive calibration of the mix against its own record: first the spread, then the promised levels.

Spread: per block of horizons and side of the median, the factor with the least recent pinball loss. Levels: where
recent outcomes fell in their forecasts decides which level to read for a promised one (distributional conformal
prediction, Chernozhukov et al. 2021, with recency weights, Barber et al. 2023). Working on levels, not on distances, a
few outcomes far outside a narrow night cannot blow up a wide day. Both are drawn towards "no change" by a prior counted
in origins.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.aggregation import BLOCK_ENDS_HOURS
from preprov.demand.forecasting.paths import levels_of
from preprov.demand.forecasting.quantiles import GRID, MEDIAN, at_levels, pinball, weighted_quantiles
from preprov.demand.forecasting.view import Floats

Ints = NDArray[np.int64]

FACTORS: Final = np.exp(np.linspace(-1.0, 1.8, 29))
_UNIFORM: Final = (np.arange(200) + 0.5) / 200
_SIDES: Final = (slice(0, MEDIAN), slice(MEDIAN + 1, len(GRID)))
_OUTERMOST: Final = 1e-3


@dataclass(frozen=True)
class CalibrationSettings:
    """How fast it adapts.

    Attributes:
        minimum: origins before anything is changed.
        spread_half_life, level_half_life: origins after which an outcome counts half.
        spread_prior, level_prior: origins that speak for no change.
    """

    minimum: int = 10
    spread_half_life: float = 20.0
    spread_prior: float = 20.0
    level_half_life: float = 30.0
    level_prior: float = 60.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was learnt, for the next forecast, and what it would have made of the past ones.

    Attributes:
        factors: (B, 2) on the distances below and above the median. levels: (G,) level to read for each of the grid.
        said: (O, H, G) each past forecast as calibrated with what was known before it: coverage is measured on these.
    """

    factors: Floats
    levels: Floats
    said: Floats

    def apply(self, said: Floats, blocks: Ints) -> Floats:
        """Calibrate a forecast: (H, G) and (H,) blocks -> (H, G), sorted."""
        return _read(_stretched(said, self.factors[blocks]), self.levels)


def learn(came: Floats, said: Floats, blocks: Ints, settings: CalibrationSettings) -> Calibration:
    """Walk the record once, oldest first.

    Args:
        came: (O, H), NaN = unknown. said: (O, H, G) what the mix said, out of sample. blocks: (H,).
    """
    stretched, factors = _walk_spread(came, said, blocks, settings)
    walked, levels = _walk_levels(came, stretched, settings)
    return Calibration(factors, levels, walked)


def coverage(came: Floats, said: Floats) -> dict[str, float]:
    """Share of outcomes inside the central 80 % and 90 % intervals, and the number of outcomes."""
    known = np.isfinite(came) & np.isfinite(said).all(axis=-1)
    out = {"points": float(known.sum())}
    for name, low, high in (("80", 0.1, 0.9), ("90", 0.05, 0.95)):
        inside = (came >= said[..., GRID.index(low)]) & (came <= said[..., GRID.index(high)])
        out[name] = float(inside[known].mean()) if known.any() else float("nan")
    return out


def _walk_spread(came: Floats, said: Floats, blocks: Ints, settings: CalibrationSettings) -> tuple[Floats, Floats]:
    """(O, H, G) stretched with what was known before each origin, and the (B, 2) factors to use next."""
    keep = 0.5 ** (1 / settings.spread_half_life)
    loss = np.zeros((len(BLOCK_ENDS_HOURS), 2, len(FACTORS)))
    weight = np.zeros(len(BLOCK_ENDS_HOURS))
    factors = np.ones((len(BLOCK_ENDS_HOURS), 2))
    out = said.copy()
    for t in range(len(said)):
        if t >= settings.minimum:
            out[t] = _stretched(said[t], factors[blocks])
        known = np.isfinite(came[t])
        loss, weight = keep * loss, keep * weight
        each = _losses(came[t], said[t])
        for block in np.unique(blocks[known]):
            loss[block] += each[:, :, known & (blocks == block)].mean(axis=2)
            weight[block] += 1.0
        best = np.log(FACTORS[loss.argmin(axis=2)])
        factors = np.exp(best * (weight / (weight + settings.spread_prior))[:, None])
    return out, factors if len(said) >= settings.minimum else np.ones_like(factors)


def _losses(came: Floats, said: Floats) -> Floats:
    """(2, factors, H) pinball loss of each side of one forecast under each factor."""
    middle = said[:, MEDIAN : MEDIAN + 1]
    wide = middle + FACTORS[:, None, None] * (said - middle)
    loss = pinball(np.broadcast_to(came, wide.shape[:2]), wide, GRID)
    return np.stack([loss[..., side].mean(axis=-1) for side in _SIDES])


def _stretched(said: Floats, factors: Floats) -> Floats:
    """(H, G) with distances to the median multiplied by (H, 2) factors below and above it."""
    middle = said[:, MEDIAN : MEDIAN + 1]
    out = said.copy()
    for side, columns in enumerate(_SIDES):
        out[:, columns] = middle + factors[:, side : side + 1] * (said[:, columns] - middle)
    return out


def _walk_levels(came: Floats, said: Floats, settings: CalibrationSettings) -> tuple[Floats, Floats]:
    """(O, H, G) read at the levels known before each origin, and the (G,) levels to read next."""
    fell = levels_of(came.ravel(), said.reshape(-1, len(GRID))).reshape(came.shape)
    out = said.copy()
    for t in range(settings.minimum, len(said)):
        out[t] = _read(said[t], _levels(fell[:t], settings))
    return out, _levels(fell, settings)


def _levels(fell: Floats, settings: CalibrationSettings) -> Floats:
    """(G,) the levels below which the promised shares of outcomes lately fell, drawn towards the promise itself."""
    count = len(fell)
    if count < settings.minimum:
        return np.asarray(GRID)
    weight = 0.5 ** ((count - 1 - np.arange(count)) / settings.level_half_life) / fell.shape[1]
    known = np.isfinite(fell)
    points = np.concatenate([fell[known], _UNIFORM])
    prior = np.full(len(_UNIFORM), settings.level_prior / len(_UNIFORM))
    weights = np.concatenate([np.broadcast_to(weight[:, None], fell.shape)[known], prior])
    return np.clip(weighted_quantiles(points, weights, GRID), _OUTERMOST, 1 - _OUTERMOST)


def _read(said: Floats, levels: Floats) -> Floats:
    return np.sort(at_levels(said, GRID, list(levels)), axis=-1)
