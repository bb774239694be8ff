"""Execution tables for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from preprov.model.executions import EXECUTION_COLUMNS, Executions

START = 1_700_000_000.0


def executions(rows: Sequence[Mapping[str, Any]]) -> Executions:
    """Runs of process P of W, one a minute, 10 minutes each, 8 GiB asked for, 4 used, unless said otherwise."""
    frame = pd.DataFrame([_row(i, dict(r)) for i, r in enumerate(rows)], columns=list(EXECUTION_COLUMNS))
    return Executions(frame.astype(EXECUTION_COLUMNS))


def _row(number: int, said: dict[str, Any]) -> dict[str, Any]:
    at = said.setdefault("submitted", START + 60.0 * number)
    runtime = said.setdefault("runtime_s", 600.0)
    usual = {
        "tenant": "",
        "workflow": "W",
        "process": "P",
        "tag": f"S{number}",
        "code": "",
        "machine": "",
        "started": at,
        "ended": at + runtime,
        "cpus": 1.0,
        "memory": 8.0,
        "input_bytes": np.nan,
        "cpu": 1.0,
        "cpu_p95": np.nan,
        "peak": 4.0,
        "read_bytes": np.nan,
        "written_bytes": np.nan,
    }
    return usual | said


def pipeline(samples: int, seed: int = 0) -> Executions:
    """Each sample is read by A and then, when that has ended, by B: B's peak follows what A wrote."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for i in range(samples):
        size = float(rng.lognormal(21, 0.8))
        begun = START + 60.0 * i
        a = {"process": "A", "tag": f"S{i}", "submitted": begun, "written_bytes": size, "read_bytes": size, "peak": 1.0}
        b = {
            "process": "B",
            "tag": f"S{i}_T1",
            "submitted": begun + 600.0,
            "peak": 0.5 + 2.0 * size / 2**30 * float(rng.lognormal(0, 0.03)),
            "read_bytes": size,
            "memory": 64.0,
        }
        rows += [a, b]
    rows.sort(key=lambda r: r["submitted"])
    return executions(rows)
