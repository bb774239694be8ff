"""Places that run work on the nodes of a pool by their own means: their limits follow what is warm."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from preprov.model.nodes import Node
from preprov.model.resources import Resources
from preprov.model.waits import Cause
from preprov.model.work import TaskRun


@dataclass(frozen=True, slots=True)
class Service:
    """What preprov was told to do for a place, and nothing beside it.

    Attributes:
        name: of its section. pool: whose ready nodes it follows.
        run: what one run takes of a node.
        shares: setting that is a limit -> the share of all slots it gets. least, most: bounds of the whole limit.
        fills: setting that is no limit -> its value.
        limits: (cause, name) of its limits, as whoever reads the place tells of them: to wait for one is to wait for a
            node.
        workers: whether a worker is to run on each warm node.
        every_s: seconds between looks where nothing changes.
    """

    name: str
    pool: str
    run: Resources
    shares: Mapping[str, float]
    least: int = 0
    most: int = 100_000
    fills: Mapping[str, object] = field(default_factory=dict)
    limits: frozenset[tuple[Cause, str]] = frozenset()
    workers: bool = False
    every_s: float = 10.0


@dataclass(frozen=True, slots=True)
class PlaceSeen:
    """A place as it is now.

    Attributes:
        settings: setting -> value, of those that the service names; None = not set, a limit then has no bound.
        held: setting that is a limit -> runs that count against it now.
        runs: name of a worker -> ids of the runs it has in hand. began: id of such a run -> when it began, where that
            is told.
    """

    settings: Mapping[str, object]
    held: Mapping[str, int]
    runs: Mapping[str, tuple[str, ...]]
    began: Mapping[str, datetime] = field(default_factory=dict)


class Serves(Protocol):
    """A place where runs are taken by workers within limits. Nothing is remembered: it is asked.

    All methods but `worker` and `farewell` raise PoolError; a retryable one may do the next time.
    """

    service: Service

    def look(self) -> PlaceSeen:
        """What is set now and what runs; reads only."""
        ...

    def write(self, changes: Mapping[str, object]) -> None:
        """Set these; None takes a setting away. Idempotent."""
        ...

    def worker_name(self, node_id: str, serial: str) -> str:
        """What the place calls the worker of a node."""
        ...

    def worker(self, node: Node, serial: str, slots: int) -> TaskRun:
        """What has to run on the node; `serial` tells one waking, and one try, from the other."""
        ...

    def farewell(self, node: Node, serial: str) -> TaskRun:
        """What has to run on the node so that its worker takes nothing more, finishes what it has, and ends."""
        ...


@runtime_checkable
class PutsBack(Protocol):
    """A place that itself puts limits back when nothing is heard of preprov for a while."""

    def hold_lease(self, found: Mapping[str, object]) -> None:
        """Have these settings put back when the lease runs out, and let it begin anew. Placed before the first change.

        Idempotent. Settings that the place cannot put back by itself are left out of it. Raises PoolError: then nothing
        is to be raised.
        """
        ...

    def end_lease(self) -> None:
        """Nothing is put back any more. Absent = success."""
        ...
