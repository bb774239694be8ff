"""Handing prepared capacity to tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from preprov.model.agent import Bounds, Usage
from preprov.model.nodes import Node
from preprov.model.work import TaskRun


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What a scheduler saw of a task instance.

    Attributes:
        ended_at: None = it runs. exit_code: None if it runs or nobody saw it end; negative = ended by that signal.
        usage: since the last poll. bounds: what it is limited to and how it fares; None = nobody can say.
        out_of_memory: it ended, and had too little memory; False if nobody can say.
    """

    claimant: str
    node_id: str
    started_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    usage: tuple[Usage, ...] = ()
    bounds: Bounds | None = None
    out_of_memory: bool = False


class Scheduler(Protocol):
    """Hands prepared capacity to tasks.

    Attributes:
        runs: what an instance of a task is there: "process", "container" or "job".
    """

    name: str

    @property
    def runs(self) -> str:
        """See above."""
        ...

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        """Run the task on the node. Idempotent by claimant: a second call while it runs, or after, does nothing.

        Raises PoolError (retryable ones leave the task where it was) and NotFoundError if the node is gone.
        """
        ...

    def poll(self, nodes: Sequence[Node]) -> tuple[TaskReport, ...]:
        """Everything these nodes run or ran, with the usage since the last poll. A silent node is left out."""
        ...

    def cancel(self, claimant: str, node: Node) -> None:
        """End this one task because its owner asked for it. Absent = success."""
        ...

    def logs(self, claimant: str) -> Iterator[str]:
        """Lines of its output so far; none if it never ran."""
        ...


@runtime_checkable
class StartsSideBySide(Protocol):
    """A scheduler that may be asked to start tasks on several nodes at once, each from a thread of its own.

    Attributes:
        at_once: on how many nodes at most.
    """

    @property
    def at_once(self) -> int:
        """See above."""
        ...
