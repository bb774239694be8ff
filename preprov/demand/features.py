"""Features of each live DAG run: how long, how wide, how deep it still is, and what it still holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from preprov.demand.live import live_units
from preprov.demand.realise import Realiser
from preprov.demand.runtime_tables import Floats, Ints, RuntimeTables
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.units import Units
from preprov.model.resources import KINDS
from preprov.model.time import epoch, from_epoch
from preprov.model.worktable import RUNNING, WorkTable, edge_levels

_SAMPLES: Final = 64
_ROWS: Final = 16_384
_LEVELS: Final = (0.5, 0.95)


@dataclass(frozen=True)
class RunFeatures:
    """One live run.

    Attributes:
        state: "running" if one of its tasks runs or has ended, else "queued". tasks, instances: still to end.
        width: most instances that its DAG lets run at once, level by level. depth: tasks on its longest chain.
        critical_path_s: seconds from now to its end if nothing waits, median and 95th percentile.
        expected_end: now and that median. work_h: core-hours, GiB-hours … still to do, on average.
        request: most of each resource that one level wants at once.
    """

    run_id: str
    dag_id: str
    tenant: str
    state: str
    priority: int
    submitted: datetime
    due: datetime | None
    land_by: datetime | None
    tasks: int
    instances: int
    width: int
    depth: int
    critical_path_s: Mapping[str, float]
    expected_end: datetime
    work_h: Mapping[str, float]
    request: Mapping[str, float]

    @property
    def core_hours_left(self) -> float:
        """Core-hours still to do, on average."""
        return self.work_h["cpu"]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "run_id": self.run_id,
            "dag_id": self.dag_id,
            "tenant": self.tenant,
            "state": self.state,
            "priority": self.priority,
            "submitted": self.submitted.isoformat(),
            "due": None if self.due is None else self.due.isoformat(),
            "land_by": None if self.land_by is None else self.land_by.isoformat(),
            "tasks": self.tasks,
            "instances": self.instances,
            "width": self.width,
            "depth": self.depth,
            "critical_path_s": {k: round(v, 1) for k, v in self.critical_path_s.items()},
            "expected_end": self.expected_end.isoformat(),
            "core_hours_left": round(self.core_hours_left, 4),
            "work_h": {k: round(v, 4) for k, v in self.work_h.items()},
            "request": {k: round(v, 4) for k, v in self.request.items()},
        }


def run_features(seen: WorkTable, at: datetime, runtimes: RuntimeModel, seed: int) -> tuple[RunFeatures, ...]:
    """Features of every live run of work seen `as_of(at)`, in the order of the table."""
    living = live_units(seen, at, runtimes, seed)
    work = living.work
    if not len(work.runs):
        return ()
    units = living.units
    left, to_do = _simulated(units, living.names.tables(runtimes))
    shape = _shape(units, work.tasks["instances"].to_numpy()[living.tasks])
    begun = np.zeros(len(work.runs), dtype=bool)
    begun[work.tasks["run"].to_numpy()[work.states(at) >= RUNNING]] = True
    rows = work.runs.assign(begun=begun).to_dict("records")
    return tuple(_one(row, i, left[i], to_do[i], shape, epoch(at)) for i, row in enumerate(rows))


def _one(row: Mapping[Any, Any], i: int, left: Floats, work: Floats, shape: "_Shape", now: float) -> RunFeatures:
    return RunFeatures(
        run_id=str(row["run_id"]),
        dag_id=str(row["dag_id"]),
        tenant=str(row["tenant"]),
        state="running" if row["begun"] else "queued",
        priority=int(row["priority"]),
        submitted=from_epoch(float(row["submit"])),
        due=_instant(row["due"]),
        land_by=_instant(row["land_by"]),
        tasks=int(shape.tasks[i]),
        instances=int(shape.instances[i]),
        width=int(shape.width[i]),
        depth=int(shape.depth[i]),
        critical_path_s={"p50": float(left[0]), "p95": float(left[1])},
        expected_end=from_epoch(now + float(left[0])),
        work_h=dict(zip(KINDS, (work / 3600.0).tolist(), strict=True)),
        request=dict(zip(KINDS, shape.request[i].tolist(), strict=True)),
    )


def _instant(seconds: float) -> datetime | None:
    return from_epoch(seconds) if np.isfinite(seconds) else None


def _simulated(units: Units, tables: RuntimeTables) -> tuple[Floats, Floats]:
    """(R, 2) seconds to the end of each run, median and 95th percentile; (R, 5) mean resource-seconds still to come."""
    left, work = [], []
    for window in units.windows(_ROWS):
        drawn = Realiser(window, tables, 0.0, _SAMPLES).realise(slice(0, _SAMPLES))
        first = np.searchsorted(window.run, np.arange(window.runs))
        ends = np.maximum.reduceat(np.maximum(drawn.end, 0.0), first, axis=0)
        left.append(np.quantile(ends, _LEVELS, axis=1).T)
        held = np.maximum(drawn.end - np.maximum(drawn.start, 0.0), 0.0).mean(axis=1)
        work.append(np.add.reduceat(held[:, None] * window.amount, first, axis=0))
    return np.concatenate(left), np.concatenate(work)


def widths(units: Units, amount: Floats) -> Floats:
    """(R,) most of `amount` (T,) that one level of each run wants at once."""
    if not len(units):
        return np.zeros(units.runs)
    _, first, cell, total = _cells(units)
    out: Floats = np.maximum.reduceat(np.bincount(cell, weights=amount, minlength=total), first)
    return out


@dataclass(frozen=True)
class _Shape:
    """Per run: tasks, instances, width, depth (R,), request (R, 5)."""

    tasks: Ints
    instances: Ints
    width: Ints
    depth: Ints
    request: Floats


def _shape(units: Units, instances: Ints) -> _Shape:
    """Level by level."""
    depth, first, cell, total = _cells(units)
    at_level = np.bincount(cell, weights=instances, minlength=total)
    wanted = np.stack([np.bincount(cell, weights=a, minlength=total) for a in units.amount.T], axis=1)
    return _Shape(
        tasks=np.bincount(units.run, minlength=units.runs),
        instances=np.bincount(units.run, weights=instances, minlength=units.runs).astype(np.int64),
        width=np.maximum.reduceat(at_level, first).astype(np.int64),
        depth=depth,
        request=np.maximum.reduceat(wanted, first, axis=0),
    )


def _cells(units: Units) -> tuple[Ints, Ints, Ints, int]:
    """(R,) tasks on each run's longest chain, (R,) where its levels begin, (T,) each task's level among all; how many.

    A task is one level below the lowest of its parents.
    """
    level = np.zeros(len(units), dtype=np.int64)
    for edges in edge_levels(len(units), units.parents, units.children):
        np.maximum.at(level, units.children[edges], level[units.parents[edges]] + 1)
    depth = np.zeros(units.runs, dtype=np.int64)
    np.maximum.at(depth, units.run, level + 1)
    first = np.cumsum(depth) - depth
    return depth, first, first[units.run] + level, int(depth.sum())
