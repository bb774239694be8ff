"""Expected runs as units to expand: copies of the last seen runs of their DAG, with chance, lateness and queueing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from preprov.demand.arrivals import LEVELS, PredictedRun
from preprov.demand.draws import key_of, mix
from preprov.demand.live import Names, amounts, within_run
from preprov.demand.runtime_tables import Ints
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
    """Units of expected runs, the names of the tasks they are copied from, and what could not be copied."""

    units: Units
    names: Names
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Shape:
    """A seen run to copy: its tasks among all shapes' tasks, and its edges counted from its first task."""

    first: int
    tasks: int
    parents: Ints
    children: Ints


def predicted_units(
    seen: WorkTable, expected: Sequence[PredictedRun], at: datetime, runtimes: RuntimeModel, seed: int, first_task: int
) -> Coming:
    """Units of the expected runs.

    A DAG whose last few runs all looked alike is copied from the last one. If they differed (mapped widths, skipped
    branches), the last runs are alternatives, each in its share of the samples.

    Args:
        seen: work as known at `at`. first_task: position of these tasks in the runtime tables.
    """
    wanted = sorted({p.dag_id for p in expected})
    chosen = _last_runs(seen, wanted)
    shapes, positions = _shapes(seen, sorted({r for runs in chosen.values() for r in runs}))
    tasks = seen.tasks.iloc[positions]
    names, amount = Names.of(tasks, tasks["run"].to_numpy()), amounts(tasks)
    notes = tuple(f"no run of {d} was ever seen: its turns are not expanded" for d in wanted if not chosen.get(d))
    copies = [
        (p, shapes[r], len(chosen[p.dag_id]), i) for p in expected for i, r in enumerate(chosen.get(p.dag_id, ()))
    ]
    lengths = np.array([s.tasks for _, s, _, _ in copies], dtype=np.int64)
    first = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    run = np.repeat(np.arange(len(copies)), lengths)
    begin = np.array([s.first for _, s, _, _ in copies], dtype=np.int64)
    task = np.repeat(begin - first, lengths) + np.arange(total)
    turn_key = key_of([f"{p.dag_id}@{p.turn:.0f}" for p, _, _, _ in copies], seed)
    copy = np.array([i for _, _, _, i in copies], dtype=np.int64)
    part = np.array([PARTS.index(p.part) for p, _, _, _ in copies], dtype=np.int8)
    units = Units(
        run=run,
        parents=_joined([s.parents + o for (_, s, _, _), o in zip(copies, first, strict=True)]),
        children=_joined([s.children + o for (_, s, _, _), o in zip(copies, first, strict=True)]),
        task=task + first_task,
        key=mix(mix(turn_key, copy.astype(np.uint64))[run], within_run(run).astype(np.uint64)),
        amount=amount[task],
        part=part[run],
        started=np.full(total, np.nan),
        run_key=turn_key,
        ready=np.array([p.turn for p, _, _, _ in copies]) - epoch(at),
        share=runtimes.shares([p.dag_id for p, _, _, _ in copies]),
        size=np.zeros(len(copies)),
        size_spread=np.ones(len(copies)),
        probability=np.array([p.probability for p, _, _, _ in copies], dtype=np.float64),
        late=np.arange(len(copies)),
        copies=np.array([k for _, _, k, _ in copies], dtype=np.int64),
        copy=copy,
        delays=np.array([p.delays for p, _, _, _ in copies]).reshape(-1, LEVELS),
    )
    return Coming(units, names, notes)


def _last_runs(seen: WorkTable, dags: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
    """DAG -> positions of the runs to copy: one if the last ones were alike, else a power of two of them."""
    runs = seen.runs
    wanted = np.flatnonzero(runs["dag_id"].isin(dags).to_numpy())
    if not len(wanted):
        return {}
    # Turns are shaped like turns; a manual run may be anything.
    manual = (runs["trigger"].to_numpy(dtype=object)[wanted] == Trigger.MANUAL.value).astype(np.int64)
    order = wanted[np.lexsort((-runs["submit"].to_numpy(np.float64)[wanted], manual))]
    count = np.bincount(seen.tasks["run"].to_numpy(), minlength=len(runs))
    out: dict[str, list[int]] = {}
    for run, dag in zip(order.tolist(), runs["dag_id"].to_numpy(dtype=object)[order], strict=True):
        held = out.setdefault(dag, [])
        if len(held) < _MOST_SHAPES and count[run]:
            held.append(run)
    return {dag: _alternatives(held, count) for dag, held in out.items()}


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
