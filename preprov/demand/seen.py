"""What is known of tasks at an instant: which ended well, which still live, which can never run.

In a WorkTable a task that ended without a runtime did not succeed: it failed, was cancelled or was skipped.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprov.model.worktable import DONE, WorkTable, edge_levels

Bools = NDArray[np.bool_]


def doomed(seen: WorkTable, states: NDArray[Any]) -> Bools:
    """(T,) True for tasks that wait for one that did not succeed: they will never run.

    Args:
        states: (T,) from `WorkTable.states`.
    """
    out: Bools = (states == DONE) & ~np.isfinite(seen.tasks["runtime_s"].to_numpy(np.float64))
    run = seen.tasks["run"].to_numpy()
    unfinished = np.zeros(len(seen.runs), dtype=bool)
    unfinished[run[states != DONE]] = True
    out &= unfinished[run]  # nothing waits in runs that are over
    if out.any():
        broken = np.zeros(len(seen.runs), dtype=bool)
        broken[run[out]] = True
        inside = broken[run[seen.children]]
        parents, children = seen.parents[inside], seen.children[inside]
        for edges in edge_levels(len(seen.tasks), parents, children):
            out[children[edges][out[parents[edges]]]] = True
    waiting: Bools = out & (states != DONE)
    return waiting


def live(seen: WorkTable, states: NDArray[Any]) -> Bools:
    """(T,) True for tasks that run or will run."""
    alive: Bools = (states != DONE) & ~doomed(seen, states)
    return alive
