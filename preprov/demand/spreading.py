"""From hourly sample paths of one resource to the steps that were asked for, all five resources, mean and peak.

An hour of a path takes the shape of a past hour of about its level: how that hour's demand lay within it, its peaks,
and what it wanted of the other resources. So bursts and proportions come jointly, as they did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import Any, Final

import numpy as np

from preprov.demand.draws import key_of, strata, uniforms
from preprov.demand.remainder import HOUR, Remainder
from preprov.demand.runtime_tables import Floats, Ints, Singles
from preprov.model.resources import KINDS
from preprov.model.series import SeriesHistory

_DAY: Final = 24
_ALIKE: Final = 12  # past hours of about the same level that a path's hour is shaped like, one of them
_DAYS_BACK: Final = 28
_SHORTEST_S: Final = 60


@dataclass(frozen=True)
class LearntDemand:
    """peak, mean: (S, T, 5) of unannounced demand within each step, joint. basis: how it was made."""

    peak: Singles
    mean: Singles
    basis: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def nothing(cls, samples: int, steps: int, basis: Mapping[str, object]) -> "LearntDemand":
        """No demand."""
        zeros = np.zeros((samples, steps, len(KINDS)), np.float32)
        return cls(zeros, zeros, basis)


@dataclass(frozen=True)
class Cells:
    """Whole hours over the steps asked for, cut into cells of `base` seconds.

    Attributes:
        begin, end: of the hours, seconds since the epoch. first: (T + 1,) cell in which each step begins.
        leads: (N,) seconds from the instant of knowledge to the middle of each cell.
    """

    begin: float
    end: float
    base: int
    first: Ints
    leads: Floats

    @classmethod
    def of(cls, now: float, start: float, step: int, steps: int) -> "Cells":
        """Cells under steps from `start`; a border that falls inside the shortest cell moves to the nearer end."""
        common = gcd(gcd(step, HOUR), int(start % HOUR)) if start == int(start) else 1
        base = common if common >= _SHORTEST_S else _SHORTEST_S
        begin = start // HOUR * HOUR
        end = np.ceil((start + step * steps) / HOUR) * HOUR
        cells = int((end - begin) // base)
        border = (start - begin + np.arange(steps + 1) * float(step)) / base
        first = np.clip(np.rint(border).astype(np.int64), 0, cells)
        middle: Floats = (begin + (np.arange(cells) + 0.5) * base).astype(np.float64)
        return cls(begin, float(end), base, first, middle - now)

    def pick(self, paths: Floats, known_until: float) -> Floats:
        """(S, hours) of paths that begin at `known_until`: hours before it are 0, days beyond their end repeat."""
        number = int((self.begin - known_until) // HOUR) + np.arange(int((self.end - self.begin) // HOUR))
        length = paths.shape[1]
        days = np.maximum(-(-(number - length + 1) // _DAY), 0)
        within = number - days * _DAY
        out: Floats = np.where(number < 0, 0.0, paths[:, np.clip(within, 0, length - 1)])
        return out


def dealt(paths: Floats, samples: int, seed: int) -> Floats:
    """(samples, H): the given paths in random order, each as often as the others."""
    index, m = strata(key_of(["learnt paths"], seed), samples)
    out: Floats = paths[index[0].astype(np.int64) * len(paths) // m]
    return out


def days_before(history: SeriesHistory, hours: int, samples: int, seed: int) -> Floats:
    """(samples, hours): the same hours of past days as they were, recent days more often; the last value if none."""
    known = np.nan_to_num(history.values)
    days = min(_DAYS_BACK, len(known) // _DAY)
    if days < 1:
        return np.repeat(known[-1:][None, :], hours, axis=1).repeat(samples, axis=0)
    u = uniforms(key_of(["past days"], seed), samples)[0].astype(np.float64)
    back = 1 + np.floor(days * u**1.5).astype(np.int64)
    out: Floats = known[len(known) - back[:, None] * _DAY + np.arange(hours)[None, :] % _DAY]
    return out


def refined(past: Remainder, paths: Floats, kind: int, seed: int) -> tuple[Singles, Singles]:
    """(S, cells, 5) mean and peak, from (S, hours) means of one resource."""
    samples, hours = paths.shape
    each = HOUR // past.step
    level = past.mean[:, :, kind].mean(axis=1)
    usable = np.flatnonzero(level > 0)
    if not len(usable):
        flat = np.zeros((samples, hours * each, len(KINDS)), np.float32)
        flat[:, :, kind] = np.repeat(paths, each, axis=1)
        return flat, flat
    order = usable[np.argsort(level[usable], kind="stable")]
    near = np.searchsorted(level[order], paths)
    u = uniforms(key_of([f"hour {h}" for h in range(hours)], seed), samples).T
    low = np.clip(near - _ALIKE // 2, 0, max(len(order) - _ALIKE, 0))
    chosen = order[np.minimum(low + (u * min(_ALIKE, len(order))).astype(np.int64), len(order) - 1)]
    scale = (paths / level[chosen]).astype(np.float32)[:, :, None, None]
    mean, peak = (a.astype(np.float32)[chosen] * scale for a in (past.mean, past.peak))
    shape = (samples, hours * each, len(KINDS))
    return mean.reshape(shape), peak.reshape(shape)


def issued(cells: Cells, mean: Any, peak: Any, basis: Mapping[str, object]) -> LearntDemand:
    """(S, cells, 5) on the steps asked for: mean of the means, peak of the peaks."""
    first = np.minimum(cells.first[:-1], len(cells.leads) - 1)
    last = np.maximum(cells.first[1:], first + 1)
    width = (last - first).astype(np.float32)[None, :, None]
    stop = int(last[-1])
    total = np.add.reduceat(mean[:, :stop], first, axis=1)
    return LearntDemand(np.maximum.reduceat(peak[:, :stop], first, axis=1), total / width, basis)
