"""The rest of the horizon: which levels of running nodes rise and fall, and what they are in between.

A level is the k-th running node (in nodes of the reference offering). A level that falls idle until its next use is
one segment; each segment is kept running or given up to the state that is cheapest for its length. Segments are found
with a stack in one pass over the steps, so the work grows with the number of changes, not with steps times nodes.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.plans import ActionKind
from preprov.model.pools import Standby
from preprov.planning.decide import LOWER, Decision, Move, Situation
from preprov.planning.offers import Choice
from preprov.planning.scaledown import Fate, fate

Array: TypeAlias = NDArray[Any]

THERE: Final = -1
"""Drop step of a segment that is idle from the beginning (a standby node)."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Levels [lo, hi) idle from step `drop` to step `back`.

    Attributes:
        drop: None = never ran before. back: None = not wanted again.
    """

    lo: int
    hi: int
    drop: int | None
    back: int | None


@dataclass(frozen=True)
class Owners:
    """Which offering serves each level, and which levels begin in standby.

    Attributes:
        choices: distinct ones. index: (K,) into choices. states: of the standby node a level begins as; else None.
    """

    choices: list[Choice]
    index: Array
    states: list[Standby | None]

    def runs(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """[lo, hi) split where the owner or the state changes."""
        cuts = [lo, *(k for k in range(lo + 1, hi) if self._differ(k)), hi]
        return list(pairwise(cuts))

    def _differ(self, k: int) -> bool:
        return bool(self.index[k] != self.index[k - 1]) or self.states[k] is not self.states[k - 1]

    def of(self, level: int) -> Choice:
        """Choice that serves the level."""
        return self.choices[int(self.index[level])]


def later_moves(s: Situation, d: Decision, cap: int) -> tuple[list[Move], Owners]:
    """Moves after now, in time order, and who owns which level.

    Args:
        cap: most running nodes that the guards let be raised to.
    """
    start = int(d.running + 1e-6)
    wanted = np.minimum(s.cold_target(), max(cap, start)).astype(np.int64)
    levels = wanted.copy()
    levels[0] = start
    owners = _owners(s, d, int(max(levels.max(), start + len(d.standby))) + 1)
    standing = [(start + i, start + i + 1) for i in range(len(d.standby))]
    filled = _keep_where_cheaper(s, levels, standing, owners)
    moves: list[Move] = []
    for seg in segments(filled.tolist(), standing):
        for lo, hi in owners.runs(seg.lo, seg.hi):
            moves.extend(_moves_of(s, Segment(lo, hi, seg.drop, seg.back), owners, filled))
    return sorted(moves, key=lambda m: (m.at_s, m.kind.raises, m.lo)), owners


def segments(levels: list[int], standing: list[tuple[int, int]]) -> list[Segment]:
    """Idle stretches of levels.

    Args:
        levels: running nodes per step. standing: [lo, hi) idle from the beginning, upwards from levels[0].
    """
    idle: list[tuple[int, int, int]] = [(lo, hi, THERE) for lo, hi in reversed(standing)]
    out: list[Segment] = []
    current = levels[0]
    for i, level in enumerate(levels):
        if level < current:
            idle.append((level, current, i))
        while current < level:
            if not idle:
                out.append(Segment(current, level, None, i))
                current = level
                break
            lo, hi, drop = idle.pop()
            out.append(Segment(lo, min(hi, level), drop, i))
            if hi > level:
                idle.append((level, hi, drop))
            current = min(hi, level)
        current = level
    out.extend(Segment(lo, hi, drop, None) for lo, hi, drop in idle)
    return out


def _owners(s: Situation, d: Decision, size: int) -> Owners:
    """Levels from below: running nodes, standby nodes, then new ones of the best offering."""
    choices = s.choices + [c for c in s.by_offering.values() if c not in s.choices]
    position = {c.key: i for i, c in enumerate(choices)}
    index = np.zeros(size, dtype=np.int64)
    states: list[Standby | None] = [None] * size
    edge = 0.0
    started = [m for m in d.moves if m.kind.raises]
    gone = {i for m in d.moves for i in m.node_ids}
    running = [n for n in (*s.supply.ready, *(w for w, _ in s.supply.warming)) if n.node_id not in gone]

    def put(choice: Choice, width: float, state: Standby | None = None) -> None:
        nonlocal edge
        lo, edge = edge, edge + width
        index[int(lo + 1e-6) : int(edge + 1e-6)] = position[choice.key]
        for k in range(int(lo + 1e-6), min(int(edge + 1e-6), size)):
            states[k] = state

    for n in running:
        put(s.choice(n.group, n.offering), s.supply.size[n.node_id])
    edge = max(edge, min((float(m.lo) for m in started), default=edge))
    for m in started:
        put(m.choice, float(m.hi - m.lo))
    edge = max(edge, float(int(d.running + 1e-6)))
    for n in d.standby:
        put(s.choice(n.group, n.offering), 1.0, n.standby)
    return Owners(choices, index, states)


def _keep_where_cheaper(s: Situation, levels: Array, standing: list[tuple[int, int]], owners: Owners) -> Array:
    """Fill the gaps that are too short to give a node up."""
    out = levels.copy()
    for seg in segments(levels.tolist(), standing):
        if seg.drop is None or seg.drop == THERE or seg.back is None:
            continue
        course = _course(s, seg, owners)
        if course.state is Standby.RUNNING or s.horizon.seconds_to(seg.drop) + course.hold_s >= s.horizon.seconds_to(
            seg.back
        ):
            np.maximum(out[seg.drop : seg.back], seg.hi, out=out[seg.drop : seg.back])
    return out


def _course(s: Situation, seg: Segment, owners: Owners, now_in: Standby = Standby.RUNNING) -> Fate:
    choice = owners.of(seg.lo)
    drop = max(seg.drop or 0, 0)
    until = s.horizon.steps if seg.back is None else seg.back
    reached = s.need.counts[:, drop : max(until, drop + 1)].max(axis=1) > seg.lo
    return fate(
        choice,
        gap_s=None if seg.back is None else s.horizon.seconds_to(until) - s.horizon.seconds_to(drop),
        horizon_s=s.horizon.length_s - s.horizon.seconds_to(drop),
        surprise=float(reached.mean()),
        shortage_usd_per_core_hour=s.inputs.pool.objective.shortage_usd_per_core_hour,
        states=choice.standby_usd,
        now_in=now_in,
    )


def _moves_of(s: Situation, seg: Segment, owners: Owners, levels: Array) -> list[Move]:
    """The end and the return of one segment of one owner; `levels` (T,) as planned."""
    choice = owners.of(seg.lo)
    state = Standby.COLD
    out = []
    if seg.drop == THERE:
        state = owners.states[seg.lo] or Standby.COLD
        course = _course(s, seg, owners, state)
        if seg.back is None and course.state is Standby.COLD:
            out.append(_down(seg, choice, course, state, course.hold_s))
    elif seg.drop is not None:
        course = _course(s, seg, owners)
        state = course.instead
        out.append(_down(seg, choice, course, Standby.RUNNING, s.horizon.seconds_to(seg.drop) + course.hold_s))
    if seg.back is not None:
        out.append(_up(s, seg, choice, state, levels))
    return [m for m in out if m.at_s < s.horizon.length_s]


def _down(seg: Segment, choice: Choice, course: Fate, came_from: Standby, at_s: float) -> Move:
    kind = LOWER[course.instead]
    return Move(
        kind, choice, seg.hi - seg.lo, seg.lo, seg.hi, course.instead, at_s=at_s, came_from=came_from, fate=course
    )


def _up(s: Situation, seg: Segment, choice: Choice, state: Standby, levels: Array) -> Move:
    """A return: a launch when its lead window wants it, a start as late as its shorter lead allows."""
    at = back = seg.back or 0
    lead = choice.lead if state is Standby.COLD else choice.standby_lead.get(state, choice.lead)
    if state is not Standby.COLD:
        falls = levels[back:] < seg.hi
        until = back + (int(falls.argmax()) if falls.any() else len(falls))
        wants = s.target(lead.p95_s)[back:until] >= seg.hi
        at = back + (int(wants.argmax()) if wants.any() else 0)
    alone = s.need.order_up_to(1)[at:] >= seg.hi
    due = at + (int(alone.argmax()) if alone.any() else 0)
    kind = ActionKind.LAUNCH if state is Standby.COLD else ActionKind.START
    return Move(
        kind,
        choice,
        seg.hi - seg.lo,
        seg.lo,
        seg.hi,
        Standby.RUNNING,
        at_s=s.horizon.seconds_to(at),
        came_from=state,
        due_s=s.horizon.seconds_to(due),
    )
