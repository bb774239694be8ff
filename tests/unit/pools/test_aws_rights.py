"""What the code asks of AWS and what its roles grant are the same list; looking needs no right to write."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from preprov.contracts import Finding, NewVolume
from preprov.model.errors import ConflictError, PoolError
from preprov.model.nodes import Phase
from preprov.model.offerings import CapacityType, Preload, Standby
from preprov.model.pools import Mode
from preprov.pools.aws.actions import ACT, OBSERVE, SAME_RIGHT, policy
from tests.awsworld import T0, ZONE, AwsWorld, aws_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    with aws_world(monkeypatch) as made:
        yield made


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    with aws_world(monkeypatch, warm="Stopped") as made:
        yield made


def rights(world: AwsWorld) -> set[str]:
    """The rights its calls needed."""
    return {SAME_RIGHT.get(name, name) for name in world.cloud.called()}


def with_spot(world: AwsWorld) -> None:
    """The pool has a spot offering too, and a queue for notices."""
    queue = world.api("sqs").create_queue(QueueName="notices")["QueueUrl"]
    spot = replace(world.offering, capacity_type=CapacityType.SPOT)
    world.pool = world.with_options(queue_url=queue)
    group = replace(world.pool.groups[0], offerings=(world.offering, spot))
    world.pool = replace(world.pool, groups=(group,))
    world.cloud.calls.clear()


def send(world: AwsWorld, kind: str, node_id: str, **detail: Any) -> None:
    """A message as EventBridge puts it into the queue."""
    body = {"detail-type": kind, "time": "2025-11-03T01:00:00Z", "detail": {"instance-id": node_id, **detail}}
    queue = str(world.pool.groups[0].options["queue_url"])
    world.api("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(body))


def look(world: AwsWorld) -> None:
    """Everything that only looks."""
    world.provider.observe(world.pool)
    world.provider.examine(world.pool)
    world.provider.quotes(world.pool, "g", T0 - timedelta(days=1))
    world.provider.other_writers(world.pool, "g")
    world.provider.baseline(world.pool, "g")
    world.provider.headroom(world.pool, "g", world.offering)
    world.provider.disk_gib(world.pool, "g")
    world.provider.volumes(world.pool)


def everything_on_fleets(world: AwsWorld) -> None:
    with_spot(world)
    look(world)
    (node,) = world.ready()
    world.provider.stop(world.pool, [node.node_id])
    world.until(lambda: world.phase(node.node_id) is Phase.STOPPED, "it to be stopped")
    world.provider.start(world.pool, [node.node_id], Preload())
    world.until(lambda: world.phase(node.node_id) is Phase.READY, "it to be up again")
    a_volume(world, node.node_id)
    world.provider.terminate(world.pool, [node.node_id])
    an_image(world)
    send(world, "nothing we know", "i-somebody")
    world.cloud.calls[:] = [c for c in world.cloud.calls if c.action != "SendMessage"]
    world.provider.settle_notices(world.pool, world.provider.notices(world.pool))


def a_volume(world: AwsWorld, node_id: str) -> None:
    """From its making to its end."""
    made = world.provider.create_volume(world.pool, world.nodes()[node_id], NewVolume("data", "default", 1.0, "t"))
    world.provider.attach_volume(world.pool, made.volume_id, node_id)
    world.provider.grow_volume(world.pool, made.volume_id, 2.0)
    world.provider.detach_volume(world.pool, made.volume_id, node_id)
    world.provider.delete_volume(world.pool, made.volume_id)


def an_image(world: AwsWorld) -> None:
    """From its bench to its end."""
    world.pool = replace(world.pool, preload=world.preload)
    request = replace(world.request(token="bake"), pool=world.pool)
    (bench,) = world.provider.open_bench(request)
    world.until(lambda: world.provider.benches(world.pool, "g")[0].ready_at is not None, "the bench")
    world.provider.make_image(world.pool, "g", bench, "d1")
    world.provider.close_benches(world.pool, "g", [bench])
    world.clock.sleep(300)
    (image,) = world.provider.images(world.pool, "g")
    assert world.provider.roll_out(world.pool, "g", image.image_id)
    with pytest.raises(ConflictError, match="launch template nodes"):
        world.provider.delete_image(world.pool, "g", image.image_id)
    world.api("ec2").modify_launch_template(LaunchTemplateName="nodes", DefaultVersion="1")
    world.provider.delete_image(world.pool, "g", image.image_id)
    assert world.provider.images(world.pool, "g") == ()


def everything_on_groups(world: AwsWorld) -> None:
    was = world.provider.baseline(world.pool, "g")
    world.pool = replace(world.pool, preload=world.preload)
    look(world)
    assert world.provider.recall_leads(world.pool, "g", T0 - timedelta(days=1)).warmed == ()
    world.provider.lease(world.pool, "g", T0 + timedelta(hours=9))
    world.provider.set_targets(world.pool, "g", {Standby.STOPPED: 1})
    world.until(lambda: [n.phase for n in world.nodes().values()] == [Phase.STOPPED], "the warm pool to fill")
    (kept,) = world.nodes()
    world.provider.start(world.pool, [kept], Preload())
    world.until(lambda: world.phase(kept) is Phase.READY, "it to be in service")
    (other,) = world.ready()
    world.provider.stop(world.pool, [other.node_id])
    world.provider.terminate(world.pool, [kept])
    api = world.api("autoscaling")
    without = {"MinSize": 0, "MaxGroupPreparedCapacity": 0, "PoolState": "Stopped"}
    api.put_warm_pool(AutoScalingGroupName="nodes", **without, InstanceReusePolicy={"ReuseOnScaleIn": False})
    (last,) = world.ready(token="last")
    world.provider.terminate(world.pool, [last.node_id])
    world.provider.restore(world.pool, "g", {**was, "WarmPool": None, "MaxSize": 21})


def test_the_roles_grant_what_the_code_calls_and_nothing_else(fleet: AwsWorld, scaling: AwsWorld) -> None:
    everything_on_fleets(fleet)
    everything_on_groups(scaling)
    called = rights(fleet) | rights(scaling)
    assert called - set(OBSERVE) - set(ACT) == set(), "called, but no role grants it"
    assert (set(OBSERVE) | set(ACT)) - called == set(), "granted, but never called"


def test_looking_writes_nothing(fleet: AwsWorld, scaling: AwsWorld) -> None:
    with_spot(fleet)
    for world in (fleet, scaling):
        world.pool = replace(world.pool, mode=Mode.OBSERVE)
        look(world)
        assert rights(world) <= set(OBSERVE)
        world.cloud.faults.denied = set(ACT)
        look(world)


def test_policies_can_be_pasted() -> None:
    assert json.loads(policy(OBSERVE))["Statement"][0]["Action"] == sorted(OBSERVE)
    assert not any(a.split(":")[1].startswith(("Put", "Create", "Delete", "Set", "Terminate")) for a in OBSERVE)


# ---- before anything is written


def test_a_good_group_has_nothing_bad(fleet: AwsWorld, scaling: AwsWorld) -> None:
    for world in (fleet, scaling):
        findings = world.provider.examine(world.pool)
        assert {f.state for f in findings} == {"ok"}, findings


def test_missing_rights_are_printed_as_a_policy(fleet: AwsWorld) -> None:
    fleet.cloud.faults.denied = {"ec2:CreateTags", "ec2:StopInstances"}
    (bad,) = [f for f in fleet.provider.examine(fleet.pool) if f.state == "bad"]
    assert bad.found == "missing: ec2:CreateTags, ec2:StopInstances"
    assert "narrowed to the pool's tag" in bad.hint, "no node of the pool could be named"
    assert pasted(bad) == {"ec2:CreateTags", "ec2:StopInstances"}
    fleet.cloud.faults.denied.clear()
    (node,) = fleet.ready()
    fleet.cloud.faults.denied = {"ec2:StopInstances"}
    fleet.cloud.calls.clear()
    (bad,) = [f for f in fleet.provider.examine(fleet.pool) if f.state == "bad"]
    assert bad.hint.startswith("attach this policy:\n")
    (asked,) = [c for c in fleet.cloud.calls if c.name == "ec2:StopInstances"]
    assert asked.items("InstanceId") == [node.node_id]
    assert fleet.phase(node.node_id) is Phase.READY


def pasted(finding: Finding) -> set[str]:
    """Rights of the policy that a finding prints."""
    _, _, text = finding.hint.partition("\n")
    return set(json.loads(text)["Statement"][0]["Action"]) if text else set()


def told(world: AwsWorld, right: str) -> list[Finding]:
    """What says that the right is lacking, or wanted, with a policy that has it."""
    world.cloud.faults.denied = {right}
    return [f for f in world.provider.examine(world.pool) if right in pasted(f)]


FLEETS = sorted(a for a in OBSERVE if a[:3] in ("ec2", "pri", "ser", "sqs"))
READS = [*((False, a) for a in FLEETS), *((True, a) for a in OBSERVE if a.startswith("autoscaling:"))]
BAKING = ("ec2:CreateImage", "ec2:DeregisterImage", "ec2:CreateLaunchTemplateVersion", "ec2:ModifyLaunchTemplate")
FLEET_WRITES = ("ec2:CreateFleet", "ec2:RunInstances")
NODE_WRITES = ("ec2:CreateTags", "ec2:DeleteTags", "ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances")


def test_every_right_is_looked_for() -> None:
    """Those of Auto Scaling and SQS that write are printed unasked."""
    sought = {*NODE_WRITES, *FLEET_WRITES, *BAKING}
    volumes = {a for a in ACT if a.endswith("Volume")}
    assert {a for a in ACT if a.startswith("ec2:")} == sought | volumes
    assert {a for _, a in READS} == set(OBSERVE) - {"sts:GetCallerIdentity"}, "that one nobody can be denied"


@pytest.mark.parametrize(("scales", "right"), READS)
def test_a_right_to_look_that_is_lacking_is_printed(scales: bool, right: str, request: pytest.FixtureRequest) -> None:
    world: AwsWorld = request.getfixturevalue("scaling" if scales else "fleet")
    if not scales:
        with_spot(world)
    world.pool = replace(world.pool, mode=Mode.OBSERVE)
    found = told(world, right)
    assert [f.found for f in found if "rights to look" in f.what] == [f"missing: {right}"]
    assert {f.state for f in found} == {"warn" if right == "pricing:GetProducts" else "bad"}
    assert not any("preprov doctor" in f.hint for f in world.provider.examine(world.pool))


@pytest.mark.parametrize("right", [*NODE_WRITES, *FLEET_WRITES])
def test_a_right_to_act_that_is_lacking_is_printed(right: str, fleet: AwsWorld) -> None:
    found = [f for f in told(fleet, right) if f.what == "batch/g: rights to act"]
    assert [(f.state, f.found) for f in found] == [("bad", f"missing: {right}")]
    assert pasted(found[0]) == {right}


@pytest.mark.parametrize("right", [*BAKING, *FLEET_WRITES])
def test_rights_to_bake_are_needed_by_who_bakes(right: str, scaling: AwsWorld) -> None:
    what = "batch/g: rights to bake images"
    (unused,) = [f for f in told(scaling, right) if f.what == what]
    assert unused.state == "ok"
    assert right in unused.found
    scaling.cloud.faults.denied.clear()
    scaling.pool = replace(scaling.pool, preload=scaling.preload)
    (bench,) = scaling.provider.open_bench(replace(scaling.request(token="bake"), pool=scaling.pool))
    scaling.provider.make_image(scaling.pool, "g", bench, "d1")
    (used,) = [f for f in told(scaling, right) if f.what == what]
    assert (used.state, pasted(used)) == ("bad", {right})


@pytest.mark.parametrize("right", sorted(a for a in ACT if a.endswith("Volume")))
def test_rights_to_keep_volumes_are_needed_by_who_keeps_some(right: str, fleet: AwsWorld) -> None:
    what = "batch/g: rights to keep volumes"
    (unused,) = [f for f in told(fleet, right) if f.what == what]
    assert unused.state == "ok"
    fleet.cloud.faults.denied.clear()
    (node,) = fleet.ready()
    fleet.provider.create_volume(fleet.pool, node, NewVolume("data", "default", 1.0, "t"))
    (used,) = [f for f in told(fleet, right) if f.what == what]
    assert (used.state, pasted(used)) == ("bad", {right})


def test_rights_that_cannot_be_asked_are_printed(scaling: AwsWorld) -> None:
    queue = scaling.api("sqs").create_queue(QueueName="notices")["QueueUrl"]
    scaling.pool = scaling.with_options(queue_url=queue)
    (unasked,) = [f for f in scaling.provider.examine(scaling.pool) if "cannot be asked" in f.what]
    assert pasted(unasked) == {a for a in ACT if a.startswith(("autoscaling:", "sqs:"))}


def test_a_queue_is_looked_at(fleet: AwsWorld) -> None:
    with_spot(fleet)
    send(fleet, "EC2 Instance Rebalance Recommendation", "i-somebody")
    what = "batch/g: queue of notices"
    (found,) = [f for f in fleet.provider.examine(fleet.pool) if f.what == what]
    assert found.state == "ok"
    assert found.found.endswith(":notices, about 1 messages")
    fleet.pool = fleet.with_options(queue_url=f"{fleet.pool.groups[0].options['queue_url']}-of-nobody")
    (found,) = [f for f in fleet.provider.examine(fleet.pool) if f.what == what]
    assert (found.state, "does not exist" in found.found) == ("bad", True)


def test_no_credentials_are_one_finding(fleet: AwsWorld) -> None:
    fleet.cloud.faults.expired = True
    (bad,) = fleet.provider.examine(fleet.pool)
    assert bad.state == "bad"
    assert "renew" in bad.hint


def test_a_group_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with aws_world(monkeypatch, warm="Stopped", hook=False) as world:
        api = world.api("autoscaling")
        api.put_scaling_policy(
            AutoScalingGroupName="nodes",
            PolicyName="cpu",
            PolicyType="SimpleScaling",
            AdjustmentType="ChangeInCapacity",
            ScalingAdjustment=1,
        )
        group = replace(world.pool.groups[0], standby_states=frozenset({Standby.RUNNING, Standby.HIBERNATED}))
        found = {f.what.split(": ")[1]: f for f in world.provider.examine(replace(world.pool, groups=(group,)))}
        assert found["warm pool"].state == "bad"
        assert found["lifecycle hook"].state == "warn"
        assert "scaling policy cpu" in found["other writers"].found
        (missing,) = [f for f in world.provider.examine(world.with_options(asg="nobody")) if f.state == "bad"]
        assert missing.found == "no Auto Scaling group nobody"


# ---- what the vendor says by itself


def test_notices_are_of_our_nodes_and_stay_until_settled(fleet: AwsWorld) -> None:
    with_spot(fleet)
    (node,) = fleet.ready()
    send(fleet, "EC2 Spot Instance Interruption Warning", node.node_id, **{"instance-action": "terminate"})
    send(fleet, "EC2 Instance Rebalance Recommendation", node.node_id)
    send(fleet, "EC2 Spot Instance Interruption Warning", "i-somebody")
    send(fleet, "something else", node.node_id)
    found = {n.kind: n for n in fleet.provider.notices(fleet.pool)}
    assert set(found) == {"interruption", "rebalance"}
    assert found["interruption"].deadline == T0 + timedelta(minutes=2)
    assert found["interruption"].detail == "terminate"
    assert found["rebalance"].deadline is None
    fleet.provider.settle_notices(fleet.pool, list(found.values()))
    attributes = {"QueueUrl": str(fleet.pool.groups[0].options["queue_url"]), "AttributeNames": ["All"]}
    counts = fleet.api("sqs").get_queue_attributes(**attributes)["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"  # somebody else's


def test_prices_are_quoted_where_they_are_known(fleet: AwsWorld) -> None:
    with_spot(fleet)
    assert {q.source for q in fleet.provider.quotes(fleet.pool, "g", T0)} <= {"spot"}
    fleet.cloud.prices = {"m5.large": 0.096}
    listed = [q for q in fleet.provider.quotes(fleet.pool, "g", T0) if q.source == "list"]
    assert [(q.offering, q.usd_per_hour) for q in listed] == [(fleet.offering, 0.096)]


def test_addresses_of_the_subnets_are_counted(fleet: AwsWorld) -> None:
    fleet.cloud.quotas["L-1216C47A"] = 64.0
    rooms = {h.what.split()[0]: h.nodes for h in fleet.provider.headroom(fleet.pool, "g", fleet.offering)}
    assert rooms["quota"] == 32
    subnet = fleet.pool.groups[0].options["subnets"][ZONE]  # type: ignore[index]
    (told,) = fleet.api("ec2").describe_subnets(SubnetIds=[subnet])["Subnets"]
    assert rooms["free"] == told["AvailableIpAddressCount"]


# ---- images


def test_a_group_pinned_to_a_version_is_its_owners_to_change(scaling: AwsWorld) -> None:
    """As Terraform pins it: what to write there is said."""
    scaling.pool = replace(scaling.pool, preload=scaling.preload)
    (bench,) = scaling.provider.open_bench(replace(scaling.request(token="bake"), pool=scaling.pool))
    scaling.provider.make_image(scaling.pool, "g", bench, "d1")
    (image,) = scaling.provider.images(scaling.pool, "g")
    pinned = {"LaunchTemplateName": "nodes", "Version": "1"}
    scaling.api("autoscaling").update_auto_scaling_group(AutoScalingGroupName="nodes", LaunchTemplate=pinned)
    with pytest.raises(PoolError, match="pinned to version 1") as refused:
        scaling.provider.roll_out(scaling.pool, "g", image.image_id)
    assert f'image_id = "{image.image_id}"' in refused.value.hint
