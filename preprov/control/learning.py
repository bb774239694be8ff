"""Learning, as one round: watch what was issued, look for strange days, and put up a challenger where that is due."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from preprov.contracts import ModelVersion
from preprov.control.challenge import Challenge, challenge, promoted_at
from preprov.control.context import Context
from preprov.control.demanding import LEARNT_KIND, inputs, stored_model
from preprov.control.quarantine import Review, quarantined_days, review
from preprov.control.teaching_curves import teach_curves
from preprov.control.watching import Watch, standing, watch
from preprov.demand.forecasting.scaler import ScalerConfig
from preprov.demand.inputs import DemandInputs
from preprov.demand.learnt import teaching
from preprov.model.errors import ForecastError
from preprov.model.learning import BacktestRecord, Promotion, QuarantinedDay
from preprov.model.pools import Pool

log = structlog.get_logger(__name__)

REFIT_AFTER: Final = timedelta(days=7)
_THIN_REFIT_AFTER: Final = timedelta(days=1)
_THIN_DAYS: Final = 10.0
_SHOWN: Final = 20


@dataclass(frozen=True)
class Lesson:
    """What one round came to.

    Attributes:
        cause: why a challenger was put up, "" if none was due. challenge: what came of it.
        given: what is known, with the model in use afterwards and the days now in quarantine.
        curves: the sequence model of what tasks use, if it was taught too.
    """

    pool: str
    watch: Watch
    review: Review
    challenge: Challenge | None
    cause: str
    given: DemandInputs
    curves: ModelVersion | None = None


def learn(
    ctx: Context, pool: Pool, given: DemandInputs, *, asked: bool = False, config: ScalerConfig | None = None
) -> Lesson:
    """One round of learning for a pool.

    Issued forecasts whose hours have passed are scored. A challenger is put up if there is no model, if somebody asked,
    if the loss has drifted since the last fit, or if that is a week old (a day, while there is little history). The
    sequence model of what tasks use is taught along with it, where torch is installed.

    Args:
        ctx: a live context: what is found is written down.
        pool: the pool. given: what is known now. asked: put up a challenger in any case.

    """
    seen = watch(ctx, pool, given, promoted_at(ctx, pool))
    for drift in seen.drifts[-1:]:
        log.warning("drift", pool=pool.name, what=str(drift))
    cause = _due(ctx, given, seen, asked)
    if not cause:
        return Lesson(pool.name, seen, Review(), None, "", given)
    try:
        reviewed = review(ctx, pool, teaching(given).history)
    except ForecastError:  # nothing to look at yet
        reviewed = Review()
    given = replace(given, quarantined=quarantined_days(ctx, pool.name))
    made = challenge(ctx, pool, given, cause=cause, collapsed=seen.collapsed, config=config)
    return Lesson(pool.name, seen, reviewed, made, cause, given.with_learnt(made.learnt), teach_curves(ctx, pool))


def retrain(ctx: Context, pool: Pool) -> Lesson:
    """A round of learning because somebody, or the weekly flow, asks for it.

    Raises:
        ForecastError: the pool has no history at all.
    """
    given = inputs(ctx, pool, ctx.clock.now())
    must_know(given)
    return learn(ctx, pool, given, asked=True)


def must_know(given: DemandInputs) -> None:
    """Refuse a pool of which nothing is known.

    Raises:
        ForecastError: it has no history at all.
    """
    if not len(given.seen.runs) and given.series is None and given.templates is None:
        raise ForecastError(
            f"pool {given.pool.name} has no history before {given.at:%Y-%m-%dT%H:%MZ}",
            where=given.pool.name,
            hint="preprov ingest …, or submit work first",
        )


def _due(ctx: Context, given: DemandInputs, seen: Watch, asked: bool) -> str:
    """Why a challenger should be put up now; "" if it should not."""
    newest = newest_version(ctx, given.pool)
    if newest is None:
        return "the first fit"
    if asked:
        return "asked for"
    if given.learnt is not None and not given.learnt.version:
        return given.learnt.reason
    if seen.drifts and seen.drifts[-1].at > newest.created_at:
        return f"drift: {seen.drifts[-1]}"
    age = ctx.clock.now() - newest.created_at
    thin = newest.metrics.get("known_days", 0.0) < _THIN_DAYS
    if age > (_THIN_REFIT_AFTER if thin else REFIT_AFTER):
        return f"{age.total_seconds() / 86_400:.0f} days since the last fit"
    return ""


def newest_version(ctx: Context, pool: Pool) -> ModelVersion | None:
    """The last version fitted, champion or not."""
    return next((v for v in ctx.ports.models.versions(pool.name) if v.kind == LEARNT_KIND), None)


@dataclass(frozen=True)
class ModelReport:
    """What is known about a pool's model.

    Attributes:
        champion: None if there is none. fallback: why forecasts rest on too little, "" if they do not.
        challengers: fitted since the champion. backtests, promotions: newest first. quarantine: by day.
    """

    champion: ModelVersion | None
    fallback: str
    watch: Watch
    challengers: tuple[ModelVersion, ...]
    backtests: tuple[BacktestRecord, ...]
    promotions: tuple[Promotion, ...]
    quarantine: tuple[QuarantinedDay, ...]


def report(ctx: Context, pool: Pool) -> ModelReport:
    """What is known about a pool's model; nothing is changed."""
    versions = [v for v in ctx.ports.models.versions(pool.name) if v.kind == LEARNT_KIND]
    champion = next((v for v in versions if v.champion), None)
    model = stored_model(ctx, pool)
    return ModelReport(
        champion,
        "no model: past days as they were" if model is None else model.reason,
        standing(ctx, pool, promoted_at(ctx, pool)),
        tuple(v for v in versions if champion is not None and v.created_at > champion.created_at),
        ctx.ports.learning.backtests(pool.name)[:_SHOWN],
        ctx.ports.models.promotions(pool.name, LEARNT_KIND),
        ctx.ports.learning.quarantined(pool.name),
    )
