"""Reserve, wait, give back."""

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pendulum
import pytest
from conftest import Instance

from preprov_provider import client, reserving
from preprov_provider.compat import AirflowException, AirflowSensorTimeout, TaskDeferralTimeout
from preprov_provider.operators import preprov as operators
from preprov_provider.operators.preprov import ReleaseCapacityOperator, ReserveCapacityOperator
from preprov_provider.sensors import preprov as sensors
from preprov_provider.sensors.preprov import WarmCapacitySensor
from preprov_provider.triggers import preprov as triggers
from preprov_provider.triggers.preprov import ReservationReadyTrigger

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred


def reserve(**changes: Any) -> ReserveCapacityOperator:
    return ReserveCapacityOperator(**{"task_id": "reserve", "preprov_pool": "batch", "cpu": 2, **changes})


def at(**changes: Any) -> Any:
    """The context of another task instance."""
    return {"ti": type("I", (Instance,), changes)()}


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
    assert reserve().execute(at(run_id="r2"))["reservation_id"] != first["reservation_id"]


@pytest.mark.parametrize("over", ["expired", "released"])
def test_one_that_is_over_is_reserved_anew_however_often(preprov, context, over):
    """As after a clear: the reservation of the run before it was given back long ago."""
    found = [reserve().execute(context)]
    for _ in range(5):
        preprov.reservations[found[-1]["reservation_id"]].update(state=over, ready=False)
        found.append(reserve().execute(context))
        assert found[-1]["ready"]
        assert reserve().execute(context)["reservation_id"] == found[-1]["reservation_id"]
    assert len({f["reservation_id"] for f in found}) == 6


def test_not_even_the_hundredth_clear_is_one_too_many(preprov, context, monkeypatch):
    monkeypatch.setattr(reserving, "_KEYS", 3)
    for _ in range(9):
        preprov.expire(reserve().execute(context)["reservation_id"])
    assert reserve().execute(context)["ready"]


def test_mapped_tasks_side_by_side_have_a_reservation_each(preprov):
    found = [reserve().execute(at(map_index=i)) for i in range(3)]
    assert len({f["reservation_id"] for f in found}) == 3
    assert [f["claimant"] for f in found] == ["d/r/reserve[0]", "d/r/reserve[1]", "d/r/reserve[2]"]
    assert reserve().execute(at())["claimant"] == "d/r/reserve", "one that is not mapped has no index"


@pytest.mark.parametrize("claimant", [None, "nightly"])
@pytest.mark.parametrize("change", [{"cpu": 8}, {"count": 3}, {"start": "2040-01-05T02:00:00+00:00"}, {"memory": 1}])
def test_a_task_that_was_edited_gives_back_what_it_had_and_reserves_anew(preprov, context, claimant, change):
    first = reserve(claimant=claimant, count=2).execute(context)
    second = reserve(claimant=claimant, **{"count": 2, **change}).execute(context)
    assert preprov.states == ["released", "committed"]
    again = reserve(claimant=claimant, **{"count": 2, **change}).execute(context)
    assert again["reservation_id"] == second["reservation_id"] != first["reservation_id"], "tried again, it is found"
    back = reserve(claimant=claimant, count=2).execute(context)
    assert back["ready"], "edited back: what it had then is over"
    assert preprov.states == ["released", "released", "committed"]


def test_what_somebody_else_has_reserved_under_the_same_name_is_left(preprov, context):
    theirs = reserve(claimant="nightly").execute(at(dag_id="theirs"))
    with pytest.raises(client.PreprovError, match="live reservation already"):
        reserve(claimant="nightly").execute(context)
    assert preprov.reservations[theirs["reservation_id"]]["state"] == "committed"
    with pytest.raises(client.PreprovError, match="fits on no node"):
        reserve(cpu=5000).execute(context)


def test_long_names_are_shortened_and_told_apart(preprov):
    runs = [f"manual__{'x' * 240}{end}" for end in "ab"]
    found = [reserve().execute(at(dag_id="y" * 250, run_id=r)) for r in runs]
    assert [len(f["claimant"]) for f in found] == [250, 250]
    assert len({f["claimant"] for f in found}) == 2
    assert len(reserve(claimant="z" * 300).execute(at())["claimant"]) == 250


@pytest.mark.parametrize("start", ["2025-01-05T02:00:00", "2025-01-05 02:00", datetime(2025, 1, 5, 2)])  # noqa: DTZ001
def test_a_start_without_a_zone_is_in_that_of_the_dag(preprov, start):
    dag = type("D", (), {"timezone": pendulum.timezone("Europe/Berlin")})()
    reserve(start=start).execute({**at(), "dag": dag})
    assert datetime.fromisoformat(preprov.made[0]["asked"]["start"]) == datetime(2025, 1, 5, 1, tzinfo=timezone.utc)
    reserve(start=start, claimant="other").execute(at())
    assert datetime.fromisoformat(preprov.made[1]["asked"]["start"]) == datetime(2025, 1, 5, 2, tzinfo=timezone.utc)
    with pytest.raises(ValueError, match="whenever"):
        reserve(start="whenever").execute(at())


def test_it_can_go_on_without_waiting(preprov, context):
    preprov.patience = 100
    assert reserve(wait_for_ready=False).execute(context)["ready"] is False


SILENT = [True, 500, 501, 504, 429, "<html>a proxy</html>", "[]", '{"status": "ok"}']


@pytest.mark.parametrize("down", SILENT, ids=str)
def test_work_goes_on_without_preprov_unless_asked_otherwise(preprov, context, down):
    preprov.down = down
    assert reserve().execute(context) is None
    with pytest.raises(AirflowException, match="does not answer"):
        reserve(if_unavailable="fail").execute(context)
    assert WarmCapacitySensor(task_id="warm", reservation_id="r1", timeout=0).execute(context) is None
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


def deferred_by(operator: Any, context: Any) -> Any:
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


def test_killed_while_it_waits_it_gives_back_what_it_reserved(preprov, context, monkeypatch):
    preprov.patience, operator, away = 1000, reserve(), []

    def killed(*_: Any) -> Any:
        preprov.down = away.pop()
        operator.on_kill()
        raise SystemExit

    monkeypatch.setattr(client.Client, "wait", killed)
    for down, states in ((True, ["soft"]), (False, ["released"])):
        away.append(down)
        with pytest.raises(SystemExit):
            operator.execute(context)
        preprov.down = False
        assert preprov.states == states
    reserve(wait_for_ready=False).execute(context)
    reserve().on_kill()
    preprov.patience, done = 0, reserve()
    done.execute(context)
    done.on_kill()
    assert preprov.states == ["released", "committed"], "what its DAG goes on with is kept"


def test_nor_is_it_kept_if_the_task_is_ended_while_it_waits_in_the_triggerer(preprov, context):
    preprov.patience = 1000
    _, kwargs = deferred_by(reserve(deferrable=True), context).trigger.serialize()
    sensor = WarmCapacitySensor(task_id="warm", reservation_id="r1", deferrable=True)
    _, of_sensor = deferred_by(sensor, context).trigger.serialize()
    asyncio.run(ReservationReadyTrigger(**of_sensor).on_kill())
    assert preprov.states == ["soft"], "it is not the sensor's"
    preprov.down = True
    asyncio.run(ReservationReadyTrigger(**kwargs).on_kill())
    preprov.down = False
    asyncio.run(ReservationReadyTrigger(**kwargs).on_kill())
    assert preprov.states == ["released"]


def timed_out(operator: Any, context: Any) -> Any:
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
    with pytest.raises(AirflowException, match="is over"):
        timed_out(reserve(), context)
    assert timed_out(reserve(if_void="continue"), context) is None
    assert set(preprov.reservations) == {"r1"}, "none is made anew"
    second = reserve().execute(context)
    assert timed_out(reserve(cpu=8), context)["reservation_id"] == second["reservation_id"], "whatever the clock says"
    preprov.down = True
    assert timed_out(reserve(), context) is None
    with pytest.raises(AirflowException, match="does not answer"):
        timed_out(reserve(if_unavailable="fail"), context)


def test_it_is_found_among_many(preprov, context):
    preprov.patience, preprov.page = 1000, 2
    for index in range(5):
        reserve(wait_for_ready=False).execute(at(map_index=index))
    asked = deferred_by(reserve(deferrable=True), context).kwargs["reservation"]["reservation_id"]
    assert timed_out(reserve(if_void="continue"), context)["reservation_id"] == asked


def test_a_trigger_that_fails_is_another_thing(preprov, context):
    for waits in (reserve(), sensor(if_void="continue")):
        with pytest.raises((AirflowException, TaskDeferralTimeout), match="Trigger failure"):
            waits.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert preprov.asked == []


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


@pytest.mark.parametrize("page", ["<html>a proxy</html>", '{"status": "ok"}', "[]"])
def test_the_trigger_rests_where_something_else_answers(preprov, monkeypatch, page):
    time = [0.0]

    async def sleep(seconds: float) -> None:
        time[0] += seconds

    monkeypatch.setattr(triggers.asyncio, "sleep", sleep)
    monkeypatch.setattr(triggers.time, "monotonic", lambda: time[0])
    preprov.down = page
    assert "unavailable" in asyncio.run(first_event(ReservationReadyTrigger("r1", outage=120.0)))
    assert len(preprov.asked) < 10


def sensor(**changes: Any) -> WarmCapacitySensor:
    return WarmCapacitySensor(**{"task_id": "warm", "reservation_id": "r1", "timeout": 600, **changes})


@pytest.fixture
def clock(monkeypatch):
    """Seconds, moved by who sleeps."""
    now = [0.0]
    monkeypatch.setattr(sensors.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sensors.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    return now


def test_the_sensor_waits(preprov, context):
    preprov.patience = 100
    reserve(wait_for_ready=False).execute(context)
    assert sensor().poke(context) is False
    assert deferred_by(sensor(deferrable=True), context).timeout == timedelta(seconds=600)
    preprov.patience = 0
    assert sensor().poke(context) is True
    sensor(deferrable=True).execute(context)


@pytest.mark.parametrize("how", ["poke", "execute", "deferred"])
def test_one_that_is_over_fails_the_sensor_or_not_as_asked(preprov, context, how):
    reserve(wait_for_ready=False).execute(context)
    preprov.expire("r1")

    def done(**changes: Any) -> None:
        if how == "deferred":
            event = asyncio.run(first_event(ReservationReadyTrigger("r1")))
            sensor(deferrable=True, **changes).execute_complete(context, event)
        else:
            getattr(sensor(**changes), how)(context)

    with pytest.raises(AirflowException, match="expired"):
        done()
    done(if_void="continue")


def test_a_sensor_waits_out_an_outage_and_no_more_than_one(preprov, context, clock, monkeypatch):
    reserve(wait_for_ready=False).execute(context)
    look = client.Client.look

    def looked(self: Any, name: str) -> Any:
        preprov.down = clock[0] < 60
        return look(self, name)

    monkeypatch.setattr(client.Client, "look", looked)
    assert sensor(if_unavailable="fail").poke(context) is True
    monkeypatch.setattr(client.Client, "look", look)
    clock[0], preprov.down = 0.0, True
    assert sensor().poke(context) is True, "work does not stand still because preprov does"
    assert operators.OUTAGE_S <= clock[0] < 200
    with pytest.raises(AirflowException, match="does not answer"):
        sensor(if_unavailable="fail").poke(context)


def test_nor_does_one_that_waits_in_the_triggerer(preprov, context):
    preprov.patience = 1000
    reserve(wait_for_ready=False).execute(context)
    preprov.down = True
    _, kwargs = deferred_by(sensor(deferrable=True), context).trigger.serialize()
    assert kwargs["outage"] == operators.OUTAGE_S
    event = {"unavailable": "it does not answer"}
    sensor(deferrable=True).execute_complete(context, event)
    with pytest.raises(AirflowException, match="does not answer"):
        sensor(deferrable=True, if_unavailable="fail").execute_complete(context, event)


def test_capacity_that_does_not_come_in_time_fails_the_sensor_or_not_as_asked(preprov, context):
    preprov.patience = 1000
    reserve(wait_for_ready=False).execute(context)
    with pytest.raises(AirflowSensorTimeout):
        sensor(timeout=0).execute(context)
    sensor(timeout=0, if_void="continue").execute(context)
    with pytest.raises((AirflowSensorTimeout, TaskDeferralTimeout)):
        timed_out(sensor(deferrable=True), context)
    timed_out(sensor(deferrable=True, if_void="continue"), context)
    preprov.down = True
    timed_out(sensor(deferrable=True), context)
    with pytest.raises(AirflowException, match="does not answer"):
        timed_out(sensor(deferrable=True, if_unavailable="fail"), context)
    preprov.down, preprov.patience = False, 0
    timed_out(sensor(deferrable=True), context)


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
