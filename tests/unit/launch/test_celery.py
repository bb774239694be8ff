"""Celery workers of an Airflow: what is started on nodes, what Airflow says they have in hand, the configuration."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from preprov import configfile
from preprov.app import open_app
from preprov.contracts import Service
from preprov.launch.celery import CeleryWorkers
from preprov.model.errors import ConfigError, ConflictError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.settings import Settings
from preprov.sim.clock import VirtualClock
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import exchanged
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag
from preprov.testing.store_examples import T0

PROVIDER = Path(__file__).resolve().parents[3] / "integrations" / "airflow" / "preprov_provider" / "celery.py"
CONFIG = """
[[pool]]
name = "p"
mode = "full"

[[pool.group]]
name = "local"
provider = "local"
max_nodes = 2

[[pool.group.offering]]
type = "small"
cpu = 4
memory = 8
usd_per_hour = 0.1

[[source]]
name = "prod"
kind = "airflow"
url = "http://127.0.0.1:9"

[[serve]]
name = "af"
kind = "celery"
pool = "p"
source = "prod"
run = { cpu = 1 }

[serve.worker]
queues = ["batch", "gpu"]
options = ["--skip-serve-logs"]
env = { AIRFLOW_HOME = "/opt/airflow" }
"""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The provider's program, which needs nothing of Airflow until it speaks to the broker."""
    spec = importlib.util.spec_from_file_location("preprov_provider_celery", PROVIDER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def node(node_id: str = "p/local/1") -> Node:
    return Node(node_id, "p", "local", Offering("small", Resources(cpu=4, memory=8)), Phase.READY, T0, T0)


def place(tmp_path: Path) -> CeleryWorkers:
    (tmp_path / "preprov.toml").write_text(CONFIG)
    with open_app(Settings(home=tmp_path / "home", config=tmp_path / "preprov.toml")) as app:
        (made,) = app.ctx.served["p"]
    assert isinstance(made, CeleryWorkers)
    return made


def test_what_is_started_on_a_node_and_what_tells_it_to_leave(
    tmp_path: Path, program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = place(tmp_path)
    started, leaves = made.worker(node(), "17.0", 4), made.farewell(node(), "17.0")
    assert started.spec.request.is_zero, "the room is its tasks'"
    assert started.spec.env["AIRFLOW_HOME"] == "/opt/airflow"
    assert started.spec.env["AIRFLOW__CORE__HOSTNAME_CALLABLE"] == "preprov_provider.hostnames.node_name"
    assert started.run_id == leaves.run_id
    begins = ["python3", "-m", "preprov_provider.celery"]
    assert [list(t.spec.command[:3]) for t in (started, leaves)] == [begins, begins]

    ran: list[Any] = []
    monkeypatch.setattr(program, "serve", lambda command, app, name, leaving: ran.append((command, leaving)) or 0)
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setenv("PREPROV_NODE_DIR", str(tmp_path))
    assert program.main(started.spec.command[3:]) == 0
    command, leaving = ran[0]
    name = "preprov-af-p-local-1-17.0"
    assert " ".join(command) == (
        f"{sys.executable} -m airflow celery worker --celery-hostname celery@{name} --queues batch,gpu"
        " --concurrency 4 --skip-serve-logs"
    )
    assert not leaving()
    assert program.main(leaves.spec.command[3:]) == 0
    assert leaving(), "what is told to leave is what was started"


def test_airflow_says_what_each_worker_has_in_hand() -> None:
    clock = VirtualClock(T0)
    airflow = FakeAirflow(clock)
    airflow.page = 2
    airflow.add_dag(FakeDag("etl", tuple((f"t{i}", (), {}) for i in range(5))))
    run = airflow.start_run("etl", "r")
    for i, (state, host) in enumerate([("running", "n1"), ("running", "n1"), ("success", "n1"), ("running", "n2")]):
        airflow.set_task(run, f"t{i}", state)
        run.tasks[f"t{i}", -1].hostname = host
    credential = exchanged("http://af", "me", lambda: "pw")
    settings = AirflowSettings("t", "http://af", credential, attempts=1)
    source = AirflowSource(settings, clock, transport=airflow.transport())
    made = CeleryWorkers(Service("af", "p", Resources(cpu=1), {}, workers=True), source.running, ("x",))
    seen = made.look()
    assert seen.runs == {"n1": ("etl/r/t0/-1", "etl/r/t1/-1"), "n2": ("etl/r/t3/-1",)}
    assert made.worker_name("n1", "17.0") in seen.runs
    assert (seen.settings, seen.held) == ({}, {})
    asked = airflow.asked
    airflow.faults.append(lambda _: httpx.Response(503))
    with pytest.raises(ConflictError) as error:
        made.look()
    assert airflow.asked == asked + 1, "the controller's pass does not wait for a second try"
    assert error.value.retryable, "it is looked at again"


def test_a_place_names_an_airflow_that_is_read(tmp_path: Path) -> None:
    file = tmp_path / "preprov.toml"
    file.write_text(CONFIG.replace('source = "prod"', 'source = "other"'))
    settings = Settings(home=tmp_path / "home", config=file)
    with pytest.raises(ConfigError, match="no source 'other' of kind airflow"), open_app(settings):
        pass
    file.write_text(CONFIG.replace('kind = "celery"', 'kind = "dask"'))
    with pytest.raises(ConfigError, match="serve"):
        configfile.load(file)
