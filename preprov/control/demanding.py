"""The demand of a pool as it is known now: the one door from the store to the pure demand room."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import numpy as np
import structlog

from preprov.control.context import Context
from preprov.control.machines import largest, work_as_on
from preprov.control.quarantine import quarantined_days
from preprov.control.remembering import remembered
from preprov.control.standing import STANDS, Standing, still_stands
from preprov.demand.curve import DemandInputs, demand_curve
from preprov.demand.learnt_model import LearntModel
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.unseen import never_ran, shapes_of
from preprov.model.demand import DemandCurve
from preprov.model.errors import ForecastError, UnsafeModelError
from preprov.model.plans import stable_id
from preprov.model.pools import Pool
from preprov.model.resources import KINDS
from preprov.model.time import epoch, floor_to
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable

T = TypeVar("T")
log = structlog.get_logger(__name__)

LOOK_BACK = timedelta(days=400)
"""History that a forecast may use."""
_RUNTIMES_FRESH = (timedelta(hours=1), timedelta(hours=6))
"""Learnt anew once history has grown by a hundredth, but not more often than that, and not less."""
_LEARNT_FRESH = timedelta(minutes=10)
LEARNT_KIND = "learnt-demand"


def inputs(
    ctx: Context,
    pool: Pool,
    at: datetime,
    *,
    start: datetime | None = None,
    step_seconds: int | None = None,
    horizon_s: int | None = None,
) -> DemandInputs:
    """Everything the demand room may know at `at`; what came later is cut off here and again inside."""
    seen = ctx.ports.work.work(pool.name, since=at - LOOK_BACK, until=at).as_of(at)
    runtimes = runtime_model(ctx, pool, seen, at)
    schedules = ctx.ports.work.schedules(pool.name)
    return DemandInputs(
        pool=pool,
        at=at,
        seen=seen,
        schedules=schedules,
        series=ctx.ports.work.series(pool.name),
        start=start or at,
        horizon_s=horizon_s or pool.horizon_s,
        step_seconds=step_seconds or pool.step_seconds,
        runtimes=runtimes,
        learnt=remembered(ctx, (pool.name, "learnt"), _LEARNT_FRESH, lambda: stored_model(ctx, pool)),
        n_samples=ctx.n_samples,
        seed=ctx.seed,
        quarantined=quarantined_days(ctx, pool.name),
        templates=templates(ctx, pool, seen, schedules, at),
    )


def runtime_model(ctx: Context, pool: Pool, seen: WorkTable, at: datetime) -> RuntimeModel:
    """How long tasks run on the pool's largest kind of machine, learnt from what was seen by `at`; kept for a while."""
    return remembered(
        ctx,
        (pool.name, "runtimes"),
        _runtimes_fresh(seen, at),
        lambda: RuntimeModel.learn(work_as_on(ctx, pool, seen, largest(pool).instance_type), at),
    )


def known_runtimes(ctx: Context, pool: Pool) -> RuntimeModel | None:
    """The last that was learnt in this process; None if none was."""
    held = ctx.memo.get((pool.name, "runtimes"))
    return held[1] if held and isinstance(held[1], RuntimeModel) else None


def templates(
    ctx: Context, pool: Pool, seen: WorkTable, schedules: Sequence[Schedule], at: datetime
) -> WorkTable | None:
    """The shape of DAGs whose first turn is still to come, as submitted or as a source tells; None if none are."""
    new = never_ran(seen, schedules)
    if not new:
        return None
    told = ctx.ports.sources.shapes(pool.name, new)
    submitted = shapes_of(ctx.ports.work.specs(pool.name, new), at)
    found = WorkTable.concat([t for t in (submitted, told) if t is not None])
    return found if len(found.runs) else None


def _runtimes_fresh(seen: WorkTable, at: datetime) -> timedelta:
    """A day more tells much of two, and little of a hundred."""
    if not len(seen.runs):
        return _RUNTIMES_FRESH[0]
    span = timedelta(seconds=max(epoch(at) - float(seen.runs["submit"].min()), 0.0))
    return min(max(span / 100, _RUNTIMES_FRESH[0]), _RUNTIMES_FRESH[1])


def stored_model(ctx: Context, pool: Pool) -> LearntModel | None:
    """The champion for what is not known; None if there is none (the demand room then falls back, and says so).

    One that cannot be read is not loaded, and stops nothing: a model without a version stands in for it that says why.
    """
    try:
        held = ctx.ports.models.load(pool.name, LEARNT_KIND)
        read = ctx.memo.get((pool.name, "learnt"))
        if held is not None and read is not None and getattr(read[1], "version", "") == held[0].version:
            return read[1]  # type: ignore[return-value]  # the very one: its trees need not be unpacked again
        return None if held is None else LearntModel.from_bytes(held[1], version=held[0].version)
    except UnsafeModelError as error:
        log.error("model_refused", pool=pool.name, why=error.what)
        return LearntModel(None, reason=f"the stored model was refused: {error.what}")


def current_demand(ctx: Context, pool: Pool) -> tuple[str, DemandCurve]:
    """The demand over the pool's planning horizon and a little more, on the pool's step, from at or before now.

    Not stored. The curve of an earlier pass is given again as long as it stands. Where none can be made, one without
    samples is given, and says why: only work that waits, claims and floors count then.
    """
    key, now = (pool.name, "curve"), ctx.clock.now()
    held = ctx.memo.get(key)
    standing = held[1] if held is not None else None
    if not isinstance(standing, Standing) or not still_stands(ctx, pool, standing):
        longer = pool.horizon_s + math.ceil(STANDS.total_seconds() / pool.step_seconds) * pool.step_seconds
        try:
            # On the steps of the clock, so that a plan says 02:00 and the next one speaks of the same steps.
            first = floor_to(now, pool.step_seconds)
            curve = demand_curve(inputs(ctx, pool, now, start=first, horizon_s=longer))
        except ForecastError as error:
            log.error("no_forecast", pool=pool.name, why=error.what)
            return stable_id(pool.name, "none", now.isoformat()), _unknown(pool, now, error.what)
        schedules = ctx.ports.work.schedules(pool.name)
        standing = Standing(stable_id(pool.name, "tick", now.isoformat()), curve, now, schedules)
        ctx.memo[key] = (now, standing)
    return standing.forecast_id, standing.curve


def _unknown(pool: Pool, now: datetime, why: str) -> DemandCurve:
    """A curve that holds nothing."""
    nothing = np.zeros((0, 1, len(KINDS)), dtype=np.float32)
    return DemandCurve(pool.name, now, now, pool.step_seconds, nothing, basis={"fallback": why})
