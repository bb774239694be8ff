"""What planning is told beside demand: sizes of tasks, how often plans are made, the optimum that is held."""

from datetime import datetime, timedelta
from typing import Final

import numpy as np

from preprov.control.context import Context
from preprov.control.demanding import remembered
from preprov.model.pools import Pool
from preprov.model.resources import KINDS, Resources
from preprov.model.worktable import WorkTable
from preprov.planning.optimum import Optimum

_SIZES_FRESH: Final = timedelta(minutes=10)
_RECENT: Final = timedelta(days=7)
_INTERVALS: Final = 4
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
    t = seen.tasks
    mine = t[t["ended_at"].isna()]
    wanted = {tuple(row) for row in mine[list(KINDS)].drop_duplicates().to_numpy(dtype=float).tolist()}
    offerings = [o for g in pool.groups for o in g.offerings]
    requests = [Resources.of(w) for w in wanted]
    fitting = [r for r in requests if any(r.fits_in(o.allocatable, pool.binding) for o in offerings)]
    if not fitting:
        return None
    return max(fitting, key=lambda r: (r.gpu, r.cpu, r.memory))


def usual(seen: WorkTable) -> Resources | None:
    """The request that holds nearly all of the core-seconds; None if tasks differ."""
    t = seen.tasks[seen.tasks["runtime_s"] > 0]
    if t.empty:
        return None
    weight = t["cpu"] * t["runtime_s"] * t["instances"]
    by_size = weight.groupby([t["cpu"], t["memory"], t["gpu"]]).sum()
    total = float(by_size.sum())
    if total <= 0 or float(by_size.max()) < _ALIKE * total:
        return None
    first = t[(weight.groupby([t["cpu"], t["memory"], t["gpu"]]).transform("sum") == by_size.max())].iloc[0]
    return Resources(float(first["cpu"]), float(first["memory"]), float(first["gpu"]))


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
