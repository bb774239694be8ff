"""How many slots were taken over time, and for how long of a wait that was too many."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class When:
    """Stretches of time in which something held.

    Attributes:
        at: (N,) instants, ascending, seconds. on: (N,) bool, whether it holds from that instant to the next; it does
            not before the first.
    """

    at: Floats
    on: NDArray[np.bool_]

    def seconds(self, since: Floats, until: Floats) -> Floats:
        """(K,) for how long it held in each [since, until]."""
        if not len(self.at):
            return np.zeros(len(since))
        done = np.concatenate([[0.0], np.cumsum(np.where(self.on[:-1], np.diff(self.at), 0.0))])
        return np.maximum(self._until(until, done) - self._until(since, done), 0.0)

    def _until(self, x: Floats, done: Floats) -> Floats:
        i = np.searchsorted(self.at, x, side="right") - 1
        j = np.maximum(i, 0)
        out: Floats = np.where(i < 0, 0.0, done[j] + np.where(self.on[j], x - self.at[j], 0.0))
        return out

    def without(self, other: "When") -> "When":
        """Where this held and the other did not."""
        at = np.union1d(self.at, other.at)
        return When(at, self._at(at) & ~other._at(at))

    def _at(self, x: Floats) -> NDArray[np.bool_]:
        if not len(self.at):
            return np.zeros(len(x), dtype=bool)
        i = np.searchsorted(self.at, x, side="right") - 1
        out: NDArray[np.bool_] = (i >= 0) & self.on[np.maximum(i, 0)]
        return out


NEVER = When(np.empty(0), np.empty(0, dtype=bool))


@dataclass(frozen=True)
class Taken:
    """Slots that are taken.

    Attributes:
        at: (N,) instants, ascending, each once. level: (N,) slots taken from that instant to the next.
    """

    at: Floats
    level: Floats

    @classmethod
    def of(cls, since: Floats, until: Floats, slots: Floats) -> "Taken":
        """Each (K,) span takes its slots; one without a beginning takes none, one without an end never gives back."""
        known = np.isfinite(since)
        ends = np.where(np.isnan(until), np.inf, np.fmax(until, since))[known]
        times = np.concatenate([since[known], ends])
        change = np.concatenate([slots[known], -slots[known]])
        order = np.argsort(times, kind="stable")
        times, level = times[order], np.cumsum(change[order])
        last = np.append(times[1:] != times[:-1], True) if len(times) else np.empty(0, dtype=bool)
        keep = last & np.isfinite(times)
        return cls(times[keep], level[keep])

    @property
    def most(self) -> float:
        """Slots that were ever taken at once."""
        return float(self.level.max()) if len(self.level) else 0.0

    def over(self, slots: float) -> When:
        """When more than so many were taken."""
        return When(self.at, self.level > slots + 1e-9)
