"""End what an Auto Scaling group has beyond a count: idle nodes by name, and failed ones that its hooks still hold."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from preprov.model.nodes import Node, Phase
from preprov.model.notes import PROTECTED
from preprov.pools.aws import hooks
from preprov.pools.aws.clients import Json
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.view import Member, Seen, node
from preprov.pools.aws.writes import Tools


class Ending(Protocol):
    """The group whose nodes are ended."""

    def described(self) -> Json:
        """As Auto Scaling describes it, now."""
        ...

    def members(self) -> dict[str, Member]:
        """Its instances, those of the warm pool too."""
        ...

    def protect(self, ids: Sequence[str], *, on: bool) -> None:
        """Protect nodes in service from scale-in, or not."""
        ...

    def check_end(self, seen: Mapping[str, Seen]) -> None:
        """All these nodes run nothing and begin nothing any more."""
        ...

    def terminate(self, seen: Mapping[str, Seen]) -> None:
        """End nodes for which `check_end` has been called."""
        ...


def end_surplus(
    scaling: Ending, tools: Tools, group: AwsGroup, wanted: int, held: Collection[str]
) -> tuple[list[str], int]:
    """End idle nodes in service beyond a count; busy ones are protected, and lose that when they are idle.

    Args:
        scaling: the group. tools: its own. group: its options.
        wanted: nodes in service that are to be left.
        held: nodes that work is promised to: they count as busy.

    Returns:
        What was done, and how many nodes stay beyond the count because they work.

    Raises:
        PoolError: one could not be ended.
    """
    desired = int(scaling.described()["DesiredCapacity"])
    seen, nodes = _here(scaling, tools, group)
    for node_id in [i for i, s in seen.items() if _is_warm(s) and _failed(nodes.get(i))]:
        hooks.abandon(tools, group, node_id)
    serving = {i: s for i, s in seen.items() if not _is_warm(s)}
    idle = [i for i in serving if (n := nodes.get(i)) is not None and not n.is_busy and i not in held]
    working = [i for i, s in serving.items() if i not in idle and s.member and s.member.lifecycle == "InService"]
    scaling.protect([i for i in working if not _protected(serving[i])], on=True)
    scaling.protect([i for i in idle if _protected(serving[i]) and PROTECTED in serving[i].tags], on=False)
    named = {i: serving[i] for i in idle[: max(desired - wanted, 0)]}
    said = []
    if named:
        scaling.check_end(named)
        scaling.terminate(named)
        said.append(f"ended, idle: {', '.join(named)}")
    left = max(desired - wanted - len(named), 0)
    if left:
        said.append(f"{left} nodes still run tasks and stay, protected: give it back again when they are idle")
    return said, left


def _here(scaling: Ending, tools: Tools, group: AwsGroup) -> tuple[Mapping[str, Seen], Mapping[str, Node | None]]:
    """Members in service, on their way to it, or held by a hook."""
    members = {
        i: m for i, m in scaling.members().items() if m.waits or m.lifecycle.startswith(("InService", "Pending"))
    }
    listed = tools.listing.of_ids(group.place, members)
    seen = {i: Seen.of(group, x, members[i]) for i, x in listed.items()}
    return seen, {i: node(s, tools.heard, tools.clock.now()) for i, s in seen.items()}


def _is_warm(seen: Seen) -> bool:
    return seen.member is not None and seen.member.is_warm


def _protected(seen: Seen) -> bool:
    return seen.member is not None and seen.member.protected


def _failed(found: Node | None) -> bool:
    return found is not None and found.phase is Phase.FAILED
