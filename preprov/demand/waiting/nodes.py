"""From a task's slot to its start: what became of its node meanwhile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.waiting.occupancy import NEVER, Floats, Taken, When
from preprov.model.waits import Cause
from preprov.model.worktable import WorkTable

_STAGES: Final = (Cause.ALLOCATE, Cause.BOOT, Cause.IMAGE, Cause.DATA, Cause.JOIN)
_SKEW_S: Final = 5.0
"""A node may seem to have become ready so long after a task began on it: their clocks are not one."""


@dataclass(frozen=True, slots=True)
class Warming:
    """One way of a node to ready.

    Attributes:
        began, ready: epoch seconds, from the decision on. stages: seconds of allocate, boot, image, data, join; where
            they are not told, all of it counts as boot.
    """

    node: str
    began: float
    ready: float
    stages: Mapping[str, float] = field(default_factory=dict)

    def parts(self) -> Iterator[tuple[Cause, float, float]]:
        """(stage, from, until), one after the other up to ready."""
        known = [(s, self.stages[s]) for s in _STAGES if self.stages.get(s, 0.0) > 0]
        if not known:
            yield Cause.BOOT, self.began, self.ready
            return
        at = self.ready - sum(seconds for _, seconds in known)
        if at > self.began:  # stages that nobody timed come first: what the vendor does before a machine is there
            yield Cause.ALLOCATE, self.began, at
        for stage, seconds in known:
            yield stage, at, at + seconds
            at += seconds


@dataclass(frozen=True, slots=True)
class NodeWait:
    """A wait that ended on a node, in seconds.

    Attributes:
        before_s: until its way to ready began. stages: of that way. busy_s: it was as full as it ever was.
    """

    before_s: float = 0.0
    stages: Mapping[Cause, float] = field(default_factory=dict)
    busy_s: float = 0.0
    rest_s: float = 0.0


def node_waits(
    work: WorkTable,
    node: NDArray[np.object_],
    key: NDArray[np.object_],
    since: Floats,
    until: Floats,
    warmings: Sequence[Warming],
) -> Iterator[tuple[int, NodeWait]]:
    """(row, its wait) for each row that waited at all: (N,) nodes they began on, from their slot to their start."""
    gap = until - since
    ways: dict[str, list[Warming]] = {}
    for w in sorted(warmings, key=lambda w: w.ready):
        ways.setdefault(w.node, []).append(w)
    full = _Full(work)
    for row in np.flatnonzero(gap > 0).tolist():
        name, a, b = str(node[row]), float(since[row]), float(until[row])
        way = _way(ways.get(name) or ways.get(name.split(".")[0], []), a, b)
        if way is not None:
            yield row, _along(way, a, b)
            continue
        busy = float(full.of(name).seconds(since[row : row + 1], until[row : row + 1])[0]) if name else 0.0
        yield row, NodeWait(busy_s=busy, rest_s=float(gap[row]) - busy)


def _way(known: Sequence[Warming], since: float, until: float) -> Warming | None:
    """The last way to ready that ended within the wait."""
    return next((w for w in reversed(known) if since < w.ready <= until + _SKEW_S), None)


def _along(way: Warming, since: float, until: float) -> NodeWait:
    stages: dict[Cause, float] = {}
    for stage, a, b in way.parts():
        overlap = min(b, until) - max(a, since)
        if overlap > 0:
            stages[stage] = stages.get(stage, 0.0) + overlap
    before = max(min(way.began, until) - since, 0.0)
    return NodeWait(before, stages, 0.0, max(until - since - before - sum(stages.values()), 0.0))


class _Full:
    """When each node had as many tasks as it ever had at once: the only sign of how many it takes."""

    def __init__(self, work: WorkTable) -> None:
        tasks = work.tasks
        self._node = tasks["node"].to_numpy(dtype=object)
        self._since, self._until = tasks["started_at"].to_numpy(), tasks["ended_at"].to_numpy()
        self._made: dict[str, When] = {"": NEVER}
        self._rows: dict[str, list[int]] = {}
        for row, name in enumerate(self._node.tolist()):
            self._rows.setdefault(name, []).append(row)

    def of(self, name: str) -> When:
        if name not in self._made:
            rows = np.array(self._rows.get(name, []), dtype=np.int64)
            taken = Taken.of(self._since[rows], self._until[rows], np.ones(len(rows)))
            self._made[name] = taken.over(max(taken.most - 1, 0.0))
        return self._made[name]
