"""How much longer the same work takes on one kind of machine than on another, learnt from work that ran on both.

After Lotaru (Bader et al. 2022), which tells kinds of node apart by benchmarks: here what tasks took is the benchmark.
The logarithm of a runtime is what its signature takes for its input size, and a level of the machine. Levels
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
from preprov.profiles.curves import expected_from

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_RUNS: Final = 10
"""Runs of a signature on a machine beyond which more of them tell no more."""
_PRIOR: Final = 1.0
_SLOPE_PRIOR: Final = 0.1
_PASSES: Final = 3


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
        cell, place = np.unique(what * len(kinds) + kind, return_inverse=True)
        shared = (np.bincount(cell // len(kinds), minlength=int(what.max()) + 1) > 1)[what]
        if not shared.any():
            return cls()
        logs, size, what, kind = logs[good][shared], np.asarray(size)[good][shared], what[shared], kind[shared]
        rest = _without_size(logs, size, what, place[shared])
        level, part = _levels(what, kind, rest, len(kinds))
        for _ in range(_PASSES if np.isfinite(size).any() else 0):
            level, part = _levels(what, kind, _beside_lines(logs, logs - level[kind], size, what), len(kinds))
        return cls(
            dict(zip(kinds.tolist(), level.tolist(), strict=True)),
            dict(zip(kinds.tolist(), part.tolist(), strict=True)),
        )

    def factor(self, of: str, to: str) -> float:
        """By what a runtime on one kind is multiplied to be one on another; 1 where nobody knows."""
        if of not in self.part or to not in self.part or self.part[of] != self.part[to]:
            return 1.0
        return float(np.exp(self.level[to] - self.level[of]))


def _without_size(logs: Floats, size: Floats, what: Ints, cell: Ints) -> Floats:
    """(N,) less what input size adds, by a line for each signature, from runs on the same machine."""
    known = np.isfinite(size)
    if not known.any():
        return logs
    x = np.where(known, size, 0.0)
    cells, whats = int(cell.max()) + 1, int(what.max()) + 1

    def off(values: Floats, by: Ints, n: int) -> Floats:
        count = np.maximum(np.bincount(by[known], minlength=n), 1)
        out: Floats = values - (np.bincount(by[known], values[known], n) / count)[by]
        return out

    away, rest = (np.where(known, off(v, cell, cells), 0.0) for v in (x, logs))
    slope = np.bincount(what, away * rest, whats) / (np.bincount(what, away**2, whats) + _SLOPE_PRIOR)
    out: Floats = logs - slope[what] * np.where(known, off(x, what, whats), 0.0)
    return out


def _beside_lines(logs: Floats, alike: Floats, size: Floats, what: Ints) -> Floats:
    """(N,) less what is expected of each one's size, by the line that goes best with (N,) runtimes on like machines.

    Runs of one machine may all be small: how much longer large ones take the others tell.
    """
    order = np.argsort(what, kind="stable")
    out = np.empty(len(logs))
    for mine in np.split(order, np.cumsum(np.bincount(what))[:-1]):
        known = size[mine][np.isfinite(size[mine])]
        then, _ = expected_from(size[mine], np.exp(alike[mine]), float(np.median(known)) if len(known) else np.nan)
        out[mine] = logs[mine] - np.log(then)
    return out


def _levels(what: Ints, kind: Ints, rest: Floats, kinds: int) -> tuple[Floats, Ints]:
    """(N,) signatures, machines and logarithms of runtimes -> (K,) levels of machines, (K,) parts."""
    from scipy.sparse.csgraph import connected_components

    cell, place = np.unique(what * kinds + kind, return_inverse=True)
    order = np.argsort(place, kind="stable")
    middle = [np.median(part) for part in np.split(rest[order], np.cumsum(np.bincount(place))[:-1])]
    wide = np.zeros((int(what.max()) + 1, kinds))
    value = np.zeros_like(wide)
    wide[cell // kinds, cell % kinds] = np.minimum(np.bincount(place), _MOST_RUNS)
    value[cell // kinds, cell % kinds] = middle
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
