"""Telling preprov what runs: never an error, never a wait."""

import os
import threading
from datetime import datetime, timezone

import pytest

from preprov_provider import listener, reporter
from preprov_provider.policies import Placement, _once, tell_of_queued

AT = datetime(2025, 3, 1, 2, 0, tzinfo=timezone.utc)


class Run:
    """As much of a run as the listener looks at."""

    dag_id, run_id, run_type, start_date, end_date = "etl", "scheduled__1", "scheduled", AT, AT


class Task(Run):
    task_id, map_index, queue, pool, hostname, try_number = "load", 3, "batch", "default_pool", "node-1", 2


@pytest.fixture
def told(preprov, monkeypatch):
    monkeypatch.setenv("AIRFLOW__PREPROV__URL", preprov.url)
    monkeypatch.setenv("AIRFLOW__PREPROV__TOKEN", "preprov_secret")
    monkeypatch.setenv("AIRFLOW__PREPROV__SOURCE", "airflow-test")
    listener.reporter.cache_clear()
    _once.cache_clear()
    yield preprov
    listener.reporter.cache_clear()


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
    listener.on_task_instance_failed(None, Task(), "boom")
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
        tell_of_queued(Task())
    assert listener.reporter().flush(10)
    assert [(e["kind"], e["task_id"]) for e in told.events] == [("queued", "")]


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
