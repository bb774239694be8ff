"""Volumes of EBS through the real SDK: made once, encrypted, waited for, in one zone and one pool."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from preprov.contracts import NewVolume, Volume
from preprov.control.allocating.by_hand import bind, give_back, units
from preprov.control.allocating.types import type_of
from preprov.model.errors import (
    ConflictError,
    NotAuthorisedError,
    NotFoundError,
    PoolError,
    RefusedError,
    ThrottledError,
)
from preprov.model.nodes import Node
from preprov.model.reservations import ReservationState, WantedVolume
from preprov.pools.aws import volumes as ebs
from tests.awsworld import REGION, ZONE, AwsWorld, aws_world
from tests.volumeworld import context, wants

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    with aws_world(monkeypatch) as made:
        yield made


def create(world: AwsWorld, node: Node, name: str = "data", gib: float = 3.5, token: str = "t") -> Volume:
    return world.provider.create_volume(world.pool, node, NewVolume(name, "default", gib, token))


def raw(world: AwsWorld) -> list[dict[str, Any]]:
    """All volumes of the account that carry a pool's tag."""
    found = world.api("ec2").describe_volumes(Filters=[{"Name": "tag-key", "Values": ["preprov:pool"]}])
    return [dict(v) for v in found["Volumes"] if any(t["Key"] == ebs.NAME for t in v["Tags"])]


def test_it_is_encrypted_and_tagged_from_its_first_moment(world: AwsWorld) -> None:
    (node,) = world.ready()
    world.cloud.volumes.takes = 1
    made = create(world, node)
    assert (made.name, made.tenant, made.gib, made.zone, made.state) == ("data", "default", 4, ZONE, "available")
    (there,) = raw(world)
    assert (there["Encrypted"], there["VolumeType"], there["VolumeId"]) == (True, "gp3", made.volume_id)
    (call,) = [c for c in world.cloud.calls if c.action == "CreateVolume"]
    tags = {v for k, v in call.params.items() if k.startswith("TagSpecification.1.Tag") and k.endswith("Key")}
    assert {"preprov:pool", "preprov:volume", "preprov:tenant", "preprov:token"} <= tags


def test_the_token_prevents_a_second_while_no_listing_shows_the_first(world: AwsWorld) -> None:
    """As when whoever had it made was killed before anything was written down."""
    (node,) = world.ready()
    first = create(world, node)
    world.cloud.volumes.made[first.volume_id] = world.cloud.now + 1  # as if it were not listed yet
    assert world.provider.volumes(world.pool) == ()
    assert create(world, node) == first
    assert len(world.cloud.volumes.made) == 1
    assert [c.action for c in world.cloud.calls].count("CreateVolume") == 2
    attached = world.provider.attach_volume(world.pool, first.volume_id, node.node_id)
    assert attached.node_id == node.node_id
    world.cloud.volumes.made[first.volume_id] = 0
    assert create(world, node, token="another") == attached
    assert [c.action for c in world.cloud.calls].count("CreateVolume") == 2


def test_it_is_on_one_instance_at_a_time(world: AwsWorld) -> None:
    one, two = world.ready(2)
    made = create(world, one)
    attached = world.provider.attach_volume(world.pool, made.volume_id, one.node_id)
    assert (attached.node_id, attached.device, attached.state) == (one.node_id, "/dev/sdf", "attached")
    assert world.provider.attach_volume(world.pool, made.volume_id, one.node_id) == attached
    with pytest.raises(ConflictError, match=one.node_id):
        world.provider.attach_volume(world.pool, made.volume_id, two.node_id)
    with pytest.raises(ConflictError):
        world.provider.delete_volume(world.pool, made.volume_id)
    other = create(world, one, "other", token="u")
    assert world.provider.attach_volume(world.pool, other.volume_id, one.node_id).device == "/dev/sdg"
    world.provider.detach_volume(world.pool, made.volume_id, two.node_id)
    assert [v.node_id for v in world.provider.volumes(world.pool)] == [one.node_id, one.node_id]


def test_it_is_waited_for_until_the_instance_lets_go(world: AwsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = world.ready()
    made = create(world, node)
    world.provider.attach_volume(world.pool, made.volume_id, node.node_id)
    world.cloud.volumes.takes = 1
    world.provider.detach_volume(world.pool, made.volume_id, node.node_id)
    world.provider.detach_volume(world.pool, made.volume_id, node.node_id)
    assert [(v.node_id, v.state) for v in world.provider.volumes(world.pool)] == [("", "available")]
    world.provider.attach_volume(world.pool, made.volume_id, node.node_id)
    monkeypatch.setattr(ebs, "_LOOKS", {"Delay": 0.01, "MaxAttempts": 3})
    world.cloud.volumes.stuck = True
    for _ in range(2):
        with pytest.raises(ConflictError, match="unmount it"):
            world.provider.detach_volume(world.pool, made.volume_id, node.node_id)
    with pytest.raises(ConflictError, match="let go"):
        world.provider.attach_volume(world.pool, made.volume_id, node.node_id)
    assert [c.action for c in world.cloud.calls].count("DetachVolume") == 2
    world.cloud.volumes.stuck = False
    world.provider.detach_volume(world.pool, made.volume_id, node.node_id)
    world.provider.delete_volume(world.pool, made.volume_id)
    assert world.provider.volumes(world.pool) == ()
    world.provider.detach_volume(world.pool, made.volume_id, node.node_id)
    world.provider.delete_volume(world.pool, made.volume_id)


def test_it_only_grows_and_not_too_often(world: AwsWorld) -> None:
    (node,) = world.ready()
    made = create(world, node)
    assert world.provider.grow_volume(world.pool, made.volume_id, 4.0).gib == 4
    assert world.provider.grow_volume(world.pool, made.volume_id, 1.0).gib == 4
    assert "ec2:ModifyVolume" not in world.cloud.called()
    assert world.provider.grow_volume(world.pool, made.volume_id, 5.5).gib == 6
    world.cloud.volumes.per_day = 1
    with pytest.raises(ThrottledError, match="maximum modification rate"):
        world.provider.grow_volume(world.pool, made.volume_id, 9)
    with pytest.raises(NotFoundError):
        world.provider.grow_volume(world.pool, "vol-0123456789abcdef0", 9)
    assert [v.gib for v in world.provider.volumes(world.pool)] == [6]


def test_another_pools_and_another_zones_are_not_touched(world: AwsWorld) -> None:
    (node,) = world.ready()
    made = create(world, node)
    theirs = replace(world.pool, name="theirs")
    assert world.provider.volumes(theirs) == ()
    for call in (world.provider.attach_volume, world.provider.grow_volume):
        with pytest.raises(NotFoundError):
            call(theirs, made.volume_id, node.node_id if call == world.provider.attach_volume else 9)
    world.provider.delete_volume(theirs, made.volume_id)
    world.provider.detach_volume(theirs, made.volume_id, node.node_id)
    assert [v.name for v in world.provider.volumes(world.pool)] == ["data"]
    zone = f"{REGION}b"
    tags = [{"Key": k, "Value": v} for k, v in (("preprov:pool", "batch"), (ebs.NAME, "far"), (ebs.TENANT, "default"))]
    specification = [{"ResourceType": "volume", "Tags": tags}]
    far = world.api("ec2").create_volume(AvailabilityZone=zone, Size=1, TagSpecifications=specification)
    with pytest.raises(PoolError, match="ZoneMismatch"):
        world.provider.attach_volume(world.pool, far["VolumeId"], node.node_id)
    ctx = context(world.pool, world.provider, world.clock)
    claim = wants(ctx, world.pool, "a", WantedVolume("far", 1))
    type_of(ctx, world.pool, claim).reserve(world.pool, claim)
    with pytest.raises(RefusedError, match=zone):
        bind(ctx, "a", node.node_id)
    assert [r.state for r in ctx.ports.ledger.get("a")] == [ReservationState.SOFT]


def test_an_instance_that_ends_lets_go_of_it(world: AwsWorld) -> None:
    one, two = world.ready(2)
    ctx = context(world.pool, world.provider, world.clock)
    claim = wants(ctx, world.pool, "a", WantedVolume("data", 2, keep=False))
    type_of(ctx, world.pool, claim).reserve(world.pool, claim)
    bound = bind(ctx, "a", one.node_id)
    world.provider.terminate(world.pool, [one.node_id])
    (unit,) = units(ctx, world.pool, "volume")
    assert (unit.node_id, unit.amount) == ("", {"disk": 2})
    ctx.ports.ledger.rebook("a", bound.end, "gone")
    assert bind(ctx, "a", two.node_id).node_id == two.node_id
    (unit,) = units(ctx, world.pool, "volume")
    assert unit.node_id == two.node_id
    give_back(ctx, "a", "over")
    assert raw(world) == []


def test_one_that_was_deleted_by_hand_is_given_back(world: AwsWorld) -> None:
    (node,) = world.ready()
    ctx = context(world.pool, world.provider, world.clock)
    claim = wants(ctx, world.pool, "a", WantedVolume("data", 2))
    type_of(ctx, world.pool, claim).reserve(world.pool, claim)
    bind(ctx, "a", node.node_id)
    (there,) = raw(world)
    world.api("ec2").detach_volume(VolumeId=there["VolumeId"], InstanceId=node.node_id)
    world.api("ec2").delete_volume(VolumeId=there["VolumeId"])
    with pytest.raises(NotFoundError):  # by its token, EC2 answers with the one that is gone
        bind(ctx, "a", node.node_id)
    assert give_back(ctx, "a", "").state is ReservationState.RELEASED


def test_whoever_may_not_list_volumes_is_told(world: AwsWorld) -> None:
    (node,) = world.ready()
    ctx = context(world.pool, world.provider, world.clock)
    claim = wants(ctx, world.pool, "a", WantedVolume("data", 2))
    type_of(ctx, world.pool, claim).reserve(world.pool, claim)
    world.cloud.faults.denied = {"ec2:DescribeVolumes"}
    (unit,) = units(ctx, world.pool, "volume")
    assert "DescribeVolumes" in unit.detail
    with pytest.raises(NotAuthorisedError):
        bind(ctx, "a", node.node_id)
    assert [r.state for r in ctx.ports.ledger.get("a")] == [ReservationState.SOFT]
