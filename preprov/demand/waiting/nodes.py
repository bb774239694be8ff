"""From a task's slot to its start: what became of its node meanwhile."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.waiting.occupancy import Floats, Ints
from preprov.demand.waiting.past import Past
from preprov.model.waits import Cause

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


@dataclass(frozen=True)
class NodeWaits:
    """(N,) waits that ended on a node, each of them in seconds.

    Attributes:
        came: its node came up for it. before_s: until its way to ready began. stages: of that way.
        busy_s: its node was as full as it ever was; after_s: it began so long after the last of that.
        rest_s: neither.
    """

    came: NDArray[np.bool_]
    before_s: Floats
    stages: Mapping[Cause, Floats]
    busy_s: Floats
    after_s: Floats
    rest_s: Floats


def node_waits(
    past: Past, node: NDArray[np.object_], since: Floats, until: Floats, warmings: Sequence[Warming]
) -> NodeWaits:
    """(N,) nodes that tasks began on, from their slot to their start."""
    n, gap = len(node), np.maximum(until - since, 0.0)
    out = NodeWaits(
        np.zeros(n, dtype=bool),
        np.zeros(n),
        {cause: np.zeros(n) for cause in _STAGES},
        np.zeros(n),
        np.full(n, np.inf),
        gap.copy(),
    )
    ways: dict[str, list[Warming]] = {}
    for w in sorted(warmings, key=lambda w: w.ready):
        ways.setdefault(w.node, []).append(w)
    waited = np.flatnonzero(gap > 0)
    for row in waited.tolist() if ways else ():
        name = str(node[row])
        way = _way(ways.get(name) or ways.get(name.split(".")[0], []), float(since[row]), float(until[row]))
        if way is not None:
            _along(out, row, way, float(since[row]), float(until[row]))
    _busy(past, out, waited[~out.came[waited]], node, since, until)
    return out


def _way(known: Sequence[Warming], since: float, until: float) -> Warming | None:
    """The last way to ready that ended within the wait."""
    last = bisect_right(known, until + _SKEW_S, key=lambda w: w.ready) - 1
    return known[last] if last >= 0 and known[last].ready > since else None


def _along(out: NodeWaits, row: int, way: Warming, since: float, until: float) -> None:
    out.came[row] = True
    explained = out.before_s[row] = max(min(way.began, until) - since, 0.0)
    for stage, a, b in way.parts():
        overlap = max(min(b, until) - max(a, since), 0.0)
        out.stages[stage][row] += overlap
        explained += overlap
    out.rest_s[row] = max(until - since - explained, 0.0)


def _busy(past: Past, out: NodeWaits, rows: Ints, node: NDArray[np.object_], since: Floats, until: Floats) -> None:
    """When each node had as many tasks as it ever had at once: the only sign of how many it takes."""
    rows = rows[np.array([bool(n) for n in node[rows]], dtype=bool)]
    if not len(rows):
        return
    place = {name: i for i, name in enumerate(dict.fromkeys(node[rows].tolist()))}
    lane = np.array([place[n] for n in node[rows].tolist()], dtype=np.int64)
    lanes = past.lanes(len(place))
    lane_of_task = np.array([place.get(n, -1) for n in past.node.tolist()], dtype=np.int64)
    there = np.flatnonzero(lane_of_task >= 0)
    taken = lanes.taken(lane_of_task[there], past.started[there], past.ended[there], np.ones(len(there)))
    full = lanes.over(taken, np.maximum(lanes.most(taken) - 1, 0.0))
    begin, end = (lanes.on_axis(lane, x[rows]) for x in (since, until))
    out.busy_s[rows] = np.minimum(full.closed(_SKEW_S).seconds(begin, end), out.rest_s[rows])
    out.after_s[rows] = full.over_for(end)
    out.rest_s[rows] -= out.busy_s[rows]
