"""Plans: immutable lists of actions, each with an id, a reason and a cost."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from preprov.model.offerings import Standby
from preprov.model.pools import Mode


class ActionKind(StrEnum):
    """What is done to nodes."""

    LAUNCH = "launch"
    START = "start"
    HIBERNATE = "hibernate"
    STOP = "stop"
    DRAIN = "drain"
    TERMINATE = "terminate"
    HOLD = "hold"
    RESIZE = "resize"
    """What a running task may use is changed."""
    SHARE = "share"
    """A task goes beside others whose peaks are not expected to meet its own."""
    PROBE = "probe"
    """A task is tried on a sample before it is given its room, or is not because that would not pay."""
    MOVE = "move"
    """A running task is told to keep what it has done, and goes on elsewhere."""
    ODD = "odd"
    """A run has ended that used what is not usual; nothing is done, but nothing is learnt from it."""

    @property
    def raises(self) -> bool:
        """True if it adds running capacity."""
        return self in (ActionKind.LAUNCH, ActionKind.START)


def stable_id(*parts: object) -> str:
    """16 hex digits that depend on the parts only: the same decision has the same id, so that it is done once."""
    return hashlib.sha256("\x1f".join(str(p) for p in parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Action:
    """One step on one group.

    Attributes:
        at: when to do it. count: how many nodes. node_ids: which ones, where it names them.
        standby_state: state the nodes end in (LAUNCH, START: running; STOP: stopped; TERMINATE: cold). A LAUNCH that
            ends elsewhere is made by the vendor, which keeps so many more in that state.
        cost_usd: what it adds (+) or saves (-) over the plan's horizon; None = no price known.
        numbers: the figures behind the reason, for `why` and for machines.
        task: the claimant that it is about; "" = nodes.
    """

    action_id: str
    kind: ActionKind
    at: datetime
    group: str
    count: int
    reason: str
    offering: str = ""
    standby_state: Standby = Standby.RUNNING
    node_ids: tuple[str, ...] = ()
    cost_usd: float | None = None
    numbers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    task: str = ""

    def as_dict(self) -> dict[str, object]:
        """For JSON: at, kind, count, group, offering, standby_state, reason, cost_usd and more."""
        return {
            "action_id": self.action_id,
            "at": self.at.isoformat(),
            "kind": str(self.kind),
            "count": self.count,
            "group": self.group,
            "offering": self.offering,
            "standby_state": str(self.standby_state),
            "node_ids": list(self.node_ids),
            "reason": self.reason,
            "cost_usd": self.cost_usd,
            "numbers": dict(self.numbers),
        }


@dataclass(frozen=True, slots=True)
class Target:
    """How many nodes of a group should be in a standby state from an instant on."""

    at: datetime
    group: str
    standby_state: Standby
    count: int


@dataclass(frozen=True, slots=True)
class Alternative:
    """A course not taken, with what it would have cost."""

    name: str
    cost_usd: float | None
    wait_core_hours: float
    why_not: str


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """What to do on a pool, and why.

    Attributes:
        valid_until: applying it later is refused as stale.
        forecast_id: the demand it was made for.
        observed: fingerprint of the observation it was made on; a different one at apply time makes it stale.
        cost_usd: expected cost over the horizon (None = no price known, see node_hours).
        fallback: why it was made without the optimiser; "" if it was not.
        basis: how it was made: solver, gap, seconds, whether solved anew and why. No part of its identity.
    """

    plan_id: str
    pool: str
    mode: Mode
    issued_at: datetime
    valid_until: datetime
    actions: tuple[Action, ...]
    targets: tuple[Target, ...] = ()
    cost_usd: float | None = None
    node_hours: float = 0.0
    expected_wait_core_hours: float = 0.0
    forecast_id: str = ""
    observed: str = ""
    alternatives: tuple[Alternative, ...] = ()
    notes: tuple[str, ...] = ()
    fallback: str = ""
    basis: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def due(self, now: datetime) -> tuple[Action, ...]:
        """Actions whose time has come, HOLD left out."""
        return tuple(a for a in self.actions if a.at <= now and a.kind is not ActionKind.HOLD)


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """One audit row: an action, who decided it, and what came of it.

    Attributes:
        result: "done", "failed", "skipped", "recommended", "guarded" (a guard said no) or "intended" (written before
            the call, so that a crash between call and answer is found again by its token; once more if it was
            carried out in part, with what is missing as the detail).
    """

    action: Action
    pool: str
    plan_id: str
    actor: str
    at: datetime
    result: str
    detail: str = ""
    node_ids: tuple[str, ...] = ()
