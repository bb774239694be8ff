"""Issued forecasts against what came: scores, coverage, drift."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import structlog
from numpy.typing import NDArray

from preprov.control.context import Context
from preprov.control.quarantine import quarantined_days
from preprov.demand.inputs import DemandInputs
from preprov.demand.watching.drift import Alarm, alarms
from preprov.demand.watching.scoring import DAYS_BACK, came, came_in, score, usual_change
from preprov.model.demand import DemandCurve
from preprov.model.learning import ForecastScore
from preprov.model.pools import Pool
from preprov.model.resources import KINDS
from preprov.model.time import epoch, from_epoch

log = structlog.get_logger(__name__)

HOUR: Final = 3600
_SCORED_HOURS: Final = 24
_LOOK_BACK: Final = timedelta(days=60)
_RECENT: Final = timedelta(days=14)
_COLLAPSED_COVERAGE: Final = 0.6
_ENOUGH_HOURS: Final = 7 * 24


@dataclass(frozen=True)
class Drift:
    """The loss of issued forecasts rose: when it was noticed, by which test, from what to what."""

    at: datetime
    alarm: Alarm

    def __str__(self) -> str:
        a = self.alarm
        return f"loss rose from {a.before:.2f} to {a.after:.2f} ({a.by}, {self.at:%Y-%m-%d %H:%M}Z)"


@dataclass(frozen=True)
class Watch:
    """How the forecasts issued under the champion have done.

    Attributes:
        scored: forecasts scored by this look. forecasts, hours: that the rest is about, of the last two weeks.
        coverage: "80", "90" -> share of hours inside; None without any. wql: mean over forecasts, None without any.
        drifts: since the champion was promoted, oldest first.
        collapsed: why the champion cannot be trusted any more; "" if it can.
    """

    scored: int = 0
    forecasts: int = 0
    hours: int = 0
    coverage: Mapping[str, float | None] = field(default_factory=lambda: {"80": None, "90": None})
    wql: float | None = None
    drifts: tuple[Drift, ...] = ()
    collapsed: str = ""

    def as_dict(self) -> dict[str, object]:
        """Plain values, for a forecast's basis and for JSON."""
        return {
            "forecasts": self.forecasts,
            "hours": self.hours,
            "coverage80": self.coverage["80"],
            "coverage90": self.coverage["90"],
            "wql": self.wql,
            "drift": [
                {"at": d.at.isoformat(), "by": d.alarm.by, "before": d.alarm.before, "after": d.alarm.after}
                for d in self.drifts
            ],
            "collapsed": self.collapsed,
        }


def watch(ctx: Context, pool: Pool, given: DemandInputs, since: datetime | None) -> Watch:
    """Score the forecasts whose day has passed, and look at how the present champion's have done.

    Args:
        given: what is known now. since: when the champion was promoted; None = there is none.
    """
    scored = score_passed(ctx, pool, given)
    return replace(standing(ctx, pool, since), scored=scored)


def standing(ctx: Context, pool: Pool, since: datetime | None) -> Watch:
    """How the forecasts issued since then have done, from the scores that are stored."""
    if since is None:
        return Watch()
    now = ctx.clock.now()
    begin = max(since, now - _LOOK_BACK)
    scores = [s for s in ctx.ports.learning.scores(pool.name, since=begin) if s.scored_at <= now]
    recent = [s for s in scores if s.issued_at >= now - _RECENT and s.points]
    weights = np.array([s.points for s in recent], np.float64)
    wqls = [s.wql for s in recent if s.wql is not None]
    found = Watch(
        forecasts=len(recent),
        hours=int(weights.sum()),
        coverage={
            level: float(np.average([getattr(s, f"coverage{level}") or 0.0 for s in recent], weights=weights))
            if recent
            else None
            for level in ("80", "90")
        },
        wql=float(np.mean(wqls)) if wqls else None,
        drifts=_drifts(scores),
    )
    return replace(found, collapsed=_collapsed(found, now))


def _collapsed(found: Watch, now: datetime) -> str:
    if found.drifts and now - found.drifts[-1].at < _RECENT:
        return str(found.drifts[-1])
    covered = found.coverage["80"]
    if covered is not None and covered < _COLLAPSED_COVERAGE and found.hours >= _ENOUGH_HOURS:
        return f"80 % intervals covered {covered:.0%} of the last {found.hours} hours"
    return ""


def score_passed(ctx: Context, pool: Pool, given: DemandInputs) -> int:
    """Score every hourly forecast whose first day has passed and that has no score yet; returns how many."""
    now = ctx.clock.now()
    done = {s.forecast_id for s in ctx.ports.learning.scores(pool.name, since=now - _LOOK_BACK)}
    known: dict[int, tuple[float, NDArray[np.float64]]] = {}
    strange = quarantined_days(ctx, pool.name)
    kind = given.learnt.kind if given.learnt is not None else (pool.binding or KINDS)[0]
    count = 0
    for forecast_id, _ in ctx.ports.forecasts.issued(pool.name, now - _LOOK_BACK, now - timedelta(hours=1)):
        curve = None if forecast_id in done else ctx.ports.forecasts.get(forecast_id)
        if curve is None or curve.step_seconds != HOUR:
            continue
        curve = _first_day(curve)
        if curve.end > now:
            continue
        phase = int(epoch(curve.start) % HOUR)
        if phase not in known:
            known[phase] = _actual(given, curve.start, now, kind)
        ctx.ports.learning.save_score(_score(curve, forecast_id, known[phase], strange, pool, now, kind))
        count += 1
    return count


def _first_day(curve: DemandCurve) -> DemandCurve:
    if curve.steps <= _SCORED_HOURS:
        return curve
    first = slice(0, _SCORED_HOURS)
    mean = None if curve.mean is None else curve.mean[:, first]
    return replace(curve, samples=curve.samples[:, first], mean=mean, parts={})


def _actual(given: DemandInputs, like: datetime, now: datetime, kind: str) -> tuple[float, NDArray[np.float64]]:
    """(beginning, hours) of what came, over the time that any score may need, hours beginning as `like` does."""
    back = int((_LOOK_BACK + timedelta(days=DAYS_BACK + 2)).total_seconds())
    begin = epoch(like) - ((epoch(like) - (epoch(now) - back)) // HOUR) * HOUR
    hours = int((epoch(now) - begin) // HOUR) + 1
    if given.series is not None and not len(given.seen.runs):
        return begin, came_in(given.series.until(now), from_epoch(begin), HOUR, hours)
    return begin, came(given.seen, now, from_epoch(begin), HOUR, hours, kind)


def _score(
    curve: DemandCurve,
    forecast_id: str,
    known: tuple[float, NDArray[np.float64]],
    strange: frozenset[date],
    pool: Pool,
    now: datetime,
    kind: str,
) -> ForecastScore:
    begin, values = known
    first = int((epoch(curve.start) - begin) // HOUR)
    actual = values[first : first + curve.steps].copy()
    zone = ZoneInfo(pool.zone)
    actual[[t.astimezone(zone).date() in strange for t in curve.times()]] = np.nan
    past = values[max(0, first - DAYS_BACK * 24) : first]
    scored = score(curve, actual, usual_change(past[len(past) % 24 :], 24), kind)
    return ForecastScore(
        forecast_id,
        pool.name,
        curve.issued_at,
        now,
        str(curve.basis.get("learnt_model") or ""),
        kind,
        curve.start,
        HOUR,
        scored.loss,
        scored.coverage80,
        scored.coverage90,
        scored.wql,
    )


def _drifts(scores: list[ForecastScore]) -> tuple[Drift, ...]:
    """Alarms over the hours, each taken from the last forecast issued before it."""
    by_hour: dict[float, float] = {}
    for s in scores:
        for i, loss in enumerate(s.loss):
            if loss is not None:
                by_hour[epoch(s.start) + i * s.step_seconds] = loss
    hours = sorted(by_hour)
    found = alarms([by_hour[h] for h in hours])
    return tuple(Drift(from_epoch(hours[a.index] + HOUR), a) for a in found)
