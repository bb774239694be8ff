"""Monte Carlo through the DAGs: runtimes drawn, ready times passed from parents to children, many samples at once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.draws import mix, normals, strata, uniforms
from preprov.demand.runtime_tables import Ints, RuntimeTables
from preprov.demand.units import Units
from preprov.model.worktable import edge_levels

_SIZE, _COMES, _LATE, _ALTERNATIVE, _SURVIVES = (np.uint64(n) for n in (101, 102, 103, 104, 105))
NOWHERE: Final = -1


@dataclass(frozen=True)
class Realised:
    """start, end: (T, C) seconds on the grid's clock. column: (R, C) sample of each realisation, NOWHERE = none."""

    start: NDArray[Any]
    end: NDArray[Any]
    column: Ints


@dataclass(frozen=True)
class Realiser:
    """Draws whole runs, all with the same number of alternatives.

    Attributes:
        units: the runs. tables: runtime distributions. origin: the instant of knowledge on the grid's clock.
        samples: how many samples there are to fill; each alternative fills its own share of them.
    """

    units: Units
    tables: RuntimeTables
    origin: float
    samples: int

    @property
    def draws(self) -> int:
        """Realisations of each run."""
        return -(-self.samples // self._copies)

    @property
    def _copies(self) -> int:
        return int(self.units.copies[0])

    def realise(self, draws: slice, dtype: Any = np.float64) -> Realised:
        """Realise these of the draws. A run that does not come in a sample has tasks of no length there."""
        units = self.units
        column = self._columns[:, draws]
        looked_up = np.maximum(column, 0)
        factor = self._factor(looked_up)
        runtime = self._runtimes(factor, draws)
        comes = np.take_along_axis(self._comes, looked_up, axis=1) < units.probability[:, None]
        if not comes.all():
            runtime[~comes[units.run]] = 0.0
        roots = units.ready[:, None] + self.origin + self._delay(looked_up)
        ready = np.broadcast_to(roots, column.shape).astype(dtype)[units.run]
        begun = self._begun
        ready[begun] = (units.started[begun, None] + self.origin).astype(dtype)
        end = ready + runtime
        for parents, bounds, children in self._levels:
            latest = np.maximum.reduceat(end[parents], bounds, axis=0)
            ready[children] = np.maximum(ready[children], latest)
            end[children] = ready[children] + runtime[children]
        return Realised(ready, end, column)

    @cached_property
    def _columns(self) -> Ints:
        """(R, draws): all samples in order, or each alternative's own part of a shuffle that all of them share."""
        if self._copies == 1:
            return np.broadcast_to(np.arange(self.samples), (self.units.runs, self.samples))
        index, _ = strata(mix(self.units.run_key, _ALTERNATIVE), self.samples)
        shuffled = np.argsort(index, axis=1, kind="stable")
        missing = self.draws * self._copies - self.samples
        padded = np.pad(shuffled, ((0, 0), (0, missing)), constant_values=NOWHERE)
        own = self.units.copy[:, None] * self.draws + np.arange(self.draws)[None, :]
        return np.take_along_axis(padded, own, axis=1)

    @cached_property
    def _comes(self) -> NDArray[np.float32]:
        return uniforms(mix(self.units.run_key, _COMES), self.samples)

    @cached_property
    def _begun(self) -> Ints:
        return np.flatnonzero(np.isfinite(self.units.started))

    def _delay(self, column: Ints) -> NDArray[Any]:
        units = self.units
        if not len(units.delays) or (units.late < 0).all():
            return np.zeros((1, 1))
        level = np.take_along_axis(uniforms(mix(units.run_key, _LATE), self.samples), column, axis=1)
        at = (level * units.delays.shape[1]).astype(np.int64)
        return np.where(units.late[:, None] < 0, 0.0, units.delays[np.maximum(units.late, 0)[:, None], at])

    def _factor(self, column: Ints) -> NDArray[np.float32] | None:
        """(R, C) what the tasks of each run have in common, as a part of their normal score; None if nothing."""
        units = self.units
        if not units.share.any():
            return None
        score = np.take_along_axis(normals(mix(units.run_key, _SIZE), self.samples), column, axis=1)
        common = np.sqrt(units.share)[:, None] * (units.size[:, None] + units.size_spread[:, None] * score)
        return common.astype(np.float32)

    def _runtimes(self, factor: NDArray[np.float32] | None, draws: slice) -> NDArray[np.float32]:
        units, tables = self.units, self.tables
        score = normals(units.key, self.draws, draws)
        begun = self._begun
        own = np.sqrt(1.0 - units.share)[units.run]
        if factor is not None:
            score *= own.astype(np.float32)[:, None]
            score += factor[units.run]
        runtime = tables.draw(units.task, score)
        if len(begun):
            u = uniforms(mix(units.key[begun], _SURVIVES), self.draws, draws).astype(np.float64)
            shift: Any = 0.0 if factor is None else factor[units.run[begun]]
            runtime[begun] = tables.survive(
                units.task[begun], -units.started[begun], u, shift, np.maximum(own[begun, None], 0.05)
            )
        return runtime

    @cached_property
    def _levels(self) -> list[tuple[Ints, Ints, Ints]]:
        """Per generation of parents: parents by child, where each child's begin, and the children."""
        out = []
        for edges in edge_levels(len(self.units), self.units.parents, self.units.children):
            edges = edges[np.argsort(self.units.children[edges], kind="stable")]
            children, bounds = np.unique(self.units.children[edges], return_index=True)
            out.append((self.units.parents[edges], bounds, children))
        return out
