"""Issue a day-ahead forecast: fit what is not known where that pays, join it with what is known, keep both."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from preprov.contracts import ModelVersion
from preprov.control.context import Context
from preprov.control.demanding import LEARNT_KIND, inputs
from preprov.demand.analyzer import QueueAnalysis, analyze
from preprov.demand.curve import demand_curve
from preprov.demand.learnt import fit_learnt
from preprov.model.demand import QUANTILES, DemandCurve
from preprov.model.errors import ForecastError
from preprov.model.pools import Pool
from preprov.model.time import aware

_REFIT_AFTER = timedelta(days=7)
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
        refit: fit the learnt part anew even if the stored one is fresh.

    Raises:
        ForecastError: the pool has no history at all.
    """
    at = ctx.clock.now()
    start = _next_step(at, step_seconds, pool.zone)
    given = inputs(ctx, pool, at, start=start, step_seconds=step_seconds, horizon_s=horizon_s)
    if not len(given.seen.runs) and given.series is None:
        raise ForecastError(
            f"pool {pool.name} has no history before {at:%Y-%m-%dT%H:%MZ}",
            where=pool.name,
            hint="preprov ingest …, or submit work first",
        )
    version = _latest(ctx, pool)
    stale = version is None or refit or at - version.created_at > _REFIT_AFTER or at < version.created_at
    if stale:
        learnt = fit_learnt(given)
        given = given.with_learnt(learnt)
        if ctx.live or version is None:
            version = ctx.ports.models.save(
                pool.name, LEARNT_KIND, learnt.format, learnt.to_bytes(), at=at, metrics=learnt.metrics, reason="fit"
            )
            if not version.champion:
                version = ctx.ports.models.promote(version.version, at=at, reason="refit on newer history")
    curve = demand_curve(given)
    return IssuedForecast(ctx.ports.forecasts.save(curve), curve, version)


def latest_forecast(ctx: Context, pool: str, when: datetime | None = None) -> tuple[str, DemandCurve]:
    """Id and curve of the last forecast issued at or before `when`.

    Raises:
        ForecastError: none is stored.
    """
    found = ctx.ports.forecasts.latest(pool, when)
    if found is None:
        raise ForecastError(f"no forecast of pool {pool} is stored", hint=f"preprov forecast run --pool {pool}")
    return found


def _latest(ctx: Context, pool: Pool) -> ModelVersion | None:
    held = ctx.ports.models.load(pool.name, LEARNT_KIND)
    return held[0] if held else None


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
    return analyze(
        seen,
        ctx.ports.work.schedules(pool.name),
        at,
        horizon_s=horizon_s or min(pool.horizon_s, 24 * HOUR),
        step_seconds=step_seconds,
        quantiles=QUANTILES,
        pool=pool.name,
        n_samples=ctx.n_samples,
        seed=ctx.seed,
    )
