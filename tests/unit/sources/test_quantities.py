"""Amounts and times as people write them."""

from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.sources.quantities import cores, count, duration, gib, instant, mb_per_s

NOW = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)  # 00:30 in Zurich, an hour and a half before its clocks go forward


@pytest.mark.parametrize(("text", "value"), [(2, 2), ("0.5", 0.5), ("500m", 0.5), (" 250 m ", 0.25), (0, 0)])
def test_cores(text: Any, value: float) -> None:
    assert cores(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (4, 4),
        ("4", 4),
        ("4GiB", 4),
        ("4 Gi", 4),
        ("512MiB", 0.5),
        ("1TiB", 1024),
        ("2GB", 2e9 / 2**30),
        ("1024 kib", 2**-10),
    ],
)
def test_gib(text: Any, value: float) -> None:
    assert gib(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"), [(100, 100), ("100MB/s", 100), ("1 GB/s", 1000), ("5MBps", 5), ("1Gbit/s", 125)]
)
def test_rates(text: Any, value: float) -> None:
    assert mb_per_s(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (90, 90),
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("5min", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172800),
        ("1.5h", 5400),
        ("1w", 604800),
        ("PT5M", 300),
        ("250ms", None),
    ],
)
def test_durations(text: Any, value: float | None) -> None:
    if value is None:
        with pytest.raises(ValueError, match="not a duration"):
            duration(text)
    else:
        assert duration(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (f, t)
        for f in (cores, gib, mb_per_s, count, duration)
        for t in ("", "x", "-1", -1, None, True, "nan", float("inf"))
    ]
    + [(gib, "4 apples"), (duration, "5 minutes or so"), (cores, "xm"), (gib, "-4GiB"), (duration, "P")],
)
def test_what_is_no_amount(read: Any, text: Any) -> None:
    with pytest.raises(ValueError, match="is not"):
        read(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-03-28T23:30:00+00:00"),
        ("+2m", "2026-03-28T23:32:00+00:00"),
        ("00:29", "2026-03-29T22:29:00+00:00"),  # gone by today; tomorrow, in summer time
        ("00:31", "2026-03-28T23:31:00+00:00"),
        ("02:30", "2026-03-29T01:30:00+00:00"),  # a time that day does not have: moved on by the hour
        ("23:00:30", "2026-03-29T21:00:30+00:00"),
        ("2026-04-01T02:00", "2026-04-01T00:00:00+00:00"),
        ("2026-04-01 02:00:00Z", "2026-04-01T02:00:00+00:00"),
        ("2026-04-01", "2026-03-31T22:00:00+00:00"),
        (datetime(2026, 4, 1, 2, tzinfo=UTC), "2026-04-01T02:00:00+00:00"),
        (datetime(2026, 4, 1, 2), "2026-04-01T00:00:00+00:00"),  # noqa: DTZ001 - as TOML gives it
        (time(0, 31), "2026-03-28T23:31:00+00:00"),
    ],
)
def test_instants(text: Any, expected: str) -> None:
    assert instant(text, now=NOW, after=NOW, zone="Europe/Zurich").astimezone(UTC).isoformat() == expected


@pytest.mark.parametrize("text", ["tomorrow", "25:00", "+soon", "", "2026-13-01", "P1D"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        instant(text, now=NOW, after=NOW, zone="UTC")


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(0, 23),
    st.integers(0, 59),
    st.sampled_from(["UTC", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_a_time_of_day_is_the_next_one(after: datetime, hour: int, minute: int, zone: str) -> None:
    then = instant(f"{hour:02}:{minute:02}", now=after, after=after, zone=zone)
    assert 0 < (then - after).total_seconds() <= 49 * 3600
    local = then.astimezone(ZoneInfo(zone))
    assert (local.hour, local.minute) == (hour, minute) or local.utcoffset() != after.astimezone(
        ZoneInfo(zone)
    ).utcoffset()
