"""What Airflow says, understood: executor configs, timetables, instants, text."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.demand.schedules import turns
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
    return DagShape("d", "1", 0.0, zone, (TaskShape("t", (), "all_success", "", "", False, 1),), **more)


def all_turns(found, days=3):
    return turns(replace(found, pool="p"), NOW, NOW + timedelta(days=days))


def test_a_cron_is_read_in_the_zone_of_its_dag():
    found = schedule(dag("30 1 * * *"), shape("Europe/Zurich"), (), NOW, "t", 0.0)
    assert [t.isoformat() for t in all_turns(found)] == [
        "2025-03-30T00:30:00+00:00",
        "2025-03-30T23:30:00+00:00",
        "2025-03-31T23:30:00+00:00",
    ]


def test_a_zone_that_is_none_is_utc():
    assert schedule(dag("@daily"), shape("+01:00"), (), NOW, "t", 0.0).zone == "UTC"


def test_before_the_zone_is_known_only_the_next_run_is():
    found = schedule(dag("0 2 * * *", "2025-03-30T02:00:00Z"), None, (), NOW, "t", 0.0)
    assert [t.hour for t in all_turns(found)] == [2]


def test_even_distances_go_on_from_the_next_run_and_stay_the_same_schedule():
    one = schedule(dag("6:00:00", "2025-03-30T05:30:00Z"), shape(), (), NOW, "t", 0.0)
    other = schedule(dag("6:00:00", "2025-03-30T11:30:00Z"), shape(), (), NOW, "t", 0.0)
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
    known = shape("Europe/Zurich", widths={"m": 4}, asleep=frozenset({"w"}), since=1.5, timetable="x")
    again = DagShape.load("d", known.dump())
    assert again.dump() == known.dump()
    assert (again.widths, again.asleep, again.zone, again.tasks) == (
        known.widths,
        known.asleep,
        known.zone,
        known.tasks,
    )
    assert DagShape.load("d", "[]") is None
    assert DagShape.load("d", "not json") is None
