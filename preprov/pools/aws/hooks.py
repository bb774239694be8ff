"""Lifecycle hooks: a node goes on only when its agent has verified it.

One that failed is held where it is until it is ended by name: abandoned, the group would launch another one at once,
and again, and nobody would have seen why.
"""

from collections.abc import Sequence
from typing import Final

from preprov.model.errors import ConflictError, PoolError
from preprov.model.nodes import Phase
from preprov.pools.aws.errors import calling
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.view import Seen
from preprov.pools.aws.writes import Tools

LAUNCHING: Final = "autoscaling:EC2_INSTANCE_LAUNCHING"


def complete(tools: Tools, group: AwsGroup, waiting: Sequence[Seen]) -> list[str]:
    """Say CONTINUE for verified nodes, and ask for more time for the others.

    Returns a line per word said. A node whose action was completed meanwhile is passed over.

    Raises:
        PoolError: a call failed.
    """
    said = []
    names = _names(tools, group)
    for seen in waiting:
        word = _word(seen)
        for name in names:
            if _say(tools, group, name, seen.node_id, word) and word:
                said.append(f"{seen.node_id}: {word} to {name}")
    return said


def abandon(tools: Tools, group: AwsGroup, node_id: str) -> None:
    """Have the group end a node that waits at a hook.

    Raises:
        PoolError: a call failed.
    """
    for name in _names(tools, group):
        _say(tools, group, name, node_id, "ABANDON")


def _names(tools: Tools, group: AwsGroup) -> list[str]:
    with calling(group.where):
        found = tools.clients.get("autoscaling", group.place).describe_lifecycle_hooks(AutoScalingGroupName=group.asg)
    hooks = found["LifecycleHooks"]
    return [str(h["LifecycleHookName"]) for h in hooks if h.get("LifecycleTransition") == LAUNCHING]


def _word(seen: Seen) -> str:
    """What its agent's report comes to; "" = not yet known."""
    report = seen.report
    verified = report is not None and report.health.phase == Phase.READY and not seen.lacks
    return "CONTINUE" if verified else ""


def _say(tools: Tools, group: AwsGroup, hook: str, node_id: str, word: str) -> bool:
    api = tools.clients.get("autoscaling", group.place)
    about = {"AutoScalingGroupName": group.asg, "LifecycleHookName": hook, "InstanceId": node_id}
    try:
        with calling(group.where):
            if word:
                api.complete_lifecycle_action(**about, LifecycleActionResult=word)
            else:
                api.record_lifecycle_action_heartbeat(**about)
    except ConflictError:
        raise
    except PoolError as e:
        if "No active Lifecycle Action" in e.what:
            return False
        raise
    return True
