"""A real Prometheus scrapes a small exporter; what tasks used is read out of it by the commands."""

import io
import json
import math
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from preprov.app import open_app
from preprov.cli.main import run
from tests.integration.prefect.up import until

pytestmark = pytest.mark.skipif(not shutil.which("prometheus"), reason="apt: prometheus")


OF_JOB = (
    'namespace="ns",pod="etl-7",label_batch_kubernetes_io_job_name="etl-29012345",'
    'label_batch_kubernetes_io_controller_uid="0123abcd-7"'
)


class Exporter(ThreadingHTTPServer):
    """Half a core and 256 MiB of one pod, as cAdvisor tells it; its counter can begin anew."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.began = self.born = time.time()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def text(self) -> str:
        labels = 'namespace="ns",pod="etl-7",container="main"'
        lines = [
            "# TYPE container_cpu_usage_seconds_total counter",
            f"container_cpu_usage_seconds_total{{{labels}}} {(time.time() - self.born) * 0.5}",
            'container_cpu_usage_seconds_total{namespace="ns",pod="etl-7",container=""} 1e9',
            "# TYPE container_memory_working_set_bytes gauge",
            f"container_memory_working_set_bytes{{{labels}}} {2**28}",
            *(f'kube_pod_labels{{{OF_JOB},replica="{i}"}} 1' for i in range(2)),
        ]
        return "\n".join(lines) + "\n"


class Handler(BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    made = Exporter()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def prometheus(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = int(s.getsockname()[1])
    (folder / "p.yaml").write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: cadvisor\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{exporter.server_address[1]}']}}]\n"
    )
    words = ["prometheus", f"--config.file={folder / 'p.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        try:
            until(lambda: ready(url))
            yield url
        finally:
            process.terminate()
            process.wait(30)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=5).is_success
    except httpx.HTTPError:
        return False


def value(url: str, query: str) -> Any:
    result = httpx.post(f"{url}/api/v1/query", data={"query": query}, timeout=240).json()["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def preprov(*words: str) -> tuple[int, Any]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([*words, "-o", "json"])
    return code, json.loads(out.getvalue() or err.getvalue())


@pytest.mark.timeout(300)
def test_usage_is_read_out_of_a_real_one(
    prometheus: str, exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "preprov.toml").write_text("")
    rate = 'rate(container_cpu_usage_seconds_total{container!=""}[4s])'
    until(lambda: (found := value(prometheus, rate)) is not None and abs(found - 0.5) < 0.1)
    born_again = time.time()
    exporter.born = born_again  # its process was restarted: the counter is at 0 again
    until(lambda: (value(prometheus, "resets(container_cpu_usage_seconds_total[60s])") or 0) >= 1)
    until(lambda: time.time() - born_again > 8)

    said = ["kind=prometheus", "preset=cadvisor"]
    code, told = preprov("source", "add", "used", "prometheus", f"url={prometheus}", *said[1:], "lag=1", "step=1")
    assert code == 0, told
    found = {f["what"]: f for f in told["findings"]}
    assert "Prometheus" in found["address"]["found"]
    assert found["memory"]["state"] == "ok"
    assert "ns/etl-7" in found["memory"]["found"]
    assert found["disk_io"]["state"] == "warn", "this exporter tells nothing of disks"
    assert preprov("source", "test", "used")[0] == 0

    query = f"""
[[source]]
name = "mapped"
kind = "prometheus"
url = "{prometheus}"
step = 1
lag = 1
history_days = 0.01
claimant = "{{namespace}}/{{run}}/main#0"
labels = {{ pod = '(?P<run>.+)-\\d+' }}
query = [
  {{ resource = "cpu", promql = '{rate}', unit = "cores" }},
  {{ resource = "memory", promql = 'container_memory_working_set_bytes', unit = "bytes" }},
]
"""
    with (tmp_path / "preprov.toml").open("a") as file:
        file.write(query)
    code, told = preprov("source", "sync", "mapped")
    assert code == 0, told
    assert told["passes"][0]["samples"] > 5
    with open_app() as app:
        kept = app.ctx.ports.samples.samples("ns/etl/main#0")
    assert kept
    assert {u.memory for u in kept if u.memory is not None} == {0.25}
    used = [u.cpu for u in kept if u.cpu is not None]
    assert used
    assert all(math.isfinite(c) and 0 <= c < 1.0 for c in used), "a counter that began anew is no use below zero"
    assert sum(used) / len(used) == pytest.approx(0.5, abs=0.15)
    assert {u.disk_io for u in kept} == {None}
    before = len(kept)
    code, told = preprov("source", "sync", "mapped")
    with open_app() as app:
        after = app.ctx.ports.samples.samples("ns/etl/main#0")
    assert len(after) == before + told["passes"][0]["samples"]
    assert len({u.at for u in after}) == len(after)
    code, told = preprov("source", "list")
    assert {s["source"]: s["error"] for s in told["sources"]}["mapped"] == ""

    text = (tmp_path / "preprov.toml").read_text()
    (tmp_path / "preprov.toml").write_text(text.replace("rate(container", "rate((container"))
    code, told = preprov("source", "sync", "mapped")
    assert code == 1
    assert "not understood" in told["what"]
    assert "parse error" in told["what"]


@pytest.mark.timeout(300)
def test_what_jobs_of_a_cluster_use_has_their_names(
    prometheus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "preprov.toml").write_text(
        '[[source]]\nname = "jobs"\nkind = "prometheus"\npreset = "jobs"\nstep = 1\nlag = 1\nhistory_days = 0.01\n'
        f'url = "{prometheus}"\n'
    )
    until(lambda: (value(prometheus, "count_over_time(kube_pod_labels[60s])") or 0) > 4)
    code, told = preprov("source", "sync", "jobs")
    assert code == 0, told
    assert told["passes"][0]["notes"] == []
    with open_app() as app:
        kept = app.ctx.ports.samples.samples("ns/etl-29012345@0123abcd/etl#0")
    assert {u.memory for u in kept if u.memory is not None} == {0.25}
    assert any(u.cpu for u in kept)
