"""Timetables that are published, slots that follow capacity, workers that drain."""

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from airflow.timetables.base import DagRunInfo, Timetable

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


@pytest.mark.parametrize(
    ("warm", "held", "wanted"),
    [
        ({"cpu": 16, "memory": 64}, 0, 8),
        ({"cpu": 16, "memory": 10}, 0, 2),
        ({}, 0, 1),
        ({}, 5, 5),
        ({"cpu": 1e6, "memory": 1e6}, 0, 100),
    ],
)
def test_slots_are_as_many_as_fit_and_never_fewer_than_are_held(warm, held, wanted):
    assert pools.decide(warm, {"cpu": 2, "memory": 4}, held, floor=1, ceiling=100) == wanted


def test_slots_are_set_over_airflows_own_api():
    asked = []

    def airflow(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, request.content))
        return httpx.Response(200, json={"name": "warm pool", "slots": 3, "occupied_slots": 2})

    http = httpx.Client(base_url="http://af/api/v2/", transport=httpx.MockTransport(airflow))
    done = pools.follow(http, "warm pool", {"cpu": 8}, {"cpu": 1})
    assert (done.was, done.held, done.now) == (3, 2, 8)
    assert [a[0] for a in asked] == ["GET", "PATCH"]
    assert json.loads(asked[1][2]) == {"pool": "warm pool", "slots": 8}
    assert pools.follow(http, "warm pool", {"cpu": 3}, {"cpu": 1}).now == 3
    assert len(asked) == 3, "what is right is not written"


class Celery:
    """A worker with so much to do."""

    def __init__(self, looks: int, there: bool = True) -> None:
        self.looks, self.there, self.done = looks, there, []
        self.control = self

    def inspect(self, **_: Any) -> "Celery":
        return self

    def active_queues(self) -> Any:
        return {"celery@node-1": [{"name": "batch"}, {"name": "default"}]} if self.there else None

    def active(self) -> Any:
        self.looks -= 1
        return {"celery@node-1": [{"id": "x"}] if self.looks > 0 else []}

    def reserved(self) -> Any:
        return {"celery@node-1": []}

    def cancel_consumer(self, queue: str, **_: Any) -> None:
        self.done.append(f"cancel {queue}")

    def shutdown(self, destination: list[str]) -> None:
        self.done.append(f"end {destination[0]}")


def drained(app: Celery, timeout: float = 100.0) -> tuple[bool, float]:
    time = [0.0]
    done = celery.drain(app, "node-1", timeout, sleep=lambda s: time.__setitem__(0, time[0] + s), clock=lambda: time[0])
    return done, time[0]


def test_a_worker_takes_nothing_more_finishes_what_it_has_and_ends():
    app = Celery(looks=5)
    assert drained(app) == (True, 8.0)
    assert app.done == ["cancel batch", "cancel default", "end celery@node-1"]


def test_running_work_is_never_ended():
    app = Celery(looks=10_000)
    assert drained(app)[0] is False
    assert app.done == ["cancel batch", "cancel default"]


def test_a_worker_that_is_gone_is_drained():
    assert drained(Celery(looks=5, there=False)) == (True, 0.0)


def test_how_a_worker_is_started():
    told = " ".join(celery.worker_command("node-1", "batch,gpu", 4))
    assert told == "airflow celery worker --celery-hostname celery@node-1 --queues batch,gpu --concurrency 4"
