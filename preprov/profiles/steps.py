"""Allocations that change over time, in steps: what one costs on a run, and the few steps that fit a curve best."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import UsageRun
from preprov.profiles.waste import MOST_ATTEMPTS, Outcome

Floats = NDArray[np.float64]

RETRY: Final = 2.0


@dataclass(frozen=True, slots=True)
class Steps:
    """(k,) starts in seconds, the first 0, ascending; (k,) amounts; the last one holds until the run ends."""

    start: Floats
    amount: Floats

    @classmethod
    def flat(cls, amount: float) -> "Steps":
        """One amount from start to end."""
        return cls(np.zeros(1), np.array([amount]))

    def at(self, times: Floats) -> Floats:
        """(S,) seconds -> (S,) allocated."""
        out: Floats = self.amount[np.maximum(np.searchsorted(self.start, times, side="right") - 1, 0)]
        return out

    def raised(self, failed_at: float) -> "Steps":
        """After a failure: twice as much from that step on (k-Segments' partial retry)."""
        step = max(int(np.searchsorted(self.start, failed_at, side="right")) - 1, 0)
        return Steps(self.start, np.where(np.arange(len(self.amount)) >= step, self.amount * RETRY, self.amount))


def outcome(steps: Steps, run: UsageRun, cap: float) -> Outcome:
    """Run it until an attempt is never short, GiB hours: a failed one wastes all that it had until it failed."""
    width = np.diff(run.at, append=max(run.duration_s, run.at[-1])) / 3600
    memory = np.nan_to_num(run.memory)
    wasted, failures = 0.0, 0
    for _ in range(MOST_ATTEMPTS):
        given = np.minimum(steps.at(run.at), cap)
        short = (given < memory) & (given < cap)
        if not short.any():
            break
        first = int(np.argmax(short))
        wasted += float((given * width)[: first + 1].sum())
        failures += 1
        steps = steps.raised(float(run.at[first]))
    used = float((memory * width).sum())
    return Outcome(wasted + float((np.maximum(given - memory, 0) * width).sum()), failures, used)


def fitted(needed: Floats, width_s: float, most: int) -> Steps:
    """At most so many steps that are never below a curve and as little above it as can be: dynamic programme.

    Args:
        needed: (G,) the curve, in bins. width_s: of a bin. most: steps.
    """
    edges = compacted(needed[None, :], most)
    return Steps(
        np.array([s * width_s for s, _ in edges], dtype=np.float64),
        np.array([needed[s : e + 1].max() for s, e in edges]),
    )


def compacted(needed: Floats, most: int) -> list[tuple[int, int]]:
    """At most so many stretches (first and last bin) of (R, G) curves whose tops are together as little as can be.

    More stretches never add up to more, and what is reserved is nowhere less than what is needed.
    """
    n = needed.shape[1]
    later = np.tri(n).T > 0
    area = np.zeros((n, n))
    for row in needed:
        area += np.maximum.accumulate(np.where(later, row[None, :], 0.0), axis=1)  # [i, j]: the top of bins i..j
    cost = np.where(later, area * (np.arange(n)[None, :] - np.arange(n)[:, None] + 1), np.inf)
    best = cost[0]
    begins: list[NDArray[np.int64]] = []
    for _ in range(1, min(most, n)):
        total = np.concatenate([[0.0], best[:-1]])[:, None] + cost  # the last step is bins i..j
        begins.append(total.argmin(axis=0))
        best = total.min(axis=0)
    edges, end = [], n - 1
    for begin in reversed(begins):
        start = int(begin[end])
        edges.append((start, end))
        end = start - 1
        if end < 0:
            break
    if end >= 0:
        edges.append((0, end))
    edges.reverse()
    return edges
