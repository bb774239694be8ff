"""Real Celery workers on nodes that drain: what runs is finished, nothing new begins, and nothing is lost."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from preprov.store.database import open_store
from tests.integration.airflow.conftest import (
    Airflow,
    Preprov,
    end,
    free_port,
    settings_of_3,
    standalone,
    wait_for,
)

pytestmark = pytest.mark.timeout(900)

TASKS = """
import os, sys, time
from pathlib import Path

from celery import Celery

here = Path(__file__).parent
app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={k: str(here / "broker") for k in ("data_folder_in", "data_folder_out")}
    | {"control_folder": str(here / "control")},
    task_default_queue="batch", task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True,
)

@app.task(name="work")
def work(name, seconds):
    (here / f"{name}.began").write_text(os.environ["PREPROV_NODE_ID"])
    time.sleep(seconds)
    (here / f"{name}.ended").touch()
"""
WORKER = """
import sys
from preprov_provider import celery
import tasks

name = sys.argv[1]
command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--hostname", celery.hostname(name)]
command += ["--concurrency", "1", "--queues", "batch", "--loglevel", "INFO"]
sys.exit(celery.serve(command, lambda: tasks.app, name, lambda: celery.told_to_leave(name)))
"""


@dataclass
class Site:
    """A broker, and workers of our own on nodes."""

    python: Path
    folder: Path
    children: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def worker(self, name: str) -> "subprocess.Popen[bytes]":
        """Starts on a node of its own; its own process tells it to leave, Celery's does the tasks."""
        node = self.folder / name
        node.mkdir()
        env = {**os.environ, "PREPROV_NODE_DIR": str(node), "PREPROV_NODE_ID": name}
        with (node / "log").open("wb") as log:
            child = subprocess.Popen(
                [str(self.python), "worker.py", name],
                cwd=self.folder, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.children.append(child)
        wait_for(f"worker {name}", lambda: "ready." in self.log(name))
        return child

    def log(self, name: str) -> str:
        return (self.folder / name / "log").read_text()

    def send(self, name: str, seconds: float) -> None:
        code = f"import tasks; tasks.work.delay({name!r}, {seconds})"
        subprocess.run([str(self.python), "-c", code], cwd=self.folder, check=True, timeout=120)

    def has(self, what: str) -> bool:
        return (self.folder / what).exists()


@pytest.fixture
def site(airflow_bin: Path, tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "worker.py").write_text(WORKER)
    for name in ("broker", "control"):
        (tmp_path / name).mkdir()
    made = Site(airflow_bin / "python", tmp_path)
    yield made
    for child in made.children:
        end(child)


def test_a_running_task_survives_the_drain_and_no_new_one_begins(site: Site) -> None:
    worker = site.worker("n1")
    site.send("first", 20.0)
    wait_for("it runs", lambda: site.has("first.began"))
    (site.folder / "n1" / "draining").touch()
    wait_for("its consumers are cancelled", lambda: "takes nothing more from batch" in site.log("n1"))
    site.send("second", 0.1)
    assert not site.has("first.ended"), "all this while it runs"
    wait_for("the worker leaves", lambda: worker.poll() is not None)
    assert worker.returncode == 0, site.log("n1")[-3000:]
    assert site.has("first.ended"), "it was let finish"
    assert not site.has("second.began")
    site.worker("n2")
    wait_for("the next worker does it", lambda: site.has("second.ended"))
    assert (site.folder / "second.began").read_text() == "n2"


# ------------------------------------------------------------------ the whole of it: Airflow, Celery, preprov

DAGS = """
from datetime import datetime, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

ASKS = {"KubernetesExecutor": {"request_cpu": "1", "request_memory": "256Mi"}}
for name, seconds in (("long", 45), ("short", 1)):
    with DAG(name, schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)):
        BashOperator(task_id="only", bash_command=f"sleep {seconds}", queue="batch", executor_config=ASKS)
"""
EXECUTOR = """
from airflow.providers.celery.executors.celery_executor import CeleryExecutor


class StandaloneCelery(CeleryExecutor):
    '''`airflow standalone` takes no other: its workers are on this machine too.'''

    is_local = True
"""
CONFIG = """
[controller]
tick_seconds = 2
plan_seconds = 10

[[pool]]
name = "batch"
mode = "full"
binding = ["cpu", "memory"]
step = 15
horizon = 3600

[[pool.group]]
name = "local"
provider = "local"
states = ["running"]
max_nodes = 2

[[pool.group.offering]]
type = "small"
cpu = 1
memory = 4
usd_per_hour = 0.1

[[source]]
name = "prod"
kind = "airflow"
url = "{url}"
pool = "batch"
every = 5
requests_per_second = 20
history_days = 1

[[serve]]
name = "celery"
kind = "celery"
pool = "batch"
source = "prod"
run = {{ cpu = 1 }}
every = 2

[serve.worker]
command = ["{python}", "-m", "preprov_provider.celery"]
queues = ["batch"]
options = ["--skip-serve-logs"]

[serve.worker.env]
{env}
"""


@dataclass
class Place:
    """Where the Airflow is going to be, and its settings: preprov and the workers have to know before it is there."""

    home: Path
    port: int
    settings: dict[str, str]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home, port = tmp_path_factory.mktemp("ac"), free_port()
    for folder in ("plugins", "broker", "control"):
        (home / folder).mkdir()
    (home / "plugins" / "standalone_celery.py").write_text(EXECUTOR)
    settings = {
        **settings_of_3(port),
        "CORE__EXECUTOR": "standalone_celery.StandaloneCelery",
        "CORE__LOAD_EXAMPLES": "False",
        "CELERY__BROKER_URL": "filesystem://",
        "CELERY__RESULT_BACKEND": f"db+sqlite:///{home}/results.db",
        "CELERY_BROKER_TRANSPORT_OPTIONS__DATA_FOLDER_IN": f"{home}/broker",
        "CELERY_BROKER_TRANSPORT_OPTIONS__DATA_FOLDER_OUT": f"{home}/broker",
        "CELERY_BROKER_TRANSPORT_OPTIONS__CONTROL_FOLDER": f"{home}/control",
    }
    return Place(home, port, settings)


@pytest.fixture(scope="module")
def pool_section(airflow_bin: Path, where: Place) -> str:
    env = {"AIRFLOW_HOME": str(where.home), **{f"AIRFLOW__{k}": v for k, v in where.settings.items()}}
    lines = "\n".join(f"{k} = {json.dumps(v)}" for k, v in env.items())
    return CONFIG.format(url=f"http://127.0.0.1:{where.port}", python=airflow_bin / "python", env=lines)


@pytest.fixture(scope="module")
def celery_airflow(airflow_bin: Path, preprov: Preprov, where: Place) -> Iterator[Airflow]:
    made = Airflow(f"http://127.0.0.1:{where.port}", where.home / "standalone.log")
    with standalone(airflow_bin, where.home, preprov, where.settings, made.log, DAGS):
        wait_for("Airflow", lambda: httpx.get(f"{made.url}/api/v2/version").is_success)
        wait_for("its DAGs", lambda: {"long", "short"} <= {d["dag_id"] for d in made.call("GET", "dags")["dags"]})
        try:
            yield made
        finally:
            for log in (preprov.folder / "up.log", *(preprov.folder / "home").glob("nodes/*/*/tasks/*/stdout.log")):
                sys.stdout.write(f"--- {log}\n{log.read_text()[-3000:]}\n")


def test_airflows_tasks_run_on_warm_nodes_that_stay_until_they_have_ended(
    celery_airflow: Airflow, preprov: Preprov
) -> None:
    def task(dag: str, run: str) -> dict[str, Any]:
        found: dict[str, Any] = celery_airflow.call("GET", f"dags/{dag}/dagRuns/{run}/taskInstances/only")
        return found

    def nodes() -> dict[str, str]:
        return {n["node_id"]: n["phase"] for n in preprov("pool", "show", "batch")["nodes"]}

    assert nodes() == {}
    first = celery_airflow.trigger("long")
    wait_for("it runs", lambda: task("long", first)["state"] == "running")
    on = task("long", first)["hostname"]
    assert on in nodes(), "on a node that was warmed for it"
    with closing(open_store("", preprov.folder / "home")) as store:
        store.ports().intent.set_drain("batch", {on})
    wait_for("its worker is to leave", lambda: nodes().get(on) == "draining")
    second = celery_airflow.trigger("short")
    assert celery_airflow.ended("long", first) == "success", celery_airflow.log.read_text()[-3000:]
    ran = task("long", first)
    assert (ran["hostname"], ran["try_number"]) == (on, 1), "it was let finish"
    assert celery_airflow.ended("short", second) == "success"
    assert task("short", second)["hostname"] != on, "nothing new began there"
    wait_for("the drained node goes", lambda: on not in nodes())
    wait_for("so does the other: an idle worker keeps none", lambda: not nodes())
