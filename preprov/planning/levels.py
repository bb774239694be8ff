"""Levels of running nodes: the k-th node that is wanted, how likely it is wanted, and how often it becomes so.

A pool's demand is nested: whoever wants seven nodes wants six. So the plan of a pool is the plan of its levels, each
with a demand that is on or off in each future. Neighbouring levels are treated as one band.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.nodes import Node
from preprov.model.offerings import Standby
from preprov.planning.need import upper_quantile
from preprov.planning.situation import Situation

Array: TypeAlias = NDArray[Any]

STATES: Final = (Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED, Standby.COLD)
"""A node's states in the order of the programme's indices."""
RUN: Final = 0
COLD: Final = 3
REFUSED: Final = 4
"""Cold, and not brought up whatever is wanted: there is no money or no room for it at that step."""
MOST_BANDS: Final = 64
_EPS: Final = 1e-6
_REACHES: Final = (0, 1, 2, 4, 8, 16, 32, 64, 128)
"""Steps to either side over which they are looked for; else it is the whole horizon."""
_ENOUGH: Final = 4.0
"""Rises among the futures, per level, from which on they tell when one comes; half of the futures, if they are few."""


@dataclass(frozen=True)
class Levels:
    """B bands of levels over T steps.

    Attributes:
        width: (B,) levels in each; the first begins at level 0.
        needed: (B, T) share of futures (and of the band's levels) in which the level is wanted.
        rises: (B, T) expected number of times a level becomes wanted at that step.
        must: (B, T) levels that have to run there, whatever it costs: floors, and a hit rate that was promised.
        floor: (B, T) those of them that a floor asks for. depth: (B, T) share of what must run that lies below.
        state: (B,) index of the state they are in now. owner: (B,) index of the choice whose nodes they are; -1 = none.
        busy: (B,) share of the band that runs work now.
    """

    width: Array
    needed: Array
    rises: Array
    must: Array
    floor: Array
    depth: Array
    state: Array
    owner: Array
    busy: Array


@dataclass(frozen=True)
class _There:
    """Existing nodes as levels: (K,) state, owner and whether in use."""

    state: Array
    owner: Array
    busy: Array


def levels_of(s: Situation, owners: Mapping[tuple[str, str], int], most: int, promised: float | None) -> Levels:
    """Bands of the situation's need.

    Args:
        s: the situation.
        owners: choice key -> its index.
        most: levels beyond this can never be served, unless they exist already.
        promised: hit rate that has to be kept; None = waiting has a price instead.
    """
    counts = np.minimum(s.need.counts, most)
    there = _there(s, owners)
    size = max(int(counts.max(initial=0)), len(there.state))
    floor = np.minimum(s.need.floor, most)
    must = floor if promised is None else np.minimum(np.maximum(floor, upper_quantile(counts, promised)), most)
    cuts = _cuts(counts, there, size, must)
    width, low = np.diff(cuts), cuts[:-1]
    needed, rises = np.empty((len(width), s.horizon.steps)), np.empty((len(width), s.horizon.steps))
    busy = np.append(there.busy, np.zeros(max(size - len(there.busy), 0)))
    before = int(busy.sum() + _EPS)
    for b, (lo, hi) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)):
        inside = np.clip(counts, lo, hi) - lo
        first = min(max(before - lo, 0), hi - lo)
        n = counts.shape[0] * (hi - lo)
        needed[b] = inside.sum(axis=0) / n
        rises[b, 0] = np.maximum(inside[:, 0] - first, 0).sum() / n
        rises[b, 1:] = np.maximum(np.diff(inside, axis=1), 0).sum(axis=0) / n
    return Levels(
        width=width,
        needed=needed,
        rises=_evened(rises, counts.shape[0]),
        must=must[None, :] > low[:, None],
        floor=floor[None, :] > low[:, None],
        depth=np.minimum(low[:, None] / np.maximum(must[None, :], 1), 1.0),
        state=np.append(there.state, np.full(max(size - len(there.state), 0), COLD))[low],
        owner=np.append(there.owner, np.full(max(size - len(there.owner), 0), -1))[low],
        busy=np.clip((before - low) / width, 0.0, 1.0),
    )


def _evened(rises: Array, futures: int) -> Array:
    """(B, T) the same expected number of rises, those of few futures spread over the time around them.

    What one future in sixty holds may come at any time about then. Taken at its word, nothing would come until then,
    and what is kept for it would be put off to the last moment, plan after plan. What rises in the first step is now.
    """
    bands, steps = rises.shape
    at, enough = np.arange(steps), min(_ENOUGH, futures / 2)
    left = rises > 0
    left[:, 0] = False
    total = np.concatenate([np.zeros((bands, 1)), np.cumsum(np.where(left, rises, 0.0), axis=1)], axis=1)
    change = np.zeros((steps + 1, bands))
    for reach in (*_REACHES, steps):
        low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, steps)
        wide = left if reach == steps else left & ((total[:, high] - total[:, low]) * futures >= enough)
        spread = np.where(wide, rises / (high - low), 0.0).T
        np.add.at(change, low, spread)
        np.subtract.at(change, high, spread)
        left = left & ~wide
        if not left.any():
            break
    out: Array = np.cumsum(change[:-1], axis=0).T
    out[:, 0] += rises[:, 0]
    np.maximum(out, 0.0, out=out)
    return out


def _there(s: Situation, owners: Mapping[tuple[str, str], int]) -> _There:
    """Running nodes from below, the busy ones first and the dearest last, then standby nodes, quickest back first."""
    running = [*s.supply.ready, *(n for n, _ in s.supply.warming)]

    def rank(n: Node) -> tuple[bool, float, str]:
        choice = s.choice(n.group, n.offering)
        return (n.node_id not in s.supply.protected, choice.rate / max(s.size(choice), _EPS), n.group)

    size = int(s.supply.running_size + _EPS)
    state, owner = np.full(size, RUN), np.full(size, -1)
    busy = np.zeros(size)
    edge = s.supply.draining_size
    busy[: int(edge + _EPS)] = 1.0
    for n in sorted(running, key=rank):
        lo, edge = edge, edge + s.supply.size[n.node_id]
        span = slice(int(lo + _EPS), int(edge + _EPS))
        owner[span] = owners[(n.group, n.offering.key)]
        busy[span] = n.node_id in s.supply.protected
    kept = s.supply.standby
    counts = [max(int(s.supply.size[n.node_id] + _EPS), 1) for n in kept]
    return _There(
        np.append(state, np.repeat([STATES.index(n.standby) for n in kept], counts).astype(np.int64)),
        np.append(owner, np.repeat([owners[(n.group, n.offering.key)] for n in kept], counts).astype(np.int64)),
        np.append(busy, np.zeros(sum(counts))),
    )


def _cuts(counts: Array, there: _There, size: int, must: Array) -> Array:
    """Edges of the bands: where what exists or must run changes, and where demand is dense."""
    if size <= MOST_BANDS:
        return np.arange(size + 1)
    changes = 1 + np.flatnonzero((np.diff(there.state) != 0) | (np.diff(there.owner) != 0) | (np.diff(there.busy) != 0))
    asked = np.unique(must)
    fixed = [[0, len(there.state), size], changes, asked if len(asked) < MOST_BANDS // 2 else asked[-1:]]
    some = np.quantile(counts, np.linspace(0, 1, MOST_BANDS // 2), method="higher")
    cuts = np.concatenate([*fixed, some, np.linspace(0, size, MOST_BANDS // 2)]).astype(np.int64)
    return np.unique(cuts)
