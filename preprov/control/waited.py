"""The work that waits are looked for in: of the period in question, and what of the past before still has a say."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from preprov.contracts import UNROUTED
from preprov.control.context import Context
from preprov.model.time import epoch
from preprov.model.worktable import Array, WorkTable

LONG_AGO: Final = timedelta(days=35)
"""How far back a DAG's last run is looked for, and what has been open since."""
_SLICE: Final = timedelta(days=7)


@dataclass(frozen=True)
class Waited:
    """Work of all pools, each task once, as known now.

    Attributes:
        pool_of: (T,) the pool each task belongs to, "" = none that we know.
        first: when each pool's record begins, as far back as was looked; epoch seconds.
    """

    work: WorkTable
    pool_of: Array
    first: dict[str, float]

    def since(self, pools: set[str], now: datetime) -> float:
        """When the record of these pools begins; now if there is none."""
        return min((at for pool, at in self.first.items() if pool in pools), default=epoch(now))


def gathered(ctx: Context, asked: set[str], since: datetime, now: datetime) -> Waited:
    """All runs submitted since then; of those before, what was still open then, and the last run of each other DAG.

    Args:
        asked: pools, besides those that are known.
    """
    parts: list[WorkTable] = []
    owners: list[Array] = []
    first: dict[str, float] = {}
    pools = sorted(ctx.ports.work.pools().keys() | asked)
    for pool in (*pools, UNROUTED):
        for work, keep in _of_pool(ctx, pool, since, now):
            run = work.tasks["run"].to_numpy()
            asks = (work.tasks["cpu"].to_numpy() > 0) | (work.tasks["memory"].to_numpy() > 0)
            own = (work.tasks["attempt"].to_numpy() > 0) | asks
            parts.append(work.select_runs(keep))
            owners.append(np.where(own, pool, "")[keep[run]])
            if own.any():
                begun = float(work.runs["submit"].to_numpy()[run[own]].min())
                first[pool] = min(first.get(pool, begun), begun)
    if not parts:
        return Waited(WorkTable.empty().with_waits(), np.empty(0, dtype=object), first)
    work, pool_of = _each_once(WorkTable.concat(parts).with_waits(), np.concatenate(owners).astype(object))
    return Waited(work, pool_of, first)


def _of_pool(ctx: Context, pool: str, since: datetime, now: datetime) -> Iterator[tuple[WorkTable, Array]]:
    """The runs since then; then earlier ones a week at a time, the newest first, and (R,) which of them count."""
    recent = _read(ctx, pool, since, now, now)
    yield recent, np.ones(len(recent.runs), dtype=bool)
    known = set(recent.runs["dag_id"][over(recent)])
    until = since
    while until > now - LONG_AGO:
        begin = max(until - _SLICE, now - LONG_AGO)
        work = _read(ctx, pool, begin, until - timedelta(microseconds=1), now)
        keep = _held_until(work) >= epoch(since)
        ended = over(work)
        for run in np.argsort(-work.runs["due"].to_numpy(), kind="stable").tolist():
            dag_id = work.runs["dag_id"].iat[run]
            if ended[run] and dag_id not in known:
                known.add(dag_id)
                keep[run] = True
        yield work, keep
        until = begin


def _read(ctx: Context, pool: str, since: datetime, until: datetime, now: datetime) -> WorkTable:
    work = ctx.ports.work.work(pool, since=since, until=until).as_of(now).with_waits()
    if pool == UNROUTED and len(work):  # it belongs to nobody here, and has slots that others wait for
        return replace(work, tasks=work.tasks.assign(attempt=0, cpu=0.0, memory=0.0))
    return work


def _held_until(work: WorkTable) -> Array:
    """(R,) the last end of each run's tasks, inf while any of them is open."""
    out = np.full(len(work.runs), -np.inf)
    ended = work.tasks["ended_at"].to_numpy()
    np.maximum.at(out, work.tasks["run"].to_numpy(), np.where(np.isnan(ended), np.inf, ended))
    return out


def over(work: WorkTable) -> Array:
    """(R,) bool, runs that have tasks, all of them ended."""
    return np.isfinite(_held_until(work))


def _each_once(work: WorkTable, pool_of: Array) -> tuple[WorkTable, Array]:
    """A run that goes to several pools stands in each of them whole: its tasks are put together into the first."""
    same = ["run_id", "dag_id", "submit"]  # run ids are unique within their source only
    doubled = work.runs.duplicated(same, keep="first").to_numpy()
    if not doubled.any():
        return work, pool_of
    run = work.tasks["run"].to_numpy()
    group = work.runs.groupby(same, sort=False).ngroup().to_numpy()
    names = list(zip(group[run].tolist(), work.tasks["task_id"].tolist(), strict=True))
    attempts = work.tasks["attempt"].tolist()
    owner = {n: (p, max(a, 1)) for n, p, a in zip(names, pool_of.tolist(), attempts, strict=True) if p}
    kept = [owner.get(n, ("", 0)) for n, double in zip(names, doubled[run].tolist(), strict=True) if not double]
    one = work.select_runs(~doubled)
    tasks = one.tasks.assign(attempt=np.array([a for _, a in kept], dtype=np.int64))
    return replace(one, tasks=tasks), np.array([p for p, _ in kept], dtype=object)
