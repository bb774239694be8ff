"""Anomalous days: what is strange once is found, what comes back or stays is not."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from preprov.demand.watching.anomalies import AnomalousDay, anomalous_days
from preprov.model.series import SeriesHistory

START = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday


def history(days: int = 70, *, seed: int = 0, zone: str = "UTC", **changes: float) -> SeriesHistory:
    """Busy by day, quieter at weekends, 10 % noise; `d30=3.0` makes day 30 three times as big."""
    rng = np.random.default_rng(seed)
    values = np.empty((days, 24))
    for d in range(days):
        shape = np.where((np.arange(24) >= 8) & (np.arange(24) < 18), 10.0, 3.0) * (0.4 if d % 7 >= 5 else 1.0)
        values[d] = shape * rng.lognormal(0, 0.1, 24) * rng.lognormal(0, 0.08)
    for name, factor in changes.items():
        values[int(name[1:])] *= factor
    return SeriesHistory("s", zone, 3600, START, values.ravel())


def day(number: int) -> date:
    return (START + timedelta(days=number)).date()


def found(series: SeriesHistory, **more: object) -> dict[date, AnomalousDay]:
    return {a.day: a for a in anomalous_days(series, **more)}  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_ordinary_days_are_left_alone(seed: int) -> None:
    assert found(history(seed=seed)) == {}


def test_a_day_of_thrice_the_demand_and_one_of_none() -> None:
    strange = found(history(d30=3.0, d44=0.0))
    assert {d: a.kind for d, a in strange.items()} == {day(30): "high", day(44): "low"}
    assert "times what is usual" in strange[day(30)].reason
    assert strange[day(30)].z > 3.5


def test_a_day_turned_upside_down_has_a_strange_shape() -> None:
    series = history()
    values = series.values.copy()
    values[24 * 37 : 24 * 38] = np.roll(values[24 * 37 : 24 * 38], 12)
    upside = SeriesHistory("s", "UTC", 3600, START, values)
    (one,) = anomalous_days(upside)
    assert (one.day, one.kind) == (day(37), "shape")
    assert "other hours" in one.reason


def test_a_new_level_that_stays_is_no_anomaly() -> None:
    shifted = history(**{f"d{d}": 3.0 for d in range(50, 70)})
    assert found(shifted) == {}
    begun = history(**{f"d{d}": 3.0 for d in range(68, 70)})
    assert set(found(begun)) <= {day(68), day(69)}


def test_what_comes_back_each_month_is_learnt_from() -> None:
    ends = [d for d in range(120) if day(d + 1).day == 1]
    assert len(ends) == 3 or len(ends) == 4
    assert found(history(120, **{f"d{d}": 4.0 for d in ends})) == {}
    assert set(found(history(120, **{f"d{ends[1]}": 4.0}))) == {day(ends[1])}


def test_holidays_and_short_histories_are_not_judged() -> None:
    assert found(history(d30=3.0), holidays={day(30)}) == {}
    assert found(history(15, d10=5.0)) == {}


def test_gaps_zeros_and_a_change_of_clocks_do_no_harm() -> None:
    values = history(90, zone="Europe/Zurich").values.copy()
    values[24 * 20 + 3 : 24 * 22] = np.nan
    assert found(SeriesHistory("s", "Europe/Zurich", 3600, START, values)) == {}
    assert found(SeriesHistory("s", "UTC", 3600, START, np.zeros(24 * 40))) == {}
    assert found(SeriesHistory("s", "UTC", 3600, START, np.full(24 * 40, 5.0))) == {}


@pytest.mark.parametrize("share", [0.03, 0.15, 0.4, 0.6, 0.85])
def test_demand_that_comes_on_some_days_only_is_no_anomaly(share: float) -> None:
    rng = np.random.default_rng(3)
    values = history().values.reshape(-1, 24) * (rng.random(70) < share)[:, None]
    assert found(SeriesHistory("s", "UTC", 3600, START, values.ravel())) == {}
