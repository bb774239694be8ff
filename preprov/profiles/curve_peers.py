"""Other ways to give memory over time: the constant peak, k-Segments, the median curve of the process."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import UsageRun
from preprov.profiles.aligned import AlignedRuns, features
from preprov.profiles.curve_sizer import bin_times
from preprov.profiles.curves import LEVELS, History, weighted_quantiles
from preprov.profiles.steps import Steps

Floats = NDArray[np.float64]

_FLOOR_GIB: Final = 0.1


class _Peer:
    """What all have: the past of the process."""

    def __init__(self, steps: int) -> None:
        self._k = steps
        self._past = AlignedRuns()

    def __len__(self) -> int:
        return len(self._past)

    def learn(self, run: UsageRun) -> None:
        """A run has ended."""
        self._past.add(run)

    def allocate(self, known: Floats) -> Steps:
        """What to give."""
        raise NotImplementedError

    def quantiles(self, run: UsageRun, resource: str) -> Floats:
        """(BINS, Q) what is expected at the middle of the run's bins."""
        raise NotImplementedError


class ConstantPeak(_Peer):
    """The highest peak so far, from start to end."""

    def allocate(self, known: Floats) -> Steps:
        """Flat."""
        return Steps.flat(float(self._past.curves["memory"].max()))

    def quantiles(self, run: UsageRun, resource: str) -> Floats:
        """(BINS, Q) those of the peaks."""
        peaks = self._past.curves[resource].max(axis=1)
        found = weighted_quantiles(peaks, np.ones(len(peaks)), LEVELS)
        return np.broadcast_to(found, (len(bin_times(run)), len(LEVELS)))


class MedianCurve(_Peer):
    """At each share of the usual (median) runtime the median of the past there."""

    def allocate(self, known: Floats) -> Steps:
        """A step for each bin of the curve."""
        middle = np.median(self._past.curves["memory"], axis=0)
        width = float(np.median(self._past.duration)) / len(middle)
        start: Floats = np.arange(len(middle), dtype=np.float64) * width
        return Steps(start, np.asarray(middle, dtype=np.float64))

    def quantiles(self, run: UsageRun, resource: str) -> Floats:
        """(BINS, Q) of the past runs as they were, at these times."""
        return History().scenarios(self._past, features(run), resource).quantiles(bin_times(run), LEVELS)


class KSegments(_Peer):
    """k equal segments of the runtime, a line on input size for each one's peak and for the runtime.

    Bader, Diedrich, Thamsen, Kao: Predicting dynamic memory requirements for scientific workflow tasks, IEEE BigData
    2023. The largest over-estimate of the past is taken off the runtime, the largest under-estimate of a segment's peak
    is put onto it; a later segment never has less than an earlier one; 100 MiB at least. On failure all segments from
    the failed one on are doubled (its partial retry).
    """

    def allocate(self, known: Floats) -> Steps:
        """K steps."""
        x = self._past.known[:, 0]
        runtime, errors = _line(x, self._past.duration, known[0])
        runtime -= max(float(-errors.min()), 0.0)
        start = np.linspace(0.0, max(runtime, 1.0), self._k, endpoint=False)
        amounts = []
        for segment in np.array_split(self._past.curves["memory"], self._k, axis=1):
            expected, errors = _line(x, segment.max(axis=1), known[0])
            amounts.append(expected + max(float(errors.max()), 0.0))
        return Steps(start, np.maximum(np.maximum.accumulate(np.asarray(amounts, dtype=np.float64)), _FLOOR_GIB))

    def quantiles(self, run: UsageRun, resource: str) -> Floats:
        """(BINS, Q) each segment's line with the quantiles of its errors; the last one after the expected end."""
        x, at = self._past.known[:, 0], features(run)[0]
        runtime = max(_line(x, self._past.duration, at)[0], 1.0)
        rows = []
        for segment in np.array_split(self._past.curves[resource], self._k, axis=1):
            expected, errors = _line(x, segment.max(axis=1), at)
            rows.append(expected + weighted_quantiles(errors, np.ones(len(errors)), LEVELS))
        place = np.clip((bin_times(run) / runtime * self._k).astype(np.int64), 0, self._k - 1)
        return np.array(rows)[place]


def _line(logs: Floats, y: Floats, at: float) -> tuple[float, Floats]:
    """Least squares of (n,) y on the size itself: (expected at a logarithm, (n,) errors); the mean where no line is."""
    known = np.isfinite(logs)
    if known.sum() < 2 or not np.isfinite(at) or np.ptp(logs[known]) < 1e-9:
        return float(y.mean()), y - y.mean()
    largest = float(logs[known].max())
    x = np.exp(logs[known] - largest)
    slope, level = np.polyfit(x, y[known], 1)
    return float(slope * np.exp(at - largest) + level), y[known] - slope * x - level


CURVE_PEERS: Final = {"constant-peak": ConstantPeak, "k-segments": KSegments, "median-curve": MedianCurve}
