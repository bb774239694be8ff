"""How much one task instance that waits can hold up: itself, and all that comes after it in its run."""

import numpy as np

from preprov.model.worktable import Array, edge_levels


def reach_of(worth: Array, count: Array, run: Array, parents: Array, children: Array, free: Array) -> Array:
    """What a second of waiting holds up at most, counted for each of those that are held up.

    For each task: the most that one instance of it, or of a task on a way to it, is worth together with all that
    descends from that. An instance is held up for no longer than the waits on one way to it, so that what is held up,
    each task's part of it over its reach, adds up to no more than the seconds waited.

    Args:
        worth: (T,) of one instance that is held up for a second. count: (T,) instances. run: (T,) of each task.
        parents, children: (E,) edges as positions.
        free: (T,) bool: its waiting is not counted, so that what comes after it is held up for nothing.

    Returns:
        (T,), infinite after what is free. What descends on several ways may count several times, but never more than
        the whole run.
    """
    own = worth * count
    most = np.bincount(run, own, minlength=int(run.max(initial=-1)) + 1)[run] - own
    below = np.zeros(len(worth))
    for edges in edge_levels(len(worth), children, parents):
        p, c = parents[edges], children[edges]
        np.add.at(below, p, below[c] + own[c])
        below[p] = np.minimum(below[p], most[p])
    out: Array = np.where(free, np.inf, worth + below)
    for edges in edge_levels(len(worth), parents, children):
        np.maximum.at(out, children[edges], out[parents[edges]])
    return out
