"""A Prefect server on loopback for the time it is needed, unless one is named by PREFECT_API_URL."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from preprov.model.errors import SourceUnavailableError

_START_S = 180.0


def quiet_environment(home: Path, url: str) -> dict[str, str]:
    """Environment for programs that talk to that server: nothing is sent anywhere else."""
    return {
        **os.environ,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "WARNING"),
    }


@contextmanager
def serving(home: Path, *, port: int | None = None) -> Iterator[str]:
    """URL of a Prefect API; a server started here is stopped at the end.

    Args:
        home: its database and log go below.
        port: of a server started here; None = any free one.

    Raises:
        SourceUnavailableError: it did not come up.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        yield named
        return
    port = port or _free_port()
    url = f"http://127.0.0.1:{port}/api"
    folder = home / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=quiet_environment(home, url),
            start_new_session=True,
        )
    try:
        _await_ready(url, server, folder / "server.log")
        yield url
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _await_ready(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    import httpx

    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ready", timeout=2).status_code == 200:
                return
        time.sleep(0.2)
    raise SourceUnavailableError("the Prefect server did not come up", where=str(log), hint="read its log")
