"""Lead times that Compute Engine's operations tell, through the SDK over HTTP."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from preprov.contracts import LaunchRequest, Recollection
from preprov.model.errors import PoolError
from preprov.model.nodes import Phase
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.resources import Resources
from preprov.pools.gcp import recall
from tests.gcpworld import T0, GcpWorld, gcp_world

pytestmark = pytest.mark.slow
LONG_AGO = T0 - timedelta(days=42)
ZONE, TYPE = "europe-west1-b", "n2-standard-4"


@pytest.fixture
def world() -> Iterator[GcpWorld]:
    with gcp_world() as made:
        yield made


def past(world: GcpWorld, kind: str, name: str, seconds: float, *, ago_s: float = 3600, error: str = "") -> None:
    at = world.clock.now() - timedelta(seconds=ago_s)
    world.fake.operations.begin(kind, f"instances/{name}", seconds, error=error, at=at)


def recalled(world: GcpWorld, **more: object) -> Recollection:
    return world.provider.recall_leads(world.pool, "vms", LONG_AGO, **more)  # type: ignore[arg-type]


def test_what_the_group_did_is_recalled_by_the_state_it_came_from(world: GcpWorld) -> None:
    ask = LaunchRequest(world.pool, "vms", world.pool.groups[0].offerings[0], 1, "t1", Preload(), {"purpose": "test"})
    (node,) = world.provider.launch(ask)

    def is_in(phase: Phase) -> bool:
        return node in world.nodes() and world.nodes()[node].phase is phase

    world.until(lambda: is_in(Phase.READY), "the node")
    world.provider.stop(world.pool, [node])
    world.until(lambda: is_in(Phase.STOPPED), "its stop")
    world.provider.start(world.pool, [node], Preload())
    world.until(lambda: is_in(Phase.READY), "its start")
    found = recalled(world)
    assert [(w.node_id, w.came_from, w.seconds) for w in found.warmed] == [
        (node, Standby.STOPPED, 15.0),
        (node, Standby.COLD, 15.0),
    ]
    assert {(w.zone, w.instance_type, w.whole, w.failed, w.lacked) for w in found.warmed} == {
        (ZONE, TYPE, False, False, False)
    }
    assert [dict(w.stages) for w in found.warmed] == [{"allocate": 15.0}] * 2
    assert found.left_out == ()
    assert "allocation alone" in found.means
    assert recalled(world) == found


def test_each_operation_says_what_it_can_and_what_it_cannot_is_counted(world: GcpWorld) -> None:
    past(world, "insert", "nodes-vm-a", 20)
    past(world, "resume", "nodes-vm-b", 7)
    past(world, "insert", "nodes-vm-c", 5, error="RESOURCE_NOT_FOUND")
    past(world, "insert", "nodes-vm-d", 5, error="QUOTA_EXCEEDED")
    past(world, "insert", "nodes-vm-e", 86_400, ago_s=100_000)
    past(world, "insert", "nodes-vm-f", 900, ago_s=10)
    past(world, "insert", "others-vm-a", 20)
    past(world, "stop", "nodes-vm-a", 20)
    past(world, "delete", "nodes-vm-a", 20)
    past(world, "insert", "nodes-vm-g", 20, ago_s=15 * 86_400)  # Google has forgotten it
    found = recalled(world)
    assert {(w.node_id, w.came_from, w.failed, w.whole) for w in found.warmed} == {
        ("nodes-vm-a", Standby.COLD, False, False),
        ("nodes-vm-b", Standby.HIBERNATED, False, False),
        ("nodes-vm-c", Standby.COLD, True, True),
    }
    assert dict(found.left_out) == {"a quota was full": 1, "a time that makes no sense": 1, "not over": 1}


def test_no_capacity_is_told_once_however_often_the_group_tried(world: GcpWorld) -> None:
    for i in range(4):
        past(world, "insert", "nodes-vm-a", 5, ago_s=600 - 60 * i, error="ZONE_RESOURCE_POOL_EXHAUSTED")
    past(world, "start", "nodes-vm-b", 5, ago_s=300, error="ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS")
    found = recalled(world)
    (lack,) = found.warmed
    assert (lack.lacked, lack.failed, lack.came_from, lack.instance_type) == (True, False, Standby.COLD, TYPE)
    assert lack.at == world.clock.now() - timedelta(seconds=295)
    assert dict(found.left_out) == {"no capacity, and again later": 4}


def test_a_group_of_several_types_knows_those_of_machines_that_exist(world: GcpWorld) -> None:
    other = Offering("n2-standard-8", Resources(cpu=8, memory=32), ZONE)
    group = world.pool.groups[0]
    ask = LaunchRequest(world.pool, "vms", group.offerings[0], 1, "t1", Preload(), {})
    (node,) = world.provider.launch(ask)
    world.clock.sleep(60)
    past(world, "insert", "nodes-vm-gone", 20)
    world.pool = replace(world.pool, groups=(replace(group, offerings=(*group.offerings, other)),))
    assert {w.node_id: w.instance_type for w in recalled(world).warmed} == {node: TYPE, "nodes-vm-gone": ""}


def test_a_long_record_is_read_page_by_page_no_further_than_asked_and_within_a_budget(
    world: GcpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(1200):
        past(world, "insert", f"nodes-vm-{i}", 20, ago_s=60 * (i + 1))
    asked = world.fake.calls
    asked.clear()
    assert len({w.node_id for w in recalled(world).warmed}) == 1200
    assert sum(p.endswith("/operations") for _, p in asked) == 3
    asked.clear()
    recent = world.provider.recall_leads(world.pool, "vms", T0 - timedelta(minutes=90))
    assert len(recent.warmed) == 90
    assert sum(p.endswith("/operations") for _, p in asked) == 1
    monkeypatch.setattr(recall, "_REQUESTS", 1)
    few = recalled(world)
    assert len(few.warmed) == 500
    assert [n for why, n in few.left_out if "not asked for" in why] == [1]


def test_a_refusal_is_a_pool_error(world: GcpWorld) -> None:
    world.fake.faults.denied = {"compute.zoneOperations.list"}
    with pytest.raises(PoolError):
        recalled(world)
