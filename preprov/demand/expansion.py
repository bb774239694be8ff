"""Realised tasks become resources in use per step, in joint samples.

Few intervals are turned into exact peaks. Many are laid on a fine grid. Where they are very many, the small runs, whose
differences average out, are drawn fewer times and recombined: they are dealt into groups, each group is realised a few
dozen times, and a sample adds up one realisation of every group. Runs that matter by themselves are always drawn for
every sample. What a run draws depends on itself alone, so within a mode of working a further run only adds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.draws import Keys, key_of, strata
from preprov.demand.occupancy import Grid, Intervals, means, peaks
from preprov.demand.realise import Realised, Realiser
from preprov.demand.runtime_tables import Floats, Ints, RuntimeTables, Singles
from preprov.demand.sheet import Sheet
from preprov.demand.units import Units
from preprov.model.demand import PARTS
from preprov.model.resources import KINDS

EXACT: Final = 800_000
"""Up to so many intervals peaks are exact."""
DIRECT: Final = 6_000_000
"""Up to so many intervals every task is drawn for every sample."""
_GROUPS: Final = 32
_LIGHT: Final = 4_000_000  # intervals drawn of runs that matter only together
_REALISATIONS: Final = (16, 64)  # of each group, at least and at most: the more runs, the fewer it takes
_HEAVY_SHARE: Final = 1 / 400
_ROWS: Final = 32_768
_BLOCK: Final = 524_288


@dataclass(frozen=True)
class Expanded:
    """Resources in use per step: peak and mean (S, T, 5), and the mean by part (len(PARTS), T, 5).

    Attributes:
        watched: (S, T, 5) mean of the runs that were to be watched; None if they are too many to be told apart.
    """

    peak: Singles
    mean: Singles
    parts: Floats
    watched: Singles | None = None


def expand_units(
    units: Units, tables: RuntimeTables, origin: float, grid: Grid, samples: int, watched: Keys | None = None
) -> Expanded:
    """Expand tasks into joint samples of the resources they use.

    Args:
        units: the tasks. tables: their runtime distributions. origin: the instant of knowledge, seconds after the
            grid's start. grid: the steps. samples: S. watched: keys of runs whose demand is told apart as well.
    """
    shape = (samples, grid.steps, len(KINDS))
    drawn = float((1.0 / units.copies[units.run]).sum()) * samples
    out = Expanded(
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros((len(PARTS), *shape[1:])),
        np.zeros(shape, np.float32) if watched is not None and drawn <= EXACT else None,
    )
    kinds = np.flatnonzero(units.amount.any(axis=0))
    if not len(kinds):
        return out
    if drawn <= EXACT:
        peak, mean, parts, apart = _exactly(units, tables, origin, grid, samples, kinds, watched)
        if out.watched is not None:
            out.watched[:, :, kinds] = apart
    else:
        everything = np.ones(units.runs, bool) if drawn <= DIRECT else _heavy(units, tables, samples)
        peak, mean, parts = _Massive(grid, samples, kinds).expand(units, tables, origin, everything)
    out.mean[:, :, kinds] = mean
    out.peak[:, :, kinds] = peak
    np.maximum(out.peak, out.mean, out=out.peak)  # they differ by rounding where nothing changes within a step
    out.parts[:, :, kinds] = parts
    return out


def _realisers(units: Units, tables: RuntimeTables, origin: float, samples: int) -> Iterator[Realiser]:
    units = units.linked_together()
    for copies in np.unique(units.copies):
        same = np.flatnonzero(units.copies == copies)
        alike = units if len(same) == units.runs else units.arranged(same)
        for window in alike.windows(_ROWS):
            yield Realiser(window, tables, origin, samples)


def realisations(units: Units, tables: RuntimeTables, origin: float, samples: int) -> Iterator[tuple[Units, Realised]]:
    """Every task drawn for every sample, block by block: the units of the block, and what became of them.

    Args:
        origin: the instant of knowledge on the clock of the starts and ends.
    """
    for realiser in _realisers(units, tables, origin, samples):
        for block in _blocks(realiser, 1, np.float64):
            yield realiser.units, block


def _blocks(realiser: Realiser, narrowest: int, dtype: Any) -> Iterator[Realised]:
    width = max(narrowest, _BLOCK // max(len(realiser.units), 1))
    for low in range(0, realiser.draws, width):
        yield realiser.realise(slice(low, min(low + width, realiser.draws)), dtype)


def _exactly(
    units: Units,
    tables: RuntimeTables,
    origin: float,
    grid: Grid,
    samples: int,
    kinds: Ints,
    watched: Keys | None,
) -> tuple[Floats, Floats, Floats, Floats | float]:
    """Peak, mean, mean by part, mean of the watched runs (0 if none are)."""
    found: list[tuple[NDArray[Any], ...]] = []
    for mine, block in realisations(units, tables, origin, samples):
        column = block.column[mine.run]
        row, at = np.nonzero((block.end > np.maximum(block.start, 0)) & (block.start < grid.length) & (column >= 0))
        eyed = np.zeros(mine.runs, bool) if watched is None else np.isin(mine.run_key, watched)
        chosen = (block.start[row, at], block.end[row, at], column[row, at], mine.part[row].astype(np.int64))
        found.append((*chosen, mine.amount[row][:, kinds], eyed[mine.run[row]]))
    start, end, sample, part, amount, eye = (np.concatenate(c) for c in zip(*found, strict=True))
    intervals = Intervals(start, end, sample, amount)
    by_part = means(Intervals(start, end, part, amount), grid, len(PARTS)) / samples
    apart: Floats | float = 0.0
    if eye.any():
        apart = means(Intervals(start[eye], end[eye], sample[eye], amount[eye]), grid, samples)
    return peaks(intervals, grid, samples), means(intervals, grid, samples), by_part, apart


class _Massive:
    """Many intervals: sheets of realisations, added up."""

    def __init__(self, grid: Grid, samples: int, kinds: Ints) -> None:
        self.grid, self.samples, self.kinds = grid, samples, kinds
        self.mean = np.zeros((samples, grid.steps, len(kinds)))
        self.parts = np.zeros((len(PARTS), grid.steps, len(kinds)))
        self.whole = Sheet(grid, samples, kinds)
        self.level = np.zeros((samples, self.whole.cells, len(kinds)), np.float32)

    def expand(
        self, units: Units, tables: RuntimeTables, origin: float, every: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Floats, Floats]:
        """Peak, mean and mean by part; runs in `every` are drawn for every sample."""
        runs = np.flatnonzero(every)
        if len(runs):
            self._add(self.whole, units if len(runs) == units.runs else units.arranged(runs), tables, origin, None)
        light = np.flatnonzero(~every)
        if len(light):
            self._add_groups(units, light, tables, origin)
        return self.whole.peaks(self.level), self.mean, self.parts

    def _add_groups(self, units: Units, light: Ints, tables: RuntimeTables, origin: float) -> None:
        group = (units.run_key[light] % np.uint64(_GROUPS)).astype(np.int64)
        dealt = units.arranged(light[np.argsort(group, kind="stable")])
        bounds = np.searchsorted(np.sort(group), np.arange(_GROUPS + 1)).tolist()
        affordable = np.clip(_LIGHT / len(dealt), *_REALISATIONS)
        realisations = min(int(2 ** np.floor(np.log2(affordable))), self.samples)
        for g, (low, high) in enumerate(pairwise(bounds)):
            if low < high:
                index, m = strata(key_of([f"group {g}"], 0), self.samples)
                pick = index[0].astype(np.int64) * realisations // m
                self._add(Sheet(self.grid, realisations, self.kinds), dealt.between(low, high), tables, origin, pick)

    def _add(self, sheet: Sheet, units: Units, tables: RuntimeTables, origin: float, pick: Ints | None) -> None:
        for realiser in _realisers(units, tables, origin, sheet.columns):
            for block in _blocks(realiser, min(16, sheet.columns), np.float32):
                sheet.lay(realiser.units, block)
        level = sheet.levels()
        mean = sheet.means(level)
        self.parts += sheet.part_means()
        self.mean += mean if pick is None else mean[pick]
        self.level += level if pick is None else level.astype(np.float32)[pick]


def _heavy(units: Units, tables: RuntimeTables, samples: int) -> NDArray[np.bool_]:
    """(R,) runs that matter by themselves, as far as all samples can be afforded, and those that wait for others."""
    usual = tables.quantile(0.5)[units.task]
    held = np.stack([np.bincount(units.run, usual * a, units.runs) for a in units.amount.T], axis=1)
    total = np.maximum(held.sum(axis=0), 1e-12)
    share = (held / total).max(axis=1)
    rows = np.bincount(units.run, minlength=units.runs)
    order = np.argsort(-share / np.maximum(rows, 1), kind="stable")
    affordable = np.cumsum(rows[order]) * samples <= DIRECT // 2
    out = units.linked()
    out[order[affordable]] |= share[order[affordable]] > _HEAVY_SHARE
    return out
