"""What a replay shows: waits, warm hits, node-hours, money, and what the pool was at each instant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.model.pools import Pool
from preprov.model.time import from_epoch
from preprov.model.work import Trigger
from preprov.model.worktable import Array, WorkTable
from preprov.replay.capacity import Used, timeline, used_over_time
from preprov.replay.core import Core
from preprov.replay.load import US, Load
from preprov.replay.policy import Policy
from preprov.sim.billing import Bill, make_bill
from preprov.sim.cloud import SimCloud

_HOUR: Final = 3600.0
_NO_WAIT_S: Final = 1e-6


@dataclass
class Tally:
    """How the policy went about it."""

    ticks: int = 0
    asked: int = 0
    refused: int = 0
    seconds: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def begin(self) -> None:
        """Play begins."""
        self.wall_s, self.cpu_s = -perf_counter(), -process_time()

    def end(self) -> None:
        """Play is over."""
        self.wall_s += perf_counter()
        self.cpu_s += process_time()

    def note(self, seconds: float, *, regular: bool) -> None:
        """One call of the policy."""
        self.ticks += regular
        self.asked += not regular
        self.seconds.append(seconds)


@dataclass(frozen=True)
class Waits:
    """Waits of task instances, seconds, weighted by instances.

    Attributes:
        mean, p50, p95, p99: of the provision wait. limit_mean: of the queue wait that a limit of nodes caused.
        delay_mean: of start less the instant at which it would have started had nothing in its run waited.
        warm: share of instances with no provision wait; warm_scheduled: of those of scheduled runs (NaN if none);
        warm_core_hours: weighted by core-hours.
    """

    instances: int
    mean: float
    p50: float
    p95: float
    p99: float
    limit_mean: float
    delay_mean: float
    warm: float
    warm_scheduled: float
    warm_core_hours: float


@dataclass(frozen=True)
class ReplayResult:
    """One replay.

    Attributes:
        policy, knob: who decided. judged: (from, until) epoch seconds. left_out: reason -> instances.
        node_hours: billed, warming included; idle_node_hours: less the used share of ready nodes.
        cost_usd: the bill, standby included; idle_cost_usd: less price x used share. None = no price known.
        standby_usd: the part of it for kept nodes.
        evicted: instances ended by the policy; always 0, for the cloud refuses. interrupted: those whose node the cloud
            took back, and that began again. unstarted: instances judged that never started; in all figures of waits
            they have waited until play ended, no less.
        ticks, solves, fallbacks: of the policy; tick_ms: median of a decision (ours: CPU time).
        work: the runs played. per_instance: ready, start, provision_wait, limit_wait (s), weight, task (position in
            `work`), one row per part; what never started has start inf and node -1.
        nodes: node_id, group, phase, start, end (epoch s): the node timeline.
        capacity: ts, group, state, ready_nodes, used_cpu, used_memory at each change.
        seconds, cpu_seconds: of play. events: parts started.
    """

    policy: str
    knob: float
    judged: tuple[float, float]
    waits: Waits
    node_hours: float
    idle_node_hours: float
    cost_usd: float | None
    idle_cost_usd: float | None
    standby_usd: float | None
    evicted: int
    interrupted: int
    unstarted: int
    refused: int
    ticks: int
    solves: int
    fallbacks: int
    tick_ms: float
    left_out: Mapping[str, int]
    work: WorkTable
    per_instance: pd.DataFrame
    nodes: pd.DataFrame
    capacity: pd.DataFrame
    bill: Bill
    seconds: float
    cpu_seconds: float
    events: int

    def row(self) -> dict[str, Any]:
        """The figures for tables and JSON."""
        w = self.waits
        return {
            "knob": self.knob,
            "warm_hit_ratio": w.warm,
            "warm_hit_ratio_scheduled": None if np.isnan(w.warm_scheduled) else w.warm_scheduled,
            "warm_hit_ratio_core_hours": w.warm_core_hours,
            "wait_mean_s": w.mean,
            "wait_p50_s": w.p50,
            "wait_p95_s": w.p95,
            "wait_p99_s": w.p99,
            "queue_wait_mean_s": w.limit_mean,
            "delay_mean_s": w.delay_mean,
            "instances": w.instances,
            "unstarted": self.unstarted,
            "node_hours": self.node_hours,
            "idle_node_hours": self.idle_node_hours,
            "idle_cost_usd": self.idle_cost_usd,
            "cost_usd": self.cost_usd,
            "standby_usd": self.standby_usd,
            "evicted": self.evicted,
            "interrupted": self.interrupted,
            "ticks": self.ticks,
            "solves": self.solves,
            "fallbacks": self.fallbacks,
            "tick_ms": self.tick_ms,
            "seconds": self.seconds,
        }


def collect(
    load: Load,
    core: Core,
    cloud: SimCloud,
    pool: Pool,
    policies: Sequence[Policy],
    knob: float,
    tally: Tally,
    judged: tuple[float, float],
) -> ReplayResult:
    """Add up what happened; `policies` are one for each lane of the pool, `knob` is that of all of them."""
    first, last = judged
    until = max(load.epoch(core.now), last)
    parts = _parts(load, core, until)
    stretches = cloud.stretches(from_epoch(until), pool.name)
    bill = make_bill(stretches, first, last)
    machines = cloud.machines(pool.name)
    nodes = timeline(machines, until)
    used = used_over_time(load, core, machines)
    shares = _used_nodes(used, pool, first, last)
    idle_hours = bill.node_hours - sum(hours for hours, _ in shares)
    worth = sum(hours * price for hours, price in shares)
    never = _unstarted(load, core, until)
    per_instance = pd.concat([parts[load.judged[parts["task"].to_numpy()]], never], ignore_index=True)
    return ReplayResult(
        policy=policies[0].name,
        knob=knob,
        judged=judged,
        waits=waits_of(load, per_instance, until),
        node_hours=bill.node_hours,
        idle_node_hours=idle_hours,
        cost_usd=bill.usd,
        idle_cost_usd=None if bill.usd is None else bill.usd - worth,
        standby_usd=_standby(bill),
        evicted=core.evicted,
        interrupted=core.interrupted,
        unstarted=int(never["weight"].sum()),
        refused=tally.refused,
        ticks=tally.ticks,
        solves=sum(getattr(p, "solves", 0) for p in policies),
        fallbacks=sum(getattr(p, "fallbacks", 0) for p in policies),
        tick_ms=_median_ms(getattr(policies[0], "pass_seconds", tally.seconds)),
        left_out=dict(load.left_out),
        work=load.work,
        per_instance=per_instance,
        nodes=nodes.frame(),
        capacity=used.rows(nodes),
        bill=bill,
        seconds=tally.wall_s,
        cpu_seconds=tally.cpu_s,
        events=len(core.part_task),
    )


def _median_ms(seconds: Sequence[float]) -> float:
    return float(np.median(seconds)) * 1e3 if len(seconds) else 0.0


def _standby(bill: Bill) -> float | None:
    parts = [g.standby_usd for g in bill.groups.values()]
    return None if any(p is None for p in parts) else sum(p for p in parts if p is not None)


def _parts(load: Load, core: Core, until: float) -> pd.DataFrame:
    """One row per part that was not interrupted: task, ready, start (epoch s), waits (s), weight in instances."""
    count = np.frombuffer(core.part_count, dtype=np.int64)
    done = count > 0
    count, task = count[done], np.frombuffer(core.part_task, dtype=np.int64)[done]
    start = np.frombuffer(core.part_start, dtype=np.int64)[done]
    ready = np.frombuffer(core.ready_at, dtype=np.int64)[task]
    ranks = np.array([s.ranks for s in load.shapes] or [0])[np.array(load.shape, dtype=np.int64)[task]]
    ranks = np.where(np.array(load.shape, dtype=np.int64)[task] < 0, 0, ranks)
    _, first = np.unique(task, return_index=True)
    leads = np.zeros(len(task), dtype=bool)
    leads[first] = True
    # A gang starts as one: its instances are counted with its first part.
    weight = np.where(ranks > 0, np.where(leads, load.weight[task], 0), count)
    limit = _limited(core.limits, start, load.us(until)) - _limited(core.limits, ready, load.us(until))
    wait = (start - ready) / US
    return pd.DataFrame(
        {
            "task": task,
            "ready": load.base + ready / US,
            "start": load.base + start / US,
            "provision_wait": np.maximum(wait - limit / US, 0.0),
            "limit_wait": limit / US,
            "weight": weight,
            "node": np.frombuffer(core.part_node, dtype=np.int64)[done],
        }
    )


def _unstarted(load: Load, core: Core, until: float) -> pd.DataFrame:
    """Rows as of `_parts` for judged instances that never started: they wait until play ends.

    One that waited for a parent that never started counts from when it would have been ready, had nothing waited.
    """
    left = np.array(core.line.left, dtype=np.int64)
    task = np.flatnonzero(load.judged & (left > 0))
    became = np.frombuffer(core.ready_at, dtype=np.int64)[task]
    nominal = np.rint((load.ready[task] - load.base) * US).astype(np.int64)
    ready = np.where(became >= 0, became, nominal)
    end = load.us(until)
    limit = _limited(core.limits, np.full(len(task), end), end) - _limited(core.limits, ready, end)
    ranks = np.array([load.shapes[s].ranks if s >= 0 else 0 for s in np.array(load.shape)[task]], dtype=np.int64)
    return pd.DataFrame(
        {
            "task": task,
            "ready": load.base + ready / US,
            "start": np.full(len(task), np.inf),
            "provision_wait": np.maximum((end - ready - limit) / US, 0.0),
            "limit_wait": limit / US,
            "weight": np.where(ranks > 0, load.weight[task], left[task]),
            "node": np.full(len(task), -1),
        }
    )


def _limited(limits: list[tuple[int, bool]], at: Array, end: int) -> Array:
    """Microseconds up to `at` during which the pool was full with nothing on its way."""
    if not limits:
        return np.zeros(len(at))
    times = np.array([t for t, _ in limits] + [max(end, limits[-1][0] + 1)], dtype=np.float64)
    spent = np.diff(times) * np.array([full for _, full in limits])
    total: Array = np.interp(at, times, np.concatenate([[0.0], np.cumsum(spent)]))
    return total


def waits_of(load: Load, parts: pd.DataFrame, until: float) -> Waits:
    """Weighted figures over judged parts; play ended at `until` (epoch s)."""
    weight = parts["weight"].to_numpy(dtype=np.float64)
    wait = parts["provision_wait"].to_numpy()
    task = parts["task"].to_numpy()
    warm = (wait <= _NO_WAIT_S) & np.isfinite(parts["start"].to_numpy())
    t = load.work.tasks
    hours = t["cpu"].to_numpy(dtype=np.float64)[task] * load.runtime[task] * weight / _HOUR
    trigger = load.work.runs["trigger"].astype(str).to_numpy()[t["run"].to_numpy()[task]]
    scheduled = trigger == str(Trigger.SCHEDULED)
    delay = np.maximum(np.minimum(parts["start"].to_numpy(), until) - load.ready[task], 0.0)
    p50, p95, p99 = weighted_quantiles(wait, weight, (0.5, 0.95, 0.99))
    return Waits(
        instances=int(weight.sum()),
        mean=_mean(wait, weight),
        p50=p50,
        p95=p95,
        p99=p99,
        limit_mean=_mean(parts["limit_wait"].to_numpy(), weight),
        delay_mean=_mean(delay, weight),
        warm=_mean(warm, weight),
        warm_scheduled=_mean(warm[scheduled], weight[scheduled]),
        warm_core_hours=_mean(warm, hours),
    )


def _mean(values: Array, weight: Array) -> float:
    total = float(weight.sum())
    return float((values * weight).sum() / total) if total > 0 else float("nan")


def weighted_quantiles(values: Array, weight: Array, q: tuple[float, ...]) -> list[float]:
    """The smallest value at or below which a share q of the weight lies; NaN if there is no weight."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    if not len(reached) or reached[-1] <= 0:
        return [float("nan")] * len(q)
    at = np.searchsorted(reached, np.array(q) * reached[-1] * (1 - 1e-12))
    return [float(values[order[i]]) for i in at]


def _used_nodes(used: Used, pool: Pool, first: float, last: float) -> list[tuple[float, float]]:
    """(node-hours' worth that ran on its ready nodes within the window, price of a node-hour) of each offering."""
    return [
        (used.share_hours((g.name, o.key), o.allocatable.cpu, o.allocatable.memory, first, last), o.usd_per_hour or 0.0)
        for g in pool.groups
        for o in g.offerings
    ]
