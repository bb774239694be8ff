"""A pool of room in a cluster that behaves, on a virtual clock; the real Kubernetes client in between."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from preprov.kube.labels import CLAIMANT
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.pools import Group, Mode, Pool
from preprov.model.resources import Resources
from preprov.pools.kubernetes.provider import KubernetesProvider
from preprov.pools.kubernetes.rights import Rule
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import SimCloud
from preprov.testing.fake_cluster import FakeCluster
from preprov.testing.fake_cluster_counts import FakeScaling
from preprov.testing.fake_kubernetes import Json

START = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
KEEPS = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})
LABELS = {"preprov.io/pool": "batch", "node.kubernetes.io/instance-type": "m", "kubernetes.io/os": "linux"}


def kubernetes_pool(kubeconfig: Path, **options: object) -> Pool:
    """A pool of nodes of 4 cores and 16 GiB."""
    group = Group(
        "g",
        "kubernetes",
        (Offering("m", Resources(cpu=4, memory=16), usd_per_hour=0.2),),
        standby_states=frozenset({Standby.RUNNING}),
        max_nodes=8,
        options={"kubeconfig": str(kubeconfig), "node_selector": {"preprov.io/pool": "batch"}, **options},
    )
    return Pool("p", (group,), mode=Mode.FULL)


def grants(rules: Iterable[Rule], namespace: str = "preprov") -> set[tuple[str, ...]]:
    """What the roles of these rules allow, as the fake cluster wants it."""
    return {(v, api, r, *((namespace,) if own else ())) for own, api, r, verbs in rules for v in verbs}


def used(fake: FakeCluster, namespace: str = "preprov") -> set[tuple[str, ...]]:
    """The least rights by which what was asked of it is allowed: everywhere only what was asked outside of our own."""
    wide = {(v, api, r) for v, api, r, where in fake.scopes if where != namespace}
    return {(*right, *(() if right in wide else (namespace,))) for right in fake.called}


@dataclass
class KubernetesWorld:
    """Implements `testing.pool_contract.PoolWorld`."""

    fake: FakeCluster
    clock: VirtualClock
    pool: Pool
    preload: Preload = field(default_factory=Preload)
    _works: dict[str, Json] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.provider = self.again()

    def again(self) -> KubernetesProvider:
        return KubernetesProvider(self.clock)

    def until(self, look: Callable[[], bool], what: str) -> None:
        for _ in range(100):
            if look():
                return
            self.clock.sleep(5)
        raise AssertionError(f"waited in vain for {what}")

    def occupy(self, node: Node) -> str:
        """A task's pod comes to the node whose room the unit holds; preprov passed over the pool before."""
        self.provider.tend(self.pool, [node.node_id])
        name = f"etl-{next(self._numbers)}"
        pod = self.fake.work(name, nodeSelector={"kubernetes.io/hostname": node.address})
        if pod["status"]["phase"] != "Running":
            del self.fake.objects["pods"][pod["metadata"]["uid"]]
            raise PoolError("nothing is placed there", where=node.node_id)
        self._works[node.node_id] = pod
        pod["metadata"].setdefault("annotations", {})[CLAIMANT] = f"work/{name}"
        return f"work/{name}"

    def free(self, node: Node) -> None:
        self.fake.finish(self._works.pop(node.node_id))

    def spoiled(self) -> Preload | None:
        return None

    def exhausted(self) -> Pool | None:
        return None

    def tiers(self) -> Pool | None:
        return None

    def baking(self) -> Pool | None:
        return None


@contextmanager
def kubernetes_world(folder: Path, **fake: object) -> Iterator[KubernetesWorld]:
    clock = VirtualClock(START)
    made = FakeCluster(clock=lambda: clock.now().timestamp(), labels=LABELS, **fake)  # type: ignore[arg-type]
    made.priority_class("preprov-placeholder", -10)
    with made.served(folder) as kubeconfig:
        yield KubernetesWorld(made, clock, kubernetes_pool(kubeconfig))


@contextmanager
def counted_world(folder: Path, way: str, *, replicas: int = 0, **fake: object) -> Iterator[KubernetesWorld]:
    """A count that is the cluster's: `way` is capacity_buffer or node_pool."""
    clock = VirtualClock(START)
    made = FakeScaling(clock=lambda: clock.now().timestamp(), labels=LABELS, **fake)  # type: ignore[arg-type]
    if way == "capacity_buffer":
        made.buffer("batch", replicas=replicas)
    else:
        made.node_pool("batch", replicas=replicas)
    with made.served(folder) as kubeconfig:
        yield KubernetesWorld(made, clock, kubernetes_pool(kubeconfig, way=way, object="batch"))


@dataclass
class JoinWorld(KubernetesWorld):
    """Machines of the cloud in memory that join the cluster, held back by a taint."""

    cloud: SimCloud = field(init=False)

    def __post_init__(self) -> None:
        self.cloud = SimCloud(self.clock, seed=3)
        super().__post_init__()

    def again(self) -> KubernetesProvider:
        return KubernetesProvider(self.clock, vendor=lambda _: self.cloud)

    def until(self, look: Callable[[], bool], what: str) -> None:
        for _ in range(100):
            if look():
                return
            self.clock.sleep(20)
            self.joined()
            self.provider.tend(self.pool)
        raise AssertionError(f"waited in vain for {what}")

    def joined(self) -> None:
        """Kubelets of machines that run have registered, and nodes whose machine is gone are gone."""
        group = replace(self.pool.groups[0], provider="sim", options={})
        machines = {m.node_id: m for m in self.cloud.observe(replace(self.pool, groups=(group,))).nodes}
        nodes = self.fake.objects["nodes"]
        for uid, node in list(nodes.items()):
            machine = machines.get(node["metadata"]["name"])
            if machine is None:
                del nodes[uid]
            else:
                up = machine.phase in (Phase.READY, Phase.DRAINING)
                node["status"]["readyAt"] = 0.0 if up else 4e9
        here = {n["metadata"]["name"] for n in nodes.values()}
        for name, machine in machines.items():
            if machine.phase is Phase.READY and name not in here:
                self.fake.node(name, taints=[{"key": "preprov.io/held", "effect": "NoSchedule"}])


@contextmanager
def join_world(folder: Path, **options: object) -> Iterator[JoinWorld]:
    clock = VirtualClock(START)
    made = FakeCluster(clock=lambda: clock.now().timestamp(), labels=LABELS, most=0, idle_s=1e9)
    with made.served(folder) as kubeconfig:
        pool = kubernetes_pool(
            kubeconfig, way="node_join", vendor="sim", node_selector={"preprov.io/pool": "p"}, **options
        )
        group = replace(pool.groups[0], standby_states=KEEPS)
        yield JoinWorld(made, clock, replace(pool, groups=(group,)))
