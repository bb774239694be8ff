"""What is known of ready tasks when they are put in order: paths that are left, ranks, data that is warm."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from preprov.control.ahead import remembered_order
from preprov.control.context import Context
from preprov.control.demanding import known_runtimes
from preprov.control.lifecycle import Live
from preprov.control.observing import of_tasks
from preprov.model.pools import Pool
from preprov.model.work import TaskRun, TaskSpec, run_of
from preprov.planning.deadlines import landing
from preprov.planning.order import ReadyTask


def wanted_keys(spec: TaskSpec) -> frozenset[str]:
    """Digests of images and keys of datasets that the task reads."""
    return frozenset({*(i.digest for i in spec.images if i.digest), *(d.key for d in spec.datasets)})


def ready_tasks(
    ctx: Context, pool: Pool, live: Live, wanting: Mapping[str, tuple[TaskRun, int]], on_disks: Collection[str]
) -> list[ReadyTask]:
    """The instances that want a node, with all that decides who goes first.

    Args:
        wanting: claimant -> task and instance. on_disks: what lies on nodes that have room.
    """
    if not wanting:
        return []
    ranks = remembered_order(ctx, pool)
    runs = {t.run_id for t, _ in wanting.values()}
    tasks = [t for t in live.tasks.values() if t.run_id in runs]
    remaining = _remaining(tasks, expected_runtimes(ctx, pool, tasks))
    out = []
    for claimant, (task, _) in wanting.items():
        run = live.runs[task.run_id]
        land_by, _ = landing(pool, run.dag_id, run.tenant, run.due or run.submitted_at, run.land_by)
        keys = wanted_keys(task.spec)
        warm = len(keys.intersection(on_disks)) / len(keys) if keys else 0.0
        left = remaining.get((task.run_id, task.task_id), 0.0)
        out.append(
            ReadyTask(
                claimant,
                task.priority,
                land_by,
                left,
                task.ready_at,
                ranks.get(task.run_id),
                warm,
                task.tenant,
                task.spec.request,
            )
        )
    return out


def expected_runtimes(ctx: Context, pool: Pool, tasks: Sequence[TaskRun]) -> Mapping[tuple[str, str], float]:
    """(run, task) -> seconds it usually takes: as learnt, else as hinted, else 0."""
    model = known_runtimes(ctx, pool)
    hints = np.array([t.spec.runtime_hint_s or np.nan for t in tasks], dtype=np.float64)
    if model is None or not model.n_tasks or not tasks:
        expected = np.nan_to_num(hints)
    else:
        expected = model.tables([t.signature for t in tasks], hints).quantile(0.5)
    return {(t.run_id, t.task_id): float(s) for t, s in zip(tasks, expected, strict=True)}


def _remaining(tasks: Sequence[TaskRun], runtimes: Mapping[tuple[str, str], float]) -> Mapping[tuple[str, str], float]:
    """(run, task) -> seconds of the longest path from its start to the end of its run."""
    out: dict[tuple[str, str], float] = {}
    # tasks of a run come parents first, so that going backwards every child is known before its parents
    for task in reversed(tasks):
        key = (task.run_id, task.task_id)
        own = out[key] = runtimes.get(key, 0.0) + out.get(key, 0.0)
        for parent in task.spec.parents:
            above = (task.run_id, parent)
            out[above] = max(out.get(above, 0.0), own)
    return out


def busy_until(ctx: Context, pool: Pool, now: datetime) -> Mapping[str, datetime]:
    """Node -> when the last of the tasks on it should end; only nodes of all of whose claims that can be told.

    A task that has run longer than it usually does is given another quarter of what it has run.
    """
    reservations = ctx.ports.ledger.reservations(pool.name)
    claims = [r for r in of_tasks(reservations) if r.node_id]
    if not claims:
        return {}
    running = [t for t in ctx.ports.work.task_runs(sorted({run_of(r.claimant) for r in claims})) if t.started_at]
    expected = expected_runtimes(ctx, pool, running)
    ends: dict[str, datetime] = {}
    for t in running:
        usual, so_far = expected[(t.run_id, t.task_id)], (now - (t.started_at or now)).total_seconds()
        if usual > 0:
            left = max(usual - so_far, so_far / 4)
            ends.update({t.claimant(i): now + timedelta(seconds=left) for i in range(t.spec.instances)})
    out: dict[str, datetime] = {}
    told = {r.reservation_id for r in claims if r.claimant in ends}
    silent = {r.node_id for r in reservations if r.reservation_id not in told}
    for r in claims:
        if r.node_id and r.node_id not in silent:
            out[r.node_id] = max(ends[r.claimant], out.get(r.node_id, now))
    return out
