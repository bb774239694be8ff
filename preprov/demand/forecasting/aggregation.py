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
    half_life: float = 15.0
    drop: float = 1.5
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
    score = _Score.empty(len(BLOCK_ENDS_HOURS), len(track.names))
    keep = 0.5 ** (1 / settings.half_life)
    said = np.full((len(track), track.horizon, len(GRID)), np.nan)
    present: NDArray[np.bool_] = np.asarray(np.isfinite(track.said).all(axis=(2, 3)))
    for t in range(len(track)):
        said[t] = mix(_weights(score, present[t], settings), track.said[t].astype(np.float64), blocks)
        score = _scored(score, track, t, said[t], blocks, present[t], keep)
    now = present[-1] if len(track) else np.ones(len(track.names), dtype=bool)
    return Mix(_weights(score, now, settings), said)


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


@dataclass(frozen=True, eq=False)
class _Score:
    """(B, M) each: a member's discounted loss, the mix's loss at the same origins, and how many origins those were.

    Standing beside the mix's own loss, a member that joined late is compared on the days it was there for.
    """

    loss: Floats
    beside: Floats
    seen: Floats

    @classmethod
    def empty(cls, blocks: int, members: int) -> "_Score":
        return cls(*(np.zeros((blocks, members)) for _ in range(3)))


def _scored(
    score: _Score, track: Track, t: int, mixed: Floats, blocks: Ints, present: NDArray[np.bool_], keep: float
) -> _Score:
    """With the losses of origin t; members that were absent then keep what they had, faded."""
    loss, beside, seen = keep * score.loss, keep * score.beside, keep * score.seen
    known = np.isfinite(track.came[t])
    each = pinball(track.came[t][None, :], track.said[t].astype(np.float64), GRID).mean(axis=2)
    together = pinball(track.came[t], mixed, GRID).mean(axis=1)
    for block in np.unique(blocks[known]):
        inside = known & (blocks == block)
        loss[block, present] += each[present][:, inside].mean(axis=1)
        beside[block, present] += together[inside].mean()
        seen[block, present] += 1.0
    return _Score(loss, beside, seen)


def _weights(score: _Score, present: NDArray[np.bool_], settings: MixSettings) -> Floats:
    weights = np.empty(score.loss.shape)
    for block, seen in enumerate(score.seen):
        known = present & (seen > 0)
        if not known.any():
            weights[block] = present / max(1, present.sum())
            continue
        tiny = 1e-12 * (1.0 + score.beside[block].max())
        ratio = np.where(known, (score.loss[block] + tiny) / (score.beside[block] + tiny), np.inf)
        behind = np.where(known, ratio / ratio.min() - 1.0, 0.0)
        weight = np.where(known, np.exp(-settings.eta * np.minimum(behind, 50.0) * seen), 0.0)
        weight = np.where((behind > settings.drop - 1.0) & (seen.max() >= 0.9 * settings.patience), 0.0, weight)
        weights[block] = weight / weight.sum()
    return weights
