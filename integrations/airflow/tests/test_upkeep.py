"""Timetables that are published, slots that follow capacity, workers that drain."""

import json
import signal
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from time import sleep as real_sleep
from typing import Any

import httpx
import pytest
from airflow.timetables.base import DagRunInfo, Timetable
from fakepreprov import FakePreprov

from preprov_provider import celery, pools, timetables

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=timezone.utc)


class TwiceADay(Timetable):
    """At seven, and at the square of the day's number past eight."""

    def infer_manual_data_interval(self, *, run_after: Any) -> Any:
        raise NotImplementedError

    def next_dagrun_info(self, *, last_automated_data_interval: Any, restriction: Any) -> Any:
        import pendulum

        last = last_automated_data_interval
        after = pendulum.instance(last.end if last else NOW - timedelta(days=1))
        day = after.start_of("day")
        while True:
            for at in (day.add(hours=7), day.add(hours=8, minutes=(day.day**2) % 60)):
                if at > after:
                    return DagRunInfo.exact(at)
            day = day.add(days=1)


class Broken(TwiceADay):
    def next_dagrun_info(self, **_: Any) -> Any:
        raise RuntimeError("out of luck")


class Stuck(TwiceADay):
    def next_dagrun_info(self, **_: Any) -> Any:
        import pendulum

        return DagRunInfo.exact(pendulum.instance(NOW + timedelta(hours=1)))


class Dag:
    """As much of a DAG as is looked at."""

    start_date = end_date = None

    def __init__(self, dag_id: str, timetable: Any) -> None:
        self.dag_id, self.timetable = dag_id, timetable


def test_turns_of_timetables_of_ones_own_are_published(capsys):
    from airflow.timetables.trigger import CronTriggerTimetable

    dags = [
        Dag("own", TwiceADay()),
        Dag("cron", CronTriggerTimetable("0 2 * * *", timezone="UTC")),
        Dag("broken", Broken()),
        Dag("stuck", Stuck()),
    ]
    found = timetables.collect(dags, NOW, timedelta(days=3))
    assert set(found) == {"own", "stuck"}
    assert [t[5:16] for t in found["own"]] == [
        "03-02T07:00", "03-02T08:04", "03-03T07:00", "03-03T08:09", "03-04T07:00", "03-04T08:16",
    ]  # fmt: skip
    assert len(found["stuck"]) == 1, "one that does not move on ends nothing"
    assert "out of luck" in capsys.readouterr().err
    told = json.loads(timetables.document(found, NOW))
    assert told["turns"] == found


def test_turns_of_events_and_of_what_stands_beside_assets_are_published():
    import pendulum
    from airflow.timetables.events import EventsTimetable
    from airflow.timetables.trigger import CronTriggerTimetable

    try:
        from airflow.sdk import Asset
        from airflow.timetables.assets import AssetOrTimeSchedule

        named = "assets"
    except ImportError:
        from airflow.datasets import Dataset as Asset
        from airflow.timetables.datasets import DatasetOrTimeSchedule as AssetOrTimeSchedule

        named = "datasets"
    now = pendulum.now("UTC")
    events = [now.add(hours=h) for h in (-5, 3, 7, 100)]
    cron, asset = CronTriggerTimetable("0 2 * * *", timezone="UTC"), [Asset("s3://made")]
    beside = {"cron": cron, "events": EventsTimetable(events), "own": TwiceADay()}
    dags = [Dag("events", EventsTimetable(events))]
    dags += [Dag(f"assets or {n}", AssetOrTimeSchedule(timetable=t, **{named: asset})) for n, t in beside.items()]
    assert [d.dag_id for d in dags if timetables.is_own(d)] == ["events", "assets or events", "assets or own"]
    found = timetables.collect(dags[:3], now, timedelta(days=3))
    assert found == {n: [e.isoformat() for e in events[1:3]] for n in ("events", "assets or events")}


def room(free, whole=None):
    return pools.Room(free, free if whole is None else whole)


def test_turns_of_a_cron_in_another_zone_than_its_dags_are_published():
    """The REST API tells the cron, and the zone of the DAG."""
    import pendulum
    from airflow.timetables.assets import AssetOrTimeSchedule
    from airflow.timetables.interval import CronDataIntervalTimetable
    from airflow.timetables.trigger import CronTriggerTimetable, DeltaTriggerTimetable

    try:
        from airflow.sdk import DAG, Asset
    except ImportError:
        from airflow import DAG
        from airflow.datasets import Dataset as Asset

    def made(dag_id: str, zone: Any, schedule: Any) -> Any:
        return DAG(dag_id, schedule=schedule, start_date=pendulum.datetime(2025, 1, 1, tz=zone))

    zurich = CronTriggerTimetable("0 6 * * *", timezone="Europe/Zurich")
    dags = [
        made("own", "UTC", zurich),
        made("own_intervals", "UTC", CronDataIntervalTimetable("0 6 * * *", timezone="Europe/Zurich")),
        made("own_beside_assets", "UTC", AssetOrTimeSchedule(timetable=zurich, assets=[Asset("s3://made")])),
        made("in_utc", "Europe/Zurich", CronTriggerTimetable("0 6 * * *", timezone="UTC")),
        made("same", "Europe/Zurich", zurich),
        made("same_plain", "Europe/Zurich", "0 6 * * *"),
        made("offset", pendulum.FixedTimezone(3600), "0 6 * * *"),
        made("no_cron", "Europe/Zurich", DeltaTriggerTimetable(timedelta(days=1))),
        made("none", "Europe/Zurich", None),
    ]
    try:
        from airflow.sdk import MultipleCronTriggerTimetable
    except ImportError:
        pass
    else:
        several = MultipleCronTriggerTimetable("0 6 * * *", "0 7 * * *", timezone="Europe/Zurich")
        dags += [made("own_several", "UTC", several), made("same_several", "Europe/Zurich", several)]
    wanted = {d.dag_id for d in dags if d.dag_id.startswith(("own", "in_utc"))}
    assert {d.dag_id for d in dags if timetables.is_own(d)} == wanted
    found = timetables.collect(dags, pendulum.now("UTC"), timedelta(days=3))
    assert set(found) == wanted
    local = [pendulum.parse(t).in_timezone("Europe/Zurich") for t in found["own"]]
    assert {t.hour for t in local} == {6}


@pytest.mark.parametrize(
    ("free", "whole", "running", "wanted"),
    [
        ({"cpu": 16, "memory": 64}, None, 0, 8),
        ({"cpu": 16, "memory": 10}, None, 0, 2),
        ({}, None, 0, 1),
        ({"cpu": 1e6, "memory": 1e6}, None, 0, 100),
        ({"cpu": 16, "memory": 64}, None, 5, 8),  # what runs is not seen on the nodes: it has no room there
        ({"cpu": 6, "memory": 64}, {"cpu": 16, "memory": 64}, 5, 8),  # all that runs on the nodes is its own
        ({"cpu": 6, "memory": 64}, {"cpu": 16, "memory": 64}, 2, 5),  # two of those five are
        ({"cpu": 6, "memory": 64}, {"cpu": 16, "memory": 64}, 0, 3),
    ],
)
def test_slots_are_as_many_as_fit_beside_what_others_have(free, whole, running, wanted):
    assert pools.decide(room(free, whole), {"cpu": 2, "memory": 4}, running, floor=1, ceiling=100) == wanted


def test_a_slot_that_stands_for_nothing_follows_nothing():
    assert pools.decide(room({"cpu": 16}), {"cpu": 0}, 3, floor=2, ceiling=100) == 2


def test_room_is_what_is_free_and_what_this_tenant_has_reserved():
    seen = FakePreprov.room(allocatable=16.0, held=6.0, yours=4.0, foreign=5.0)
    found = pools.Room.of(seen)
    assert (found.free["cpu"], found.whole["cpu"]) == (5.0 + 4.0, 16.0 - 2.0)


@pytest.mark.parametrize(
    ("version", "sent"),
    [("v2", {"pool": "warm pool", "slots": 8, "include_deferred": True}), ("v1", {"slots": 8})],
)
def test_slots_are_set_over_airflows_own_api(version, sent):
    asked = []

    def airflow(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, request.content))
        told = {"name": "warm pool", "slots": 3, "occupied_slots": 2, "running_slots": 1, "include_deferred": True}
        return httpx.Response(200, json=told)

    http = httpx.Client(base_url=f"http://af/api/{version}/", transport=httpx.MockTransport(airflow))
    done = pools.follow(http, "warm pool", room({"cpu": 7}, {"cpu": 9}), {"cpu": 1})
    assert (done.was, done.held, done.now) == (3, 2, 8)
    assert [a[0] for a in asked] == ["GET", "PATCH"]
    assert json.loads(asked[1][2]) == sent
    assert pools.follow(http, "warm pool", room({"cpu": 3}), {"cpu": 1}).now == 3
    assert len(asked) == 3, "what is right is not written"
    assert pools.follow(http, "warm pool", room({}), {"cpu": 1}).now == 2, "nor fewer than are held"


class Celery:
    """A worker that is busy for so many looks; `silent`, `away`: looks at which it, or the broker, does not answer."""

    def __init__(self, looks: int, silent: Callable[[int], bool], away: Callable[[int], bool]) -> None:
        self.looks, self.silent, self.away = looks, silent, away
        self.queues, self.done, self.look = ["batch", "default"], [], -1
        self.ended = False
        self.control = self

    def inspect(self, **_: Any) -> "Celery":
        return self

    def _answer(self, found: list[Any]) -> Any:
        return None if self.ended or self.silent(self.look) else {"celery@node-1": found}

    def active_queues(self) -> Any:
        self.look += 1
        if self.away(self.look):
            raise ConnectionRefusedError("no broker")
        return self._answer([{"name": q} for q in self.queues])

    def active(self) -> Any:
        return self._answer([{"id": "x"}] if self.look < self.looks else [])

    def reserved(self) -> Any:
        return self._answer([])

    def cancel_consumer(self, queue: str, **_: Any) -> None:
        self.queues.remove(queue)
        self.done.append(f"cancel {queue}")

    def shutdown(self, destination: list[str]) -> None:
        self.done.append(f"end {destination[0]}")
        self.ended = True


def never(_: int) -> bool:
    return False


def drained(app: Celery, timeout: float = 100.0) -> tuple[bool, float]:
    time = [0.0]
    done = celery.drain(app, "node-1", timeout, sleep=lambda s: time.__setitem__(0, time[0] + s), clock=lambda: time[0])
    return done, time[0]


ALL = ["cancel batch", "cancel default", "end celery@node-1"]


def test_a_worker_takes_nothing_more_finishes_what_it_has_and_ends():
    app = Celery(5, never, never)
    done, after_s = drained(app)
    assert done
    assert after_s >= 2.0 * 5, "not before its task was done"
    assert app.done == ALL


def test_running_work_is_never_ended():
    app = Celery(10_000, never, never)
    assert drained(app)[0] is False
    assert app.done == ALL[:2]


def test_answers_that_do_not_come_now_and_then_do_not_make_a_worker_gone():
    app = Celery(40, lambda look: look % 12 != 0, never)
    assert drained(app, 70.0)[0] is False, "a node must not go under what runs"
    assert app.done == ALL[:2]


def test_a_worker_that_was_silent_for_long_is_gone():
    done, after_s = drained(Celery(10_000, lambda look: True, never))
    assert done
    assert after_s >= 20.0, "and each look waited for its answer besides"


def test_while_the_broker_is_away_nothing_is_known():
    assert drained(Celery(5, never, lambda look: True))[0] is False
    app = Celery(5, never, lambda look: 10 <= look < 30)
    assert drained(app)[0] is True
    assert app.done == ALL


def left(app: Celery, leaves_at: int, *, works: str = "60") -> tuple[int, list[int]]:
    """Exit code of a worker that is told to leave at such a look, and the looks at which it lived."""
    looks, lived = [0], []

    def leaving() -> bool:
        looks[0] += 1
        return looks[0] > leaves_at

    code = celery.serve(
        [sys.executable, "-c", f"import time; time.sleep({works})"],
        lambda: app,
        "node-1",
        leaving,
        sleep=lambda _: (lived.append(app.look), real_sleep(0.01))[1],
    )
    return code, lived


def test_a_worker_on_a_node_leaves_when_it_is_told_to():
    app = Celery(5, never, never)
    code, lived = left(app, leaves_at=3)
    assert code == -signal.SIGTERM, "it was asked to end, as Celery wants to be asked"
    assert app.done == ALL[:2]
    assert lived[:3] == [-1, -1, -1], "until then nobody asks it anything"
    assert max(lived) >= 5, "its tasks were waited for"


def test_a_worker_that_cannot_be_asked_is_ended_gently_and_not_at_the_first_silence():
    for app in (Celery(10_000, lambda look: True, never), Celery(10_000, never, lambda look: True)):
        code, lived = left(app, leaves_at=0)
        assert code == -signal.SIGTERM
        assert len(lived) == celery.SILENT_LOOKS


def test_a_worker_that_ends_by_itself_says_how():
    code, _ = left(Celery(5, never, never), leaves_at=10_000, works="0); raise SystemExit(3")
    assert code == 3


def test_a_worker_is_told_by_its_node_or_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PREPROV_NODE_DIR", str(tmp_path))
    assert not celery.told_to_leave("a")
    assert celery.main(["leave", "--name", "a"]) == 0
    assert celery.told_to_leave("a")
    assert not celery.told_to_leave("b")
    (tmp_path / "draining").touch()
    assert celery.told_to_leave("b")


def test_how_a_worker_is_started():
    program, *told = celery.worker_command("node-1", "batch,gpu", 4, ["--skip-serve-logs"])
    assert program == sys.executable, "Airflow is where the provider is"
    begins, _, rest = " ".join(told).partition(" --celery-hostname ")
    assert begins == "-m airflow celery worker"
    assert rest == "celery@node-1 --queues batch,gpu --concurrency 4 --skip-serve-logs"
