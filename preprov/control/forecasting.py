"""Issue a day-ahead forecast: fit what is not known where that pays, join it with what is known, keep both."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from preprov.contracts import ModelVersion
from preprov.control.challenge import challenge
from preprov.control.context import Context
from preprov.control.demanding import LEARNT_KIND, inputs, templates
from preprov.control.learning import REFIT_AFTER, learn, must_know
from preprov.demand.analyzer import QueueAnalysis, analyze
from preprov.demand.curve import demand_curve
from preprov.demand.inputs import DemandInputs
from preprov.demand.learnt import fit_learnt
from preprov.model.demand import QUANTILES, DemandCurve
from preprov.model.errors import ForecastError
from preprov.model.pools import Pool
from preprov.model.time import aware

HOUR = 3600


@dataclass(frozen=True)
class IssuedForecast:
    """A forecast and where it is kept."""

    forecast_id: str
    curve: DemandCurve
    model: ModelVersion | None


def issue_forecast(
    ctx: Context,
    pool: Pool,
    *,
    horizon_s: int = 24 * HOUR,
    step_seconds: int = HOUR,
    refit: bool = False,
) -> IssuedForecast:
    """Forecast the pool's demand from the top of the hour at or after the context's present.

    Args:
        ctx: the context; its present is the cutoff: nothing known later is used.
        pool: the pool.
        horizon_s: how far.
        step_seconds: length of a step.
        refit: put up a challenger for the learnt part even if none is due.

    Raises:
        ForecastError: the pool has no history at all.
    """
    at = ctx.clock.now()
    start = _next_step(at, step_seconds, pool.zone)
    given = inputs(ctx, pool, at, start=start, step_seconds=step_seconds, horizon_s=horizon_s)
    must_know(given)
    before: Mapping[str, object] = {}
    if ctx.live:
        lesson = learn(ctx, pool, given, asked=refit)
        given, before = lesson.given, lesson.watch.as_dict()
    else:
        given = _as_it_was(ctx, pool, given, refit)
    curve = demand_curve(given)
    curve = replace(curve, basis={**curve.basis, "issued_before": before})
    return IssuedForecast(ctx.ports.forecasts.save(curve), curve, _champion(ctx, pool))


def _as_it_was(ctx: Context, pool: Pool, given: DemandInputs, refit: bool) -> DemandInputs:
    """At an instant that a person named: the model in use if it had been fitted by then, else one fitted for it.

    It is kept only if the pool had none at all; what a forecast of the past finds out is no evidence for today.
    """
    champion = _champion(ctx, pool)
    if champion is not None and not refit and timedelta(0) <= given.at - champion.created_at <= REFIT_AFTER:
        return given
    if champion is None:
        return given.with_learnt(challenge(ctx, pool, given, cause="the first fit").learnt)
    return given.with_learnt(fit_learnt(given))


def _champion(ctx: Context, pool: Pool) -> ModelVersion | None:
    return next((v for v in ctx.ports.models.versions(pool.name) if v.kind == LEARNT_KIND and v.champion), None)


def latest_forecast(ctx: Context, pool: str, when: datetime | None = None) -> tuple[str, DemandCurve]:
    """Id and curve of the last forecast issued at or before `when`.

    Raises:
        ForecastError: none is stored.
    """
    found = ctx.ports.forecasts.latest(pool, when)
    if found is None:
        raise ForecastError(f"no forecast of pool {pool} is stored", hint=f"preprov forecast run --pool {pool}")
    return found


def _next_step(at: datetime, step_seconds: int, zone: str) -> datetime:
    """The first wall-clock multiple of the step (in the pool's zone) at or after `at`."""
    local = at.astimezone(ZoneInfo(zone))
    offset = (local.utcoffset() or timedelta()).total_seconds()
    wall = at.timestamp() + offset
    gap = -wall % step_seconds
    return aware(at + timedelta(seconds=gap))


def analyze_queue(ctx: Context, pool: Pool, *, horizon_s: int | None = None, step_seconds: int = 300) -> QueueAnalysis:
    """What is queued, running and due at the context's present, and its expansion; later facts cannot show."""
    at = ctx.clock.now()
    seen = ctx.ports.work.work(pool.name, since=at - timedelta(days=60), until=at).as_of(at)
    schedules = ctx.ports.work.schedules(pool.name)
    return analyze(
        seen,
        schedules,
        at,
        templates=templates(ctx, pool, seen, schedules, at),
        horizon_s=horizon_s or min(pool.horizon_s, 24 * HOUR),
        step_seconds=step_seconds,
        quantiles=QUANTILES,
        pool=pool.name,
        n_samples=ctx.n_samples,
        seed=ctx.seed,
    )
