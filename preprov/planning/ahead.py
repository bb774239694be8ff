"""How many nodes the next minutes want: by window, and by the share of futures that is to be served."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from math import ceil
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from preprov.model.pools import Override, Pool

Array: TypeAlias = NDArray[Any]


class Ahead:
    """What a reaction goes by, in nodes of the reference.

    Args:
        offsets: (W,) seconds from now, ascending. rises: (S, W) nodes beyond the busy ones that each future wants then.
        surprise: nodes that demand came above what was foreseen. busy: nodes that run work. waiting: nodes that would
            hold what waits now.
    """

    def __init__(
        self,
        pool: Pool,
        now: datetime,
        overrides: Sequence[Override],
        *,
        offsets: Array,
        rises: Array,
        surprise: int,
        busy: int,
        waiting: int,
    ) -> None:
        self._pool, self._now, self._overrides = pool, now, overrides
        self._offsets, self._rises, self._surprise = offsets, rises, surprise
        self.busy, self.waiting = busy, waiting
        # (S, W) the most of each future up to then, in ascending order.
        self._most = np.sort(np.maximum.accumulate(rises, axis=1), axis=0)
        self._wanted: dict[tuple[float, float], int] = {}

    def wanted(self, window_s: float, level: float) -> int:
        """Running nodes that a share `level` of the futures does not exceed within the window; minima included."""
        if (window_s, level) not in self._wanted:
            inside = self._inside(window_s)
            more = max(self._within(inside, level) + self._surprise, self.waiting)
            ahead_s = float(self._offsets[inside - 1]) if len(self._offsets) else 0.0
            self._wanted[window_s, level] = max(self.busy + more, self._floor(ahead_s))
        return self._wanted[window_s, level]

    def by_floor(self, window_s: float, level: float) -> bool:
        """True if work alone would want fewer."""
        work = max(self._within(self._inside(window_s), level) + self._surprise, self.waiting)
        return self.wanted(window_s, level) > self.busy + work

    def foreseen(self, window_s: float, level: float) -> int:
        """As `wanted`, by work alone and without what was added for surprises."""
        return self.busy + max(self._within(self._inside(window_s), level), self.waiting)

    def futures(self, window_s: float) -> Array:
        """(S,) nodes that each future wants at most within the window, ascending: what `wanted` is a quantile of."""
        if not self._most.size:
            return np.array([self.busy + max(self._surprise, self.waiting)])
        most = self._most[:, self._inside(window_s) - 1]
        out: Array = self.busy + np.maximum(most + self._surprise, self.waiting)
        return out

    @property
    def end_s(self) -> float:
        """Seconds that are looked ahead."""
        return float(self._offsets[-1]) if len(self._offsets) else 0.0

    @cached_property
    def chance(self) -> float:
        """Share of the futures that want more than the busy nodes at the end."""
        return float(np.count_nonzero(self._rises[:, -1])) / len(self._rises) if self._rises.size else 0.0

    def _inside(self, window_s: float) -> int:
        """Instants up to the first at or after the window's end: what comes just before that shows only there."""
        return min(int(self._offsets.searchsorted(window_s)) + 1, max(len(self._offsets), 1))

    def _within(self, inside: int, level: float) -> int:
        if not self._most.size:
            return 0
        futures = len(self._most)
        return int(self._most[min(max(ceil(level * futures - 1e-9) - 1, 0), futures - 1), inside - 1])

    def _floor(self, ahead_s: float) -> int:
        """Nodes that have to run at some time from now until then: minima, floors by schedule, what people asked."""
        pool = self._pool
        until = self._now + timedelta(seconds=max(ahead_s, 0.0))
        floors = [sum(g.min_nodes for g in pool.groups)]
        for f in pool.floors:
            zone = ZoneInfo(f.zone or pool.zone)
            if f.window.contains(self._now.astimezone(zone)) or f.window.contains(until.astimezone(zone)):
                floors.append(f.nodes)
        floors += [o.floor for o in self._overrides if o.since <= until and o.until > self._now]
        return max(floors)
