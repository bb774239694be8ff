"""Runs that are served here: one row a run, one row a task."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import uuid4

from sqlalchemy import bindparam, func, or_, update
from sqlmodel import Session, col, select

from preprov.model.errors import StoreError
from preprov.model.plans import stable_id
from preprov.model.signature_sources import task_signature
from preprov.model.time import epoch
from preprov.model.work import DagRun, DagSpec, Schedule, State, TaskRun, TaskSpec, Trigger
from preprov.store.codec import dump, load
from preprov.store.rows import DagTemplateRow, LiveRunRow, LiveTaskRow

FINAL: Final = tuple(str(s) for s in State if s.is_final)


# --------------------------------------------------------------------------- making runs


def keep_template(session: Session, dag: DagSpec, pool: str, at: datetime) -> None:
    """Remember the spec that the DAG's next turns are made from."""
    session.merge(DagTemplateRow(pool=pool, dag_id=dag.dag_id, spec=dump(dag), saved_at=at))


def has_template(session: Session, pool: str, dag_id: str) -> bool:
    """True if a spec of the DAG is kept."""
    return session.get(DagTemplateRow, (pool, dag_id)) is not None


def specs(session: Session, pool: str, dag_ids: Sequence[str]) -> tuple[DagSpec, ...]:
    """The specs kept of these DAGs, by name."""
    rows = (session.get(DagTemplateRow, (pool, d)) for d in sorted(set(dag_ids)))
    return tuple(load(DagSpec, row.spec) for row in rows if row is not None)


def template(session: Session, pool: str, dag_id: str) -> DagSpec:
    """The DAG's last spec.

    Raises:
        StoreError: none was submitted to this pool.
    """
    row = session.get(DagTemplateRow, (pool, dag_id))
    if row is None:
        raise StoreError(
            f"DAG {dag_id} has a schedule but was never submitted, so its next run cannot be made here",
            where=f"pool {pool}",
            hint="preprov submit its file",
        )
    return load(DagSpec, row.spec)


def create(session: Session, dag: DagSpec, run: DagRun, *, cron: str, zone: str) -> None:
    """Write a run and its tasks, parents first."""
    row = LiveRunRow(
        run_id=run.run_id,
        pool=run.pool,
        dag_id=run.dag_id,
        tenant=run.tenant,
        trigger=str(run.trigger),
        state=str(run.state),
        priority=run.priority,
        cron=cron,
        zone=zone,
        submitted_at=run.submitted_at,
        scheduled_for=run.scheduled_for,
        due=run.due,
        land_by=run.land_by,
        ended_at=run.ended_at,
        reason=run.reason,
        task_count=len(dag.tasks),
    )
    session.add(row)
    session.flush()
    specs = {t.task_id: t for t in dag.tasks}
    position = {task_id: i for i, task_id in enumerate(dag.order())}
    session.add_all(_task_row(row, specs[task_id], position) for task_id in position)
    session.flush()


def new_run_id(dag_id: str, at: datetime) -> str:
    """A name that says what ran and when, and that no other run has."""
    return f"{dag_id}.{at:%Y%m%dT%H%M%S}.{uuid4().hex[:6]}"


def turn_run_id(pool: str, dag_id: str, turn: datetime) -> str:
    """The name of a scheduled run: the same turn has the same name."""
    return f"{dag_id}.{turn:%Y%m%dT%H%M%S}.{stable_id(pool, dag_id, epoch(turn))[:6]}"


def first_state(
    dag: DagSpec, pool: str, at: datetime, run_id: str, *, turn: datetime | None, due: datetime | None
) -> DagRun:
    """A run as it is when it is made; `turn` is the instant its schedule meant."""
    return DagRun(
        run_id=run_id,
        dag_id=dag.dag_id,
        pool=pool,
        tenant=dag.tenant,
        trigger=Trigger.MANUAL if turn is None else Trigger.SCHEDULED,
        submitted_at=at,
        state=State.PENDING,
        priority=dag.priority,
        scheduled_for=turn,
        due=due,
        land_by=dag.land_by,
    )


def declared(dag: DagSpec, pool: str, at: datetime) -> Schedule:
    """The schedule a submitted DAG declares; its land-by counts from its due time, if it has both."""
    land_by_s = (dag.land_by - dag.due).total_seconds() if dag.land_by and dag.due else None
    return Schedule(
        dag_id=dag.dag_id,
        pool=pool,
        cron=str(dag.schedule),
        zone=dag.zone,
        tenant=dag.tenant,
        priority=dag.priority,
        since=at,
        land_by_s=land_by_s,
    )


def land_by(schedule: Schedule, turn: datetime) -> datetime | None:
    """When the run of that turn must have finished."""
    return None if schedule.land_by_s is None else turn + timedelta(seconds=schedule.land_by_s)


def _task_row(run: LiveRunRow, spec: TaskSpec, position: dict[str, int]) -> LiveTaskRow:
    return LiveTaskRow(
        run=cast(int, run.id),
        position=position[spec.task_id],
        task_id=spec.task_id,
        signature=task_signature(spec, run.dag_id, run.tenant),
        operator=spec.operator,
        spec=dump(spec),
        parents=json.dumps([position[p] for p in spec.parents]),
        instances=spec.instances,
        cpu=spec.request.cpu,
        memory=spec.request.memory,
        gpu=spec.request.gpu,
        disk_io=spec.request.disk_io,
        network=spec.request.network,
        gang=spec.gang,
        hint_s=spec.runtime_hint_s,
        state=str(State.PENDING),
        priority=run.priority if spec.priority is None else spec.priority,
    )


# --------------------------------------------------------------------------- reading runs


def find_run(session: Session, run_id: str) -> DagRun | None:
    """One run by id or unique prefix."""
    exact = session.exec(select(LiveRunRow).where(col(LiveRunRow.run_id) == run_id)).first()
    if exact is not None:
        return _run(exact)
    if not run_id:
        return None
    begins = func.substr(col(LiveRunRow.run_id), 1, len(run_id)) == run_id
    near = session.exec(select(LiveRunRow).where(begins).limit(2)).all()
    return _run(near[0]) if len(near) == 1 else None


def find_turn(session: Session, pool: str, dag_id: str, turn: datetime) -> DagRun | None:
    """The run of a scheduled turn, if it was made."""
    same = select(LiveRunRow).where(
        col(LiveRunRow.pool) == pool, col(LiveRunRow.dag_id) == dag_id, col(LiveRunRow.scheduled_for) == turn
    )
    row = session.exec(same).first()
    return _run(row) if row else None


def list_runs(session: Session, pool: str | None, *, live: bool, limit: int | None) -> tuple[DagRun, ...]:
    """Runs, newest first."""
    wanted = select(LiveRunRow).order_by(col(LiveRunRow.submitted_at).desc(), col(LiveRunRow.id).desc())
    if pool is not None:
        wanted = wanted.where(col(LiveRunRow.pool) == pool)
    if live:
        wanted = wanted.where(col(LiveRunRow.state).not_in(FINAL))
    return tuple(_run(r) for r in session.exec(wanted.limit(limit)))


def list_tasks(session: Session, run_ids: Sequence[str]) -> tuple[TaskRun, ...]:
    """All tasks of these runs, in the order the runs are named, parents before children."""
    by_run: dict[str, list[TaskRun]] = {run_id: [] for run_id in run_ids}
    for some in _portions(list(by_run)):
        wanted = (
            select(LiveTaskRow, LiveRunRow)
            .join(LiveRunRow, col(LiveRunRow.id) == col(LiveTaskRow.run))
            .where(col(LiveRunRow.run_id).in_(some))
            .order_by(col(LiveTaskRow.run), col(LiveTaskRow.position))
        )
        for task, run in session.exec(wanted):
            by_run[run.run_id].append(_task(task, run))
    return tuple(t for tasks in by_run.values() for t in tasks)


def started(session: Session, pool: str, since: datetime, until: datetime) -> tuple[TaskRun, ...]:
    """Tasks that started in [since, until). One that did is of a run that had not ended before."""
    wanted = (
        select(LiveTaskRow, LiveRunRow)
        .join(LiveRunRow, col(LiveRunRow.id) == col(LiveTaskRow.run))
        .where(
            col(LiveRunRow.pool) == pool,
            or_(col(LiveRunRow.ended_at).is_(None), col(LiveRunRow.ended_at) >= since),
            col(LiveTaskRow.started_at) >= since,
            col(LiveTaskRow.started_at) < until,
        )
        .order_by(col(LiveTaskRow.started_at), col(LiveRunRow.run_id), col(LiveTaskRow.task_id))
    )
    return tuple(_task(task, run) for task, run in session.exec(wanted))


def _portions(names: list[str], size: int = 500) -> list[list[str]]:
    """Lists short enough for the parameters of one statement."""
    return [names[i : i + size] for i in range(0, len(names), size)]


def _run(row: LiveRunRow) -> DagRun:
    return DagRun(
        run_id=row.run_id,
        dag_id=row.dag_id,
        pool=row.pool,
        tenant=row.tenant,
        trigger=Trigger(row.trigger),
        submitted_at=row.submitted_at,
        state=State(row.state),
        priority=row.priority,
        scheduled_for=row.scheduled_for,
        due=row.due,
        land_by=row.land_by,
        ended_at=row.ended_at,
        reason=row.reason,
    )


def _task(row: LiveTaskRow, run: LiveRunRow) -> TaskRun:
    return TaskRun(
        run_id=run.run_id,
        task_id=row.task_id,
        pool=run.pool,
        spec=load(TaskSpec, row.spec),
        signature=row.signature,
        state=State(row.state),
        tenant=run.tenant,
        priority=row.priority,
        ready_at=row.ready_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        node_id=row.node_id,
        attempt=row.attempt,
        exit_code=row.exit_code,
        reason=row.reason,
        done=tuple(json.loads(row.done)),
        provision_wait_s=row.provision_wait_s,
        slot_at=row.slot_at,
    )


# --------------------------------------------------------------------------- writing states


def save_tasks(session: Session, tasks: Sequence[TaskRun]) -> None:
    """Write what changes in the life of tasks. A final state is never overwritten.

    Raises:
        StoreError: there is no such task.
    """
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for some in _portions(sorted({t.run_id for t in tasks})):
        wanted = (
            select(LiveRunRow.run_id, LiveTaskRow.task_id, LiveTaskRow.run, LiveTaskRow.position)
            .join(LiveRunRow, col(LiveRunRow.id) == col(LiveTaskRow.run))
            .where(col(LiveRunRow.run_id).in_(some))
        )
        places.update({(run_id, task_id): (run, at) for run_id, task_id, run, at in session.exec(wanted)})
    missing = [t for t in tasks if (t.run_id, t.task_id) not in places]
    if missing:
        raise StoreError(f"no task {missing[0].task_id} in run {missing[0].run_id}", hint="submit the run first")
    changes = [_changes(t, places[t.run_id, t.task_id]) for t in sorted(tasks, key=lambda t: (t.run_id, t.task_id))]
    table = LiveTaskRow.__table__  # type: ignore[attr-defined]
    statement = update(table).where(
        table.c.run == bindparam("at_run"),
        table.c.position == bindparam("at_position"),
        *(table.c.state != final for final in FINAL),  # NOT IN cannot be sent with many rows at once
    )
    if changes:
        session.connection().execute(
            statement.values({name: bindparam(name) for name in changes[0] if not name.startswith("at_")}), changes
        )


def _changes(task: TaskRun, place: tuple[int, int]) -> dict[str, Any]:
    return {
        "at_run": place[0],
        "at_position": place[1],
        "state": str(task.state),
        "priority": task.priority,
        "ready_at": task.ready_at,
        "started_at": task.started_at,
        "ended_at": task.ended_at,
        "node_id": task.node_id,
        "attempt": task.attempt,
        "exit_code": task.exit_code,
        "reason": task.reason,
        "done": json.dumps(task.done),
        "provision_wait_s": task.provision_wait_s,
        "slot_at": task.slot_at,
    }


def save_run(session: Session, run_id: str, state: State, ended_at: datetime | None, reason: str) -> None:
    """Write the state of a run. A final state is never overwritten.

    Raises:
        StoreError: there is no such run.
    """
    table = LiveRunRow.__table__  # type: ignore[attr-defined]
    changed = session.connection().execute(
        update(table)
        .where(table.c.run_id == run_id, table.c.state.not_in(FINAL))
        .values(state=str(state), ended_at=ended_at, reason=reason)
    )
    if not changed.rowcount and find_run(session, run_id) is None:
        raise StoreError(f"no run {run_id}", hint="preprov run list")
