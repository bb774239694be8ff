from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from preprov.demand.dayrules import Rule, best_rule
from preprov.demand.recurrence import Recurrences, recurrences
from tests.unit.demand.work import AT, HOUR, NOW, Run, Task, table

ZURICH = ZoneInfo("Europe/Zurich")
MONDAY = datetime(2026, 1, 5, tzinfo=ZURICH)


def runs_at(instants: list[datetime], dag_id: str = "d", jitter_s: float = 60.0, seed: int = 0) -> list[Run]:
    rng = np.random.default_rng(seed)
    late = rng.exponential(jitter_s, len(instants))
    return [
        Run(f"{dag_id}-{i}", dag_id, t.timestamp() - NOW + float(d), [Task("t", 60.0)])
        for i, (t, d) in enumerate(zip(instants, late, strict=True))
    ]


def days(count: int, first: datetime = MONDAY) -> list[datetime]:
    """Local midnights."""
    return [datetime(first.year, first.month, first.day, tzinfo=ZURICH) + timedelta(days=i) for i in range(count)]


def at_hour(day: datetime, hour: int, minute: int = 0) -> datetime:
    return day.replace(hour=hour, minute=minute)


def found(runs: list[Run], at: datetime, hours: int = 24) -> Recurrences:
    return recurrences(table(runs).as_of(at), at, at + timedelta(hours=hours), "Europe/Zurich")


def expected(runs: list[Run], at: datetime, hours: int = 24, p: float = 0.5) -> list[str]:
    """Local times at which runs are expected, by minute."""
    turns = [r.turn for r in found(runs, at, hours).runs if r.probability >= p]
    return [datetime.fromtimestamp(t, ZURICH).strftime("%a %H:%M") for t in sorted(turns)]


def test_every_day() -> None:
    runs = runs_at([at_hour(d, 2, 30) for d in days(20)])
    at = days(21)[20]
    assert expected(runs, at) == ["Sun 02:30"]
    (slot,) = found(runs, at).slots
    assert str(slot.kept.rule) == "every day"
    assert slot.probability > 0.9
    assert found(runs, at).covered.all()


def test_on_weekdays_only() -> None:
    runs = runs_at([at_hour(d, 7) for d in days(30) if d.weekday() < 5])
    saturday, sunday = days(34)[33], days(35)[34]
    assert saturday.weekday() == 5
    assert expected(runs[: 5 * 4], days(27)[26], 48) == []
    assert sunday.weekday() == 6
    assert expected(runs, days(29)[27].replace(hour=12), 24) == ["Mon 07:00"]
    assert str(found(runs, days(31)[30]).slots[0].kept.rule) == "weekdays"


def test_once_a_week() -> None:
    runs = runs_at([at_hour(d, 4) for d in days(40) if d.weekday() == 6])
    thursday = days(46)[45]
    assert expected(runs, thursday, 24 * 7) == ["Sun 04:00"]


def test_at_the_end_of_the_month() -> None:
    every = [d for d in days(150, datetime(2026, 1, 1, tzinfo=ZURICH)) if (d + timedelta(days=1)).day == 1]
    runs = runs_at([at_hour(d, 22, 15) for d in every[:4]])
    at = datetime(2026, 5, 30, 12, tzinfo=ZURICH)
    assert expected(runs, at, 48) == ["Sun 22:15"]
    assert expected(runs, datetime(2026, 5, 20, tzinfo=ZURICH), 48) == []


@pytest.mark.parametrize("minutes", [5, 10, 15, 60])
def test_every_so_many_minutes(minutes: int) -> None:
    times = [d + timedelta(minutes=m) for d in days(20) for m in range(0, 24 * 60, minutes)]
    runs = runs_at(times, jitter_s=20.0)
    turns = expected(runs, days(21)[20], 24)
    assert len(turns) == pytest.approx(24 * 60 / minutes, rel=0.03)


def test_office_hours() -> None:
    times = [at_hour(d, h) for d in days(28) for h in range(8, 19, 2) if d.weekday() < 5]
    friday = days(33)[32]
    assert friday.weekday() == 4
    runs = runs_at(times)
    assert expected(runs, days(29)[28], 24) == [f"Mon {h:02}:00" for h in range(8, 19, 2)]
    assert expected(runs, days(28)[26], 24) == []


def test_one_that_follows_another_has_a_wide_window() -> None:
    rng = np.random.default_rng(4)
    runs = runs_at([at_hour(d, 5) + timedelta(seconds=float(rng.normal(0, 900))) for d in days(30)])
    (slot,) = found(runs, days(31)[30]).slots
    (run,) = found(runs, days(31)[30]).runs
    assert slot.probability > 0.8
    assert np.quantile(run.delays, 0.9) - np.quantile(run.delays, 0.1) > 1200
    middle = datetime.fromtimestamp(run.turn + float(np.median(run.delays)), ZURICH)
    assert abs((middle - at_hour(days(31)[30], 5)).total_seconds()) < 600


def test_around_midnight() -> None:
    rng = np.random.default_rng(4)
    runs = runs_at([d + timedelta(seconds=float(rng.uniform(-120, 120))) for d in days(20)], jitter_s=1.0)
    (slot,) = found(runs, days(21)[19].replace(hour=12)).slots
    assert len(slot.days) == 20
    assert len(found(runs, days(21)[19].replace(hour=12)).runs) == 1


def test_when_clocks_change_it_follows_the_wall() -> None:
    march = [datetime(2026, 3, 1, tzinfo=ZURICH) + timedelta(days=i) for i in range(28)]
    runs = runs_at([at_hour(d, 7) for d in march])
    (run,) = found(runs, datetime(2026, 3, 29, tzinfo=ZURICH)).runs
    # The earliest start of all the days is where the slot begins.
    assert 0 <= run.turn - datetime(2026, 3, 29, 5, tzinfo=UTC).timestamp() < 60


def test_runs_by_hand_at_all_hours_are_not_a_recurrence() -> None:
    rng = np.random.default_rng(11)
    for seed in range(20):
        instants = [at_hour(d, 8) + timedelta(hours=float(rng.uniform(0, 10))) for d in days(40) if rng.random() < 0.3]
        assert found(runs_at(instants, seed=seed), days(41)[40]).runs == ()


def test_many_starts_on_few_days_are_no_recurrences() -> None:
    rng = np.random.default_rng(3)
    runs: list[Run] = []
    for dag in range(60):
        starts = np.sort(rng.uniform(0, 5 * 24 * HOUR, int(rng.integers(20, 400))))
        instants = [days(1)[0] + timedelta(seconds=float(s)) for s in starts]
        runs += runs_at(instants, dag_id=f"d{dag}", seed=dag)
    assert len(found(sorted(runs, key=lambda r: r.submit), days(6)[5]).slots) <= 3


def test_runs_by_hand_beside_a_recurrence_stay_uncovered() -> None:
    rng = np.random.default_rng(2)
    nightly = runs_at([at_hour(d, 2, 30) for d in days(40)])
    manual = [
        Run(
            f"m{i}",
            "d",
            (at_hour(d, 9) + timedelta(hours=float(rng.uniform(0, 8)))).timestamp() - NOW,
            [Task("t", 9.0)],
        )
        for i, d in enumerate(days(40)[::4])
    ]
    result = found([*nightly, *manual], days(41)[40])
    assert result.covered[:40].all()
    assert not result.covered[40:].any()


def test_one_that_ceases_is_dropped_within_a_few_turns() -> None:
    runs = runs_at([at_hour(d, 2, 30) for d in days(30)])
    chance = []
    for missed in range(5):
        at = days(40)[30 + missed]
        result = found(runs, at)
        chance.append(max((r.probability for r in result.runs), default=0.0))
    assert chance[0] > 0.9
    assert chance[1] > 0.6
    assert chance[3] < 0.2
    assert chance[4] < 0.05


@pytest.mark.parametrize("minutes", [15, 30, 60])
def test_every_so_many_minutes_is_dropped_within_a_few_turns_too(minutes: int) -> None:
    stops = days(21)[20].replace(hour=9)
    times = [d + timedelta(minutes=m) for d in days(21) for m in range(0, 24 * 60, minutes)]
    runs = runs_at([t for t in times if t < stops], jitter_s=20.0)
    assert len(expected(runs, stops, 12)) > 12 * 60 / minutes * 0.9
    # Half an hour is waited for one that is late; then a handful of turns have been missed.
    assert expected(runs, stops + timedelta(minutes=40 + 5 * minutes), 12) == []


def test_on_weekdays_only_is_dropped_within_a_few_turns() -> None:
    runs = runs_at([at_hour(d, 7) for d in days(28) if d.weekday() < 5])
    assert expected(runs, days(29)[28]) == ["Mon 07:00"]
    assert expected(runs, days(29)[28] + timedelta(days=3)) == []


def test_at_the_end_of_the_month_is_dropped_within_a_few_turns() -> None:
    ends = [datetime(y, m, d, tzinfo=ZURICH) for y, m, d in [(2025, 11, 30), (2025, 12, 31), (2026, 1, 31)]]
    runs = runs_at([at_hour(d, 4) for d in ends], jitter_s=20.0)
    assert expected(runs, datetime(2026, 2, 28, tzinfo=ZURICH)) == ["Sat 04:00"]
    assert expected(runs, datetime(2026, 4, 30, tzinfo=ZURICH)) == []


def test_one_that_follows_another_is_dropped_within_a_few_turns() -> None:
    rng = np.random.default_rng(4)
    runs = runs_at([at_hour(d, 5) + timedelta(seconds=float(rng.normal(0, 900))) for d in days(30)])
    assert len(expected(runs, days(31)[30])) == 1
    assert expected(runs, days(40)[33]) == []


def test_one_that_is_late_is_still_expected_for_a_while() -> None:
    runs = runs_at([at_hour(d, 2, 30) for d in days(40)], jitter_s=300.0)
    day = days(41)[40]
    two_minutes_past = found(runs, day.replace(hour=2, minute=32)).runs
    assert len(two_minutes_past) >= 1
    (due,) = [r for r in two_minutes_past if r.turn < day.timestamp() + 3 * 3600]
    assert due.delays.min() >= day.timestamp() + 2.5 * 3600 + 120 - due.turn - 1
    assert not [r for r in found(runs, day.replace(hour=9), 12).runs]


def test_one_that_came_is_not_expected_again() -> None:
    runs = runs_at([at_hour(d, 2, 30) for d in days(40)])
    at = days(40)[39].replace(hour=2, minute=45)
    assert expected(runs, at, 20) == []


def test_declared_dags_are_left_out_and_nothing_is_nothing() -> None:
    runs = runs_at([at_hour(d, 2) for d in days(20)])
    at = days(21)[20]
    seen = table(runs).as_of(at)
    assert recurrences(seen, at, at + timedelta(days=1), "UTC", scheduled={"d"}).slots == ()
    empty = recurrences(table([]), AT, AT + timedelta(seconds=HOUR), "UTC")
    assert (empty.runs, empty.slots, len(empty.covered)) == ((), (), 0)


def test_rules_of_days() -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC).toordinal()
    year = np.arange(first, first + 365)
    assert Rule(date=0).holds(year).sum() == 12
    assert Rule(date=31).holds(year).sum() == 7
    assert Rule(weekdays=frozenset({0})).holds(np.array([datetime(2026, 1, 5, tzinfo=UTC).toordinal()]))[0]
    monday_thursday = year[:56][np.isin((year[:56] - 1) % 7, [0, 3])]
    assert str(best_rule(monday_thursday, int(year[55])).rule) == "Mon, Thu"
    assert str(Rule(date=15)) == "day 15 of the month"
    assert str(Rule(date=0)) == "last day of the month"
