"""Demand series: names, zones, steps, dirt."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprov.model.errors import ConfigError, SourceError
from preprov.sources.series import read_series


def table(**over: Any) -> pd.DataFrame:
    hours = pd.date_range("2025-01-01", periods=6, freq="h")
    return pd.DataFrame({"series": ["b"] * 3 + ["a"] * 3, "ts": hours, "demand": [1.0, 2, 3, 4, 5, 6]} | over)


def saved(path: Path, frame: pd.DataFrame) -> Path:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["s.parquet", "s.csv"])
def test_series_by_name(tmp_path: Path, name: str) -> None:
    a, b = read_series(saved(tmp_path / name, table()))
    assert (a.name, b.name) == ("a", "b")
    assert a.values.tolist() == [4, 5, 6]
    assert (a.start, a.step_seconds, a.zone) == (datetime(2025, 1, 1, 3, tzinfo=UTC), 3600, "UTC")


def test_one_of_them_and_none_of_them(tmp_path: Path) -> None:
    path = saved(tmp_path / "s.parquet", table())
    assert [s.name for s in read_series(path, "b")] == ["b"]
    with pytest.raises(SourceError, match="no series 'c'") as e:
        read_series(path, "c")
    assert "a, b" in e.value.hint


def test_a_table_without_names_is_one_series(tmp_path: Path) -> None:
    path = saved(tmp_path / "gpus.csv", table().drop(columns="series"))
    (one,) = read_series(path)
    assert (one.name, len(one)) == ("gpus", 6)


def test_wall_clock_is_in_the_zone_given(tmp_path: Path) -> None:
    path = saved(tmp_path / "s.csv", table())
    (a,) = read_series(path, "a", zone="US/Pacific")
    assert (a.zone, a.start) == ("America/Los_Angeles", datetime(2025, 1, 1, 11, tzinfo=UTC))
    with pytest.raises(ConfigError, match="Nowhere"):
        read_series(path, zone="Nowhere")


def test_zone_of_a_column_of_metadata_and_of_the_times(tmp_path: Path) -> None:
    assert read_series(saved(tmp_path / "c.csv", table(zone="Asia/Tokyo")))[0].zone == "Asia/Tokyo"
    arrow = pa.Table.from_pandas(table()).replace_schema_metadata({"tz": "Asia/Tokyo"})
    pq.write_table(arrow, tmp_path / "m.parquet")
    assert read_series(tmp_path / "m.parquet")[0].start == datetime(2024, 12, 31, 18, tzinfo=UTC)
    aware = pd.date_range("2025-01-01", periods=6, freq="h", tz="Europe/Zurich")
    (a,) = read_series(saved(tmp_path / "z.parquet", table(ts=aware)), "a")
    assert (a.zone, a.start) == ("Europe/Zurich", datetime(2025, 1, 1, 2, tzinfo=UTC))


@pytest.mark.parametrize("ts", [["2025-01-01T00:00:00Z", "2025-01-01T01:00:00Z"], [1735689600, 1735693200]])
def test_times_that_carry_their_zone(tmp_path: Path, ts: list[Any]) -> None:
    path = saved(tmp_path / "s.csv", pd.DataFrame({"ts": ts, "demand": [1, 2]}))
    (one,) = read_series(path, zone="Asia/Tokyo")
    assert (one.zone, one.start) == ("Asia/Tokyo", datetime(2025, 1, 1, tzinfo=UTC))


def test_the_repeated_hour_twice_and_the_skipped_one_not_at_all(tmp_path: Path) -> None:
    for day, hours in (("2025-10-26", [0, 1, 2, 2, 3, 4]), ("2025-03-30", [0, 1, 3, 4])):
        ts = [f"{day}T{h:02}:00:00" for h in hours]
        path = saved(tmp_path / "s.csv", pd.DataFrame({"ts": ts, "demand": range(len(ts))}))
        (one,) = read_series(path, zone="Europe/Zurich")
        assert one.values.tolist() == list(range(len(ts)))
        assert one.dirt.total == 0


def test_dirt_is_counted_and_never_guessed(tmp_path: Path) -> None:
    ts = [
        "2025-01-01T00:00",
        "2025-01-01T01:00",
        "2025-01-01T02:00",
        "nonsense",
        "2025-01-01T05:00",
        "2025-01-01T05:00",
    ]
    path = saved(tmp_path / "s.csv", pd.DataFrame({"ts": ts, "demand": ["1", "-1", "x", "4", "5", "7"]}))
    (one,) = read_series(path)
    assert np.isnan(one.values).tolist() == [False, True, True, True, True, False]
    assert one.values[-1] == 6
    assert (one.dirt.duplicates, one.dirt.negative, one.dirt.not_a_number) == (1, 1, 2)


@pytest.mark.parametrize(("minutes", "seconds"), [(5, 300), (60, 3600), (1440, 86400), (7, 3600)])
def test_step_is_the_commonest_distance_that_divides_a_day(tmp_path: Path, minutes: int, seconds: int) -> None:
    ts = pd.date_range("2025-01-01", periods=5, freq=f"{minutes}min")
    path = saved(tmp_path / "s.csv", pd.DataFrame({"ts": ts, "demand": 1.0}))
    assert read_series(path)[0].step_seconds == seconds
    assert read_series(path, step_seconds=900)[0].step_seconds == 900


def test_mapping_and_lacking_columns(tmp_path: Path) -> None:
    path = saved(tmp_path / "s.csv", table().rename(columns={"ts": "time", "demand": "cores"}))
    with pytest.raises(SourceError, match="lacks column ts, demand"):
        read_series(path)
    assert len(read_series(path, mapping={"ts": "time", "demand": "cores"})) == 2


def test_a_series_without_a_usable_row_is_left_out_and_a_file_of_them_is_an_error(tmp_path: Path) -> None:
    demand = [np.nan] * 3 + [4.0, 5, 6]
    assert [s.name for s in read_series(saved(tmp_path / "s.csv", table(demand=demand)))] == ["a"]
    with pytest.raises(SourceError, match="no usable series"):
        read_series(saved(tmp_path / "s.csv", table(demand=-1.0)))


@pytest.mark.slow
def test_real_series(traces: Path) -> None:
    series = {s.name: s for s in read_series(traces / "series" / "hourly_demand.parquet")}
    assert len(series) == 13
    assert {s.step_seconds for s in series.values()} == {3600}
    (nasa,) = read_series(traces / "series" / "hourly_demand.parquet", "nasa-ipsc-1993-3.1", zone="US/Pacific")
    assert (len(nasa), nasa.start) == (2209, datetime(1993, 10, 1, 7, tzinfo=UTC))
    assert nasa.dirt.total == 0  # the repeated hour of October stands twice, as it should
