"""A real Prometheus scrapes a real server: every panel's query has an answer, alerts fire as their tests say."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn

from dashboards.build import FILE, ROWS
from preprov.app import open_app
from preprov.contracts import PoolSnapshot
from preprov.control.access import create_token
from preprov.model.access import Scope
from preprov.model.resources import Resources
from preprov.web.application import create_api
from tests.integration.web.test_document import CONFIG

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (shutil.which("prometheus") and shutil.which("promtool")), reason="apt: prometheus"),
]
PANELS = [(p.title, q) for panels in ROWS.values() for p in panels for q in p.queries.values()]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The API of a pool that was looked at just now; the file with the token."""
    home = tmp_path_factory.mktemp("server")
    (home / "preprov.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("PREPROV_HOME", str(home))
        with open_app() as app:
            now = app.ctx.clock.now()
            row = PoolSnapshot(
                "batch",
                now,
                {"g": {"ready": 2}},
                Resources(cpu=8, memory=32),
                Resources(cpu=2),
                0.4,
                3,
                Resources(cpu=1),
            )
            app.ctx.ports.history.record(row)
            app.ctx.ports.history.record(
                PoolSnapshot(
                    "batch", now - timedelta(seconds=60), row.nodes, row.allocatable, row.used, 0.4, 3, row.waiting
                )
            )
            (home / "token").write_text(create_token(app.ctx, "prometheus", [Scope.METRICS])[1])
            port = free_port()
            running = uvicorn.Server(
                uvicorn.Config(create_api(app), host="127.0.0.1", port=port, log_level="warning", lifespan="off")
            )
            thread = Thread(target=running.run)
            thread.start()
            yield port, home / "token"
            running.should_exit = True
            thread.join(30)


def answered(port: int, query: str) -> Any:
    answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}, timeout=240).json()
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


@pytest.fixture(scope="module")
def prometheus(server: tuple[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    (folder / "p.yaml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: ['{FILE.with_name('alerts.yaml')}']\n"
        "scrape_configs:\n- job_name: preprov\n"
        f"  authorization: {{credentials_file: '{server[1]}'}}\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{server[0]}']}}]\n"
    )
    words = ["prometheus", f"--config.file={folder / 'p.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _until_scraped(port, folder / "log")
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _until_scraped(port: int, log: Path) -> None:
    """A rate takes two scrapes."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if _is_ready(port):
            found = answered(port, "count_over_time(preprov_target_nodes[1m])")
            if found and float(found[0]["value"][1]) >= 3:
                return
        time.sleep(0.5)
    raise AssertionError(f"nothing was scraped within a minute: {log.read_text()[-2000:]}")


def _is_ready(port: int) -> bool:
    """It listens before it answers, and then says 503 for a while."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=240).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(("title", "query"), PANELS)
def test_every_query_of_a_panel_runs(prometheus: int, title: str, query: str) -> None:
    asked = query.replace("$__range", "1m").replace("$__rate_interval", "1m").replace("$pool", ".*")
    assert "$" not in re.sub(r'"[^"]*"', "", asked), title
    answered(prometheus, asked)


def test_what_was_seen_of_the_pool_is_what_panels_show(prometheus: int) -> None:
    (nodes,) = answered(prometheus, 'sum by (pool, phase) (preprov_nodes{pool=~".*"})')
    assert nodes["metric"] == {"pool": "batch", "phase": "ready"}
    assert float(nodes["value"][1]) == 2
    (short,) = answered(prometheus, 'ALERTS{alertname="PreprovTargetMissed"}')
    assert short["metric"]["alertstate"] == "pending"
    assert answered(prometheus, 'ALERTS{alertname="PreprovNodesBroken"}') == []


def test_the_alerts_fire_when_their_tests_say_so() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yaml"], cwd=FILE.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checked = subprocess.run(
        ["promtool", "check", "rules", "alerts.yaml"], cwd=FILE.parent, capture_output=True, text=True, check=False
    )
    assert "7 rules found" in checked.stdout + checked.stderr
