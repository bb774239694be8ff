"""The same history gives the same queue, forecast and plan on SQLite and on PostgreSQL."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

STEPS = {
    "nasa": (
        ("ingest", "swf", "swf/NASA-iPSC-1993-3.1-cln.swf.gz", "--pool", "nasa"),
        ("forecast", "run", "--pool", "nasa", "--at", "1993-12-15T00:00"),
        ("plan", "make", "--pool", "nasa", "--at", "1993-12-15T00:00"),
    ),
    "nights": (
        ("ingest", "dags", "dags/nights.parquet", "--pool", "nights"),
        ("queue", "analyze", "--pool", "nights", "--at", "2025-10-30T02:10"),
    ),
    "alibaba": (
        ("ingest", "dags", "dags/alibaba2018_dag_tasks.parquet", "--pool", "ali"),
        ("queue", "analyze", "--pool", "ali", "--at", "2018-01-04T02:00:30Z"),
    ),
    "wfinstances": (("ingest", "wfformat", "dags/wfinstances.tar.xz", "--pool", "wf"),),
}
WHEN_NOT_WHAT = ("issued_at", "rejects_file", "forecast_id", "plan_id", "model", "valid_until", "seconds")


def play(steps: tuple[tuple[str, ...], ...], traces: Path, home: Path, url: str | None) -> list:
    """The documents that the commands print, less what names or dates them."""
    env = {**os.environ, "PREPROV_HOME": str(home)}
    if url is not None:
        env["PREPROV_STORE__URL"] = url
    out = []
    for words in steps:
        words = tuple(str(traces / w) if "/" in w and (traces / w).exists() else w for w in words)
        done = subprocess.run(
            [sys.executable, "-m", "preprov.cli.main", *words, "-o", "json"],
            env=env,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        out.append(undated(json.loads(done.stdout)))
    return out


def undated(document: object) -> object:
    """The document at every depth without what names, dates or times it."""
    if isinstance(document, dict):
        return {k: undated(v) for k, v in document.items() if k not in WHEN_NOT_WHAT}
    if isinstance(document, list):
        return [undated(v) for v in document]
    return document


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", STEPS)
def test_sqlite_and_postgresql_agree(
    name: str, traces: Path, tmp_path: Path, postgres_database: Callable[[], str]
) -> None:
    embedded = play(STEPS[name], traces, tmp_path / "a", None)
    served = play(STEPS[name], traces, tmp_path / "b", postgres_database())
    assert embedded == served
    last = embedded[-1]
    if name == "nasa":
        forecast = embedded[1]
        assert len(forecast["points"]) == 24
        assert all(p["demand"] == sorted(p["demand"]) for p in forecast["points"])
        assert last["actions"]
    elif name == "wfinstances":
        assert last["runs"] == 102
    else:
        assert last["running"]["task_instances"] > 0
        assert last["points"]
