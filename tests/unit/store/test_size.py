"""A history of the size of a real one goes in and out, and comes again without being doubled."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from preprov.contracts import SourceBatch
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable
from preprov.store.database import Store
from preprov.testing.store_examples import POOL, assert_same_work


def job_log(n: int) -> WorkTable:
    """As a job log: one task a run, few users, awkward times."""
    rng = np.random.default_rng(0)
    submit = np.sort(rng.uniform(1.3e9, 1.4e9, n))
    user = np.array([f"user{i}" for i in range(500)], dtype=object)[rng.integers(0, 500, n)]
    runs = {"run_id": [f"job-{i}" for i in range(n)], "dag_id": user, "tenant": user, "submit": submit, "due": submit}
    runs |= {"schedule": "", "zone": "UTC", "trigger": "manual", "timing": "observed", "priority": 0}
    runs |= {"scheduled_for": np.nan, "land_by": np.nan}
    tasks = {"run": np.arange(n), "task_id": "job", "signature": user, "operator": "", "instances": 1, "gang": True}
    tasks |= {"cpu": rng.integers(1, 4096, n), "memory": rng.uniform(0, 9, n), "gpu": 0.0, "disk_io": 0.0}
    tasks |= {"network": 0.0, "hint_s": 3600.0, "ready_at": submit, "started_at": submit + 5, "ended_at": submit + 50}
    tasks |= {"runtime_s": 45.0}
    none = np.empty(0, dtype=np.int64)
    return WorkTable(
        pd.DataFrame({c: runs[c] for c in RUN_COLUMNS}).astype(RUN_COLUMNS),
        pd.DataFrame({c: tasks[c] for c in TASK_COLUMNS}).astype(TASK_COLUMNS),
        none,
        none,
    )


@pytest.mark.slow
def test_three_hundred_thousand_jobs(store: Store) -> None:
    log, work = job_log(313_000), store.ports().work
    batches = [SourceBatch(log.select_runs(np.arange(len(log)) // 20_000 == i)) for i in range(16)]
    work.ingest(POOL, "log", "d", batches)
    found = work.work(POOL)
    assert_same_work(found, log)
    again = [replace(b, notes=("again",)) for b in batches]
    assert work.ingest(POOL, "log", "grown", again).runs == 0
