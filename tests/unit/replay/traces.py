"""Small traces for the replay's tests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType

import numpy as np
import pandas as pd

from preprov.model.offerings import LeadTime, Standby
from preprov.model.pools import Guards, Mode, Pool
from preprov.model.reference import reference_pool
from preprov.model.resources import Resources
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable, nominal_ready

T0 = datetime(2026, 1, 5, tzinfo=UTC)
E0 = T0.timestamp()


@dataclass(frozen=True)
class T:
    """One task: parents are positions within its run."""

    runtime: float
    cpu: float = 1.0
    memory: float = 1.0
    parents: tuple[int, ...] = ()
    instances: int = 1
    gang: bool = False


def work_of(
    runs: Sequence[tuple[float, Sequence[T]]], trigger: str = "manual", priorities: Sequence[int] = (0,)
) -> WorkTable:
    """Runs (seconds after T0, tasks) with nominal timing, by submit; priorities are dealt out in turn."""
    runs = sorted(runs, key=lambda r: r[0])
    submit = np.array([E0 + s for s, _ in runs])
    run, tasks, parents, children = [], [], [], []
    for i, (_, members) in enumerate(runs):
        first = len(tasks)
        for t in members:
            parents += [first + p for p in t.parents]
            children += [len(tasks)] * len(t.parents)
            run.append(i)
            tasks.append(t)
    frame = pd.DataFrame(
        {
            "run_id": [f"r{i}" for i in range(len(runs))],
            "dag_id": "d",
            "tenant": "t",
            "priority": [priorities[i % len(priorities)] for i in range(len(runs))],
            "schedule": "",
            "zone": "UTC",
            "trigger": trigger,
            "scheduled_for": np.nan,
            "submit": submit,
            "due": submit,
            "land_by": np.nan,
            "timing": "nominal",
        }
    )[list(RUN_COLUMNS)].astype(RUN_COLUMNS)
    runtime = np.array([t.runtime for t in tasks], dtype=float)
    edges = np.array(parents, dtype=np.int64), np.array(children, dtype=np.int64)
    table = pd.DataFrame(
        {
            "run": run,
            "task_id": [f"t{i}" for i in range(len(tasks))],
            "signature": "s",
            "operator": "",
            "instances": [t.instances for t in tasks],
            "cpu": [t.cpu for t in tasks],
            "memory": [t.memory for t in tasks],
            "gpu": 0.0,
            "disk_io": 0.0,
            "network": 0.0,
            "gang": [t.gang for t in tasks],
            "hint_s": np.nan,
            "ready_at": nominal_ready(submit, runtime, np.array(run, dtype=np.int64), *edges) if tasks else [],
            "started_at": np.nan,
            "ended_at": np.nan,
            "runtime_s": runtime,
        }
    )[list(TASK_COLUMNS)].astype(TASK_COLUMNS)
    return WorkTable(frame, table, *edges)


def pool_of(
    cpu: float = 4.0,
    memory: float = 8.0,
    lead_s: float = 100.0,
    max_nodes: int = 1000,
    usd: float = 3.6,
    sigma: bool = False,
) -> Pool:
    """A pool of small nodes; the lead time is fixed unless `sigma`."""
    pool = reference_pool("p", mode=Mode.FULL)
    group = pool.groups[0]
    offering = replace(group.offerings[0], capacity=Resources(cpu=cpu, memory=memory), usd_per_hour=usd)
    spread = 2.0 if sigma else 1.0
    lead = {
        Standby.COLD: LeadTime(lead_s, lead_s * spread),
        Standby.STOPPED: LeadTime(lead_s / 4, lead_s * spread / 4),
        Standby.HIBERNATED: LeadTime(lead_s / 8, lead_s * spread / 8),
    }
    group = replace(group, offerings=(offering,), lead=MappingProxyType(lead), max_nodes=max_nodes)
    return replace(pool, groups=(group,), guards=Guards(max_nodes=max_nodes))
