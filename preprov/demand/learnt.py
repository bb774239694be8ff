"""The learnt part: demand of work that nothing announced, as joint sample paths of all five resources."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprov.demand.arrivals import PredictedRun
from preprov.demand.following import foreseeable
from preprov.demand.forecasting.registry import DEFAULT
from preprov.demand.forecasting.scaler import LearntForecast, ScalerConfig, ScalerModel
from preprov.demand.inputs import DemandInputs
from preprov.demand.learnt_model import LearntModel
from preprov.demand.pickup import Live, blended
from preprov.demand.recurrence import recurrences
from preprov.demand.remainder import HOUR, Remainder, announced, remainder
from preprov.demand.runtime_tables import Floats, Singles
from preprov.demand.spreading import Cells, LearntDemand, days_before, dealt, issued, refined
from preprov.model.errors import ForecastError
from preprov.model.resources import KINDS
from preprov.model.series import SeriesHistory
from preprov.model.time import epoch, from_epoch

_TOLD: Final = 8
_HORIZON: Final = 26  # a day, the hour begun, and an hour to spare for a start at the next full one


def fit_learnt(
    given: DemandInputs, config: ScalerConfig | None = None, *, previous: LearntModel | None = None
) -> LearntModel:
    """Fit the scaler on the hourly demand of unannounced runs, or on the ingested series if there are no runs.

    A pool without any usable history gets a model without a scaler, which says why; it is not an error.

    Args:
        given: what is known. config: of the scaler.
        previous: the model in use until now: its record goes on, which saves the replay of the past.
    """
    settings = config or learnt_config(given)
    try:
        taught = teaching(given)
    except ForecastError as error:
        return LearntModel(None, reason=error.what)
    before = previous.scaler if previous is not None and (previous.kind, previous.source) == taught[1:] else None
    try:
        scaler = ScalerModel.fit(taught.history, settings, given.seed, previous=before)
        coverage = scaler.predict(taught.history, settings.horizon).coverage
    except ForecastError as error:
        return LearntModel(None, taught.kind, taught.source, error.what)
    metrics = {f"coverage_{k}": float(v) for k, v in coverage.items() if np.isfinite(v)}
    known = int(np.isfinite(taught.history.values).sum())
    metrics["known_days"] = known * taught.history.step_seconds / 86_400
    return LearntModel(scaler, taught.kind, taught.source, scaler.fallback_reason or "", metrics)


class Teaching(NamedTuple):
    """What the model of unannounced demand is learnt from: hours of one resource, and whether of runs or a series."""

    history: SeriesHistory
    kind: str
    source: str


def learnt_config(given: DemandInputs) -> ScalerConfig:
    """The design for a pool: the default one, and what its configuration lets join the mix."""
    members = (*DEFAULT, *(n for n in given.pool.forecasters if n not in DEFAULT))
    return ScalerConfig(members=members, horizon=_HORIZON, country=given.pool.country)


def teaching(given: DemandInputs) -> Teaching:
    """The hourly history that `fit_learnt` fits, quarantined days marked.

    Raises:
        ForecastError: there is not one full hour, or the ingested series has steps that do not make up hours.
    """
    seen = given.seen.as_of(given.at)
    covered, _ = expected_otherwise(replace(given, seen=seen), given.at)
    past = remainder(seen, covered, epoch(given.at), HOUR)
    kind = _leading_kind(past, given.pool.binding)
    source = "series" if given.series is not None and not len(seen.runs) else "runs"
    return Teaching(_history(given, past, kind, source), kind, source)


def expected_otherwise(given: DemandInputs, until: datetime) -> tuple[NDArray[np.bool_], tuple[PredictedRun, ...]]:
    """(R,) seen runs that a schedule or a recurrence explains, and the recurring runs expected before `until`.

    `given.seen` must have been seen `as_of(given.at)`.
    """
    covered = announced(given.seen, given.schedules, [p.dag_id for p in given.predicted])
    if not given.recurring:
        return covered, ()
    told = foreseeable(given.schedules)
    scheduled = {s.dag_id for s in given.schedules if s.paused or s.dag_id in told}
    scheduled |= {p.dag_id for p in given.predicted}
    found = recurrences(given.seen, given.at, until, given.pool.zone, scheduled)
    return covered | found.covered, found.runs


def issue_learnt(
    given: DemandInputs, covered: NDArray[np.bool_], step: int, steps: int, live: Singles | None = None
) -> LearntDemand:
    """Unannounced demand over `steps` steps of `step` seconds from `given.start`.

    Args:
        given: its work must have been seen `as_of(given.at)`.
        covered: (R,) runs that something announced: they are known demand, not learnt from.
        live: (S, steps, 5) mean demand of live runs that nothing announced: what comes depends on what of it ends.
    """
    now = epoch(given.at)
    cells = Cells.of(now, epoch(given.start), step, steps)
    past = remainder(given.seen, covered, now, cells.base)
    model = given.learnt if given.learnt is not None else LearntModel(None, reason="no model of it was fitted yet")
    source = "series" if given.series is not None and not len(given.seen.runs) else "runs"
    kind = model.kind if model.scaler is not None else _leading_kind(past, given.pool.binding)
    basis: dict[str, object] = {"learnt_from": source, "learnt_resource": kind, "learnt_runs": past.runs}
    try:
        history = _history(given, past, kind, source)
    except ForecastError as error:
        return LearntDemand.nothing(given.n_samples, steps, {**basis, "fallback": error.what})
    paths, told = _hourly(model, history, cells, given.n_samples, given.seed)
    ends = history.end.timestamp()
    number = KINDS.index(kind)
    mean, peak = refined(past, cells.pick(paths, ends), number, given.seed)
    if source == "runs":
        new = past.fresh_share(cells.leads, number).astype(np.float32)[None, :, None]
        left = Live.of(live, number, epoch(given.start) - now, step)
        mean, peak = blended(past, now, cells, (mean * new, peak * new), left, number, given.pool.zone, given.seed)
    return issued(cells, mean, peak, {**basis, **told})


def _hourly(
    model: LearntModel, history: SeriesHistory, cells: Cells, samples: int, seed: int
) -> tuple[Floats, dict[str, object]]:
    """(S, H) sample paths of the hours after the history, and how they were made."""
    ahead = max(1, int(np.ceil((cells.end - history.end.timestamp()) / HOUR)))
    reason = model.reason
    if model.scaler is not None:
        try:
            forecast = model.scaler.predict(history, min(ahead, model.scaler.config.horizon))
        except ForecastError as error:
            reason = f"the model cannot be asked: {error.what}"
        else:
            told: dict[str, object] = {
                "learnt_model": model.version or "not stored",
                "coverage": {k: float(v) for k, v in forecast.coverage.items()},
                "members": {k: round(v, 4) for k, v in forecast.weights.items() if v >= 0.005},
                "fallback": forecast.fallback_reason or "",
                "features": _largest(forecast.importances),
                "moved_by": _moved(forecast),
            }
            return dealt(forecast.samples, samples, seed), told
    return days_before(history, min(ahead, 24), samples, seed), {"fallback": f"past days as they were: {reason}"}


def _largest(importances: Mapping[str, float]) -> dict[str, float]:
    """The features that explain most of the forest's splits, largest first."""
    return {name: round(share, 4) for name, share in list(importances.items())[:_TOLD] if share > 0}


def _moved(forecast: LearntForecast) -> dict[str, dict[str, float]]:
    """Beginning of each hour -> feature -> how far it moved the forest from its average, in units of demand."""
    begin = epoch(forecast.issued_at)
    return {
        from_epoch(begin + number * forecast.step_seconds).isoformat(): {name: round(by, 4) for name, by in features}
        for number, features in enumerate(forecast.top_features)
    }


def _leading_kind(past: Remainder, binding: tuple[str, ...]) -> str:
    """The resource that is modelled: the first binding one that such demand ever wanted; the others follow it."""
    wanted = past.hours.sum(axis=0)
    return next((k for k in binding if wanted[KINDS.index(k)] > 0), binding[0] if binding else KINDS[0])


def _history(given: DemandInputs, past: Remainder, kind: str, source: str) -> SeriesHistory:
    """Hourly history of one resource up to the last full hour known.

    Raises:
        ForecastError: there is not one full hour, or the ingested series has steps that do not make up hours.
    """
    if source == "series" and given.series is not None:
        history = _by_the_hour(given.series.until(given.at))
    else:
        values = past.hours[:, KINDS.index(kind)]
        history = SeriesHistory(given.pool.name, given.pool.zone, HOUR, from_epoch(past.start), values)
    if not np.any(np.isfinite(history.values)):
        raise ForecastError("not one full hour of history", where=given.pool.name, hint="wait, or ingest history")
    if not given.quarantined:
        return history
    strange = np.array([day in given.quarantined for day in history.local_index().date])
    return replace(history, quarantined=strange)


def _by_the_hour(series: SeriesHistory) -> SeriesHistory:
    if series.step_seconds == HOUR:
        return series
    if HOUR % series.step_seconds:
        what = f"the series has steps of {series.step_seconds} s"
        raise ForecastError(what, where=series.name, hint="hourly steps, or ones that divide an hour, are needed")
    n = HOUR // series.step_seconds
    skip = int(-series.start.timestamp() % HOUR) // series.step_seconds
    whole = (len(series) - skip) // n
    values = series.values[skip : skip + whole * n].reshape(whole, n)
    known = np.isfinite(values)
    mean = np.where(known.any(axis=1), np.nansum(values, axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)
    start = from_epoch(series.start.timestamp() + skip * series.step_seconds)
    return SeriesHistory(series.name, series.zone, HOUR, start, mean)
