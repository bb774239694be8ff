"""Instant fleets on EC2 when things go wrong: nothing doubled, nothing leaked, no running task ended, causes named."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    NodeBusyError,
    NotAuthorisedError,
    PoolError,
    ThrottledError,
)
from preprov.model.nodes import Phase
from preprov.model.notes import FENCE
from preprov.model.offerings import CapacityType
from tests.awsworld import T0, TYPE, ZONE, AwsWorld, aws_world
from tests.clouds import pauses_on

OTHER = "us-east-1b"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    with aws_world(monkeypatch) as made:
        yield made


def alive(world: AwsWorld) -> list[str]:
    return [i for i, n in world.cloud.nodes.items() if n.state not in ("shutting-down", "terminated")]


def count(world: AwsWorld, action: str) -> int:
    return sum(1 for c in world.cloud.calls if c.name == action)


# ---- launching


def test_a_lost_answer_makes_no_second_node(world: AwsWorld) -> None:
    world.cloud.faults.lose_answers = {"ec2:CreateFleet": 1}
    ids = world.provider.launch(world.request(2))
    assert count(world, "ec2:CreateFleet") == 2  # the SDK sent it again, under the same token
    assert sorted(alive(world)) == sorted(ids)


def test_a_controller_that_died_before_the_answer_finds_its_nodes(world: AwsWorld) -> None:
    world.cloud.faults.lose_answers = {"ec2:CreateFleet": 5}
    with pytest.raises(ThrottledError):
        world.provider.launch(world.request(2, pool=world.with_options(attempts=1)))
    world.cloud.faults.lose_answers = {}
    world.clock.sleep(60)
    ids = world.again().launch(world.request(2))
    assert sorted(alive(world)) == sorted(ids)


def test_a_listing_that_lags_doubles_nothing_and_leaks_nothing(world: AwsWorld) -> None:
    world.cloud.faults.listing_lag_s = 30
    ids = world.provider.launch(world.request(2))
    assert world.nodes() == {}
    assert sorted(world.again().launch(world.request(2))) == sorted(ids)
    world.provider.terminate(world.pool, ids)
    assert alive(world) == []


def test_another_count_under_a_used_token_is_a_conflict_not_more_nodes(world: AwsWorld) -> None:
    world.cloud.faults.listing_lag_s = 30
    world.provider.launch(world.request(1))
    with pytest.raises(ConflictError) as e:
        world.provider.launch(world.request(3))
    assert e.value.retryable
    assert len(alive(world)) == 1


def test_a_zone_without_machines_is_remembered_for_a_while(world: AwsWorld) -> None:
    anywhere = replace(world.offering, zone="")
    group = replace(world.pool.groups[0], offerings=(anywhere,))
    pool = replace(world.pool, groups=(group,))
    world.cloud.faults.short = {(TYPE, ZONE)}
    (first,) = world.provider.launch(world.request(1, "t1", pool=pool, offering=anywhere))
    assert world.cloud.nodes[first].instance.placement.zone != ZONE
    asked = len(world.cloud.calls)
    world.provider.launch(world.request(1, "t2", pool=pool, offering=anywhere))
    (fleet,) = [c for c in world.cloud.calls[asked:] if c.action == "CreateFleet"]
    places = {s["SubnetId"]: s["AvailabilityZone"] for s in world.api("ec2").describe_subnets()["Subnets"]}
    wanted = {places[v] for k, v in fleet.params.items() if k.endswith(".SubnetId")}
    assert ZONE not in wanted
    assert OTHER in wanted


def test_a_shortage_is_asked_about_again_when_its_time_is_over(world: AwsWorld) -> None:
    world.cloud.faults.short = {("*", "*")}
    for token in ("t1", "t2"):
        with pytest.raises(InsufficientCapacityError):
            world.provider.launch(world.request(1, token))
    assert count(world, "ec2:CreateFleet") == 1
    world.cloud.faults.short = set()
    world.clock.sleep(181)
    assert world.provider.launch(world.request(1, "t3"))


def test_fewer_machines_than_asked_for_is_no_error(world: AwsWorld) -> None:
    world.cloud.faults.left = 2
    assert len(world.provider.launch(world.request(4))) == 2


def test_spot_is_asked_for_as_spot(world: AwsWorld) -> None:
    spot = replace(world.offering, capacity_type=CapacityType.SPOT)
    group = replace(world.pool.groups[0], offerings=(world.offering, spot))
    pool = replace(world.pool, groups=(group,))
    (node_id,) = world.provider.launch(world.request(1, pool=pool, offering=spot))
    assert world.nodes(pool)[node_id].offering.capacity_type is CapacityType.SPOT
    assert world.cloud.nodes[node_id].instance.lifecycle == "spot"
    assert world.provider.capabilities(pool, "g").interrupts


def test_the_lease_of_a_raise_is_noted(world: AwsWorld) -> None:
    (node_id,) = world.provider.launch(world.request(expires_at=T0 + timedelta(minutes=15)))
    assert world.nodes()[node_id].tags["preprov:expires-at"] == "2025-11-03T01:15:00+00:00"


# ---- refusals


def test_throttling_is_retryable_and_makes_an_observation_incomplete(world: AwsWorld) -> None:
    pool = world.with_options(attempts=1)
    world.cloud.faults.calls_per_second = 0
    seen = world.provider.observe(pool)
    assert not seen.complete
    assert "RequestLimitExceeded" in seen.problems[0]
    with pytest.raises(ThrottledError) as e:
        world.provider.launch(world.request(pool=pool))
    assert e.value.retryable
    assert alive(world) == []


def test_a_throttled_call_is_tried_again_by_the_sdk(world: AwsWorld) -> None:
    world.cloud.faults.calls_per_second = 2
    with pauses_on(world.clock):
        ids = world.provider.launch(world.request(2, pool=world.with_options(attempts=20)))
    assert sorted(alive(world)) == sorted(ids)


def test_expired_credentials_are_named(world: AwsWorld) -> None:
    (node,) = world.ready()
    world.cloud.faults.expired = True
    assert not world.provider.observe(world.pool).complete
    with pytest.raises(NotAuthorisedError, match="renew the credentials"):
        world.provider.terminate(world.pool, [node.node_id])
    world.cloud.faults.expired = False
    assert world.phase(node.node_id) is Phase.READY


def test_a_missing_right_is_named(world: AwsWorld) -> None:
    world.cloud.faults.denied = {"ec2:CreateFleet"}
    with pytest.raises(NotAuthorisedError, match="ec2:CreateFleet"):
        world.provider.launch(world.request())


def test_what_is_not_ours_is_left_alone(world: AwsWorld) -> None:
    made = world.api("ec2").run_instances(ImageId="ami-12c6146b", InstanceType=TYPE, MinCount=1, MaxCount=1)
    theirs = made["Instances"][0]["InstanceId"]
    for verb in (world.provider.terminate, world.provider.stop, world.provider.drain):
        with pytest.raises(PoolError):
            verb(world.pool, [theirs])
    assert alive(world) == [theirs]
    assert world.nodes() == {}


# ---- nodes that go their own way


def test_a_node_ended_by_hand_is_gone(world: AwsWorld) -> None:
    one, two = world.ready(2)
    world.api("ec2").terminate_instances(InstanceIds=[one.node_id])
    assert list(world.nodes()) == [two.node_id]
    world.provider.terminate(world.pool, [one.node_id])


def test_a_node_that_never_reports_is_lost_and_can_be_ended(world: AwsWorld) -> None:
    (node_id,) = world.provider.launch(world.request())
    world.cloud.nodes[node_id].mute = True
    world.clock.sleep(599)
    assert world.phase(node_id) is Phase.WARMING
    world.clock.sleep(10)
    assert world.phase(node_id) is Phase.LOST
    world.provider.terminate(world.pool, [node_id])
    assert alive(world) == []


def test_silence_makes_a_node_lost_only_to_who_has_listened(world: AwsWorld) -> None:
    (node,) = world.ready()
    world.cloud.nodes[node.node_id].mute = True
    world.clock.sleep(700)
    fresh = world.again()
    (seen,) = fresh.observe(world.pool).nodes
    assert (seen.phase, seen.running) == (Phase.READY, None)  # nobody knows: taken for busy
    assert world.phase(node.node_id) is Phase.LOST
    world.clock.sleep(700)
    assert fresh.observe(world.pool).nodes[0].phase is Phase.LOST


def test_a_wrong_clock_on_a_node_does_not_make_it_lost(world: AwsWorld) -> None:
    (node,) = world.ready()
    world.clock.sleep(3600)
    world.cloud.nodes[node.node_id].skew_s = -1200
    for _ in range(5):
        world.clock.sleep(300)
        assert world.phase(node.node_id) is Phase.READY


# ---- never end running work


def test_an_agent_that_does_not_confirm_keeps_its_node(world: AwsWorld) -> None:
    (node,) = world.ready()
    world.cloud.nodes[node.node_id].mute = True
    with pytest.raises(ConflictError) as e:
        world.provider.terminate(world.pool, [node.node_id])
    assert e.value.retryable
    assert alive(world) == [node.node_id]
    assert FENCE not in world.cloud.nodes[node.node_id].tags


def test_a_task_that_slips_in_keeps_the_node(world: AwsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins after the controller has looked and before the fence is up."""
    (node,) = world.ready()
    fake, answer = world.cloud.nodes[node.node_id], world.cloud._answer

    def slips_in(call, *rest):  # type: ignore[no-untyped-def]
        if call.name == "ec2:CreateTags" and not fake.tasks:
            fake.run("late/t#0", world.cloud.now)
        return answer(call, *rest)

    monkeypatch.setattr(world.cloud, "_answer", slips_in)
    with pytest.raises(NodeBusyError, match=node.node_id):
        world.provider.terminate(world.pool, [node.node_id])
    assert alive(world) == [node.node_id]
    assert fake.tasks == ["late/t#0"]


def test_a_fence_left_by_a_dead_controller_ends_by_itself(world: AwsWorld) -> None:
    (node,) = world.ready()
    world.cloud.faults.denied = {"ec2:TerminateInstances"}
    with pytest.raises(NotAuthorisedError):
        world.provider.terminate(world.pool, [node.node_id])
    with pytest.raises(PoolError):
        world.occupy(node)
    world.clock.sleep(300)
    world.occupy(node)


def test_a_node_going_to_sleep_cannot_be_started_yet(world: AwsWorld) -> None:
    (node,) = world.ready()
    world.provider.stop(world.pool, [node.node_id])
    assert world.phase(node.node_id) is Phase.DRAINING
    with pytest.raises(ConflictError) as e:
        world.provider.start(world.pool, [node.node_id], world.preload)
    assert e.value.retryable


# ---- calls


def test_many_pools_share_one_listing(world: AwsWorld) -> None:
    pools = [replace(world.pool, name=f"pool-{i}") for i in range(200)]
    for pool in pools:
        assert world.provider.observe(pool).complete
    assert count(world, "ec2:DescribeInstances") == 1


def test_many_nodes_are_ended_in_few_calls(world: AwsWorld) -> None:
    nodes = world.ready(8)
    world.cloud.calls.clear()
    world.provider.terminate(world.pool, [n.node_id for n in nodes])
    assert len(world.cloud.calls) <= 6
    assert alive(world) == []


def test_nodes_that_wake_together_are_told_in_one_call(world: AwsWorld) -> None:
    ids = [n.node_id for n in world.ready(4)]
    world.provider.stop(world.pool, ids)
    world.until(lambda: all(world.phase(i) is Phase.STOPPED for i in ids), "all to be stopped")
    world.cloud.calls.clear()
    world.provider.start(world.pool, ids, world.preload)
    assert count(world, "ec2:CreateTags") == 2, "when they were started, and what more they are to hold"
    assert count(world, "ec2:StartInstances") == 1
    world.until(lambda: all(world.phase(i) is Phase.READY for i in ids), "all to be ready")
