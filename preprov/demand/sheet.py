"""Very many intervals on a grid of fine cells: changes of level counted cell by cell, a column per realisation."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.occupancy import Grid
from preprov.demand.realise import NOWHERE, Realised
from preprov.demand.runtime_tables import Floats, Ints
from preprov.demand.units import Units
from preprov.model.demand import PARTS

_FINE_S: Final = 10.0
_MOST_CELLS: Final = 16_384


class Sheet:
    """Adds intervals up.

    Attributes:
        grid: the steps. columns: how many realisations are kept apart. kinds: positions of the resources counted.
        finer: cells in a step.
    """

    def __init__(self, grid: Grid, columns: int, kinds: Ints) -> None:
        self.grid, self.columns, self.kinds = grid, columns, kinds
        self.finer = max(1, min(int(np.ceil(grid.step / _FINE_S)), _MOST_CELLS // grid.steps))
        self.cells = grid.steps * self.finer
        self._change = np.zeros((len(kinds), columns, self.cells + 1))
        self._late = np.zeros((len(kinds), columns, grid.steps + 1))
        self._part_change = np.zeros((len(PARTS), len(kinds), self.cells + 1))
        self._part_late = np.zeros((len(PARTS), len(kinds), grid.steps + 1))

    def lay(self, units: Units, block: Realised) -> None:
        """Add all intervals of a block of realised tasks."""
        if (block.column == NOWHERE).all():
            return
        for part in np.unique(units.part):
            rows = np.flatnonzero(units.part == part)
            whole = len(rows) == len(units)
            start, end = (block.start, block.end) if whole else (block.start[rows], block.end[rows])
            run = units.run if whole else units.run[rows]
            base, width, column = self._placed(block.column, run)
            nowhere = column < 0
            if nowhere.any():
                end = np.where(nowhere, start, end)
            amount = units.amount[rows][:, self.kinds]
            for time, sign in ((start, 1.0), (end, -1.0)):
                self._count(time, sign, np.maximum(column, 0), amount, slice(base, base + width), int(part))

    @staticmethod
    def _placed(column: Ints, run: Ints) -> tuple[int, int, Ints]:
        """First column touched, how many from there on, and each interval's place among them."""
        plain = column.strides[0] == 0 or (column == column[:1]).all()
        if plain and (column[0] >= 0).all():
            first = int(column[0, 0])
            return first, column.shape[1], (column[:1] - first)
        return 0, int(column.max()) + 1, column[run]

    def _count(self, time: NDArray[Any], sign: float, column: Ints, amount: Floats, at: slice, part: int) -> None:
        width, steps = at.stop - at.start, self.grid.steps + 1
        position = np.clip(time, 0, self.grid.length) * (self.finer / self.grid.step)
        cell = position.astype(np.int64)
        step = cell // self.finer
        share = (position * (1 / self.finer) - step).astype(np.float64).ravel()
        fine = (cell + column * (self.cells + 1)).ravel()
        coarse = (step + column * steps).ravel()
        for k in range(len(self.kinds)):
            if not amount[:, k].any():
                continue
            weight = np.repeat(amount[:, k] * sign, time.shape[1])
            change = np.bincount(fine, weight, width * (self.cells + 1)).reshape(width, -1)
            weight *= share
            late = np.bincount(coarse, weight, width * steps).reshape(width, -1)
            self._change[k, at] += change
            self._late[k, at] += late
            self._part_change[part, k] += change.sum(axis=0)
            self._part_late[part, k] += late.sum(axis=0)

    def levels(self) -> Floats:
        """(columns, cells, K) level at the end of each cell."""
        out = np.cumsum(self._change[:, :, :-1], axis=2)
        return np.maximum(np.moveaxis(out, 0, 2), 0.0, out=np.moveaxis(out, 0, 2))

    def means(self, levels: Floats) -> Floats:
        """(columns, T, K) mean within each step, exactly."""
        return np.maximum(levels[:, self.finer - 1 :: self.finer] - np.moveaxis(self._late, 0, 2)[:, :-1], 0.0)

    def part_means(self) -> Floats:
        """(len(PARTS), T, K) mean over all columns of each part's mean within each step."""
        level = np.cumsum(self._part_change, axis=2)[:, :, self.finer - 1 : -1 : self.finer]
        out = (level - self._part_late[:, :, :-1]) / self.columns
        return np.maximum(np.moveaxis(out, 1, 2), 0.0)

    def peaks(self, levels: NDArray[Any]) -> NDArray[Any]:
        """(S, T, K) highest level at any cell's border within each step, of levels of any number of columns."""
        samples, _, kinds = levels.shape
        out = levels.reshape(samples, self.grid.steps, self.finer, kinds).max(axis=2)
        border = levels[:, self.finer - 1 : -1 : self.finer]  # where a step ends the next one begins
        np.maximum(out[:, 1:], border, out=out[:, 1:])
        peak: NDArray[Any] = out
        return peak
