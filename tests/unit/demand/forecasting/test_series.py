"""A history is cleaned at the door, counts what was dirty, and can be cut without a trace of what came after."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from preprov.model.errors import ForecastError
from preprov.model.series import SeriesHistory

START = datetime(2025, 3, 3, tzinfo=UTC)


def frame(times: list[str], demand: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"ts": pd.to_datetime(times), "demand": demand})


def test_the_repeated_hour_stands_twice_and_both_are_kept() -> None:
    rows = frame(
        ["2025-10-26 01:00", "2025-10-26 02:00", "2025-10-26 02:00", "2025-10-26 03:00"],
        [1.0, 2.0, 3.0, 4.0],
    )
    series = SeriesHistory.from_wall_clock(rows, name="x", zone="Europe/Zurich")
    assert series.values.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert series.start == datetime(2025, 10, 25, 23, tzinfo=UTC)
    assert series.dirt.total == 0
    assert [t.hour for t in series.local_index()] == [1, 2, 2, 3]


def test_the_missing_hour_is_no_gap() -> None:
    rows = frame(["2025-03-30 01:00", "2025-03-30 03:00", "2025-03-30 04:00"], [1.0, 2.0, 3.0])
    series = SeriesHistory.from_wall_clock(rows, name="x", zone="Europe/Zurich")
    assert series.values.tolist() == [1.0, 2.0, 3.0]
    assert series.dirt.gaps == 0


def test_a_row_in_the_hour_that_never_was_is_counted() -> None:
    rows = frame(["2025-03-30 01:00", "2025-03-30 02:00", "2025-03-30 03:00"], [1.0, 9.0, 3.0])
    series = SeriesHistory.from_wall_clock(rows, name="x", zone="Europe/Zurich")
    assert series.values.tolist() == [1.0, 3.0]
    assert series.dirt.nonexistent == 1


def test_duplicates_are_averaged_gaps_are_nan_bad_values_are_counted() -> None:
    rows = frame(
        ["2025-01-01 05:00", "2025-01-01 00:00", "2025-01-01 00:20", "2025-01-01 02:00", "2025-01-01 03:00"],
        [5.0, 1.0, 3.0, -2.0, "broken"],
    )
    series = SeriesHistory.from_wall_clock(rows, name="x", zone="UTC")
    np.testing.assert_array_equal(series.values, [2.0, np.nan, np.nan, np.nan, np.nan, 5.0])
    assert (series.dirt.duplicates, series.dirt.gaps) == (1, 4)
    assert (series.dirt.negative, series.dirt.not_a_number) == (1, 1)


def test_aware_times_need_no_zone_of_their_own() -> None:
    rows = pd.DataFrame({"ts": pd.to_datetime(["2025-01-01T00:00+02:00", "2025-01-01T01:00+02:00"]), "demand": [1, 2]})
    series = SeriesHistory.from_wall_clock(rows, name="x", zone="Europe/Zurich")
    assert series.start == datetime(2024, 12, 31, 22, tzinfo=UTC)


def test_exogenous_columns_travel_with_the_demand() -> None:
    rows = frame(["2025-01-01 00:00", "2025-01-01 01:00"], [1.0, 2.0]).assign(queue=[7.0, np.inf])
    series = SeriesHistory.from_wall_clock(rows, name="x", exogenous=("queue",))
    np.testing.assert_array_equal(series.exogenous["queue"], [7.0, np.nan])


@pytest.mark.parametrize("demand", [[-1.0, -2.0], [float("nan"), float("nan")], ["a", "b"]])
def test_nothing_usable_is_an_error(demand: list[object]) -> None:
    with pytest.raises(ForecastError, match="no row has"):
        SeriesHistory.from_wall_clock(frame(["2025-01-01 00:00", "2025-01-01 01:00"], demand), name="x")


def test_until_keeps_only_steps_that_have_ended() -> None:
    series = SeriesHistory("x", "UTC", 3600, START, np.arange(10.0), np.arange(10) > 7, {"load": np.arange(10.0)})
    cut = series.until(START + timedelta(hours=3, minutes=59))
    assert cut.values.tolist() == [0.0, 1.0, 2.0]
    assert cut.end == START + timedelta(hours=3)
    assert cut.quarantined is not None
    assert len(cut.quarantined) == len(cut.exogenous["load"]) == 3
    assert cut.values.base is None or cut.values.base.size == 3  # nothing of the future stays reachable
    assert len(series.until(START - timedelta(days=1))) == 0
    assert len(series.until(START + timedelta(days=9))) == 10


def test_values_cannot_be_changed() -> None:
    series = SeriesHistory("x", "UTC", 3600, START, np.arange(3.0))
    with pytest.raises(ValueError, match="read-only"):
        series.values[0] = 9.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zone": "Mars/Base"}, "unknown time zone"),
        ({"name": ""}, "needs a name"),
        ({"step_seconds": 7}, "does not divide a day"),
        ({"values": np.zeros((2, 2))}, "one-dimensional"),
        ({"values": np.array([1.0, np.inf])}, "infinity"),
        ({"quarantined": np.array([True])}, "has 1 steps"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, object], message: str) -> None:
    good = {"name": "x", "zone": "UTC", "step_seconds": 3600, "start": START, "values": np.arange(3.0)}
    with pytest.raises(ForecastError, match=message):
        SeriesHistory(**{**good, **change})  # type: ignore[arg-type]
