"""Small tables of work, told run by run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from preprov.model.resources import KINDS
from preprov.model.time import epoch
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable, nominal_ready

AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
NOW = epoch(AT)
HOUR = 3600.0


def instant(seconds: float) -> datetime:
    """So many seconds after AT."""
    return AT + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Task:
    """A task of a run; times in seconds after AT, for observed runs."""

    task_id: str
    runtime: float = np.nan
    parents: tuple[str, ...] = ()
    cpu: float = 1.0
    memory: float = 0.0
    instances: int = 1
    hint: float = np.nan
    signature: str = ""
    ready: float = np.nan
    started: float = np.nan
    ended: float = np.nan
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run; submit, due and scheduled_for in seconds after AT."""

    run_id: str
    dag_id: str
    submit: float
    tasks: Sequence[Task]
    scheduled_for: float = np.nan
    due: float = np.nan
    trigger: str = "manual"
    timing: str = "nominal"
    more: Mapping[str, Any] = field(default_factory=dict)


def table(runs: Sequence[Run]) -> WorkTable:
    """The runs as a WorkTable; ready times of nominal ones are computed."""
    if not runs:
        return WorkTable.empty()
    frame = pd.DataFrame([_run(r) for r in runs])[list(RUN_COLUMNS)].astype(RUN_COLUMNS)
    rows, parents, children = [], [], []
    for number, run in enumerate(runs):
        first = len(rows)
        place = {t.task_id: first + i for i, t in enumerate(run.tasks)}
        for t in run.tasks:
            parents += [place[p] for p in t.parents]
            children += [place[t.task_id]] * len(t.parents)
            rows.append({"run": number, **_task(run, t)})
    tasks = pd.DataFrame(rows)[list(TASK_COLUMNS)].astype(TASK_COLUMNS)
    p, c = np.array(parents, dtype=np.int64), np.array(children, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        ready = nominal_ready(frame["due"].to_numpy(), tasks["runtime_s"].to_numpy(), tasks["run"].to_numpy(), p, c)
    nominal = (frame["timing"] == "nominal").to_numpy()[tasks["run"].to_numpy()]
    tasks["ready_at"] = np.where(nominal, ready, tasks["ready_at"])
    return WorkTable(frame, tasks, p, c)


def _run(r: Run) -> dict[str, Any]:
    return {
        "run_id": r.run_id,
        "dag_id": r.dag_id,
        "tenant": "team",
        "priority": 0,
        "schedule": "",
        "zone": "UTC",
        "trigger": r.trigger,
        "scheduled_for": NOW + r.scheduled_for,
        "submit": NOW + r.submit,
        "due": NOW + (r.submit if np.isnan(r.due) else r.due),
        "land_by": np.nan,
        "timing": r.timing,
        **r.more,
    }


def _task(run: Run, t: Task) -> dict[str, Any]:
    return {
        "task_id": t.task_id,
        "signature": t.signature or f"{run.dag_id}/{t.task_id}",
        "operator": "",
        "instances": t.instances,
        **dict.fromkeys(KINDS, 0.0),
        "cpu": t.cpu,
        "memory": t.memory,
        "gang": False,
        "hint_s": t.hint,
        "ready_at": NOW + t.ready,
        "started_at": NOW + t.started,
        "ended_at": NOW + t.ended,
        "runtime_s": t.runtime,
        **t.more,
    }


def history(dag_id: str, tasks: Sequence[Task], *, days: int = 20, hour: float = 2.0, spread: float = 0.0) -> list[Run]:
    """Daily runs of a scheduled DAG that ended long ago, at `hour` UTC; runtimes vary lognormally by `spread`."""
    rng = np.random.default_rng(len(dag_id))
    out = []
    for day in range(days, 0, -1):
        turn = (hour - 12.0) * HOUR - day * 24 * HOUR
        varied = [
            Task(**{**vars(t), "runtime": t.runtime * float(np.exp(spread * rng.standard_normal()))}) for t in tasks
        ]
        out.append(Run(f"{dag_id}-{day}", dag_id, turn + 5.0, varied, scheduled_for=turn, trigger="scheduled"))
    return out
