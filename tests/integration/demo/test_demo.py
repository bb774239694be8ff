"""The whole demonstration as a newcomer runs it: real nodes, a real Prefect server, a report; and once more."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]


def demo(home: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "preprov.cli.main", "demo", "-o", "json", *options],
        env={**os.environ, "PREPROV_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_demonstration_and_a_second_one(tmp_path: Path) -> None:
    first = demo(tmp_path, "--minutes", "14", "--keep")
    schema = json.loads((ROOT / "docs" / "reference" / "schemas" / "demo.json").read_text())
    jsonschema.validate(first, schema)
    assert [r["flow"] for r in first["flow_runs"]] == ["forecast_demand", "warm_pools"]
    assert {r["state"] for r in first["flow_runs"]} == {"Completed"}
    by_name = {o["policy"]: o for o in first["outcomes"]}
    assert list(by_name) == ["preprov live", "preprov", "reactive", "always-on", "clairvoyant"]
    assert by_name["preprov live"]["warm_hit_ratio"] > by_name["reactive"]["warm_hit_ratio"]
    assert by_name["preprov live"]["wait_p95_s"] <= by_name["reactive"]["wait_p95_s"]
    assert first["failed_instances"] == 0
    assert first["live_against_replayed"]["within"]
    assert "http" not in Path(first["report"]).read_text()
    second = demo(tmp_path, "--minutes", "5", "--report", str(tmp_path / "mine.html"))
    assert Path(second["report"]) == tmp_path / "mine.html"
    assert Path(second["report"]).exists()
    assert not list((tmp_path / "demo" / "nodes" / "demo").glob("*/agent.sock"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_told_to_end_it_leaves_neither_a_server_nor_nodes(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "preprov.cli.main", "demo"],
        env={**os.environ, "PREPROV_HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = iter(process.stderr)
    next(line for line in said if " warming; " in line)
    nodes = tmp_path / "demo" / "nodes" / "demo"
    assert list(nodes.glob("*/agent.sock"))
    started = psutil.Process(process.pid).children(recursive=True)
    assert any("prefect" in " ".join(p.cmdline()) for p in started)
    process.terminate()
    for _ in said:
        pass
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(started, timeout=240)
    assert alive == []
    assert not list(nodes.glob("*/agent.sock"))
