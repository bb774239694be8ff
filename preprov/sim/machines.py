"""One simulated machine: its phases over time, and the draws that decide how long its warming takes."""

import hashlib
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

from preprov.model.nodes import Node, Phase
from preprov.model.offerings import LeadTime, Offering, Preload, Standby

FOREVER: Final = float("inf")
_NORMAL: Final = NormalDist()
# What warming spends its time on; the sum is the lead time drawn.
_STAGES: Final = {
    Standby.COLD: {"allocate": 0.1, "boot": 0.35, "image": 0.35, "data": 0.15, "join": 0.05},
    Standby.STOPPED: {"allocate": 0.2, "boot": 0.7, "join": 0.1},
    Standby.HIBERNATED: {"allocate": 0.3, "boot": 0.6, "join": 0.1},
}
RUNNING_PHASES: Final = frozenset({Phase.WARMING, Phase.READY, Phase.DRAINING, Phase.FAILED, Phase.LOST})
"""Phases in which the machine is billed as running."""


def uniform(*parts: object) -> float:
    """A number in (0, 1) that depends on the parts only, the same in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return (int.from_bytes(digest[:6]) + 0.5) / 2**48


def drawn_lead_s(lead: LeadTime, *parts: object) -> float:
    """Lognormal seconds for these parts, on a grid of microseconds."""
    if lead.median_s == 0:
        return 0.0
    return round(lead.quantile(uniform(*parts)), 6)


@dataclass(slots=True)
class Machine:
    """A simulated node.

    Attributes:
        number: order of launch, over all pools of the cloud.
        phases: (epoch s, phase) entered, oldest first. ended: epoch s, inf while it exists.
        due: when its warming ends, inf if it is not warming. fails: its warming ends in FAILED.
        shown: what was last listed of it while kept in standby: until it moves, nothing of that changes.
        lasting: what was listed of it in any phase that stays so until it moves.
    """

    node_id: str
    number: int
    pool: str
    group: str
    offering: Offering
    token: str
    preload: Preload
    launched: float
    due: float
    fails: bool
    phases: list[tuple[float, Phase]]
    tags: dict[str, str] = field(default_factory=dict)
    ended: float = FOREVER
    ready_at: float | None = None
    came_from: Standby = Standby.COLD
    lead_s: float = 0.0
    drains: bool = False
    starts: int = 0
    shown: Node | None = None
    lasting: dict[str, Any] | None = None

    @property
    def phase(self) -> Phase:
        """The phase it is in."""
        return self.phases[-1][1]

    @property
    def exists(self) -> bool:
        """False once it was terminated."""
        return self.ended == FOREVER

    def enter(self, phase: Phase, at: float) -> None:
        """Change phase."""
        self.phases.append((at, phase))
        self.shown = self.lasting = None

    def warm(self, at: float, lead_s: float) -> None:
        """Begin to come back from standby."""
        self.came_from = Standby.HIBERNATED if self.phase is Phase.HIBERNATED else Standby.STOPPED
        self.enter(Phase.WARMING, at)
        self.starts += 1
        self.lead_s = lead_s
        self.due = at + lead_s

    def finish_warming(self) -> Phase:
        """Become ready, draining or failed at `due`; returns which."""
        at, self.due = self.due, FOREVER
        if self.fails:
            phase = Phase.FAILED
        else:
            phase = Phase.DRAINING if self.drains else Phase.READY
            self.ready_at = at
        self.enter(phase, at)
        return phase

    def stages(self) -> dict[str, float]:
        """Seconds per stage of the last warming that ended; empty before."""
        if self.due != FOREVER or self.ready_at is None:
            return {}
        return {name: share * self.lead_s for name, share in _STAGES[self.came_from].items()}

    def preloaded(self) -> frozenset[str]:
        """What lies on its disk: nothing before it was ready once."""
        if self.ready_at is None:
            return frozenset()
        images = {i.digest or i.uri for i in self.preload.images}
        return frozenset(images | {d.key for d in self.preload.datasets})
