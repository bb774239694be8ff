"""Look before anything is written: credentials, rights, the group, its hooks, and who else writes it."""

from collections.abc import Callable, Iterator
from typing import Final

from preprov.contracts import Finding
from preprov.model.errors import NotAuthorisedError, PoolError
from preprov.model.nodes import Phase
from preprov.model.pools import Mode
from preprov.pools.aws import permissions, scaling, settings
from preprov.pools.aws.actions import OBSERVE, policy
from preprov.pools.aws.clients import Json
from preprov.pools.aws.errors import calling
from preprov.pools.aws.hooks import LAUNCHING
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.view import WARM_STATES
from preprov.pools.aws.writes import Tools

_ACTS: Final = (Mode.FLOOR, Mode.FULL)


def examine(tools: Tools, group: AwsGroup) -> Iterator[Finding]:
    """Findings about one group. Writes nothing: EC2 is asked for its rights by dry runs."""
    who = _try(f"{group.where}: credentials", lambda: _who(tools, group))
    yield who
    if who.state == "bad":
        return
    yield _try(f"{group.where}: rights to look", lambda: permissions.to_look(tools, group))
    yield _try(f"{group.where}: instances", lambda: _instances(tools, group))
    if group.pool.mode in _ACTS:
        yield from _rights(tools, group)
    if group.asg:
        yield from _scaling_group(tools, group)
    else:
        yield _try(f"{group.where}: launch template", lambda: _template(tools, group, group.template_spec))
    if group.queue_url:
        yield _try(f"{group.where}: queue of notices", lambda: _queue(tools, group))


def _try(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except PoolError as e:
        return _told(what, e)


def _told(what: str, e: PoolError) -> Finding:
    """What came instead of an answer; where a right to look is lacking, with the policy that grants all of them."""
    lacks = isinstance(e, NotAuthorisedError) and "credentials" not in e.hint
    return Finding(what, "bad", e.what, f"to look, attach this policy:\n{policy(OBSERVE)}" if lacks else e.hint)


def _who(tools: Tools, group: AwsGroup) -> Finding:
    with calling(group.where):
        me = tools.clients.get("sts", group.place).get_caller_identity()
    return Finding(f"{group.where}: credentials", "ok", f"{me['Arn']} in {group.place.region}")


def _instances(tools: Tools, group: AwsGroup) -> Finding:
    found = tools.listing.alive(group.place)
    return Finding(f"{group.where}: instances", "ok", f"{len(found)} carry a pool's tag")


def _rights(tools: Tools, group: AwsGroup) -> Iterator[Finding]:
    try:
        yield from permissions.to_act(tools, group)
    except PoolError as e:
        yield _told(f"{group.where}: rights to act", e)


def _scaling_group(tools: Tools, group: AwsGroup) -> Iterator[Finding]:
    what = f"{group.where}: Auto Scaling group {group.asg}"
    try:
        asg = scaling.described(tools, group)
    except PoolError as e:
        yield _told(what, e)
        return
    yield Finding(what, "ok", f"min {asg['MinSize']}, desired {asg['DesiredCapacity']}, max {asg['MaxSize']}")
    yield _warm_pool(group, asg)
    yield _try(f"{group.where}: lifecycle hook", lambda: _hook(tools, group, asg))
    yield _try(f"{group.where}: other writers", lambda: _others(group, settings.other_writers(tools, group, asg)))


def _queue(tools: Tools, group: AwsGroup) -> Finding:
    """EventBridge puts notices there; looking takes none out."""
    names = ["QueueArn", "ApproximateNumberOfMessages"]
    with calling(group.where):
        api = tools.clients.get("sqs", group.place)
        about = api.get_queue_attributes(QueueUrl=group.queue_url, AttributeNames=names)["Attributes"]
    said = f"{about['QueueArn']}, about {about['ApproximateNumberOfMessages']} messages"
    return Finding(f"{group.where}: queue of notices", "ok", said)


def _warm_pool(group: AwsGroup, asg: Json) -> Finding:
    what, warm = f"{group.where}: warm pool", asg.get("WarmPoolConfiguration")
    wanted = {s.value for s in group.group.standby_states if s.value in (Phase.STOPPED, Phase.HIBERNATED)}
    if not warm:
        if wanted:
            return Finding(what, "bad", "none", f"the group declares {', '.join(sorted(wanted))}")
        return Finding(what, "ok", "none")
    kept = WARM_STATES.get(str(warm.get("PoolState", "Stopped")), Phase.STOPPED)
    if wanted and wanted != {kept.value}:
        return Finding(what, "bad", f"keeps {kept}", f"the group declares {', '.join(sorted(wanted))}")
    reuse = bool((warm.get("InstanceReusePolicy") or {}).get("ReuseOnScaleIn"))
    hint = "" if reuse else "without ReuseOnScaleIn no node goes back into it"
    return Finding(what, "ok" if reuse else "warn", f"keeps {kept}, {'re' if reuse else 'no re'}use", hint)


def _hook(tools: Tools, group: AwsGroup, asg: Json) -> Finding:
    api, warm = tools.clients.get("autoscaling", group.place), bool(asg.get("WarmPoolConfiguration"))
    with calling(group.where):
        hooks: list[Json] = api.describe_lifecycle_hooks(AutoScalingGroupName=group.asg)["LifecycleHooks"]
    names = [str(h["LifecycleHookName"]) for h in hooks if h.get("LifecycleTransition") == LAUNCHING]
    what = f"{group.where}: lifecycle hook"
    if names:
        return Finding(what, "ok", ", ".join(names))
    hint = f"add a hook on {LAUNCHING}: without one a node may be stopped before it was verified"
    return Finding(what, "warn" if warm else "ok", "none", hint if warm else "")


def _others(group: AwsGroup, others: tuple[str, ...]) -> Finding:
    what = f"{group.where}: other writers"
    if not others:
        return Finding(what, "ok", "none: its counts are ours alone")
    return Finding(what, "warn", ", ".join(others), "keep this pool at mode floor or below, or take them away")


def _template(tools: Tools, group: AwsGroup, spec: dict[str, str]) -> Finding:
    what = f"{group.where}: launch template"
    name = {k: v for k, v in spec.items() if k != "Version"}
    with calling(group.where):
        found = tools.clients.get("ec2", group.place).describe_launch_template_versions(
            **name, Versions=[spec["Version"]]
        )["LaunchTemplateVersions"]
    if not found:
        return Finding(what, "bad", f"no version {spec['Version']} of {group.template}", "check options")
    data: Json = found[0]["LaunchTemplateData"]
    if (data.get("MetadataOptions") or {}).get("InstanceMetadataTags") != "enabled":
        hint = "set instance_metadata_tags = enabled: agents read their orders from there"
        return Finding(what, "bad", "its nodes cannot read their tags", hint)
    return Finding(what, "ok", f"{group.template} version {found[0]['VersionNumber']}")
