"""What a running task is about to use, told from past runs of the very same task."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from preprov.control.context import Context
from preprov.control.demanding import remembered
from preprov.control.measuring import input_bytes, usual_runs
from preprov.control.teaching_curves import vintages_of
from preprov.model.pools import Pool
from preprov.model.usage import ResourceCurve, UsageRun
from preprov.model.work import DagRun, TaskRun
from preprov.planning.adjustment import Outlook
from preprov.profiles.aligned import RESOURCES, features
from preprov.profiles.curve_sizer import CurveSizer
from preprov.profiles.requests import FEWEST
from preprov.profiles.sequence import SEEN_AT

Curves: TypeAlias = Mapping[str, ResourceCurve]

_FRESH: Final = timedelta(minutes=10)
_STEPS: Final = 4
_LOW, _HIGH, _SOON, _REST = 0.05, 0.95, 0.9, 0.99


def curves_of(
    ctx: Context,
    pool: Pool,
    run: DagRun,
    task: TaskRun,
    elapsed_s: float = 0.0,
    seen: Mapping[str, float] = MappingProxyType({}),
) -> Curves:
    """By resource; none where fewer than three runs of this very code and command were watched, odd ones apart.

    Args:
        ctx: the context. pool: where it runs. run, task: what runs.
        elapsed_s: for so long already. seen: what it uses now, by resource.
    """
    sizer, last = remembered(
        ctx, (pool.name, "curves", run.dag_id, task.signature), _FRESH, lambda: _learnt(ctx, pool, run, task)
    )
    if last is None:
        return {}
    known = features(replace(last, input_bytes=input_bytes(task)))
    return {
        r: sizer.curve(known, r, (elapsed_s, seen[r]) if r in seen else None) for r in RESOURCES if _observed(last, r)
    }


def is_worth_another_look(ctx: Context, pool: Pool, curves: Curves, elapsed_s: float) -> bool:
    """True once a tenth of the usual runtime is over, where there is a model that may tell more of the rest by then."""
    if vintages_of(ctx, pool) is None:
        return False
    usual = [float(np.interp(0.5, c.levels, c.runtime_s)) for c in curves.values()]
    return bool(usual) and elapsed_s >= SEEN_AT * min(usual)


def _learnt(ctx: Context, pool: Pool, run: DagRun, task: TaskRun) -> tuple[CurveSizer, UsageRun | None]:
    same = [u for _, u in usual_runs(ctx, pool, run.dag_id, task)]
    sizer = CurveSizer(
        _STEPS, max(o.allocatable.memory for g in pool.groups for o in g.offerings), ctx.seed, vintages_of(ctx, pool)
    )
    for one in same:
        sizer.learn(one)
    return sizer, same[-1] if len(same) >= FEWEST else None


def _observed(run: UsageRun, resource: str) -> bool:
    return bool(np.isfinite(run.memory if resource == "memory" else run.cpu).any())


def outlook(curve: ResourceCurve, elapsed_s: float, ahead_s: float) -> Outlook:
    """What a curve says of one that has run for so long; the last that it says of one that runs longer than any did."""
    at = int(np.clip(np.searchsorted(curve.at, elapsed_s, side="right") - 1, 0, len(curve.at) - 1))
    until = max(int(np.searchsorted(curve.at, elapsed_s + ahead_s, side="right")), at + 1)

    def level(q: float) -> int:
        return int(np.argmin(np.abs(curve.levels - q)))

    return Outlook(
        low=float(curve.values[at, level(_LOW)]),
        high=float(curve.values[at, level(_HIGH)]),
        soon=float(curve.values[at:until, level(_SOON)].max()),
        rest=float(curve.values[at:, level(_REST)].max()),
    )
