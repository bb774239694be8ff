"""A real Prefect server, read: what its deployments declare, the DAG of a flow, and nodes warm before a run is due."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from preprov.clocks import WallClock
from preprov.contracts import SourceState
from preprov.model.waits import Cause, SlotLimit
from preprov.prefect_server import quiet_environment, serving
from preprov.sim.ports import memory_ports
from preprov.sources.prefect import PrefectSettings, PrefectSource
from preprov.sources.prefect.runs import FLOW
from preprov.testing.live_source_contract import POOL, check, unrouted
from preprov.testing.local_nodes import cleared
from tests.integration.airflow.conftest import Preprov, end
from tests.integration.prefect.up import sent, until

FLOWS = """
from prefect import flow, task

@task
def extract():
    return 1

@task
def clean(x):
    return x

@task
def score(x):
    return x

@task
def report(a, b):
    return a + b

@task
def notify():
    return None

@flow(name="etl")
def etl():
    x = extract.submit()
    a, b = clean.submit(x), score.submit(x)
    done = report.submit(a, b)
    notify.submit(wait_for=[done]).wait()

if __name__ == "__main__":
    etl()
"""
TRUE_DAG = {
    ("extract", "clean"),
    ("extract", "score"),
    ("clean", "report"),
    ("score", "report"),
    ("report", "notify"),
}
AHEAD_S = 420.0
"""So long before its turn a cron is declared; a source that finds its server busy waits before it asks again."""
CONFIG = """
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
options = {{ delay = 20 }}
lead = {{ cold = {{ median = 60, p95 = 120 }} }}

[[pool.group.offering]]
type = "small"
cpu = 2
memory = 2
usd_per_hour = 0.1

[[source]]
name = "flows"
kind = "prefect"
url = "{url}"
pool = "batch"
every = 5
requests_per_second = 20
history_days = 1
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, prefect_on_postgres: None) -> Iterator[str]:
    home = tmp_path_factory.mktemp("pf")
    with serving(home) as url:
        (home / "flows.py").write_text(FLOWS)
        ran = subprocess.run(
            [sys.executable, str(home / "flows.py")],
            env=quiet_environment(home, url), cwd=home, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr[-2000:]
        yield url


@pytest.fixture(scope="module")
def deployment(server: str) -> str:
    """Of a work pool with limits: every night, and by hand."""
    with httpx.Client(base_url=server, timeout=240, follow_redirects=True) as api:
        properties = {"cpu": {"default": "500m"}, "memory": {"default": "1Gi"}}
        template = {
            "variables": {"type": "object", "properties": properties},
            "job_configuration": {"cpu": "{{ cpu }}", "memory": "{{ memory }}"},
        }
        pool = {"name": "workers", "type": "process", "concurrency_limit": 5, "base_job_template": template}
        sent(api, "/work_pools/", pool)
        sent(api, "/work_pools/workers/queues/", {"name": "high", "concurrency_limit": 2, "priority": 1})
        flow = sent(api, "/flows/", {"name": "etl"})["id"]
        schedule = {"active": True, "schedule": {"cron": "30 3 * * *", "timezone": "Europe/Zurich"}}
        body = {
            "name": "nightly",
            "flow_id": flow,
            "schedules": [schedule],
            "work_pool_name": "workers",
            "work_queue_name": "high",
            "job_variables": {"memory": "512Mi", "cpu": 1},
            "concurrency_limit": 1,
        }
        return str(sent(api, "/deployments/", body)["id"])


def reader(url: str) -> PrefectSource:
    return PrefectSource(PrefectSettings("t", url, requests_per_second=50, history_days=1), WallClock())


def test_the_dag_inferred_from_task_runs_is_the_flows_own(server: str) -> None:
    ports, source = memory_ports(), reader(server)

    def inferred() -> set[tuple[str, str]]:
        """Task runs are told to the server in the background: they may come after their flow run."""
        ports.sources.rewind("t")
        for batch in source.changes(SourceState(), datetime.now(UTC)):
            check(batch)
            ports.sources.apply("t", unrouted(batch, "UTC"), datetime.now(UTC))
        work = ports.work.work(POOL)
        names = work.tasks["task_id"].tolist()
        return {(names[p], names[c]) for p, c in zip(work.parents, work.children, strict=True)}

    found = until(lambda: len(edges := inferred()) >= len(TRUE_DAG) and edges)
    assert found == TRUE_DAG
    work = ports.work.work(POOL)
    assert work.runs["dag_id"].tolist() == ["etl"]
    assert work.tasks["ended_at"].notna().all()
    assert set(work.tasks["task_id"]) == {FLOW, *(t for edge in TRUE_DAG for t in edge)}


def test_deployments_pools_and_queues_are_read(server: str, deployment: str) -> None:
    source = reader(server)
    assert all(f.state == "ok" for f in source.examine())
    batches = list(source.changes(SourceState(), datetime.now(UTC)))
    (plan,) = next(b.schedules for b in batches if b.schedules)
    assert (plan.dag_id, plan.cron, plan.zone, plan.max_active_runs) == (
        "etl/nightly",
        "30 3 * * *",
        "Europe/Zurich",
        1,
    )
    limits = next(b.limits for b in batches if b.limits)
    assert set(limits) == {
        SlotLimit(Cause.WORK_POOL, "workers", 5.0),
        SlotLimit(Cause.WORK_QUEUE, "workers/high", 2.0),
        SlotLimit(Cause.MAX_ACTIVE_RUNS, "etl/nightly", 1.0),
    }
    shapes = next(b.shapes for b in batches if b.shapes is not None)
    flow = shapes.work.tasks.set_index("task_id").loc[FLOW]
    assert (flow["cpu"], flow["memory"]) == (1.0, 0.5)
    assert set(shapes.queues) == {"workers/high"}


def turn_at(api: httpx.Client, at: datetime) -> datetime:
    """A deployment whose cron has its turn then; when the run that the server makes of it is expected to start."""
    flow = sent(api, "/flows/", {"name": "etl"})["id"]
    schedule = {"active": True, "schedule": {"cron": f"{at.minute} {at.hour} * * *", "timezone": "UTC"}}
    details = {"schedules": [schedule], "work_pool_name": "workers", "job_variables": {"memory": "512Mi", "cpu": 1}}
    made = str(sent(api, "/deployments/", {"name": "soon", "flow_id": flow, **details})["id"])
    mine = {"deployments": {"id": {"any_": [made]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 1}
    (run,) = until(lambda: sent(api, "/flow_runs/filter", mine))
    assert run["auto_scheduled"], "made by the server's own scheduler, and by nobody else"
    assert run["state"]["type"] == "SCHEDULED"
    return datetime.fromisoformat(run["expected_start_time"])


@pytest.mark.timeout(900)
def test_a_node_is_warm_before_the_turn_of_a_cron_is_expected_to_start(
    server: str, deployment: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("p")
    (folder / "preprov.toml").write_text(CONFIG.format(url=server))
    preprov = Preprov(folder, 0, "", [])
    at = (datetime.now(UTC) + timedelta(seconds=AHEAD_S)).replace(second=0, microsecond=0)
    with httpx.Client(base_url=server, timeout=240, follow_redirects=True) as api:
        expected = turn_at(api, at)
    assert expected == at

    def ready() -> str:
        nodes = preprov("pool", "show", "batch")["nodes"]
        return next((str(n["node_id"]) for n in nodes if n["phase"] == "ready"), "")

    def ready_at(node: str) -> str:
        events = preprov("why", "node", node)["events"]
        return next((str(e["at"]) for e in events if e["what"].startswith("ready after")), "")

    with cleared(folder / "home"):
        try:
            preprov.start("up", "--no-prefect")
            node = str(until(ready))
            at = str(until(lambda: ready_at(node)))
        finally:
            for child in preprov.children:
                end(child)
    ahead = (expected - datetime.fromisoformat(at)).total_seconds()
    sys.stdout.write(f"node {node} was ready {ahead:.0f} s before the run was expected to start\n")
    assert 0 < ahead < AHEAD_S
