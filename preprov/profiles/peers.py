"""Other ways to size tasks, written from their papers, to be compared with: presets, Witt-LR, Witt-P95, Tovar.

Each process is learnt for itself. A process of which nothing has ended yet is given what was asked for it.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.profiles.kin import INPUT
from preprov.profiles.trial import Ended, Method, Task
from preprov.profiles.waste import Price

Floats = NDArray[np.float64]

_PERCENTILE: Final = 95
_LEAST: Final = 1e-6


class _Peer:
    """What all have: a history per process, doubling, and what is asked for where there is no history."""

    def __init__(self, price: Price) -> None:
        self._price = price
        self._ended: dict[str, list[Ended]] = defaultdict(list)

    def ask(self, task: Task) -> float:
        """GiB for the first attempt."""
        past = self._ended.get(task.process)
        if not past:
            return task.request if np.isfinite(task.request) else self._price.cap
        return max(self._sized(task, past), _LEAST)

    def retry(self, task: Task, given: float) -> float:
        """Twice as much."""
        return given * self._price.ladder

    def learn(self, ended: Ended) -> None:
        """A task has ended."""
        self._ended[ended.task.process].append(ended)

    def _sized(self, task: Task, past: list[Ended]) -> float:
        raise NotImplementedError


class Presets(_Peer):
    """What the workflow's authors ask for."""

    def ask(self, task: Task) -> float:
        """GiB asked for; a node where nothing is."""
        return task.request if np.isfinite(task.request) else self._price.cap


class WittPercentile(_Peer):
    """The 95th percentile of the peaks so far.

    Witt, van Santen, Leser: Feedback-based resource allocation for batch scheduling of scientific workflows, HPCS 2019
    (there among the percentile predictors); doubled on failure.
    """

    def _sized(self, task: Task, past: list[Ended]) -> float:
        return float(np.percentile([e.peak for e in past], _PERCENTILE))


class WittLR(_Peer):
    """Least squares of the peak on the input size, plus one standard deviation of the errors ("LR mean +- sigma").

    Witt, van Santen, Leser 2019, as above; refitted after every task, doubled on failure. A line that goes below zero
    is answered by the largest peak so far. The input size is what is known of it before the run; the published
    evaluations take what the run itself read, which nobody knows then (`Trial.in_hindsight`).
    """

    def _sized(self, task: Task, past: list[Ended]) -> float:
        at, sizes = known_input(task), np.array([known_input(e.task) for e in past])
        peaks = np.array([e.peak for e in past])
        known = np.isfinite(sizes)
        if not np.isfinite(at) or known.sum() < 2 or np.ptp(sizes[known]) == 0:
            return float(peaks.mean() + peaks.std())
        x, y = sizes[known] / sizes[known].max(), peaks[known]
        slope, level = np.polyfit(x, y, 1)
        expected = slope * at / sizes[known].max() + level
        if expected <= 0:
            return float(peaks.max())
        return float(expected + (y - slope * x - level).std())


class Tovar(_Peer):
    """The first allocation of least expected waste over the peaks so far, if the retry has the largest of them.

    Tovar, da Silva, Juve, Deelman, Allcock, Thain, Livny: A job sizing strategy for high-throughput scientific
    workflows, TPDS 2018, equation 1 (minimum waste): argmin over a of a E[t] + a_max E[t; peak > a]. Here the retry
    doubles, as for all.
    """

    def _sized(self, task: Task, past: list[Ended]) -> float:
        order = sorted(past, key=lambda e: e.peak)
        peaks, hours = np.array([e.peak for e in order]), np.array([e.hours for e in order])
        above = hours.sum() - np.cumsum(hours)[np.searchsorted(peaks, peaks, side="right") - 1]
        return float(peaks[np.argmin(peaks * hours.sum() + peaks[-1] * above)])


class TovarLadder(Tovar):
    """Tovar with its own retry: the largest peak so far, then a whole node."""

    def retry(self, task: Task, given: float) -> float:
        """The largest so far, then all there is."""
        largest = max((e.peak for e in self._ended.get(task.process, ())), default=0.0)
        return largest if largest > given else self._price.cap


def known_input(task: Task) -> float:
    """Bytes that the task will read, as far as they are known before it runs; NaN if not."""
    return task.facts.numbers.get(INPUT, float("nan"))


PEERS: Final[dict[str, Callable[[Price], Method]]] = {
    "presets": Presets,
    "witt-lr": WittLR,
    "witt-p95": WittPercentile,
    "tovar": Tovar,
}
