"""Live runs in memory: what was submitted, and how far it has come."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from preprov.model.plans import stable_id
from preprov.model.signature_sources import task_signature
from preprov.model.time import epoch
from preprov.model.work import DagRun, DagSpec, Schedule, State, TaskRun, Trigger
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable

_NAN = float("nan")


class LiveWork:
    """Runs made by `submit` and `materialise`, their tasks, and the specs that scheduled runs are made from."""

    def __init__(self) -> None:
        self._runs: dict[str, DagRun] = {}
        self._tasks: dict[str, dict[str, TaskRun]] = {}
        self._specs: dict[tuple[str, str], DagSpec] = {}
        self._of: dict[str, dict[str, None]] = {}
        self._tables: dict[str, tuple[dict[str, Schedule], WorkTable]] = {}

    def keep_spec(self, dag: DagSpec, pool: str) -> None:
        """Remember what runs of this DAG are made from."""
        self._specs[pool, dag.dag_id] = dag

    def spec(self, pool: str, dag_id: str) -> DagSpec | None:
        """What runs of the DAG are made from."""
        return self._specs.get((pool, dag_id))

    def create(
        self,
        dag: DagSpec,
        pool: str,
        at: datetime,
        run_id: str | None,
        trigger: Trigger,
        *,
        scheduled_for: datetime | None = None,
        due: datetime | None = None,
        land_by: datetime | None = None,
    ) -> DagRun:
        """Make a run, or return the one of that id."""
        run_id = run_id or f"{dag.dag_id}-{stable_id(pool, dag.dag_id, at.isoformat(), len(self._runs))[:8]}"
        if run_id in self._runs:
            return self._runs[run_id]
        run = DagRun(
            run_id=run_id,
            dag_id=dag.dag_id,
            pool=pool,
            tenant=dag.tenant,
            trigger=trigger,
            submitted_at=at,
            state=State.PENDING,
            priority=dag.priority,
            scheduled_for=scheduled_for,
            due=due,
            land_by=land_by,
        )
        self._runs[run_id] = run
        self._of.setdefault(pool, {})[run_id] = None
        self._tables.pop(pool, None)
        self._tasks[run_id] = {t: _first(dag, run, t) for t in dag.order()}
        return run

    def runs(self, pool: str | None, *, live: bool) -> list[DagRun]:
        """Runs, newest first."""
        ids = self._of.get(pool, {}) if pool is not None else self._runs
        found = [r for r in (self._runs[i] for i in ids) if not (live and r.state.is_final)]
        return sorted(found, key=lambda r: (r.submitted_at, r.run_id), reverse=True)

    def find(self, run_id: str) -> DagRun | None:
        """One run by id or unique prefix."""
        if run_id in self._runs:
            return self._runs[run_id]
        near = [r for name, r in self._runs.items() if name.startswith(run_id)] if run_id else []
        return near[0] if len(near) == 1 else None

    def has(self, run_id: str) -> bool:
        """True if there is a run of exactly that id."""
        return run_id in self._runs

    def tasks(self, run_ids: Sequence[str]) -> tuple[TaskRun, ...]:
        """All tasks of these runs, parents before children."""
        return tuple(t for r in run_ids for t in self._tasks.get(r, {}).values())

    def save_tasks(self, tasks: Sequence[TaskRun]) -> None:
        """Write tasks; a final one stays as it is."""
        for t in tasks:
            held = self._tasks.get(t.run_id, {})
            if t.task_id in held and not held[t.task_id].state.is_final:
                held[t.task_id] = t
                self._tables.pop(self._runs[t.run_id].pool, None)

    def save_run(self, run_id: str, state: State, ended_at: datetime | None, reason: str) -> None:
        """Write a run's state; a final one stays as it is."""
        run = self._runs.get(run_id)
        if run is not None and not run.state.is_final:
            self._runs[run_id] = replace(run, state=state, ended_at=ended_at, reason=reason)
            self._tables.pop(run.pool, None)

    def serves(self, pool: str) -> bool:
        """True if a run of that pool was ever made here."""
        return bool(self._of.get(pool))

    def table(self, pool: str, schedules: dict[str, Schedule]) -> WorkTable:
        """The live runs of a pool in columns; made anew when one of them has changed."""
        kept = self._tables.get(pool)
        if kept is None or kept[0] != schedules:
            kept = self._tables[pool] = (dict(schedules), self._table(pool, schedules))
        return kept[1]

    def _table(self, pool: str, schedules: dict[str, Schedule]) -> WorkTable:
        runs = sorted((self._runs[i] for i in self._of.get(pool, {})), key=lambda r: r.submitted_at)
        if not runs:
            return WorkTable.empty()
        tasks: list[dict[str, Any]] = []
        parents: list[int] = []
        children: list[int] = []
        for i, run in enumerate(runs):
            position: dict[str, int] = {}
            for t in self._tasks[run.run_id].values():
                position[t.task_id] = len(tasks)
                parents.extend(position[p] for p in t.spec.parents)
                children.extend([len(tasks)] * len(t.spec.parents))
                tasks.append(_task_row(t, i))
        return WorkTable(
            _frame((_run_row(r, schedules.get(r.dag_id)) for r in runs), RUN_COLUMNS),
            _frame(tasks, TASK_COLUMNS),
            np.array(parents, dtype=np.int64),
            np.array(children, dtype=np.int64),
        )


def _first(dag: DagSpec, run: DagRun, task_id: str) -> TaskRun:
    spec = dag.task(task_id)
    return TaskRun(
        run_id=run.run_id,
        task_id=task_id,
        pool=run.pool,
        spec=spec,
        signature=task_signature(spec, dag.dag_id, dag.tenant),
        state=State.PENDING,
        tenant=dag.tenant,
        priority=dag.priority if spec.priority is None else spec.priority,
    )


def _frame(rows: Iterable[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    listed = list(rows)
    return pd.DataFrame({c: np.array([r[c] for r in listed], dtype=kind) for c, kind in columns.items()})


def _seconds(at: datetime | None) -> float:
    return _NAN if at is None else epoch(at)


def _run_row(run: DagRun, schedule: Schedule | None) -> dict[str, Any]:
    scheduled = schedule if run.trigger is Trigger.SCHEDULED else None
    return {
        "run_id": run.run_id,
        "dag_id": run.dag_id,
        "tenant": run.tenant,
        "priority": run.priority,
        "schedule": scheduled.cron if scheduled else "",
        "zone": scheduled.zone if scheduled else "UTC",
        "trigger": str(run.trigger),
        "scheduled_for": _seconds(run.scheduled_for),
        "submit": epoch(run.submitted_at),
        "due": epoch(max(run.due or run.submitted_at, run.submitted_at)),
        "land_by": _seconds(run.land_by),
        "timing": "observed",
    }


def _task_row(t: TaskRun, run: int) -> dict[str, Any]:
    ran = t.started_at is not None and t.ended_at is not None and t.state is not State.SKIPPED
    return {
        "run": run,
        "task_id": t.task_id,
        "signature": t.signature,
        "operator": t.spec.operator,
        "instances": t.spec.instances,
        **t.spec.request.as_dict(),
        "gang": t.spec.gang,
        "hint_s": t.spec.runtime_hint_s or _NAN,
        "ready_at": _seconds(t.ready_at),
        "started_at": _seconds(t.started_at),
        "ended_at": _seconds(t.ended_at),
        "runtime_s": _seconds(t.ended_at) - _seconds(t.started_at) if ran else _NAN,
    }
