"""A real Prefect server, served: limits follow warm nodes, workers run on them, a flow waits for its reservation."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from preprov.prefect_server import serving
from preprov.testing.local_nodes import cleared, processes
from tests.integration.airflow.conftest import Preprov, end, free_port
from tests.integration.prefect.up import sent, until

ROOT = Path(__file__).resolve().parents[3]
FLOWS = """
import json, os, time
from pathlib import Path
from prefect import flow, task
from prefect_preprov import on_warm_capacity, reservation

HERE = Path(__file__).parent

def note(name, **more):
    names = {"node": "PREPROV_NODE_ID", "pool": "PREPROV_POOL", "filled": "FILLED"}
    told = {**{k: os.environ.get(v) for k, v in names.items()}, **more}
    (HERE / f"{name}.json").write_text(json.dumps(told))

@task
def extract():
    return 1

@task
def load(x):
    return x

@flow(name="plain")
def plain(name="plain", seconds=1):
    note(name, began=time.time())
    load(extract())
    time.sleep(seconds)
    note(name, began=json.loads((HERE / f"{name}.json").read_text())["began"], ended=time.time())

@on_warm_capacity("batch", cpu=1, memory=0.5, timeout=240)
@flow(name="held", log_prints=True)
def held(fails=False):
    found = reservation()
    note("held", reserved=list(found.nodes), waited=found.waited_s, id=found.reservation_id)
    if fails:
        raise RuntimeError("as asked")
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
options = {{ delay = 5, pass_env = ["PREFECT_SERVER_ANALYTICS_ENABLED", "DO_NOT_TRACK"] }}
lead = {{ cold = {{ median = 40, p95 = 60 }} }}

[[pool.group.offering]]
type = "small"
cpu = 2
memory = 2
usd_per_hour = 0.1

[[source]]
name = "prod"
kind = "prefect"
url = "{url}"
pool = "batch"
every = 5
requests_per_second = 20
history_days = 1

[[serve]]
name = "flows"
pool = "batch"
url = "{url}"
work_pool = "workers"
run = {{ cpu = 1, memory = 0.5 }}
queues = {{ high = 0.5 }}
variables = {{ node = "node", of = "pool" }}
every = 2

[serve.worker]
command = ["{python}", "-m", "prefect_preprov.worker"]
poll = 1
env = {{ PYTHONPATH = "{package}", PREFECT_HOME = "{home}", PREPROV_URL = "{api}", PREPROV_TOKEN = "{token}" }}
"""


@dataclass
class Site:
    """Prefect, and preprov that serves it."""

    prefect: httpx.Client
    preprov: Preprov
    folder: Path
    up: Any

    def get(self, path: str) -> Any:
        """Asked until it answers: a busy server says 503 now and then."""

        def answered() -> Any:
            answer = self.prefect.get(path)
            return answer.is_success and answer.json()

        return until(answered)

    def pool(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/work_pools/workers")
        return found

    def limit(self) -> Any:
        return self.pool()["concurrency_limit"]

    def queue(self) -> Any:
        return self.get("/work_pools/workers/queues/high")["concurrency_limit"]

    def run(self, flow: str, *, after: float = 0.0, **parameters: Any) -> str:
        """Schedule a run of its deployment; returns its id."""
        due = datetime.now(UTC) + timedelta(seconds=after)
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}}
        deployment = self.get(f"/deployments/name/{flow}/d")["id"]
        body = {"state": state, "parameters": parameters}

        return str(sent(self.prefect, f"/deployments/{deployment}/create_flow_run", body)["id"])

    def ended(self, run_id: str) -> str:
        def over() -> str:
            kind = self.get(f"/flow_runs/{run_id}")["state"]["type"]
            return kind if kind in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else ""

        return str(until(over, 400))

    def told(self, name: str) -> dict[str, Any]:
        import json

        found: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return found

    def nodes(self) -> list[dict[str, Any]]:
        return [n for n in self.preprov("pool", "show", "batch")["nodes"] if n["phase"] == "ready"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, prefect_on_postgres: None) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("s")
    (folder / "flows.py").write_text(FLOWS)
    with serving(folder / "pf") as url, cleared(folder / "home"):
        preprov = Preprov(
            folder, free_port(), "", [], {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
        )
        (folder / "preprov.toml").write_text("")
        preprov.token = str(preprov("token", "create", "--tenant", "default", "--scope", "reserve")["token"])
        config = CONFIG.format(
            url=url,
            python=sys.executable,
            package=ROOT / "integrations" / "prefect",
            home=folder / "pf" / "prefect",
            api=f"http://127.0.0.1:{preprov.port}",
            token=preprov.token,
        )
        (folder / "preprov.toml").write_text(config)
        with httpx.Client(base_url=url, timeout=240, follow_redirects=True) as api:
            declare(api, folder)
            try:
                preprov.serve()
                yield Site(api, preprov, folder, preprov.start("up", "--no-prefect"))
            finally:
                for child in preprov.children:
                    end(child)
                for log in ("up.log", "serve.log"):
                    sys.stdout.write(f"--- {log}\n{(folder / log).read_text()[-6000:]}\n")
                for out in (folder / "home" / "nodes").glob("*/*/tasks/*/stdout.log"):
                    sys.stdout.write(f"--- {out}\n{out.read_text()[-1500:]}\n")
    assert processes(folder / "home") == []


def declare(api: httpx.Client, folder: Path) -> None:
    """A work pool with a limit of its own, and deployments."""
    properties = {
        "cpu": {"default": 1},
        "memory": {"default": "512Mi"},
        "node": {"type": "string"},
        "of": {},
        "env": {},
    }
    properties["working_dir"] = {"type": "string"}
    template = {
        "variables": {"type": "object", "properties": properties},
        "job_configuration": {"env": {"FILLED": "{{ node }} {{ of }}"}, "working_dir": "{{ working_dir }}"},
    }
    pool = {"name": "workers", "type": "process", "concurrency_limit": 5, "base_job_template": template}
    sent(api, "/work_pools/", pool)
    sent(api, "/work_pools/workers/queues/", {"name": "high", "priority": 1})
    schedule = {"active": True, "schedule": {"cron": "30 3 * * *", "timezone": "UTC"}}
    for name in ("plain", "held"):
        flow = sent(api, "/flows/", {"name": name})["id"]
        body = {
            "name": "d",
            "flow_id": flow,
            "schedules": [schedule] if name == "plain" else [],
            "work_pool_name": "workers",
            "work_queue_name": "default",
            "entrypoint": f"flows.py:{name}",
            "path": str(folder),
            "job_variables": {"working_dir": str(folder)},
            "enforce_parameter_schema": False,
        }
        sent(api, "/deployments/", body)


@pytest.mark.timeout(900)
def test_runs_are_prewarmed_concurrency_follows_and_a_flow_waits_for_its_reservation(site: Site) -> None:
    until(lambda: site.limit() == 0)
    until(lambda: site.queue() == 0)  # nothing is warm: no run may start

    # ---- a node is warm before a run is expected to start, and the run starts on it
    expected = datetime.now(UTC) + timedelta(seconds=150)
    first = site.run("plain", after=150, name="first", seconds=20)
    until(lambda: site.limit() == 2)
    ready = datetime.now(UTC)
    assert ready < expected
    until(lambda: site.queue() == 1)
    assert site.pool()["base_job_template"]["variables"]["properties"]["of"]["default"] == "batch"
    until(lambda: (site.folder / "first.json").exists())
    ran = site.told("first")
    (node,) = site.nodes()
    assert (ran["node"], ran["pool"]) == (node["node_id"], "batch")
    assert ran["filled"] == f"{node['node_id']} batch", "job variables are filled by the worker, and by the work pool"
    late = ran["began"] - expected.timestamp()
    sys.stdout.write(
        f"warm {(expected - ready).total_seconds():.0f} s before, the run began {late:.1f} s after its time\n"
    )
    assert late > -1

    # ---- a flow waits for its reservation and runs with it; it is given back, also when the flow fails
    for fails, state in ((False, "COMPLETED"), (True, "FAILED")):
        (site.folder / "held.json").unlink(missing_ok=True)
        assert site.ended(site.run("held", fails=fails)) == state
        held = site.told("held")
        sys.stdout.write(f"reservation on {held['reserved']} after {held['waited']:.1f} s\n")
        assert held["reserved"]
        assert set(held["reserved"]) <= {n["node_id"] for n in site.nodes()} | {held["node"]}
        (kept,) = [
            r for r in site.preprov("reservation", "list", "--all")["reservations"] if r["reservation_id"] == held["id"]
        ]
        assert kept["state"] == "released"
    assert site.ended(first) == "COMPLETED"


@pytest.mark.timeout(900)
def test_a_run_outlives_the_wish_to_end_its_node_and_everything_is_given_back(site: Site) -> None:
    run = site.run("plain", name="long", seconds=45)
    until(lambda: (site.folder / "long.json").exists())
    node = site.told("long")["node"]
    command = [sys.executable, "-m", "preprov.cli.main", "pool", "drain", "batch", node, "--yes"]
    subprocess.run(command, cwd=site.folder, env=site.preprov.env, check=True, timeout=120)
    assert site.ended(run) == "COMPLETED"
    ran = site.told("long")
    assert ran["ended"] - ran["began"] >= 45

    def gone() -> bool:
        return all(n["node_id"] != node for n in site.preprov("pool", "show", "batch")["nodes"])

    until(gone)
    until(lambda: site.limit() == 0, 400)  # it follows once Prefect has the time to be written to
    back = site.preprov("pool", "release", "batch", "--yes")
    assert [g["whole"] for g in back["groups"]] == [True] * len(back["groups"])
    assert site.limit() == 5
    assert site.queue() is None
    assert "default" not in site.pool()["base_job_template"]["variables"]["properties"]["of"]
    mine = [
        p
        for p in psutil.process_iter()
        if "prefect_preprov.worker" in " ".join(_words(p)) and str(site.folder) in _env(p)
    ]
    until(lambda: not [p for p in mine if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])


def _words(p: psutil.Process) -> list[str]:
    try:
        return p.cmdline()
    except psutil.Error:
        return []


def _env(p: psutil.Process) -> str:
    try:
        return p.environ().get("PREPROV_NODE_DIR", "")
    except psutil.Error:
        return ""
