"""What a policy is: it looks at the pool and at what has happened so far, and orders nodes.

A policy has one knob. Others register theirs as entry points of the group `preprov.policies`: a name and a callable
`(knob: float | None) -> Policy`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from preprov.model.offerings import LeadTime, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Pool
from preprov.model.resources import Resources
from preprov.model.worktable import Array, WorkTable


@dataclass(frozen=True, slots=True)
class Order:
    """One step a policy wants: LAUNCH wants `count`, all others name nodes."""

    kind: ActionKind
    count: int = 0
    node_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class DemandHistory:
    """Nodes' worth of demand per step, as it would have been had nothing waited.

    Attributes:
        start: epoch seconds of the first step. step_s: its length. peak: (T,) most at once within the step.
    """

    start: float
    step_s: float
    peak: Array

    def until(self, now: float) -> Array:
        """(t,) the steps that had ended by `now`."""
        return self.peak[: max(int((now - self.start) // self.step_s), 0)]


@dataclass(frozen=True)
class Setting:
    """What a policy is told before play begins.

    Attributes:
        pool: first group's first offering is what the policy orders.
        start: epoch seconds at which play begins; judged_from: at which it counts.
        history: demand so far; use `until(now)`: the rest is the future.
        seed: of every random draw.
    """

    pool: Pool
    start: float
    judged_from: float
    until: float
    history: DemandHistory
    seed: int = 0

    def lead(self, state: Standby) -> LeadTime:
        """Lead time of the first group from that state."""
        return self.pool.groups[0].lead_time(state)


class View(Protocol):
    """What a policy sees; demand is in nodes' worth of the first offering (the larger of the cpu and memory share)."""

    @property
    def now(self) -> float:
        """Epoch seconds."""
        ...

    @property
    def ready(self) -> int:
        """Nodes that take work."""
        ...

    @property
    def warming(self) -> int:
        """Nodes on their way."""
        ...

    @property
    def waiting(self) -> float:
        """Demand that is ready and has no room."""
        ...

    @property
    def used(self) -> float:
        """Demand that runs."""
        ...

    def standby(self, state: Standby) -> list[str]:
        """Nodes kept in that state, oldest first."""
        ...

    def idle(self) -> list[tuple[str, float]]:
        """(node id, seconds idle) of ready nodes that run nothing, oldest node first."""
        ...

    def warming_nodes(self) -> list[str]:
        """Nodes on their way, oldest first."""
        ...

    def peak(self, window_s: float) -> float:
        """The most that ran and waited at once within the last seconds."""
        ...


class Policy(Protocol):
    """Decides how many nodes there are.

    Attributes:
        name: as in tables. knob: the one thing that is swept.
        tick_s: seconds between ticks. eager: also asked whenever more waits than is warming.

    On a pool of several offerings a policy is played once for each lane of tasks that go on one of them, in a copy of
    its own (`replay.lanes`): it is shown that lane's nodes, demand, history and price. One that launches by itself what
    it chooses has a true attribute `whole_pool` and is played once.
    """

    name: str
    knob: float
    tick_s: float
    eager: bool

    def prepare(self, setting: Setting) -> None:
        """Called once before play."""
        ...

    def tick(self, now: float, view: View) -> Sequence[Order]:
        """What to order now."""
        ...


@dataclass
class FloorPolicy:
    """Launch on pending, end after a while of idleness, and never go below a floor of running nodes.

    The floor of this one is 0: subclasses say otherwise.

    Attributes:
        idle_s: a node that has been idle so long is ended, if the floor allows.
        keep: state that nodes above the floor are put in instead of ended, as long as fewer than `kept` are.
    """

    knob: float
    name: str = "floor"
    idle_s: float = 600.0
    tick_s: float = 60.0
    eager: bool = True
    keep: Standby = Standby.COLD
    kept: int = 0
    setting: Setting = field(init=False, repr=False)

    def prepare(self, setting: Setting) -> None:
        """Keep what it is told."""
        self.setting = setting

    def floor(self, now: float, view: View) -> float:
        """Running nodes there should be at least, demand or not."""
        return 0.0

    def tick(self, now: float, view: View) -> list[Order]:
        """Raise to what waits and to the floor; lower what has idled above it."""
        floor = math.ceil(self.floor(now, view) - 1e-9)
        pending = math.ceil(view.waiting - 1e-9)
        wanted = max(floor - view.ready, pending, 0) - view.warming
        if wanted > 0:
            return self._raise(wanted, view)
        return [*self._lower(floor, view), *self.stock(view)]

    def _raise(self, wanted: int, view: View) -> list[Order]:
        out = []
        for state in (Standby.HIBERNATED, Standby.STOPPED):
            ids = tuple(view.standby(state)[:wanted])
            if ids:
                out.append(Order(ActionKind.START, len(ids), ids))
                wanted -= len(ids)
        if wanted > 0:
            out.append(Order(ActionKind.LAUNCH, wanted))
        return out

    def _lower(self, floor: int, view: View) -> list[Order]:
        spare = view.ready + view.warming - floor
        if spare <= 0 or view.waiting > 0:
            return []
        over = [i for i, idle_s in view.idle() if idle_s >= self.idle_s][::-1][:spare]
        room = max(self.kept - len(view.standby(self.keep)), 0) if self.kept else 0
        out = []
        if over[:room]:
            out.append(Order(_KEEP[self.keep], len(over[:room]), tuple(over[:room])))
        if over[room:]:
            out.append(Order(ActionKind.TERMINATE, len(over[room:]), tuple(over[room:])))
        return out

    def stock(self, view: View) -> list[Order]:
        """Nothing, unless a subclass fills a warm pool."""
        return []


_KEEP = {Standby.STOPPED: ActionKind.STOP, Standby.HIBERNATED: ActionKind.HIBERNATE, Standby.COLD: ActionKind.TERMINATE}


def demand_levels(work: WorkTable, room: Resources) -> tuple[Array, Array]:
    """Nodes' worth of demand over time, as if nothing had waited.

    Args:
        work: nominal timing.
        room: what a node holds.

    Returns:
        (K,) epoch seconds and (K,) nodes' worth from each on, the larger of the cpu and the memory share.
    """
    start, end = work.spans()
    t = work.tasks
    n = t["instances"].to_numpy(dtype=np.float64)
    good = np.isfinite(start) & np.isfinite(end) & (end > start)
    times, place = np.unique(np.concatenate([start[good], end[good]]), return_inverse=True)
    level = np.zeros(len(times))
    for name, most in (("cpu", room.cpu), ("memory", room.memory)):
        if most > 0:
            amount = (t[name].to_numpy(dtype=np.float64) * n / most)[good]
            level = np.maximum(level, np.cumsum(np.bincount(place, np.concatenate([amount, -amount]), len(times))))
    return times, level.clip(0.0)


def demand_history(work: WorkTable, room: Resources, step_s: float) -> DemandHistory:
    """Peak nodes' worth of demand per step; arguments as for `demand_levels`."""
    times, level = demand_levels(work, room)
    if not len(times):
        return DemandHistory(0.0, step_s, np.zeros(0))
    first = math.floor(times[0] / step_s) * step_s
    step = ((times - first) // step_s).astype(np.int64)
    peak = np.zeros(int(step[-1]) + 1)
    np.maximum.at(peak, step, level)
    last = np.searchsorted(step, np.arange(len(peak)), side="left") - 1
    carried = np.where(last >= 0, level[np.maximum(last, 0)], 0.0)
    return DemandHistory(first, step_s, np.maximum(peak, carried))
