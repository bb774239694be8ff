"""`preprov up` with a real Prefect server: deployments, scheduled runs, artifacts, one provision task per pool."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

TABLE = """run_id,dag_id,tenant,schedule,trigger,scheduled_for,submit,task,operator,parents,cpu,memory_gib,runtime_s
"""


def history() -> str:
    """The last four weeks of a DAG that runs every night."""
    rows = []
    for i in range(28, 0, -1):
        day = f"{datetime.now(UTC) - timedelta(days=i):%Y-%m-%d}"
        rows.append(f"etl/{i},etl,bi,0 2 * * *,scheduled,{day}T02:00:00Z,{day}T02:00:12Z,t,T,,4,8,{600 + i}")
    return TABLE + "\n".join(rows) + "\n"


def until(what: Callable[[], object], limit: float = 240) -> object:
    """Poll a real server for something that is not there yet."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError("it never came")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A running `preprov up` with one pool of history, and a client of its Prefect API."""
    folder, home = tmp_path_factory.mktemp("up"), tmp_path_factory.mktemp("home")
    env = {**os.environ, "PREPROV_HOME": str(home), "PREPROV_LOG_LEVEL": "info"}
    (folder / "history.csv").write_text(history())
    command = [sys.executable, "-m", "preprov.cli.main"]
    subprocess.run([*command, "init"], cwd=folder, env=env, check=True, timeout=120)
    ingest = [*command, "ingest", "dags", "history.csv", "--pool", "bi", "--tz", "UTC"]
    subprocess.run(ingest, cwd=folder, env=env, check=True, timeout=120)
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "up"], cwd=folder, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        said = until(lambda: re.search(r"prefect: (http\S+)", (folder / "up.log").read_text()))
        with httpx.Client(base_url=f"{said[1]}/api/", timeout=30) as client:  # type: ignore[index]
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        for log_file in (folder / "up.log", home / "prefect" / "server.log", home / "prefect" / "flows.log"):
            if log_file.exists():  # shown by pytest where a test failed
                sys.stdout.write(f"--- {log_file.name}\n{log_file.read_text()[-4000:]}\n")


def deployments(up: httpx.Client) -> dict[str, dict]:
    return {d["name"]: d for d in up.post("deployments/filter", json={}).json()}


def run_of(up: httpx.Client, deployment: str) -> dict:
    """Run a deployment and wait for its end."""
    found = until(lambda: deployments(up).get(deployment))

    def created() -> dict | None:
        answer = up.post(f"deployments/{found['id']}/create_flow_run", json={})  # type: ignore[index]
        return answer.json() if answer.is_success else None  # a busy server answers 503 now and then

    run = until(created)

    def ended() -> dict | None:
        now = up.get(f"flow_runs/{run['id']}").json()  # type: ignore[index]
        return now if now["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    return until(ended)  # type: ignore[return-value]


@pytest.mark.timeout(600)
def test_the_nightly_forecast_is_a_scheduled_deployment_and_a_run_of_it_leaves_its_artifacts(up):
    found = until(lambda: deployments(up).get("forecast-nightly"))
    assert [s["schedule"]["cron"] for s in found["schedules"] if s["active"]] == ["0 21 * * *"]
    run = run_of(up, "forecast-nightly")
    assert run["state_type"] == "COMPLETED", run["state"]
    kept = {a["key"]: a for a in up.post("artifacts/filter", json={}).json()}
    assert kept["forecast-bi"]["type"] == "table"
    assert "p50" in kept["forecast-bi"]["data"]
    assert kept["forecast-fan-bi"]["type"] == "image"
    assert "data:image/png;base64," in kept["forecast-fan-bi"]["data"]
    assert kept["forecast-laptop-missing"]["type"] == "markdown", "a pool without history is said, not failed"


@pytest.mark.timeout(600)
def test_warm_pools_shows_one_provision_task_run_per_pool(up):
    run = run_of(up, "warm-pools")
    assert run["state_type"] == "COMPLETED", run["state"]
    tasks = up.post("task_runs/filter", json={"flow_runs": {"id": {"any_": [run["id"]]}}}).json()
    assert sorted(t["name"] for t in tasks) == ["provision bi", "provision laptop"]
    assert all(t["state_type"] == "COMPLETED" and "preprov" in t["tags"] for t in tasks)
    kept = {a["key"]: a["type"] for a in up.post("artifacts/filter", json={}).json()}
    assert kept["plan-laptop"] == "table"
    assert kept["provision-laptop"] == "progress"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("deployment", ["analyze-queue", "adjust", "scale-down", "retrain-weekly"])
def test_every_other_deployment_completes(up, deployment):
    assert run_of(up, deployment)["state_type"] == "COMPLETED"
