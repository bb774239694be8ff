"""What planning is told beside demand: sizes of tasks, how often plans are made, the optimum that is held."""

from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd

from preprov.control.context import Context
from preprov.control.demanding import remembered
from preprov.model.pools import Pool
from preprov.model.resources import KINDS, Resources
from preprov.model.worktable import Array, WorkTable
from preprov.planning.optimum import Optimum

_SIZES_FRESH: Final = timedelta(minutes=10)
_RECENT: Final = timedelta(days=7)
_INTERVALS: Final = 4
_DUST: Final = 1e-9
_ALIKE: Final = 0.8
"""Share of core-seconds that tasks of one size must hold, for nodes to be counted by how many of them fit."""


def task_sizes(ctx: Context, pool: Pool, now: datetime) -> tuple[Resources | None, Resources | None]:
    """(largest request of a task that is not over, usual request if nearly all work has it); None = not known."""
    return remembered(ctx, (pool.name, "sizes"), _SIZES_FRESH, lambda: _sizes(ctx, pool, now))


def _sizes(ctx: Context, pool: Pool, now: datetime) -> tuple[Resources | None, Resources | None]:
    seen = ctx.ports.work.work(pool.name, since=now - _RECENT, until=now).as_of(now)
    return largest_open(seen, pool), usual(seen)


def largest_open(seen: WorkTable, pool: Pool) -> Resources | None:
    """The largest of the requests that are not over yet, resource by resource among those that fit somewhere."""
    of = seen.tasks
    rows = np.flatnonzero(np.isnan(of["ended_at"].to_numpy(dtype=np.float64)))
    amounts = np.stack([of[k].to_numpy(dtype=np.float64)[rows] for k in KINDS])
    wanted = amounts[:, _alike(amounts)[1]].T
    fits = np.zeros(len(wanted), dtype=bool)
    for room in {o.allocatable for g in pool.groups for o in g.offerings}:
        inside = [wanted[:, KINDS.index(k)] <= getattr(room, k) + _DUST for k in pool.binding]
        fits |= np.logical_and.reduce(inside, axis=0)
    if not fits.any():
        return None
    cpu, memory, gpu, *_ = wanted[fits].T
    return Resources.of(wanted[fits][np.lexsort((memory, cpu, gpu))[-1]].tolist())


def usual(seen: WorkTable) -> Resources | None:
    """The request that holds nearly all of the core-seconds; None if tasks differ."""
    of = seen.tasks
    runtime = of["runtime_s"].to_numpy(dtype=np.float64)
    ran = np.flatnonzero(runtime > 0)
    if not len(ran):
        return None
    amounts = np.stack([of[k].to_numpy(dtype=np.float64)[ran] for k in ("cpu", "memory", "gpu")])
    number, first = _alike(amounts)
    by_size = np.bincount(number, weights=amounts[0] * runtime[ran] * of["instances"].to_numpy()[ran])
    total = float(by_size.sum())
    if total <= 0 or float(by_size.max()) < _ALIKE * total:
        return None
    return Resources(*amounts[:, first[int(np.argmax(by_size))]].tolist())


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
    key = (pool.name, "plans-made")
    held = ctx.memo.get(key)
    before: tuple[datetime, ...] = held[1] if held else ()  # type: ignore[assignment]
    made = (*(t for t in before if t < now), now)[-_INTERVALS - 1 :]
    ctx.memo[key] = (now, made)
    gaps = np.diff([t.timestamp() for t in made])
    return float(min(gaps.max(), pool.step_seconds)) if len(gaps) else None


def held_optimum(ctx: Context, pool: Pool) -> Optimum | None:
    """The optimum that the last plan of this process went by."""
    held = ctx.memo.get((pool.name, "optimum"))
    return held[1] if held and isinstance(held[1], Optimum) else None


def hold_optimum(ctx: Context, pool: Pool, optimum: Optimum | None, now: datetime) -> None:
    """Keep it for the next plan."""
    if optimum is not None:
        ctx.memo[(pool.name, "optimum")] = (now, optimum)
