"""Nodes needed per sample and step, and the level to order up to: a quantile of the maximum over the lead window."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from preprov.model.reservations import Purpose, Reservation
from preprov.model.resources import KINDS
from preprov.planning.inputs import Foreseen, PlanInputs
from preprov.planning.offers import Choice
from preprov.planning.packing import nodes_for_wave
from preprov.planning.placement import nodes_for
from preprov.planning.supply import Supply

Array: TypeAlias = NDArray[Any]

NO_PRICE_LEVEL: Final = 0.95
"""Service level where neither a hit rate nor a price says better."""
_LEVELS: Final = (0.01, 0.999)
_CPU: Final = KINDS.index("cpu")


@dataclass(frozen=True)
class Horizon:
    """The demand from now on, cut to the pool's horizon.

    Attributes:
        samples: (S, T, 5) peak within the step. cores: (S, T) mean cpu within the step.
        start: of the first step, at or before `now`.
    """

    now: datetime
    start: datetime
    step_s: int
    samples: Array
    cores: Array
    note: str = ""

    @cached_property
    def steps(self) -> int:
        """T."""
        return int(self.samples.shape[1])

    def window(self, seconds: float) -> int:
        """Number of steps that [now, now + seconds) touches, at least 1."""
        return max(1, math.ceil((self.into_s + seconds) / self.step_s - 1e-9))

    @cached_property
    def into_s(self) -> float:
        """Seconds of the first step that have passed."""
        return (self.now - self.start).total_seconds()

    @cached_property
    def lengths_h(self) -> Array:
        """(T,) hours of each step from now on: the first is what is left of it."""
        out = np.full(self.steps, self.step_s / 3600.0)
        out[0] -= self.into_s / 3600.0
        return out

    @cached_property
    def length_s(self) -> float:
        """Seconds from now to the end."""
        return self.steps * self.step_s - self.into_s

    def seconds_to(self, i: int) -> float:
        """Seconds from now to the beginning of step i; 0 for the present one."""
        return max(0.0, i * self.step_s - self.into_s)

    def step_at(self, seconds: float) -> int:
        """The step that holds the instant `seconds` from now, at most T."""
        return min(max(int((seconds + self.into_s + 1e-6) // self.step_s), 0), self.steps)


def horizon_of(inputs: PlanInputs) -> Horizon:
    """Cut the curve at now and at the pool's horizon; a curve that has ended leaves one empty step and a note."""
    curve, step = inputs.demand, inputs.demand.step_seconds
    steps = max(1, inputs.pool.horizon_s // step)
    skip = math.floor((inputs.now - curve.start).total_seconds() / step)
    empty = np.zeros((max(1, curve.samples.shape[0]), 1, len(KINDS)), dtype=np.float32)
    if curve.samples.shape[0] == 0 or skip >= curve.steps:
        note = f"the forecast ends before now ({curve.end.isoformat()}): only waiting work, claims and floors count"
        return Horizon(inputs.now, inputs.now, step, empty, empty[:, :, _CPU], note)

    def cut(a: Array) -> Array:
        kept = a[:, max(skip, 0) : max(skip, 0) + steps]
        return kept if skip >= 0 else np.concatenate([np.repeat(empty, -skip, axis=1), kept], axis=1)[:, :steps]

    samples = cut(curve.samples)
    mean = samples if curve.mean is None else cut(curve.mean)
    return Horizon(inputs.now, curve.start + timedelta(seconds=step * skip), step, samples, mean[:, :, _CPU])


def service_level(inputs: PlanInputs, choice: Choice) -> float:
    """Share of futures to be ready for.

    The hit rate if one is set. Else the critical ratio of the newsvendor, cu / (cu + co), per node-hour:
    cu = price of the waiting of a node's cores; co = price of an idle node, raised where minimum billing makes a node
    cost more than the lead window it is held for.
    """
    objective = inputs.pool.objective
    if objective.hit_rate is not None:
        return objective.hit_rate
    if choice.usd is None:
        return NO_PRICE_LEVEL
    held = max(choice.lead.p95_s + inputs.demand.step_seconds, 1.0)
    under = objective.shortage_usd_per_core_hour * choice.cores
    over = choice.usd * max(1.0, choice.offering.minimum_billing_s / held)
    ratio = under / (under + over) if under + over > 0 else _LEVELS[1]
    return min(max(ratio, _LEVELS[0]), _LEVELS[1])


@dataclass
class Need:
    """Nodes of the reference offering that each future wants.

    Attributes:
        counts: (S, T) int32 per sample and step, floors included. floor: (T,) int32, what must run whatever the demand.
        level: service level. waiting: nodes wanted now because of work that waits already.
    """

    counts: Array
    floor: Array
    level: float
    waiting: int
    _cache: dict[int, Array] = field(default_factory=dict)

    @cached_property
    def highest(self) -> Array:
        """(S, T): most nodes that each future has wanted up to and with each step."""
        out: Array = np.maximum.accumulate(self.counts, axis=1)
        return out

    def order_up_to(self, window: int) -> Array:
        """(T,) int: quantile over samples of the maximum over `window` steps from each step on.

        The maximum is taken inside each future, never across quantiles; the quantile is the smallest count that
        covers the service level, so it is a whole number and rises with the level.
        """
        if window not in self._cache:
            self._cache[window] = upper_quantile(window_max(self.counts, window), self.level).astype(np.int64)
        return self._cache[window]


def needed(inputs: PlanInputs, horizon: Horizon, supply: Supply, choice: Choice, level: float) -> Need:
    """Nodes per sample and step: demand, claims, waiting work, and floors."""
    pool = inputs.pool
    offering = choice.offering
    claims = _claimed(inputs, horizon)
    samples = horizon.samples if claims is None else horizon.samples + claims
    counts = nodes_for(samples, offering, pool.binding, inputs.grain).astype(np.int32)
    now_need = _needed_now(inputs, supply, choice)
    if now_need:
        # What waits now still waits when a node launched now is ready.
        until = horizon.window(choice.lead.p95_s + 1.0)
        counts[:, :until] = np.maximum(counts[:, :until], now_need)
    floor = floors(inputs, horizon)
    np.maximum(counts, floor, out=counts)
    return Need(counts, floor, level, now_need)


def floors(inputs: PlanInputs, horizon: Horizon) -> Array:
    """(T,) int32 nodes that must run: the groups' minima together, a floor by schedule, or a person's override."""
    out = np.full(horizon.steps, sum(g.min_nodes for g in inputs.pool.groups), dtype=np.int32)
    for floor in inputs.pool.floors:
        zone = ZoneInfo(floor.zone or inputs.pool.zone)
        starts = (horizon.start + timedelta(seconds=i * horizon.step_s) for i in range(horizon.steps))
        inside = np.array([floor.window.contains(at.astimezone(zone)) for at in starts])
        out[inside] = np.maximum(out[inside], floor.nodes)
    for o in inputs.overrides:
        first = (o.since - horizon.start).total_seconds() / horizon.step_s
        last = (o.until - horizon.start).total_seconds() / horizon.step_s
        lo, hi = max(0, math.floor(first)), max(0, math.ceil(last))
        if o.until > inputs.now:
            out[lo:hi] = np.maximum(out[lo:hi], o.floor)
    return out


def _claimed(inputs: PlanInputs, horizon: Horizon) -> Array | None:
    """(T, 5) per step, what bookings and windows claim on top of the demand; None if there are none.

    A task's claim is left out: the task itself is in the demand. So is what is foreseen of whom a claim is for: where
    the tenant's work is expected to fill three nodes of a window's four, the window wants one more.
    """
    live = [r for r in inputs.committed if r.is_live and r.purpose is not Purpose.TASK]
    if not live:
        return None
    total = np.zeros((horizon.steps, len(KINDS)))
    for covers in {r.covers for r in live}:
        level = _level((r for r in live if r.covers == covers), horizon)
        expected = inputs.foreseen.get(covers)
        total += level if expected is None else np.maximum(level - _on_steps(expected, horizon), 0.0)
    return total


def _level(reservations: Iterable[Reservation], horizon: Horizon) -> Array:
    """(T, 5) what they claim together in each step."""
    edges = np.zeros((horizon.steps + 1, len(KINDS)))
    for r in reservations:
        for s in r.segments:
            lo = max(0, math.floor((s.start - horizon.start).total_seconds() / horizon.step_s))
            hi = min(horizon.steps, math.ceil((s.end - horizon.start).total_seconds() / horizon.step_s))
            if lo < hi:
                amount = s.amount.as_tuple()
                edges[lo] += amount
                edges[hi] -= amount
    return np.maximum(np.cumsum(edges[:-1], axis=0), 0.0)


def _on_steps(expected: Foreseen, horizon: Horizon) -> Array:
    """(T, 5) on the steps of the horizon; nothing is expected where it does not reach."""
    middles = (np.arange(horizon.steps) + 0.5) * horizon.step_s
    at = np.floor(((horizon.start - expected.start).total_seconds() + middles) / expected.step_s).astype(int)
    known = (at >= 0) & (at < len(expected.mean))
    out = np.zeros((horizon.steps, len(KINDS)))
    out[known] = expected.mean[at[known]]
    return out


def _needed_now(inputs: PlanInputs, supply: Supply, choice: Choice) -> int:
    """Nodes that would let the waiting work start: those that are busy, and as many again as it needs.

    Waiting work has been tried on the free room of busy nodes and did not fit, so that room does not count.
    """
    if inputs.waiting.is_zero:
        return 0
    busy = supply.sizes(n for n in supply.ready if n.node_id in supply.protected)
    if inputs.wave:
        extra = nodes_for_wave(inputs.wave, choice.offering.allocatable, inputs.pool.binding)
    else:
        extra = int(nodes_for(np.array(inputs.waiting.as_tuple()), choice.offering, inputs.pool.binding, inputs.grain))
    return math.ceil(busy + supply.draining_size - 1e-9) + extra


def window_max(counts: Array, window: int) -> Array:
    """(S, T): maximum over this step and the next window-1, by doubling: log2(window) passes, no Python per step."""
    out = counts
    covered = 1
    while covered < window:
        shift = min(covered, window - covered)
        if shift >= out.shape[1]:
            break
        wider = out.copy()
        np.maximum(out[:, :-shift], out[:, shift:], out=wider[:, :-shift])
        out = wider
        covered += shift
    return out


def upper_quantile(counts: Array, level: float) -> Array:
    """(T,): the smallest value that at least a share `level` of the (S, T) samples does not exceed."""
    n = counts.shape[0]
    k = min(max(math.ceil(level * n - 1e-9) - 1, 0), n - 1)
    columns = np.ascontiguousarray(counts.T)
    columns.partition(k, axis=1)
    return columns[:, k]
