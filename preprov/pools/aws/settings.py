"""Settings of an Auto Scaling group that preprov may touch: recorded, put back, leased, and who else writes them."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from preprov.contracts import ANOTHER_PREPROV
from preprov.model.errors import PoolError
from preprov.model.notes import BASELINE, OWNER, PRELOAD, gather, spread
from preprov.pools.aws.clients import Json, tags_of
from preprov.pools.aws.errors import calling
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.writes import Tools, preload_notes

LEASE: Final = "preprov-lease"
_COUNTS: Final = ("MinSize", "MaxSize", "DesiredCapacity")
_AUTOSCALERS: Final = {
    "k8s.io/cluster-autoscaler/": "the Kubernetes cluster-autoscaler",
    "karpenter.sh/": "Karpenter",
    "eks:nodegroup-name": "an EKS managed node group",
    "AmazonECSManaged": "an ECS capacity provider",
    "elasticbeanstalk:": "Elastic Beanstalk",
}


def baseline(tools: Tools, group: AwsGroup, described: Json) -> dict[str, object]:
    """Counts, protection of new nodes and warm pool, as plain JSON."""
    return {
        "asg": group.asg,
        **{k: int(described[k]) for k in _COUNTS},
        "NewInstancesProtectedFromScaleIn": bool(described.get("NewInstancesProtectedFromScaleIn")),
        "WarmPool": _warm(described),
    }


def restore(
    tools: Tools, group: AwsGroup, described: Json, was: Mapping[str, object], *, whole: bool
) -> tuple[str, ...]:
    """Put the baseline back, counts last; a line per setting changed.

    Desired is put back as well, which ends nodes that nobody protects: busy ones are to be protected before.

    Args:
        whole: nothing is left to do later, so what was noted on the group is taken away too.

    Raises:
        PoolError: the baseline is of another group, or a call failed.
    """
    if was.get("asg") != group.asg:
        raise PoolError(f"this baseline is of {was.get('asg')}", where=group.where, hint="adopt the group again")
    now = baseline(tools, group, described)
    api = tools.clients.get("autoscaling", group.place)
    said = list(_restore_warm(api, group, now["WarmPool"], was["WarmPool"]))
    keys = (*_COUNTS, "NewInstancesProtectedFromScaleIn")
    changed = {k: was[k] for k in keys if was[k] != now[k]}
    if changed:
        with calling(group.where):
            api.update_auto_scaling_group(AutoScalingGroupName=group.asg, **changed)
        said.extend(f"{k}: {now[k]} -> {v}" for k, v in changed.items())
    if any(a["ScheduledActionName"] == LEASE for a in _scheduled(api, group)):
        with calling(group.where):
            api.delete_scheduled_action(AutoScalingGroupName=group.asg, ScheduledActionName=LEASE)
        said.append(f"{LEASE}: deleted")
    said.extend(_untag(tools, group, described) if whole else ())
    return tuple(said)


def _untag(tools: Tools, group: AwsGroup, described: Json) -> Iterator[str]:
    """Take away what we noted on the group itself."""
    ours = [k for k in tags_of(described) if k == OWNER or k.startswith((f"{BASELINE}.", f"{PRELOAD}."))]
    if ours:
        about = {"ResourceId": group.asg, "ResourceType": "auto-scaling-group"}
        with calling(group.where):
            tools.clients.get("autoscaling", group.place).delete_tags(Tags=[{**about, "Key": k} for k in ours])
        yield f"our notes on the group: {len(ours)} deleted"


def _restore_warm(api: Any, group: AwsGroup, now: object, was: object) -> Iterator[str]:
    if now == was:
        return
    with calling(group.where):
        if isinstance(was, Mapping):
            api.put_warm_pool(AutoScalingGroupName=group.asg, **was)
        else:
            api.delete_warm_pool(AutoScalingGroupName=group.asg, ForceDelete=False)
    yield f"WarmPool: {now} -> {was}"


def _warm(described: Json) -> dict[str, object] | None:
    """The warm pool's settings as `put_warm_pool` takes them."""
    found = described.get("WarmPoolConfiguration")
    if not found:
        return None
    prepared = found.get("MaxGroupPreparedCapacity")
    return {
        "MaxGroupPreparedCapacity": -1 if prepared is None else int(prepared),
        "MinSize": int(found.get("MinSize") or 0),
        "PoolState": str(found.get("PoolState", "Stopped")),
        "InstanceReusePolicy": {"ReuseOnScaleIn": bool((found.get("InstanceReusePolicy") or {}).get("ReuseOnScaleIn"))},
    }


def lease(tools: Tools, group: AwsGroup, described: Json, until: datetime) -> None:
    """One scheduled action puts the counts back at `until`; written again it is renewed.

    What they were is noted on the group itself before the first raise, so that any controller knows it. The action
    lowers desired blindly, and so ends nodes that nobody protects: `tend` keeps the busy ones protected. It cannot
    name the warm pool, which stays as large as it was.

    Raises:
        PoolError: it failed.
    """
    claim(tools, group, described)
    was = noted_counts(described)
    if gather(BASELINE, tags_of(described)) is None:
        _tag(tools, group, spread(BASELINE, was), propagate=False)
    _put_lease(tools, group, until, was)


def noted_counts(described: Json) -> Mapping[str, Any]:
    """The counts before our first raise, as noted on the group; as they are, if there was none."""
    return gather(BASELINE, tags_of(described)) or {k: int(described[k]) for k in _COUNTS}


def claim(tools: Tools, group: AwsGroup, described: Json) -> None:
    """Note on the group which preprov raises it.

    Raises:
        PoolError: it failed.
    """
    me = tools.owner()
    if me and tags_of(described).get(OWNER) != me:
        _tag(tools, group, {OWNER: me}, propagate=False)


def strangers(tools: Tools, owners: Iterable[str]) -> tuple[str, ...]:
    """Other preprovs among these."""
    me = tools.owner()
    return tuple(f"{ANOTHER_PREPROV} ({o})" for o in sorted({o for o in owners if o and o != me}))


def write_floor(tools: Tools, group: AwsGroup, least: int) -> None:
    """Set the least size of the group.

    Raises:
        PoolError: it failed.
    """
    with calling(group.where):
        tools.clients.get("autoscaling", group.place).update_auto_scaling_group(
            AutoScalingGroupName=group.asg, MinSize=least
        )


def renew(tools: Tools, group: AwsGroup) -> list[str]:
    """Renew the lease if there is one and half of it is over; a line if it was.

    Raises:
        PoolError: it failed.
    """
    until = tools.clock.now() + timedelta(seconds=group.pool.lease_s)
    api = tools.clients.get("autoscaling", group.place)
    for action in _scheduled(api, group):
        ends: datetime = action["StartTime"]
        if action["ScheduledActionName"] == LEASE and (until - ends).total_seconds() > group.pool.lease_s / 2:
            _put_lease(tools, group, until, action)
            return [f"{LEASE}: renewed to {until:%H:%M:%S}Z"]
    return []


def _put_lease(tools: Tools, group: AwsGroup, until: datetime, was: Mapping[str, Any]) -> None:
    with calling(group.where):
        tools.clients.get("autoscaling", group.place).put_scheduled_update_group_action(
            AutoScalingGroupName=group.asg,
            ScheduledActionName=LEASE,
            StartTime=until,
            **{k: int(was[k]) for k in _COUNTS},
        )


def other_writers(tools: Tools, group: AwsGroup, described: Json) -> tuple[str, ...]:
    """Autoscalers by their tags, scaling policies, schedules and zone rebalancing.

    Raises:
        PoolError: it could not be asked.
    """
    api = tools.clients.get("autoscaling", group.place)
    out = [who for key, who in _AUTOSCALERS.items() if any(t.startswith(key) for t in tags_of(described))]
    out += strangers(tools, [tags_of(described).get(OWNER, "")])
    with calling(group.where):
        policies = api.describe_policies(AutoScalingGroupName=group.asg)["ScalingPolicies"]
    out += [f"scaling policy {p['PolicyName']}" for p in policies if p.get("Enabled", True)]
    out += [
        f"scheduled action {a['ScheduledActionName']}"
        for a in _scheduled(api, group)
        if a["ScheduledActionName"] != LEASE
    ]
    suspended = {p["ProcessName"] for p in described.get("SuspendedProcesses", ())}
    if len(described.get("AvailabilityZones", ())) > 1 and "AZRebalance" not in suspended:
        out.append("zone rebalancing (AZRebalance)")
    return tuple(out)


def _scheduled(api: Any, group: AwsGroup) -> list[Json]:
    with calling(group.where):
        return list(api.describe_scheduled_actions(AutoScalingGroupName=group.asg)["ScheduledUpdateGroupActions"])


def note_preload(tools: Tools, group: AwsGroup, described: Json) -> None:
    """Tag the group, so that what it launches by itself knows what is to be on its disk.

    Raises:
        PoolError: it is too long, or the call failed.
    """
    notes = preload_notes(group.pool.preload, group.where)
    have = tags_of(described)
    if not notes or gather(PRELOAD, have) == gather(PRELOAD, notes):
        return
    _tag(tools, group, notes, propagate=True)


def _tag(tools: Tools, group: AwsGroup, notes: Mapping[str, str], *, propagate: bool) -> None:
    about = {"ResourceId": group.asg, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": propagate}
    with calling(group.where):
        tools.clients.get("autoscaling", group.place).create_or_update_tags(
            Tags=[{**about, "Key": k, "Value": v} for k, v in notes.items()]
        )
