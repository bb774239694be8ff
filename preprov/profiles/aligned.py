"""The past runs of one signature on a common clock: every run in as many bins, from its start to its end."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import UsageRun

Floats = NDArray[np.float64]

BINS: Final = 64
WINDOW: Final = 256
"""Runs that are kept: the last ones."""
LEAST: Final = 1e-6
_KEPT: Final = 16
RESOURCES: Final = ("memory", "cpu")
"""Of which curves are always kept; of others where they were observed."""
_HELD: Final = ("memory", "gpu_memory")
"""Of these the most in a bin counts, of others the mean: whoever has too little of them dies."""


def binned(run: UsageRun, resource: str) -> Floats:
    """(BINS,) of a run: highest memory, mean of the rest in each; one without a sample goes on as that before it."""
    values = run.used(resource)
    known = np.isfinite(values)
    if not known.any():
        return np.full(BINS, np.nan)
    at, values = run.at[known], values[known]
    place = np.clip((at / run.duration_s * BINS).astype(np.int64), 0, BINS - 1)
    if resource in _HELD:
        out = np.full(BINS, -np.inf)
        np.maximum.at(out, place, values)
    else:
        counts = np.bincount(place, minlength=BINS)
        out = np.where(counts > 0, np.bincount(place, values, BINS) / np.maximum(counts, 1), -np.inf)
    filled = np.maximum.accumulate(np.where(np.isfinite(out), np.arange(BINS), -1))
    out = np.where(filled >= 0, out[np.maximum(filled, 0)], values[0])
    held: Floats = np.maximum(out, LEAST)
    return held


class AlignedRuns:
    """The last runs of a signature.

    Attributes:
        curves: resource -> (n, BINS), NaN where it was not observed. duration: (n,) s.
        known: (n, 2) logarithms of input bytes and files.
        newest: when the last of them was submitted, epoch s.
    """

    def __init__(self) -> None:
        self.curves = {r: np.empty((0, BINS)) for r in RESOURCES}
        self.duration = np.empty(0)
        self.known = np.empty((0, 2))
        self.newest = -np.inf
        self._worked_out: dict[tuple[str, float], Floats] = {}

    def __len__(self) -> int:
        return len(self.duration)

    def add(self, run: UsageRun) -> None:
        """One more; the oldest goes when there are more than the window holds."""
        for resource in run.resources:
            self.curves.setdefault(resource, np.full((len(self), BINS), np.nan))
        for resource, curves in self.curves.items():
            self.curves[resource] = np.vstack([curves, binned(run, resource)])[-WINDOW:]
        self.duration = np.append(self.duration, run.duration_s)[-WINDOW:]
        self.known = np.vstack([self.known, features(run)])[-WINDOW:]
        self.newest = max(self.newest, run.submitted)
        self._worked_out = {}

    def worked_out(self, key: tuple[str, float], make: Callable[[], Floats]) -> Floats:
        """What several models make of these runs for one that is to come, made once; the last few are kept."""
        if key not in self._worked_out:
            if len(self._worked_out) >= _KEPT:
                self._worked_out.clear()
            self._worked_out[key] = make()
        return self._worked_out[key]

    def watched(self, resource: str) -> "AlignedRuns":
        """Those of which the resource was observed; itself if that is all of them, or none."""
        seen = np.isfinite(self.curves[resource][:, 0])
        return self.where(seen) if seen.any() else self

    def where(self, kept: NDArray[np.bool_]) -> "AlignedRuns":
        """Those of them; itself if that is all."""
        if bool(kept.all()):
            return self
        out = AlignedRuns()
        out.curves = {r: c[kept] for r, c in self.curves.items()}
        out.duration, out.known, out.newest = self.duration[kept], self.known[kept], self.newest
        return out


def features(run: UsageRun) -> Floats:
    """(2,) what is known of a run before it begins."""
    sizes = np.array([run.input_bytes, run.input_files])
    out: Floats = np.log1p(np.where(sizes >= 0, sizes, np.nan))
    return out
