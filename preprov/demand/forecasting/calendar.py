"""Calendar features of each step in the pool's own zone: clock, week, season, holidays, ends of month and quarter."""

from functools import lru_cache
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.model.errors import ForecastError

NAMES: Final = (
    "hour",
    "weekday",
    "weekend",
    "season_sin",
    "season_cos",
    "day_of_month",
    "days_to_month_end",
    "days_to_quarter_end",
    "holiday",
    "day_before_holiday",
    "day_after_holiday",
)


def calendar(local: pd.DatetimeIndex, country: str | None) -> NDArray[np.float32]:
    """(N, len(NAMES)) features of local times; holidays are all zero without a country.

    Raises:
        ForecastError: `country` is not one that the holidays library knows.
    """
    wall = local.tz_localize(None)
    days = wall.normalize()
    unique, inverse = np.unique(days.to_numpy(), return_inverse=True)
    by_day = _days(pd.DatetimeIndex(unique), country)
    hour = (wall - days) / pd.Timedelta(hours=1)
    out = np.empty((len(local), len(NAMES)), dtype=np.float32)
    out[:, 0] = hour.to_numpy()
    out[:, 1:] = by_day[inverse]
    return out


def _days(days: pd.DatetimeIndex, country: str | None) -> NDArray[np.float64]:
    angle = 2 * np.pi * (days.dayofyear.to_numpy() - 1) / 365.25
    month_end = (days + pd.offsets.MonthEnd(0)).normalize()
    quarter_end = (days + pd.offsets.QuarterEnd(0, startingMonth=3)).normalize()
    weekday = days.dayofweek.to_numpy()
    one = pd.Timedelta(days=1)
    columns = [
        weekday,
        weekday >= 5,
        np.sin(angle),
        np.cos(angle),
        days.day.to_numpy(),
        ((month_end - days) / one).to_numpy(),
        ((quarter_end - days) / one).to_numpy(),
        _is_holiday(days, country),
        _is_holiday(days + one, country),
        _is_holiday(days - one, country),
    ]
    return np.stack([np.asarray(c, dtype=np.float64) for c in columns], axis=1)


def _is_holiday(days: pd.DatetimeIndex, country: str | None) -> NDArray[np.float64]:
    if country is None or not len(days):
        return np.zeros(len(days))
    known = _holidays(country, tuple(range(int(days.year.min()), int(days.year.max()) + 1)))
    return np.array([day.date() in known for day in days], dtype=np.float64)


@lru_cache(maxsize=64)
def _holidays(country: str, years: tuple[int, ...]) -> frozenset[object]:
    import holidays

    code, _, subdivision = country.partition("-")
    try:
        return frozenset(holidays.country_holidays(code, subdiv=subdivision or None, years=years))
    except NotImplementedError as error:
        raise ForecastError(f"no holidays known for {country!r}", hint="an ISO 3166 code: CH, US, US-CA") from error
