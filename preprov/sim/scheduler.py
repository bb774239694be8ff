"""Tasks on the in-memory cloud: they run for as long as they were said to, on the virtual clock."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import ClassVar

from preprov.contracts import Clock, TaskReport
from preprov.model.errors import NotFoundError
from preprov.model.nodes import Node, Phase
from preprov.model.work import TaskRun
from preprov.sim.cloud import SimCloud

_DEFAULT_S = 60.0
_KILLED = -9


@dataclass
class _Run:
    node_id: str
    started_at: datetime
    ends_at: datetime
    exit_code: int
    short: bool = False
    ended: bool = False


@dataclass
class SimScheduler:
    """A Scheduler in memory.

    Attributes:
        clock: says what time it is.
        cloud: told what runs where, so that nobody can end a busy machine.
        seconds: how long an instance runs; default its runtime hint. exit_code: how it ends; default 0.
        out_of_memory: whether it is killed at its end for want of memory; default never.
        starts: claimants in the order in which they really began (a repeated call adds none).
    """

    clock: Clock
    cloud: SimCloud
    name: str = "sim"
    runs: ClassVar[str] = "process"
    seconds: Callable[[TaskRun], float] = lambda t: t.spec.runtime_hint_s or _DEFAULT_S
    exit_code: Callable[[TaskRun], int] = lambda _: 0
    out_of_memory: Callable[[TaskRun], bool] = lambda _: False
    starts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._of: dict[str, dict[str, _Run]] = {}
        self._ends: list[tuple[datetime, str]] = []
        self._busy: dict[str, list[str]] = {}
        self.cloud.running = self._busy

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        """Run the instance on the node; a claimant that has begun already is left alone.

        Raises:
            NotFoundError: the node cannot take work.
        """
        claimant = task.claimant(instance)
        if claimant in self._runs:
            return
        if not self._serves(node.node_id):
            raise NotFoundError(f"node {node.node_id} cannot take work", where=node.pool)
        now = self.clock.now()
        short = self.out_of_memory(task)
        exit_code = _KILLED if short else self.exit_code(task)
        run = _Run(node.node_id, now, now + timedelta(seconds=self.seconds(task)), exit_code, short)
        self._runs[claimant] = self._of.setdefault(node.node_id, {})[claimant] = run
        self._busy.setdefault(node.node_id, []).append(claimant)
        heappush(self._ends, (run.ends_at, claimant))
        self.starts.append(claimant)

    def poll(self, nodes: Sequence[Node]) -> tuple[TaskReport, ...]:
        """Everything these nodes run or ran."""
        self.settle()
        wanted = {n.node_id: None for n in nodes}
        return tuple(
            TaskReport(
                claimant=claimant,
                node_id=r.node_id,
                started_at=r.started_at,
                ended_at=r.ends_at if r.ended else None,
                exit_code=r.exit_code if r.ended else None,
                out_of_memory=r.ended and r.short,
            )
            for node_id in wanted
            for claimant, r in self._of.get(node_id, {}).items()
        )

    def cancel(self, claimant: str, node: Node) -> None:
        """End one instance; absent is fine."""
        r = self._runs.get(claimant)
        if r is not None and not r.ended:
            self._end(claimant, self.clock.now(), -15)
            self.settle()

    def _end(self, claimant: str, at: datetime, exit_code: int) -> None:
        """Have it end otherwise than it would by itself."""
        r = self._runs[claimant]
        r.ends_at, r.exit_code, r.short = at, exit_code, False
        heappush(self._ends, (at, claimant))

    def logs(self, claimant: str) -> Iterator[str]:
        """Nothing: these tasks print nothing."""
        return iter(())

    def _serves(self, node_id: str) -> bool:
        try:
            machine = self.cloud.machine(node_id)
        except KeyError:
            return False
        return machine.exists and machine.phase is Phase.READY

    def settle(self) -> None:
        """End what is over by now."""
        now = self.clock.now()
        while self._ends and self._ends[0][0] <= now:
            try:
                _, claimant = heappop(self._ends)
            except IndexError:  # the pass of another pool was faster
                return
            r = self._runs[claimant]
            if r.ended:
                continue
            if r.ends_at > now:  # it ends later by now, or it came in place of the one looked at
                heappush(self._ends, (r.ends_at, claimant))
                continue
            r.ended = True
            self._busy[r.node_id].remove(claimant)
