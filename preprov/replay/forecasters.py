"""Policies that keep what a forecast from past demand says, as the clouds and the literature do. One knob each."""

import math
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from preprov.model.offerings import Standby
from preprov.model.time import from_epoch
from preprov.model.worktable import Array
from preprov.replay.policies import fill_up
from preprov.replay.policy import FloorPolicy, Order, Setting, View

HOUR: Final = 3600.0
DAY: Final = 86_400.0


class _Calendar:
    """Demand history with the local calendar of each step."""

    def __init__(self, setting: Setting) -> None:
        self._history = setting.history
        self._zone = ZoneInfo(setting.pool.zone)
        steps = setting.history.start + np.arange(len(setting.history.peak)) * setting.history.step_s
        instants = pd.DatetimeIndex((steps * 1e9).astype("datetime64[ns]"))
        local = instants.tz_localize("UTC").tz_convert(setting.pool.zone)
        self.weekday = np.asarray(local.dayofweek)
        self.second = np.asarray(local.hour * 3600 + local.minute * 60 + local.second)
        self.per_day = round(DAY / setting.history.step_s)

    def when(self, at: float) -> tuple[int, int]:
        """(weekday, second of the day) of an instant."""
        local = from_epoch(at).astimezone(self._zone)
        return local.weekday(), local.hour * 3600 + local.minute * 60 + local.second

    def past(self, now: float, days: int | None = None) -> slice:
        """Steps that had ended by now, of the last days."""
        last = len(self._history.until(now))
        return slice(0 if days is None else max(last - days * self.per_day, 0), last)

    def peaks(self, steps: slice) -> Array:
        """Peak demand of these steps."""
        return self._history.peak[steps]


class _Planned(FloorPolicy):
    """A floor by a table that is made anew every so often from what has happened by then."""

    refresh_s = DAY

    def prepare(self, setting: Setting) -> None:
        """Read the calendar; the first table is made at the first tick."""
        super().prepare(setting)
        self.calendar = _Calendar(setting)
        self._made = -math.inf
        self._lead_s = setting.lead(Standby.COLD).quantile(0.95)

    def floor(self, now: float, view: View) -> float:
        """The larger of what is planned for now and for when a node ordered now is ready."""
        if now - self._made >= self.refresh_s:
            self.plan(now)
            self._made = now
        return max(self.planned(now), self.planned(now + self.ahead_s))

    @property
    def ahead_s(self) -> float:
        """How far ahead nodes are ordered."""
        return self._lead_s

    def plan(self, now: float) -> None:
        """Make the table."""
        raise NotImplementedError

    def planned(self, at: float) -> float:
        """What the table says of an instant, in nodes."""
        raise NotImplementedError


class HourOfWeek(_Planned):
    """Scheduled scaling: for each hour of the week, a quantile of what that hour wanted so far. Knob: the quantile."""

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob=0.5 if knob is None else knob, name="schedule")

    def plan(self, now: float) -> None:
        """Quantile of the steps of each hour of the week, days without history taken from all days, else 0."""
        steps = self.calendar.past(now)
        hour = self.calendar.weekday[steps] * 24 + self.calendar.second[steps] // 3600
        peaks = self.calendar.peaks(steps)
        self._table = np.zeros(168)
        for h in range(168):
            mine = peaks[hour == h]
            mine = mine if len(mine) else peaks[hour % 24 == h % 24]
            self._table[h] = np.quantile(mine, self.knob) if len(mine) else 0.0

    def planned(self, at: float) -> float:
        """Of its hour of the week."""
        weekday, second = self.calendar.when(at)
        return float(self._table[weekday * 24 + second // 3600])


class AwsPredictive(_Planned):
    """Predictive scaling as AWS does it, with a warm pool of stopped nodes up to the most ever wanted.

    Every 6 h an hourly forecast for 48 h; capacity is raised at the start of the hour less a buffer and never lowered
    by the forecast itself: what idles is stopped by the reactive part. The forecast is the mean of the same hour
    yesterday and of that weekday in the last four weeks. Knob: target utilisation.
    """

    refresh_s = 6 * HOUR

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob=0.7 if knob is None else knob, name="aws-predictive", keep=Standby.STOPPED)
        self._table: dict[int, float] = {}
        self._most = 0

    @property
    def ahead_s(self) -> float:
        """The buffer: five minutes, or the lead time if that is longer."""
        return max(self._lead_s, 300.0)

    def plan(self, now: float) -> None:
        """Forecast 48 hours; the warm pool holds what is missing to the most ever wanted."""
        steps = self.calendar.past(now)
        peaks = self.calendar.peaks(steps)
        self._most = math.ceil(peaks.max(initial=0.0))
        self.kept = self._most
        per_hour = self.calendar.per_day // 24
        first = int(now // HOUR)
        for h in range(first, first + 49):
            seen = [self._mean_of_hour(peaks, h * HOUR - d * DAY, per_hour) for d in (1, 7, 14, 21, 28)]
            known = [v for v in seen if not math.isnan(v)]
            self._table[h] = float(np.mean(known)) if known else 0.0

    def _mean_of_hour(self, peaks: Array, begin: float, per_hour: int) -> float:
        history = self.setting.history
        i = round((begin - history.start) / history.step_s)
        if i < 0 or i + per_hour > len(peaks):
            return math.nan
        return float(peaks[i : i + per_hour].mean())

    def planned(self, at: float) -> float:
        """Forecast load over target utilisation."""
        return self._table.get(int(at // HOUR), 0.0) / self.knob

    def stock(self, view: View) -> list[Order]:
        """Fill the warm pool."""
        return fill_up(view, self._most)


class PoolingQuantile(_Planned):
    """A forecast quantile alone, by time of day over the last two weeks (weekdays and weekends apart), half-hourly.

    After Intelligent Pooling (VLDB 2024), which keeps a quantile of forecast demand ready. Knob: the quantile.
    """

    refresh_s = HOUR
    slot_s = 1800

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob=0.9 if knob is None else knob, name="pooling-quantile")

    def plan(self, now: float) -> None:
        """Quantiles by (weekend, half hour), neighbours included."""
        steps = self.calendar.past(now, days=14)
        slots = round(DAY / self.slot_s)
        slot = self.calendar.second[steps] // self.slot_s
        weekend = self.calendar.weekday[steps] >= 5
        peaks = self.calendar.peaks(steps)
        self._table = np.zeros((2, slots))
        for w in (0, 1):
            mine = weekend == bool(w) if (weekend == bool(w)).any() else np.ones(len(peaks), dtype=bool)
            for s in range(slots):
                near = mine & (np.minimum((slot - s) % slots, (s - slot) % slots) <= 1)
                self._table[w, s] = np.quantile(peaks[near], self.knob) if near.any() else 0.0

    def planned(self, at: float) -> float:
        """Of its half hour."""
        weekday, second = self.calendar.when(at)
        return float(self._table[int(weekday >= 5), second // self.slot_s])
