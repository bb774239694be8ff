"""The sequence model of a pool: taught from all its watched runs, kept, and given to what foretells a task's use.

Whether it is followed each signature's own past decides; here it is only kept current. Older vintages stay, for a run
that has passed may be foretold only by what was taught before it.
"""

from datetime import timedelta
from typing import Final

import structlog

from preprov.contracts import ModelVersion
from preprov.control.context import Context
from preprov.control.measuring import watched_runs
from preprov.control.remembering import remembered
from preprov.model.errors import UnsafeModelError
from preprov.model.pools import Pool
from preprov.model.time import epoch
from preprov.profiles.oddities import sort_out
from preprov.profiles.sequence import FORMAT, Vintage, Vintages
from preprov.profiles.sequence_teacher import FIRST, Teacher, available

log = structlog.get_logger(__name__)

KIND: Final = "task-curves"
_KEPT: Final = 12
_FRESH: Final = timedelta(minutes=10)


def teach_curves(ctx: Context, pool: Pool) -> ModelVersion | None:
    """Teach a vintage from what has ended by now, and keep it; None without torch, or while there is too little.

    Runs that are unlike those before them teach nothing. It takes some ten seconds on one core, whatever there is.
    """
    if not available():
        return None
    now, teacher = ctx.clock.now(), Teacher(ctx.seed)
    lessons = []
    for key, runs in watched_runs(ctx, pool, until=now).items():
        kept = sort_out([run for _, run in runs]).kept
        lessons += [(runs[i][0].ended_at, key, runs[i][1]) for i in kept]
    for _, key, run in sorted(lessons, key=lambda one: one[:2]):
        teacher.take(key, run)
    if len(teacher) < FIRST:
        return None
    vintage = teacher.teach(until=epoch(now))
    metrics = {"lessons": float(vintage.lessons)}
    why = f"{vintage.lessons} lessons; each task's own past decides whether it is followed"
    made = ctx.ports.models.save(pool.name, KIND, FORMAT, vintage.to_bytes(), at=now, metrics=metrics, reason=why)
    made = ctx.ports.models.promote(made.version, at=now, reason=why, actor=ctx.actor)
    ctx.ports.models.forget(_versions(ctx, pool)[_KEPT:])
    ctx.memo.pop((pool.name, "vintages"), None)
    log.info("curves_taught", pool=pool.name, version=made.version, lessons=vintage.lessons)
    return made


def vintages_of(ctx: Context, pool: Pool) -> Vintages | None:
    """What is kept; None if nothing is. One that cannot be read is left out, and stops nothing."""
    return remembered(ctx, (pool.name, "vintages"), _FRESH, lambda: _read(ctx, pool))


def _read(ctx: Context, pool: Pool) -> Vintages | None:
    kept = []
    for version in reversed(_versions(ctx, pool)[:_KEPT]):
        try:
            held = ctx.ports.models.load(pool.name, KIND, version)
            kept += [] if held is None else [Vintage.from_bytes(held[1])]
        except UnsafeModelError as error:
            log.error("model_refused", pool=pool.name, version=version, why=error.what)
    return Vintages(kept) if kept else None


def _versions(ctx: Context, pool: Pool) -> list[str]:
    """Newest first."""
    return [v.version for v in ctx.ports.models.versions(pool.name) if v.kind == KIND]
