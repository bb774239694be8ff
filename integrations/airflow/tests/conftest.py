"""A preprov that answers on loopback, with reservations in memory; and an Airflow of our own to try things in."""

import ipaddress
import json
import os
import shutil
import ssl
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# Before anything imports Airflow, for it reads its settings once.
_home = tempfile.mkdtemp(prefix="preprov-provider-")
_here = Path(__file__).resolve().parent
for _folder in (_here.parent / "preprov_provider" / "example_dags", _here / "dags"):
    shutil.copytree(_folder, f"{_home}/dags", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
os.environ.update(
    AIRFLOW_HOME=_home,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=f"{_home}/dags",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_home}/airflow.db",
)

import pytest  # noqa: E402
from fakepreprov import TOKEN, FakePreprov  # noqa: E402


class World(FakePreprov):
    """preprov on loopback, and as much of Airflow's own API as sets the slots of a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.airflow_pools: dict[str, int] = {}
        """Slots by pool."""
        self.airflow_runs = 0
        """Tasks that run in each."""
        world = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def _serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                key = self.headers.get("idempotency-key") or ""
                status, told = world.answer(self.command, self.path, body, key, self.headers.get("authorization"))
                data = told.encode() if isinstance(told, str) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("content-type", "text/html" if isinstance(told, str) else "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PATCH = _serve

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def secured(self, context: ssl.SSLContext) -> str:
        """Its address, from now on with TLS."""
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        return self.url.replace("http:", "https:")

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, path: str, body: Any, key: str, authorization: str | None) -> tuple[int, Any]:
        if path.startswith(("/auth/", "/api/")) and not self.down:
            return self._of_airflow(urlsplit(path).path, body, authorization)
        return super().answer(method, path, body, key, authorization)

    def _of_airflow(self, path: str, body: Any, authorization: str | None) -> tuple[int, Any]:
        if path == "/auth/token":
            return 201, {"access_token": "of-airflow"}
        name = unquote(path.rpartition("/")[2])
        if authorization != "Bearer of-airflow" or name not in self.airflow_pools:
            return 404, {"detail": "there is none"}
        if body and set(body) != {"pool", "slots", "include_deferred"}:
            return 422, {"detail": "a field is missing"}
        slots = self.airflow_pools[name] = body.get("slots", self.airflow_pools[name])
        held = {"occupied_slots": self.airflow_runs, "running_slots": self.airflow_runs}
        return 200, {"name": name, "slots": slots, **held, "include_deferred": False}


@pytest.fixture
def preprov(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A preprov, and the connection to it."""
    fake = World()
    threading.Thread(target=fake.server.serve_forever, args=(0.02,), daemon=True).start()
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


@pytest.fixture
def certified(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A context of TLS for 127.0.0.1, and the file of the authority that nobody else knows."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = datetime.now(timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    there = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = made.add_extension(there, False).add_extension(x509.BasicConstraints(True, None), True)
    pem = serialization.Encoding.PEM
    authority, both = tmp_path / "ca.pem", tmp_path / "both.pem"
    authority.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    both.write_bytes(plain + authority.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, authority


@pytest.fixture
def told(preprov: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A preprov that the listener tells."""
    from preprov_provider import listener
    from preprov_provider.policies import _once

    monkeypatch.setenv("AIRFLOW__PREPROV__URL", preprov.url)
    monkeypatch.setenv("AIRFLOW__PREPROV__TOKEN", "preprov_secret")
    monkeypatch.setenv("AIRFLOW__PREPROV__SOURCE", "airflow-test")
    listener.reporter.cache_clear()
    _once.cache_clear()
    yield preprov
    listener.reporter.cache_clear()
