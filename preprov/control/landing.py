"""When runs are to have ended: as asked, as they say themselves, or as their pool says now."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

import numpy as np

from preprov.control.context import Context
from preprov.model.pools import Pool
from preprov.model.time import epoch, from_epoch
from preprov.model.worktable import WorkTable
from preprov.planning.deadlines import landing

_MARGIN = timedelta(days=1)
_NONE: Mapping[str, timedelta] = MappingProxyType({})


def landing_by(work: WorkTable, pool: Pool, spans: Mapping[str, timedelta] = _NONE) -> WorkTable:
    """Runs with when they are to have ended: so long after they are due, as they say themselves, or as the pool says.

    Args:
        spans: DAG -> time after a run is due; "*" = all others.
    """
    if not spans and not pool.deadlines:
        return work
    runs, out = work.runs, []
    for dag, tenant, due, said in zip(
        runs["dag_id"].astype(str), runs["tenant"].astype(str), runs["due"], runs["land_by"], strict=True
    ):
        span = spans.get(dag, spans.get("*"))
        if span is not None:
            out.append(due + span.total_seconds())
        elif np.isfinite(said) or not np.isfinite(due):
            out.append(said)
        else:
            at, _ = landing(pool, dag, tenant, from_epoch(due), None)
            out.append(np.nan if at is None else epoch(at))
    return WorkTable(runs.assign(land_by=np.array(out, dtype=np.float64)), work.tasks, work.parents, work.children)


def landed_share(ctx: Context, pool: Pool, since: datetime, until: datetime) -> float | None:
    """Share of the runs due in this time, and to have ended within it, that had; None if there are none."""
    work = landing_by(ctx.ports.work.work(pool.name, since=since - _MARGIN, until=until).as_of(until), pool)
    runs = work.runs
    ends = np.full(len(runs), -np.inf)
    np.maximum.at(ends, work.tasks["run"].to_numpy(), work.tasks["ended_at"].fillna(np.inf).to_numpy())
    land_by = runs["land_by"].to_numpy(dtype=np.float64)
    happened = (runs["timing"] == "observed").to_numpy() & (ends > -np.inf)
    counts = happened & (runs["due"].to_numpy(dtype=np.float64) >= epoch(since)) & (land_by < epoch(until))
    return float((ends <= land_by)[counts].mean()) if counts.any() else None
