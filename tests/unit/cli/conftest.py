"""The command line, in this process: what it prints, and with which code it ends."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from preprov.cli.main import run


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def preprov(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_trees: None) -> Callable[..., Result]:
    """Run a command in a folder of its own; returns its code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([str(w) for w in words])
        return Result(code, out.getvalue(), err.getvalue())

    return call


NIGHTS = """run_id,dag_id,tenant,schedule,trigger,scheduled_for,submit,task,operator,parents,cpu,memory_gib,runtime_s
"""


def nights(days: int = 5, *, bad: str = "") -> str:
    """A small table: one DAG of two tasks at 02:00 each night."""
    rows = []
    for i in range(1, days + 1):
        head = f"etl/{i},etl,bi,0 2 * * *,scheduled,2025-03-{i:02d}T02:00:00Z,2025-03-{i:02d}T02:00:12Z"
        rows += [f"{head},extract,Extract,,2,4,{300 + i}", f"{head},load,Load,extract,4,8,{600 - i}"]
    return NIGHTS + "\n".join(rows) + "\n" + bad
