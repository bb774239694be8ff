"""Runs that never were: the shape of submitted DAGs whose first turn is still to come."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from preprov.model.signature_sources import task_signature
from preprov.model.time import epoch
from preprov.model.work import DagSpec, Schedule, Trigger
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable

_NAN = float("nan")


def never_ran(seen: WorkTable, schedules: Sequence[Schedule]) -> tuple[str, ...]:
    """Scheduled DAGs of which no run was ever seen."""
    known = set(seen.runs["dag_id"])
    return tuple(sorted({s.dag_id for s in schedules} - known))


def shapes_of(specs: Sequence[DagSpec], at: datetime) -> WorkTable | None:
    """A run of each DAG to copy its turns from, as submitted; None if there are no DAGs."""
    if not specs:
        return None
    tasks: list[Mapping[str, Any]] = []
    parents: list[int] = []
    children: list[int] = []
    for number, dag in enumerate(specs):
        position: dict[str, int] = {}
        for task_id in dag.order():
            spec = dag.task(task_id)
            position[task_id] = len(tasks)
            parents.extend(position[p] for p in spec.parents)
            children.extend([len(tasks)] * len(spec.parents))
            tasks.append(_task(dag, task_id, number))
    return WorkTable(
        pd.DataFrame([_run(dag, at) for dag in specs], columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS),
        pd.DataFrame(tasks, columns=list(TASK_COLUMNS)).astype(TASK_COLUMNS),
        np.array(parents, dtype=np.int64),
        np.array(children, dtype=np.int64),
    )


def _run(dag: DagSpec, at: datetime) -> dict[str, Any]:
    before = epoch(at)
    return {
        "run_id": f"{dag.dag_id} as submitted",
        "dag_id": dag.dag_id,
        "tenant": dag.tenant,
        "priority": dag.priority,
        "schedule": dag.schedule or "",
        "zone": dag.zone,
        "trigger": Trigger.SCHEDULED.value,
        "scheduled_for": before,
        "submit": before,
        "due": before,
        "land_by": _NAN,
        "timing": "nominal",
    }


def _task(dag: DagSpec, task_id: str, run: int) -> dict[str, Any]:
    spec = dag.task(task_id)
    return {
        "run": run,
        "task_id": task_id,
        "signature": task_signature(spec, dag.dag_id, dag.tenant),
        "operator": spec.operator,
        "instances": spec.instances,
        **spec.request.as_dict(),
        "gang": spec.gang,
        "hint_s": spec.runtime_hint_s or _NAN,
        **dict.fromkeys(("ready_at", "started_at", "ended_at", "runtime_s"), _NAN),
    }
