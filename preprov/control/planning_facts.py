"""What planning is told beside demand: sizes of tasks, how often plans are made, the optimum that is held."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd

from preprov.control.context import Context
from preprov.control.remembering import remembered
from preprov.model.pools import Pool
from preprov.model.resources import KINDS, Resources
from preprov.model.time import epoch
from preprov.model.worktable import Array, WorkTable
from preprov.planning.optimum import Optimum
from preprov.planning.packing import Kind, coarser

_LARGEST_FRESH: Final = timedelta(minutes=10)
_KINDS_FRESH: Final = (timedelta(minutes=10), timedelta(hours=1))
_RECENT: Final = timedelta(days=7)
_INTERVALS: Final = 4
_REACTIONS: Final = 12
REACT_S: Final = 5.0
"""Between reactions, as `preprov up` makes them where it has time to."""
_DUST: Final = 1e-9


@dataclass(frozen=True)
class Sizes:
    """What tasks ask for.

    Attributes:
        largest: of those that are not over and fit somewhere; None = there are none.
        kinds: of recent and open tasks, each with the instance-seconds that it holds.
        rework_s: seconds that what runs on a node has run so far, on average: lost if the node is taken back.
    """

    largest: Resources | None
    kinds: tuple[Kind, ...]
    rework_s: float = 0.0


def task_sizes(ctx: Context, pool: Pool, now: datetime) -> Sizes:
    """Of what is not over, looked at again every few minutes; of the work of the last days, which changes slowly."""

    @cache
    def recent() -> WorkTable:
        return ctx.ports.work.work(pool.name, since=now - _RECENT, until=now)

    largest = remembered(ctx, (pool.name, "largest"), _LARGEST_FRESH, lambda: largest_open(recent(), pool, now))
    key = (pool.name, "kinds")
    held = ctx.memo.get(key)
    if held is None or not timedelta(0) <= now - held[0] < held[1][0]:  # type: ignore[index]
        seen = recent().as_of(now)
        ctx.memo[key] = held = (now, (_kinds_fresh(seen, now), kinds_of(seen), rework_of(seen)))
    return Sizes(largest, *held[1][1:])  # type: ignore[index]


def _kinds_fresh(seen: WorkTable, now: datetime) -> timedelta:
    """Until history has grown by a hundredth."""
    if not len(seen.runs):
        return _KINDS_FRESH[0]
    span = timedelta(seconds=max(epoch(now) - float(seen.runs["submit"].min()), 0.0))
    return min(max(span / 100, _KINDS_FRESH[0]), _KINDS_FRESH[1])


def largest_open(seen: WorkTable, pool: Pool, now: datetime) -> Resources | None:
    """The largest of the requests that are not over by now, resource by resource among those that fit somewhere."""
    of = seen.tasks
    rows = np.flatnonzero(~(of["ended_at"].to_numpy(dtype=np.float64) <= epoch(now)))
    amounts = np.stack([of[k].to_numpy(dtype=np.float64)[rows] for k in KINDS])
    fits = np.zeros(len(rows), dtype=bool)
    for room in {o.allocatable for g in pool.groups for o in g.offerings}:
        inside = [amounts[KINDS.index(k)] <= getattr(room, k) + _DUST for k in pool.binding]
        fits |= np.logical_and.reduce(inside, axis=0)
    if not fits.any():
        return None
    wanted = amounts[:, fits]
    for kind in ("gpu", "cpu", "memory"):
        amount = wanted[KINDS.index(kind)]
        wanted = wanted[:, amount == amount.max()]
    return Resources.of(wanted[:, _alike(wanted)[1][-1]].tolist())


def rework_of(seen: WorkTable) -> float:
    """Seconds that a core in use has been at its task, seen at any moment; 0 where no runtime is known.

    Long tasks are met more often than short ones, and on average half way: E[R^2] / 2 E[R], by cores.
    """
    of = seen.tasks
    runtime, hint = (np.nan_to_num(of[k].to_numpy(dtype=np.float64)) for k in ("runtime_s", "hint_s"))
    open_ = np.isnan(of["ended_at"].to_numpy(dtype=np.float64)) & ~(runtime > 0)
    seconds = np.where(runtime > 0, runtime, np.where(open_, np.maximum(hint, 0.0), 0.0))
    held = seconds * np.nan_to_num(of["cpu"].to_numpy(dtype=np.float64)) * of["instances"].to_numpy()
    return float(held @ seconds / (2 * held.sum())) if held.sum() > 0 else 0.0


def kinds_of(
    seen: WorkTable, labels: Mapping[tuple[str, str], Mapping[str, str]] = MappingProxyType({})
) -> tuple[Kind, ...]:
    """Kinds of tasks, each with the instance-seconds it has run, or will run as far as that can be told.

    Args:
        labels: (DAG, task) -> labels that its node must have; none if they do not matter.
    """
    of = seen.tasks
    runtime = of["runtime_s"].to_numpy(dtype=np.float64)
    ran = runtime > 0
    usual = float(runtime[ran].mean()) if ran.any() else 1.0
    hint = of["hint_s"].to_numpy(dtype=np.float64)
    # What ended without a runtime did not succeed and held nothing worth counting.
    open_ = np.isnan(of["ended_at"].to_numpy(dtype=np.float64)) & ~ran
    seconds = np.where(ran, runtime, np.where(open_, np.where(hint > 0, hint, usual), 0.0))
    rows = np.flatnonzero(seconds > 0)
    if not len(rows):
        return ()
    amounts = np.stack([coarser(np.nan_to_num(of[k].to_numpy(dtype=np.float64)[rows])) for k in KINDS])
    sets, label = _labelled(seen, rows, labels)
    number, first = _alike(np.concatenate([amounts, label[None, :]]))
    held = np.bincount(number, weights=seconds[rows] * of["instances"].to_numpy()[rows])
    return tuple(
        Kind(Resources(*amounts[:, i].tolist()), float(w), sets[int(label[i])])
        for i, w in zip(first, held, strict=True)
    )


def _labelled(
    seen: WorkTable, rows: Array, labels: Mapping[tuple[str, str], Mapping[str, str]]
) -> tuple[list[Mapping[str, str]], Array]:
    """Sets of labels, none first, and which each of the tasks at these rows has."""
    none: Mapping[str, str] = MappingProxyType({})
    if not labels:
        return [none], np.zeros(len(rows))
    sets: list[Mapping[str, str]] = [none]
    run = seen.tasks["run"].to_numpy()[rows]
    names = zip(
        seen.runs["dag_id"].to_numpy(dtype=object)[run].tolist(),
        seen.tasks["task_id"].to_numpy(dtype=object)[rows].tolist(),
        strict=True,
    )
    out = np.zeros(len(rows))
    for i, name in enumerate(names):
        wanted = labels.get(name)
        if wanted:
            if wanted not in sets:
                sets.append(wanted)
            out[i] = sets.index(wanted)
    return sets, out


def _alike(columns: Array) -> tuple[Array, Array]:
    """Of (K, N) columns: (N,) number of each row's like, (U,) the first row of each like, in order of appearance."""
    of = np.zeros(columns.shape[1], dtype=np.int64)
    for column in columns:
        codes, found = pd.factorize(column)
        if len(found) > 1:
            of = pd.factorize(of * (len(found) + 1) + codes)[0]
    first = np.full(int(of.max(initial=-1)) + 1, len(of))
    np.minimum.at(first, of, np.arange(len(of)))
    return of, first


def tick_seconds(ctx: Context, pool: Pool, now: datetime) -> float | None:
    """How long it usually is until the next plan, from when the last ones were made; None = not known yet.

    A plan that was made early, because work came, does not make the next one early: the longest of the last counts.
    """
    longest = _longest_gap(ctx, (pool.name, "plans-made"), now, _INTERVALS)
    return None if longest is None else min(longest, float(pool.step_seconds))


def reaction_seconds(ctx: Context, pool: Pool, now: datetime) -> float:
    """How long it may be until the next reaction: the longest of the last gaps, in which a pass was made that plans.

    A controller that has much to do looks again later than it means to, and what it wakes must be ready all the same.
    """
    longest = _longest_gap(ctx, (pool.name, "reactions-made"), now, _REACTIONS)
    return REACT_S if longest is None else min(max(longest, REACT_S), float(pool.step_seconds))


def _longest_gap(ctx: Context, key: tuple[str, str], now: datetime, most: int) -> float | None:
    """Seconds, of so many last gaps; `now` is noted. None = there is none yet."""
    held = ctx.memo.get(key)
    before: tuple[datetime, ...] = held[1] if held else ()  # type: ignore[assignment]
    made = (*(t for t in before if t < now), now)[-most - 1 :]
    ctx.memo[key] = (now, made)
    gaps = np.diff([t.timestamp() for t in made])
    return float(gaps.max()) if len(gaps) else None


def held_optimum(ctx: Context, pool: Pool) -> Optimum | None:
    """The optimum that the last plan of this process went by."""
    held = ctx.memo.get((pool.name, "optimum"))
    return held[1] if held and isinstance(held[1], Optimum) else None


def hold_optimum(ctx: Context, pool: Pool, optimum: Optimum | None, now: datetime) -> None:
    """Keep it for the next plan."""
    if optimum is not None:
        ctx.memo[(pool.name, "optimum")] = (now, optimum)
