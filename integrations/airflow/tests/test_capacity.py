"""Reserve, wait, give back."""

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from preprov_provider import client
from preprov_provider.compat import AirflowException
from preprov_provider.operators import preprov as operators
from preprov_provider.operators.preprov import ReleaseCapacityOperator, ReserveCapacityOperator
from preprov_provider.sensors.preprov import WarmCapacitySensor
from preprov_provider.triggers import preprov as triggers
from preprov_provider.triggers.preprov import ReservationReadyTrigger

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred


def reserve(**changes: Any) -> ReserveCapacityOperator:
    return ReserveCapacityOperator(
        **{"task_id": "reserve", "preprov_pool": "batch", "cpu": 2, "claimant": "d/r/reserve", **changes}
    )


def test_it_waits_until_the_capacity_is_warm(preprov, context):
    preprov.patience = 3
    found = reserve(count=2, memory=4).execute(context)
    assert (found["ready"], found["nodes"]) == (True, ["node-0", "node-1"])
    asked = preprov.reservations["r1"]["asked"]
    assert (asked["request"], asked["count"], asked["seconds"]) == ({"cpu": 2, "memory": 4}, 2, 3600)
    assert ("GET", "/v1/reservations/r1/wait") in preprov.asked


def test_a_retry_finds_the_reservation_of_the_first_try(preprov, context):
    first = reserve().execute(context)
    assert reserve().execute(context)["reservation_id"] == first["reservation_id"]
    other = {"ti": type("I", (), {**vars(type(context["ti"])), "run_id": "r2"})()}
    assert reserve().execute(other)["reservation_id"] != first["reservation_id"]


def test_one_that_is_over_is_reserved_anew(preprov, context):
    """As after a clear: the reservation of the run before it was given back long ago."""
    first = reserve().execute(context)
    preprov.expire(first["reservation_id"])
    second = reserve().execute(context)
    assert second["ready"]
    assert second["reservation_id"] != first["reservation_id"]
    assert reserve().execute(context)["reservation_id"] == second["reservation_id"]


def test_it_can_go_on_without_waiting(preprov, context):
    preprov.patience = 100
    assert reserve(wait_for_ready=False).execute(context)["ready"] is False


def test_work_goes_on_without_preprov_unless_asked_otherwise(preprov, context):
    preprov.down = True
    assert reserve().execute(context) is None
    with pytest.raises(AirflowException, match="does not answer"):
        reserve(if_unavailable="fail").execute(context)
    preprov.down = False
    with pytest.raises(client.PreprovError, match="no pool nowhere"):
        reserve(preprov_pool="nowhere").execute(context)


def test_it_waits_in_the_triggerer(preprov, context):
    preprov.patience = 1
    operator = reserve(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    path, kwargs = deferred.value.trigger.serialize()
    module, _, name = path.rpartition(".")
    assert (module, name) == (ReservationReadyTrigger.__module__, "ReservationReadyTrigger")
    event = asyncio.run(first_event(ReservationReadyTrigger(**kwargs)))
    found = getattr(operator, deferred.value.method_name)(context, event)
    assert found["ready"]


def test_what_is_ready_at_once_is_not_deferred(preprov, context):
    assert reserve(deferrable=True).execute(context)["ready"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_one_that_expires_fails_or_not_as_asked(preprov, context, deferrable):
    event = {"reservation": {"reservation_id": "r1", "state": "expired", "ready": False, "reason": "nobody came"}}
    with pytest.raises(AirflowException, match="expired: nobody came"):
        reserve(deferrable=deferrable).execute_complete(context, event)
    assert reserve(if_void="continue").execute_complete(context, event)["state"] == "expired"
    with pytest.raises(AirflowException, match="no right"):
        reserve().execute_complete(context, {"error": "no right"})


def deferred_by(operator: ReserveCapacityOperator, context: Any) -> Any:
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    return deferred.value


def test_the_wait_in_the_triggerer_has_an_end(preprov, context):
    preprov.patience = 1000
    asked = deferred_by(reserve(deferrable=True, timeout=timedelta(minutes=7)), context)
    assert asked.timeout == timedelta(minutes=7)
    assert deferred_by(reserve(deferrable=True), context).timeout == timedelta(hours=1), "it would end then"
    start = (datetime.now(timezone.utc) + timedelta(hours=3)).isoformat()
    later = deferred_by(reserve(deferrable=True, start=start, claimant="later"), context).timeout
    assert timedelta(hours=3, minutes=59) < later <= timedelta(hours=4)


def timed_out(operator: ReserveCapacityOperator, context: Any) -> Any:
    """As Airflow resumes a task whose deferral has timed out."""
    return operator.resume_execution("__fail__", {"error": "Trigger timeout"}, context)


def test_when_the_time_is_over_it_is_as_void(preprov, context):
    preprov.patience = 1000
    deferred_by(reserve(deferrable=True), context)
    with pytest.raises(AirflowException, match="not ready in time"):
        timed_out(reserve(), context)
    assert timed_out(reserve(if_void="continue"), context)["reservation_id"] == "r1"
    preprov.patience = 0
    assert timed_out(reserve(), context)["ready"], "it came at the last moment"
    preprov.expire("r1")
    with pytest.raises(AirflowException, match="expired"):
        timed_out(reserve(), context)
    assert set(preprov.reservations) == {"r1"}, "none is made anew"
    preprov.down = True
    assert timed_out(reserve(), context) is None
    with pytest.raises(AirflowException, match="does not answer"):
        timed_out(reserve(if_unavailable="fail"), context)


def test_a_trigger_that_fails_is_another_thing(preprov, context):
    with pytest.raises(AirflowException, match="Trigger failure"):
        reserve().resume_execution("__fail__", {"error": "Trigger failure"}, context)


def test_a_preprov_that_is_gone_for_good_is_not_waited_for(preprov, context, monkeypatch):
    preprov.patience = 1000
    asked = deferred_by(reserve(deferrable=True), context)
    time = [0.0]

    async def sleep(seconds: float) -> None:
        time[0] += seconds

    monkeypatch.setattr(triggers.asyncio, "sleep", sleep)
    monkeypatch.setattr(triggers.time, "monotonic", lambda: time[0])
    preprov.down = True
    _, kwargs = asked.trigger.serialize()
    event = asyncio.run(first_event(ReservationReadyTrigger(**kwargs)))
    assert time[0] >= operators.OUTAGE_S, "a short outage is waited out"
    found = getattr(reserve(), asked.method_name)(context, event, **asked.kwargs)
    assert found["reservation_id"] == "r1", "it can be given back"
    with pytest.raises(AirflowException, match="does not answer"):
        reserve(if_unavailable="fail").execute_complete(context, event, **asked.kwargs)


def waiting(preprov: Any, monkeypatch: Any, outage_s: float) -> list[float]:
    """An outage that begins when the wait does; the clock that it is measured by."""
    now, wait = [0.0], client.Client.wait

    def asked(self: Any, reservation_id: str, seconds: float) -> Any:
        preprov.down = now[0] < outage_s
        now[0] += 1.0
        return wait(self, reservation_id, 0.0)

    monkeypatch.setattr(client.Client, "wait", asked)
    monkeypatch.setattr(operators.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(operators.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    return now


def test_an_outage_while_it_waits_here_is_waited_out(preprov, context, monkeypatch):
    preprov.patience = 2
    waiting(preprov, monkeypatch, 60.0)
    assert reserve(if_unavailable="fail").execute(context)["ready"]


@pytest.mark.parametrize("timeout", [None, timedelta(minutes=10)])
def test_one_that_does_not_end_is_not(preprov, context, monkeypatch, timeout):
    preprov.patience = 1000
    now = waiting(preprov, monkeypatch, 1e9)
    found = reserve(timeout=timeout).execute(context)
    assert (found["reservation_id"], found["ready"]) == ("r1", False)
    assert operators.OUTAGE_S <= now[0] < 200


def test_nor_is_capacity_that_does_not_come(preprov, context, monkeypatch):
    preprov.patience = 1000
    now = waiting(preprov, monkeypatch, 0.0)
    with pytest.raises(AirflowException, match="not ready in time"):
        reserve(timeout=timedelta(minutes=1)).execute(context)
    assert 60 <= now[0] <= 62


def test_one_that_does_not_answer_fails_the_wait_if_asked(preprov, context, monkeypatch):
    preprov.patience = 1000
    waiting(preprov, monkeypatch, 1e9)
    with pytest.raises(AirflowException, match="does not answer"):
        reserve(if_unavailable="fail").execute(context)


async def first_event(trigger: ReservationReadyTrigger) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


def test_the_trigger_outlives_an_outage(preprov, monkeypatch):
    body = client.reservation("batch", "x", {"cpu": 1})
    preprov.patience = 2
    client.Client(preprov.url, "preprov_secret").reserve(body, "k")
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        preprov.down = len(slept) < 3

    preprov.down = True
    monkeypatch.setattr(triggers.asyncio, "sleep", sleep)
    event = asyncio.run(first_event(ReservationReadyTrigger("r1")))
    assert event["reservation"]["ready"]
    assert slept == [5.0, 10.0, 20.0], "more and more seldom"


def test_the_trigger_tells_what_is_refused(preprov):
    assert "no reservation" in asyncio.run(first_event(ReservationReadyTrigger("never")))["error"]


def test_the_sensor_waits(preprov, context):
    preprov.patience = 100
    reserve(wait_for_ready=False).execute(context)
    sensor = WarmCapacitySensor(task_id="warm", reservation_id="r1", timeout=60)
    assert sensor.poke(context) is False
    with pytest.raises(TaskDeferred) as deferred:
        WarmCapacitySensor(task_id="warm", reservation_id="r1", deferrable=True, timeout=60).execute(context)
    assert deferred.value.timeout == timedelta(seconds=60)
    preprov.down = True
    assert sensor.poke(context) is False, "an outage is waited out"
    preprov.down, preprov.patience = False, 0
    assert sensor.poke(context) is True
    WarmCapacitySensor(task_id="warm", reservation_id="r1", deferrable=True).execute(context)
    preprov.expire("r1")
    with pytest.raises(AirflowException, match="expired"):
        sensor.poke(context)


@pytest.mark.parametrize("nothing", ["None", "", None])
def test_nothing_reserved_is_nothing_to_wait_for_and_nothing_to_give_back(preprov, context, nothing):
    assert WarmCapacitySensor(task_id="warm", reservation_id=nothing).poke(context) is True
    ReleaseCapacityOperator(task_id="release", reservation_id=nothing).execute(context)
    assert preprov.asked == []


def test_it_is_given_back_and_an_outage_is_no_failure(preprov, context):
    reserve().execute(context)
    release = ReleaseCapacityOperator(task_id="release", reservation_id="r1")
    assert release.trigger_rule == "all_done"
    preprov.down = True
    release.execute(context)
    preprov.down = False
    release.execute(context)
    assert preprov.reservations["r1"]["state"] == "released"
    release.execute(context)


def test_what_names_a_run_is_templated():
    assert {"claimant", "preprov_pool", "cpu"} <= set(ReserveCapacityOperator.template_fields)
    assert reserve().pool in (None, "default_pool"), "the pool of Airflow is another thing"
