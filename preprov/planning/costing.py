"""What a plan costs and how much waiting it leaves, part by part, and the courses not taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.nodes import Node
from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind, Alternative
from preprov.planning.need import window_max
from preprov.planning.situation import Move, Situation
from preprov.planning.trajectory import Owners

Array: TypeAlias = NDArray[Any]

REACTIVE_IDLE_S = 600.0
"""A reactive autoscaler keeps an idle node this long."""


class Waiting:
    """Expected demand beyond a capacity, E[(D - x)+], summed over steps: core-hours that find no node.

    Samples are sorted once per step and laid end to end, each step shifted beyond the last, so that one binary search
    answers for all steps at once.
    """

    def __init__(self, cores: Array, lengths_h: Array) -> None:
        rows = np.ascontiguousarray(cores.T)
        rows.sort(axis=1)
        steps, self.n = int(rows.shape[0]), int(rows.shape[1])
        self.tail = np.zeros((steps, self.n + 1))
        self.tail[:, : self.n] = np.cumsum(rows[:, ::-1], axis=1, dtype=np.float64)[:, ::-1]
        self.top = float(rows.max(initial=0.0)) + 1.0
        self.offset = np.arange(steps) * self.top
        self.flat = (rows + self.offset[:, None]).ravel()
        self.start = np.arange(steps) * self.n
        self.lengths_h = lengths_h

    def beyond(self, capacity: Array | float, first: int = 0, last: int | None = None) -> float:
        """Core-hours beyond `capacity` cores, scalar or (T,), within steps [first, last)."""
        steps = slice(first, last)
        x = np.minimum(capacity, self.top - 0.5)
        at = np.searchsorted(self.flat, x + self.offset[steps], side="right") - self.start[steps]
        rest = self.tail[np.arange(len(self.offset))[steps], at] - x * (self.n - at)
        total = float(np.sum(rest * self.lengths_h[steps]))
        return total / self.n


@dataclass(frozen=True)
class Costs:
    """Of the plan as a whole; node-hours take the place of USD where no price is known.

    Attributes:
        base: of leaving everything as it is. total = base + the moves' own costs.
        node_hours: running node-hours. wait_core_h: expected core-hours that find no node.
    """

    base: float
    total: float
    node_hours: float
    wait_core_h: float
    waiting: Waiting


def price_moves(s: Situation, now: Sequence[Move], later: Sequence[Move], owners: Owners) -> Costs:
    """Fill in cost and saved waiting of each move.

    A move costs the change of rate it makes on its levels, against leaving them as they are now, until the next move on
    the same level or the end of the horizon. So a launch costs what it runs for, an end saves what it spares, and base
    plus all moves is the integral of the rate over the horizon: nothing is counted twice.
    """
    moves = [*now, *later]
    end_h = s.horizon.length_s / 3600.0
    size = max([len(owners.index), *(m.hi for m in moves)]) + 1
    base_rate = _base_rates(s, now, owners, size)
    rate, since, doer = base_rate.copy(), np.zeros(size), np.full(size, -1)
    cost, closes = np.zeros(len(moves)), np.zeros(len(moves))

    def settle(levels: slice, at_h: float) -> None:
        owner = doer[levels]
        some = owner >= 0
        amount = (rate[levels] - base_rate[levels]) * (at_h - since[levels])
        np.add.at(cost, owner[some], amount[some])
        np.maximum.at(closes, owner[some], at_h)

    for i, m in enumerate(moves):
        if m.hi <= m.lo:
            cost[i] = _unleveled(m) * end_h
            continue
        levels, at_h = slice(m.lo, m.hi), m.at_s / 3600.0
        settle(levels, at_h)
        rate[levels] = m.count * m.choice.in_state(m.state) / (m.hi - m.lo)
        since[levels], doer[levels] = at_h, i
    settle(slice(0, size), end_h)

    waiting = Waiting(s.horizon.cores, s.horizon.lengths_h)
    per_node = s.reference.cores
    for i, m in enumerate(moves):
        m.cost_usd = float(cost[i])
        if m.kind.raises and m.hi > m.lo:
            first = s.horizon.step_at(m.at_s + _lead_s(m))
            last = max(first, s.horizon.step_at(closes[i] * 3600.0))
            low = waiting.beyond(m.lo * per_node, first, last)
            m.saves_core_h = max(0.0, low - waiting.beyond(m.hi * per_node, first, last))
    base = sum(_node_rate(s, n) for n in s.supply.billed) * end_h
    base += sum(_node_rate(s, n) for n in (*s.supply.standby, *s.supply.strangers)) * end_h
    ready = _ready_levels(s, moves)
    return Costs(
        base=base,
        total=base + float(cost.sum()),
        node_hours=_node_hours(s, moves, end_h),
        wait_core_h=waiting.beyond(ready * per_node),
        waiting=waiting,
    )


def _base_rates(s: Situation, now: Sequence[Move], owners: Owners, size: int) -> Array:
    """Rate of each level if nothing is done: running, standby, or not there."""
    out = np.zeros(size)
    rates = np.array([c.rate / max(s.size(c), 1e-9) for c in owners.choices])
    raised = [(m.lo, m.hi) for m in now if m.kind.raises]
    first_new = min((lo for lo, _ in raised), default=int(s.supply.running_size + 1e-6))
    owned = min(first_new, len(owners.index))  # levels given up now have no owner: their moves say what they were
    out[:owned] = rates[owners.index[:owned]]
    for k, state in enumerate(owners.states):
        if state is not None:
            out[k] = owners.of(k).in_state(state)
    for m in now:
        if m.hi > m.lo and m.kind is not ActionKind.LAUNCH:
            out[m.lo : m.hi] = m.count * m.choice.in_state(m.came_from) / (m.hi - m.lo)
    return out


def _unleveled(m: Move) -> float:
    """Change of rate of a move on nodes that make no level of their own (small, drained, failed)."""
    if m.kind is ActionKind.DRAIN:
        return 0.0
    return m.count * (m.choice.in_state(m.state) - m.choice.in_state(m.came_from))


def _node_rate(s: Situation, n: Node) -> float:
    choice = s.by_offering.get((n.group, n.offering.key))
    if choice is None:
        return n.offering.usd_per_hour or 0.0
    return choice.in_state(n.standby)


def _lead_s(m: Move) -> float:
    if m.came_from is Standby.COLD:
        return m.choice.lead.median_s
    return m.choice.standby_lead[m.came_from].median_s if m.came_from in m.choice.standby_lead else 0.0


def _node_hours(s: Situation, moves: Sequence[Move], end_h: float) -> float:
    """Hours billed as running until the end of the horizon."""
    total = len(s.supply.billed) * end_h
    for m in moves:
        left_h = end_h - m.at_s / 3600.0
        if m.kind.raises:
            total += m.count * left_h if m.state is Standby.RUNNING else 0.0
        elif m.came_from is Standby.RUNNING and m.kind is not ActionKind.DRAIN:
            total -= m.count * left_h
    return max(total, 0.0)


def _ready_levels(s: Situation, moves: Sequence[Move]) -> Array:
    """(T,) nodes ready to take work, by plan."""
    t = s.horizon.steps
    ready = np.zeros(t + 1)
    ready[0] = s.supply.sizes(s.supply.ready) + s.supply.draining_size
    for node, due in s.supply.warming:
        ready[s.horizon.step_at((due - s.inputs.now).total_seconds())] += s.supply.size[node.node_id]
    for m in moves:
        if m.kind.raises:
            ready[s.horizon.step_at(m.at_s + _lead_s(m))] += m.hi - m.lo
        elif m.came_from is Standby.RUNNING and m.kind is not ActionKind.DRAIN:
            ready[s.horizon.step_at(m.at_s)] -= m.hi - m.lo
    out: Array = np.maximum(np.cumsum(ready)[:t], 0.0)
    return out


def alternatives(s: Situation, costs: Costs, priced: bool) -> tuple[Alternative, ...]:
    """Doing nothing, holding the most that is ever needed, and reacting to what is pending."""
    per_node, lengths = s.reference.cores, s.horizon.lengths_h
    ready = _ready_levels(s, ())
    nothing = costs.waiting.beyond(ready * per_node)
    top = int(s.cold_target().max(initial=0))
    held = costs.waiting.beyond(top * per_node)
    top_usd = top * s.reference.rate * s.horizon.length_s / 3600.0
    react_usd, react_wait = _reactive(s, lengths)

    def course(name: str, cost: float, wait: float) -> Alternative:
        extra, more = cost - costs.total, wait - costs.wait_core_h
        unit = "USD" if priced else "node-hours"
        why = f"{extra:+.2f} {unit} and {more:+.1f} core-h of waiting against this plan"
        return Alternative(name, round(cost, 6) if priced else None, round(wait, 6), why)

    return (
        course("do nothing", costs.base, nothing),
        course(f"static: {top} nodes all the time", top_usd, held),
        course("reactive: launch when work is pending, 10 min idle", react_usd, react_wait),
    )


def _reactive(s: Situation, lengths: Array) -> tuple[float, float]:
    """Expected cost and waiting of launching only once work is pending.

    What is kept is the maximum of the last ten minutes; a rise above it waits for a launch.
    """
    idle = max(1, round(REACTIVE_IDLE_S / s.horizon.step_s)) + 1
    counts = s.need.counts
    kept = window_max(counts[:, ::-1], idle)[:, ::-1]
    first = np.full((counts.shape[0], 1), int(s.supply.running_size), dtype=kept.dtype)
    rises = np.maximum(counts - np.concatenate([first, kept[:, :-1]], axis=1), 0).sum(axis=1).mean()
    lead_h = s.reference.lead.mean_s / 3600.0
    hours = float((kept * lengths).sum(axis=1).mean())
    return s.reference.rate * hours, float(rises) * s.reference.cores * lead_h
