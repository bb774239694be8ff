"""`preprov up` with a real Prefect server, and a client of its API."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx

from preprov.testing.waiting import REAL_S, wait_until

TABLE = """run_id,dag_id,tenant,schedule,trigger,scheduled_for,submit,task,operator,parents,cpu,memory_gib,runtime_s
"""


def history(days: int = 28) -> str:
    """The last weeks of a DAG that runs every night."""
    rows = []
    for i in range(days, 0, -1):
        day = f"{datetime.now(UTC) - timedelta(days=i):%Y-%m-%d}"
        rows.append(f"etl/{i},etl,bi,0 2 * * *,scheduled,{day}T02:00:00Z,{day}T02:00:12Z,t,T,,4,8,{600 + i}")
    return TABLE + "\n".join(rows) + "\n"


def until(what: Callable[[], object], limit: float = REAL_S) -> object:
    """Poll a real server for something that is not there yet."""
    return wait_until(what, deadline_s=limit, every_s=0.5)


@contextmanager
def serving(
    folder: Path, home: Path, *, pools: Sequence[str] = ("bi",), days: int = 28, **env: str
) -> Iterator[httpx.Client]:
    """A running `preprov up` with pools of history, and a client of its Prefect API."""
    environment = {**os.environ, "PREPROV_HOME": str(home), "PREPROV_LOG_LEVEL": "info", **env}
    (folder / "history.csv").write_text(history(days))
    command = [sys.executable, "-m", "preprov.cli.main"]
    subprocess.run([*command, "init"], cwd=folder, env=environment, check=True, timeout=300)
    for pool in pools:
        ingest = [*command, "ingest", "dags", "history.csv", "--pool", pool, "--tz", "UTC"]
        subprocess.run(ingest, cwd=folder, env=environment, check=True, timeout=300)
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "up"], cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        said = until(lambda: re.search(r"prefect: (http\S+)", (folder / "up.log").read_text()))
        with httpx.Client(base_url=f"{said[1]}/api/", timeout=240) as client:  # type: ignore[index]
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=240)
        for log_file in (folder / "up.log", home / "prefect" / "server.log", home / "prefect" / "flows.log"):
            if log_file.exists():  # shown by pytest where a test failed
                sys.stdout.write(f"--- {log_file.name}\n{log_file.read_text()[-4000:]}\n")


def sent(api: httpx.Client, path: str, body: Mapping[str, Any]) -> Any:
    """Posted until it is answered: a server's SQLite is busy now and then (503).

    A conflict says that an earlier try was taken.
    """

    def answered() -> httpx.Response | None:
        answer = api.post(path, json=body)
        return answer if answer.status_code < 500 else None

    answer = cast("httpx.Response", until(answered))
    assert answer.is_success or answer.status_code == 409, answer.text
    return answer.json()


def deployments(up: httpx.Client) -> dict[str, dict]:
    return {d["name"]: d for d in sent(up, "deployments/filter", {})}


def run_of(up: httpx.Client, deployment: str) -> dict:
    """Run a deployment and wait for its end."""
    found = cast("dict", until(lambda: deployments(up).get(deployment)))
    run = sent(up, f"deployments/{found['id']}/create_flow_run", {})

    def ended() -> dict | None:
        answer = up.get(f"flow_runs/{run['id']}")
        now = answer.json() if answer.is_success else {"state_type": "?"}
        return now if now["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    return until(ended, 400)  # type: ignore[return-value]


def task_runs(up: httpx.Client, run: dict) -> list[dict]:
    return sent(up, "task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})


def artifacts(up: httpx.Client) -> dict[str, dict]:
    return {a["key"]: a for a in sent(up, "artifacts/filter", {})}
