"""How much longer the same work takes on one kind of machine than on another, learnt from work that ran on both.

After Lotaru (Bader et al. 2022), which tells kinds of node apart by benchmarks: here what tasks took is the benchmark.
The logarithm of a runtime is a level of its signature, what its input size adds, and a level of the machine. The last
are the least squares of the medians by signature and machine, held to 0, and so to each other, as if one signature more
had run everywhere and told no difference. Between kinds that no chain of signatures joins nothing is known: they count
as alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import Phase, ResourceCurve, UsageRun, unit

Floats = NDArray[np.float64]

_MOST_RUNS: Final = 10
"""Runs of a signature on a machine beyond which more of them tell no more."""
_PRIOR: Final = 1.0
_SLOPE_PRIOR: Final = 0.1


@dataclass(frozen=True)
class Machines:
    """What was learnt.

    Attributes:
        level: kind of machine -> logarithm of how slow it is. part: kinds of one number can be compared.
    """

    level: Mapping[str, float] = field(default_factory=dict)
    part: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def learn(cls, signature: Sequence[str], machine: Sequence[str], seconds: Floats, size: Floats) -> "Machines":
        """Of (N,) runs; a machine that is not known, "", tells nothing.

        Args:
            signature: what ran. machine: where. seconds: how long. size: logarithms of input; NaN = not known.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.asarray(seconds, dtype=np.float64))
        told = np.asarray(machine, dtype=str)
        good = np.flatnonzero(np.isfinite(logs) & (told != ""))
        kinds, kind = np.unique(told[good], return_inverse=True)
        if len(kinds) < 2:
            return cls()
        _, what = np.unique(np.asarray(signature, dtype=str)[good], return_inverse=True)
        _, first, place = np.unique(what * len(kinds) + kind, return_index=True, return_inverse=True)
        logs = _without_size(logs[good], np.asarray(size, dtype=np.float64)[good], what, place)
        order = np.argsort(place, kind="stable")
        parts = np.split(logs[order], np.cumsum(np.bincount(place))[:-1])
        middle = np.array([np.median(p) for p in parts])
        weight = np.minimum(np.array([len(p) for p in parts], dtype=np.float64), _MOST_RUNS)
        level, part = _levels(what[first], kind[first], middle, weight, len(kinds))
        return cls(
            dict(zip(kinds.tolist(), level.tolist(), strict=True)),
            dict(zip(kinds.tolist(), part.tolist(), strict=True)),
        )

    def factor(self, of: str, to: str) -> float:
        """By what a runtime on one kind is multiplied to be one on another; 1 where nobody knows."""
        if of not in self.part or to not in self.part or self.part[of] != self.part[to]:
            return 1.0
        return float(np.exp(self.level[to] - self.level[of]))


def _without_size(logs: Floats, size: Floats, what: NDArray[np.int64], cell: NDArray[np.int64]) -> Floats:
    """(N,) less what input size adds, by a line for each signature, from runs on the same machine."""
    known = np.isfinite(size)
    if not known.any():
        return logs
    x = np.where(known, size, 0.0)
    cells, whats = int(cell.max()) + 1, int(what.max()) + 1

    def off(values: Floats, by: NDArray[np.int64], n: int) -> Floats:
        count = np.maximum(np.bincount(by[known], minlength=n), 1)
        out: Floats = values - (np.bincount(by[known], values[known], n) / count)[by]
        return out

    away, rest = (np.where(known, off(v, cell, cells), 0.0) for v in (x, logs))
    slope = np.bincount(what, away * rest, whats) / (np.bincount(what, away**2, whats) + _SLOPE_PRIOR)
    out: Floats = logs - slope[what] * np.where(known, off(x, what, whats), 0.0)
    return out


def _levels(
    what: NDArray[np.int64], kind: NDArray[np.int64], middle: Floats, weight: Floats, kinds: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Cells (C,) of signature and machine, their medians and weights -> (K,) levels of machines, (K,) parts."""
    from scipy.sparse.csgraph import connected_components

    wide = np.zeros((int(what.max()) + 1, kinds))
    value = np.zeros_like(wide)
    wide[what, kind], value[what, kind] = weight, middle
    total = np.maximum(wide.sum(axis=1, keepdims=True), 1e-12)
    center = (wide * value).sum(axis=1, keepdims=True) / total
    between = np.diag(wide.sum(axis=0)) - (wide / total).T @ wide
    level = np.linalg.solve(between + _PRIOR * np.eye(kinds), (wide * (value - center)).sum(axis=0))
    _, part = connected_components((wide > 0).T.astype(float) @ (wide > 0), directed=False)
    return level, part


def moved(run: UsageRun, factor: float, machine: str) -> UsageRun:
    """A run as it would have gone on a machine on which it takes so many times as long: it works through the same.

    What it holds, and the cores that it keeps busy, stay; what it moves a second is as much less.
    """
    if factor == 1.0:
        return run
    more = {r: v / factor if unit(r).endswith("/s") else v for r, v in run.more.items()}
    return replace(run, duration_s=run.duration_s * factor, at=run.at * factor, more=more, machine=machine)


def stretched(curve: ResourceCurve, factor: float) -> ResourceCurve:
    """A curve as it is on a machine on which the task takes so many times as long."""
    if factor == 1.0:
        return curve
    by = 1 / factor if unit(curve.resource).endswith("/s") else 1.0
    return replace(
        curve,
        at=curve.at * factor,
        values=curve.values * by,
        peak=curve.peak * by,
        runtime_s=curve.runtime_s * factor,
        phases=tuple(Phase(p.start_s * factor, p.amount * by) for p in curve.phases),
    )
