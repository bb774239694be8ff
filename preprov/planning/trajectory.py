"""The rest of the horizon: which levels of running nodes rise and fall, and what they are in between.

A level is the k-th running node (in nodes of the reference offering). A level that falls idle until its next use is
one segment; each segment is kept running or given up to the state that is cheapest for its length. Segments are found
with a stack in one pass over the steps, so the work grows with the number of changes, not with steps times nodes.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind
from preprov.planning.caps import running_cap, within_day
from preprov.planning.offers import Choice
from preprov.planning.scaledown import Fate, fate
from preprov.planning.situation import LOWER, Decision, Move, Situation

Array: TypeAlias = NDArray[Any]

_EPS: Final = 1e-6
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


class Courses:
    """The cheapest course of a segment; each is asked for twice."""

    def __init__(self, s: Situation, owners: Owners) -> None:
        self.s = s
        self.owners = owners
        self._known: dict[tuple[int, int | None, int | None, Standby], Fate] = {}

    def of(self, seg: Segment, now_in: Standby = Standby.RUNNING) -> Fate:
        """Keep or give up, for the lowest level of the segment."""
        key = (seg.lo, seg.drop, seg.back, now_in)
        if key not in self._known:
            self._known[key] = self._compare(seg, now_in)
        return self._known[key]

    def _compare(self, seg: Segment, now_in: Standby) -> Fate:
        s, choice = self.s, self.owners.of(seg.lo)
        drop = max(seg.drop or 0, 0)
        until = s.horizon.steps if seg.back is None else seg.back
        reached = s.need.counts[:, drop : max(until, drop + 1)].max(axis=1) > seg.lo
        begins_s = s.horizon.seconds_to(drop)
        return fate(
            choice,
            gap_s=None if seg.back is None else s.horizon.seconds_to(until) - begins_s,
            horizon_s=s.horizon.length_s - begins_s,
            surprise=float(np.count_nonzero(reached)) / len(reached),
            shortage_usd_per_core_hour=s.inputs.pool.objective.shortage_usd_per_core_hour,
            states=choice.standby_usd,
            now_in=now_in,
        )


def later_moves(s: Situation, d: Decision) -> tuple[list[Move], Owners]:
    """Moves after now, in time order, and who owns which level. What the guards hold back is noted in `d`."""
    start = int(d.running + _EPS)
    if not s.inputs.foresee:
        return [], _owners(s, d, start + len(d.standby) + 1)
    levels = _within_guards(s, d, start)
    owners = _owners(s, d, int(max(levels.max(), start + len(d.standby))) + 1)
    standing = [(start + i, start + i + 1) for i in range(len(d.standby))]
    courses = Courses(s, owners)
    filled = _keep_where_cheaper(s, levels, standing, courses)
    moves: list[Move] = []
    for seg in segments(filled.tolist(), standing):
        for lo, hi in owners.runs(seg.lo, seg.hi):
            moves.extend(_moves_of(s, Segment(lo, hi, seg.drop, seg.back), courses, filled))
    return _joined(sorted(moves, key=lambda m: (m.at_s, m.kind.raises, m.lo))), owners


def _within_guards(s: Situation, d: Decision, start: int) -> Array:
    """(T,) running nodes: `start` now, then what is wanted as far as the guards let it be raised."""
    wanted = s.cold_target().copy()
    wanted[0] = start
    cap, guard = running_cap(s.inputs, s.reference)
    if wanted.max() > max(cap, start):
        d.notes.append(f"{guard} holds the pool at {cap} nodes; {int(wanted.max())} would be needed")
    levels, short = within_day(s.inputs, s.horizon, np.minimum(wanted, max(cap, start)), s.reference)
    if short:
        d.notes.append(f"{short} holds back what would be raised later")
    return levels


def _joined(moves: list[Move]) -> list[Move]:
    """Neighbouring levels that do the same at the same time, as one move."""
    out: list[Move] = []
    for m in moves:
        last = out[-1] if out else None
        if last is not None and last.hi == m.lo and _same(last, m):
            last.count += m.count
            last.hi = m.hi
        else:
            out.append(m)
    return out


def _same(a: Move, b: Move) -> bool:
    return (a.at_s, a.kind, a.choice.key, a.state, a.came_from) == (b.at_s, b.kind, b.choice.key, b.state, b.came_from)


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
    """Levels from below: running nodes, standby nodes, then new ones of the best offering whose group has room."""
    choices = s.choices + [c for c in s.by_offering.values() if c not in s.choices]
    position = {c.key: i for i, c in enumerate(choices)}
    index = np.zeros(size, dtype=np.int64)
    states: list[Standby | None] = [None] * size
    gone = {i for m in d.moves for i in m.node_ids}
    running = [n for n in (*s.supply.ready, *(w for w, _ in s.supply.warming)) if n.node_id not in gone]
    # The dearest on top, as they are given up first, and like beside like, so that few moves say it all.
    running.sort(key=lambda n: (s.choice(n.group, n.offering).rate / max(s.supply.size[n.node_id], _EPS), n.group))
    edge = 0.0
    for n in running:
        lo, edge = edge, edge + s.supply.size[n.node_id]
        index[int(lo + _EPS) : int(edge + _EPS)] = position[(n.group, n.offering.key)]
    for m in d.moves:
        if m.kind.raises:
            index[m.lo : m.hi] = position[m.choice.key]
    top = int(d.running + _EPS)
    for k, n in enumerate(d.standby, start=top):
        index[k], states[k] = position[(n.group, n.offering.key)], n.standby
    top += len(d.standby)
    for choice, room in _rooms(s, d):
        width = size - top if room is None else min(size - top, int(room * s.size(choice) + _EPS))
        index[top : top + width] = position[choice.key]
        top += max(width, 0)
    return Owners(choices, index, states)


def _rooms(s: Situation, d: Decision) -> list[tuple[Choice, int | None]]:
    """How many more nodes each offering's group holds, best offering first; the last one is asked for the rest."""
    left = {g.name: g.max_nodes for g in s.inputs.pool.groups}
    for n in s.inputs.observation.nodes:
        if n.group in left:
            left[n.group] -= 1
    for m in d.moves:
        if m.kind is ActionKind.LAUNCH:
            left[m.choice.group.name] -= m.count
    rooms: list[tuple[Choice, int | None]] = []
    for choice in s.choices:
        if min(choice.share, s.size(choice)) > _EPS:
            rooms.append((choice, max(left[choice.group.name], 0)))
            left[choice.group.name] = 0
    return [*rooms, (s.reference, None)]


def _keep_where_cheaper(s: Situation, levels: Array, standing: list[tuple[int, int]], courses: Courses) -> Array:
    """Fill the gaps that are too short to give a node up."""
    out = levels.copy()
    for seg in segments(levels.tolist(), standing):
        if seg.drop is None or seg.drop == THERE or seg.back is None:
            continue
        course = courses.of(seg)
        if course.state is Standby.RUNNING or s.horizon.seconds_to(seg.drop) + course.hold_s >= s.horizon.seconds_to(
            seg.back
        ):
            np.maximum(out[seg.drop : seg.back], seg.hi, out=out[seg.drop : seg.back])
    return out


def _moves_of(s: Situation, seg: Segment, courses: Courses, levels: Array) -> list[Move]:
    """The end and the return of one segment of one owner; `levels` (T,) as planned."""
    owners = courses.owners
    choice = owners.of(seg.lo)
    state = Standby.COLD
    out = []
    if seg.drop == THERE:
        state = owners.states[seg.lo] or Standby.COLD
        course = courses.of(seg, state)
        if seg.back is None and course.state is Standby.COLD:
            out.append(_down(seg, choice, _count(s, seg, choice), course, state, course.hold_s))
    elif seg.drop is not None:
        course = courses.of(seg)
        state = course.instead
        out.append(
            _down(
                seg,
                choice,
                _count(s, seg, choice),
                course,
                Standby.RUNNING,
                s.horizon.seconds_to(seg.drop) + course.hold_s,
            )
        )
    if seg.back is not None:
        out.append(_up(s, seg, choice, state, levels))
    return [m for m in out if m.at_s < s.horizon.length_s]


def _count(s: Situation, seg: Segment, choice: Choice) -> int:
    return max(1, ceil((seg.hi - seg.lo) / max(s.size(choice), _EPS) - _EPS))


def _down(seg: Segment, choice: Choice, count: int, course: Fate, came_from: Standby, at_s: float) -> Move:
    kind = LOWER[course.instead]
    return Move(kind, choice, count, seg.lo, seg.hi, course.instead, at_s=at_s, came_from=came_from, fate=course)


def _up(s: Situation, seg: Segment, choice: Choice, state: Standby, levels: Array) -> Move:
    """A return: a launch when its lead window wants it, a start as late as its shorter lead allows."""
    at = back = seg.back or 0
    lead = choice.lead if state is Standby.COLD else choice.standby_lead.get(state, choice.lead)
    if state is not Standby.COLD:
        falls = levels[back:] < seg.hi
        until = back + (int(falls.argmax()) if falls.any() else len(falls))
        wants = s.target(lead)[back:until] >= seg.hi
        at = back + (int(wants.argmax()) if wants.any() else 0)
    window = s.window(lead)
    alone = s.need.order_up_to(1)[at : at + window] >= seg.hi
    due = at + (int(alone.argmax()) if alone.any() else len(alone) - 1)
    kind = ActionKind.LAUNCH if state is Standby.COLD else ActionKind.START
    return Move(
        kind,
        choice,
        _count(s, seg, choice),
        seg.lo,
        seg.hi,
        Standby.RUNNING,
        at_s=s.horizon.seconds_to(at),
        came_from=state,
        due_s=s.horizon.seconds_to(due),
    )
