"""The example DAGs are loaded, and run to their end."""

from pathlib import Path

import pytest

import preprov_provider

EXAMPLES = Path(preprov_provider.__file__).parent / "example_dags"


@pytest.fixture(scope="module")
def dags(database):
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    bag = DagBag(str(EXAMPLES))  # examples of Airflow's own are off, see conftest
    assert bag.import_errors == {}
    return bag.dags


def test_all_of_them_load(dags):
    assert set(dags) == {"example_preprov", "example_preprov_one_task", "preprov_publish_timetables"}
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
