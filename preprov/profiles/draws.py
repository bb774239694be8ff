"""Predictive distributions of a peak as values at fixed levels, dense where allocations are decided: at the top.

A sample of n stands at the levels (k - 1/2) / n (Hazen 1914), so that half an observation's worth of mass lies beyond
the largest: it falls off exponentially, as fast as the largest observations spread. Many distributions are rows of one
array.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.profiles.waste import MOST_ATTEMPTS, Price

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EDGES: Final = np.array(
    [0.0, .2, .4, .5, .6, .7, .75, .8, .84, .87, .9, .92, .94, .95, .96, .97, .98, .985, .99, .995, .9985, 1.0]
)  # fmt: skip
LEVELS: Final = (_EDGES[1:] + _EDGES[:-1]) / 2
MASS: Final = np.diff(_EDGES)
"""(L,) levels at which distributions are described, and how much of the whole each stands for."""

_TOP_SHARE: Final = 0.1
_EQUAL: Final = 1e-9
_LOWEST: Final = 1
"""Index of the first level that is looked at as an allocation."""


def placed(values: Floats, least_spread: float | Floats) -> Floats:
    """Samples of equal size at LEVELS, with what lies beyond the largest of each.

    Args:
        values: (Q, n) ascending along rows. least_spread: (Q, 1) or one number, of what lies beyond.

    Returns:
        (Q, L)
    """
    n = values.shape[1]
    position = np.clip(LEVELS * n - 0.5, 0, n - 1)
    low = np.minimum(position.astype(np.int64), max(n - 2, 0))
    part = position - low
    inner = values[:, low] * (1 - part) + values[:, np.minimum(low + 1, n - 1)] * part
    top = values[:, -max(2, int(np.ceil(_TOP_SHARE * n))) :]
    spread = (top - top[:, :1]).sum(axis=1, keepdims=True) / max(top.shape[1] - 1, 1)
    return _with_tail(inner, np.maximum(spread, least_spread), 0.5 / n)


def placed_weighted(values: Floats, weights: Floats, least_spread: float | Floats) -> Floats:
    """As `placed`, each value as much as it weighs: (Q, n) or (1, n) ascending, (Q, n) -> (Q, L)."""
    values = np.broadcast_to(values, weights.shape)
    share = weights / weights.sum(axis=1, keepdims=True)
    held = np.cumsum(share, axis=1)
    at = held - share / 2
    high = np.minimum(first_at(at, LEVELS), at.shape[1] - 1)
    low = np.maximum(high - 1, 0)
    at_low, at_high = np.take_along_axis(at, low, 1), np.take_along_axis(at, high, 1)
    part = np.clip((LEVELS - at_low) / np.maximum(at_high - at_low, 1e-300), 0.0, 1.0)
    inner = np.take_along_axis(values, low, 1) * (1 - part) + np.take_along_axis(values, high, 1) * part
    top = held > 1 - _TOP_SHARE
    least = np.take_along_axis(values, np.argmax(top, axis=1)[:, None], 1)
    mass = np.maximum((share * top).sum(axis=1, keepdims=True), 1e-300)
    spread = (share * top * (values - least)).sum(axis=1, keepdims=True) / mass
    beyond = 0.5 * np.square(share).sum(axis=1, keepdims=True)
    return _with_tail(inner, np.maximum(spread, least_spread), beyond)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Q mixtures of distributions: (Q, N) peaks, ascending along rows, with their mass and hours."""

    peak: Floats
    mass: Floats
    hours: Floats

    @classmethod
    def of(cls, members: Sequence[Floats], weights: Floats, hours_at: Callable[[Floats], Floats]) -> "Mixture":
        """Members' (Q, L) or (1, L) values, each as much as it weighs, (m,); how long runs of such peaks take."""
        rows = max(len(m) for m in members)
        peak = np.concatenate([np.broadcast_to(m, (rows, len(LEVELS))) for m in members], axis=1)
        mass = np.concatenate([MASS * w for w in weights]) / weights.sum()
        order = np.argsort(peak, axis=1)
        peak = np.take_along_axis(peak, order, 1)
        return cls(peak, mass[order], hours_at(peak))

    @property
    def held(self) -> Floats:
        """(Q, N) mass up to and with each point."""
        out: Floats = np.cumsum(self.mass, axis=1)
        return out

    @property
    def expected_hours(self) -> Floats:
        """(Q,) hours that a run is expected to take."""
        out: Floats = (self.mass * self.hours).sum(axis=1)
        return out

    def quantiles(self, levels: Floats) -> Floats:
        """(K,) -> (Q, K) the values below which so much of each lies."""
        at = np.minimum(first_at(self.held, levels), self.peak.shape[1] - 1)
        return np.take_along_axis(self.peak, at, axis=1)

    def cheapest(self, price: Price) -> Floats:
        """(Q,) the allocation of least expected waste."""
        candidates = np.minimum(self.quantiles(LEVELS[_LOWEST:]), price.cap)
        out: Floats = candidates[np.arange(len(candidates)), self.waste(candidates, price).argmin(axis=1)]
        return out

    def waste(self, allocations: Floats, price: Price) -> Floats:
        """(Q, K) allocations -> expected waste of each.

        E[over x t + failures x (allocated x ttf x t + restart) x price]; a ladder's steps are looked up in sums, all
        rows at once.
        """
        peak = np.minimum(self.peak, price.cap)
        weighed = self.mass * self.hours
        sums = [_running(column) for column in (self.mass, weighed, weighed * peak)]
        places = _Places.of(peak)
        total = [s[:, -1:] for s in sums]
        before = [np.zeros(allocations.shape) for _ in sums]
        out, failed, given = np.zeros(allocations.shape), np.zeros(allocations.shape), allocations
        for _ in range(MOST_ATTEMPTS):
            reached = places.up_to(given)
            upto = [np.take_along_axis(s, reached, axis=1) for s in sums]
            mass, hours, used = (u - b for u, b in zip(upto, before, strict=True))
            out += (
                given * hours - used + price.failure * failed * (price.time_to_failure * hours + price.restart_h * mass)
            )
            if (total[0] - upto[0]).max() <= 0:
                break
            before, failed, given = upto, failed + given, np.minimum(given * price.ladder, price.cap)
        return out


def _with_tail(inner: Floats, spread: Floats, mass: float | Floats) -> Floats:
    """(Q, L) values with an exponential tail of `mass` beyond the largest."""
    out: Floats = inner + spread * np.maximum(np.log(mass / (1 - LEVELS)), 0.0)
    return out


def first_at(held: Floats, levels: Floats) -> Ints:
    """(Q, n) rising within 0 to 1 -> (Q, K) first point at which each level is reached."""
    rows = np.arange(len(held))[:, None]
    found = np.searchsorted((np.minimum(held, 1.0) + 2 * rows).ravel(), (levels[None, :] + 2 * rows).ravel())
    out: Ints = found.reshape(len(held), len(levels)) - rows * held.shape[1]
    return out


def _running(column: Floats) -> Floats:
    """(Q, N) -> (Q, N + 1) sums up to each point, none first."""
    out = np.zeros((column.shape[0], column.shape[1] + 1))
    np.cumsum(column, axis=1, out=out[:, 1:])
    return out


@dataclass(frozen=True, slots=True)
class _Places:
    """All rows' points on one line, so that one search finds places in all of them."""

    line: Floats
    low: float
    step: float
    width: int

    @classmethod
    def of(cls, peak: Floats) -> "_Places":
        logs = np.log(np.maximum(peak, 1e-300))
        low, high = float(logs.min()), float(logs.max())
        step = 2 * (high - low) + 2.0
        return cls((logs - low + step * np.arange(len(peak))[:, None]).ravel(), low, step, peak.shape[1])

    def up_to(self, given: Floats) -> Ints:
        """(Q, K) -> how many of its row's points are at most as large."""
        rows = np.arange(len(given))[:, None]
        logs = np.clip(np.log(np.maximum(given, 1e-300)) - self.low, -0.5, self.step - 1.0)
        found = np.searchsorted(self.line, (logs + self.step * rows).ravel() + _EQUAL, side="right")
        out: Ints = np.clip(found.reshape(given.shape) - rows * self.width, 0, self.width)
        return out
