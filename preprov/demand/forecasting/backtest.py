"""The day-ahead yardstick on one series: daily origins at local midnight, weekly refits, ours beside its peers."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
import structlog

from preprov.demand.forecasting.member import Public
from preprov.demand.forecasting.metrics import geometric, metrics
from preprov.demand.forecasting.naive import Naive
from preprov.demand.forecasting.protocol import FittedForecaster, Forecaster
from preprov.demand.forecasting.quantiles import Floats
from preprov.demand.forecasting.scaler import QUANTILES, ScalerConfig, ScalerModel
from preprov.demand.forecasting.view import Ints
from preprov.model.errors import ForecastError
from preprov.model.series import SeriesHistory

T = TypeVar("T")
_log = structlog.get_logger(__name__)

SHARE: Final = 0.4
MOST_DAYS: Final = 60
REFIT_DAYS: Final = 7
MIN_DAYS_FOR_LAST: Final = 28


@dataclass(frozen=True)
class Plan:
    """What a backtest does.

    Attributes:
        days: test days, or None for the last 40 % and at most 60. horizon: steps ahead.
        skip_days: days at the end that are left alone: designs are compared on earlier days than the judged ones.
    """

    days: int | None = None
    horizon: int = 24
    skip_days: int = 0
    config: ScalerConfig = field(default_factory=ScalerConfig)
    seed: int = 0


@dataclass
class _Scores:
    """Forecasts of one forecaster over all test days, and how they were come by."""

    said: list[Floats] = field(default_factory=list)
    fit_seconds: list[float] = field(default_factory=list)
    issue_seconds: list[float] = field(default_factory=list)
    stood_in: int = 0


def origins(history: SeriesHistory, plan: Plan) -> Ints:
    """Positions of the first step after each test day's local midnight.

    Raises:
        ForecastError: fewer than three whole days.
    """
    local = history.local_index()
    midnight = np.flatnonzero((local.hour == 0) & (local.minute == 0) & (local.second == 0))
    whole = midnight[midnight + plan.horizon <= len(history)]
    if plan.skip_days:
        whole = whole[: -plan.skip_days]
    if len(whole) < 3:
        raise ForecastError(f"{len(whole)} whole days are too few for a backtest", where=history.name)
    count = plan.days if plan.days is not None else min(MOST_DAYS, round(SHARE * len(whole)))
    chosen = whole[-max(1, min(count, len(whole) - 1)) :]
    out: Ints = chosen[chosen > 0]
    return out


def backtest_series(
    history: SeriesHistory,
    plan: Plan,
    rivals: Mapping[str, Forecaster],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score our scaler and its rivals on one series.

    Args:
        history: all of it; at each origin everybody is given what was known by then and no more than 400 days.
        plan: see there. rivals: peers by name. progress: called with (days done, days in all).

    Returns:
        Metrics, fit_seconds, issue_seconds, days, history_days, fallback,
        and peers: name -> metrics and stood_in (days on which it could not be fitted and the last value spoke).
    """
    starts = origins(history, plan)
    ours = _Scores()
    theirs = {name: _Scores() for name in rivals}
    fitted: dict[str, FittedForecaster] = {}
    model: ScalerModel | None = None
    for day, start in enumerate(starts):
        known = history.window(max(0, int(start) - plan.config.max_days * history.per_day), int(start))
        refit = day % REFIT_DAYS == 0
        if refit or model is None:
            model = _timed(ours.fit_seconds, partial(ScalerModel.fit, known, plan.config, plan.seed, previous=model))
        forecast = _timed(ours.issue_seconds, partial(model.predict, known, plan.horizon, QUANTILES))
        ours.said.append(forecast.values)
        for name, rival in rivals.items():
            _step(rival, theirs[name], fitted, known, refit, plan)
        if progress:
            progress(day + 1, len(starts))
    actual = np.concatenate([history.values[s : s + plan.horizon] for s in starts])
    unit = _season_error(history.window(0, int(starts[0])))
    result: dict[str, Any] = metrics(actual, np.concatenate(ours.said), QUANTILES, season_error=unit)
    result |= {"fit_seconds": max(ours.fit_seconds), "issue_seconds": max(ours.issue_seconds)}
    result |= {
        "days": len(starts),
        "history_days": len(history) / history.per_day,
        "points": int(np.isfinite(actual).sum()),
    }
    result |= {"fallback": model.fallback_reason if model else None, "peers": {}}
    for name, scores in theirs.items():
        scored = metrics(actual, np.concatenate(scores.said), QUANTILES, season_error=unit)
        result["peers"][name] = {
            **scored,
            "fit_seconds": max(scores.fit_seconds, default=0.0),
            "stood_in": scores.stood_in,
        }
    return result


def summary(series: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The figures over all series: geometric means of ratios of WQL, the worst one, pooled coverage."""
    rows = list(series.values())
    against_last = [
        _ratio(r["wql"], r["peers"]["last"]["wql"])
        for r in rows
        if "last" in r["peers"] and r["history_days"] >= MIN_DAYS_FOR_LAST
    ]
    best = [_ratio(r["wql"], min(p["wql"] for p in r["peers"].values())) for r in rows if r["peers"]]
    snaive = [_ratio(r["wql"], r["peers"]["snaive24"]["wql"]) for r in rows if "snaive24" in r["peers"]]
    points = np.array([r["points"] for r in rows], dtype=np.float64)
    covered = np.array([r["coverage80"] for r in rows])
    return {
        "skill_vs_snaive24": 1.0 - geometric(snaive),
        "ratio_vs_best_peer": geometric(best),
        "worst_ratio_vs_last": max((r for r in against_last if np.isfinite(r)), default=float("nan")),
        "mean_coverage80": float(np.nansum(points * covered) / max(1.0, points[np.isfinite(covered)].sum())),
    }


def _step(
    rival: Forecaster,
    scores: _Scores,
    fitted: dict[str, FittedForecaster],
    known: SeriesHistory,
    refit: bool,
    plan: Plan,
) -> None:
    """Refit a rival if it is time, and ask it; where it cannot be fitted yet the last value stands in for it."""
    name = rival.name
    usable = int(np.isfinite(known.values).sum())
    try:
        if usable >= rival.min_steps and (refit or name not in fitted):
            fitted[name] = _timed(scores.fit_seconds, partial(rival.fit, known, seed=plan.seed))
        if name in fitted:
            said = _timed(scores.issue_seconds, partial(fitted[name].predict, known, plan.horizon, QUANTILES))
            if np.isfinite(said).all():
                scores.said.append(said)
                return
    except Exception as error:  # a rival's library may fail in any way on a strange series; it is counted and told
        _log.warning("rival_failed", rival=name, series=known.name, error=str(error))
    scores.stood_in += 1
    stand_in = Public(Naive("last"), plan.horizon).fit(known, seed=0)
    scores.said.append(stand_in.predict(known, plan.horizon, QUANTILES))


def _timed(into: list[float], call: Callable[[], T]) -> T:
    began = time.perf_counter()
    out = call()
    into.append(time.perf_counter() - began)
    return out


def _season_error(history: SeriesHistory) -> float:
    values, day = history.values, history.per_day
    if len(values) <= day:
        return float("nan")
    return float(np.nanmean(np.abs(values[day:] - values[:-day])))


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs > 0 else float("nan")


def quick_choice(lengths: Mapping[str, int], count: int = 5) -> list[str]:
    """A few series spread over the range of lengths: what a quick run looks at."""
    ordered = sorted(lengths, key=lambda name: (lengths[name], name))
    if len(ordered) <= count:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]
