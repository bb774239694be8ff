"""Lead times that a cluster tells of nodes which came before preprov did, by the real client over HTTP."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from preprov.contracts import LaunchRequest, RecallsLeads, Recollection
from preprov.model.errors import PoolError
from preprov.model.nodes import Phase
from preprov.model.offerings import Preload, Standby
from preprov.pools.kubernetes.recall import seconds_of
from preprov.testing.fake_kubernetes import Json, stamp
from tests.kubernetesworld import START, KubernetesWorld, counted_world, join_world, kubernetes_world

pytestmark = pytest.mark.slow
LONG_AGO = START - timedelta(days=42)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[KubernetesWorld]:
    with kubernetes_world(tmp_path, boot_s=60.0) as made:
        yield made


def recalled(world: KubernetesWorld) -> Recollection:
    provider: object = world.provider
    assert isinstance(provider, RecallsLeads)
    return provider.recall_leads(world.pool, "g", LONG_AGO)


def later(world: KubernetesWorld, seconds: float) -> None:
    world.clock.sleep(seconds)
    world.fake.settle()


def registered(world: KubernetesWorld, node: Json, after_s: float) -> None:
    """A machine boots before its kubelet registers it."""
    node["metadata"]["creationTimestamp"] = stamp(START.timestamp() + after_s)


def test_a_node_that_the_autoscaler_made_tells_how_long_it_was_waited_for(world: KubernetesWorld) -> None:
    world.fake.work("etl-1")
    (node,) = world.fake.objects["nodes"].values()
    registered(world, node, 40)
    later(world, 70)
    found = recalled(world)
    (one,) = found.warmed
    assert (one.node_id, one.seconds, one.whole) == (node["metadata"]["name"], 60.0, True)
    assert (one.at, one.came_from, one.instance_type) == (START + timedelta(seconds=60), Standby.COLD, "m")
    assert dict(one.stages) == {"join": 20.0, "image": 12.3}
    assert found.left_out == ()
    assert recalled(world) == found


def test_without_anybody_who_tells_when_it_was_asked_for_only_the_join_is_known(world: KubernetesWorld) -> None:
    world.fake.idle_s = 1e9
    node = world.fake.node(ready_in=25)
    later(world, 60)
    (one,) = recalled(world).warmed
    assert (one.seconds, one.whole, dict(one.stages)) == (25.0, False, {"join": 25.0})
    world.fake.node("late", ready_in=16 * 60)
    world.fake.node("coming", ready_in=1e6)
    later(world, 17 * 60)
    found = recalled(world)
    assert [w.node_id for w in found.warmed] == [node["metadata"]["name"]]
    assert {why.split(":")[0]: n for why, n in found.left_out} == {"not ready": 1, "not ready for the first time": 1}


def test_a_node_that_was_lost_in_between_is_not_taken(world: KubernetesWorld) -> None:
    world.fake.work("etl-1")
    later(world, 70)
    (node,) = world.fake.objects["nodes"].values()
    node["status"]["readyAt"] += 300  # its kubelet fell silent, and came back
    later(world, 400)
    found = recalled(world)
    assert found.warmed == ()
    assert found.left_out == (("not ready for the first time: it was lost in between", 1),)
    for pod in world.fake.objects["pods"].values():  # what comes with the node is there before it is ready
        pod["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "cni", "uid": "u"}]
    (one,) = recalled(world).warmed
    assert one.whole is False


def test_room_that_preprov_holds_was_timed_by_itself(world: KubernetesWorld) -> None:
    group = world.pool.groups[0]
    (unit,) = world.provider.launch(LaunchRequest(world.pool, "g", group.offerings[0], 1, "t", Preload(), {}))
    world.until(lambda: world.provider.observe(world.pool).nodes[0].phase is Phase.READY, unit)
    found = recalled(world)
    assert found.warmed == ()
    assert found.left_out == (("of preprov's room, which it has timed", 1),)


def test_a_node_claim_tells_allocation_and_boot(tmp_path: Path) -> None:
    with counted_world(tmp_path, "node_pool", replicas=1, boot_s=90.0) as world:
        world.fake.settle()
        (node,) = world.fake.objects["nodes"].values()
        (claim,) = world.fake.objects["nodeclaims"].values()
        claim["status"]["conditions"][0]["lastTransitionTime"] = stamp(START.timestamp() + 8)
        registered(world, node, 70)
        later(world, 120)
        (one,) = recalled(world).warmed
        assert (one.seconds, one.whole) == (90.0, True)
        assert dict(one.stages) == {"allocate": 8.0, "boot": 62.0, "join": 20.0}


def test_without_the_right_to_events_conditions_tell_of_images(world: KubernetesWorld) -> None:
    pod = world.fake.work("etl-1")
    later(world, 70)
    at = START.timestamp() + 75
    pod["status"]["conditions"].append(
        {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": stamp(at)}
    )
    pod["status"]["containerStatuses"] = [{"name": "main", "state": {"running": {"startedAt": stamp(at + 9)}}}]
    world.fake.granted = {("list", "", "nodes"), ("list", "", "pods"), ("list", "batch", "jobs")}
    found = recalled(world)
    (one,) = found.warmed
    assert (one.whole, one.stages["image"]) == (False, 9.0)
    assert [n for why, n in found.left_out if "may not be listed" in why] == [1]
    world.fake.granted = {("list", "", "pods"), ("list", "batch", "jobs")}
    with pytest.raises(PoolError):
        recalled(world)


def test_nodes_that_join_are_recalled_by_their_own_provider(tmp_path: Path) -> None:
    with join_world(tmp_path) as world:
        assert "no record" in world.provider.recall_leads(world.pool, "g", LONG_AGO).means


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ('Successfully pulled image "r/etl:1" in 12.3s (14s including waiting). Image size: 5 bytes.', 12.3),
        ('Successfully pulled image "r/etl:1" in 1m2.5s (1m2.5s including waiting)', 62.5),
        ('Successfully pulled image "r/etl:1" in 850.4ms', 0.8504),
        ('Successfully pulled image "in 9s" in 2s', 2.0),
        ('Container image "r/etl:1" already present on machine', None),
        ("", None),
    ],
)
def test_how_long_a_pull_took(message: str, seconds: float | None) -> None:
    assert seconds_of(message) == (pytest.approx(seconds) if seconds is not None else None)
