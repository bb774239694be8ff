"""What tasks ask for, what they use, and what they should ask for: by task, DAG and tenant.

Memory is asked for by least expected waste (see `sizer`), learnt from the runs in the order in which they ended, but
never so little that more than a given share of the runs would have failed: a request stands in a file, and people see
what fails. CPU is asked for so that 95 of 100 runs have what they do not exceed for 95 % of their time: too little of
it makes a task slower and ends nobody. Both are rounded up, and no more than a node has. Odd runs (see `oddities`), and
what ran before something else became usual, say nothing of what to ask for; they are counted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.executions import Executions
from preprov.model.usage import UsageRun
from preprov.profiles.history import Facts
from preprov.profiles.oddities import sort_out
from preprov.profiles.sizer import Sizer
from preprov.profiles.waste import Price

Floats = NDArray[np.float64]
_Name: TypeAlias = tuple[str, str, str]
"""Tenant, DAG and task."""

FEWEST: Final = 3
"""Runs from which on something is said of what a task should ask for."""
FAILURES: Final = 0.02
MEMORY_STEP: Final = 1 / 16
CPU_STEP: Final = 0.1
_SURE: Final = 0.95
_LEAST_CPU: Final = 0.1
_JUDGED: Final = 500


@dataclass(frozen=True, slots=True)
class Room:
    """What a node has, cores and GiB: how much of one a task takes is the larger of its two shares."""

    cpu: float
    memory: float

    def share(self, cpu: float, memory: float) -> float:
        """Of a node; NaN if nothing is known of either."""
        parts = [v / room for v, room in ((cpu, self.cpu), (memory, self.memory)) if math.isfinite(v) and room > 0]
        return max(parts, default=math.nan)


@dataclass(frozen=True, slots=True)
class Need:
    """One task of a DAG, over its runs. Cores and GiB; NaN = not known.

    Attributes:
        runs: that ended well; measured: of which a peak is known.
        asked_cpu, asked_memory: by the last run that said so.
        cpu, memory: (p50, p99) of what runs used: cores not exceeded for 95 % of the time; the highest memory.
        ask_cpu, ask_memory: what to ask for; NaN where fewer than FEWEST runs were measured.
        hours: of all runs. node_hours_asked, node_hours_needed: hours times the share of a node that was asked for,
            and that `ask_*` would have been; the same where nothing can be said.
        too_small: measured runs that `ask_memory` would not have held, odd ones too.
        odd: runs that `ask_*` does not rest on, for they are unlike the others, or like what is usual no more.
    """

    tenant: str
    dag: str
    task: str
    runs: int
    measured: int
    asked_cpu: float
    asked_memory: float
    cpu: tuple[float, float]
    memory: tuple[float, float]
    ask_cpu: float
    ask_memory: float
    hours: float
    node_hours_asked: float
    node_hours_needed: float
    too_small: int
    odd: int = 0

    @property
    def said(self) -> bool:
        """Whether something can be said of what to ask for."""
        return math.isfinite(self.ask_memory)


@dataclass(frozen=True, slots=True)
class Part:
    """All tasks of a DAG, of a tenant, or of all together."""

    name: str
    tasks: int
    runs: int
    node_hours_asked: float
    node_hours_needed: float

    @property
    def saved(self) -> float:
        """Share of what was asked for that would be free."""
        if self.node_hours_asked <= 0:
            return 0.0
        return 1 - self.node_hours_needed / self.node_hours_asked


def needs(ran: Executions, room: Room, price: Price, *, failures: float = FAILURES, seed: int = 0) -> list[Need]:
    """Every task, the one that asks for the most beyond its need first.

    Args:
        ran: runs that ended well. room: of a node. price: of a failure; its cap is the node's memory.
        failures: the largest share of a task's runs that may have too little memory.
    """
    found = [_need(name, rows, room, price, failures, seed) for name, rows in _by_task(ran)]
    return sorted(found, key=lambda n: (n.node_hours_needed - n.node_hours_asked, n.tenant, n.dag, n.task))


def parts(found: Sequence[Need], of: str) -> list[Part]:
    """By `tenant` or `dag`, the one that would save the most first."""
    named: dict[str, list[Need]] = {}
    for n in found:
        named.setdefault(getattr(n, of), []).append(n)
    out = [whole(rows, name) for name, rows in named.items()]
    return sorted(out, key=lambda p: (p.node_hours_needed - p.node_hours_asked, p.name))


def whole(found: Sequence[Need], name: str = "") -> Part:
    """All of these together."""
    asked = math.fsum(n.node_hours_asked for n in found)
    needed = math.fsum(n.node_hours_needed for n in found)
    return Part(name, len(found), sum(n.runs for n in found), asked, needed)


def node_hours_asked(ran: Executions, room: Room) -> float:
    """Hours of a whole node that runs asked for; what asked for nothing that is known counts for none."""
    asked = zip(*(ran.column(c).tolist() for c in ("runtime_s", "cpus", "memory")), strict=True)
    every = (seconds / 3600 * room.share(cpu, memory) for seconds, cpu, memory in asked)
    return math.fsum(h for h in every if math.isfinite(h))


def _by_task(ran: Executions) -> Iterator[tuple[_Name, Executions]]:
    names = list(zip(*(ran.column(c).tolist() for c in ("tenant", "workflow", "process")), strict=True))
    rows: dict[_Name, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    for name, mine in rows.items():
        yield name, Executions(ran.frame.iloc[mine].reset_index(drop=True))


def _need(name: _Name, ran: Executions, room: Room, price: Price, failures: float, seed: int) -> Need:
    tenant, dag, task = name
    peak, hours = ran.column("peak"), ran.column("runtime_s") / 3600
    cores = np.where(np.isfinite(ran.column("cpu_p95")), ran.column("cpu_p95"), ran.column("cpu"))
    measured = int(np.isfinite(peak).sum())
    usual = _usual(ran)
    enough = int(np.isfinite(peak[usual]).sum()) >= FEWEST
    ended = ran.column("ended")[usual]
    ask_memory = _memory(peak[usual], hours[usual], ended, price, failures, seed) if enough else math.nan
    ask_cpu = _cpu(cores[usual], room) if enough else math.nan
    asked_cpu, asked_memory = ran.column("cpus"), ran.column("memory")
    runs = list(zip(asked_cpu.tolist(), asked_memory.tolist(), peak.tolist(), strict=True))
    asked, needed = _node_hours(room, price, hours, runs, (ask_cpu, ask_memory))
    return Need(
        tenant=tenant,
        dag=dag,
        task=task,
        runs=len(ran),
        measured=measured,
        asked_cpu=_last(asked_cpu),
        asked_memory=_last(asked_memory),
        cpu=_middle_and_top(cores),
        memory=_middle_and_top(peak),
        ask_cpu=ask_cpu,
        ask_memory=ask_memory,
        hours=float(hours.sum()),
        node_hours_asked=asked,
        node_hours_needed=needed,
        too_small=int((peak > ask_memory).sum()),
        odd=len(ran) - len(usual),
    )


def _usual(ran: Executions) -> NDArray[np.int64]:
    """Rows that are learnt from, in the order in which they are; of very many runs the last are judged."""
    order = np.argsort(ran.column("ended"), kind="stable")
    older, last = order[:-_JUDGED], order[-_JUDGED:]
    found = sort_out([_as_usage(ran, int(i)) for i in last])
    kept = last[list(found.kept)]
    return np.sort(kept if found.since else np.concatenate([older, kept]))


def _as_usage(ran: Executions, row: int) -> UsageRun:
    """A run of which its peak, its mean of cores and its runtime are known, as one sample."""
    told = {c: float(ran.column(c)[row]) for c in ("submitted", "runtime_s", "peak", "cpu", "input_bytes")}
    return UsageRun(
        "",
        "",
        told["submitted"],
        max(told["runtime_s"], 1e-3),
        np.zeros(1),
        np.array([told["peak"]]),
        np.array([told["cpu"]]),
        input_bytes=told["input_bytes"],
    )


def _memory(peak: Floats, hours: Floats, ended: Floats, price: Price, failures: float, seed: int) -> float:
    """GiB: one request for all runs, whatever they work on, for it stands in a file."""
    sizer = Sizer(price, seed)
    for i in np.argsort(ended, kind="stable").tolist():
        sizer.learn(float(peak[i]), float(hours[i]))
    peaks = np.sort(peak[np.isfinite(peak)])
    enough = float(peaks[max(len(peaks) - 1 - math.floor(failures * len(peaks) + 1e-9), 0)])
    return min(_up(max(sizer.size([Facts()])[0].allocation, enough), MEMORY_STEP), price.cap)


def _cpu(cores: Floats, room: Room) -> float:
    """Cores; NaN if none were measured."""
    seen = cores[np.isfinite(cores)]
    if not len(seen):
        return math.nan
    return min(max(_up(float(np.quantile(seen, _SURE)), CPU_STEP), _LEAST_CPU), room.cpu)


def _up(value: float, step: float) -> float:
    return round(math.ceil(value / step - 1e-9) * step, 6)


def _node_hours(
    room: Room, price: Price, hours: Floats, runs: Sequence[tuple[float, float, float]], ask: tuple[float, float]
) -> tuple[float, float]:
    """(asked for, needed). A run that asked for nothing that is known counts for neither.

    Args:
        runs: cores and GiB that each asked for, and its peak. ask: cores and GiB to be asked for.
    """
    asked = needed = 0.0
    for h, (cpu, memory, peak) in zip(hours.tolist(), runs, strict=True):
        share = room.share(cpu, memory)
        if math.isfinite(share):
            asked += h * share
            cores, given = _or(ask[0], cpu), _or(ask[1], memory)
            needed += h * room.share(cores, given)
            while given < min(peak, price.cap):  # it failed for want of memory, and is tried again
                given *= price.ladder
                needed += h * room.share(cores, min(given, price.cap))
    return asked, needed


def _or(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


def _last(values: Any) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else math.nan


def _middle_and_top(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return math.nan, math.nan
    middle, top = np.quantile(known, [0.5, 0.99])
    return float(middle), float(top)
