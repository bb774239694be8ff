"""A real Airflow in an environment of its own, beside a real preprov with local nodes."""

import json
import os
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from preprov.clocks import WallClock
from preprov.contracts import SourceState
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import Ask, exchanged
from preprov.testing.local_nodes import cleared, processes
from preprov.testing.waiting import REAL_S, wait_until

ROOT = Path(__file__).resolve().parents[3]
PROVIDER = ROOT / "integrations" / "airflow"
WANTED = "3.3"
DAGS = """
from datetime import datetime, timedelta, timezone

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

from preprov_provider.operators.preprov import ReserveCapacityOperator

START = datetime(2025, 1, 1, tzinfo=timezone.utc)
ASKS = {"KubernetesExecutor": {"request_cpu": "1", "request_memory": "256Mi"}}
with DAG("busy", schedule=None, start_date=START, max_active_runs=1) as busy:
    first = BashOperator(task_id="first", bash_command="sleep 20", executor_config=ASKS)
    first >> [BashOperator(task_id=f"then_{i}", bash_command="true", executor_config=ASKS) for i in range(3)]
with DAG("again", schedule=None, start_date=START):
    twice = 'test "$AIRFLOW_CTX_TRY_NUMBER" -gt 1'
    BashOperator(task_id="twice", bash_command=twice, executor_config=ASKS, retries=1)
with DAG("often", schedule="*/10 * * * *", start_date=START, catchup=False, max_active_runs=1):
    for i in range(4):
        BashOperator(task_id=f"beside_{i}", bash_command="true", executor_config=ASKS)
with DAG("spread", schedule=None, start_date=START):
    ReserveCapacityOperator.partial(task_id="reserve", preprov_pool="batch").expand(cpu=[0.5, 1])
with DAG("resting", schedule="* * * * *", start_date=START, catchup=False, is_paused_upon_creation=True):
    BashOperator(task_id="only", bash_command="true")
"""
POLICY = """
from preprov_provider.policies import tell_of_queued


def task_instance_mutation_hook(task_instance):
    tell_of_queued(task_instance)
"""
POOL = """
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
max_nodes = 3

[[pool.group.offering]]
type = "small"
cpu = 2
memory = 2
usd_per_hour = 0.1
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(what: str, fact: Callable[[], Any], limit: float = REAL_S) -> Any:
    """What `fact` gives once it gives something; an error counts as nothing."""
    last = ""

    def looked() -> Any:
        nonlocal last
        try:
            return fact()
        except httpx.HTTPStatusError as refused:
            last = f"last answer: {refused.response.status_code} {refused.response.text[:500]}"
        except httpx.HTTPError as failed:
            last = f"last error: {failed!r}"
        return None

    try:
        return wait_until(looked, what=what, deadline_s=limit, every_s=1.0)
    except AssertionError as e:
        e.add_note(last)
        raise


def programs(version: str) -> Path:
    """The programs of an Airflow with the provider; kept for the next time, skipped where it cannot be had."""
    named = os.environ.get("PREPROV_TEST_AIRFLOW") if version == WANTED else None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preprov-tests"
    home = Path(named) if named else cache / f"airflow-{version}"
    python = home / "bin" / "python"
    uv = [str(ROOT / "scripts" / "uv")]
    steps = [] if python.exists() else [["venv", "--python", sys.executable, str(home)]]
    if not (home / "bin" / "airflow").exists():
        steps.append(["pip", "install", "--python", str(python), f"apache-airflow=={version}.*"])
    celery = ["apache-airflow-providers-celery", "celery<5.7"]  # its 5.7 lacks what the provider's 3.26 imports
    steps.append(["pip", "install", "--python", str(python), "-e", str(PROVIDER), "pytest", *celery])
    for step in steps:
        done = subprocess.run([*uv, *step], capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            pytest.skip(f"no Airflow {version} can be had: {done.stderr.strip()[-300:]}")
    return home / "bin"


@pytest.fixture(scope="session")
def airflow_bin() -> Path:
    """Of the current Airflow."""
    return programs(WANTED)


@pytest.fixture(scope="session")
def airflow2_bin() -> Path:
    """Of the last Airflow 2."""
    return programs("2.11")


@dataclass
class Preprov:
    """preprov in a folder, with its controller and its API."""

    folder: Path
    port: int
    token: str
    children: list["subprocess.Popen[bytes]"]
    more: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "PREPROV_HOME": str(self.folder / "home"), **self.more}

    def __call__(self, *words: str) -> Any:
        """A command's JSON."""
        command = [sys.executable, "-m", "preprov.cli.main", *words, "-o", "json"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        log = (self.folder / f"{words[0]}.log").open("ab")
        child = subprocess.Popen(
            [sys.executable, "-m", "preprov.cli.main", *words],
            cwd=self.folder, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.children.append(child)
        return child

    def serve(self) -> "subprocess.Popen[bytes]":
        child = self.start("serve", "--port", str(self.port))
        wait_for("preprov serve", lambda: httpx.get(f"http://127.0.0.1:{self.port}/v1/ready").is_success)
        return child


@dataclass
class Reader:
    """A source that has read once, and the tokens it was given."""

    source: AirflowSource
    tokens: list[str]

    def read(self) -> bool:
        """A pass; True if it came to its end."""
        return any(b.cursor for b in self.source.changes(SourceState(), WallClock().now()))


@pytest.fixture(scope="module")
def reader(airflow: "Airflow") -> Reader:
    """It reads as soon as Airflow is there, so that its token is old by the time somebody wants to see it expire."""
    tokens: list[str] = []

    def credential(ask: Ask) -> Mapping[str, str]:
        headers = exchanged(airflow.url, "", None)(ask)
        tokens.append(headers["Authorization"])
        return headers

    settings = AirflowSettings("t", airflow.url, credential, requests_per_second=20, history_days=0)
    made = Reader(AirflowSource(settings, WallClock()), tokens)
    assert made.read()
    return made


def end(child: "subprocess.Popen[bytes]") -> None:
    """End a child and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            continue
    child.wait(5)


@pytest.fixture(scope="module")
def pool_section() -> str:
    """What preprov is configured with."""
    return POOL


@pytest.fixture(scope="module")
def preprov(tmp_path_factory: pytest.TempPathFactory, pool_section: str) -> Iterator[Preprov]:
    """Nothing of it stays, however the tests ended: `up` leaves its nodes to the next `up`, so they are ended here."""
    folder = tmp_path_factory.mktemp("p")
    (folder / "preprov.toml").write_text(pool_section)
    made = Preprov(folder, free_port(), "", [])
    with cleared(folder / "home"):
        try:
            scopes = [w for s in ("reserve", "report", "read") for w in ("--scope", s)]
            told = made("token", "create", "--tenant", "default", *scopes)
            made.token = str(told["token"])
            made.start("up", "--no-prefect")
            made.serve()
            yield made
        finally:
            for child in made.children:
                end(child)
    assert processes(folder / "home") == []


@dataclass
class Airflow:
    """A running Airflow."""

    url: str
    log: Path
    api: str = "api/v2"
    password: str = ""

    def _headers(self) -> dict[str, str]:
        if self.password:
            return {"Authorization": f"Basic {b64encode(f'admin:{self.password}'.encode()).decode()}"}
        token = httpx.get(f"{self.url}/auth/token", timeout=240).raise_for_status().json()["access_token"]
        return {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, **more: Any) -> Any:
        """Asked for again where it fails there: under load, on SQLite, Airflow answers 500 now and then."""

        def asked() -> httpx.Response:
            url = f"{self.url}/{self.api}/{path}"
            answer = httpx.request(method, url, headers=self._headers(), timeout=240, **more)
            return answer.raise_for_status() if answer.is_server_error else answer

        return wait_for(f"{method} {path}", asked).raise_for_status().json()

    def trigger(self, dag_id: str, **conf: Any) -> str:
        """Under a name of ours: what is asked for again is refused, and nothing runs twice."""
        body: dict[str, Any] = {"dag_run_id": f"test__{uuid4().hex}", "conf": conf}
        if not self.password:
            body["logical_date"] = None
        self.call("PATCH", f"dags/{dag_id}", json={"is_paused": False})
        try:
            self.call("POST", f"dags/{dag_id}/dagRuns", json=body)
        except httpx.HTTPStatusError as refused:
            if refused.response.status_code != httpx.codes.CONFLICT:
                raise
        return str(body["dag_run_id"])

    def state(self, dag_id: str, run_id: str) -> str:
        return str(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def ended(self, dag_id: str, run_id: str, limit: float = REAL_S) -> str:
        return str(
            wait_for(
                f"{dag_id} ends",
                lambda: (s := self.state(dag_id, run_id)) in ("success", "failed") and s,
                limit,
            )
        )


@contextmanager
def standalone(
    programs: Path, home: Path, preprov: Preprov, settings: Mapping[str, str], log: Path, dags: str = DAGS
) -> Iterator[None]:
    """Airflow's `standalone` on SQLite, with the provider, our DAGs, a policy and the examples, and preprov beside."""
    (home / "config").mkdir()
    (home / "config" / "airflow_local_settings.py").write_text(POLICY)
    (home / "dags").mkdir()
    (home / "dags" / "ours.py").write_text(dags)
    for example in (PROVIDER / "preprov_provider" / "example_dags").glob("example_preprov*.py"):
        (home / "dags" / example.name).write_text(example.read_text())
    common = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__PARALLELISM": "3",
        "CORE__DEFAULT_TASK_RETRIES": "2",
        "CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        "PREPROV__URL": f"http://127.0.0.1:{preprov.port}",
        "PREPROV__TOKEN": preprov.token,
        "PREPROV__SOURCE": "airflow-test",
    }
    connection = {"conn_type": "preprov", "host": f"http://127.0.0.1:{preprov.port}", "password": preprov.token}
    itself = {"conn_type": "http", "host": "127.0.0.1", "port": int(settings.get("API__PORT", 0))}
    env = {
        **os.environ,
        "AIRFLOW_CONN_AIRFLOW_API": json.dumps(itself),
        **{f"AIRFLOW__{k}": v for k, v in {**common, **settings}.items()},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_PREPROV_DEFAULT": json.dumps(connection),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    with log.open("wb") as out:
        child = subprocess.Popen(
            [str(programs / "airflow"), "standalone"],
            env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        end(child)


@pytest.fixture(scope="module")
def airflow(airflow_bin: Path, preprov: Preprov, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """The current one; its tokens expire after a minute."""
    home, port = tmp_path_factory.mktemp("af"), free_port()
    settings = settings_of_3(port)
    made = Airflow(f"http://127.0.0.1:{port}", home / "standalone.log")
    with standalone(airflow_bin, home, preprov, settings, made.log):
        wait_for("Airflow", lambda: httpx.get(f"{made.url}/api/v2/version").is_success)
        wait_for("its DAGs", lambda: len(made.call("GET", "dags").get("dags", [])) >= 5)
        yield made


def settings_of_3(port: int) -> dict[str, str]:
    return {
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "API__PORT": str(port),
        "API__HOST": "127.0.0.1",
        "API__WORKERS": "1",
        "API_AUTH__JWT_EXPIRATION_TIME": "60",
        "WORKERS__EXECUTION_API_TIMEOUT": "60",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    }


@pytest.fixture(scope="module")
def airflow2(airflow2_bin: Path, preprov: Preprov, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """The last 2.x, by its stable REST API with a user and a password."""
    home, port = tmp_path_factory.mktemp("a2"), free_port()
    settings = {
        "API__AUTH_BACKENDS": "airflow.api.auth.backend.basic_auth",
        "WEBSERVER__WEB_SERVER_PORT": str(port),
        "WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
        "WEBSERVER__WORKERS": "1",
        "SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
    }
    made = Airflow(f"http://127.0.0.1:{port}", home / "standalone.log", "api/v1")
    password = home / "standalone_admin_password.txt"
    with standalone(airflow2_bin, home, preprov, settings, made.log):
        wait_for("Airflow", lambda: httpx.get(f"{made.url}/health").is_success)
        made.password = wait_for("its password", lambda: password.exists() and password.read_text().strip())
        wait_for("its DAGs", lambda: len(made.call("GET", "dags").get("dags", [])) >= 5)
        yield made
