"""What the contract suites of the store are made with: examples, comparisons, the base class."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from preprov.contracts import Ports
from preprov.model.reservations import Reservation, Segment
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.work import DagSpec, DatasetRef, ImageRef, Probe, TaskSpec, Trigger
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable

T0 = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
POOL = "batch"


def minutes(n: float) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=n)


def history(n_runs: int, *, seed: int = 0, first: int = 0, start: datetime = T0) -> WorkTable:
    """Runs of one to five tasks in a chain, a minute apart, with awkward doubles in every column."""
    rng = np.random.default_rng(seed)
    width = rng.integers(1, 6, n_runs)
    run = np.repeat(np.arange(n_runs), width)
    n = len(run)
    place = np.arange(n) - np.repeat(np.cumsum(width) - width, width)
    submit = epoch(start) + 60.0 * np.arange(n_runs) + rng.uniform(0, 1, n_runs)
    ids = np.arange(first, first + n_runs)
    runs = {
        "run_id": [f"run-{i}" for i in ids],
        "dag_id": [f"dag-{i % 3}" for i in ids],
        "tenant": ["ünïcode" if i % 2 else "default" for i in ids],
        "priority": rng.integers(-5, 5, n_runs),
        "schedule": ["0 2 * * *" if i % 3 == 0 else "" for i in ids],
        "zone": ["Europe/Zurich"] * n_runs,
        "trigger": [str(Trigger.SCHEDULED if i % 3 == 0 else Trigger.MANUAL) for i in ids],
        "scheduled_for": np.where(ids % 3 == 0, submit - 40, np.nan),
        "submit": submit,
        "due": submit,
        "land_by": np.nan,
        "timing": ["nominal" if i % 2 else "observed" for i in ids],
    }
    tasks = {
        "run": run,
        "task_id": [f"t{i}" for i in place],
        "signature": [f"sig-{i % 7}" for i in range(n)],
        "operator": [""] * n,
        "instances": rng.integers(1, 9, n),
        "cpu": rng.uniform(0.1, 4, n),
        "memory": rng.exponential(1, n),
        "gpu": 0.0,
        "disk_io": 1e-300,
        "network": 0.1 + 0.2,
        "gang": rng.random(n) < 0.5,
        "hint_s": np.where(rng.random(n) < 0.5, np.nan, 3600.0),
        "ready_at": submit[run],
        "started_at": np.where(run % 2 == 0, submit[run] + 5, np.nan),
        "ended_at": np.where(run % 2 == 0, submit[run] + 25, np.nan),
        "runtime_s": 20.0,
    }
    child = np.flatnonzero(place > 0)
    return WorkTable(
        pd.DataFrame(runs)[list(RUN_COLUMNS)].astype(RUN_COLUMNS),
        pd.DataFrame(tasks)[list(TASK_COLUMNS)].astype(TASK_COLUMNS),
        child - 1,
        child,
    )


def assert_same_work(found: WorkTable, wanted: WorkTable) -> None:
    """Equal columns, types, order and edges; doubles bit for bit."""
    pd.testing.assert_frame_equal(found.runs, wanted.runs, check_exact=True)
    pd.testing.assert_frame_equal(found.tasks, wanted.tasks, check_exact=True)
    np.testing.assert_array_equal(found.parents, wanted.parents)
    np.testing.assert_array_equal(found.children, wanted.children)


def claim(
    name: str,
    *,
    cpu: float = 1.0,
    at: datetime = T0,
    for_minutes: float = 10,
    expires_at: datetime | None = None,
    pool: str = POOL,
    claimant: str = "",
) -> Reservation:
    """A soft reservation of one segment."""
    segment = Segment(at, at + minutes(for_minutes), Resources(cpu=cpu, memory=cpu))
    return Reservation(name, pool, claimant or f"claimant-of-{name}", (segment,), expires_at=expires_at, created_at=T0)


def npz(**arrays: np.ndarray) -> bytes:
    """Arrays in numpy's own container."""
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()


A_DAG = DagSpec(
    dag_id="etl",
    tasks=(
        TaskSpec(
            "load", ("echo", "a b"), parents=("extract", "clean"), request=Resources(cpu=2, memory=0.1), retries=2
        ),
        TaskSpec(
            "extract",
            images=(ImageRef("/images/a.tar", "sha256:1"),),
            datasets=(DatasetRef("s3://b/x", "v1", size_gib=1.5),),
            env={"A": "1"},
            affinity={"disk": "ssd"},
            instances=3,
            gang=True,
            runtime_hint_s=60.5,
            probe=Probe(("echo", "a"), 2.5, Resources(cpu=0.5, memory=0.1)),
        ),
        TaskSpec("clean", parents=("extract",), priority=9),
    ),
    tenant="finance",
    priority=3,
)


class PortsContract:
    """Base of the suites: they are given a store by a fixture."""

    @pytest.fixture
    def ports(self) -> Ports:
        """A fresh, empty store."""
        raise NotImplementedError("give the suite a fixture `ports`")
