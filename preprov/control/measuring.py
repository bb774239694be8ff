"""What tasks of a pool used, served here or read elsewhere, put together from their runs and samples."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.control.context import Context
from preprov.model.agent import Usage
from preprov.model.executions import EXECUTION_COLUMNS, Executions
from preprov.model.pools import Pool
from preprov.model.resources import KINDS, Resources
from preprov.model.signature import is_under, levels, names_of
from preprov.model.time import epoch, from_epoch
from preprov.model.usage import UsageRun, UsageSummary
from preprov.model.work import DagRun, State, TaskRun
from preprov.model.worktable import WorkTable
from preprov.profiles.oddities import sort_out
from preprov.profiles.requests import FEWEST

MOST_RUNS: Final = 5_000
"""Runs served here that are looked at, the newest."""
MOST_READ: Final = 20_000
"""Tasks that ran elsewhere that are looked at, the newest."""
MOST_CURVES: Final = 64
"""Runs of one task whose use over time is looked at, the newest."""
MOST_WATCHED: Final = 2_000
"""Runs of all tasks whose use over time is looked at together, the newest."""
_AT_ONCE: Final = 500
_BACK: Final = timedelta(days=400)
_FURTHER: Final = tuple(f.name for f in fields(Usage) if f.name not in ("at", "cpu", "memory"))
"""Whatever else samples tell."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a task that ended well here, or that a source saw end.

    Attributes:
        request: of it alone. input_bytes: see `input_bytes`. node: that served it, "" = elsewhere.
    """

    run_id: str
    dag_id: str
    task_id: str
    tenant: str
    signature: str
    claimant: str
    submitted_at: datetime
    started_at: datetime
    ended_at: datetime
    request: Resources
    input_bytes: float = math.nan
    node: str = ""

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.ended_at - self.started_at).total_seconds()


def executions(ctx: Context, pool: Pool, *, since: datetime, until: datetime, dag: str | None = None) -> Executions:
    """Tasks of the pool that were submitted in [since, until) and ended well by then, in the order of submission.

    Those that ran elsewhere, in a place that is read, are among them: whatever samples are kept of them count.
    """
    rows = []
    machines = {o.node_id: o.instance_type for o in ctx.ports.leads.observations()}
    for part in _instances(ctx, pool, since, until, dag, None):
        told = ctx.ports.samples.summaries([i.claimant for i in part])
        rows += [_row(i, told.get(i.claimant, UsageSummary(0)), machines.get(i.node, "")) for i in part]
    rows.sort(key=lambda r: r["submitted"])
    return Executions(pd.DataFrame(rows, columns=list(EXECUTION_COLUMNS)).astype(EXECUTION_COLUMNS))


def usage_runs(
    ctx: Context,
    pool: Pool,
    *,
    dag: str | None = None,
    task: str | None = None,
    under: str = "",
    since: datetime,
    until: datetime,
    elsewhere: bool = True,
) -> list[tuple[Instance, UsageRun]]:
    """Use over time of the last runs of one task, or of all, that ended well by `until`, the oldest first.

    Args:
        under: a signature, or a level of the path that it is: only of what is under it.
        elsewhere: those that were read count too; looking for them goes through the pool's whole history.
    """
    every = (i for part in _instances(ctx, pool, since, until, dag, task, elsewhere) for i in part)
    found = [i for i in every if is_under(i.signature, under)]
    found = sorted(found, key=lambda i: i.ended_at)[-MOST_CURVES:]
    series = ctx.ports.samples.series([i.claimant for i in found])
    runs = ((i, usage_run(i, series.get(i.claimant, ()))) for i in found)
    return [(i, run) for i, run in runs if run is not None]


def usual_runs(
    ctx: Context, pool: Pool, dag: str, task: TaskRun, where: Callable[[UsageRun], bool] = lambda _: True
) -> list[tuple[Instance, UsageRun]]:
    """Runs served here of this very code and command for which `where` holds, odd ones apart; the oldest first.

    Where they are too few, all of the same task whatever its code, none apart: among kin nothing is odd, and what is
    foretold is never narrower than they came. No further: what other tasks used is no ground to act on this one.
    """
    now = ctx.clock.now()
    every = usage_runs(ctx, pool, dag=dag, task=task.task_id, since=now - _BACK, until=now, elsewhere=False)
    watched = [(i, u) for i, u in every if where(u)]
    same = [(i, u) for i, u in watched if i.signature == task.signature]
    if len(same) < FEWEST:
        kin = [(i, u) for i, u in watched if is_under(i.signature, levels(task.signature)[1])]
        if len(kin) >= FEWEST and levels(task.signature)[1]:
            return kin
    return [same[k] for k in sort_out([u for _, u in same]).kept]


def watched_runs(ctx: Context, pool: Pool, *, until: datetime) -> dict[str, list[tuple[Instance, UsageRun]]]:
    """Use over time of the last `MOST_WATCHED` runs of all tasks that ended well by then: by code and command."""
    newest: list[Instance] = []
    for part in _instances(ctx, pool, until - _BACK, until, None, None):
        newest = sorted([*newest, *part], key=lambda i: i.ended_at)[-MOST_WATCHED:]
    out: dict[str, list[tuple[Instance, UsageRun]]] = {}
    for first in range(0, len(newest), _AT_ONCE):
        part = newest[first : first + _AT_ONCE]
        series = ctx.ports.samples.series([i.claimant for i in part])
        for instance in part:
            run = usage_run(instance, series.get(instance.claimant, ()))
            if run is not None:
                key = f"{instance.dag_id}/{instance.task_id}/{instance.signature}"
                out.setdefault(key, []).append((instance, run))
    return out


def usage_run(of: Instance, usage: Sequence[Any]) -> UsageRun | None:
    """Samples of one instance as a run; None if it has none within its time."""
    start, seconds = epoch(of.started_at), max(of.seconds, 1e-3)
    inside = [u for u in usage if -1.0 <= u.at - start <= seconds + 1.0]
    if not inside:
        return None
    at = np.clip(np.array([u.at - start for u in inside]), 0.0, seconds)
    return UsageRun(
        workflow=of.dag_id,
        process=of.task_id,
        submitted=epoch(of.submitted_at),
        duration_s=seconds,
        at=at,
        memory=_known([u.memory for u in inside]),
        cpu=_known([u.cpu for u in inside]),
        more={r: values for r in _FURTHER if np.isfinite(values := _known([getattr(u, r) for u in inside])).any()},
        request_gib=of.request.memory,
        input_bytes=of.input_bytes,
    )


def _instances(
    ctx: Context,
    pool: Pool,
    since: datetime,
    until: datetime,
    dag: str | None,
    task: str | None,
    elsewhere: bool = True,
) -> Iterator[list[Instance]]:
    """Some hundreds of runs at a time: those served here, then those that were read."""
    runs = ctx.ports.work.runs(pool.name, limit=MOST_RUNS)
    wanted = {r.run_id: r for r in runs if since <= r.submitted_at < until and dag in (None, r.dag_id)}
    ids = list(wanted)
    for first in range(0, len(ids), _AT_ONCE):
        tasks = ctx.ports.work.task_runs(ids[first : first + _AT_ONCE])
        yield [
            _served(wanted[t.run_id], t, i, t.started_at, t.ended_at)
            for t in tasks
            if t.state is State.SUCCEEDED
            and task in (None, t.task_id)
            and t.started_at is not None
            and t.ended_at is not None
            and t.ended_at <= until
            for i in range(t.spec.instances)
        ]
    if not elsewhere:
        return
    table = ctx.ports.work.work(pool.name, since=since, until=until).as_of(until)
    read = _elsewhere(table, {r.run_id for r in runs}, dag, task)
    for first in range(0, len(read), _AT_ONCE):
        yield read[first : first + _AT_ONCE]


def _served(run: DagRun, task: TaskRun, instance: int, started_at: datetime, ended_at: datetime) -> Instance:
    return Instance(
        run.run_id,
        run.dag_id,
        task.task_id,
        task.tenant,
        task.signature,
        task.claimant(instance),
        run.submitted_at,
        started_at,
        ended_at,
        task.spec.request,
        input_bytes(task),
        task.node_id or "",
    )


def _elsewhere(read: WorkTable, served: Collection[str], dag: str | None, task: str | None) -> list[Instance]:
    """Instances of tasks that were seen to start and end, of runs that were not served here, the newest."""
    runs, tasks = read.runs, read.tasks
    wanted = ~runs["run_id"].isin(served).to_numpy()
    if dag is not None:
        wanted &= (runs["dag_id"] == dag).to_numpy()
    seen = wanted[tasks["run"].to_numpy()] & (tasks["ended_at"] >= tasks["started_at"]).to_numpy()
    if task is not None:
        seen &= (tasks["task_id"] == task).to_numpy()
    rows = tasks[seen].iloc[-MOST_READ:]
    of_run = runs.iloc[rows["run"].to_numpy()]
    out = []
    for t, r in zip(rows.to_dict("records"), of_run.to_dict("records"), strict=True):
        one = Instance(
            r["run_id"],
            r["dag_id"],
            t["task_id"],
            r["tenant"],
            t["signature"],
            "",
            from_epoch(r["submit"]),
            from_epoch(t["started_at"]),
            from_epoch(t["ended_at"]),
            Resources.of([t[k] for k in KINDS]),
        )
        out += [replace(one, claimant=f"{one.run_id}/{one.task_id}#{i}") for i in range(t["instances"])]
    return out


def _row(of: Instance, told: UsageSummary, machine: str) -> dict[str, Any]:
    names = names_of(of.signature)
    return {
        "tenant": of.tenant,
        "workflow": of.dag_id,
        "process": of.task_id,
        "tag": "",
        "code": names[-1] if names else "",
        "machine": machine,
        "submitted": epoch(of.submitted_at),
        "started": epoch(of.started_at),
        "ended": epoch(of.ended_at),
        "runtime_s": of.seconds,
        "cpus": of.request.cpu,
        "memory": of.request.memory,
        "input_bytes": of.input_bytes,
        "cpu": told.cpu_mean,
        "cpu_p95": told.cpu_p95,
        "peak": told.memory_peak,
        "read_bytes": np.nan,
        "written_bytes": np.nan,
    }


def input_bytes(task: TaskRun) -> float:
    """Of the datasets that a task names; NaN if it names none, or the size of one is not known."""
    sizes = [d.size_gib for d in task.spec.datasets]
    known = [s for s in sizes if s is not None]
    return sum(known) * 2.0**30 if known and len(known) == len(sizes) else float("nan")


def _known(values: Sequence[float | None]) -> Any:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
