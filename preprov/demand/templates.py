"""Expected runs as units to expand: copies of the last seen runs of their DAG, with chance, lateness and queueing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd

from preprov.demand.arrivals import LEVELS, PredictedRun
from preprov.demand.draws import key_of, mix
from preprov.demand.live import Names, amounts, within_run
from preprov.demand.runtime_tables import Floats, Ints
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.units import Units
from preprov.model.demand import PARTS
from preprov.model.time import epoch
from preprov.model.work import Trigger
from preprov.model.worktable import WorkTable

_MOST_SHAPES: Final = 32
_SETTLED: Final = 5


@dataclass(frozen=True)
class Coming:
    """Units of expected runs, the DAG of each; names of the tasks they are copied from; what could not be copied."""

    units: Units
    dags: tuple[str, ...]
    names: Names
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Shape:
    """A seen run to copy: its tasks among all shapes' tasks, and its edges counted from its first task."""

    first: int
    tasks: int
    parents: Ints
    children: Ints


@dataclass(frozen=True)
class _Copy:
    """An expected run in the shape of a seen one: the alternative `number` of `of`."""

    run: PredictedRun
    shape: _Shape
    number: int
    of: int


def predicted_units(
    seen: WorkTable,
    expected: Sequence[PredictedRun],
    at: datetime,
    runtimes: RuntimeModel,
    seed: int,
    *,
    first_task: int,
    single: Collection[str] = (),
) -> Coming:
    """Units of the expected runs.

    A DAG whose last few runs all looked alike is copied from the last one. If they differed (mapped widths, skipped
    branches), the last runs are alternatives, each in its share of the samples.

    Args:
        seen: work as known at `at`. first_task: position of these tasks in the runtime tables.
        single: DAGs that are copied from their last run in any case.
    """
    wanted = sorted({p.dag_id for p in expected})
    chosen = {d: runs[:1] if d in single else runs for d, runs in _last_runs(seen, wanted).items()}
    shapes, positions = _shapes(seen, sorted({r for runs in chosen.values() for r in runs}))
    tasks = seen.tasks.iloc[positions]
    copies = [
        _Copy(p, shapes[r], i, len(chosen[p.dag_id])) for p in expected for i, r in enumerate(chosen.get(p.dag_id, ()))
    ]
    return Coming(
        _units(copies, amounts(tasks), epoch(at), runtimes, seed, first_task),
        tuple(c.run.dag_id for c in copies),
        Names.of(tasks, tasks["run"].to_numpy()),
        tuple(f"no run of {d} was ever seen: its turns are not expanded" for d in wanted if not chosen.get(d)),
    )


def _units(
    copies: Sequence[_Copy], amount: Floats, now: float, runtimes: RuntimeModel, seed: int, first_task: int
) -> Units:
    lengths = np.array([c.shape.tasks for c in copies], dtype=np.int64)
    first = np.cumsum(lengths) - lengths
    run = np.repeat(np.arange(len(copies)), lengths)
    begin = np.array([c.shape.first for c in copies], dtype=np.int64)
    task = np.repeat(begin - first, lengths) + np.arange(len(run))
    run_key = key_of([f"{c.run.dag_id}@{c.run.turn:.0f}" for c in copies], seed)
    number = np.array([c.number for c in copies], dtype=np.int64)
    part = np.array([PARTS.index(c.run.part) for c in copies], dtype=np.int8)
    return Units(
        run=run,
        parents=_joined([c.shape.parents + o for c, o in zip(copies, first, strict=True)]),
        children=_joined([c.shape.children + o for c, o in zip(copies, first, strict=True)]),
        task=task + first_task,
        key=mix(mix(run_key, number.astype(np.uint64))[run], within_run(run).astype(np.uint64)),
        amount=amount[task],
        part=part[run],
        started=np.full(len(run), np.nan),
        run_key=run_key,
        ready=np.array([c.run.turn for c in copies], dtype=np.float64) - now,
        share=runtimes.shares([c.run.dag_id for c in copies]),
        size=np.zeros(len(copies)),
        size_spread=np.ones(len(copies)),
        probability=np.array([c.run.probability for c in copies], dtype=np.float64),
        late=np.arange(len(copies)),
        copies=np.array([c.of for c in copies], dtype=np.int64),
        copy=number,
        delays=np.array([c.run.delays for c in copies], dtype=np.float64).reshape(-1, LEVELS),
    )


def _last_runs(seen: WorkTable, dags: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
    """DAG -> positions of the runs to copy: one if the last ones were alike, else a power of two of them."""
    runs = seen.runs
    wanted = np.flatnonzero(runs["dag_id"].isin(dags).to_numpy())
    if not len(wanted):
        return {}
    # Turns are shaped like turns; a manual run may be anything.
    count = np.bincount(seen.tasks["run"].to_numpy(), minlength=len(runs))
    dag, names = pd.factorize(runs["dag_id"].to_numpy(dtype=object)[wanted])
    manual = runs["trigger"].to_numpy(dtype=object)[wanted] == Trigger.MANUAL.value
    order = np.lexsort((-runs["submit"].to_numpy(np.float64)[wanted], manual, dag))
    order = order[count[wanted[order]] > 0]
    bounds = np.searchsorted(dag[order], np.arange(len(names) + 1)).tolist()
    return {
        str(name): _alternatives(wanted[order[a : min(b, a + _MOST_SHAPES)]].tolist(), count)
        for name, a, b in zip(names, bounds, bounds[1:], strict=False)
    }


def _alternatives(runs: list[int], tasks: Ints) -> tuple[int, ...]:
    if len({int(tasks[r]) for r in runs[:_SETTLED]}) <= 1:
        return tuple(runs[:1])
    return tuple(runs[: 1 << (len(runs).bit_length() - 1)])


def _shapes(seen: WorkTable, runs: Sequence[int]) -> tuple[dict[int, _Shape], Ints]:
    """Run position -> its shape, and the positions of all shapes' tasks."""
    run_of = seen.tasks["run"].to_numpy()
    ids = np.array(runs, dtype=np.int64)
    first, last = np.searchsorted(run_of, ids), np.searchsorted(run_of, ids, side="right")
    positions = _joined([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    wanted = np.zeros(len(seen.runs), dtype=bool)
    wanted[ids] = True
    edge = np.flatnonzero(wanted[run_of[seen.children]]) if len(seen.children) else np.empty(0, np.int64)
    edge = edge[np.argsort(seen.children[edge], kind="stable")]
    parents, children = seen.parents[edge], seen.children[edge]
    low, high = np.searchsorted(children, first), np.searchsorted(children, last)
    begins = np.cumsum(last - first) - (last - first)
    shapes = {
        int(r): _Shape(int(b), int(z - a), parents[lo:hi] - a, children[lo:hi] - a)
        for r, b, a, z, lo, hi in zip(ids, begins, first, last, low, high, strict=True)
    }
    return shapes, positions


def _joined(arrays: Sequence[Ints]) -> Ints:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int64)
