"""The last Airflow 2, real: read by its stable REST API, and its tasks wait for warm nodes as those of 3 do."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.airflow.conftest import PROVIDER, Airflow, Preprov, wait_for

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.environ.get("PREPROV_LONG"),
        reason="a second Airflow takes minutes more, and its 3.3 is tried in every run: PREPROV_LONG=1 starts it",
    ),
]


def test_a_dag_with_a_deferrable_operator_runs_on_a_warm_node(airflow2: Airflow, preprov: Preprov) -> None:
    run = airflow2.trigger("example_preprov_one_task")
    assert airflow2.ended("example_preprov_one_task", run) == "success", airflow2.log.read_text()[-3000:]
    held = preprov("reservation", "list", "--all")["reservations"]
    (mine,) = [r for r in held if "example_preprov_one_task" in r["claimant"]]
    assert mine["node_id"], "it was bound to a node"


def test_what_is_queued_and_running_there_shows_here(airflow2: Airflow, preprov: Preprov) -> None:
    preprov.more["AF_PASSWORD"] = airflow2.password
    login = ("auth=basic", "user=admin", "password.env=AF_PASSWORD")
    words = ("old", "airflow", f"url={airflow2.url}", *login, "pool=batch", "requests_per_second=20", "history_days=1")
    added = preprov("source", "add", *words)
    assert all(f["state"] != "bad" for f in added["findings"])
    assert any("2.11" in f["found"] for f in added["findings"])
    runs = [airflow2.trigger("busy") for _ in range(2)]
    wait_for("the first one runs", lambda: airflow2.state("busy", runs[0]) == "running")
    (done,) = preprov("source", "sync")["passes"]
    assert done["new"] >= 2
    found = {r["run_id"]: r for r in preprov("queue", "analyze", "--pool", "batch")["runs"]}
    for run in runs:
        shape = found[f"busy/{run}"]
        assert (shape["tasks"], shape["width"], shape["depth"]) == (4, 3, 2)


def test_the_providers_own_tests_pass_in_airflows_environment(airflow2_bin: Path) -> None:
    command = [str(airflow2_bin / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=PROVIDER, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
