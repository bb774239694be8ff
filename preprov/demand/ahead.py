"""Runs that are not over, live ones and expected ones, each as samples of what is left of it: path, work, width."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from preprov.demand.features import widths
from preprov.demand.following import expected_runs
from preprov.demand.live import live_units
from preprov.demand.realise import Realiser
from preprov.demand.runtime_tables import Floats, RuntimeTables
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.templates import predicted_units
from preprov.demand.units import Units
from preprov.model.resources import KINDS, Resources
from preprov.model.time import from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable

_ROWS = 16_384
_CPU = KINDS.index("cpu")


@dataclass(frozen=True)
class ComingRun:
    """A run that is not over.

    Attributes:
        run_id: of an expected one `dag_id@turn`. expected: it was not submitted yet. probability: that it comes.
        ready_at: now, or when it is due. path_s: (S,) seconds from then to its end if nothing waits.
        work_s: (S,) core-seconds still to do. width: cores that it can use at once.
    """

    run_id: str
    dag_id: str
    tenant: str
    priority: int
    expected: bool
    probability: float
    ready_at: datetime
    due: datetime | None
    land_by: datetime | None
    path_s: Floats
    work_s: Floats
    width: float


def coming_runs(
    seen: WorkTable,
    schedules: Sequence[Schedule],
    at: datetime,
    until: datetime,
    runtimes: RuntimeModel,
    *,
    node: Resources,
    binding: Sequence[str],
    samples: int,
    seed: int,
    templates: WorkTable | None = None,
) -> tuple[ComingRun, ...]:
    """Live runs, turns of schedules that are due before `until`, and what follows either.

    A task's cores are those of the share of a node that it takes, by the scarcest resource that binds: a task that
    fills a node's memory is as wide as the node. Whatever differs between the last runs of a DAG, an expected one is
    shaped like the last.

    Args:
        seen: work; what it says of later than `at` is not looked at. templates: shapes of DAGs that never ran.
        node: allocatable of a node. samples, seed: of the draws; equal arguments draw the same.
    """
    known = seen.as_of(at)
    living = live_units(known, at, runtimes, seed)
    out = _live(living.work, _drawn(living.units, living.names.tables(runtimes), node, binding, samples), at)
    turns = expected_runs(known, schedules, at, until).runs
    shapes = known if templates is None else WorkTable.concat([known, templates])
    names = {p.dag_id for p in turns}
    coming = predicted_units(shapes, turns, at, runtimes, seed, first_task=0, single=names)
    if not len(coming.units):
        return tuple(out)
    drawn = _drawn(coming.units, coming.names.tables(runtimes), node, binding, samples)
    of = {s.dag_id: s for s in schedules}
    for i, dag in enumerate(coming.dags):
        turn = at + timedelta(seconds=float(coming.units.ready[i]))
        s = of[dag]
        run = replace(
            drawn[i],
            run_id=f"{dag}@{turn:%Y-%m-%dT%H:%MZ}",
            dag_id=dag,
            tenant=s.tenant,
            priority=s.priority,
            expected=True,
            probability=float(coming.units.probability[i]),
            ready_at=max(turn, at),
            due=turn,
            land_by=None if s.land_by_s is None else turn + timedelta(seconds=s.land_by_s),
        )
        out.append(run)
    return tuple(out)


def _live(work: WorkTable, drawn: list[ComingRun], at: datetime) -> list[ComingRun]:
    rows = work.runs.to_dict("records")
    return [
        replace(
            d,
            run_id=str(r["run_id"]),
            dag_id=str(r["dag_id"]),
            tenant=str(r["tenant"]),
            priority=int(r["priority"]),
            ready_at=max(from_epoch(float(r["due"])), at) if np.isfinite(r["due"]) else at,
            due=_instant(r["due"]),
            land_by=_instant(r["land_by"]),
        )
        for d, r in zip(drawn, rows, strict=True)
    ]


def _instant(seconds: float) -> datetime | None:
    return from_epoch(float(seconds)) if np.isfinite(seconds) else None


def _drawn(
    units: Units, tables: RuntimeTables, node: Resources, binding: Sequence[str], samples: int
) -> list[ComingRun]:
    """Path, work and width of each run; the rest is filled in by who knows it."""
    if not units.runs:
        return []
    cores = _cores(units.amount, node, binding)
    wide = widths(units, cores)
    out: list[ComingRun] = []
    done = 0
    for window in units.windows(_ROWS):
        mine = cores[done : done + len(window)]
        done += len(window)
        drawn = Realiser(window, tables, 0.0, samples).realise(slice(0, samples))
        first = np.searchsorted(window.run, np.arange(window.runs))
        end = np.maximum(drawn.end, 0.0)
        ready = np.maximum(window.ready, 0.0)
        path = np.maximum(np.maximum.reduceat(end, first, axis=0) - ready[:, None], 0.0)
        held = np.maximum(end - np.maximum(drawn.start, 0.0), 0.0) * mine[:, None]
        work = np.add.reduceat(held, first, axis=0)
        for i in range(window.runs):
            out.append(_bare(path[i].astype(np.float64), work[i].astype(np.float64), float(wide[len(out)])))
    return out


def _bare(path: Floats, work: Floats, width: float) -> ComingRun:
    now = from_epoch(0.0)
    return ComingRun("", "", "", 0, False, 1.0, now, None, None, path, work, width)


def _cores(amount: Floats, node: Resources, binding: Sequence[str]) -> Floats:
    """(T,) cores of the share of a node that each task's instances take together."""
    have = np.array(node.as_tuple())
    share = np.zeros(len(amount))
    for name in binding:
        k = KINDS.index(name)
        if have[k] > 0:
            np.maximum(share, amount[:, k] / have[k], out=share)
    return share * max(float(have[_CPU]), 1e-9)
