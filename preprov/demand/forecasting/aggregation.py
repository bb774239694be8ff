"""Online quantile aggregation: members are mixed level by level with weights learnt from their past pinball losses.

Exponentially weighted aggregation (Cesa-Bianchi & Lugosi 2006; for quantile forecasts Berrisch & Ziel 2023) with
forgetting, per block of horizons; a member clearly worse than the best one is dropped. The losses are measured in units
of the best member's own, so one learning rate serves every series.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.quantiles import GRID, pinball
from preprov.demand.forecasting.track import Track
from preprov.demand.forecasting.view import Floats

Ints = NDArray[np.int64]

BLOCK_ENDS_HOURS: Final = (3, 8, 16, 24, 48)


@dataclass(frozen=True)
class MixSettings:
    """How the weights learn.

    Attributes:
        eta: learning rate on losses in units of the best member's.
        half_life: origins after which a loss counts half.
        drop: members whose mean loss is more than this times the best one's get no weight.
        patience: origins before any member may be dropped.
    """

    eta: float = 0.3
    half_life: float = 30.0
    drop: float = 1.2
    patience: int = 5


@dataclass(frozen=True, eq=False)
class Mix:
    """The outcome: (B, M) weights for the next forecast, (O, H, G) what the mix would have said at past origins."""

    weights: Floats
    said: Floats


def block_of(horizon: int, per_day: int) -> Ints:
    """(H,) number of the block of horizons that each step ahead belongs to."""
    hours = np.arange(1, horizon + 1) * 24 / per_day
    out: Ints = np.minimum(np.searchsorted(BLOCK_ENDS_HOURS, hours - 1e-9), len(BLOCK_ENDS_HOURS) - 1)
    return out


def learn(track: Track, blocks: Ints, settings: MixSettings) -> Mix:
    """Walk the track once, oldest first: at each origin mix with what was known then, then learn from what came.

    Args:
        track: O origins, M members; NaN forecasts mean the member sat out.
        blocks: (H,) as `block_of` gives them.
        settings: see there.
    """
    count, size = len(BLOCK_ENDS_HOURS), len(track.names)
    keep = 0.5 ** (1 / settings.half_life)
    loss, seen = np.zeros((count, size)), np.zeros((count, size))
    said = np.full((len(track), track.horizon, len(GRID)), np.nan)
    present: NDArray[np.bool_] = np.asarray(np.isfinite(track.said).all(axis=(2, 3)))
    for t in range(len(track)):
        weights = _weights(loss, seen, present[t], settings)
        said[t] = mix(weights, track.said[t].astype(np.float64), blocks)
        new, fresh = _losses(track, t, blocks, present[t])
        loss, seen = keep * loss + np.where(fresh, new, 0.0), keep * seen + fresh
    now = present[-1] if len(track) else np.ones(size, dtype=bool)
    return Mix(_weights(loss, seen, now, settings), said)


def mix(weights: Floats, said: Floats, blocks: Ints) -> Floats:
    """(B, M) weights and (M, H, G) forecasts -> (H, G), sorted; absent members (NaN) must have weight 0."""
    by_hour = weights[blocks]
    out: Floats = np.einsum("hm,mhg->hg", by_hour, np.where(np.isfinite(said), said, 0.0))
    return np.sort(out, axis=-1)


def restrict(weights: Floats, present: NDArray[np.bool_]) -> Floats:
    """Weights among the members that have a forecast now."""
    out = np.where(present, weights, 0.0)
    total = out.sum(axis=1, keepdims=True)
    share = np.where(present, 1.0 / max(1, present.sum()), 0.0)
    return np.where(total > 0, out / np.where(total > 0, total, 1.0), share)


def _losses(track: Track, t: int, blocks: Ints, present: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """(B, M) mean pinball loss of origin t in each block, and where there is one."""
    new = np.zeros((len(BLOCK_ENDS_HOURS), len(track.names)))
    fresh = np.zeros(new.shape, dtype=bool)
    known = np.isfinite(track.came[t])
    each = pinball(track.came[t][None, :], track.said[t].astype(np.float64), GRID).mean(axis=2)
    for block in np.unique(blocks[known]):
        inside = known & (blocks == block)
        new[block, present] = each[present][:, inside].mean(axis=1)
        fresh[block] = present
    return new, fresh


def _weights(loss: Floats, seen: Floats, present: NDArray[np.bool_], settings: MixSettings) -> Floats:
    mean = np.where(present & (seen > 0), loss / np.maximum(seen, 1e-12), np.nan)
    weights = np.empty(mean.shape)
    for block, row in enumerate(mean):
        known = np.isfinite(row)
        if not known.any():
            weights[block] = present / max(1, present.sum())
            continue
        best = np.nanmin(row) + 1e-12
        behind = np.where(known, row / best - 1.0, 0.0)
        weight = np.where(known, np.exp(-settings.eta * np.minimum(behind, 50.0) * seen[block]), 0.0)
        if seen[block].max() >= settings.patience * 0.9:
            weight = np.where(behind > settings.drop - 1.0, 0.0, weight)
        weights[block] = weight / weight.sum()
    return weights
