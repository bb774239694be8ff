"""How many slots were taken over time, and for how long of a wait that was too many."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_APART_S: Final = 86_400.0
"""Between two lanes: whatever looks a little back from one must not see the other."""


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
        return np.maximum(self._until(until, self._done) - self._until(since, self._done), 0.0)

    def seconds_without(
        self, other: "When", since: Floats, until: Floats, real: "Callable[[Floats], Floats] | None" = None
    ) -> Floats:
        """(K,) for how long it held in each, and the other did not.

        Args:
            real: from the instants here to those of the other.
        """
        if not len(self.at):
            return np.zeros(len(since))
        own = real or _same
        at = own(self.at)
        both = np.where(self.on[:-1], other.seconds(at[:-1], at[1:]), 0.0)
        done = self._done - np.concatenate([[0.0], np.cumsum(both)])

        def so_far(x: Floats) -> Floats:
            return self._until(x, done) - self._shared(other, x, own)

        return np.maximum(so_far(until) - so_far(since), 0.0)

    def _shared(self, other: "When", x: Floats, real: Callable[[Floats], Floats]) -> Floats:
        """(K,) of the stretch that each instant is in, as far as that: how long the other held."""
        i = np.searchsorted(self.at, x, side="right") - 1
        j = np.maximum(i, 0)
        inside = (i >= 0) & self.on[j]
        return np.where(inside, other.seconds(real(self.at[j]), real(np.fmax(x, self.at[j]))), 0.0)

    def closed(self, gap_s: float) -> "When":
        """With what is no longer than that between two stretches."""
        return When(self.at, self.on | self._between(gap_s)) if len(self.at) else self

    def _between(self, gap_s: float) -> NDArray[np.bool_]:
        """(N,) True where it is off, was on before and is on again within so long."""
        steps = np.arange(len(self.at))
        last_on = np.maximum.accumulate(np.where(self.on, steps, -1))
        next_on = np.minimum.accumulate(np.where(self.on, steps, len(steps))[::-1])[::-1]
        inside = ~self.on & (last_on >= 0) & (next_on < len(steps))
        began = self.at[np.minimum(last_on + 1, len(steps) - 1)]
        short: NDArray[np.bool_] = self.at[np.minimum(next_on, len(steps) - 1)] - began <= gap_s
        return inside & short

    def over_for(self, x: Floats) -> Floats:
        """(K,) for how long, as each instant comes, it has not held any more: 0 = until then, inf = it never did."""
        steps = np.arange(len(self.at))
        last_on = np.maximum.accumulate(np.where(self.on, steps, -1)) if len(steps) else steps
        i = np.searchsorted(self.at, x, side="left") - 1
        out = np.full(len(x), np.inf)
        some = np.flatnonzero(i >= 0)
        last = last_on[i[some]]
        found, last = some[last >= 0], last[last >= 0]
        ended = np.append(self.at, np.inf)[last + 1]
        out[found] = np.maximum(x[found] - ended, 0.0)
        return out

    @cached_property
    def _done(self) -> Floats:
        """(N,) for how long it had held at each instant."""
        return np.concatenate([[0.0], np.cumsum(np.where(self.on[:-1], np.diff(self.at), 0.0))])

    def _until(self, x: Floats, done: Floats) -> Floats:
        i = np.searchsorted(self.at, x, side="right") - 1
        j = np.maximum(i, 0)
        out: Floats = np.where(i < 0, 0.0, done[j] + np.where(self.on[j], x - self.at[j], 0.0))
        return out


NEVER = When(np.empty(0), np.empty(0, dtype=bool))


def _same(x: Floats) -> Floats:
    return x


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

    def over(self, slots: float | Floats) -> When:
        """When more than so many were taken; slots may be of each instant."""
        return When(self.at, self.level > slots + 1e-9)


@dataclass(frozen=True)
class Lanes:
    """Many places one after the other on one long axis of time, so that what was taken in each is worked out at once.

    Attributes:
        begin, end: whatever is asked for is in between, epoch seconds. count: of lanes.
    """

    begin: float
    end: float
    count: int

    @property
    def _length(self) -> float:
        return self.end - self.begin + 2 * _APART_S

    def on_axis(self, lane: Ints, at: Floats) -> Floats:
        """(K,) where each instant of its lane is; one that is not known stays so."""
        out: Floats = np.clip(at, self.begin, self.end) - self.begin + _APART_S + lane * self._length
        return out

    def real(self, x: Floats) -> Floats:
        """(K,) the instants, as they were."""
        out: Floats = x % self._length + self.begin - _APART_S
        return out

    def taken(self, lane: Ints, since: Floats, until: Floats, slots: Floats) -> Taken:
        """Of (K,) spans, each in its lane; one without an end has its slots to the end."""
        ends = np.where(np.isnan(until), np.inf, until)
        return Taken.of(self.on_axis(lane, since), self.on_axis(lane, ends), slots)

    def lane(self, x: Floats) -> Ints:
        """(K,) in which lane it is."""
        return (x // self._length).astype(np.int64)

    def most(self, taken: Taken) -> Floats:
        """(L,) slots that were ever taken at once in each lane."""
        out = np.zeros(self.count)
        np.maximum.at(out, self.lane(taken.at), taken.level)
        return out

    def over(self, taken: Taken, slots: Floats) -> When:
        """When more than that was taken; slots (L,) of each lane."""
        return taken.over(slots[self.lane(taken.at)])
