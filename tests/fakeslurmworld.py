"""The fake Slurm with a vendor in memory, for the suites that run in moments."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from preprov.clocks import WallClock
from preprov.contracts import Capabilities, LaunchRequest
from preprov.launch.slurm import SlurmScheduler
from preprov.model.errors import InsufficientCapacityError, NodeBusyError, NotFoundError, ThrottledError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.notes import SLURM_NODE
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.pools import Group, Mode, Pool
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.pools.slurm.boots import Boots
from preprov.pools.slurm.options import slurm_groups
from preprov.pools.slurm.power import PowerPrograms
from preprov.pools.slurm.provider import SlurmProvider
from preprov.slurm.commands import SlurmCommands
from preprov.testing.fake_slurm import FakeSlurm
from preprov.testing.waiting import wait_until

KEEPS = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})


@dataclass
class InstantVendor:
    """Machines in memory that are ready at once; fits `PoolProvider`.

    `joins` is called with the node of Slurm whose machine has come up, for its image starts slurmd; None = it does not.
    """

    name: str = "sim"
    clock: WallClock = field(default_factory=WallClock)
    machines: dict[str, Node] = field(default_factory=dict)
    tokens: dict[str, list[str]] = field(default_factory=dict)
    refuses: bool = False
    spoils: bool = False
    joins: Callable[[str], object] | None = None
    can: dict[str, bool] = field(default_factory=dict)
    """Capabilities that are not as usual."""
    silent: int = 0
    """So many looks get no answer."""
    late: list[Node] = field(default_factory=list)
    """Shown, one a look, in the place of what they have become."""

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        return Capabilities(standby_states=pool.group(group).standby_states, **self.can)

    def observe(self, pool: Pool) -> PoolObservation:
        if self.silent:
            self.silent -= 1
            raise ThrottledError("rate exceeded", hint="later")
        shown = self.machines | ({self.late[0].node_id: self.late.pop(0)} if self.late else {})
        mine = tuple(m for m in shown.values() if m.pool == pool.name)
        return PoolObservation(pool.name, self.clock.now(), mine)

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        if self.refuses:
            raise InsufficientCapacityError("there are no more machines", hint="wait")
        if request.token not in self.tokens:
            now, ids = self.clock.now(), [f"m-{request.token[:8]}-{i}" for i in range(request.count)]
            self.tokens[request.token] = ids
            for i in ids:
                self.machines[i] = Node(
                    node_id=i,
                    pool=request.pool.name,
                    group=request.group,
                    offering=request.offering,
                    phase=Phase.FAILED if self.spoils else Phase.READY,
                    created_at=now,
                    since=now,
                    ready_at=None if self.spoils else now,
                    token=request.token,
                    reason="its image is not what it should be" if self.spoils else "",
                    tags=dict(request.tags),
                    stages={"boot": 0.1},
                )
                self._join(i)
        return tuple(i for i in self.tokens[request.token] if i in self.machines)

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        now = self.clock.now()
        for i in node_ids:
            m = self.machines[i]
            if m.phase in (Phase.STOPPED, Phase.HIBERNATED):
                came = Standby(m.phase.value)
                self.machines[i] = replace(m, phase=Phase.READY, since=now, ready_at=now, came_from=came)
                self._join(i)

    def _join(self, node_id: str) -> None:
        m = self.machines[node_id]
        if self.joins is not None and m.phase is Phase.READY:
            self.joins(m.tags.get(SLURM_NODE, ""))

    def _put(self, node_ids: Sequence[str], phase: Phase) -> None:
        if missing := [i for i in node_ids if i not in self.machines]:
            raise NotFoundError(f"no such node: {missing}")
        if busy := [i for i in node_ids if self.machines[i].running]:
            raise NodeBusyError(f"{busy} run something")
        for i in node_ids:
            self.machines[i] = replace(self.machines[i], phase=phase, since=self.clock.now())

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        self._put(node_ids, Phase.HIBERNATED)

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        self._put(node_ids, Phase.STOPPED)

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        self._put(node_ids, Phase.DRAINING)

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        there = [i for i in node_ids if i in self.machines]
        self._put(there, Phase.DRAINING)
        for i in there:
            del self.machines[i]


class FakeSlurmWorld:
    """Fits the suites of pools and of schedulers."""

    writes_logs = True
    observes = True

    def __init__(self, home: Path, *, newer: bool = False, nodes: int = 4, **options: object) -> None:
        self.home, self.newer = home, newer
        self.slurm = FakeSlurm([f"cn{i}" for i in range(1, nodes + 1)], home, newer=newer)
        offering = Offering("m", Resources(cpu=2, memory=4), usd_per_hour=0.1)
        told = {"vendor": "sim", "nodes": f"cn[1-{nodes}]", "partition": "batch", **options}
        group = Group("g", "slurm", (offering,), standby_states=KEEPS, max_nodes=nodes, options=told)
        self.pool = Pool("batch", (group,), mode=Mode.FULL)
        self.vendor = InstantVendor()
        self.preload = Preload()
        self.provider = self.another_provider()
        self.scheduler = self.another_scheduler()
        self.programs = PowerPrograms(
            [self.pool], self._vendors, lambda _: None, Boots(home / "boots"), connect=self.connect
        )
        self.slurm.resume, self.slurm.suspend = self.programs.resume, self.programs.suspend
        self.vendor.joins = self.slurm.register
        self._tasks = 0

    def _vendors(self, name: str) -> InstantVendor:
        return {"sim": self.vendor}[name]

    def connect(self, conf: Path | None = None) -> SlurmCommands:
        return SlurmCommands(self.slurm.run)

    # ---- for the suites

    def again(self) -> SlurmProvider:
        return self.another_provider()

    def another_provider(self) -> SlurmProvider:
        return SlurmProvider(WallClock(), self._vendors, connect=self.connect)

    def another_scheduler(self) -> SlurmScheduler:
        return SlurmScheduler({self.pool.name: self.pool}, WallClock(), self.home / "logs", connect=self.connect)

    def until(self, look: Callable[[], bool], what: str) -> None:
        wait_until(look, what=what)

    def occupy(self, node: Node) -> str:
        self._tasks += 1
        spec = TaskSpec("t", command=("sleep", "600"))
        task = TaskRun(f"run-{self._tasks}", "t", self.pool.name, spec, "sig", State.READY)
        self.scheduler.start(task, 0, node)
        claimant = task.claimant(0)
        self.until(lambda: claimant in (self.look_at(node.node_id).running or ()), f"{claimant} to run")
        return claimant

    def free(self, node: Node) -> None:
        for claimant in self.look_at(node.node_id).running or ():
            self.scheduler.cancel(claimant, node)

    def spoiled(self) -> Preload | None:
        return None

    def exhausted(self) -> Pool | None:
        return None

    def tiers(self) -> Pool | None:
        return None

    def look_at(self, name: str) -> Node:
        return self.nodes()[name]

    def nodes(self) -> Mapping[str, Node]:
        return {n.node_id: n for n in self.provider.observe(self.pool).nodes}

    def ready(self, n: int = 1, token: str = "token") -> list[Node]:
        group = self.pool.groups[0]
        ids = self.provider.launch(LaunchRequest(self.pool, group.name, group.offerings[0], n, token, Preload()))
        self.until(lambda: all(self.look_at(i).phase is Phase.READY for i in ids), "them to be ready")
        return [self.look_at(i) for i in ids]

    @property
    def group(self) -> object:
        (group,) = slurm_groups(self.pool)
        return group


@contextmanager
def fake_slurm_world(home: Path, **options: object) -> Iterator[FakeSlurmWorld]:
    """A world, of which nothing runs on afterwards."""
    world = FakeSlurmWorld(home, **options)  # type: ignore[arg-type]
    try:
        yield world
    finally:
        world.slurm.stop()
