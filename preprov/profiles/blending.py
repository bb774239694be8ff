"""What several models say of one quantity, put right by how far each was off before, and mixed by what each lost.

Each model's quantiles are moved, level by level and in units of their own width, against what came of earlier runs: by
the gradient of the pinball loss, so that in the long run so many come to lie below as should, whatever the model says
and however it drifts (adaptive conformal inference, Gibbs and Candes 2021; Angelopoulos et al. 2023). Of what each then
lost, discounted, its weight in the mean of the quantiles falls off exponentially. Richer models stand behind gates, one
after the other: one has no weight unless it lost less than the best of those that are simpler, by a margin.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.profiles.curves import LEVELS

Floats = NDArray[np.float64]

GATE: Final = 0.98
"""A richer model must have lost no more than this, as a share of what the best of the simpler ones has."""
DECAY: Final = 0.97
_RATE: Final = 0.05
"""Of the width of the 90 % interval: by so much a level moves whose every quantile was too low."""
_FARTHEST: Final = 2.0
_LEAST_WIDTH: Final = 0.01
"""Of the median: where the past never varied, quantiles still move by something."""
_SHARPNESS: Final = 30.0
_NONE: Final = 1e-3
"""Weights below it are none: what has them is not asked."""
_LOW, _MIDDLE, _HIGH = (int(np.argmin(np.abs(LEVELS - q))) for q in (0.05, 0.5, 0.95))


class Calibration:
    """How far quantiles of one model are to be moved, learnt run by run.

    Attributes:
        shift: (Q,) in widths.
    """

    def __init__(self) -> None:
        self.shift = np.zeros(len(LEVELS))

    def right(self, told: Floats) -> Floats:
        """(T, Q) as the model says them -> as they are to be read: rising with the level, none below 0."""
        out: Floats = np.maximum(np.maximum.accumulate(told + _width(told) * self.shift, axis=1), 0.0)
        return out

    def learn(self, told: Floats, came: Floats) -> None:
        """(T, Q) as the model said them, and (T,) what came."""
        seen = np.isfinite(came)
        if seen.any():
            below = (came[seen, None] <= self.right(told[seen])).mean(axis=0)
            self.shift = np.clip(self.shift + _RATE * (LEVELS - below), -_FARTHEST, _FARTHEST)


def _width(told: Floats) -> Floats:
    """(T, Q) -> (T, 1) how far apart the outer ones are."""
    spread = told[:, _HIGH : _HIGH + 1] - told[:, _LOW : _LOW + 1]
    out: Floats = np.maximum(spread, _LEAST_WIDTH * np.abs(told[:, _MIDDLE : _MIDDLE + 1]))
    return out


class Blend:
    """One quantity.

    Args:
        simple: models that need pass no gate. richer: those that must, each beating all before it.
    """

    def __init__(self, simple: Sequence[str], richer: Sequence[str]) -> None:
        self._simple, self._richer = tuple(simple), tuple(richer)
        self._calibrations = {m: Calibration() for m in (*simple, *richer)}
        self._lost = dict.fromkeys(self._calibrations, 0.0)
        self.weights: Mapping[str, float] = weighed(self._lost, self._simple, ())
        """Of the models that have a say, adding up to 1."""

    def learn(self, told: Mapping[str, Floats], came: Floats) -> Mapping[str, float]:
        """What each model said of a run before it, (T, Q), and what came, (T,); what each lost as it was read."""
        lost: dict[str, float] = {}
        for model, said in told.items():
            lost[model] = pinball(self._calibrations[model].right(said), came, LEVELS)
            self._lost[model] = DECAY * self._lost[model] + lost[model]
            self._calibrations[model].learn(said, came)
        self.weights = weighed(self._lost, self._simple, [m for m in self._richer if m in told])
        return lost

    def mixed(self, told: Mapping[str, Floats]) -> Floats:
        """(T, Q) of each model that has a say -> the mean of them as they are to be read."""
        read = np.array([self._calibrations[m].right(told[m]) for m in self.weights])
        out: Floats = np.tensordot(np.array(list(self.weights.values())), read, axes=1)
        return out


def let_in(lost: Mapping[str, float], simple: Sequence[str], richer: Sequence[str]) -> list[str]:
    """The simple models, and those of the richer ones that lost less than the best before them by a margin."""
    out = list(simple)
    for model in richer:
        if lost[model] < GATE * min(lost[m] for m in out):
            out.append(model)
    return out


def weighed(lost: Mapping[str, float], simple: Sequence[str], richer: Sequence[str]) -> dict[str, float]:
    """What each model lost -> the weights of those that have a say, adding up to 1."""
    models = let_in(lost, simple, richer)
    least = min(lost[m] for m in models)
    away = np.array([lost[m] / least - 1 if least > 0 else np.inf * (lost[m] > 0) for m in models])
    weight = np.exp(-_SHARPNESS * np.nan_to_num(away, posinf=1e9))
    weight = np.where(weight < _NONE * weight.max(), 0.0, weight)
    return {m: float(w) for m, w in zip(models, weight / weight.sum(), strict=True) if w > 0}


def pinball(expected: Floats, came: Floats, levels: Floats) -> float:
    """Mean pinball loss of (T, Q) quantiles against (T,); 0 where nothing was observed."""
    away = came[:, None] - expected
    loss = np.maximum(levels * away, (levels - 1) * away)
    return float(np.nan_to_num(np.nanmean(loss))) if np.isfinite(loss).any() else 0.0
