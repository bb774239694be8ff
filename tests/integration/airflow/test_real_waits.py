"""A real Airflow and a real node, with delays of slot, boot, image and data: which of them is told as what."""

import hashlib
import io
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.airflow.conftest import Airflow, Preprov, free_port, settings_of_3, standalone, wait_for

pytestmark = pytest.mark.timeout(900)

BOOT_S, IMAGE_S, DATA_S, HOLD_S = 30.0, 30.0, 30.0, 60.0
DAGS = f"""
from datetime import datetime, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("waits", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)):
    BashOperator(task_id="hold", bash_command="sleep {HOLD_S:g}", pool="dwh", priority_weight=10)
    BashOperator(task_id="behind", bash_command="true", pool="dwh")
    BashOperator(task_id="on_a_node", bash_command="true", queue="nodes")
"""
EXECUTOR = """
import os
from pathlib import Path

from airflow.executors.base_executor import BaseExecutor
from airflow.executors.local_executor import LocalExecutor

READY = Path(os.environ["AIRFLOW_HOME"]) / "node"
plain = BaseExecutor.run_workload


def as_worker(workload, **more):
    on_node = getattr(getattr(workload, "ti", None), "queue", "") == "nodes"
    os.environ["PREPROV_NODE_ID"] = READY.read_text() if on_node else "always-there"
    return plain(workload, **more)


BaseExecutor.run_workload = staticmethod(as_worker)


class NodeExecutor(LocalExecutor):
    '''The queue `nodes` has a worker as soon as its node is ready.'''

    def trigger_tasks(self, open_slots):
        held = {}
        if not READY.exists():
            held = {k: w for k, w in self.queued_tasks.items() if w.ti.queue == "nodes"}
        for key in held:
            del self.queued_tasks[key]
        super().trigger_tasks(open_slots)
        self.queued_tasks.update(held)
"""


@dataclass
class Slow:
    """Where an image and a dataset come from, each after its time."""

    url: str
    digest: str


@pytest.fixture(scope="module")
def slow() -> Iterator[Slow]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("app/hello")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    content = {"/app.tar": (packed.getvalue(), IMAGE_S), "/rows.bin": (b"x" * 1000, DATA_S)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, after_s = content[self.path]
            time.sleep(after_s)  # the delay that is injected
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Slow(f"http://127.0.0.1:{server.server_port}", f"sha256:{hashlib.sha256(packed.getvalue()).hexdigest()}")
    server.shutdown()


@pytest.fixture(scope="module")
def pool_section(slow: Slow) -> str:
    return f"""
[[pool]]
name = "batch"
mode = "full"
binding = ["cpu", "memory"]
step = 15
horizon = 3600

[pool.preload]
images = [{{ uri = "{slow.url}/app.tar", digest = "{slow.digest}" }}]
datasets = [{{ uri = "{slow.url}/rows.bin" }}]

[[pool.group]]
name = "local"
provider = "local"
states = ["running"]
max_nodes = 1
options = {{ delay = {BOOT_S} }}

[[pool.group.offering]]
type = "small"
cpu = 2
memory = 2
usd_per_hour = 0.1
"""


@pytest.fixture(scope="module")
def waiting(airflow_bin: Path, preprov: Preprov, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    home, port = tmp_path_factory.mktemp("aw"), free_port()
    (home / "plugins").mkdir()
    (home / "plugins" / "node_executor.py").write_text(EXECUTOR)
    settings = {
        **settings_of_3(port),
        "CORE__EXECUTOR": "node_executor.NodeExecutor",
        "CORE__HOSTNAME_CALLABLE": "preprov_provider.hostnames.node_name",
    }
    made = Airflow(f"http://127.0.0.1:{port}", home / "standalone.log")
    with standalone(airflow_bin, home, preprov, settings, made.log, DAGS):
        wait_for("Airflow", lambda: httpx.get(f"{made.url}/api/v2/version").is_success)
        wait_for("its DAGs", lambda: "waits" in {d["dag_id"] for d in made.call("GET", "dags").get("dags", [])})
        yield made


def test_delays_of_slot_node_image_and_data_are_each_told_as_what_they_were(waiting: Airflow, preprov: Preprov) -> None:
    waiting.call("POST", "pools", json={"name": "dwh", "slots": 1, "include_deferred": False})
    run = waiting.trigger("waits")
    place = f"dags/waits/dagRuns/{run}/taskInstances"
    wait_for("it wants a node", lambda: waiting.call("GET", f"{place}/on_a_node")["state"] == "queued")
    preprov("reservation", "create", "--pool", "batch", "--claimant", "worker", "--cpu", "1", "--for", "30m")

    def ready() -> str:
        nodes = preprov("pool", "show", "batch")["nodes"]
        return next((str(n["node_id"]) for n in nodes if n["phase"] == "ready"), "")

    (waiting.log.parent / "node").write_text(wait_for("a node is ready", ready))
    assert waiting.ended("waits", run) == "success", waiting.log.read_text()[-3000:]
    preprov("source", "add", "prod", "airflow", f"url={waiting.url}", "pool=batch", "requests_per_second=20")
    preprov("source", "sync")
    # The controller's next pass writes down how the node came up; the task may be over before it.
    wait_for("the way of the node", lambda: any(r["observations"] for r in preprov("pool", "leads", "batch")["leads"]))
    told = preprov("waits", "--last", "1h")
    seconds: dict[str, float] = {}
    for c in told["causes"]:
        seconds[c["cause"]] = seconds.get(c["cause"], 0.0) + c["hours"] * 3600
    hold = waiting.call("GET", f"{place}/hold")
    behind = waiting.call("GET", f"{place}/behind")
    slot_s = _seconds(hold["end_date"], max(hold["queued_when"], behind["scheduled_when"]))
    figures = ", ".join(f"{c} {s:.1f} s" for c, s in seconds.items())
    sys.stdout.write(
        f"injected: slot {slot_s:.1f} s, boot {BOOT_S} s, image {IMAGE_S} s, data {DATA_S} s\n"
        f"told: {figures}; unknown {told['unknown_ratio']:.1%}\n"
    )
    assert slot_s >= HOLD_S
    assert seconds["airflow_pool"] == pytest.approx(slot_s, rel=0.1)
    assert seconds["allocate"] + seconds["boot"] == pytest.approx(BOOT_S, rel=0.1)
    assert seconds["image"] == pytest.approx(IMAGE_S, rel=0.1)
    assert seconds["data"] == pytest.approx(DATA_S, rel=0.1)
    assert told["unknown_ratio"] <= 0.05
    assert {c["name"] for c in told["causes"] if c["cause"] == "airflow_pool"} == {"dwh"}


def _seconds(until: str, since: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
