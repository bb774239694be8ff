"""What Airflow says, understood: executor configs, timetables, instants, text."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.demand.schedules import turns
from preprov.sources.airflow.clocks import settled
from preprov.sources.airflow.facts import DagFacts, requests
from preprov.sources.airflow.shapes import DagShape, TaskShape
from preprov.sources.airflow.timetables import parse, schedule
from preprov.sources.instants import seconds
from preprov.sources.text import clean

NAN = float("nan")
NOW = datetime(2025, 3, 29, 20, 0, tzinfo=UTC)  # the night in which clocks go forward in Zurich


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ("{}", (NAN, NAN, NAN)),
        (None, (NAN, NAN, NAN)),
        ("{'KubernetesExecutor': {'request_cpu': '2', 'request_memory': '4Gi'}}", (2.0, 4.0, NAN)),
        ("{'KubernetesExecutor': {'request_cpu': '500m', 'limit_gpu': 1}}", (0.5, NAN, 1.0)),
        ("{'KubernetesExecutor': {'image': 'x'}}", (NAN, NAN, NAN)),
        (
            "{'pod_override': {'spec': {'containers': [{'name': 'base', 'resources': {'claims': None, 'limits': "
            "{'cpu': '9'}, 'requests': {'cpu': '1500m', 'memory': '512Mi', 'nvidia.com/gpu': '2'}}}]}}}",
            (1.5, 0.5, 2.0),
        ),
        (
            "{'pod_override': {'metadata': {'creation_timestamp': datetime.datetime(2025, 1, 1)},\n 'spec': "
            "{'containers': [{'resources': {'requests': {'cpu': 4, 'memory': '1Gi'}}}]}}}",
            (4.0, 1.0, NAN),
        ),
        ("{'cpu': 3}", (NAN, NAN, NAN)),
        ("{'requests': {'cpu': 'lots', 'memory': '-1Gi'}}", (NAN, NAN, NAN)),
        ("(" * 5000, (NAN, NAN, NAN)),
        ("<Encoding.VAR: '__var'>", (NAN, NAN, NAN)),
    ],
)
def test_executor_configs(config, wanted):
    assert requests(config) == pytest.approx(wanted, nan_ok=True)


@given(st.text(max_size=60) | st.dictionaries(st.text(), st.none() | st.text() | st.integers()))
def test_no_executor_config_is_too_strange(config):
    assert len(requests(str(config))) == 3


@pytest.mark.parametrize(
    ("told", "crons", "every", "steps"),
    [
        ("0 2 * * *", ("0 2 * * *",), None, ()),
        ("@daily", ("@daily",), None, ()),
        ("@quarterly", ("0 0 1 */3 *",), None, ()),
        ("2 days, 3:00:00", (), 183600.0, ()),
        ("0:05:00", (), 300.0, ()),
        ("6:00:00.500000", (), 21600.5, ()),
        ("0 1 * * *, 30 2 * * *", ("0 1 * * *", "30 2 * * *"), None, ()),
        ("relativedelta(months=+1)", (), None, (("months", 1),)),
        ("Asset or 0 2 * * *", ("0 2 * * *",), None, ()),
        ("Asset", (), None, ()),
        ("@once", (), None, ()),
        ("@continuous", (), None, ()),
        ("None", (), None, ()),
        ("Never, external triggers only", (), None, ()),
        ("my own, of days", (), None, ()),
        ("99 2 * * *", (), None, ()),
        (None, (), None, ()),
        ({"__type": "CronExpression", "value": "5 4 * * 1-5"}, ("5 4 * * 1-5",), None, ()),
        ({"__type": "TimeDelta", "days": 1, "seconds": 60, "microseconds": 0}, (), 86460.0, ()),
        ({"__type": "RelativeDelta", "months": 1, "days": 0, "year": None}, (), None, (("months", 1),)),
        ({"__type": "Unheard of"}, (), None, ()),
        ({"__type": "TimeDelta", "days": 0, "seconds": 0}, (), None, ()),
    ],
)
def test_timetables(told, crons, every, steps):
    found = parse(told)
    assert (found.crons, found.every_s, found.steps) == (crons, every, steps)


def dag(timetable, next_run=None, **more):
    told = {"dag_id": "d", "timetable_summary": timetable, "next_dagrun_run_after": next_run, **more}
    return DagFacts.of(told)


def shape(zone="UTC", **more):
    return DagShape("d", "1", 0.0, zone, (TaskShape("t", (), "all_success", "", "", False, 1, "dwh", 2),), **more)


def all_turns(found, days=3):
    return turns(replace(found, pool="p"), NOW, NOW + timedelta(days=days))


def test_a_cron_is_read_in_the_zone_of_its_dag():
    found = schedule(dag("30 1 * * *"), shape("Europe/Zurich"), (), NOW, "t", 0.0)
    assert [t.isoformat() for t in all_turns(found)] == [
        "2025-03-30T00:30:00+00:00",
        "2025-03-30T23:30:00+00:00",
        "2025-03-31T23:30:00+00:00",
    ]


@pytest.mark.parametrize(
    ("told", "zone"),
    [
        ("+01:00", "Etc/GMT-1"),
        ('FixedTimezone(3600, name="+01:00")', "Etc/GMT-1"),
        ("UTC-03:00", "Etc/GMT+3"),
        ('FixedTimezone(19800, name="+05:30")', "Asia/Kolkata"),
    ],
)
def test_a_zone_that_is_a_fixed_offset_is_one_that_is_always_so_far_off(told, zone):
    found = schedule(dag("@daily"), shape(told), (), NOW, "t", 0.0)
    assert (found.cron, found.zone) == ("@daily", zone)


@pytest.mark.parametrize("told", ["+00:17", "Mars/Base"])
def test_of_a_zone_that_is_none_only_the_next_run_is_known(told):
    found = schedule(dag("0 6 * * *", "2025-03-30T05:43:00Z"), shape(told), (), NOW, "t", 0.0)
    assert [f"{t:%d %H:%M}" for t in all_turns(found, 10)] == ["30 05:43"]
    assert schedule(dag("0 6 * * *"), shape(told), (), NOW, "t", 0.0).tells_turns is False


WINTER = datetime(2025, 1, 10, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("crons", "next_run", "zone", "likely", "clock"),
    [
        (("0 6 * * *",), "2025-01-11T05:00:00Z", "UTC", ("Europe/Zurich",), "Europe/Zurich"),
        (("0 6 * * *",), "2025-01-11T06:00:00Z", "UTC", ("Europe/Zurich",), ""),
        (("0 6 * * *",), "2025-01-11T05:00:00Z", "Europe/Zurich", (), ""),
        (("0 6 * * *",), "2025-01-11T06:00:00Z", "Europe/Zurich", (), "UTC"),
        (("0 6 * * *",), "2025-01-11T11:00:00Z", "UTC", (), "America/New_York"),
        (("0 1 * * *", "0 6 * * *"), "2025-01-11T05:00:00Z", "UTC", ("Europe/Zurich",), "Europe/Zurich"),
        (("0 * * * *",), "2025-01-11T05:00:00Z", "UTC", ("Europe/Zurich",), ""),
        (("0 6 * * *",), "2025-01-11T05:03:00Z", "UTC", ("Europe/Zurich",), "?"),
        (("0 6 * * *",), "2025-01-11T05:00:07Z", "UTC", ("Europe/Zurich",), "?"),
        (("30 2 * * *",), "2025-03-30T01:30:00Z", "Europe/Zurich", (), ""),
        (("0 6 * * *",), None, "UTC", (), ""),
        ((), "2025-01-11T05:00:00Z", "UTC", (), ""),
    ],
)
def test_the_next_run_betrays_the_zone_of_a_timetable(crons, next_run, zone, likely, clock):
    assert settled(crons, seconds(next_run), shape(zone), likely) == clock


def test_a_zone_that_was_betrayed_is_kept_until_a_next_run_is_no_turn_there():
    known = shape("UTC", clock="Europe/Zurich")
    for next_run, clock in [
        (None, "Europe/Zurich"),
        ("2025-07-11T04:00:00Z", "Europe/Zurich"),
        ("2025-07-11T05:00:00Z", "Europe/London"),
        ("2025-07-11T06:00:00Z", ""),
    ]:
        assert settled(("0 6 * * *",), seconds(next_run), known, ("Europe/London",)) == clock


def test_a_cron_is_read_in_the_zone_that_its_next_run_betrays():
    known = shape("UTC", clock="Europe/Zurich")
    found = schedule(dag("0 6 * * *", "2025-01-11T05:00:00Z"), known, (), WINTER, "t", 0.0)
    assert (found.cron, found.zone) == ("0 6 * * *", "Europe/Zurich")


def turns_after(found, at, days):
    return [f"{t:%m-%d %H:%M}" for t in turns(replace(found, pool="p"), at, at + timedelta(days=days))]


LATE = "2025-01-14T06:00:00Z"


@pytest.mark.parametrize(
    ("timetable", "zone", "wanted"),
    [
        ("0 6 * * *", "UTC", ["01-14 06:00", "01-15 06:00", "01-16 06:00"]),
        ("@daily", "Etc/GMT+6", ["01-14 06:00", "01-15 06:00", "01-16 06:00"]),
        ("0 6 * * *, 0 18 * * *", "UTC", ["01-14 06:00", "01-14 18:00", "01-15 06:00", "01-15 18:00", "01-16 06:00"]),
        ("1 day, 0:00:00", "UTC", ["01-14 06:00", "01-15 06:00", "01-16 06:00"]),
    ],
)
def test_a_dag_that_begins_later_has_no_turn_before_its_next_run(timetable, zone, wanted):
    found = schedule(dag(timetable, LATE), shape(zone), (), WINTER, "t", 0.0)
    assert turns_after(found, WINTER, 6)[: len(wanted)] == wanted
    begun = schedule(dag(timetable, LATE), shape(zone), (), datetime(2025, 1, 14, 5, tzinfo=UTC), "t", 0.0)
    assert (begun.cron or begun.every_s or begun.turns) != found.turns, "then it goes by its rule"


@pytest.mark.parametrize("timetable", ["0 6 * * *", "0 6 * * *, 0 18 * * *", "12:00:00", "relativedelta(hours=+12)"])
def test_no_turn_comes_after_the_end_of_its_dag(timetable):
    ends = seconds("2025-01-12T06:00:00Z")
    found = schedule(dag(timetable, "2025-01-11T06:00:00Z"), shape(ends=ends), (), WINTER, "t", 0.0)
    told = turns_after(found, WINTER, 10)
    assert told[0] == "01-11 06:00"
    assert told[-1] == "01-12 06:00"
    later = schedule(
        dag(timetable, "2025-01-11T06:00:00Z"), shape(ends=ends), (), WINTER + timedelta(hours=1), "t", 0.0
    )
    assert later == found, "the list changes once a day"


def test_an_interval_that_began_before_the_end_of_its_dag_has_its_run_after_it():
    told = {"next_dagrun_data_interval_start": "2025-01-10T06:00:00Z"}
    facts = dag("0 6 * * *", "2025-01-11T06:00:00Z", **told)
    found = schedule(facts, shape(ends=seconds("2025-01-12T00:00:00Z")), (), WINTER, "t", 0.0)
    assert turns_after(found, WINTER, 10) == ["01-11 06:00", "01-12 06:00"]


@given(st.integers(0, 40 * 24), st.integers(0, 30 * 24), st.sampled_from(["0 6 * * *", "0 */5 * * 1-5", "8:00:00"]))
def test_all_turns_are_between_the_next_run_and_the_end(begin, length, timetable):
    first = WINTER.replace(hour=6) + timedelta(hours=8 * begin)
    ends = (first + timedelta(hours=length)).timestamp()
    declared = schedule(dag(timetable, first.isoformat()), shape(ends=ends), (), WINTER, "t", 0.0)
    found = turns(replace(declared, pool="p"), WINTER, WINTER + timedelta(days=15))
    assert all(t.timestamp() <= ends for t in found)
    if first > WINTER:
        assert all(t >= first for t in found)


def test_before_the_zone_is_known_only_the_next_run_is():
    found = schedule(dag("0 2 * * *", "2025-03-30T02:00:00Z"), None, (), NOW, "t", 0.0)
    assert [t.hour for t in all_turns(found)] == [2]


def test_even_distances_go_on_from_the_next_run_and_stay_the_same_schedule():
    one = schedule(dag("6:00:00", "2025-03-29T23:30:00Z"), shape(), (), NOW, "t", 0.0)
    other = schedule(dag("6:00:00", "2025-03-30T05:30:00Z"), shape(), (), NOW + timedelta(hours=4), "t", 0.0)
    assert one == other
    assert [(t.hour, t.minute) for t in all_turns(one, 1)] == [(23, 30), (5, 30), (11, 30), (17, 30)]


def test_calendar_steps_and_several_crons_are_worked_out():
    monthly = schedule(dag("relativedelta(days=+2)", "2025-03-30T00:00:00Z"), shape(), (), NOW, "t", 0.0)
    assert len(all_turns(monthly, 10)) == 5
    several = schedule(dag("0 1 * * *, 30 2 * * *"), shape("Europe/Zurich"), (), NOW, "t", 0.0)
    found = all_turns(several, 2)
    assert len(found) >= 3
    later = schedule(dag("0 1 * * *, 30 2 * * *"), shape("Europe/Zurich"), (), NOW + timedelta(hours=1), "t", 0.0)
    assert later == several, "the list changes once a day, not at each pass"


def test_what_the_provider_published_comes_first():
    published = (NOW + timedelta(hours=1), NOW + timedelta(hours=7))
    found = schedule(dag("my own", "2025-03-29T21:00:00Z"), shape(), published, NOW, "t", 0.0)
    assert all_turns(found) == list(published)


def test_a_dag_that_has_ended_has_no_turns_and_still_its_limit():
    found = schedule(dag("0 2 * * *", max_active_runs=3), shape(ends=NOW.timestamp() - 1), (), NOW, "t", 0.0)
    assert all_turns(found) == []
    assert found.max_active_runs == 3


def test_a_paused_dag_has_no_turns():
    assert all_turns(schedule(dag("0 2 * * *", is_paused=True), shape(), (), NOW, "t", 0.0)) == []


def test_turns_are_told_by_our_clock():
    told = schedule(dag("my own", "2025-03-29T22:00:00Z"), shape(), (), NOW, "t", -3600.0)
    assert [t.hour for t in all_turns(told)] == [21]


@given(st.floats(60, 86400 * 3), st.integers(0, 60 * 86400))
def test_even_turns_are_even_and_hold_the_next_run(every, first):
    first = NOW + timedelta(seconds=first)
    told = {"__type": "TimeDelta", "days": 0, "seconds": every}
    facts = DagFacts.of({"dag_id": "d", "schedule_interval": told, "next_dagrun_create_after": first.isoformat()})
    declared = schedule(facts, shape(), (), NOW, "t", 0.0)
    found = turns(declared, first - timedelta(seconds=0.5), first + timedelta(seconds=5 * every))
    assert min(abs((t - first).total_seconds()) for t in found) < 1e-3
    assert all(abs((b - a).total_seconds() - every) < 1e-3 for a, b in pairwise(found))


def test_instants():
    assert seconds("2025-03-01T12:00:00Z") == seconds("2025-03-01T13:00:00+01:00") == seconds("2025-03-01T12:00:00")
    assert all(isnan(seconds(x)) for x in (None, "", "yesterday", 5, "2025-13-01"))


@given(st.text(st.characters(codec=None), max_size=50), st.integers(5, 60))
def test_text_is_fit_to_be_kept(text, longest):
    kept = clean(text, longest)
    assert len(kept) <= longest
    assert "\0" not in kept
    assert kept.encode("utf-8").decode("utf-8") == kept
    assert clean(kept, longest) == kept


def test_a_shape_comes_back_from_the_notebook():
    known = shape("Europe/Zurich", widths={"m": 4}, asleep=frozenset({"w"}), since=1.5, timetable="x", clock="UTC")
    again = DagShape.load("d", known.dump())
    assert again.dump() == known.dump()
    assert [getattr(again, n) for n in ("widths", "asleep", "zone", "tasks", "clock")] == [
        *(known.widths, known.asleep, known.zone, known.tasks, "UTC")
    ]
    before = DagShape.load("d", known.dump().replace(',"dwh",2]', "]").replace(',"UTC"]', "]"))
    assert (before.version, before.tasks[0].pool, before.clock) == ("", "", ""), "it is asked for again"
    assert DagShape.load("d", "[]") is None
    assert DagShape.load("d", "not json") is None
