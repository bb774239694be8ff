"""A zone of the fake Compute Engine with one pool, for the contract suite and for tests of the provider."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from preprov.model.errors import PoolError
from preprov.model.nodes import Node
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, ImageRef
from preprov.pools.gcp.provider import GcpProvider
from preprov.sim.clock import VirtualClock
from preprov.testing.agents import Agents
from preprov.testing.fake_gcp import FakeGcp
from tests.cloudtasks import CloudTasks

T0 = datetime(2026, 3, 2, 20, tzinfo=UTC)
ALL = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})


class GcpWorld:
    """The provider through the real SDK against the fake, both on a clock that the test moves."""

    def __init__(self, fake: FakeGcp, home: Path | None = None) -> None:
        self.fake = fake
        self.clock = fake.clock
        self.mig = fake.add("nodes", "n2-standard-4")
        offering = Offering("n2-standard-4", Resources(cpu=4, memory=16), "europe-west1-b", usd_per_hour=0.2)
        options = {
            "project": fake.project,
            "zone": fake.zone,
            "mig": "nodes",
            "endpoint_url": fake.url,
            "retry": 60,
            "fence": 10,
        }
        self.pool = Pool("night", (Group("vms", "gcp", (offering,), ALL, max_nodes=6, options=options),))
        self.preload = Preload((ImageRef("img", "sha256:1"),), (DatasetRef("gs://bucket/data", "v1"),))
        self.tasks = CloudTasks("gcp", home, self.clock, self.pool, fake.agents.run) if home else None
        self.provider = self.again()
        if self.tasks:
            self.preload = self.tasks.preload
            self.scheduler = self.tasks.scheduler(self.provider)

    def again(self) -> GcpProvider:
        return GcpProvider(self.clock, self.tasks.greeting if self.tasks else dict)

    def until(self, look: Callable[[], bool], what: str) -> None:
        for _ in range(100):
            if look():
                return
            self.clock.sleep(10)
        raise AssertionError(f"waited in vain for {what}")

    def occupy(self, node: Node) -> str:
        if self.tasks:
            return self.tasks.occupy(self.scheduler, node)
        machine = self.fake.machine(node.node_id)
        if machine.agent is None:
            raise PoolError("takes no task", where=node.node_id)
        claimant = f"run/{node.node_id}#0"
        machine.agent.take(claimant, machine.notes, self.clock.now())
        return claimant

    def free(self, node: Node) -> None:
        if self.tasks:
            return self.tasks.free(self.scheduler, node)
        agent = self.fake.machine(node.node_id).agent
        assert agent is not None
        agent.tasks.clear()

    def spoiled(self) -> Preload:
        if self.tasks:
            return self.tasks.spoiled()
        self.fake.spoiled = True
        return self.preload

    def exhausted(self) -> Pool:
        self.fake.faults.short.add("n2-standard-4")
        return self.pool

    def baking(self) -> Pool | None:
        return None if self.tasks else self.pool

    def tiers(self) -> Pool:
        self.fake.add("large", "n2-standard-8")
        first = self.pool.groups[0]
        offering = Offering("n2-standard-8", Resources(cpu=8, memory=32), "europe-west1-b", usd_per_hour=0.4)
        second = replace(first, name="large", offerings=(offering,), options={**first.options, "mig": "large"})
        return replace(self.pool, groups=(first, second))

    def nodes(self) -> dict[str, Node]:
        return {n.node_id: n for n in self.provider.observe(self.pool).nodes}

    def with_options(self, **more: object) -> Pool:
        group = self.pool.groups[0]
        return replace(self.pool, groups=(replace(group, options={**group.options, **more}),))


@contextmanager
def gcp_world(home: Path | None = None) -> Iterator[GcpWorld]:
    """With a home, the machines have real agents below it."""
    with ExitStack() as stack:
        agents = stack.enter_context(Agents(home / "rack", {"port": 9411})) if home else None
        yield GcpWorld(stack.enter_context(FakeGcp(VirtualClock(T0), agents=agents)), home)
