"""What tasks of a pool used, served here or read elsewhere, put together from their runs and samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.control.context import Context
from preprov.control.instances import AT_ONCE, Instance, instances
from preprov.control.machines import as_on, kinds_of_nodes, largest
from preprov.model.agent import Usage
from preprov.model.executions import EXECUTION_COLUMNS, Executions
from preprov.model.pools import Pool
from preprov.model.signature import is_under, levels, names_of
from preprov.model.time import epoch
from preprov.model.usage import UsageRun, UsageSummary
from preprov.model.work import TaskRun
from preprov.profiles.oddities import sort_out
from preprov.profiles.requests import FEWEST

MOST_CURVES: Final = 64
"""Runs of one task whose use over time is looked at, the newest."""
MOST_WATCHED: Final = 2_000
"""Runs of all tasks whose use over time is looked at together, the newest."""
_BACK: Final = timedelta(days=400)
_FURTHER: Final = tuple(f.name for f in fields(Usage) if f.name not in ("at", "cpu", "memory"))
"""Whatever else samples tell."""


def executions(ctx: Context, pool: Pool, *, since: datetime, until: datetime, dag: str | None = None) -> Executions:
    """Tasks of the pool that were submitted in [since, until) and ended well by then, in the order of submission.

    Those that ran elsewhere, in a place that is read, are among them: whatever samples are kept of them count.
    """
    rows = []
    machines = kinds_of_nodes(ctx)
    for part in instances(ctx, pool, since, until, dag, None):
        told = ctx.ports.samples.summaries([name for i in part for name in i.names])
        rows += [_row(i, _most_told(i, told), machines.get(i.node, "")) for i in part]
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
    every = (i for part in instances(ctx, pool, since, until, dag, task, elsewhere) for i in part)
    found = [i for i in every if is_under(i.signature, under)]
    found = sorted(found, key=lambda i: i.ended_at)[-MOST_CURVES:]
    series, kinds = _series(ctx, found), kinds_of_nodes(ctx)
    runs = ((i, usage_run(i, series[i.claimant], kinds.get(i.node, ""))) for i in found)
    return [(i, run) for i, run in runs if run is not None]


def usual_runs(
    ctx: Context, pool: Pool, dag: str, task: TaskRun, where: Callable[[UsageRun], bool] = lambda _: True
) -> list[tuple[Instance, UsageRun]]:
    """Runs served here of this very code and command for which `where` holds, odd ones apart; the oldest first.

    They are as they would have gone on the pool's largest kind of machine. Where they are too few, all of the same task
    whatever its code, none apart: among kin nothing is odd, and what is foretold is never narrower than they came. No
    further: what other tasks used is no ground to act on this one.
    """
    now = ctx.clock.now()
    every = usage_runs(ctx, pool, dag=dag, task=task.task_id, since=now - _BACK, until=now, elsewhere=False)
    watched = _as_on(ctx, pool, [(i, u) for i, u in every if where(u)])
    same = [(i, u) for i, u in watched if i.signature == task.signature]
    if len(same) < FEWEST:
        kin = [(i, u) for i, u in watched if is_under(i.signature, levels(task.signature)[1])]
        if len(kin) >= FEWEST and levels(task.signature)[1]:
            return kin
    return [same[k] for k in sort_out([u for _, u in same]).kept]


def _as_on(ctx: Context, pool: Pool, runs: Sequence[tuple[Instance, UsageRun]]) -> list[tuple[Instance, UsageRun]]:
    """As they would have gone on the kind of machine that tasks are foretold for."""
    there = as_on(ctx, pool, [u for _, u in runs], largest(pool).instance_type)
    return [(i, u) for (i, _), u in zip(runs, there, strict=True)]


def watched_runs(ctx: Context, pool: Pool, *, until: datetime) -> dict[str, list[tuple[Instance, UsageRun]]]:
    """Use over time of the last `MOST_WATCHED` runs of all tasks that ended well by then: by code and command.

    They are as they would have gone on the pool's largest kind of machine.
    """
    newest: list[Instance] = []
    for part in instances(ctx, pool, until - _BACK, until, None, None):
        newest = sorted([*newest, *part], key=lambda i: i.ended_at)[-MOST_WATCHED:]
    out: dict[str, list[tuple[Instance, UsageRun]]] = {}
    for first in range(0, len(newest), AT_ONCE):
        part = newest[first : first + AT_ONCE]
        series, kinds = _series(ctx, part), kinds_of_nodes(ctx)
        runs = ((i, usage_run(i, series[i.claimant], kinds.get(i.node, ""))) for i in part)
        for instance, run in _as_on(ctx, pool, [(i, u) for i, u in runs if u is not None]):
            key = f"{instance.dag_id}/{instance.task_id}/{instance.signature}"
            out.setdefault(key, []).append((instance, run))
    return out


def _series(ctx: Context, found: Sequence[Instance]) -> dict[str, Sequence[Usage]]:
    """Claimant -> its samples, under whichever of its names there are most."""
    told = ctx.ports.samples.series([name for i in found for name in i.names])
    return {i.claimant: max((told.get(name, ()) for name in i.names), key=len) for i in found}


def _most_told(of: Instance, told: Mapping[str, UsageSummary]) -> UsageSummary:
    """What is told of it, under whichever of its names that is most."""
    return max((told.get(name, UsageSummary(0)) for name in of.names), key=lambda s: s.samples)


def usage_run(of: Instance, usage: Sequence[Any], machine: str = "") -> UsageRun | None:
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
        machine=machine,
        more={r: values for r in _FURTHER if np.isfinite(values := _known([getattr(u, r) for u in inside])).any()},
        request_gib=of.request.memory,
        input_bytes=of.input_bytes,
    )


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


def _known(values: Sequence[float | None]) -> Any:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
