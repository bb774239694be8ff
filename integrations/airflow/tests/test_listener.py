"""Telling preprov what runs: never an error, never a wait."""

import inspect
import os
import threading
import time
from datetime import datetime, timezone

import pytest

from preprov_provider import listener, reporter
from preprov_provider.policies import Placement, _once, tell_of_queued

AT = datetime(2025, 3, 1, 2, 0, tzinfo=timezone.utc)


class Run:
    """As much of a run as the listener looks at."""

    dag_id, run_id, run_type, start_date, end_date = "etl", "scheduled__1", "scheduled", AT, AT
    state = None


class Task(Run):
    task_id, map_index, queue, pool, hostname, try_number = "load", 3, "batch", "default_pool", "node-1", 2


def test_runs_are_told_as_they_begin_and_end(told):
    listener.on_dag_run_running(Run(), "")
    listener.on_dag_run_success(Run(), "")
    listener.on_dag_run_failed(type("R", (Run,), {"run_id": "other"})(), "")
    assert listener.reporter().flush(10)
    found = [(e["kind"], e["run_id"], e.get("state")) for e in told.events]
    assert found == [
        ("started", "scheduled__1", None),
        ("finished", "scheduled__1", "succeeded"),
        ("finished", "other", "failed"),
    ]
    assert told.events[0]["at"] == AT.isoformat()
    assert len({e["event_id"] for e in told.events}) == 3
    assert told.events[0]["details"] == {"run_type": "scheduled"}


@pytest.mark.parametrize("named", ["run_after", "data_interval_end"])
def test_a_scheduled_run_says_which_turn_it_is(told, named):
    listener.on_dag_run_running(type("R", (Run,), {named: AT})(), "")
    listener.on_dag_run_running(type("R", (Run,), {named: AT, "run_type": "manual", "run_id": "m"})(), "")
    assert listener.reporter().flush(10)
    assert [e["details"].get("scheduled_for") for e in told.events] == [AT.isoformat(), None]


def test_the_same_event_has_the_same_id(told):
    for _ in range(2):
        listener.on_dag_run_running(Run(), "")
    assert listener.reporter().flush(10)
    assert len({e["event_id"] for e in told.events}) == 1


def test_tasks_are_told_where_that_is_asked_for(told, monkeypatch):
    listener.on_task_instance_running(None, Task())
    monkeypatch.setenv("AIRFLOW__PREPROV__TASKS", "True")
    listener.on_task_instance_running(None, Task())
    listener.on_task_instance_success(None, Task())
    listener.on_task_instance_failed(None, of(Task, try_number=3))
    assert listener.reporter().flush(10)
    assert [(e["kind"], e["task_id"], e.get("state")) for e in told.events] == [
        ("started", "load[3]", None),
        ("finished", "load[3]", "succeeded"),
        ("finished", "load[3]", "failed"),
    ]
    assert told.events[0]["details"]["queue"] == "batch"


def test_without_an_address_nothing_is_told(monkeypatch):
    monkeypatch.delenv("AIRFLOW__PREPROV__URL", raising=False)
    listener.reporter.cache_clear()
    listener.on_dag_run_running(Run(), "")
    assert listener.reporter() is None
    listener.reporter.cache_clear()


def of(kind=Run, **changes):
    """Another one of them."""
    return type("O", (kind,), changes)()


def test_long_names_do_not_make_events_look_alike(told, monkeypatch):
    monkeypatch.setenv("AIRFLOW__PREPROV__TASKS", "True")
    long = {"dag_id": "d" * 250, "run_id": "r" * 250, "task_id": "t" * 250}
    listener.on_dag_run_running(of(**long), "")
    listener.on_dag_run_success(of(**long), "")
    for index in (1, 2):
        listener.on_task_instance_running(None, of(Task, **long, map_index=index))
    assert listener.reporter().flush(10)
    assert [e["kind"] for e in told.events] == ["started", "finished", "started", "started"]
    assert all(len(e["event_id"]) <= 250 and len(e["task_id"]) <= 250 for e in told.events)
    assert len({e["task_id"] for e in told.events[2:]}) == 2


def test_one_event_that_is_refused_costs_no_other(told):
    gate, send = threading.Event(), listener.reporter()._send
    to = reporter.Reporter(lambda batch: (gate.wait(30), send(batch)))
    for i in range(100):
        event = {"event_id": f"e{i}", "kind": "started", "dag_id": "etl", "run_id": "" if i in (3, 50) else f"r{i}"}
        to.tell(event)
    gate.set()
    assert to.flush(30)
    assert [e["event_id"] for e in told.events] == [f"e{i}" for i in range(100) if i not in (3, 50)], "in their order"
    assert len([a for a in told.asked if a[1] == "/v1/events"]) < 40


@pytest.mark.parametrize("component", [None, "scheduler"])
def test_a_process_that_ends_does_not_wait_for_a_preprov_that_is_down(told, component):
    told.down = True
    listener.on_dag_run_running(Run(), "")
    began = time.monotonic()
    listener.before_stopping(component)
    listener.reporter().leave(60.0)
    assert time.monotonic() - began < 30, "no longer than the first answer takes"


def test_it_waits_once_for_one_that_hangs_and_else_until_all_is_told(told):
    gate = threading.Event()
    hangs = reporter.Reporter(lambda batch: gate.wait(60))
    hangs.tell({"n": 1})
    hangs.leave(0.01)
    began = time.monotonic()
    hangs.leave(60.0)
    assert time.monotonic() - began < 30
    gate.set()
    for i in range(300):
        listener.on_dag_run_running(of(run_id=f"r{i}"), "")
    listener.reporter().leave(60.0)
    assert len(told.events) == 300


def test_the_hooks_take_no_more_than_the_oldest_airflow_names():
    """pluggy refuses a plugin of which a hook names an argument that the specification lacks: these are of 2.9."""
    named = {
        "on_dag_run": {"dag_run", "msg"},
        "on_task_instance": {"previous_state", "task_instance", "session"},
        "before_stopping": {"component"},
    }
    hooks = {n: f for n, f in vars(listener).items() if n.startswith(("on_", "before_"))}
    assert len(hooks) == 7
    for name, hook in hooks.items():
        (known,) = (v for k, v in named.items() if name.startswith(k))
        assert set(inspect.signature(hook).parameters) <= known, name


@pytest.mark.parametrize(("trust", "heard"), [("ca", True), ("False", True), ("True", False), ("", False)])
def test_the_listener_can_be_told_which_certificates_to_trust(told, monkeypatch, certified, trust, heard):
    context, authority = certified
    monkeypatch.setenv("AIRFLOW__PREPROV__URL", told.secured(context))
    monkeypatch.setenv("AIRFLOW__PREPROV__VERIFY", str(authority) if trust == "ca" else trust)
    listener.on_dag_run_running(Run(), "")
    listener.reporter().leave(30.0)
    assert [e["kind"] for e in told.events] == (["started"] if heard else [])


@pytest.mark.parametrize("thing", [None, object(), 5, type("R", (), {"dag_id": "x"})()])
def test_nothing_it_is_given_makes_it_raise(told, thing):
    for hook in (listener.on_dag_run_running, listener.on_dag_run_success, listener.on_dag_run_failed):
        hook(thing, "")
    tell_of_queued(thing)
    listener.on_dag_run_running(Run(), "")
    assert listener.reporter().flush(10)
    assert [e["run_id"] for e in told.events] == ["scheduled__1"], "nor is anything told of it, but the next run is"


def test_a_preprov_that_is_down_costs_nothing_and_is_told_later(told, monkeypatch):
    told.down, senders, send = True, set(), listener._send

    def noted(*given):
        senders.add(threading.get_ident())
        send(*given)

    monkeypatch.setattr(listener, "_send", noted)
    to = listener.reporter()
    to._rest_s = 0.01
    for i in range(500):
        listener.on_dag_run_running(type("R", (Run,), {"run_id": f"r{i}"})(), "")
    told.down = False
    assert to.flush(30)
    assert len({e["run_id"] for e in told.events}) == 500
    assert senders
    assert threading.get_ident() not in senders, "whoever tells never speaks to preprov itself"


def test_the_queue_is_bounded_and_what_does_not_fit_is_counted():
    gate = threading.Event()
    to = reporter.Reporter(lambda batch: gate.wait(30))
    for i in range(reporter.MOST_WAITING + reporter.MOST_AT_ONCE + 500):
        to.tell({"n": i})
    assert 500 <= to.dropped <= 500 + reporter.MOST_AT_ONCE + 1
    gate.set()
    assert to.flush(30)


def test_what_is_refused_is_not_told_for_ever(told):
    told.refuse_events = True
    listener.on_dag_run_running(Run(), "")
    assert listener.reporter().flush(10)
    told.refuse_events = False
    listener.on_dag_run_success(Run(), "")
    assert listener.reporter().flush(10)
    assert [e["kind"] for e in told.events] == ["finished"]


def test_a_forked_process_tells_by_itself(told):
    listener.on_dag_run_running(Run(), "")
    assert listener.reporter().flush(10)
    child = os.fork()
    if child == 0:
        listener.on_dag_run_success(Run(), "")
        os._exit(0 if listener.reporter().flush(10) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [e["kind"] for e in told.events] == ["started", "finished"]


def test_a_run_that_is_queued_is_told_once_by_the_cluster_policy(told):
    for _ in range(5):
        tell_of_queued(of(Task))
    _once.cache_clear()  # as in another scheduler, or after it began anew
    tell_of_queued(of(Task, state="scheduled"))
    assert listener.reporter().flush(10)
    assert [(e["kind"], e["task_id"]) for e in told.events] == [("queued", "")]


def test_nor_is_it_told_before_there_is_a_run_or_after_it_has_begun(told):
    for changes in ({"run_id": None}, *({"state": s} for s in ("queued", "running", "success", "up_for_retry"))):
        tell_of_queued(of(Task, **changes))
    tell_of_queued(of(Task))
    assert listener.reporter().flush(10)
    assert [(e["kind"], e["run_id"]) for e in told.events] == [("queued", "scheduled__1")]


class Operator:
    """As much of an operator as a policy looks at."""

    def __init__(self, queue: str, pool: str = "default_pool", executor_config: object = None) -> None:
        self.queue, self.pool, self.executor_config = queue, pool, executor_config


def test_a_policy_fills_in_what_a_task_leaves_open():
    place = Placement(queues={"batch*": "warm"}, requests={"batch": {"cpu": 2, "memory": 4.5}})
    plain, own, other = Operator("batch"), Operator("batch", "mine", {"x": 1}), Operator("web")
    for task in (plain, own, other):
        place(task)
    assert (plain.pool, plain.executor_config) == (
        "warm",
        {"KubernetesExecutor": {"request_cpu": "2", "request_memory": "4.5Gi"}},
    )
    assert (own.pool, own.executor_config) == ("mine", {"x": 1})
    assert (other.pool, other.executor_config) == ("default_pool", None)
