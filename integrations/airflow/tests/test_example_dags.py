"""The example DAGs are loaded, and run to their end."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import preprov_provider
from preprov_provider import listener
from preprov_provider.policies import tell_of_queued

EXAMPLES = Path(preprov_provider.__file__).parent / "example_dags"
MAPPED = Path(__file__).parent / "dags"


def read(folder):
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    bag = DagBag(str(folder))  # examples of Airflow's own are off, see conftest
    assert bag.import_errors == {}
    return bag.dags


@pytest.fixture(scope="module")
def dags(database):
    return read(EXAMPLES)


def test_all_of_them_load(dags):
    upkeep = {"preprov_publish_timetables", "preprov_follow_capacity"}
    assert set(dags) == {"example_preprov", "example_preprov_one_task", *upkeep}
    assert "work" in dags["example_preprov"].get_task("release").upstream_task_ids


def test_they_can_be_serialised(dags):
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialized
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as Serialized
    for dag in dags.values():
        assert dag.dag_id in str(Serialized.to_dict(dag)["dag"])


@pytest.mark.parametrize("dag_id", ["example_preprov", "example_preprov_one_task"])
@pytest.mark.parametrize("down", [False, True])
def test_they_run_to_their_end_with_preprov_and_without(dags, preprov, dag_id, down):
    preprov.patience, preprov.down = 2, down
    run = dags[dag_id].test()
    assert str(getattr(run.state, "value", run.state)) == "success"
    if down:
        assert preprov.reservations == {}
    else:
        assert preprov.reservations["r1"]["state"] == ("released" if dag_id == "example_preprov" else "committed")


def test_mapped_tasks_have_a_reservation_each(database, preprov):
    run = read(MAPPED)["mapped"].test()
    assert str(getattr(run.state, "value", run.state)) == "success"
    made = {r["claimant"]: r["asked"]["request"]["cpu"] for r in preprov.made}
    assert made == {f"mapped/{run.run_id}/reserve[{i}]": i + 1 for i in range(3)}
    assert preprov.states == ["committed"] * 3


@pytest.fixture
def policy():
    """A cluster policy that tells of queued runs, as Airflow itself calls it."""
    from airflow import settings
    from airflow.policies import hookimpl

    def task_instance_mutation_hook(task_instance):
        seen.append(task_instance.run_id)
        tell_of_queued(task_instance)

    seen = []
    plugin = SimpleNamespace(task_instance_mutation_hook=hookimpl(task_instance_mutation_hook))
    at_hand = hasattr(settings, "get_policy_plugin_manager")
    manager = settings.get_policy_plugin_manager() if at_hand else settings.POLICY_PLUGIN_MANAGER
    manager.register(plugin)
    yield seen
    manager.unregister(plugin)


def test_of_a_queued_run_airflow_itself_lets_tell_once(dags, told, policy):
    from airflow.models.taskinstance import TaskInstance

    dag = dags["example_preprov_one_task"]
    if "dag_version_id" in inspect.signature(TaskInstance).parameters:
        TaskInstance(dag.get_task("work"), dag_version_id=None)
    run = dag.test()
    assert None in policy, "it calls it before there is a run, too"
    assert listener.reporter().flush(30)
    assert [(e["run_id"], e["task_id"]) for e in told.events if e["kind"] == "queued"] == [(run.run_id, "")]


@pytest.mark.parametrize("unknown", ["", "down", "unseen"])
def test_slots_follow_what_is_warm_and_stay_while_that_is_not_known(dags, preprov, monkeypatch, unknown):
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps({"conn_type": "http", "host": preprov.url}))
    preprov.airflow_pools, preprov.down = {"warm": 3}, unknown == "down"
    preprov.pool.update(preprov.room(allocatable=9.5, held=6.0, yours=2.0), pool="batch")
    if unknown == "unseen":
        preprov.pool["seen_at"] = None
    run = dags["preprov_follow_capacity"].test()
    assert str(getattr(run.state, "value", run.state)) == ("failed" if unknown else "success")
    assert preprov.airflow_pools == {"warm": 3 if unknown else 5}, "others hold 4 of the 9, and a half"
