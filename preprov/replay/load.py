"""A work table made ready to be played: integer microseconds, integer amounts, children by position."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from preprov.model.pools import Pool
from preprov.model.resources import KINDS
from preprov.model.worktable import Array, WorkTable

US: Final = 1_000_000
"""Microseconds in a second: times in the core are whole microseconds since `base`."""
_CPU_UNITS: Final = 1000
_MEMORY_UNITS: Final = 1_000_000
_GPU_UNITS: Final = 1000


@dataclass(frozen=True)
class Units:
    """How many units a core, a GiB and a device are; all amounts are whole numbers of units, so that sums are exact."""

    cpu: int = _CPU_UNITS
    memory: int = _MEMORY_UNITS
    gpu: int = _GPU_UNITS

    def amounts(self, cpu: Array, memory: Array, gpu: Array) -> tuple[Array, Array, Array]:
        """The same in units, rounded to the nearest."""
        return (
            np.rint(cpu * self.cpu).astype(np.int64),
            np.rint(memory * self.memory).astype(np.int64),
            np.rint(gpu * self.gpu).astype(np.int64),
        )


UNITS: Final = Units()


@dataclass(frozen=True, slots=True)
class Shape:
    """What one instance wants, in units; `ranks` > 0: a gang of so many that start together."""

    cpu: int
    memory: int
    gpu: int
    ranks: int = 0


@dataclass(frozen=True)
class Load:
    """Tasks to play.

    Attributes:
        work: the runs played, in order of submit. rows: (T,) where their tasks stand in the whole trace.
        base: epoch second of microsecond 0. start_us: when play begins.
        ready: (T,) nominal ready, runtime: (T,) seconds; both as if nothing waited.
        runtime_us: (T,) what is left to run at the start. shape: (T,) position in `shapes`, -1 = takes no room.
        count: (T,) instances, or ranks of a gang. weight: (T,) instances. priority: (T,) 0 = first.
        parents_left: (T,) parents that have not ended at the start; -1 = the task itself has.
        children: by task, tasks it is a parent of.
        arrivals: (time, task) of tasks whose parents have ended or that have none, by time.
        judged: (T,) bool. left_out: reason -> task instances that are played but never judged.
    """

    work: WorkTable
    rows: Array
    base: float
    start_us: int
    ready: Array
    runtime: Array
    runtime_us: list[int]
    shape: list[int]
    shapes: list[Shape]
    count: list[int]
    weight: Array
    priority: list[int]
    parents_left: list[int]
    children: list[tuple[int, ...]]
    arrivals: list[tuple[int, int]]
    judged: Array
    left_out: dict[str, int]

    def epoch(self, us: int) -> float:
        """Epoch seconds of a time in the core."""
        return self.base + us / US

    def us(self, epoch_s: float) -> int:
        """Time in the core of an epoch second."""
        return round((epoch_s - self.base) * US)


REASONS: Final = (
    "",
    "runtime or ready time not known",
    "too many cores",
    "fits on no node",
    "more than the pool may hold",
)
"""Why a task is left out of the judgement, by the number that `screen` gives it."""


def screen(work: WorkTable, pool: Pool, most_cores: float | None) -> tuple[WorkTable, Array]:
    """What cannot or shall not be judged takes no room; its time passes all the same, and its children wait for it.

    Args:
        work: nominal timing.
        pool: its offerings and limits say what fits at all.
        most_cores: a row that wants more in all is left out; None = all take part.

    Returns:
        the work with the amounts of what is left out set to nothing, and (T,) position in REASONS, 0 = takes part.
    """
    t = work.tasks
    weight = np.maximum(t["instances"].to_numpy(dtype=np.int64), 1)
    units, ranks = _units(work, pool)
    slots = _slots(units, capacities(pool))
    known = np.isfinite(t["runtime_s"]) & (t["runtime_s"] >= 0) & np.isfinite(t["ready_at"])
    small = np.ones(len(t), dtype=bool) if most_cores is None else t["cpu"].to_numpy() * weight <= most_cores
    good = (known.to_numpy(), small, slots > 0, slots * most_nodes(pool) >= ranks)
    why = np.select([~g for g in good], range(1, len(REASONS)), 0)
    if not why.any():
        return work, why
    amounts = {k: np.where(why > 0, 0.0, t[k]) for k in KINDS}
    return WorkTable(work.runs, t.assign(**amounts), work.parents, work.children), why


def make_load(work: WorkTable, why: Array, pool: Pool, *, start: float, judged_from: float, until: float) -> Load:
    """Prepare the runs that play between `start` and `until`.

    A task that had begun before the start has only its remaining seconds to run; whatever had ended has ended. Tasks
    are judged if, had nothing waited, they would have become ready in [judged_from, until): the same ones whatever the
    policy does.

    Args:
        work: by submit, as `screen` returns it, with `why`.
        why: (T,) reasons to leave tasks out.
        pool: its offerings.
        start: epoch seconds. judged_from, until: epoch seconds.
    """
    keep = _playing(work, start, until)
    rows = np.flatnonzero(keep[work.tasks["run"].to_numpy()])
    chosen, why = work.select_runs(keep), why[rows]
    t = chosen.tasks
    runtime = t["runtime_s"].to_numpy(dtype=np.float64)
    ready = t["ready_at"].to_numpy(dtype=np.float64)
    known = np.isfinite(runtime) & (runtime >= 0) & np.isfinite(ready)
    weight = np.maximum(t["instances"].to_numpy(dtype=np.int64), 1)
    shape, shapes, ranks = shapes_of(chosen, pool)
    runtime = np.where(known, runtime, 0.0)
    ready = np.where(known, ready, np.nanmin(ready) if known.any() else start)
    base = math.floor(start)
    ended = known & (ready + runtime <= start)
    begun = known & ~ended & (ready < start)
    rest = np.where(begun, ready + runtime - start, runtime)
    waits_for = np.bincount(chosen.children[~ended[chosen.parents]], minlength=len(t))
    parents_left = np.where(ended, -1, waits_for)
    priority = chosen.runs["priority"].to_numpy(dtype=np.int64)[t["run"].to_numpy()]
    free = np.flatnonzero(parents_left == 0)
    at = np.rint((np.maximum(ready[free], start) - base) * US).astype(np.int64)
    by_time = np.lexsort((free, at))
    return Load(
        work=chosen,
        rows=rows,
        base=float(base),
        start_us=round((start - base) * US),
        ready=ready,
        runtime=runtime,
        runtime_us=np.rint(rest * US).astype(np.int64).tolist(),
        shape=shape.tolist(),
        shapes=shapes,
        count=np.where(ranks > 0, ranks, weight).tolist(),
        weight=weight,
        priority=(priority.max(initial=0) - priority).tolist(),
        parents_left=parents_left.tolist(),
        children=_children(chosen),
        arrivals=list(zip(at[by_time].tolist(), free[by_time].tolist(), strict=True)),
        judged=(why == 0) & (ready >= judged_from) & (ready < until),
        left_out={REASONS[r]: int(weight[why == r].sum()) for r in np.unique(why[why > 0]).tolist()},
    )


def _playing(work: WorkTable, start: float, until: float) -> Array:
    """(R,) bool: runs submitted before `until` that had not ended at the start."""
    _, end = work.spans()
    last = np.full(len(work.runs), -np.inf)
    np.maximum.at(last, work.tasks["run"].to_numpy(), np.nan_to_num(end, nan=-np.inf))
    submit = work.runs["submit"].to_numpy(dtype=np.float64)
    playing: Array = (submit < until) & ((submit >= start) | (last > start))
    return playing


def _children(work: WorkTable) -> list[tuple[int, ...]]:
    order = np.argsort(work.parents, kind="stable")
    at = np.searchsorted(work.parents[order], np.arange(len(work.tasks) + 1)).tolist()
    flat = work.children[order].tolist()
    return [tuple(flat[a:b]) for a, b in pairwise(at)]


def _units(work: WorkTable, pool: Pool) -> tuple[list[Array], Array]:
    """([cpu, memory, gpu] of one instance or rank, in units; what does not bind is 0), ranks of gangs, else 0."""
    t = work.tasks
    gang = t["gang"].to_numpy(dtype=bool)
    instances = np.maximum(t["instances"].to_numpy(dtype=np.int64), 1)
    cpu = t["cpu"].to_numpy(dtype=np.float64)
    # A parallel job in one row is a gang of ranks of one core each; other gangs have their instances as ranks.
    split = gang & (instances == 1) & (cpu > 1)
    ranks = np.where(split, np.ceil(cpu), np.where(gang, instances, 0)).astype(np.int64)
    share = np.where(split, np.maximum(ranks, 1), 1)
    amounts = [t[k].to_numpy(dtype=np.float64) / share for k in ("cpu", "memory", "gpu")]
    units = UNITS.amounts(*amounts)
    return [u if k in pool.binding else np.zeros_like(u) for u, k in zip(units, KINDS, strict=False)], ranks


def shapes_of(work: WorkTable, pool: Pool) -> tuple[Array, list[Shape], Array]:
    """(position of each task's shape, -1 = it wants nothing; the shapes; ranks of gangs, else 0)."""
    units, ranks = _units(work, pool)
    wants = units[0] + units[1] + units[2] > 0
    ranks = np.where(wants, ranks, 0)
    distinct, shape = np.unique(np.stack([*units, ranks], axis=1), axis=0, return_inverse=True)
    return np.where(wants, shape.reshape(-1), -1), [Shape(*(int(v) for v in row)) for row in distinct], ranks


def _slots(units: Sequence[Array], rooms: Sequence[Shape]) -> Array:
    """(T,) how many instances of each task an empty node holds, the one that holds most."""
    best = np.zeros(len(units[0]), dtype=np.int64)
    for room in rooms:
        n = np.full(len(best), 1 << 31, dtype=np.int64)
        for want, have in zip(units, (room.cpu, room.memory, room.gpu), strict=True):
            n = np.where(want > 0, np.minimum(n, have // np.maximum(want, 1)), n)
        best = np.maximum(best, n)
    return best


def most_nodes(pool: Pool) -> int:
    """The limit of running nodes."""
    return min(pool.guards.max_nodes, sum(g.max_nodes for g in pool.groups))


def capacities(pool: Pool) -> list[Shape]:
    """What each offering of the pool holds, in units, in the order of groups and offerings."""
    out = []
    for group in pool.groups:
        for o in group.offerings:
            a = o.allocatable
            values = UNITS.amounts(np.array([a.cpu]), np.array([a.memory]), np.array([a.gpu]))
            out.append(Shape(*(int(v[0]) for v in values)))
    return out
