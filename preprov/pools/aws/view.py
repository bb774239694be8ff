"""From what EC2 and Auto Scaling show of an instance, and what its agent noted on it, to a `Node`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Final

from preprov.model.agent import Health
from preprov.model.nodes import Node, Phase
from preprov.model.notes import CAME_FROM, CREATED, DRAIN, OFFERING, PRELOAD, TOKEN, Report, gather, ours, read_report
from preprov.model.offerings import CapacityType, Offering, Standby
from preprov.model.resources import Resources
from preprov.model.time import epoch, from_epoch
from preprov.pools.aws.clients import Json, tags_of
from preprov.pools.aws.options import AwsGroup

_HIBERNATED: Final = "Client.UserInitiatedHibernate"
_STATED: Final = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
WARM_STATES: Final[Mapping[str, Phase]] = {
    "Stopped": Phase.STOPPED,
    "Hibernated": Phase.HIBERNATED,
    "Running": Phase.HIBERNATED,
}
"""State of a warm pool -> phase its nodes are shown in. One that keeps them running is the fastest tier below READY."""


@dataclass(frozen=True, slots=True)
class Member:
    """What Auto Scaling says of an instance. `lifecycle` as in its API; `warm`: the state its warm pool keeps."""

    instance_id: str
    lifecycle: str
    protected: bool = False
    warm: str = ""

    @property
    def is_warm(self) -> bool:
        """True if it is in the warm pool or on its way into it."""
        return self.lifecycle.startswith("Warmed:")

    @property
    def waits(self) -> bool:
        """True if it waits for the lifecycle action to be completed."""
        return self.lifecycle in ("Pending:Wait", "Warmed:Pending:Wait")

    @property
    def leaves(self) -> bool:
        """True if it is ending or no longer of the group."""
        return "Terminat" in self.lifecycle or self.lifecycle.startswith("Detach")


class Heard:
    """When a node's report last changed, on our own clock: a node whose clock is wrong is not taken for silent.

    A cache. A process that has just begun takes nobody for lost before it has listened for a node's time to live.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._last: dict[str, tuple[float, float]] = {}

    def silent_s(self, node_id: str, said_at: float, now: float) -> float:
        """Seconds since something new was heard; `said_at` is the node's own time of its last report."""
        with self._lock:
            known = self._last.get(node_id)
            if known is None or known[0] != said_at:
                self._last[node_id] = (said_at, now)
                return 0.0
            return now - known[1]

    def keep_only(self, gone: Iterable[str]) -> None:
        """Forget nodes that have ended."""
        with self._lock:
            for node_id in gone:
                self._last.pop(node_id, None)


@dataclass(frozen=True)
class Seen:
    """An instance with what is known of it.

    Attributes:
        member: None = it is in no Auto Scaling group of ours.
    """

    group: AwsGroup
    instance: Json
    member: Member | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, group: AwsGroup, instance: Json, member: Member | None = None) -> "Seen":
        """With its tags read."""
        return cls(group, instance, member, tags_of(instance))

    @property
    def node_id(self) -> str:
        """The instance's id."""
        return str(self.instance["InstanceId"])

    @property
    def state(self) -> str:
        """As EC2 names it."""
        return str(self.instance["State"]["Name"])

    @property
    def hibernated(self) -> bool:
        """True if it was last stopped with its memory kept."""
        return str(self.instance.get("StateReason", {}).get("Code", "")) == _HIBERNATED

    @property
    def started_at(self) -> datetime:
        """Of its present run."""
        at: datetime = self.instance["LaunchTime"]
        return at.astimezone(UTC)

    @property
    def report(self) -> Report | None:
        """What its agent said in this run; None if it said nothing yet.

        By the node's own clock: one that is behind is taken for silent a while longer, which does no harm.
        """
        said = read_report(self.tags)
        if said is None or said.health.at < epoch(self.started_at):
            return None
        return said

    @property
    def lacks(self) -> frozenset[str]:
        """Keys it was told to hold and has not verified."""
        wanted = gather(PRELOAD, self.tags) or {}
        keys = {str(i["key"]) for kind in ("images", "datasets") for i in wanted.get(kind, ())}
        return frozenset(keys - verified(self.report.health)) if self.report else frozenset(keys)


def verified(health: Health) -> frozenset[str]:
    """Image digests and dataset keys that the agent has checked."""
    return frozenset(
        (p.digest or p.key) if p.kind == "image" else p.key for p in health.preload if p.state == "verified"
    )


def node(seen: Seen, heard: Heard, now: datetime) -> Node | None:
    """The node as of `now`; None if it has ended or is ending."""
    if seen.state in ("shutting-down", "terminated") or (seen.member is not None and seen.member.leaves):
        return None
    bare = _bare(seen)
    if seen.member is not None and seen.member.is_warm:
        return _in_warm_pool(bare, seen, seen.member)
    if seen.state == "stopping":
        return replace(bare, phase=Phase.DRAINING, running=(), settling=True, reason="on its way to standby")
    if seen.state == "stopped":
        return replace(bare, phase=Phase.HIBERNATED if seen.hibernated else Phase.STOPPED)
    return _running(bare, seen, heard, now)


def _running(bare: Node, seen: Seen, heard: Heard, now: datetime) -> Node:
    report, ttl_s = seen.report, seen.group.pool.node_ttl_s
    if report is None:
        silent_s = (now - seen.started_at).total_seconds()
        if silent_s > ttl_s:
            return replace(bare, phase=Phase.LOST, running=None, reason=f"no word from its agent in {silent_s:.0f} s")
        return replace(bare, reason="its agent has not reported yet")
    told = _told(bare, report)
    now_s = epoch(now)
    said_long_ago = now_s - report.health.at > ttl_s or report.health.at > now_s + ttl_s
    silent_s = heard.silent_s(seen.node_id, report.health.at, now_s)
    if said_long_ago and silent_s > ttl_s:
        return replace(told, phase=Phase.LOST, running=None, reason=f"its agent has been silent for {silent_s:.0f} s")
    if said_long_ago:
        return replace(told, running=None, reason="its last report is old, or its clock is wrong")
    return _handed_over(replace(told, came_from=_came_from(seen, report)), seen)


def _came_from(seen: Seen, report: Report) -> Standby:
    """As its agent says; what came out of a warm pool that keeps nodes running was never down, so it is noted."""
    if seen.member is not None and seen.member.warm == "Running" and CAME_FROM in seen.tags:
        return Standby.HIBERNATED
    return Standby(report.came_from)


def _handed_over(told: Node, seen: Seen) -> Node:
    """Ready means verified, and in service where a group says so."""
    if told.phase is not Phase.READY:
        return told
    if seen.lacks:
        return replace(told, phase=Phase.WARMING, reason=f"not verified yet: {', '.join(sorted(seen.lacks))[:200]}")
    if seen.member is not None and seen.member.lifecycle != "InService":
        drains = seen.member.lifecycle in ("Standby", "EnteringStandby")
        phase = Phase.DRAINING if drains else Phase.WARMING
        return replace(told, phase=phase, ready_at=None, reason=f"{seen.member.lifecycle} in its group")
    if DRAIN in seen.tags:
        return replace(told, phase=Phase.DRAINING)
    return told


def _told(bare: Node, report: Report) -> Node:
    h = report.health
    return replace(
        bare,
        phase=Phase(h.phase),
        since=from_epoch(h.ready_at) if h.ready_at is not None else bare.since,
        ready_at=from_epoch(h.ready_at) if h.ready_at is not None else None,
        running=tuple(t.claimant for t in h.tasks if t.ended_at is None),
        preloaded=verified(h),
        last_seen=from_epoch(h.at),
        progress=h.progress if h.phase == Phase.WARMING else None,
        reason=h.reason,
        stages=dict(h.stages),
        came_from=Standby(report.came_from),
    )


def _in_warm_pool(bare: Node, seen: Seen, member: Member) -> Node:
    kept = WARM_STATES.get(member.warm, Phase.STOPPED)
    report = seen.report
    if report is not None and report.health.phase == Phase.FAILED and member.waits:
        return replace(bare, phase=Phase.FAILED, reason=report.health.reason)
    if member.lifecycle not in ("Warmed:Stopped", "Warmed:Hibernated", "Warmed:Running"):
        # nothing can be asked of it yet
        return replace(bare, phase=Phase.DRAINING, settling=True, reason="the warm pool prepares it")
    return replace(bare, phase=kept)


def _bare(seen: Seen) -> Node:
    """What EC2 itself says."""
    i, tags, said = seen.instance, seen.tags, seen.report
    since = seen.started_at if seen.state in ("pending", "running") else _changed_at(i) or seen.started_at
    return Node(
        node_id=seen.node_id,
        pool=seen.group.pool.name,
        group=seen.group.group.name,
        offering=_offering(seen),
        phase=Phase.WARMING,
        created_at=_created_at(seen),
        since=since,
        foreign=(),
        preloaded=verified(said.health) if said else frozenset(),
        token=tags.get(TOKEN, ""),
        tags={k: v for k, v in tags.items() if not ours(k)},
        came_from=Standby(said.came_from) if said else Standby.COLD,
        address=(said.address if said else "") or str(i.get("PrivateIpAddress", "")),
    )


def _changed_at(instance: Json) -> datetime | None:
    """When it stopped, which EC2 says in words."""
    found = _STATED.search(str(instance.get("StateTransitionReason", "")))
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) if found else None


def _created_at(seen: Seen) -> datetime:
    """As noted at its launch; a machine we did not launch is as old as its first disk."""
    try:
        return datetime.fromisoformat(seen.tags[CREATED]).astimezone(UTC)
    except (KeyError, ValueError):
        disks = [b["Ebs"]["AttachTime"] for b in seen.instance.get("BlockDeviceMappings", ()) if "Ebs" in b]
        return min([d.astimezone(UTC) for d in disks], default=seen.started_at)


def _offering(seen: Seen) -> Offering:
    """The group's offering it is of; one that no offering names holds nothing, so that nothing is counted on it.

    What EC2 says it is holds, for an Auto Scaling group launches what its template says, whatever was asked for; the
    note tells offerings of one type apart.
    """
    i = seen.instance
    kind = CapacityType.SPOT if i.get("InstanceLifecycle") == "spot" else CapacityType.ON_DEMAND
    type_, zone = str(i.get("InstanceType", "")), str(i.get("Placement", {}).get("AvailabilityZone", ""))
    alike = [o for o in seen.group.group.offerings if o.instance_type == type_ and o.zone in ("", zone)]
    same = [o for o in alike if (o.capacity_type is CapacityType.SPOT) is (kind is CapacityType.SPOT)]
    found = same or alike or [Offering(type_, Resources(), zone, kind)]
    return next((o for o in found if o.key == seen.tags.get(OFFERING)), found[0])
