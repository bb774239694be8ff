"""A preprov that answers on loopback, with reservations in memory; and an Airflow of our own to try things in."""

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# Before anything imports Airflow, for it reads its settings once.
_home = tempfile.mkdtemp(prefix="preprov-provider-")
_examples = Path(__file__).resolve().parents[1] / "preprov_provider" / "example_dags"
os.environ.update(
    AIRFLOW_HOME=_home,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(_examples),
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_home}/airflow.db",
)

import pytest  # noqa: E402

TOKEN = "preprov_secret"


class FakePreprov:
    """What `preprov serve` answers to the provider. A reservation is ready after it was asked for `patience` times."""

    def __init__(self) -> None:
        self.patience = 0
        self.reservations: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.down = False
        self.refuse_events = False
        self.seen_at: str | None = "2025-03-01T02:00:00+00:00"
        self.airflow_pools: dict[str, int] = {}
        """Slots of pools; as much of Airflow's own API is here too."""
        self._looks: dict[str, int] = {}
        world = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def _serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                key = self.headers.get("idempotency-key") or ""
                status, told = world.answer(self.command, self.path, body, key, self.headers.get("authorization"))
                data = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PATCH = _serve

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, path: str, body: Any, key: str, authorization: str | None) -> tuple[int, Any]:
        path = urlsplit(path).path
        self.asked.append((method, path))
        if self.down:
            return 503, {"title": "Unavailable", "status": 503, "detail": "the store does not answer"}
        if path == "/v1/ready":
            return 200, {"status": "ready", "store": "sqlite", "pools": 1}
        if path.startswith(("/auth/", "/api/")):
            return self._of_airflow(path, body, authorization)
        if authorization != f"Bearer {TOKEN}":
            return 401, {"status": 401, "detail": "a token is needed", "hint": "Authorization: Bearer …"}
        return self._work(method, path, body, key)

    def _of_airflow(self, path: str, body: Any, authorization: str | None) -> tuple[int, Any]:
        if path == "/auth/token":
            return 201, {"access_token": "of-airflow"}
        name = unquote(path.rpartition("/")[2])
        if authorization != "Bearer of-airflow" or name not in self.airflow_pools:
            return 404, {"detail": "there is none"}
        if body and set(body) != {"pool", "slots", "include_deferred"}:
            return 422, {"detail": "a field is missing"}
        self.airflow_pools[name] = body.get("slots", self.airflow_pools[name])
        return 200, {"name": name, "slots": self.airflow_pools[name], "occupied_slots": 0, "include_deferred": False}

    def _work(self, method: str, path: str, body: Any, key: str) -> tuple[int, Any]:
        if path == "/v1/capacity":
            allocatable = {"cpu": 6.0, "memory": 5.5, "gpu": 0.0}
            return 200, {"pools": [{"pool": "batch", "seen_at": self.seen_at, "allocatable": allocatable}]}
        if path == "/v1/events":
            if self.refuse_events:
                return 422, {"status": 422, "detail": "malformed"}
            self.events += body["events"]
            return 200, {"accepted": len(body["events"]), "duplicates": 0}
        if path == "/v1/reservations":
            return (
                self._made(body, key) if method == "POST" else (200, {"reservations": list(self.reservations.values())})
            )
        reservation_id = unquote(path.split("/")[3])
        found = self.reservations.get(reservation_id)
        if found is None:
            return 404, {"status": 404, "detail": f"there is no reservation {reservation_id}"}
        if method == "DELETE":
            found.update(state="released", ready=False)
        return 200, self._looked(found)

    def _made(self, body: Any, key: str) -> tuple[int, Any]:
        if key in self.keys:
            return 200, self._looked(self.reservations[self.keys[key]])
        if body["pool"] == "nowhere":
            return 404, {"status": 404, "detail": "there is no pool nowhere"}
        reservation_id = f"r{len(self.reservations) + 1}"
        self.keys[key] = reservation_id
        self.reservations[reservation_id] = {
            "reservation_id": reservation_id,
            "pool": body["pool"],
            "claimant": body["claimant"],
            "state": "soft",
            "ready": False,
            "count": body["count"],
            "nodes": [None] * body["count"],
            "reason": "",
            "asked": body,
        }
        return 201, self._looked(self.reservations[reservation_id])

    def _looked(self, found: dict[str, Any]) -> dict[str, Any]:
        number = self._looks[found["reservation_id"]] = self._looks.get(found["reservation_id"], 0) + 1
        if found["state"] == "soft" and number > self.patience:
            found.update(state="committed", ready=True, nodes=[f"node-{i}" for i in range(found["count"])])
        return found

    def expire(self, reservation_id: str) -> None:
        self.reservations[reservation_id].update(state="expired", ready=False, reason="nobody took it up")


@pytest.fixture
def preprov(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePreprov]:
    """A preprov, and the connection to it."""
    fake = FakePreprov()
    host = json.dumps({"conn_type": "preprov", "host": fake.url, "password": TOKEN})
    monkeypatch.setenv("AIRFLOW_CONN_PREPROV_DEFAULT", host)
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's database, made ready."""
    import subprocess
    import sys

    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


class Instance:
    """As much of a task instance as an operator looks at."""

    dag_id, run_id, task_id, map_index, try_number = "d", "r", "reserve", -1, 1


@pytest.fixture
def context() -> dict[str, Any]:
    """As much of a context."""
    return {"ti": Instance()}
