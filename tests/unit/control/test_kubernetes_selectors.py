"""Jobs of Kubernetes with node selectors and required affinity: their nodes are those of the groups with the labels."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from preprov.control.lanes import fits_nowhere
from preprov.control.passes import make_plan_now
from preprov.control.routing import Router
from preprov.control.syncing import SyncResult, sync
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Guards
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from preprov.testing.fake_kubernetes import FakeKubernetes, pod_spec
from tests.unit.control.world import World, make_pool, make_world

LEADS = {Standby.COLD: LeadTime(60, 90)}
NODE = Offering("m", Resources(cpu=4, memory=16), usd_per_hour=0.2)
Read = Callable[[], SyncResult]


@pytest.fixture
def world() -> World:
    labels = ({"team": "etl"}, {"team": "etl", "disk": "ssd"})
    plain, fast = (
        Group(name, "sim", (NODE,), lead=LEADS, options={"node_selector": of})
        for name, of in zip(("plain", "fast"), labels, strict=True)
    )
    return make_world(make_pool(groups=(plain, fast), guards=Guards(max_nodes=20)))


class Cluster(FakeKubernetes):
    """On the world's clock."""

    world: World

    def now(self) -> float:
        return epoch(self.world.clock.now())

    def wants(self, name: str, count: int = 1, *, expressions: Any = (), **more: Any) -> None:
        """Jobs of a whole node each."""
        spec = pod_spec("4", "1Gi", image=f"registry/{name}:1", **more)
        if expressions:
            terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
            spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
        for i in range(count):
            self.job(f"{name}-{i}", pod=dict(spec), spec={"activeDeadlineSeconds": 1200})


@pytest.fixture
def cluster(world: World) -> Cluster:
    made = Cluster()
    made.world = world
    return made


@pytest.fixture
def read(world: World, cluster: Cluster, tmp_path: Path) -> Iterator[Read]:
    with cluster.served(tmp_path) as kubeconfig:

        def once() -> SyncResult:
            client = KubernetesClient(RequestBudget(1e6, world.clock), world.clock, kubeconfig=kubeconfig, retries=0)
            return sync(world.ctx, KubernetesSource(KubernetesSettings("k"), client), Router(default="p"))

        yield once


def raised(world: World) -> dict[str, int]:
    plan, _ = make_plan_now(world.ctx, world.pool)
    return {a.group: a.count for a in plan.actions if a.kind.raises}


SSD = {"key": "disk", "operator": "In", "values": ["ssd"]}


@pytest.mark.parametrize(
    "wants",
    [
        {"nodeSelector": {"disk": "ssd", "kubernetes.io/os": "linux"}},
        {"expressions": [SSD]},
        {"expressions": [{"key": "disk", "operator": "In", "values": ["nvme", "ssd"]}]},
        {"expressions": [{"key": "disk", "operator": "Exists"}], "nodeSelector": {"team": "etl"}},
        {"expressions": [SSD, {"key": "cpu", "operator": "NotIn", "values": ["old"]}]},
    ],
    ids=["selector", "one value", "several values", "any value", "with what cannot be said"],
)
def test_demand_goes_to_the_groups_with_the_labels(
    world: World, cluster: Cluster, read: Read, wants: dict[str, Any]
) -> None:
    cluster.wants("plain", 6)
    cluster.wants("fast", 2, **wants)
    read()
    assert raised(world) == {"plain": 6, "fast": 2}
    assert fits_nowhere(world.ctx, world.pool) == ()


def test_labels_that_no_group_has_are_said(world: World, cluster: Cluster, read: Read) -> None:
    cluster.wants("fit", nodeSelector={"disk": "nvme"})
    cluster.wants("free", nodeSelector={"kubernetes.io/os": "linux"})
    read()
    (one,) = fits_nowhere(world.ctx, world.pool)
    assert one.why == (
        "must be on a node with constraint=disk=nvme; there is m in any zone of group plain with team=etl; "
        "m in any zone of group fast with disk=ssd, team=etl"
    )


def test_what_a_constraint_cannot_say_is_a_note_and_keeps_nobody_away(
    world: World, cluster: Cluster, read: Read
) -> None:
    cluster.wants("new", expressions=[{"key": "disk", "operator": "NotIn", "values": ["hdd", "tape"]}])
    cluster.wants("big", expressions=[{"key": "cores", "operator": "Gt", "values": ["8"]}])
    told = read()
    assert told.notes == (
        "nodes that work demands, not planned by: cores Gt 8 (of default/big)",
        "nodes that work demands, not planned by: disk NotIn hdd, tape (of default/new)",
    )
    assert fits_nowhere(world.ctx, world.pool) == ()


def test_one_of_several_terms_is_enough(world: World, cluster: Cluster, read: Read) -> None:
    either = [{"matchExpressions": [{"key": "disk", "operator": "In", "values": [v]}]} for v in ("tape", "ssd")]
    free = [{"matchExpressions": [SSD]}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]
    for name, terms in (("either", either), ("free", free)):
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        cluster.wants(name, affinity={"nodeAffinity": required})
    told = read()
    assert told.notes == ("nodes that work demands, not planned by: metadata.name In n (of default/free)",)
    assert raised(world) == {"plain": 1, "fast": 1}
