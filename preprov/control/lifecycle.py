"""How runs and tasks move on: due turns become runs, reports end tasks, ended parents free their children."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from preprov.contracts import TaskReport
from preprov.control.context import Context
from preprov.control.learnt import signatures_of
from preprov.control.observing import of_tasks
from preprov.demand.schedules import turns
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose
from preprov.model.work import DagRun, State, TaskRun

_TURNS_BACK = timedelta(hours=1)


@dataclass(frozen=True)
class Live:
    """The live runs of a pool and all their tasks."""

    runs: Mapping[str, DagRun]
    tasks: Mapping[tuple[str, str], TaskRun]

    def of_run(self, run_id: str) -> list[TaskRun]:
        """Tasks of one run."""
        return [t for (r, _), t in self.tasks.items() if r == run_id]

    def by_claimant(self) -> dict[str, TaskRun]:
        """Every instance's claimant -> its task."""
        return {t.claimant(i): t for t in self.tasks.values() for i in range(t.spec.instances)}

    def with_tasks(self, changed: Iterable[TaskRun]) -> "Live":
        """The same, with some tasks replaced."""
        return Live(self.runs, {**self.tasks, **{(t.run_id, t.task_id): t for t in changed}})


def load(ctx: Context, pool: Pool) -> Live:
    """Read the live runs of the pool."""
    runs = {r.run_id: r for r in ctx.ports.work.runs(pool.name, live=True)}
    tasks = {(t.run_id, t.task_id): t for t in ctx.ports.work.task_runs(list(runs))}
    return Live(runs, tasks)


def materialise_due(ctx: Context, pool: Pool, now: datetime) -> list[DagRun]:
    """Create the runs of declared schedules whose turn came since the last look, or in the last hour.

    A short outage loses none; a tick that nothing is due in costs one query.
    """
    key = (pool.name, "turns")
    looked = ctx.memo[key][0] if key in ctx.memo else now - _TURNS_BACK
    back = max(min(looked, now), now - _TURNS_BACK)
    made: list[DagRun] = []
    for schedule in ctx.ports.work.schedules(pool.name):
        due = turns(schedule, max(back, schedule.since or back), now)
        if due and ctx.ports.work.has_template(pool.name, schedule.dag_id):
            made.extend(ctx.ports.work.materialise(schedule, turn, now) for turn in due)
    ctx.memo[key] = (now, None)
    return made


def absorb(ctx: Context, pool: Pool, live: Live, reports: Sequence[TaskReport], now: datetime) -> Live:
    """Take in what the schedulers saw: ends release reservations, samples are kept, failures are retried or final."""
    by_claimant = live.by_claimant()
    held = {r.claimant: r for r in of_tasks(ctx.ports.ledger.reservations(pool.name))}
    changed: dict[tuple[str, str], TaskRun] = {}
    ctx.ports.samples.append(pool.name, [(r.claimant, u) for r in reports for u in r.usage])
    for report in reports:
        if report.ended_at is None:
            continue
        if report.claimant in held:  # whatever has become of its run: room that nobody uses is given back
            ctx.ports.ledger.release(held[report.claimant].reservation_id, f"exit {report.exit_code}")
        task = by_claimant.get(report.claimant)
        if task is None:
            continue
        key = (task.run_id, task.task_id)
        current = changed.get(key, task)
        if current.state.is_final or current.attempt != task.attempt:
            continue
        changed[key] = _ended(current, report, now)
    ctx.ports.work.save_tasks(list(changed.values()))
    for task in changed.values():
        if task.state is State.SUCCEEDED:
            signatures_of(ctx).ended(pool.name, live.runs[task.run_id].dag_id, task.signature)
    return live.with_tasks(changed.values())


def _ended(task: TaskRun, report: TaskReport, now: datetime) -> TaskRun:
    """The task after one of its instances ended."""
    instance = int(report.claimant.rsplit("#", 1)[1].split("@")[0])
    if report.exit_code == 0:
        done = tuple(sorted({*task.done, instance}))
        if len(done) < task.spec.instances:
            return replace(task, done=done)
        return replace(task, done=done, state=State.SUCCEEDED, ended_at=report.ended_at, exit_code=0)
    if task.attempt <= task.spec.retries:
        return replace(
            task,
            state=State.READY,
            attempt=task.attempt + 1,
            started_at=None,
            node_id=None,
            ready_at=now,
            done=(),
            reason=f"attempt {task.attempt} {_how(report)}",
        )
    return replace(
        task,
        state=State.FAILED,
        ended_at=report.ended_at,
        exit_code=report.exit_code,
        reason=_how(report),
    )


def _how(report: TaskReport) -> str:
    return f"ended with exit code {report.exit_code}" + ", out of memory" * report.out_of_memory


def lost_with_nodes(ctx: Context, pool: Pool, live: Live, existing: frozenset[str], now: datetime) -> Live:
    """Tasks whose node is gone for sure run again; their reservations are given back.

    Args:
        ctx: the context.
        pool: the pool.
        live: live work.
        existing: ids of all nodes of a complete observation.
        now: the present instant.
    """
    changed = []
    lost = [r for r in ctx.ports.ledger.reservations(pool.name) if r.node_id and r.node_id not in existing]
    for r in lost:
        if r.purpose is Purpose.TASK:
            ctx.ports.ledger.release(r.reservation_id, f"node {r.node_id} is gone")
        else:  # it was promised, and finds another node
            ctx.ports.ledger.rebook(r.reservation_id, r.end, f"node {r.node_id} is gone")
    gone = {r.claimant for r in of_tasks(lost)}
    for task in live.tasks.values():
        if task.state is State.RUNNING and any(task.claimant(i) in gone for i in range(task.spec.instances)):
            changed.append(
                replace(
                    task,
                    state=State.READY,
                    attempt=task.attempt + 1,
                    started_at=None,
                    node_id=None,
                    ready_at=now,
                    done=(),
                    reason=f"node {task.node_id} is gone",
                )
            )
    ctx.ports.work.save_tasks(changed)
    return live.with_tasks(changed)


def advance(ctx: Context, live: Live, now: datetime) -> Live:
    """Ready what may run, skip what never can, and end runs whose tasks have all ended."""
    changed: dict[tuple[str, str], TaskRun] = {}
    for run in live.runs.values():
        changed.update(_advance_run(run, live.of_run(run.run_id), now))
    ctx.ports.work.save_tasks(list(changed.values()))
    after = live.with_tasks(changed.values())
    for run in live.runs.values():
        tasks = after.of_run(run.run_id)
        if tasks and all(t.state.is_final for t in tasks):
            bad = sorted(t.task_id for t in tasks if t.state in (State.FAILED, State.CANCELLED))
            ended = max((t.ended_at for t in tasks if t.ended_at), default=now)
            state = State.FAILED if bad else State.SUCCEEDED
            ctx.ports.work.save_run(run.run_id, state, ended, f"failed: {', '.join(bad)}" if bad else "")
    return after


def _advance_run(run: DagRun, tasks: list[TaskRun], now: datetime) -> dict[tuple[str, str], TaskRun]:
    """One run's tasks, parents before children, so that a skip travels down in one go."""
    due = max(run.due or run.submitted_at, run.submitted_at)
    current = {t.task_id: t for t in tasks}
    changed: dict[tuple[str, str], TaskRun] = {}
    for task in tasks:
        if task.state is not State.PENDING:
            continue
        parents = [current[p] for p in task.spec.parents]
        new = task
        if any(p.state in (State.FAILED, State.SKIPPED, State.CANCELLED) for p in parents):
            failed = next(p.task_id for p in parents if p.state is not State.SUCCEEDED)
            # a task that never ran has a span of zero length, so that it wants nothing
            new = replace(
                task, state=State.SKIPPED, started_at=now, ended_at=now, reason=f"parent {failed} did not succeed"
            )
        elif now >= due and all(p.state is State.SUCCEEDED for p in parents):
            ready = max([due, *(p.ended_at for p in parents if p.ended_at)])
            new = replace(task, state=State.READY, ready_at=ready)
        if new is not task:
            current[task.task_id] = new
            changed[(task.run_id, task.task_id)] = new
    return changed
