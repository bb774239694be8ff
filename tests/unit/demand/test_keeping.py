"""What is kept is what would be worked out anew."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.demand import recurrence, remainder
from preprov.demand.keeping import Keeper, digest_of
from preprov.demand.recurrence import Slot, recurrences
from preprov.model.series import wall_ns
from tests.unit.demand.work import NOW, Run, Task, table


def test_a_value_is_made_once_for_a_digest_and_the_oldest_goes_first() -> None:
    keeper: Keeper[list[int]] = Keeper(2)
    a = keeper.get(b"a", lambda: [1])
    keeper.get(b"b", lambda: [2])
    assert keeper.get(b"a", lambda: [9]) is a
    keeper.get(b"c", lambda: [3])  # b was asked for least lately
    assert keeper.get(b"a", lambda: [9]) is a
    assert keeper.get(b"b", lambda: [4]) == [4]


def test_digests_tell_apart_types_shapes_and_what_is_said() -> None:
    one = np.arange(4)
    assert digest_of("x", one) == digest_of("x", one.copy())
    others = [("y", one), ("x", one.astype(np.int32)), ("x", one.reshape(2, 2)), ("x", one[::-1])]
    assert len({digest_of("x", one), *(digest_of(said, a) for said, a in others)}) == 5


def told(slots: tuple[Slot, ...]) -> list[tuple[object, ...]]:
    return [(s.dag_id, s.begins, s.days.tolist(), s.delays.tolist(), s.kept, s.silent) for s in slots]


@settings(max_examples=15)
@given(
    hours=st.lists(st.integers(0, 23), min_size=1, max_size=3, unique=True),
    days=st.integers(4, 12),
    missing=st.sets(st.integers(0, 11), max_size=4),
    late=st.lists(st.floats(0, 5_000), min_size=1, max_size=7),
)
def test_slots_that_are_kept_through_the_day_are_those_found_anew(
    hours: list[int], days: int, missing: set[int], late: list[float]
) -> None:
    first = NOW - NOW % 86_400.0
    starts = [
        first + 86_400.0 * day + 3_600.0 * hour + late[(day + hour) % len(late)]
        for day in range(days)
        for hour in hours
        if day not in missing
    ]
    runs = [Run(f"r{i}", "d", s - NOW, [Task("t", 60.0)]) for i, s in enumerate(sorted(starts))]
    midnight = datetime.fromtimestamp(first, UTC) + timedelta(days=days - 1)
    work = table(runs)
    for minutes in range(0, 1_440, 170):
        at = midnight + timedelta(minutes=minutes)
        kept = recurrences(work.as_of(at), at, at + timedelta(hours=6), "UTC")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(recurrence, "_FOUND", Keeper(0))
            anew = recurrences(work.as_of(at), at, at + timedelta(hours=6), "UTC")
        assert told(kept.slots) == told(anew.slots)
        assert kept.covered.tolist() == anew.covered.tolist()
        assert [(r.turn, r.probability) for r in kept.runs] == [(r.turn, r.probability) for r in anew.runs]


def test_the_profile_of_past_hours_is_kept_until_the_next_full_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [Run(f"r{i}", "d", -86_400.0 + 700.0 * i, [Task("t", 5_000.0)]) for i in range(124)]
    work = table(runs)
    hour = NOW - NOW % 3_600.0
    seen = {m: work.as_of(datetime.fromtimestamp(hour + 60.0 * m, UTC)) for m in (0, 5, 59, 60)}
    past = {m: remainder.remainder(w, np.zeros(len(w.runs), bool), hour + 60.0 * m, 300) for m, w in seen.items()}
    assert past[5].mean is past[0].mean
    assert past[59].peak is past[0].peak
    assert len(past[60].hours) == len(past[0].hours) + 1
    monkeypatch.setattr(remainder, "_PROFILES", Keeper(0))
    anew = remainder.remainder(seen[59], np.zeros(len(seen[59].runs), bool), hour + 59 * 60.0, 300)
    assert np.array_equal(anew.hours, past[59].hours)
    assert np.array_equal(anew.peak, past[59].peak)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Zurich", "Australia/Lord_Howe"])
def test_the_clock_on_the_wall(zone: str) -> None:
    instants = [datetime(2025, m, 30 if m != 2 else 9, 1, 30, 15, 250_000, tzinfo=UTC) for m in range(1, 13)]
    shown = wall_ns(np.array([i.timestamp() for i in instants]), zone)
    expected = [i.astimezone(ZoneInfo(zone)).replace(tzinfo=UTC).timestamp() for i in instants]
    assert shown.tolist() == [round(e * 4) * 250_000_000 for e in expected]
