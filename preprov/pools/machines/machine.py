"""From a machine, as any cloud shows it, and what its agent noted, to a `Node`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from threading import Lock
from typing import Final

from preprov.model.agent import Health
from preprov.model.nodes import Node, Phase
from preprov.model.notes import CREATED, DRAIN, OFFERING, PRELOAD, STARTED, TOKEN, Report, gather, ours
from preprov.model.offerings import CapacityType, Offering, Standby
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.model.time import epoch, from_epoch

_SKEW_S: Final = 30.0
"""A report this much older than the start of its machine may still be of this run: clocks differ."""


class State(StrEnum):
    """Where a machine is, in words that all clouds share."""

    STARTING = "starting"
    RUNNING = "running"
    SLIPPING = "slipping"
    """On its way into standby."""
    HIBERNATED = "hibernated"
    STOPPED = "stopped"
    BROKEN = "broken"
    """The cloud could not make or start it, and does not try again."""
    ENDING = "ending"


AWAKE: Final = frozenset({State.STARTING, State.RUNNING})


@dataclass(frozen=True)
class Machine:
    """A machine as its cloud shows it now.

    Attributes:
        node_id: its name, by which all verbs know it.
        notes: what the controller wrote, and the tags of its launch.
        report: what its agent said last, of whichever run.
        started_at: of its present run. since: when it entered its state.
        reason: what the cloud says is wrong with it.
    """

    node_id: str
    state: State
    instance_type: str
    zone: str
    created_at: datetime
    started_at: datetime
    since: datetime
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    notes: Mapping[str, str] = field(default_factory=dict)
    report: Report | None = None
    address: str = ""
    reason: str = ""

    @property
    def awake(self) -> bool:
        """True if an agent may run on it, or soon will."""
        return self.state in AWAKE

    @property
    def said(self) -> Report | None:
        """What its agent said in this run; None if it said nothing yet."""
        if self.report is None or self.report.health.at < epoch(self.run_since) - self._tolerance_s:
            return None
        return self.report

    @property
    def run_since(self) -> datetime:
        """When its present run began, as far as anyone has noted."""
        noted = instant(self.notes.get(STARTED))
        return max(self.started_at, noted) if noted else self.started_at

    @property
    def _tolerance_s(self) -> float:
        return 0.0 if STARTED in self.notes else _SKEW_S

    @property
    def lacks(self) -> frozenset[str]:
        """Keys it was told to hold and has not verified."""
        wanted = gather(PRELOAD, self.notes) or {}
        keys = frozenset(str(i["key"]) for kind in ("images", "datasets") for i in wanted.get(kind, ()))
        return keys - (verified(self.said.health) if self.said else frozenset())


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


def instant(text: str | None) -> datetime | None:
    """An instant as it is noted; None if there is none or it cannot be read."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def verified(health: Health) -> frozenset[str]:
    """Image digests and dataset keys that the agent has checked."""
    return frozenset(
        (p.digest or p.key) if p.kind == "image" else p.key for p in health.preload if p.state == "verified"
    )


def node(pool: Pool, group: Group, machine: Machine, heard: Heard, now: datetime) -> Node | None:
    """The node as of `now`; None if it is ending."""
    if machine.state is State.ENDING:
        return None
    bare = _bare(pool, group, machine)
    if machine.state is State.BROKEN:
        return replace(bare, phase=Phase.FAILED, reason=machine.reason or "the cloud could not start it")
    if machine.state is State.SLIPPING:
        return replace(bare, phase=Phase.DRAINING, settling=True, reason="on its way to standby")
    if machine.state in (State.HIBERNATED, State.STOPPED):
        return replace(bare, phase=Phase(machine.state.value))
    return _awake(bare, machine, heard, now, pool.node_ttl_s)


def _awake(bare: Node, machine: Machine, heard: Heard, now: datetime, ttl_s: float) -> Node:
    report = machine.said
    if report is None:
        silent_s = (now - machine.run_since).total_seconds()
        if silent_s > ttl_s:
            return replace(bare, phase=Phase.LOST, running=None, reason=f"no word from its agent in {silent_s:.0f} s")
        return replace(bare, reason=machine.reason or "its agent has not reported yet")
    told = _told(bare, report)
    now_s = epoch(now)
    odd = abs(now_s - report.health.at) > ttl_s
    silent_s = heard.silent_s(machine.node_id, report.health.at, now_s)
    if odd and silent_s > ttl_s:
        return replace(told, phase=Phase.LOST, running=None, reason=f"its agent has been silent for {silent_s:.0f} s")
    if odd:
        return replace(told, running=None, reason="its last report is old, or its clock is wrong")
    return _handed_over(told, machine)


def _handed_over(told: Node, machine: Machine) -> Node:
    """Ready means verified."""
    if told.phase is not Phase.READY:
        return told
    if machine.lacks:
        return replace(told, phase=Phase.WARMING, reason=f"not verified yet: {', '.join(sorted(machine.lacks))[:200]}")
    return replace(told, phase=Phase.DRAINING) if DRAIN in machine.notes else told


def _told(bare: Node, report: Report) -> Node:
    h = report.health
    ready_at = from_epoch(h.ready_at) if h.ready_at is not None else None
    return replace(
        bare,
        phase=Phase(h.phase),
        since=ready_at or bare.since,
        ready_at=ready_at,
        running=tuple(t.claimant for t in h.tasks if t.ended_at is None),
        preloaded=verified(h),
        last_seen=from_epoch(h.at),
        progress=h.progress if h.phase == Phase.WARMING else None,
        reason=h.reason,
        stages=dict(h.stages),
        came_from=Standby(report.came_from),
    )


def _bare(pool: Pool, group: Group, machine: Machine) -> Node:
    """What the cloud itself says."""
    said = machine.report
    waking = machine.awake and said is not None and machine.said is None
    return Node(
        node_id=machine.node_id,
        pool=pool.name,
        group=group.name,
        offering=_offering(group, machine),
        phase=Phase.WARMING,
        created_at=instant(machine.notes.get(CREATED)) or machine.created_at,
        since=max(machine.since, machine.run_since) if machine.awake else machine.since,
        foreign=(),
        preloaded=verified(said.health) if said else frozenset(),
        token=machine.notes.get(TOKEN, ""),
        tags={k: v for k, v in machine.notes.items() if not ours(k)},
        came_from=group.quickest_kept or Standby.COLD if waking else Standby(said.came_from) if said else Standby.COLD,
        address=(said.address if said else "") or machine.address,
    )


def _offering(group: Group, machine: Machine) -> Offering:
    """The group's offering it is of; one that no offering names holds nothing, so that nothing is counted on it.

    What the cloud says it is holds, for the group's template decides that, whatever was asked for; the note tells
    offerings of one type apart, and what a machine will be that the cloud does not show yet.
    """
    noted = next((o for o in group.offerings if o.key == machine.notes.get(OFFERING)), None)
    if not machine.instance_type:  # the vendor made it, if nobody noted what it is to be
        return noted or group.offerings[0]
    alike = [o for o in group.offerings if o.instance_type == machine.instance_type and o.zone in ("", machine.zone)]
    spot = machine.capacity_type is CapacityType.SPOT
    same = [o for o in alike if (o.capacity_type is CapacityType.SPOT) is spot]
    bare = Offering(machine.instance_type, Resources(), machine.zone, machine.capacity_type)
    found = same or alike or [bare]
    return noted if noted in found else found[0]
