"""In which order ready tasks get the capacity there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.resources import ZERO, Resources
from preprov.model.worktable import edge_levels

Array: TypeAlias = NDArray[Any]

NO_DEADLINE: Final = float("inf")


@dataclass(frozen=True, slots=True)
class ReadyTask:
    """A task that could start now.

    Attributes:
        key: unique; the last tie-break. land_by: when its DAG run must have finished; None = no deadline.
        remaining_s: expected length of the longest path from its start to its run's end, itself included.
        rank: place of its run in an order that was proposed because capacity binds; None = in none.
        warm: share of what it reads that lies on a ready node already.
        tenant: whose it is. amount: what it wants of a node.
    """

    key: str
    priority: int = 0
    land_by: datetime | None = None
    remaining_s: float = 0.0
    ready_at: datetime | None = None
    rank: int | None = None
    warm: float = 0.0
    tenant: str = ""
    amount: Resources = ZERO


_ALIKE_S: Final = 60.0
"""Paths that differ by less are alike: then who finds its data on a node goes first."""
_UNRANKED: Final = 10**9


def launch_order(tasks: Sequence[ReadyTask], now: datetime) -> tuple[ReadyTask, ...]:
    """Who goes first.

    Higher priority; then the proposed rank of its run, if there is one; then least slack to the deadline; then longest
    remaining path, by the minute; then most of its data warm on a node; then longest ready.

    Slack is what is left of the time to `land_by` after the remaining path. A task whose deadline can no longer be met
    goes after those of its priority that still can: saving it is out of reach, saving them is not.
    """

    def rank(t: ReadyTask) -> tuple[int, int, int, float, float, float, float, str]:
        slack = NO_DEADLINE if t.land_by is None else (t.land_by - now).total_seconds() - t.remaining_s
        lost = 1 if slack < 0 else 0
        since = t.ready_at.timestamp() if t.ready_at else now.timestamp()
        place = _UNRANKED if t.rank is None else t.rank
        path = -(t.remaining_s // _ALIKE_S)
        return (-t.priority, place, lost, -slack if lost else slack, path, -t.warm, since, t.key)

    return tuple(sorted(tasks, key=rank))


def critical_path_s(runtime: Array, parents: Array, children: Array) -> Array:
    """Longest path from each task's start to the end of its DAG run, the task itself included.

    Args:
        runtime: (T,) expected seconds. parents, children: (E,) edges as positions.

    Returns:
        (T,) seconds.

    Raises:
        WorkError: the edges contain a cycle.
    """
    tail = np.zeros(len(runtime))
    # Reversed edges: what comes after a task is known before the task itself is looked at.
    for edges in edge_levels(len(runtime), children, parents):
        np.maximum.at(tail, parents[edges], tail[children[edges]] + runtime[children[edges]])
    out: Array = tail + runtime
    return out
