from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.demand.schedules import turns
from preprov.model.errors import ConfigError
from preprov.model.work import Schedule

ZURICH = ZoneInfo("Europe/Zurich")


def schedule(cron: str, **more: object) -> Schedule:
    return Schedule(dag_id="d", pool="p", cron=cron, zone="Europe/Zurich", **more)  # type: ignore[arg-type]


def local(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZURICH)  # type: ignore[arg-type,misc]


def walls(found: list[datetime]) -> list[str]:
    return [t.astimezone(ZURICH).strftime("%d %H:%M %z") for t in found]


def test_a_turn_at_the_start_counts_and_one_at_the_end_does_not() -> None:
    found = turns(schedule("0 * * * *"), local(2026, 1, 5, 3), local(2026, 1, 5, 6))
    assert walls(found) == ["05 03:00 +0100", "05 04:00 +0100", "05 05:00 +0100"]
    assert all(t.tzinfo is UTC for t in found)


def test_a_time_that_the_clocks_skip_comes_when_the_gap_ends() -> None:
    assert walls(turns(schedule("30 2 * * *"), local(2026, 3, 28), local(2026, 3, 31))) == [
        "28 02:30 +0100",
        "29 03:00 +0200",
        "30 02:30 +0200",
    ]


def test_a_time_that_the_clocks_repeat_comes_once() -> None:
    found = turns(schedule("30 2 * * *"), local(2025, 10, 25), local(2025, 10, 28))
    assert walls(found) == ["25 02:30 +0200", "26 02:30 +0200", "27 02:30 +0100"]


def test_every_hour_of_a_day_of_25_and_of_23() -> None:
    assert len(turns(schedule("10 * * * *"), local(2025, 10, 26), local(2025, 10, 27))) == 25
    assert len(turns(schedule("10 * * * *"), local(2026, 3, 29), local(2026, 3, 30))) == 23


@given(st.integers(0, 72 * 4), st.sampled_from(["30 2 * * *", "*/30 * * * *", "0 */2 * * *", "10 2,3 * * 0"]))
def test_where_one_begins_to_look_makes_no_difference(quarter: int, cron: str) -> None:
    begin, end = datetime(2025, 10, 25, tzinfo=UTC), datetime(2025, 10, 28, tzinfo=UTC)
    later = begin + timedelta(minutes=15 * quarter)
    every = turns(schedule(cron), begin, end)
    assert turns(schedule(cron), later, end) == [t for t in every if t >= later]
    assert every == sorted(set(every))


def test_last_day_of_the_month() -> None:
    found = turns(schedule("15 22 L * *"), local(2026, 1, 1), local(2026, 4, 1))
    assert walls(found) == ["31 22:15 +0100", "28 22:15 +0100", "31 22:15 +0200"]


def test_names_for_usual_crons() -> None:
    day = local(2026, 1, 5), local(2026, 1, 6)
    assert turns(schedule("@daily"), *day) == turns(schedule("0 0 * * *"), *day)


def test_nothing_before_it_was_declared_nor_while_paused() -> None:
    since = local(2026, 1, 5, 2, 30)
    day = local(2026, 1, 5), local(2026, 1, 5, 5)
    assert walls(turns(schedule("0 * * * *", since=since), *day)) == ["05 03:00 +0100", "05 04:00 +0100"]
    assert turns(schedule("0 * * * *", paused=True), *day) == []
    assert turns(schedule("0 * * * *"), day[1], day[0]) == []


@pytest.mark.parametrize("cron", ["often", "61 * * * *", "* * * *", "0 0 30 2 *"])
def test_a_cron_that_cannot_be_understood_is_an_error_with_a_hint(cron: str) -> None:
    with pytest.raises(ConfigError, match="cannot be understood") as caught:
        turns(schedule(cron), local(2026, 1, 1), local(2026, 1, 2))
    assert "five fields" in caught.value.hint
