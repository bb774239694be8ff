"""A history by the day: totals, shapes, and what is usual on such a day."""

from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.forecasting import calendar
from preprov.model.series import SeriesHistory

Floats = NDArray[np.float64]

_WEEKS: Final = 4
_NIGHT_HOURS: Final = 6
_KNOWN_SHARE: Final = 0.9


@dataclass(frozen=True, eq=False)
class Days:
    """D whole days of a history, oldest first, in its own zone.

    Attributes:
        day: dates. total: (D,) mean demand. shape: (D, 24) share of the day's demand in each hour; even if none.
        peak_share: (D,) of the highest hour. night_share: (D,) of the first six hours.
    """

    day: tuple[date, ...]
    total: Floats
    shape: Floats

    def __len__(self) -> int:
        return len(self.day)

    @property
    def peak_share(self) -> Floats:
        """(D,)."""
        out: Floats = self.shape.max(axis=1)
        return out

    @property
    def night_share(self) -> Floats:
        """(D,)."""
        out: Floats = self.shape[:, :_NIGHT_HOURS].sum(axis=1)
        return out


def days_of(history: SeriesHistory) -> Days:
    """The days of which nine tenths are known; an hour that a change of clocks repeats or skips does no harm."""
    local = history.local_index()
    frame = pd.DataFrame({"day": local.date, "hour": local.hour, "value": history.values})
    hourly = frame.pivot_table(index="day", columns="hour", values="value", aggfunc="mean")
    hourly = hourly.reindex(columns=range(24))
    whole = hourly[hourly.notna().sum(axis=1) >= _KNOWN_SHARE * 24]
    values = whole.to_numpy(np.float64)
    if not len(values):
        return Days((), np.zeros(0), np.zeros((0, 24)))
    mean = np.nanmean(values, axis=1)
    filled = np.where(np.isfinite(values), values, mean[:, None])
    sums = filled.sum(axis=1, keepdims=True)
    shape = np.where(sums > 0, filled / np.where(sums > 0, sums, 1.0), 1 / 24)
    return Days(tuple(whole.index), mean, shape)


def typical(days: Days) -> tuple[Floats, Floats]:
    """(D,) totals and (D, 24) shapes usual for each day: medians over the same weekday in the weeks around it.

    Four weeks before and after; the day itself is not among them.
    """
    ordinal = np.array([d.toordinal() for d in days.day])
    total, shape = np.empty(len(days)), np.empty((len(days), 24))
    for i in range(len(days)):
        weeks, rest = np.divmod(np.abs(ordinal - ordinal[i]), 7)
        alike = np.flatnonzero((rest == 0) & (weeks >= 1) & (weeks <= _WEEKS))
        if len(alike) < 2:
            alike = np.flatnonzero((np.abs(ordinal - ordinal[i]) <= 7) & (ordinal != ordinal[i]))
        if not len(alike):
            alike = np.array([i])
        total[i] = np.median(days.total[alike])
        shape[i] = np.median(days.shape[alike], axis=0)
    return total, shape


def special_days(history: SeriesHistory, country: str | None) -> frozenset[date]:
    """Holidays, and the days before and after one, within the history; none without a country.

    Raises:
        ForecastError: `country` is not one that the holidays library knows.
    """
    if country is None or not len(history):
        return frozenset()
    local = history.local_index()
    days = pd.date_range(local[0].normalize(), local[-1].normalize(), freq="D")
    table = calendar.calendar(days, country)
    columns = [calendar.NAMES.index(n) for n in ("holiday", "day_before_holiday", "day_after_holiday")]
    special = np.flatnonzero((table[:, columns] > 0).any(axis=1)).tolist()
    return frozenset(days[i].date() for i in special)
