"""What tasks that were served here used, put together from the runs and from the samples of their agents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.control.context import Context
from preprov.model.executions import EXECUTION_COLUMNS, Executions
from preprov.model.pools import Pool
from preprov.model.signature import names_of
from preprov.model.time import epoch
from preprov.model.usage import UsageRun, UsageSummary
from preprov.model.work import DagRun, State, TaskRun

MOST_RUNS: Final = 5_000
"""Runs that are looked at, the newest."""
MOST_CURVES: Final = 64
"""Runs of one task whose use over time is looked at, the newest."""
_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Instance:
    """One instance of a task that ended well."""

    run: DagRun
    task: TaskRun
    claimant: str
    started_at: datetime
    ended_at: datetime

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.ended_at - self.started_at).total_seconds()


def executions(ctx: Context, pool: Pool, *, since: datetime, until: datetime, dag: str | None = None) -> Executions:
    """Tasks of the pool that were submitted in [since, until) and ended well by then, in the order of submission."""
    rows = []
    for part in _instances(ctx, pool, since, until, dag, None):
        told = ctx.ports.samples.summaries([i.claimant for i in part])
        rows += [_row(i, told.get(i.claimant, UsageSummary(0))) for i in part]
    rows.sort(key=lambda r: r["submitted"])
    return Executions(pd.DataFrame(rows, columns=list(EXECUTION_COLUMNS)).astype(EXECUTION_COLUMNS))


def usage_runs(
    ctx: Context, pool: Pool, *, dag: str, task: str, since: datetime, until: datetime
) -> list[tuple[Instance, UsageRun]]:
    """Use over time of the last runs of one task that ended well by `until`, the oldest first."""
    found = [i for part in _instances(ctx, pool, since, until, dag, task) for i in part]
    found = sorted(found, key=lambda i: i.ended_at)[-MOST_CURVES:]
    series = ctx.ports.samples.series([i.claimant for i in found])
    runs = ((i, usage_run(i, series.get(i.claimant, ()))) for i in found)
    return [(i, run) for i, run in runs if run is not None]


def usage_run(of: Instance, usage: Sequence[Any]) -> UsageRun | None:
    """Samples of one instance as a run; None if it has none within its time."""
    start, seconds = epoch(of.started_at), max(of.seconds, 1e-3)
    inside = [u for u in usage if -1.0 <= u.at - start <= seconds + 1.0]
    if not inside:
        return None
    at = np.clip(np.array([u.at - start for u in inside]), 0.0, seconds)
    request = of.task.spec.request
    return UsageRun(
        workflow=of.run.dag_id,
        process=of.task.task_id,
        submitted=epoch(of.run.submitted_at),
        duration_s=seconds,
        at=at,
        memory=_known([u.memory for u in inside]),
        cpu=_known([u.cpu for u in inside]),
        request_gib=request.memory,
        input_bytes=input_bytes(of.task),
    )


def _instances(
    ctx: Context, pool: Pool, since: datetime, until: datetime, dag: str | None, task: str | None
) -> Iterator[list[Instance]]:
    """Those that ended well, some hundreds of runs at a time."""
    runs = ctx.ports.work.runs(pool.name, limit=MOST_RUNS)
    wanted = {r.run_id: r for r in runs if since <= r.submitted_at < until and dag in (None, r.dag_id)}
    ids = list(wanted)
    for first in range(0, len(ids), _AT_ONCE):
        tasks = ctx.ports.work.task_runs(ids[first : first + _AT_ONCE])
        yield [
            Instance(wanted[t.run_id], t, t.claimant(i), t.started_at, t.ended_at)
            for t in tasks
            if t.state is State.SUCCEEDED
            and task in (None, t.task_id)
            and t.started_at is not None
            and t.ended_at is not None
            and t.ended_at <= until
            for i in range(t.spec.instances)
        ]


def _row(of: Instance, told: UsageSummary) -> dict[str, Any]:
    spec = of.task.spec
    names = names_of(of.task.signature)
    return {
        "tenant": of.task.tenant,
        "workflow": of.run.dag_id,
        "process": of.task.task_id,
        "tag": "",
        "code": names[-1] if names else "",
        "machine": "",
        "submitted": epoch(of.run.submitted_at),
        "started": epoch(of.started_at),
        "ended": epoch(of.ended_at),
        "runtime_s": of.seconds,
        "cpus": spec.request.cpu,
        "memory": spec.request.memory,
        "input_bytes": input_bytes(of.task),
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
