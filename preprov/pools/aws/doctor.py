"""Look before anything is written: credentials, rights, the group, its hooks, and who else writes it."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from preprov.contracts import Finding
from preprov.model.errors import NotAuthorisedError, PoolError
from preprov.model.pools import Mode, Phase
from preprov.pools.aws import settings
from preprov.pools.aws.actions import OBSERVE, policy
from preprov.pools.aws.clients import Json
from preprov.pools.aws.errors import calling
from preprov.pools.aws.hooks import LAUNCHING
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.view import WARM_STATES
from preprov.pools.aws.writes import Tools

_NOBODY: Final = "i-00000000000000000"
_ACTS: Final = (Mode.FLOOR, Mode.FULL)


def examine(tools: Tools, group: AwsGroup) -> Iterator[Finding]:
    """Findings about one group. Writes nothing: EC2 is asked for its rights by dry runs."""
    who = _try(f"{group.where}: credentials", lambda: _who(tools, group))
    yield who
    if who.state == "bad":
        return
    yield _try(f"{group.where}: instances", lambda: _instances(tools, group))
    if group.pool.mode in _ACTS:
        yield _try(f"{group.where}: rights to act", lambda: _rights(tools, group))
    if group.asg:
        yield from _scaling_group(tools, group)
    else:
        yield _try(f"{group.where}: launch template", lambda: _template(tools, group, group.template_spec))


def _try(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except NotAuthorisedError as e:
        reads = "" if "credentials" in e.hint else f"; to look, attach this policy:\n{policy(OBSERVE)}"
        return Finding(what, "bad", e.what, f"{e.hint}{reads}")
    except PoolError as e:
        return Finding(what, "bad", e.what, e.hint)


def _who(tools: Tools, group: AwsGroup) -> Finding:
    with calling(group.where):
        me = tools.clients.get("sts", group.place).get_caller_identity()
    return Finding(f"{group.where}: credentials", "ok", f"{me['Arn']} in {group.place.region}")


def _instances(tools: Tools, group: AwsGroup) -> Finding:
    found = tools.listing.alive(group.place)
    return Finding(f"{group.where}: instances", "ok", f"{len(found)} carry a pool's tag")


def _rights(tools: Tools, group: AwsGroup) -> Finding:
    """Dry runs of EC2's writes; Auto Scaling has none, its rights show when it is first written."""
    ec2: Any = tools.clients.get("ec2", group.place)
    some = {"InstanceIds": [_NOBODY], "DryRun": True}
    tags = {"Resources": [_NOBODY], "Tags": [{"Key": "preprov:pool"}], "DryRun": True}
    tries: dict[str, Callable[[], object]] = {
        "ec2:CreateTags": lambda: ec2.create_tags(**{**tags, "Tags": [{"Key": "preprov:pool", "Value": "x"}]}),
        "ec2:DeleteTags": lambda: ec2.delete_tags(**tags),
        "ec2:StartInstances": lambda: ec2.start_instances(**some),
        "ec2:StopInstances": lambda: ec2.stop_instances(**some),
        "ec2:TerminateInstances": lambda: ec2.terminate_instances(**some),
    }
    lacking = tuple(action for action, call in tries.items() if not _granted(call, group))
    what = f"{group.where}: rights to act"
    if lacking:
        return Finding(what, "bad", f"missing: {', '.join(lacking)}", f"attach this policy:\n{policy(lacking)}")
    return Finding(what, "ok", "EC2 grants them; Auto Scaling cannot be asked without writing")


def _granted(call: Callable[[], object], group: AwsGroup) -> bool:
    """False if the dry run was refused; any other refusal comes after the right was found."""
    try:
        with calling(group.where):
            call()
    except NotAuthorisedError:
        return False
    except PoolError:
        return True
    return True


def _scaling_group(tools: Tools, group: AwsGroup) -> Iterator[Finding]:
    what = f"{group.where}: Auto Scaling group {group.asg}"
    api = tools.clients.get("autoscaling", group.place)
    try:
        with calling(group.where):
            found = api.describe_auto_scaling_groups(AutoScalingGroupNames=[group.asg])["AutoScalingGroups"]
            hooks = api.describe_lifecycle_hooks(AutoScalingGroupName=group.asg)["LifecycleHooks"] if found else []
        if not found:
            yield Finding(what, "bad", "there is none", "check options.asg and the region")
            return
        others = settings.other_writers(tools, group, found[0])
    except PoolError as e:
        yield Finding(what, "bad", e.what, e.hint)
        return
    asg: Json = found[0]
    yield Finding(what, "ok", f"min {asg['MinSize']}, desired {asg['DesiredCapacity']}, max {asg['MaxSize']}")
    yield _warm_pool(group, asg)
    yield _hook(group, hooks, bool(asg.get("WarmPoolConfiguration")))
    yield _others(group, others)


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


def _hook(group: AwsGroup, hooks: list[Json], warm: bool) -> Finding:
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
