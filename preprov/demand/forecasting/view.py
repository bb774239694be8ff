"""A history as members look at it: filled causally, with rolling statistics and one feature row per (origin, horizon).

Everything at position i is computed from positions <= i (the calendar apart, which is known ahead), so a row for an
origin is the same bits whatever follows the origin.
"""

from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.forecasting import calendar
from preprov.model.series import SeriesHistory

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WINDOWS_HOURS: Final = (3, 6, 12, 24, 72, 168, 672)
_SPREADS_HOURS: Final = (6, 24, 168)
_DAYS_BACK: Final = 7
_WEEKS_BACK: Final = 4


class View:
    """One history, prepared once and shared by all members.

    Attributes:
        raw: (T,) as observed, NaN = unknown. filled: (T,) gaps filled from their past. typical: (T,) as `filled`, with
            quarantined steps replaced too: what seasonal members copy from. learnable: (T,) observed and not
            quarantined. base: number of the first step since the epoch, so that steps have the same number in every
            history of the series.
    """

    def __init__(self, history: SeriesHistory, country: str | None = None) -> None:
        self.history = history
        self.country = country
        self.per_day = history.per_day
        self.raw = history.values
        self.base = int(history.start.timestamp()) // history.step_seconds
        missing = np.isnan(self.raw)
        strange = np.zeros(len(self.raw), dtype=bool) if history.quarantined is None else history.quarantined
        self.learnable = ~(missing | strange)
        self.filled = fill(self.raw, missing, self.per_day)
        self.typical = self.filled if not strange.any() else fill(self.raw, missing | strange, self.per_day)

    def __len__(self) -> int:
        return len(self.raw)

    def hours(self, count: float) -> int:
        """Steps in so many hours, at least one."""
        return max(1, round(count * self.per_day / 24))

    def bucket(self, origins: Ints) -> Ints:
        """Hour of the (UTC) day in which each origin's forecast begins: 0..23."""
        out: Ints = ((self.base + origins + 1) % self.per_day) * 24 // self.per_day
        return out

    def step_of_week(self, positions: Ints) -> Ints:
        """Step since Monday 00:00 on the local clock, for positions of any shape, up to a week beyond the end."""
        out: Ints = self._week[np.minimum(positions, len(self._week) - 1)]
        return out

    @cached_property
    def _week(self) -> Ints:
        hour, weekday = (self._calendar[:, calendar.NAMES.index(name)] for name in ("hour", "weekday"))
        out: Ints = (weekday * self.per_day + np.floor(hour * self.per_day / 24 + 1e-3)).astype(np.int64)
        return out

    @cached_property
    def _calendar(self) -> NDArray[np.float32]:
        # Known ahead: two days and more beyond the end, enough for every horizon asked of a day-ahead engine.
        step = pd.Timedelta(seconds=self.history.step_seconds)
        index = pd.date_range(self.history.start, periods=len(self) + 8 * self.per_day, freq=step)
        return calendar.calendar(index.tz_convert(self.history.zone), self.country)

    @cached_property
    def rolling(self) -> dict[str, Floats]:
        """Name -> (T,) statistic of the window that ends with each step."""
        series = pd.Series(self.filled)
        out: dict[str, Floats] = {}
        for hours in _WINDOWS_HOURS:
            out[f"mean_{hours}h"] = series.rolling(self.hours(hours), min_periods=1).mean().to_numpy()
        for hours in _SPREADS_HOURS:
            window = series.rolling(max(2, self.hours(hours)), min_periods=1)
            out[f"std_{hours}h"] = window.std(ddof=0).fillna(0.0).to_numpy(np.float64)
        day = series.rolling(self.per_day, min_periods=1)
        out["max_24h"], out["min_24h"] = day.max().to_numpy(), day.min().to_numpy()
        return out

    @cached_property
    def _exogenous(self) -> dict[str, Floats]:
        out: dict[str, Floats] = {}
        for name, column in self.history.exogenous.items():
            known = pd.Series(column).ffill().fillna(0.0)
            out[f"{name}_last"] = np.asarray(known, dtype=np.float64)
            out[f"{name}_mean_24h"] = known.rolling(self.per_day, min_periods=1).mean().to_numpy(np.float64)
        return out

    def back(self, origins: Ints, ahead: Ints, period: int, repeats: int) -> Ints:
        """(N, repeats) positions of the target's step one, two, ... periods before it, all known at the origin.

        Positions before the beginning wrap forward by whole periods where they can, else stop at 0.
        """
        first = -(-ahead // period)
        steps = (first[:, None] + np.arange(repeats)[None, :]) * period
        position = (origins + ahead)[:, None] - steps
        room = origins + ahead - first * period
        wrapped = np.where(room >= 0, room % period, 0)[:, None]
        out: Ints = np.where(position >= 0, position, np.maximum(wrapped, 0))
        return np.minimum(out, origins[:, None])

    def names(self) -> tuple[str, ...]:
        """Names of the feature columns, in order."""
        lags = ("day_back", "week_back", "days_mean", "weeks_mean", "day_change", "days_change", "week_change")
        recent = ("last", "change_1h", "change_3h", "change_24h")
        exogenous = tuple(self._exogenous)
        return ("ahead_hours", *calendar.NAMES, *recent, *self.rolling, *lags, *exogenous)

    def rows(self, origins: Ints, ahead: Ints) -> NDArray[np.float32]:
        """(N, F) features known at each origin (position of the last observed step) for the step `ahead` of it.

        Levels are relative to the last value, which stands beside them: trees then share what they learn across levels.
        """
        target = origins + ahead
        last = self.filled[origins]
        day, week = self.per_day, 7 * self.per_day
        days = self.typical[self.back(origins, ahead, day, _DAYS_BACK)]
        weeks = self.typical[self.back(origins, ahead, week, _WEEKS_BACK)]
        then = self.typical[self._before(origins, ahead, day, _DAYS_BACK)]
        week_then = self.typical[self._before(origins, ahead, week, 1)]
        columns: list[NDArray[Any]] = [24.0 * ahead / day]
        columns += list(self._calendar[np.minimum(target, len(self._calendar) - 1)].T)
        columns += [last]
        columns += [last - self.filled[np.maximum(origins - self.hours(h), 0)] for h in (1, 3, 24)]
        for name, column in self.rolling.items():
            columns.append(column[origins] if name.startswith("std") else column[origins] - last)
        columns += [days[:, 0] - last, weeks[:, 0] - last, days.mean(axis=1) - last, weeks.mean(axis=1) - last]
        columns += [days[:, 0] - then[:, 0], (days - then).mean(axis=1), weeks[:, 0] - week_then[:, 0]]
        columns += [column[origins] for column in self._exogenous.values()]
        return np.stack(columns, axis=1).astype(np.float32)

    def _before(self, origins: Ints, ahead: Ints, period: int, repeats: int) -> Ints:
        """(N, repeats) positions of the origin's own step, as many periods back as `back` goes."""
        steps = (-(-ahead // period)[:, None] + np.arange(repeats)[None, :]) * period
        position = origins[:, None] - steps
        return np.where(position >= 0, position, np.maximum(origins[:, None] % period, 0))


def fill(values: Floats, missing: NDArray[np.bool_], per_day: int) -> Floats:
    """Fill gaps from their past only: up to three hours hold the last value, longer ones repeat the week or day before.

    What comes before the first known step takes its value: it is never learnt from.
    """
    if not missing.any():
        return values
    out = np.where(missing, np.nan, values)
    known = np.flatnonzero(~missing)
    if not len(known):
        return np.zeros_like(values)
    short, week = max(1, per_day // 8), 7 * per_day
    first = int(known[0])
    out[:first] = out[first]
    run = 0
    for i in np.flatnonzero(missing[first:]) + first:
        run = run + 1 if missing[i - 1] else 1
        lag = 1 if run <= short else next((p for p in (week, per_day) if i - p >= first), 1)
        out[i] = out[i - lag]
    return out
