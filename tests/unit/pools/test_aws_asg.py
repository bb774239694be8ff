"""Auto Scaling groups and their warm pools: counts move with named nodes only, and everything can be put back."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.errors import NodeBusyError, PoolError, QuotaExceededError
from preprov.model.nodes import Phase
from preprov.model.offerings import CapacityType, Preload, Standby
from preprov.model.resources import Resources
from preprov.pools.aws.warm import at_rest, before_move
from tests.awsworld import T0, TYPE, AwsWorld, aws_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
few = st.integers(0, 20)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    with aws_world(monkeypatch, warm="Stopped") as made:
        yield made


def fill(world: AwsWorld, n: int) -> list[str]:
    """Have the warm pool hold n verified nodes."""
    world.provider.set_targets(world.pool, "g", {Standby.STOPPED: n})
    world.until(lambda: [x.phase for x in world.nodes().values()].count(Phase.STOPPED) == n, "the warm pool to fill")
    return [i for i, x in world.nodes().items() if x.phase is Phase.STOPPED]


# ---- the arithmetic


@given(few, few, few, few)
def test_the_settings_change_nothing_now_and_the_right_thing_with_the_move(d: int, w: int, a: int, b: int) -> None:
    """Desired moves from d to a, and with it the pool from w to b, which grows by nodes that leave service only."""
    b = min(b, max(w, w + d - a))
    size = before_move(d, w, a - d, b)
    assert size.at(a) == b
    assert size.at(d) <= w
    if a + b >= d + w or b >= w:
        assert size.at(d) == w


@given(few, few)
def test_a_pool_at_rest_keeps_its_size(w: int, d: int) -> None:
    assert at_rest(w).at(d) == w


# ---- the warm pool


def test_a_warm_pool_fills_with_verified_nodes_only(world: AwsWorld) -> None:
    ids = fill(world, 2)
    done = [c for c in world.cloud.calls if c.action == "CompleteLifecycleAction"]
    assert sorted(c.params["InstanceId"] for c in done) == sorted(ids)
    assert world.group()["DesiredCapacity"] == 0


def test_without_our_word_no_node_goes_on(world: AwsWorld) -> None:
    world.provider.set_targets(world.pool, "g", {Standby.STOPPED: 1})
    for _ in range(30):
        world.clock.sleep(10)
        world.nodes()
    assert world.cloud.groups.warm("nodes") == ["Warmed:Pending:Wait"]


def test_a_warm_node_is_handed_over_and_another_takes_no_place(world: AwsWorld) -> None:
    first, second = fill(world, 2)
    world.provider.start(world.pool, [first], Preload())
    world.provider.start(world.pool, [first], Preload())  # sent again it is still one
    world.until(lambda: Phase.READY in [n.phase for n in world.nodes().values()], "a node in service")
    for _ in range(20):
        world.clock.sleep(30)
        world.provider.tend(world.pool)
    nodes = world.nodes()
    assert sorted(nodes) == sorted([first, second])
    assert sorted(n.phase for n in nodes.values()) == [Phase.READY, Phase.STOPPED]


def test_a_launch_passes_the_warm_pool_by(world: AwsWorld) -> None:
    kept = fill(world, 1)
    (new,) = world.ready(1)
    assert new.node_id not in kept
    assert [n.node_id for n in world.nodes().values() if n.phase is Phase.STOPPED] == kept


def test_only_the_named_node_leaves_service(world: AwsWorld) -> None:
    one, two, three = world.ready(3)
    world.occupy(two)
    world.provider.stop(world.pool, [three.node_id])
    world.until(lambda: world.phase(three.node_id) is Phase.STOPPED, "the node to be kept")
    assert world.phase(one.node_id) is world.phase(two.node_id) is Phase.READY
    world.provider.terminate(world.pool, [one.node_id])
    world.clock.sleep(60)
    assert world.phase(two.node_id) is Phase.READY
    assert world.group()["DesiredCapacity"] == 1
    assert world.phase(three.node_id) is Phase.STOPPED
    with pytest.raises(NodeBusyError):
        world.provider.terminate(world.pool, [two.node_id])


def test_a_node_whose_check_fails_is_seen_and_then_ended(world: AwsWorld) -> None:
    world.cloud.faults.spoiled = {world.preload.datasets[0].key}
    world.pool = replace(world.pool, preload=world.preload)
    world.provider.set_targets(world.pool, "g", {Standby.STOPPED: 1})
    world.until(lambda: [n.phase for n in world.nodes().values()] == [Phase.FAILED], "the node to fail")
    (node,) = world.nodes().values()
    assert "checksum" in node.reason
    world.provider.terminate(world.pool, [node.node_id])
    world.clock.sleep(60)
    assert world.nodes() == {}


def test_limits_are_those_of_the_group(world: AwsWorld) -> None:
    with pytest.raises(QuotaExceededError):
        world.provider.set_targets(world.pool, "g", {Standby.STOPPED: 99})
    with pytest.raises(PoolError, match="keeps stopped"):
        world.provider.set_targets(world.pool, "g", {Standby.HIBERNATED: 1})


# ---- adopted and given back


def test_what_was_adopted_is_given_back_exactly(world: AwsWorld) -> None:
    was = world.provider.baseline(world.pool, "g")
    assert json.loads(json.dumps(was)) == was
    fill(world, 2)
    world.ready(1)
    world.provider.lease(world.pool, "g", T0 + timedelta(hours=3))
    assert world.provider.baseline(world.pool, "g") != was
    said = world.provider.restore(world.pool, "g", was)
    assert any("ended, idle" in line for line in said)
    world.clock.sleep(120)
    assert world.nodes() == {}
    now = world.provider.baseline(world.pool, "g")
    assert now == was
    assert world.provider.other_writers(world.pool, "g") == ()
    assert world.provider.restore(world.pool, "g", was) == ()


def test_giving_back_ends_no_running_work(world: AwsWorld) -> None:
    was = world.provider.baseline(world.pool, "g")
    idle, busy = world.ready(2)
    world.occupy(busy)
    said = world.provider.restore(world.pool, "g", was)
    world.clock.sleep(120)
    assert list(world.nodes()) == [busy.node_id]
    assert world.group()["DesiredCapacity"] == 0
    assert any("still" in line for line in said)
    world.free(busy)
    world.provider.terminate(world.pool, [busy.node_id])
    assert idle.node_id not in world.nodes()


def test_a_dead_controller_costs_minutes(world: AwsWorld) -> None:
    """Nobody renews the lease of its raise; what runs goes on, what is idle is ended by the cloud itself."""
    busy, idle = world.ready(2)
    world.occupy(busy)
    world.provider.tend(world.pool)
    assert world.group()["DesiredCapacity"] == 2
    world.clock.sleep(world.pool.lease_s + 300)
    assert world.group()["DesiredCapacity"] == 0
    assert world.phase(busy.node_id) is Phase.READY
    assert world.phase(idle.node_id) is not Phase.READY


def test_a_node_that_work_is_promised_to_counts_as_busy(world: AwsWorld) -> None:
    (node,) = world.ready(1)
    assert world.provider.tend(world.pool, {node.node_id}) == (f"{node.node_id}: protected",)
    world.clock.sleep(world.pool.lease_s + 300)
    assert world.phase(node.node_id) is Phase.READY


def test_a_lease_is_renewed_while_somebody_tends(world: AwsWorld) -> None:
    (node,) = world.ready(1)
    for _ in range(30):
        world.clock.sleep(120)
        world.provider.tend(world.pool)
    assert world.phase(node.node_id) is Phase.READY
    (lease,) = world.api("autoscaling").describe_scheduled_actions()["ScheduledUpdateGroupActions"]
    assert (lease["MinSize"], lease["MaxSize"], lease["DesiredCapacity"]) == (0, 20, 0)


def test_other_writers_are_found_and_named(world: AwsWorld) -> None:
    assert world.provider.other_writers(world.pool, "g") == ()
    api = world.api("autoscaling")
    api.create_or_update_tags(
        Tags=[
            {
                "Key": "k8s.io/cluster-autoscaler/enabled",
                "Value": "true",
                "ResourceId": "nodes",
                "ResourceType": "auto-scaling-group",
                "PropagateAtLaunch": False,
            }
        ]
    )
    api.put_scheduled_update_group_action(
        AutoScalingGroupName="nodes", ScheduledActionName="nightly", StartTime=T0 + timedelta(days=1), MinSize=1
    )
    api.put_scaling_policy(
        AutoScalingGroupName="nodes",
        PolicyName="cpu",
        PolicyType="SimpleScaling",
        AdjustmentType="ChangeInCapacity",
        ScalingAdjustment=1,
    )
    found = " ".join(world.provider.other_writers(world.pool, "g"))
    for name in ("cluster-autoscaler", "nightly", "cpu"):
        assert name in found


# ---- what a node is


def test_a_node_is_what_ec2_says_whatever_was_asked_for(world: AwsWorld) -> None:
    """The group's template decides on the type; the note tells offerings of one type apart."""
    group = world.pool.groups[0]
    large = replace(world.offering, instance_type="c5.4xlarge", capacity=Resources(cpu=16, memory=32))
    kept = replace(world.offering, capacity_type=CapacityType.RESERVED)
    world.pool = replace(world.pool, groups=(replace(group, offerings=(large, world.offering, kept)),))
    for token, asked, got in (("a", large, world.offering), ("b", kept, kept)):
        (node_id,) = world.provider.launch(world.request(1, token, offering=asked))
        found = world.nodes()[node_id]
        assert found.offering == got, found.offering


def test_a_node_of_a_type_that_no_offering_names_holds_nothing(world: AwsWorld) -> None:
    large = replace(world.offering, instance_type="c5.4xlarge", capacity=Resources(cpu=16, memory=32))
    world.pool = replace(world.pool, groups=(replace(world.pool.groups[0], offerings=(large,)),))
    (node_id,) = world.provider.launch(world.request(offering=large))
    found = world.nodes()[node_id].offering
    assert (found.instance_type, found.capacity) == (TYPE, Resources())
