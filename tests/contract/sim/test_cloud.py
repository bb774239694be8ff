"""The in-memory cloud against the suite every provider passes; a second instance is the cloud itself."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from preprov.contracts import PoolProvider
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.pools import Pool
from preprov.model.reference import reference_pool
from preprov.model.work import DatasetRef, ImageRef
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import Faults, Shortage, SimCloud
from preprov.testing.pool_contract import PoolContract
from tests.unit.replay.traces import T0


class SimWorld:
    """The cloud, with a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = VirtualClock(T0)
        self.busy: dict[str, tuple[str, ...]] = {}
        self.cloud = SimCloud(self.clock, seed=3, running=self.busy)
        self.provider: PoolProvider = self.cloud
        self.pool = reference_pool("sim-pool", max_nodes=10)
        self.preload = Preload((ImageRef("image.tar", "sha256:1"),), (DatasetRef("s3://bucket/data", "v1"),))

    def again(self) -> PoolProvider:
        return self.cloud

    def until(self, look: Callable[[], bool], what: str) -> None:
        for _ in range(1000):
            if look():
                return
            self.clock.sleep(10)
        raise AssertionError(f"waited in vain for {what}")

    def occupy(self, node: Node) -> str:
        seen = {n.node_id: n for n in self.cloud.observe(self.pool).nodes}
        if node.node_id not in seen or seen[node.node_id].phase is not Phase.READY:
            raise PoolError("takes no task", where=node.node_id)
        self.busy[node.node_id] = (f"run/{node.node_id}#0",)
        return self.busy[node.node_id][0]

    def free(self, node: Node) -> None:
        self.busy.pop(node.node_id, None)

    def spoiled(self) -> Preload:
        self.cloud.faults = Faults(launch_failures=1.0)
        return self.preload

    def exhausted(self) -> Pool:
        self.cloud.faults = Faults(shortages=(Shortage(T0, T0.replace(year=T0.year + 1)),))
        return self.pool

    def tiers(self) -> Pool:
        group = self.pool.groups[0]
        half = replace(group.offerings[0], instance_type="half", capacity=group.offerings[0].capacity * 0.5)
        return replace(self.pool, groups=(replace(group, offerings=(*group.offerings, half)),))


class TestSimCloud(PoolContract):
    @pytest.fixture
    def world(self) -> SimWorld:
        return SimWorld()
