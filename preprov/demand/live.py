"""Live runs as units to expand: tasks that run, with what they have run already, and those that will."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.arrivals import LEVELS
from preprov.demand.draws import Keys, key_of, mix
from preprov.demand.runtime_tables import Floats, Ints, RuntimeTables
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.seen import live
from preprov.demand.shapes import place_keys
from preprov.demand.sizes import size_class
from preprov.demand.units import Units
from preprov.model.demand import PARTS
from preprov.model.resources import KINDS
from preprov.model.time import epoch
from preprov.model.worktable import DONE, RUNNING, WorkTable

_IN_FLIGHT, _QUEUED = PARTS.index("in_flight"), PARTS.index("queued")
_MOST_SCORE: Final = 2.5


@dataclass(frozen=True)
class Names:
    """What runtimes are looked up by, (T,) each: signature, hint in seconds (NaN = none), place in its run, size."""

    signature: NDArray[np.object_]
    hint: Floats
    place: Keys
    size: Ints

    @classmethod
    def of(cls, tasks: pd.DataFrame, run: Ints) -> "Names":
        """Names of the tasks of whole runs; `run`: (T,) their runs, each one's tasks together."""
        signature = tasks["signature"].to_numpy(dtype=object)
        return cls(signature, tasks["hint_s"].to_numpy(np.float64), place_keys(signature, run), size_class(tasks))

    def __getitem__(self, rows: NDArray[Any]) -> "Names":
        return Names(self.signature[rows], self.hint[rows], self.place[rows], self.size[rows])

    def tables(self, runtimes: RuntimeModel, *more: "Names") -> RuntimeTables:
        """Distributions of these tasks and, after them, of more."""
        every = (self, *more)
        return runtimes.tables(
            np.concatenate([n.signature for n in every]),
            np.concatenate([n.hint for n in every]),
            np.concatenate([n.place for n in every]),
            np.concatenate([n.size for n in every]),
        )


@dataclass(frozen=True)
class Live:
    """Live runs.

    Attributes:
        units: their tasks that run or will run. names: of all their tasks. work: whole runs, as seen.
        tasks: (T,) where each unit stands in `work`, whose runs are the units' runs. runs: their positions among all.
    """

    units: Units
    names: Names
    work: WorkTable
    tasks: Ints
    runs: Ints


def live_units(seen: WorkTable, at: datetime, runtimes: RuntimeModel, seed: int) -> Live:
    """Units of all tasks that run or will run, of work seen `as_of(at)`.

    A task that could run but does not is wanted from now on; roots of a run with a due time to come wait for it.
    """
    now = epoch(at)
    whole = seen.states(at)
    living = np.zeros(len(seen.runs), dtype=bool)
    living[seen.tasks["run"].to_numpy()[live(seen, whole)]] = True
    work = seen.select_runs(living)
    states = whole[living[seen.tasks["run"].to_numpy()]]
    alive = live(work, states)
    task, run = np.flatnonzero(alive), work.tasks["run"].to_numpy()
    start, _ = work.spans()
    parents, children = _edges(work, alive)
    running = states[task] == RUNNING
    key = key_of(work.runs["run_id"].to_numpy(dtype=object), seed)
    share = runtimes.shares(work.runs["dag_id"].to_numpy(dtype=object))
    names = Names.of(work.tasks, run)
    size, spread = _sizes(work, names, share, states, runtimes)
    none = np.zeros(len(key), dtype=np.int64)
    units = Units(
        run=run[task],
        parents=parents,
        children=children,
        task=task,
        key=mix(key[run], within_run(run).astype(np.uint64))[task],
        amount=amounts(work.tasks, task),
        part=np.where(running, _IN_FLIGHT, _QUEUED).astype(np.int8),
        started=np.where(running, start[task] - now, np.nan),
        run_key=key,
        ready=np.nan_to_num(np.fmax(work.runs["due"].to_numpy(np.float64) - now, 0.0)),
        share=share,
        size=size,
        size_spread=spread,
        probability=np.ones(len(key)),
        late=none - 1,
        copies=none + 1,
        copy=none,
        delays=np.empty((0, LEVELS)),
    )
    return Live(units, names, work, task, np.flatnonzero(living))


def _edges(work: WorkTable, alive: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Edges among the living tasks, counted among them, by child."""
    place = np.cumsum(alive) - 1
    edge = alive[work.parents] & alive[work.children]
    parents, children = place[work.parents[edge]], place[work.children[edge]]
    order = np.argsort(children, kind="stable")
    return parents[order], children[order]


def amounts(tasks: pd.DataFrame, rows: Ints | slice = slice(None)) -> Floats:
    """(T, 5) resources of all instances of each of the tasks together."""
    instances = tasks["instances"].to_numpy(np.float64)[rows]
    out = np.empty((len(instances), len(KINDS)))
    for i, kind in enumerate(KINDS):
        np.multiply(np.nan_to_num(tasks[kind].to_numpy(np.float64)[rows]), instances, out=out[:, i])
    return out


def within_run(run: Ints) -> Ints:
    """(T,) number of each task within its run; runs stand together."""
    return np.arange(len(run)) - np.searchsorted(run, run)


def _sizes(
    work: WorkTable, names: Names, share: Floats, states: NDArray[Any], runtimes: RuntimeModel
) -> tuple[Floats, Floats]:
    """Normal score of each run's common factor, and how sure: what the tasks that ended say (conjugate normal)."""
    runs = len(work.runs)
    runtime = work.tasks["runtime_s"].to_numpy(np.float64)
    ended = np.flatnonzero((states == DONE) & (runtime > 0))
    if not len(ended) or not share.any():
        return np.zeros(runs), np.ones(runs)
    tables = names[ended].tables(runtimes)
    told = tables.origin == 0  # only a task with a history of its own says how large this run is
    score = np.clip(tables.score(np.arange(len(ended)), runtime[ended]), -_MOST_SCORE, _MOST_SCORE)[told]
    run = work.tasks["run"].to_numpy()[ended[told]]
    count = np.bincount(run, minlength=runs)
    total = np.bincount(run, weights=score, minlength=runs)
    precision = 1.0 + count * share / (1.0 - share)
    return np.sqrt(share) / (1.0 - share) * total / precision, 1.0 / np.sqrt(precision)
