"""Tasks on the in-memory cloud that use what a script says, and can be given more or less while they run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from preprov.contracts import TaskReport
from preprov.model.adjusting import Adjustable
from preprov.model.agent import Bounds, Usage
from preprov.model.errors import ConflictError, NotFoundError, RefusedError
from preprov.model.nodes import Node
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.work import TaskRun
from preprov.sim.scheduler import SimScheduler

CHECKPOINTED = 75


def _little(_: TaskRun, __: float) -> Resources:
    return Resources(cpu=0.1, memory=0.1)


@dataclass
class AdjustableSim(SimScheduler):
    """A scheduler and adjuster in memory.

    Attributes:
        load: what an instance wants after so many seconds. limits: in force, by claimant. calls: what was asked.
        time_limits: seconds that a task may run, by its id; what runs longer is ended.
        broken: it refuses everything, to be tried again. saves: tasks end when told to keep what they have done.
    """

    load: Callable[[TaskRun, float], Resources] = _little
    limits: dict[str, Resources] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    time_limits: dict[str, float] = field(default_factory=dict)
    broken: bool = False
    saves: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._tasks: dict[str, TaskRun] = {}
        self._throttled: dict[str, tuple[datetime, float]] = {}

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        """As the contract says."""
        super().start(task, instance, node)
        self._tasks.setdefault(task.claimant(instance), task)

    def poll(self, nodes: Sequence[Node]) -> tuple[TaskReport, ...]:
        """As the contract says, with what each uses now."""
        now = self.clock.now()
        for claimant in [c for running in self._busy.values() for c in running]:
            limit_s = self.time_limits.get(self._tasks[claimant].task_id)
            if limit_s is not None and (now - self._runs[claimant].started_at).total_seconds() > limit_s:
                self._end(claimant, now, -9)
        return tuple(r if r.ended_at else self._seen(r) for r in super().poll(nodes))

    def _seen(self, r: TaskReport) -> TaskReport:
        now = self.clock.now()
        want = self.load(self._tasks[r.claimant], (now - r.started_at).total_seconds())
        limit = self.limits.get(r.claimant)
        got = want if limit is None else want.minimum(limit)
        since, throttled = self._throttled.get(r.claimant, (r.started_at, 0.0))
        throttled += (now - since).total_seconds() * (want.cpu > got.cpu)
        self._throttled[r.claimant] = (now, throttled)
        cpu, memory = (None, None) if limit is None else (limit.cpu, limit.memory)
        limit_s = self.time_limits.get(self._tasks[r.claimant].task_id)
        bounds = Bounds(cpu, memory, got.memory, throttled, want.memory > got.memory, ("cpu", "memory"), limit_s)
        return replace(r, usage=(Usage(epoch(now), got.cpu, got.memory),), bounds=bounds)

    # ---- the adjuster

    def adjustable(self, node: Node) -> Adjustable:
        """As the contract says."""
        able = frozenset({"cpu", "memory"})
        return Adjustable(able, time_limit=bool(self.time_limits), checkpoint=True, why_not="it is a simulation")

    def resize(self, claimant: str, node: Node, amount: Resources, lease_s: float) -> Resources:
        """As the contract says; these leases never end."""
        self._asked("resize", claimant)
        self.limits[claimant] = amount
        return amount

    def lift(self, claimant: str, node: Node) -> None:
        """As the contract says."""
        self.calls.append(("lift", claimant))
        self.limits.pop(claimant, None)

    def checkpoint(self, claimant: str, node: Node, signal: str, grace_s: float) -> None:
        """As the contract says: it ends at once, or with the grace."""
        self._asked("checkpoint", claimant)
        if [c for c in self.calls if c == ("checkpoint", claimant)][1:]:
            return
        after = timedelta(0) if self.saves else timedelta(seconds=grace_s)
        self._end(claimant, self.clock.now() + after, CHECKPOINTED if self.saves else -9)

    def extend(self, claimant: str, node: Node, seconds: float) -> None:
        """As the contract says, where there are time limits."""
        if not self.time_limits:
            raise RefusedError("no time limit is kept here", where=node.node_id)
        self._asked("extend", claimant)
        self.time_limits[self._tasks[claimant].task_id] = seconds

    def _asked(self, what: str, claimant: str) -> None:
        self.calls.append((what, claimant))
        if self.broken:
            raise ConflictError("it does not answer", where=claimant, hint="try again")
        run = self._runs.get(claimant)
        if run is None or run.ended:
            raise NotFoundError("it does not run", where=claimant)
