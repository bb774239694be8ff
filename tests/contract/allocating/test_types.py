"""Every resource type against the same suite.

On the simulation, on real local nodes and files, on a Kubernetes and an AWS that behave.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from preprov.clocks import WallClock
from preprov.contracts import Allocatable, Clock, KeepsVolumes, LaunchRequest
from preprov.control.allocating.gpus import Gpus
from preprov.control.allocating.machines import Machines
from preprov.control.allocating.tasks import Tasks
from preprov.control.allocating.volumes import Volumes
from preprov.control.context import Context
from preprov.control.submitting import submit
from preprov.model.nodes import Node
from preprov.model.offerings import Offering, Preload
from preprov.model.pools import Group, Pool
from preprov.model.reservations import Purpose, Reservation
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, TaskSpec
from preprov.planning.prices import TablePriceBook
from preprov.sim.adjustable import AdjustableSim
from preprov.sim.ports import memory_ports
from preprov.testing.allocatable_contract import AllocatableContract
from preprov.testing.local_nodes import cleared
from tests.awsworld import aws_world
from tests.contract.launch.test_kubernetes import scheduler_world
from tests.localnodes import LocalWorld
from tests.unit.control.world import make_pool, make_world
from tests.volumeworld import context


class SimWorld:
    """A node of the simulation with four cores and two GPUs."""

    purpose = Purpose.BOOKING

    def __init__(self) -> None:
        offering = Offering("m", Resources(cpu=4, memory=16, gpu=2), usd_per_hour=0.2)
        self.world = make_world(make_pool(groups=(Group("g", "sim", (offering,), max_nodes=2),)))
        self.ctx, self.pool, self.clock = self.world.ctx, self.world.pool, self.world.clock
        self.scheduler = AdjustableSim(self.clock, self.world.cloud)
        self.ctx = replace(self.ctx, schedulers={"sim": self.scheduler})
        self.world.cloud.launch(LaunchRequest(self.pool, "g", offering, 1, "t", Preload()))
        self.clock.sleep(600)
        (self.node,) = self.world.cloud.observe(self.pool).nodes
        self.request = Resources(cpu=3, memory=4)
        self.type: Allocatable = Machines(self.ctx)

    @property
    def amount(self) -> Mapping[str, float]:
        return self.request.as_dict()

    @property
    def too_much(self) -> Mapping[str, float]:
        return (self.request * 2).as_dict()

    def claimant(self, number: int) -> str:
        return f"night-{number}"

    def begun(self, claimant: str) -> int:
        return sum(r.claimant == claimant and r.node_id is not None for r in self.books())

    def books(self) -> tuple[Reservation, ...]:
        return self.ctx.ports.ledger.reservations(self.pool.name)


class TestMachines(AllocatableContract):
    @pytest.fixture
    def world(self) -> SimWorld:
        return SimWorld()


class TestGpus(AllocatableContract):
    @pytest.fixture
    def world(self) -> SimWorld:
        world = SimWorld()
        world.request, world.type = Resources(gpu=2), Gpus(world.ctx)
        return world


class TaskWorld(SimWorld):
    """Tasks of the simulation."""

    purpose = Purpose.TASK

    def __init__(self) -> None:
        super().__init__()
        self.type = Tasks(self.ctx, "process")
        self.runs = waiting_runs(self.ctx, self.pool, self.request)

    def claimant(self, number: int) -> str:
        return f"{self.runs[number]}/t#0"

    def begun(self, claimant: str) -> int:
        return self.scheduler.starts.count(claimant)


def waiting_runs(ctx: Context, pool: Pool, amount: Resources) -> list[str]:
    """Two runs of one task each that nobody dispatches."""
    spec = TaskSpec("t", command=("sleep", "600"), request=amount, runtime_hint_s=600)
    dags = tuple(DagSpec(f"d{i}", (spec,)).in_pool(pool.name) for i in range(2))
    return [r.run_id for r in submit(ctx, dags)]


class TestTasks(AllocatableContract):
    @pytest.fixture
    def world(self) -> TaskWorld:
        return TaskWorld()


class NodeWorld:
    """Tasks on a real node, through its real scheduler and the real control code."""

    purpose = Purpose.TASK

    def __init__(self, pool: Pool, node: Node, provider: object, scheduler: object, amount: Resources) -> None:
        name = pool.groups[0].provider
        self.pool, self.node, self.clock = pool, node, WallClock()
        self.amount, self.too_much = amount.as_dict(), (amount * 2).as_dict()
        self.ctx = Context(
            ports=memory_ports(),
            providers={name: provider},  # type: ignore[dict-item]
            schedulers={name: scheduler},  # type: ignore[dict-item]
            prices=TablePriceBook.from_pools([pool]),
            clock=self.clock,
            pools={pool.name: pool},
        )
        self.scheduler = scheduler
        self.type: Allocatable = Tasks(self.ctx, scheduler.runs)  # type: ignore[attr-defined]
        self.runs = waiting_runs(self.ctx, pool, amount)

    def claimant(self, number: int) -> str:
        return f"{self.runs[number]}/t#0"

    def begun(self, claimant: str) -> int:
        return sum(r.claimant == claimant for r in self.scheduler.poll([self.node]))  # type: ignore[attr-defined]

    def books(self) -> tuple[Reservation, ...]:
        return self.ctx.ports.ledger.reservations(self.pool.name)


class TestProcesses(AllocatableContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[NodeWorld]:
        with cleared(tmp_path) as home:
            local = LocalWorld(home)
            (node,) = local.ready()
            yield NodeWorld(local.pool, node, local.provider, local.scheduler, Resources(cpu=1.5, memory=1))


class TestContainers(AllocatableContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[NodeWorld]:
        with scheduler_world(tmp_path) as found:
            room = found.pool.claimable(found.node.offering)
            amount = Resources(cpu=room.cpu * 0.75, memory=room.memory * 0.5)
            yield NodeWorld(found.pool, found.node, found.provider, found.scheduler, amount)


class VolumeWorld:
    """Volumes of a provider, and a node that could have one."""

    purpose = Purpose.VOLUME
    amount: Mapping[str, float] = {"disk": 2.0}
    too_much: Mapping[str, float] = {"disk": 1e9}

    def __init__(self, pool: Pool, node: Node, provider: KeepsVolumes, clock: Clock) -> None:
        self.pool, self.node, self.clock, self.provider = pool, node, clock, provider
        self.ctx = context(pool, provider, clock)
        self.type: Allocatable = Volumes(self.ctx)

    def claimant(self, number: int) -> str:
        return f"loader-{number}"

    def begun(self, claimant: str) -> int:
        """As the provider shows it, for whoever the books say has it."""
        has = any(r.claimant == claimant and r.node_id for r in self.books())
        return sum(v.node_id == self.node.node_id for v in self.provider.volumes(self.pool)) if has else 0

    def books(self) -> tuple[Reservation, ...]:
        return self.ctx.ports.ledger.reservations(self.pool.name)


class TestLocalVolumes(AllocatableContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[VolumeWorld]:
        with cleared(tmp_path) as home:
            local = LocalWorld(home)
            (node,) = local.ready()
            yield VolumeWorld(local.pool, node, local.provider, local.clock)


@pytest.mark.slow
class TestAwsVolumes(AllocatableContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[VolumeWorld]:
        with aws_world(monkeypatch) as aws:
            (node,) = aws.ready()
            yield VolumeWorld(aws.pool, node, aws.provider, aws.clock)
