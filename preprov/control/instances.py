"""Instances of a pool's tasks that ended well, served here or seen elsewhere by a source."""

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.control.context import Context
from preprov.model.pools import Pool
from preprov.model.resources import KINDS, Resources
from preprov.model.time import from_epoch
from preprov.model.work import DagRun, State, TaskRun
from preprov.model.worktable import WorkTable

MOST_RUNS: Final = 5_000
"""Runs served here that are looked at, the newest."""
MOST_READ: Final = 20_000
"""Tasks that ran elsewhere that are looked at, the newest."""
AT_ONCE: Final = 500
_MAPPED: Final = r"\[\d+\]$"
"""Index of one of many like it: it is the same task again."""
_TRY: Final = r"@(\d+)$"
"""Number of a try before the last, where it is the attempt that the times are of."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a task that ended well here, or that a source saw end.

    Attributes:
        request: of it alone. input_bytes: see `input_bytes`. node: that served it, "" = nobody says.
        known_as: names besides its claimant that samples of its use may bear.
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
    known_as: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All that samples of its use may be named by."""
        return self.claimant, *self.known_as

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.ended_at - self.started_at).total_seconds()


def instances(
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
    for first in range(0, len(ids), AT_ONCE):
        tasks = ctx.ports.work.task_runs(ids[first : first + AT_ONCE])
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
    for first in range(0, len(read), AT_ONCE):
        yield read[first : first + AT_ONCE]


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
    tries = _tries(read)
    seen &= ~(tries & np.isnan(tasks["runtime_s"].to_numpy()))  # those that failed did not end well
    named = tasks["task_id"].mask(tries, tasks["task_id"].str.replace(_TRY, "", regex=True))
    if task is not None:
        seen &= ((named == task) | (named.str.replace(_MAPPED, "", regex=True) == task)).to_numpy()
    rows = tasks[seen].iloc[-MOST_READ:]
    of_run = runs.iloc[rows["run"].to_numpy()]
    out = []
    for t, name, r in zip(
        rows.to_dict("records"), named[seen].iloc[-MOST_READ:], of_run.to_dict("records"), strict=True
    ):
        one = Instance(
            r["run_id"],
            r["dag_id"],
            re.sub(_MAPPED, "", name),
            r["tenant"],
            t["signature"],
            f"{r['run_id']}/{t['task_id']}",
            from_epoch(r["submit"]),
            from_epoch(t["started_at"]),
            from_epoch(t["ended_at"]),
            Resources.of([t[k] for k in KINDS]),
            node=t.get("node", ""),
            known_as=tuple(t.get("known_as", "").split()) if t["instances"] == 1 else (),
        )
        out += [replace(one, claimant=f"{one.claimant}#{i}") for i in range(t["instances"])]
    return out


def _tries(read: WorkTable) -> NDArray[np.bool_]:
    """(T,) tasks that are tries before the last one of theirs."""
    if not read.tells_waits:
        return np.zeros(len(read), dtype=bool)
    number = read.tasks["task_id"].str.extract(_TRY, expand=False)
    out: NDArray[np.bool_] = (number == read.tasks["attempt"].astype(str)).to_numpy(dtype=bool)
    return out


def input_bytes(task: TaskRun) -> float:
    """Of the datasets that a task names; NaN if it names none, or the size of one is not known."""
    sizes = [d.size_gib for d in task.spec.datasets]
    known = [s for s in sizes if s is not None]
    return sum(known) * 2.0**30 if known and len(known) == len(sizes) else float("nan")
