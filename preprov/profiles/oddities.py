"""Runs unlike those before them are told, and kept out of what is learnt; where they go on, they are what is usual now.

A run is odd if its peak of memory, its mean of cores or its runtime lies further from the median of the runs before it
than four robust standard deviations (median absolute deviation, in logarithms) and than half as much again, after what
its input size says was taken off. Three odd runs in a row, all odd in the same way, are no accident: from the first of
them on everything before is forgotten. A run of an input size that was never seen is not judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import UsageRun
from preprov.profiles.aligned import features
from preprov.profiles.curves import expected_from

Floats = NDArray[np.float64]

FEWEST: Final = 5
"""Runs that are needed to say what is usual."""
_LATEST: Final = 30
DRIFT: Final = 3
"""Odd runs in a row, all odd in the same way, that are what is usual from then on."""
_DEVIATIONS: Final = 4.0
_LEAST_SPREAD: Final = 0.05
_WORTH_TELLING: Final = float(np.log(1.5))
_MAD: Final = 1.4826
_NEW_SIZE: Final = float(np.log(2.0))
_UNITS: Final[Mapping[str, str]] = {"memory": "GiB", "cpu": "cores", "runtime": "s"}


@dataclass(frozen=True, slots=True)
class Oddity:
    """How a run is unlike those before it. what: memory (its peak), cpu (its mean) or runtime. usual: for its input."""

    what: str
    used: float
    usual: float

    @property
    def unit(self) -> str:
        """GiB, cores or s."""
        return _UNITS[self.what]

    def words(self) -> str:
        """For people."""
        return f"{self.what} {self.used:.3g} {self.unit}, where {self.usual:.3g} is usual"


@dataclass(frozen=True, slots=True)
class SortedOut:
    """Runs by their index. kept: what is learnt from. odd: how. since: the first of what is usual now; 0 = all are."""

    kept: tuple[int, ...]
    odd: Mapping[int, tuple[Oddity, ...]]
    since: int = 0


def sort_out(runs: Sequence[UsageRun]) -> SortedOut:
    """Runs of one signature, the oldest first."""
    usual: list[int] = []
    row: list[int] = []
    odd: dict[int, tuple[Oddity, ...]] = {}
    since = 0
    for i, run in enumerate(runs):
        found = oddities(run, [runs[j] for j in usual])
        if not found:
            usual.append(i)
            row = []
            continue
        odd[i] = found
        row = [*row, i] if not row or _alike(odd[row[-1]], found) else [i]
        if len(row) == DRIFT:
            usual, since = row, row[0]
            odd = {j: of for j, of in odd.items() if j < since}
            row = []
    return SortedOut(tuple(usual), odd, since)


def oddities(run: UsageRun, before: Sequence[UsageRun]) -> tuple[Oddity, ...]:
    """How a run is unlike those before it; nothing is said where those are too few, or none had such an input."""
    past = list(before)[-_LATEST:]
    if len(past) < FEWEST:
        return ()
    sizes, size = np.array([features(p)[0] for p in past]), float(features(run)[0])
    if _is_new(size, sizes):
        return ()
    table, mine = np.array([_measures(p) for p in past]), _measures(run)
    out = []
    for k, what in enumerate(_UNITS):
        found = _oddity(what, mine[k], table[:, k], sizes, size)
        if found is not None:
            out.append(found)
    return tuple(out)


def _oddity(what: str, used: float, past: Floats, sizes: Floats, size: float) -> Oddity | None:
    known = np.isfinite(past) & (past > 0)
    if known.sum() < FEWEST or not (np.isfinite(used) and used > 0):
        return None
    then, now = expected_from(sizes[known], past[known], size)
    left = np.log(past[known] / then)
    middle = float(np.median(left))
    spread = max(_MAD * float(np.median(np.abs(left - middle))), _LEAST_SPREAD)
    if abs(np.log(used / now) - middle) <= max(_DEVIATIONS * spread, _WORTH_TELLING):
        return None
    return Oddity(what, used, float(np.exp(middle)) * now)


def _measures(run: UsageRun) -> tuple[float, float, float]:
    """Peak of memory, mean of cores, runtime; NaN where it was not observed."""
    memory, cpu = run.memory[np.isfinite(run.memory)], run.cpu[np.isfinite(run.cpu)]
    nan = float("nan")
    return float(memory.max()) if len(memory) else nan, float(cpu.mean()) if len(cpu) else nan, run.duration_s


def _is_new(size: float, sizes: Floats) -> bool:
    known = sizes[np.isfinite(sizes)]
    if not np.isfinite(size) or not len(known):
        return False
    return bool(size > known.max() + _NEW_SIZE or size < known.min() - _NEW_SIZE)


def _alike(a: Sequence[Oddity], b: Sequence[Oddity]) -> bool:
    """True if both are odd in the same things, in the same direction."""
    return {(o.what, o.used > o.usual) for o in a} == {(o.what, o.used > o.usual) for o in b}
