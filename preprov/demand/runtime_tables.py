"""Runtime distributions as tables of quantiles over normal scores, and how to draw from them fast."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

CELLS: Final = 128
Z_MAX: Final = 3.2
SCORES: Final = np.linspace(-Z_MAX, Z_MAX, CELLS)
LEVELS: Final = ndtr(SCORES)
_TAIL_INDEX: Final = 3.0  # of the Pareto tail beyond everything ever seen


@dataclass(frozen=True)
class RuntimeTables:
    """Runtime distributions of T tasks, ready to draw from.

    Attributes:
        row: (T,) row of each task in `seconds`. log_scale: (T,) log of a factor on it (a hint, or 0).
        seconds: (U, CELLS) seconds at SCORES, non-decreasing, skipped ones included as zeros.
        origin: (T,) 0 own history, 1 coarser signature, 2 hint, 3 pool.
    """

    row: Ints
    log_scale: Floats
    seconds: Singles
    origin: NDArray[np.int8]

    @cached_property
    def scale(self) -> Singles:
        """(T,) factor on the table's seconds."""
        return np.exp(self.log_scale).astype(np.float32)

    def with_nothing(self) -> "RuntimeTables":
        """The same and, after them, a task that takes no time."""
        return RuntimeTables(
            row=np.append(self.row, len(self.seconds)),
            log_scale=np.append(self.log_scale, 0.0),
            seconds=np.concatenate([self.seconds, np.zeros_like(self.seconds[:1])]),
            origin=np.append(self.origin, np.int8(0)),
        )

    def quantile(self, q: float) -> Floats:
        """(T,) seconds at a probability."""
        cell = int(np.clip(np.searchsorted(LEVELS, q), 0, CELLS - 1))
        out: Floats = (self.seconds[:, cell][self.row] * self.scale).astype(np.float64)
        return out

    def score(self, tasks: Ints, seconds: Floats) -> Floats:
        """(K,) normal scores of a runtime of each of the tasks at these positions; +inf beyond everything seen."""
        table = self.seconds[self.row[tasks]]
        wanted = seconds / self.scale[tasks]
        above = (table < wanted[:, None]).sum(axis=1)
        low, high = np.maximum(above - 1, 0), np.minimum(above, CELLS - 1)
        at = np.arange(len(tasks))
        gap = table[at, high] - table[at, low]
        share = np.divide(wanted - table[at, low], gap, out=np.zeros(len(tasks)), where=gap > 0)
        score = SCORES[low] + np.clip(share, 0, 1) * (SCORES[high] - SCORES[low])
        out: Floats = np.where(above >= CELLS, np.inf, np.where(above == 0, -np.inf, score))
        return out

    def draw(self, tasks: Ints, score: Singles) -> Singles:
        """(K, S) seconds at normal scores (overwritten) of the tasks at these positions."""
        out = self.seconds.ravel()[cell_of(score) + (self.row[tasks] * CELLS)[:, None].astype(np.int32)]
        if self.log_scale.any():
            out *= self.scale[tasks][:, None]
        return out

    def survive(self, tasks: Ints, elapsed: Floats, u: Any, shift: Any = 0.0, scale: Any = 1.0) -> Singles:
        """Total runtimes given that so much has elapsed, from uniform numbers.

        Args:
            tasks: (K,) positions. elapsed: (K,) seconds. u: (K, S) in (0, 1).
            shift, scale: broadcast to (K, S): the normal score is shift + scale * (a standard one): what is known of
                the run's size.

        Returns:
            (K, S) seconds, each >= elapsed. Beyond everything seen, the remaining time grows with the time it has run.
        """
        reached = np.where(elapsed > 0, self.score(tasks, elapsed), -np.inf)[:, None]
        survived = ndtr(-(reached - shift) / scale)
        score = shift - scale * ndtri(np.clip(u * survived, 1e-300, 1.0))
        drawn = self.draw(tasks, score.astype(np.float32))
        floor = elapsed[:, None].astype(np.float32)
        beyond = floor * np.asarray(u, dtype=np.float32) ** np.float32(-1.0 / _TAIL_INDEX)
        out: Singles = np.where(np.isposinf(reached), beyond, np.maximum(drawn, floor))
        return out


def seconds_at(log_quantiles: Floats, zero: Floats) -> Singles:
    """(U, CELLS) seconds from log seconds at SCORES, and the (U,) share that runs no time at all."""
    out = np.exp(log_quantiles)
    for u in np.flatnonzero(zero > 0):
        level = (LEVELS - zero[u]) / max(1.0 - zero[u], 1e-9)
        score = ndtri(np.clip(level, LEVELS[0], LEVELS[-1]))
        out[u] = np.where(level <= 0, 0.0, np.exp(np.interp(score, SCORES, log_quantiles[u])))
    return out.astype(np.float32)


def cell_of(score: Singles) -> NDArray[np.int32]:
    """Cell of the quantile function nearest to each normal score; the scores are overwritten."""
    score *= np.float32((CELLS - 1) / (2 * Z_MAX))
    score += np.float32((CELLS - 1) / 2 + 0.5)
    np.clip(score, 0, CELLS - 1, out=score)
    return score.astype(np.int32)


def in_order(numbers: Ints, most: int) -> Ints:
    """(N,) where the numbers, all in 0..most-1, stand in order; those alike stay in theirs.

    A number and its place in one word: words are sorted several times as fast as places by their numbers.
    """
    bits = max(len(numbers) - 1, 1).bit_length()
    if most >= 1 << (62 - bits):
        return np.argsort(numbers, kind="stable")
    return np.sort((numbers << bits) | np.arange(len(numbers))) & ((1 << bits) - 1)


def grouped_quantiles(group: Ints, value: Floats, weight: Floats, groups: int, levels: Floats) -> Floats:
    """(groups, L) weighted quantiles in each group, linear between the observations' middle masses; NaN if empty."""
    order = np.lexsort((value, group))
    return sorted_quantiles(group[order], value[order], weight[order], groups, levels)


def sorted_quantiles(group: Ints, value: Floats, weight: Floats, groups: int, levels: Floats) -> Floats:
    """As `grouped_quantiles`, of observations sorted by group and within each by value."""
    out = np.full((groups, len(levels)), np.nan)
    if not len(value):
        return out
    mass = np.bincount(group, weights=weight, minlength=groups)
    count = np.bincount(group, minlength=groups)
    present = np.flatnonzero(count)
    before = np.cumsum(mass) - mass
    # Position of each observation: the group's number plus its share of the group's mass, so one search serves all.
    position = group + 0.999 * np.clip((np.cumsum(weight) - 0.5 * weight - before[group]) / mass[group], 0.0, 1.0)
    wanted = (present[:, None] + 0.999 * levels[None, :]).ravel()
    first = (np.cumsum(count) - count)[present]
    low, high = np.repeat(first, len(levels)), np.repeat(first + count[present] - 1, len(levels))
    right = np.searchsorted(position, wanted)
    left, right = np.clip(right - 1, low, high), np.clip(right, low, high)
    gap = position[right] - position[left]
    share = np.clip(np.divide(wanted - position[left], gap, out=np.zeros(len(wanted)), where=gap > 0), 0.0, 1.0)
    out[present] = (value[left] * (1 - share) + value[right] * share).reshape(len(present), len(levels))
    return out
