"""A real Airflow: its tasks run on warm nodes, its queue is read, and neither stands still for the other."""

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.integration.airflow.conftest import PROVIDER, Airflow, Preprov, Reader, end, wait_for

pytestmark = pytest.mark.timeout(900)


def test_a_dag_with_operator_and_sensor_runs_on_warm_nodes(airflow: Airflow, preprov: Preprov, reader: Reader) -> None:
    assert len(reader.tokens) == 1
    run = airflow.trigger("example_preprov")
    assert airflow.ended("example_preprov", run) == "success", airflow.log.read_text()[-3000:]
    held = preprov("reservation", "list", "--all")["reservations"]
    mine = [r for r in held if "example_preprov" in r["claimant"]]
    assert len(mine) == 2, "two instances were asked for"
    assert all(r["state"] == "released" and r["node_id"] for r in mine), "each was bound to a node, and given back"


def test_what_is_queued_running_and_scheduled_there_shows_here(airflow: Airflow, preprov: Preprov) -> None:
    words = ("prod", "airflow", f"url={airflow.url}", "pool=batch", "requests_per_second=20", "history_days=1")
    added = preprov("source", "add", *words)
    assert all(f["state"] != "bad" for f in added["findings"])
    airflow.call("PATCH", "dags/nightly", json={"is_paused": False})
    runs = [airflow.trigger("busy") for _ in range(2)]
    wait_for("the first one runs", lambda: airflow.state("busy", runs[0]) == "running")
    (done,) = preprov("source", "sync")["passes"]
    assert done["new"] >= 2
    queue = preprov("queue", "analyze", "--pool", "batch")
    found = {r["run_id"]: r for r in queue["runs"]}
    for run in runs:
        assert (found[f"busy/{run}"]["tasks"], found[f"busy/{run}"]["width"], found[f"busy/{run}"]["depth"]) == (
            4,
            3,
            2,
        )
    assert "nightly" in {d["dag_id"] for d in queue["due"]} or queue["step_seconds"] * len(queue["points"]) < 86400
    assert "resting" not in {d["dag_id"] for d in queue["due"]}, "a paused DAG is not due"
    assert max(p["demand"][-1] for p in queue["points"]) >= 3.0, "three tasks of one core follow the first"


def test_a_token_that_expires_is_renewed(airflow: Airflow, reader: Reader) -> None:
    old = {"Authorization": reader.tokens[0]}
    wait_for("it expires", lambda: httpx.get(f"{airflow.url}/api/v2/dags", headers=old, timeout=240).status_code == 401)
    assert reader.read()
    assert len(set(reader.tokens)) == 2


def test_dags_run_while_preprov_is_down_and_are_told_of_later(airflow: Airflow, preprov: Preprov) -> None:
    end(preprov.children[-1])
    run = airflow.trigger("example_preprov_one_task")
    assert airflow.ended("example_preprov_one_task", run) == "success", airflow.log.read_text()[-3000:]
    preprov.serve()


def test_the_providers_own_tests_pass_in_airflows_environment(airflow_bin: Path) -> None:
    command = [str(airflow_bin / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=PROVIDER, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
