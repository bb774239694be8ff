"""From intervals to resources in use per step: the mean exactly, the peak exactly or on a fine grid.

An interval [start, end) of sample `column` holds `amount` of each resource. Times are seconds from the grid's start;
what lies outside the grid is cut off. An interval that begins the instant another ends never overlaps it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TICKS_PER_SECOND: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Grid:
    """T steps of `step` seconds, from time 0 on."""

    step: float
    steps: int

    @property
    def length(self) -> float:
        """Seconds from the first step's beginning to the last one's end."""
        return self.step * self.steps


@dataclass(frozen=True, slots=True)
class Intervals:
    """N intervals: start, end (N,) seconds; column (N,) sample; amount (N, K)."""

    start: Floats
    end: Floats
    column: Ints
    amount: Floats

    def inside(self, grid: Grid) -> "Intervals":
        """Those that overlap the grid, cut to it."""
        start, end = np.maximum(self.start, 0.0), np.minimum(self.end, grid.length)
        keep = end > start
        if keep.all():
            return Intervals(start, end, self.column, self.amount)
        return Intervals(start[keep], end[keep], self.column[keep], self.amount[keep])


def means(intervals: Intervals, grid: Grid, columns: int) -> Floats:
    """(columns, T, K) mean in use within each step; times step and summed it is exactly what the intervals hold."""
    cut = intervals.inside(grid)
    out = np.zeros((columns, grid.steps, cut.amount.shape[1]))
    width = grid.steps + 1
    cells, shares = zip(*(_cell(t, grid, cut.column, width) for t in (cut.start, cut.end)), strict=True)
    for k in range(out.shape[2]):
        amount = cut.amount[:, k]
        if not amount.any():
            continue
        change = np.zeros(columns * width)
        late = np.zeros(columns * width)
        for cell, share, sign in zip(cells, shares, (1.0, -1.0), strict=True):
            change += sign * np.bincount(cell, weights=amount, minlength=len(change))
            late += sign * np.bincount(cell, weights=amount * share, minlength=len(change))
        level = np.cumsum(change.reshape(columns, width), axis=1) - late.reshape(columns, width)
        out[:, :, k] = np.maximum(level[:, :-1], 0.0)
    return out


def _cell(time: Floats, grid: Grid, column: Ints, width: int) -> tuple[Ints, Floats]:
    position = time / grid.step
    step = np.minimum(position.astype(np.int64), width - 1)
    return column * width + step, position - step


def _in_time(cut: Intervals, column: Ints, grid: Grid) -> Ints:
    """(2N,) order of the ends, then beginnings, of intervals: within a column by time, ends first where it is one."""
    n = len(cut.start)
    ticks = np.rint(np.concatenate([cut.end, cut.start]) * _TICKS_PER_SECOND).astype(np.int64)
    width = int(grid.length * _TICKS_PER_SECOND) + 2
    key = (column * width + ticks) * 2
    key[n:] += 1
    places = (2 * n - 1).bit_length()
    if (int(column.max(initial=0)) + 1) * width * 2 >= 1 << (63 - places):
        return np.argsort(key, kind="stable")
    # A number and its place in one word: sorting words is several times as fast as sorting places by their numbers.
    word = np.sort((key << places) | np.arange(2 * n))
    return word & ((1 << places) - 1)


def peaks(intervals: Intervals, grid: Grid, columns: int) -> Floats:
    """(columns, T, K) largest amount in use at once within each step, exactly: events sorted, summed, maximised.

    Time is told to a ten-thousandth of a second.
    """
    cut = intervals.inside(grid)
    n, kinds = cut.amount.shape
    if not n:
        return np.zeros((columns, grid.steps, kinds))
    column = np.concatenate([cut.column, cut.column])
    order = _in_time(cut, column, grid)
    position = np.concatenate([np.ceil(cut.end / grid.step) - 1, np.floor(cut.start / grid.step)])
    cell = (column * grid.steps + np.clip(position, 0, grid.steps - 1).astype(np.int64))[order]
    first = np.searchsorted(cell, np.arange(columns * grid.steps))
    carried = np.flatnonzero(first)
    beginnings = np.flatnonzero(np.diff(cell, prepend=-1))
    busy = cell[beginnings]
    out = np.zeros((columns * grid.steps, kinds))
    for k in np.flatnonzero(cut.amount.any(axis=0)).tolist():
        amount = cut.amount[:, k]
        level = np.cumsum(np.concatenate([-amount, amount])[order])
        out[carried, k] = level[first[carried] - 1]  # what the step before left
        out[busy, k] = np.maximum(out[busy, k], np.maximum.reduceat(level, beginnings))
    out[out < 1e-9] = 0.0
    return out.reshape(columns, grid.steps, kinds)
