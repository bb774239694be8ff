"""Which of the rights that preprov needs are lacking, and the policy that grants them, to be pasted. Writes nothing.

EC2 is asked by dry runs. Its reads elsewhere are made; what Auto Scaling and SQS would have to write cannot be asked.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from preprov.contracts import Finding
from preprov.model.errors import NotAuthorisedError, NotFoundError, PoolError
from preprov.model.notes import GROUP, POOL
from preprov.pools.aws import images, prices, volumes
from preprov.pools.aws.actions import ACT, policy
from preprov.pools.aws.clients import as_tags, tags_of
from preprov.pools.aws.errors import calling
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.writes import Tools

Tries: TypeAlias = Mapping[str, Callable[[], object]]
_DISPENSABLE: Final = frozenset({"pricing:GetProducts"})
"""Without it prices are those of the configuration."""
_NOBODY: Final = "0" * 17
_QUOTA: Final = "L-1216C47A"
_NAME: Final = "preprov-doctor"
_NOTE: Final = "preprov:doctor"
_OF_NOBODY: Final = "; a role that is narrowed to the pool's tag refuses this until the pool has "


@dataclass(frozen=True)
class _Asked:
    """Whom the dry runs name: what the pool has, or else what nobody has.

    Attributes:
        template: the group's launch template, as the API wants it.
    """

    node: str
    volume: str
    image: str
    template: Mapping[str, str]

    def lacks(self, *what: str) -> str:
        """What to bear in mind when a dry run of nobody was refused."""
        none = [w for w in what if getattr(self, w).endswith(_NOBODY)]
        return f"{_OF_NOBODY}a {' and a '.join(none)}" if none else ""


def to_look(tools: Tools, group: AwsGroup) -> Finding:
    """The rights of the role observe.

    Raises:
        PoolError: it could not be asked.
    """
    what = f"{group.where}: rights to look"
    lacking = _lacking(group, {**_reads_of_ec2(tools, group), **_reads(tools, group)})
    if not lacking:
        return Finding(what, "ok", "all are granted")
    state: Literal["bad", "warn"] = "warn" if set(lacking) <= _DISPENSABLE else "bad"
    return Finding(what, state, f"missing: {', '.join(lacking)}", f"attach this policy:\n{policy(lacking)}")


def to_act(tools: Tools, group: AwsGroup) -> Iterator[Finding]:
    """The rights of the role act, by what they are needed for.

    Raises:
        PoolError: it could not be asked.
    """
    try:
        ec2, asked = tools.clients.get("ec2", group.place), _asked(tools, group)
    except NotFoundError:  # the group or its template, of which another finding tells
        return
    what = f"{group.where}: rights to act"
    lacking = _lacking(group, {**_of_nodes(ec2, asked), **({} if group.asg else _of_fleets(ec2, group, asked))})
    if lacking:
        hint = f"attach this policy{asked.lacks('node')}:\n{policy(lacking)}"
        yield Finding(what, "bad", f"missing: {', '.join(lacking)}", hint)
    else:
        yield Finding(what, "ok", "EC2 grants them")
    unasked = _unasked(group)
    if unasked:
        where = f"{group.where}: rights that cannot be asked"
        hint = f"these are needed:\n{policy(unasked)}"
        yield Finding(where, "ok", "Auto Scaling and SQS show them only when they are first written", hint)
    baking = {**_of_images(ec2, group, asked), **(_of_fleets(ec2, group, asked) if group.asg else {})}
    yield _more(group, "bake images", asked, "image", _lacking(group, baking))
    yield _more(group, "keep volumes", asked, "volume", _lacking(group, _of_volumes(ec2, group, asked)))


def _more(group: AwsGroup, verb: str, asked: _Asked, kind: str, lacking: tuple[str, ...]) -> Finding:
    """Rights that only a pool needs that has such things."""
    what, uses = f"{group.where}: rights to {verb}", not asked.lacks(kind)
    if not lacking:
        return Finding(what, "ok", "EC2 grants them")
    hint = f"attach this policy{asked.lacks('node', kind)}:\n{policy(lacking)}"
    if uses:
        return Finding(what, "bad", f"missing: {', '.join(lacking)}", hint)
    return Finding(what, "ok", f"none has been made; missing for that: {', '.join(lacking)}", f"for that, {hint}")


def _lacking(group: AwsGroup, tries: Tries) -> tuple[str, ...]:
    return tuple(action for action, call in tries.items() if not _granted(call, group))


def _granted(call: Callable[[], object], group: AwsGroup) -> bool:
    """False if it was refused for want of the right; any other refusal comes after the right was found."""
    try:
        with calling(group.where):
            call()
    except NotAuthorisedError:
        return False
    except PoolError:
        return True
    return True


def _asked(tools: Tools, group: AwsGroup) -> _Asked:
    """Raises PoolError: the group has no launch template, or could not be asked."""
    mine = {POOL: group.pool.name, GROUP: group.group.name}
    node = _first(i["InstanceId"] for i in tools.listing.alive(group.place) if mine.items() <= tags_of(i).items())
    volume = image = ""
    with suppress(PoolError):  # of the rights to list them another finding tells
        volume = _first(v.volume_id for v in volumes.volumes(tools, [group]))
        image = _first(i.image_id for i in images.images(tools, group))
    spec, _ = images.launched_from(tools, group)
    return _Asked(
        node or f"i-{_NOBODY}",
        volume or f"vol-{_NOBODY}",
        image or f"ami-{_NOBODY}",
        spec,
    )


def _first(ids: Iterable[Any]) -> str:
    return str(next(iter(ids), ""))


# ---- dry runs


def _reads_of_ec2(tools: Tools, group: AwsGroup) -> Tries:
    ec2: Any = tools.clients.get("ec2", group.place)
    return {
        "ec2:DescribeImages": lambda: ec2.describe_images(Owners=["self"], DryRun=True),
        "ec2:DescribeInstances": lambda: ec2.describe_instances(DryRun=True),
        "ec2:DescribeLaunchTemplateVersions": lambda: ec2.describe_launch_template_versions(
            Versions=["$Default"], DryRun=True
        ),
        "ec2:DescribeSpotPriceHistory": lambda: ec2.describe_spot_price_history(DryRun=True),
        "ec2:DescribeSubnets": lambda: ec2.describe_subnets(DryRun=True),
        "ec2:DescribeVolumes": lambda: ec2.describe_volumes(DryRun=True),
    }


def _reads(tools: Tools, group: AwsGroup) -> Tries:
    """Those that have no dry run."""
    few: dict[str, Any] = {"MaxRecords": 1}
    offering, quotas = group.group.offerings[0], tools.clients.get("service-quotas", group.place)
    tries: dict[str, Callable[[], object]] = {
        "pricing:GetProducts": lambda: prices.products(tools, group, offering),
        "servicequotas:GetServiceQuota": lambda: quotas.get_service_quota(ServiceCode="ec2", QuotaCode=_QUOTA),
    }
    if group.asg:
        api: Any = tools.clients.get("autoscaling", group.place)
        name: dict[str, Any] = {"AutoScalingGroupName": group.asg}
        names = [group.asg]
        tries |= {
            "autoscaling:DescribeAutoScalingGroups": lambda: api.describe_auto_scaling_groups(
                AutoScalingGroupNames=names
            ),
            "autoscaling:DescribeLifecycleHooks": lambda: api.describe_lifecycle_hooks(**name),
            "autoscaling:DescribePolicies": lambda: api.describe_policies(**name),
            "autoscaling:DescribeScalingActivities": lambda: api.describe_scaling_activities(**name, **few),
            "autoscaling:DescribeScheduledActions": lambda: api.describe_scheduled_actions(**name),
            "autoscaling:DescribeWarmPool": lambda: api.describe_warm_pool(**name, **few),
        }
    if group.queue_url:
        sqs: Any = tools.clients.get("sqs", group.place)
        about = {"QueueUrl": group.queue_url, "AttributeNames": ["QueueArn"]}
        tries["sqs:GetQueueAttributes"] = lambda: sqs.get_queue_attributes(**about)
    return tries


def _unasked(group: AwsGroup) -> tuple[str, ...]:
    """Writes of the group that AWS has no dry run of."""
    services = [s for s, there in (("autoscaling:", group.asg), ("sqs:", group.queue_url)) if there]
    return tuple(a for a in ACT if a.startswith(tuple(services)))


def _of_nodes(ec2: Any, asked: _Asked) -> Tries:
    some: dict[str, Any] = {"InstanceIds": [asked.node], "DryRun": True}
    tags: dict[str, Any] = {"Resources": [asked.node], "DryRun": True}
    return {
        "ec2:CreateTags": lambda: ec2.create_tags(**tags, Tags=as_tags({_NOTE: "x"})),
        "ec2:DeleteTags": lambda: ec2.delete_tags(**tags, Tags=[{"Key": _NOTE}]),
        "ec2:StartInstances": lambda: ec2.start_instances(**some),
        "ec2:StopInstances": lambda: ec2.stop_instances(**some),
        "ec2:TerminateInstances": lambda: ec2.terminate_instances(**some),
    }


def _of_fleets(ec2: Any, group: AwsGroup, asked: _Asked) -> Tries:
    """A fleet runs instances: both rights are needed."""
    one = [{"InstanceType": group.group.offerings[0].instance_type}]
    name = {k: v for k, v in asked.template.items() if k != "Version"}
    return {
        "ec2:CreateFleet": lambda: ec2.create_fleet(
            Type="instant",
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": dict(asked.template), "Overrides": one}],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
            TagSpecifications=[{"ResourceType": "instance", "Tags": _tags(group)}],
            DryRun=True,
        ),
        "ec2:RunInstances": lambda: ec2.run_instances(
            LaunchTemplate={**name, "Version": asked.template["Version"]},
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": _tags(group)}],
            DryRun=True,
        ),
    }


def _of_images(ec2: Any, group: AwsGroup, asked: _Asked) -> Tries:
    name = {k: v for k, v in asked.template.items() if k != "Version"}
    tagged = [{"ResourceType": kind, "Tags": _tags(group)} for kind in ("image", "snapshot")]
    return {
        "ec2:CreateImage": lambda: ec2.create_image(
            InstanceId=asked.node, Name=_NAME, TagSpecifications=tagged, DryRun=True
        ),
        "ec2:CreateLaunchTemplateVersion": lambda: ec2.create_launch_template_version(
            **name, SourceVersion=asked.template["Version"], LaunchTemplateData={}, DryRun=True
        ),
        "ec2:ModifyLaunchTemplate": lambda: ec2.modify_launch_template(**name, DefaultVersion="1", DryRun=True),
        "ec2:DeregisterImage": lambda: ec2.deregister_image(ImageId=asked.image, DryRun=True),
    }


def _of_volumes(ec2: Any, group: AwsGroup, asked: _Asked) -> Tries:
    it: dict[str, Any] = {"VolumeId": asked.volume, "DryRun": True}
    there = {"InstanceId": asked.node, "Device": "/dev/sdf"}
    zone = group.group.offerings[0].zone or next(iter(group.subnets), f"{group.place.region}a")
    return {
        "ec2:CreateVolume": lambda: ec2.create_volume(
            AvailabilityZone=zone,
            Size=1,
            VolumeType="gp3",
            Encrypted=True,
            TagSpecifications=[{"ResourceType": "volume", "Tags": _tags(group)}],
            DryRun=True,
        ),
        "ec2:AttachVolume": lambda: ec2.attach_volume(**it, **there),
        "ec2:DetachVolume": lambda: ec2.detach_volume(**it),
        "ec2:ModifyVolume": lambda: ec2.modify_volume(**it, Size=1),
        "ec2:DeleteVolume": lambda: ec2.delete_volume(**it),
    }


def _tags(group: AwsGroup) -> list[dict[str, str]]:
    return as_tags({POOL: group.pool.name, GROUP: group.group.name})
