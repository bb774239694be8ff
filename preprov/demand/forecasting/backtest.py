"""The day-ahead yardstick on one series: daily origins at local midnight, weekly refits, everybody on the same days."""

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


# Told after every day: (days done, days in all).
Days = Callable[[int, int], None]


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
        raise ForecastError(
            f"too few whole days for a backtest: {len(whole)}, at least 3 are needed", where=history.name
        )
    count = plan.days if plan.days is not None else min(MOST_DAYS, round(SHARE * len(whole)))
    chosen = whole[-max(1, min(count, len(whole) - 1)) :]
    out: Ints = chosen[chosen > 0]
    return out


def score_scaler(history: SeriesHistory, plan: Plan, progress: Days | None = None) -> dict[str, Any]:
    """Score our scaler on one series.

    Args:
        history: all of it; at each origin is given what was known by then and no more than 400 days.
        plan: see there. progress: see Days.

    Returns:
        Metrics; fit_seconds, issue_seconds, cpu_seconds: of CPU, the longest of each and all of it; days, points:
        judged; history_days; fallback: why the last forecast rested on too little, or None.
    """
    spent = _Spent()
    model: ScalerModel | None = None

    def say(known: SeriesHistory, refit: bool) -> Floats:
        nonlocal model
        if refit or model is None:
            model = spent.fitting(partial(ScalerModel.fit, known, plan.config, plan.seed, previous=model))
        return spent.issuing(partial(model.predict, known, plan.horizon, QUANTILES)).values

    scored = _walk(history, plan, say, progress)
    return {
        **scored,
        "fit_seconds": spent.fit,
        "issue_seconds": spent.issue,
        "cpu_seconds": spent.all(),
        "history_days": len(history) / history.per_day,
        "fallback": model.fallback_reason if model else None,
    }


def score_peer(history: SeriesHistory, plan: Plan, peer: Forecaster, progress: Days | None = None) -> dict[str, Any]:
    """Score somebody else's forecaster on the same days, from the same history, refitted as often.

    Where it cannot be fitted yet, or fails, the last value stands in for it.

    Returns:
        Metrics, fit_seconds, cpu_seconds, days, points, and stood_in: days on which the last value spoke for it.
    """
    spent = _Spent()
    fitted: FittedForecaster | None = None
    stood_in = 0

    def say(known: SeriesHistory, refit: bool) -> Floats:
        nonlocal fitted, stood_in
        try:
            if int(np.isfinite(known.values).sum()) >= peer.min_steps and (refit or fitted is None):
                fitted = spent.fitting(partial(peer.fit, known, seed=plan.seed))
            if fitted is not None:
                said = fitted.predict(known, plan.horizon, QUANTILES)
                if np.isfinite(said).all():
                    return said
        except Exception as error:  # its library may fail in any way on a strange series; it is counted and told
            _log.warning("peer_failed", peer=peer.name, series=known.name, error=str(error))
        stood_in += 1
        return Public(Naive("last"), plan.horizon).fit(known, seed=0).predict(known, plan.horizon, QUANTILES)

    scored = _walk(history, plan, say, progress)
    return {**scored, "fit_seconds": spent.fit, "cpu_seconds": spent.all(), "stood_in": stood_in}


def backtest_series(history: SeriesHistory, plan: Plan, peers: Mapping[str, Forecaster]) -> dict[str, Any]:
    """Ours as `score_scaler` gives it, with "peers": name -> as `score_peer` gives it."""
    theirs = {name: score_peer(history, plan, peer) for name, peer in peers.items()}
    return {**score_scaler(history, plan), "peers": theirs}


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


class _Spent:
    """CPU seconds (one thread a model, so a busy machine changes nothing): longest fit, longest forecast, in all."""

    def __init__(self) -> None:
        self.fit = self.issue = 0.0
        self._began = time.process_time()

    def all(self) -> float:
        return time.process_time() - self._began

    def fitting(self, call: Callable[[], T]) -> T:
        out, seconds = _timed(call)
        self.fit = max(self.fit, seconds)
        return out

    def issuing(self, call: Callable[[], T]) -> T:
        out, seconds = _timed(call)
        self.issue = max(self.issue, seconds)
        return out


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.process_time()
    out = call()
    return out, time.process_time() - began


def _walk(
    history: SeriesHistory, plan: Plan, say: Callable[[SeriesHistory, bool], Floats], progress: Days | None
) -> dict[str, Any]:
    """Ask at every origin with what was known by then, and score what was said."""
    starts = origins(history, plan)
    said = []
    for day, start in enumerate(starts):
        known = history.window(max(0, int(start) - plan.config.max_days * history.per_day), int(start))
        said.append(say(known, day % REFIT_DAYS == 0))
        if progress:
            progress(day + 1, len(starts))
    actual = np.concatenate([history.values[s : s + plan.horizon] for s in starts])
    unit = _season_error(history.window(0, int(starts[0])))
    scored = metrics(actual, np.concatenate(said), QUANTILES, season_error=unit)
    return {**scored, "days": len(starts), "points": int(np.isfinite(actual).sum())}


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
