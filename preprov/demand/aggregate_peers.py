"""The peers that look at the aggregate demand alone, asked for what our curve is asked for.

Those that copy the past (last value, seasonal naive, 7-day profile) work on steps of five minutes, for means and for
the highest demand of windows alike. The heavier ones work on hourly means, hours counted back from the instant, and say
the same for all steps of an hour; they say nothing of windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import structlog

from preprov.demand.forecasting.member import Public
from preprov.demand.forecasting.naive import COPIES, Naive
from preprov.demand.forecasting.peers import peers
from preprov.demand.forecasting.protocol import FittedForecaster, Forecaster
from preprov.demand.judging import MEAN, STEP, STEPS, WINDOWS, Truth
from preprov.demand.runtime_tables import Floats
from preprov.model.demand import QUANTILES
from preprov.model.series import SeriesHistory
from preprov.model.time import from_epoch

_log = structlog.get_logger(__name__)

_HOUR: Final = 3_600
_HOURS: Final = STEPS * STEP // _HOUR
_MOST_DAYS: Final = 400
_PER_DAY: Final = 86_400 // STEP


@dataclass
class AggregatePeers:
    """Peers by name, fitted now and then and asked at any instant.

    Attributes:
        names: of `forecasting.peers.PEERS`. zone: IANA zone of the calendar.
    """

    names: Sequence[str]
    zone: str
    seed: int = 0
    _fitted: dict[tuple[str, str], FittedForecaster] = field(default_factory=dict)

    def fit(self, truth: Truth, at: datetime) -> None:
        """Fit all of them on what was known at `at`; one that cannot be fitted says nothing."""
        self._fitted.clear()
        hourly = [n for n in self.names if n not in COPIES]
        for name, forecaster in peers(hourly, horizon=_HOURS).items():
            self._fit(name, MEAN, forecaster, hours_before(truth, at, self.zone))
        for measure, series, extra in _series(truth, at, self.zone):
            for name in self.names:
                if name in COPIES:
                    self._fit(name, measure, Public(Naive(name), STEPS + extra, None, _PER_DAY), series)

    def _fit(self, name: str, measure: str, forecaster: Forecaster, history: SeriesHistory) -> None:
        if len(history) < max(forecaster.min_steps, 2):
            return
        try:
            self._fitted[name, measure] = forecaster.fit(history, seed=self.seed)
        except Exception as error:  # a peer's library may fail in any way on a strange series
            _log.warning("peer_failed", peer=name, error=str(error))

    def said(self, truth: Truth, at: datetime) -> dict[str, dict[str, Floats]]:
        """Name -> measure -> (STEPS, Q) quantiles, from what was known at `at`."""
        out: dict[str, dict[str, Floats]] = {}
        series = {measure: (history, extra) for measure, history, extra in _series(truth, at, self.zone)}
        hourly = hours_before(truth, at, self.zone)
        for (name, measure), fitted in self._fitted.items():
            if name in COPIES:
                history, extra = series[measure]
                values = fitted.predict(history, STEPS + extra, QUANTILES)[extra:]
            else:
                values = np.repeat(fitted.predict(hourly, _HOURS, QUANTILES), _HOUR // STEP, axis=0)
            out.setdefault(name, {})[measure] = np.maximum(values, 0.0)
        return out


def hours_before(truth: Truth, at: datetime, zone: str) -> SeriesHistory:
    """Hourly means of whole hours counted back from `at`."""
    end = truth.step_at(at)
    each = _HOUR // STEP
    hours = min(end // each, _MOST_DAYS * 24)
    values = truth.mean[end - hours * each : end].reshape(hours, each).mean(axis=1)
    return SeriesHistory("aggregate", zone, _HOUR, from_epoch(truth.start + (end - hours * each) * STEP), values)


def _series(truth: Truth, at: datetime, zone: str) -> list[tuple[str, SeriesHistory, int]]:
    """Measure, its history by the step, and how many steps after `at` its first window ends, less one."""
    end = truth.step_at(at)
    first = max(0, end - _MOST_DAYS * _PER_DAY)
    start = from_epoch(truth.start + first * STEP)
    columns: Mapping[str, Floats] = {MEAN: truth.mean, **{str(w): truth.highest(w) for w in WINDOWS}}
    extra = {MEAN: 0, **{str(w): w // STEP - 1 for w in WINDOWS}}
    return [(m, SeriesHistory("aggregate", zone, STEP, start, v[first:end]), extra[m]) for m, v in columns.items()]
