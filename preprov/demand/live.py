"""Live runs as units to expand: tasks that run, with what they have run already, and those that will."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.arrivals import LEVELS
from preprov.demand.draws import key_of, mix
from preprov.demand.runtime_tables import Floats, Ints
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.seen import live
from preprov.demand.units import Units
from preprov.model.demand import PARTS
from preprov.model.resources import KINDS
from preprov.model.time import epoch
from preprov.model.worktable import DONE, RUNNING, WorkTable

_IN_FLIGHT, _QUEUED = PARTS.index("in_flight"), PARTS.index("queued")
_MOST_SCORE: Final = 2.5


@dataclass(frozen=True)
class Names:
    """What the runtime of each of T tasks is looked up by."""

    signature: NDArray[np.object_]
    hint: Floats


@dataclass(frozen=True)
class Live:
    """Units of live runs, the names of their tasks, and where both stand in the table of work."""

    units: Units
    names: Names
    tasks: Ints
    runs: Ints


def live_units(seen: WorkTable, at: datetime, runtimes: RuntimeModel, seed: int) -> Live:
    """Units of all tasks that run or will run, of work seen `as_of(at)`.

    A task that could run but does not is wanted from now on; roots of a run with a due time to come wait for it.
    """
    now = epoch(at)
    states = seen.states(at)
    alive = live(seen, states)
    task = np.flatnonzero(alive)
    run_of = seen.tasks["run"].to_numpy()
    runs, run = np.unique(run_of[task], return_inverse=True)
    start, _ = seen.spans()
    place = np.cumsum(alive) - 1
    edge = alive[seen.parents] & alive[seen.children]
    parents, children = place[seen.parents[edge]], place[seen.children[edge]]
    order = np.argsort(children, kind="stable")
    running = states[task] == RUNNING
    tasks = seen.tasks
    names = Names(tasks["signature"].to_numpy(dtype=object)[task], tasks["hint_s"].to_numpy(np.float64)[task])
    frame = seen.runs
    due = np.fmax(frame["due"].to_numpy(np.float64)[runs] - now, 0.0)
    key = key_of(frame["run_id"].to_numpy(dtype=object)[runs], seed)
    share = runtimes.shares(frame["dag_id"].to_numpy(dtype=object)[runs])
    size, spread = _sizes(seen, runs, share, states, runtimes)
    units = Units(
        run=run,
        parents=parents[order],
        children=children[order],
        task=np.arange(len(task)),
        key=mix(key[run], within_run(run_of)[task].astype(np.uint64)),
        amount=amounts(tasks)[task],
        part=np.where(running, _IN_FLIGHT, _QUEUED).astype(np.int8),
        started=np.where(running, start[task] - now, np.nan),
        run_key=key,
        ready=np.nan_to_num(due),
        share=share,
        size=size,
        size_spread=spread,
        probability=np.ones(len(runs)),
        late=np.full(len(runs), -1),
        copies=np.ones(len(runs), np.int64),
        copy=np.zeros(len(runs), np.int64),
        delays=np.empty((0, LEVELS)),
    )
    return Live(units, names, task, runs)


def amounts(tasks: pd.DataFrame) -> Floats:
    """(T, 5) resources of all instances of each task together."""
    one = tasks[list(KINDS)].to_numpy(np.float64)
    out: Floats = np.nan_to_num(one) * tasks["instances"].to_numpy(np.float64)[:, None]
    return out


def within_run(run: Ints) -> Ints:
    """(T,) number of each task within its run; runs stand together."""
    return np.arange(len(run)) - np.searchsorted(run, run)


def _sizes(
    seen: WorkTable, runs: Ints, share: Floats, states: NDArray[Any], runtimes: RuntimeModel
) -> tuple[Floats, Floats]:
    """Normal score of each live run's common factor, and how sure: what the tasks that ended say (conjugate normal)."""
    size, spread = np.zeros(len(runs)), np.ones(len(runs))
    run_of = seen.tasks["run"].to_numpy()
    position = np.full(len(seen.runs), -1)
    position[runs] = np.arange(len(runs))
    runtime = seen.tasks["runtime_s"].to_numpy(np.float64)
    ended = np.flatnonzero((states == DONE) & (position[run_of] >= 0) & (runtime > 0))
    if not len(ended) or not share.any():
        return size, spread
    tasks = seen.tasks.iloc[ended]
    tables = runtimes.tables(tasks["signature"].to_numpy(dtype=object), tasks["hint_s"].to_numpy(np.float64))
    told = tables.origin == 0  # only a task with a history of its own says how large this run is
    score = np.clip(tables.score(np.arange(len(ended)), runtime[ended]), -_MOST_SCORE, _MOST_SCORE)[told]
    run = position[run_of[ended[told]]]
    count = np.bincount(run, minlength=len(runs))
    total = np.bincount(run, weights=score, minlength=len(runs))
    precision = 1.0 + count * share / (1.0 - share)
    return np.sqrt(share) / (1.0 - share) * total / precision, 1.0 / np.sqrt(precision)
