"""Nodes as they are observed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from preprov.model.agent import Gpu
from preprov.model.foreign import Foreign
from preprov.model.offerings import Offering, Standby


class Phase(StrEnum):
    """Where a node is on its way, as observed."""

    WARMING = "warming"
    """Launched or started, not yet ready: booting, unpacking, staging, being checked."""
    READY = "ready"
    """Verified; can take a task now."""
    DRAINING = "draining"
    """Takes no new work; what runs there ends by itself."""
    HIBERNATED = "hibernated"
    STOPPED = "stopped"
    FAILED = "failed"
    """Failed its check or never answered; it is never handed out."""
    LOST = "lost"
    """Exists, but its agent has not answered within its time to live."""


# Asked for every node at every tick; looking a member up by its name takes several times as long.
_RUNNING: Final = Standby.RUNNING
_KEPT_IN: Final = {Phase.HIBERNATED: Standby.HIBERNATED, Phase.STOPPED: Standby.STOPPED}


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a pool, as observed now.

    Attributes:
        since: when it entered its phase. created_at: when it was launched (billing starts here).
        running: ids of task runs its agent reports (`run_id/task_id#instance`); None = not observed, treated as busy.
        foreign: what of it work holds that preprov has not started; None = its provider cannot tell (see
            `control.foreign`).
        preloaded: digests and dataset keys verified on its disk.
        token: idempotency token of the launch that made it.
        devices: GPUs that its agent sees; None = nobody can tell.
        settling: DRAINING because it is on its way into standby, not because anybody drained it.
        machine: of a vendor's, where this is a cluster's node on it and it can be seen.
    """

    node_id: str
    pool: str
    group: str
    offering: Offering
    phase: Phase
    created_at: datetime
    since: datetime
    ready_at: datetime | None = None
    running: tuple[str, ...] | None = ()
    foreign: tuple[Foreign, ...] | None = None
    preloaded: frozenset[str] = frozenset()
    last_seen: datetime | None = None
    token: str = ""
    progress: float | None = None
    reason: str = ""
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    stages: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Seconds spent per stage of its last warming: allocate, boot, image, data, join."""
    came_from: Standby = Standby.COLD
    """The state its last warming began in; with `stages`, one lead-time observation."""
    address: str = ""
    settling: bool = False
    devices: tuple[Gpu, ...] | None = None
    machine: "Node | None" = None

    @property
    def standby(self) -> Standby:
        """The standby state this node is kept in (a warming node is on its way to RUNNING)."""
        return _KEPT_IN.get(self.phase, _RUNNING)

    @property
    def is_busy(self) -> bool:
        """True if a task runs there, or nobody can say that none does."""
        return self.running is None or bool(self.running)


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """What exists, asked of the provider at an instant; nothing here is remembered.

    Attributes:
        complete: False if a group could not be listed; absent nodes then prove nothing.
        withheld: group -> how many nodes it could have that do not exist and that somebody else keeps for himself.
        failed: nodes that did not come and are gone already: no supply and no cost, but learnt from.
    """

    pool: str
    at: datetime
    nodes: tuple[Node, ...]
    complete: bool = True
    problems: tuple[str, ...] = ()
    withheld: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    failed: tuple[Node, ...] = ()

    def in_phase(self, *phases: Phase) -> tuple[Node, ...]:
        """The nodes in any of these phases."""
        return tuple(n for n in self.nodes if n.phase in phases)
