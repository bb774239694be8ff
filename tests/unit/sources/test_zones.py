"""Names of zones, plain offsets, and the zone that crons betray."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.sources.zones import canonical_zone, infer_zone, offset_zone


@pytest.mark.parametrize(
    ("name", "today"),
    [
        ("US/Pacific", "America/Los_Angeles"),
        ("US/Mountain", "America/Denver"),
        ("Europe/Stockholm", "Europe/Stockholm"),  # a link in the database, but its own country's zone
        ("Asia/Calcutta", "Asia/Kolkata"),
        ("GMT", "UTC"),
        ("UTC", "UTC"),
        ("Z", None),
        ("Etc/GMT+8", "Etc/GMT+8"),
        (" 'Europe/Paris' ", "Europe/Paris"),
        ("Mars/Olympus", None),
        ("", None),
        ("../../etc/passwd", None),
    ],
)
def test_canonical_zone(name: str, today: str | None) -> None:
    assert canonical_zone(name) == today


def test_every_zone_there_is_has_a_name_of_today() -> None:
    for name in available_timezones():
        today = canonical_zone(name)
        assert today is not None
        assert canonical_zone(today) == today
        at = datetime(2024, 7, 1, tzinfo=UTC)
        assert at.astimezone(ZoneInfo(name)).utcoffset() == at.astimezone(ZoneInfo(today)).utcoffset()


@given(st.integers(-12, 14))
def test_offset_zone_is_always_that_far_from_greenwich(hours: int) -> None:
    zone = offset_zone(hours * 3600)
    assert zone is not None
    for month in (1, 7):
        assert datetime(2024, month, 1, tzinfo=ZoneInfo(zone)).utcoffset() == timedelta(hours=hours)


def test_offsets_that_are_no_whole_hours() -> None:
    assert offset_zone(19_800) == "Asia/Kolkata"
    assert offset_zone(20_700) == "Asia/Kathmandu"
    assert offset_zone(1234) is None
    assert offset_zone(20 * 3600) is None


def turns(zone: str, cron: str, hour: int, minute: int, first: datetime, days: int) -> list[tuple[str, datetime]]:
    tz = ZoneInfo(zone)
    walls = [first.replace(hour=hour, minute=minute, tzinfo=tz) + timedelta(days=d) for d in range(days)]
    return [(cron, w.astimezone(UTC)) for w in walls]


@given(
    st.sampled_from(
        ["Europe/Zurich", "America/New_York", "America/Phoenix", "Australia/Sydney", "Asia/Kolkata", "UTC"]
    ),
    st.integers(4, 23),
    st.integers(0, 59),
)
def test_two_changes_of_clocks_betray_a_zone(zone: str, hour: int, minute: int) -> None:
    guess = infer_zone(turns(zone, f"{minute} {hour} * * *", hour, minute, datetime(2025, 1, 10, tzinfo=UTC), 360))
    assert guess is not None
    assert guess.zone == zone
    assert guess.share == 1
    assert not guess.ambiguous


def test_a_few_odd_turns_do_not_mislead() -> None:
    good = turns("Europe/Zurich", "30 3 * * *", 3, 30, datetime(2025, 9, 1, tzinfo=UTC), 90)
    odd = [(c, at + timedelta(hours=1)) for c, at in good[::10]]
    guess = infer_zone([*good, *odd])
    assert guess is not None
    assert guess.zone == "Europe/Zurich"
    assert 0.7 < guess.share < 1


def test_without_turns_there_is_no_guess() -> None:
    assert infer_zone([]) is None


def test_a_cron_that_is_none_fits_nowhere() -> None:
    guess = infer_zone([("not a cron", datetime(2025, 1, 1, tzinfo=UTC))])
    assert guess is not None
    assert guess.share == 0
