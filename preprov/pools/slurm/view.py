"""From what Slurm says of a node, and its vendor of the machine behind it, to the `Node` everybody else sees."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from preprov.model.foreign import Foreign
from preprov.model.nodes import Node, Phase
from preprov.model.notes import SLURM_NODE
from preprov.model.offerings import Offering, Standby
from preprov.model.resources import Resources, sum_of
from preprov.model.time import Timescale
from preprov.pools.slurm.marks import Marks
from preprov.pools.slurm.options import SlurmGroup
from preprov.slurm.errors import SlurmError
from preprov.slurm.hostlist import expand
from preprov.slurm.records import SlurmJob, SlurmNode, gib

CLAIM: Final = "preprov:"
"""A job whose comment begins so runs a task of ours: the claimant follows."""
OURS: Final = "preprov: "
"""A reason that preprov gave to Slurm begins so."""
DRAINED: Final = f"{OURS}drain"
REFUSED: Final = f"{OURS}no machine"
_ASKED_ANEW_S: Final = 5.0
"""So long after it was kept from the idle timer Slurm may not have heard of a node again: it is there all the same."""
_GIVEN_UP: Final = "ResumeTimeout"
"""How the reason begins that Slurm itself gives a node that did not come in time."""
_CLEARED_S: Final = 60.0
"""So long after that its ResumeFailProgram has ended the machine, if it ever does."""
_SUSPENDED_S: Final = 60.0
"""So long after a node was ordered down its SuspendProgram has come to its machine, if it ever does."""
_KEPT: Final = {Phase.STOPPED: Standby.STOPPED, Phase.HIBERNATED: Standby.HIBERNATED}


@dataclass(frozen=True)
class Place:
    """One name of a group: the node of Slurm and the machine behind it, either of which may be missing.

    Attributes:
        jobs: what holds the node now. older: further machines that say they are it.
        kept_for: the reservation of Slurm's own that has it, or is about to; "" = none. taken: it has it now.
    """

    name: str
    slurm: SlurmNode | None
    machine: Node | None
    jobs: tuple[SlurmJob, ...] = ()
    older: tuple[Node, ...] = ()
    kept_for: str = ""
    taken: bool = False

    @property
    def marks(self) -> Marks:
        """Ours on it."""
        return Marks.read(self.slurm.extra if self.slurm else "")

    @property
    def kept(self) -> Standby | None:
        """The state its machine is kept in while Slurm holds it for powered down."""
        gone = self.slurm is not None and self.slurm.is_gone and not self.slurm.is_coming
        return _KEPT.get(self.machine.phase) if gone and self.machine is not None else None

    @property
    def is_free(self) -> bool:
        """True if a new node can be powered up under this name."""
        s = self.slurm
        if s is None or self.machine is not None or self.kept_for:
            return False
        return s.is_gone and not (s.is_going or s.is_coming or s.is_drained or s.is_down or s.is_used)

    @property
    def is_leaving(self) -> bool:
        """True if it is on its way out and nothing holds it: no capacity any more."""
        s = self.slurm
        if s is None or s.is_used or self.jobs:
            return False
        return self._is_suspended(s) if s.is_gone else s.is_going

    def _is_suspended(self, s: SlurmNode) -> bool:
        """True if its SuspendTimeout has run off, and a SuspendProgram that is slower is still at its machine."""
        if self.machine is None or self.machine.phase in _KEPT or s.is_coming or s.is_down:
            return False
        ordered = self.marks.going_at
        return ordered is not None and time.time() - ordered < _SUSPENDED_S

    @property
    def running(self) -> tuple[str, ...] | None:
        """Claimants of what holds it; None if Slurm says that something does, and not what."""
        if self.slurm is not None and self.slurm.is_used and not self.jobs:
            return None
        return tuple(claimant(j) for j in self.jobs)


def claimant(job: SlurmJob) -> str:
    """Ours by its comment, anybody else's by its number."""
    return job.comment.removeprefix(CLAIM) if job.comment.startswith(CLAIM) else f"slurm:{job.job_id}"


def foreign(place: Place, scale: Timescale) -> tuple[Foreign, ...]:
    """What jobs have of it that preprov has not started. Of what holds it unseen all is: ours would be seen."""
    s = place.slurm
    others = [j for j in place.jobs if not j.comment.startswith(CLAIM)]
    if s is None or not (others or (s.is_used and not place.jobs)):
        return ()
    told = tuple(_foreign(j, scale) for j in others)
    ours = sum_of(_share(j) for j in place.jobs if j.comment.startswith(CLAIM))
    given = Resources(cpu=float(s.alloc_cpus), memory=gib(s.alloc_memory_mib)).minus_clamped(ours)
    # A job of several nodes need not have the same of each.
    more = given.minus_clamped(sum_of(f.amount for f in told))
    since = min((f.since for f in told if f.since is not None), default=None)
    return told if more.is_zero else (*told, Foreign(more, since))


def _foreign(job: SlurmJob, scale: Timescale) -> Foreign:
    return Foreign(_share(job), scale.instant(job.started_at) if job.started_at is not None else None)


def _share(job: SlurmJob) -> Resources:
    """Of one of its nodes."""
    return Resources(cpu=job.cpus, memory=gib(job.memory_mib), gpu=job.gpus) * (1 / max(job.node_count, 1))


def places(
    group: SlurmGroup, nodes: Sequence[SlurmNode], jobs: Sequence[SlurmJob], machines: Sequence[Node]
) -> dict[str, Place]:
    """Every name of the group."""
    by_name = {n.name: n for n in nodes}
    holding: dict[str, list[SlurmJob]] = {}
    for job in jobs:
        for name in _nodes_of(job):
            holding.setdefault(name, []).append(job)
    behind: dict[str, list[Node]] = {}
    for m in sorted(machines, key=lambda m: m.created_at, reverse=True):
        behind.setdefault(m.tags.get(SLURM_NODE, ""), []).append(m)
    out = {}
    for name in group.names:
        mine = behind.get(name, [])
        current = mine[0] if mine else None
        out[name] = Place(name, by_name.get(name), current, tuple(holding.get(name, ())), tuple(mine[1:]))
    return out


def _nodes_of(job: SlurmJob) -> tuple[str, ...]:
    if not job.holds_nodes:
        return ()
    try:
        return expand(job.nodes)
    except SlurmError:
        return ()


def node(group: SlurmGroup, place: Place, scale: Timescale, now: datetime) -> Node | None:
    """The node as it is now; None if there is none, or it is on its way out and will not be kept."""
    s = place.slurm
    if s is None or (s.is_gone and not s.is_coming and place.machine is None):
        return None
    bare = _bare(group, place, s, scale, now)
    if place.is_leaving:
        kept = (place.marks.to or group.suspend_to) in _KEPT.values()
        return replace(bare, phase=Phase.DRAINING, settling=True, reason="on its way to standby") if kept else None
    phase, why = _phase(place, s)
    if phase in (Phase.READY, Phase.DRAINING):
        ready = _ready_at(place, s, scale, now)
        asked = place.marks.asked_at
        stages = _stages(bare, place, ready, scale.instant(asked) if asked is not None else None)
        return replace(bare, phase=phase, since=ready, ready_at=ready, stages=stages, reason=why)
    if phase in _KEPT and place.machine is not None:
        return replace(bare, phase=phase, since=place.machine.since, ready_at=place.machine.ready_at, reason=why)
    return replace(bare, phase=phase, reason=why)


def failed(group: SlurmGroup, place: Place, scale: Timescale) -> Node | None:
    """A node that did not come, of which nothing is left; None if there was none since it was last called for."""
    s, told = place.slurm, place.marks.failed
    if s is None or told is None or not s.is_gone or s.is_coming or place.machine is not None:
        return None
    return Node(
        node_id=place.name,
        pool=group.pool.name,
        group=group.group.name,
        offering=offering_of(group, s),
        phase=Phase.FAILED,
        created_at=scale.instant(told.began),
        since=scale.instant(told.at),
        token=told.token,
        reason="it did not come before Slurm's ResumeTimeout",
        came_from=told.came_from,
        address=f"slurm:{place.name}",
    )


def _phase(place: Place, s: SlurmNode) -> tuple[Phase, str]:
    """Phase, and why."""
    if place.kept is not None:
        return Phase(place.kept.value), ""
    if s.is_gone and not s.is_coming:
        if _is_given_up(s):
            return Phase.WARMING, "it did not come in time, and is being cleared up"
        return Phase.FAILED, "Slurm holds it for powered down, its machine is still there"
    if place.machine is not None and place.machine.phase is Phase.FAILED:
        return Phase.FAILED, place.machine.reason
    if s.is_down:
        return (Phase.FAILED if s.is_coming else Phase.LOST), s.reason or "Slurm has set it DOWN"
    if s.is_coming:
        return Phase.WARMING, place.machine.reason if place.machine else ""
    if s.is_drained or s.is_going:
        return Phase.DRAINING, s.reason
    if place.taken:
        return Phase.DRAINING, f"Slurm keeps it for its {place.kept_for}"
    if _is_silent(s):
        return Phase.DRAINING, "Slurm does not hear of it"
    return Phase.READY, ""


def _bare(group: SlurmGroup, place: Place, s: SlurmNode, scale: Timescale, now: datetime) -> Node:
    marks, machine = place.marks, place.machine
    asked = marks.asked_at if marks.pool else None
    begun = scale.instant(asked) if asked is not None else None
    started = scale.instant(s.started_at) if s.started_at is not None and not s.is_coming else None
    created = machine.created_at if machine else begun or started or now
    running = place.running
    if running == () and (_left_alone(s) or place.taken):
        running = None  # what somebody else drained or reserved, or Slurm lost sight of, is not ours to end
    return Node(
        node_id=place.name,
        pool=group.pool.name,
        group=group.group.name,
        offering=machine.offering if machine else offering_of(group, s),
        phase=Phase.WARMING,
        created_at=created,
        since=max(created, begun) if begun is not None else machine.since if machine else created,
        running=running,
        foreign=foreign(place, scale),
        preloaded=machine.preloaded if machine else frozenset(),
        last_seen=machine.last_seen if machine else None,
        token=marks.token,
        progress=machine.progress if machine else None,
        tags=MappingProxyType({**(machine.tags if machine else {}), **marks.tags}),
        stages=machine.stages if machine else MappingProxyType({}),
        came_from=machine.came_from if machine else Standby.COLD,
        address=f"slurm:{place.name}",
        machine=machine,
    )


def _is_given_up(s: SlurmNode) -> bool:
    """True if Slurm has just called, or is about to call, its ResumeFailProgram for it."""
    return s.is_down and s.reason.startswith(_GIVEN_UP) and time.time() - (s.reason_at or 0.0) < _CLEARED_S


def _left_alone(s: SlurmNode) -> bool:
    drained_by_others = s.is_drained and not s.is_going and not s.reason.startswith(OURS)
    return drained_by_others or (_is_silent(s) and not s.is_coming and not s.is_down)


def _is_silent(s: SlurmNode) -> bool:
    """True if Slurm does not hear of it, though it was not asked anew just now."""
    just_kept = s.state == "IDLE" and s.last_busy is not None and time.time() - s.last_busy < _ASKED_ANEW_S
    return "NOT_RESPONDING" in s.flags and not just_kept


def offering_of(group: SlurmGroup, s: SlurmNode) -> Offering:
    """The offering of a node whose machine cannot be seen: the first that has its cores."""
    fitting = [o for o in group.group.offerings if o.capacity.cpu >= s.cpus]
    return fitting[0] if fitting else group.group.offerings[0]


def _ready_at(place: Place, s: SlurmNode, scale: Timescale, now: datetime) -> datetime:
    registered = scale.instant(s.started_at) if s.started_at is not None else now
    ready = place.machine.ready_at if place.machine else None
    return max(registered, ready) if ready is not None else registered


def _stages(bare: Node, place: Place, ready: datetime, asked: datetime | None) -> Mapping[str, float]:
    """What the vendor's machine took, the joining after it, and as "allocate" what came before it."""
    machine = place.machine
    if machine is None or machine.ready_at is None:
        return MappingProxyType({})
    begun = asked if asked is not None and asked < ready else bare.created_at
    stages = dict(machine.stages)
    stages["join"] = stages.get("join", 0.0) + (ready - machine.ready_at).total_seconds()
    before = (ready - begun).total_seconds() - sum(stages.values())
    stages["allocate"] = stages.get("allocate", 0.0) + max(before, 0.0)
    return MappingProxyType({k: v for k, v in stages.items() if v > 0})
