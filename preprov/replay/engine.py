"""Play a trace against a policy on the simulated cloud and a virtual clock."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter
from types import MappingProxyType
from typing import Final

from preprov.contracts import LaunchRequest, Progress
from preprov.model.errors import PoolError
from preprov.model.plans import ActionKind, stable_id
from preprov.model.pools import Group, Mode, Pool, Preload, Standby
from preprov.model.time import epoch, from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from preprov.replay.core import NEVER, Core, Occupied
from preprov.replay.load import US, Load, capacities, make_load, most_nodes, screen
from preprov.replay.policy import DemandHistory, Order, Policy, Setting, demand_history
from preprov.replay.result import ReplayResult, Tally, collect
from preprov.replay.rooms import Rooms
from preprov.sim.cloud import Change, Faults, SimCloud
from preprov.sim.workstore import by_submit

WARM_UP_S: Final = 86_400.0
STEP_S: Final = 300.0
PATIENCE_S: Final = 7 * 86_400.0
"""After `until`, play goes on at most so long for the judged instances that have not started yet."""
_SETTLE_S: Final = 2e-6


@dataclass
class LiveView:
    """The core as policies see it."""

    core: Core
    cloud: SimCloud
    pool: Pool
    base: float

    def __post_init__(self) -> None:
        kind = self.core.rooms.kinds[0]
        self._cpu, self._memory = kind.cpu or math.inf, kind.memory or math.inf
        self._peaks: deque[tuple[float, float]] = deque()
        self._longest = 0.0

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.base + self.core.now / US

    @property
    def ready(self) -> int:
        """Nodes that take work."""
        return len(self.core.existing) - len(self.core.warming)

    @property
    def warming(self) -> int:
        """Nodes on their way."""
        return len(self.core.warming)

    @property
    def waiting(self) -> float:
        """Nodes' worth of demand without room."""
        return max(self.core.line.cpu / self._cpu, self.core.line.memory / self._memory)

    @property
    def used(self) -> float:
        """Nodes' worth of demand that runs."""
        return max(self.core.used_cpu / self._cpu, self.core.used_memory / self._memory)

    def standby(self, state: Standby) -> list[str]:
        """Nodes kept in that state."""
        if state in (Standby.RUNNING, Standby.COLD):
            return []
        return self.cloud.kept(self.pool, state)

    def idle(self) -> list[tuple[str, float]]:
        """(node id, seconds idle)."""
        core = self.core
        return [(core.node_ids[n], (core.now - core.rooms.idle_since[n]) / US) for n in core.rooms.idle_nodes()]

    def warming_nodes(self) -> list[str]:
        """Nodes on their way."""
        return [self.core.node_ids[n] for n in sorted(self.core.warming)]

    def peak(self, window_s: float) -> float:
        """The most that ran and waited at once within the last seconds (to the tick)."""
        self._longest = max(self._longest, window_s)
        since = self.now - window_s
        return max((p for at, p in self._peaks if at >= since), default=self.used + self.waiting)

    def close_window(self) -> None:
        """Keep the peak since the last tick, and begin anew."""
        core = self.core
        self._peaks.append((self.now, max(core.peak_cpu / self._cpu, core.peak_memory / self._memory)))
        while self._peaks and self._peaks[0][0] < self.now - self._longest - 86_400:
            self._peaks.popleft()
        core.reset_peak()


class CoreClock:
    """The core's time as a Clock. Asleep, it stands still: whatever runs inside an instant takes no time."""

    core: Core | None = None

    def __init__(self, load: Load) -> None:
        self._load = load

    def now(self) -> datetime:
        """The instant that is played."""
        return from_epoch(self._load.epoch(self.core.now if self.core else self._load.start_us))

    def sleep(self, seconds: float) -> None:
        """Return at once."""


class Stage:
    """The cloud, the clock and the policy, on the core's time."""

    def __init__(self, load: Load, pool: Pool, policy: Policy, *, seed: int = 0, faults: Faults | None = None) -> None:
        self.clock = CoreClock(load)
        self.cloud = cloud = SimCloud(self.clock, seed=seed, faults=faults or Faults())
        self._load = load
        self._pool = pool
        self._policy = policy
        self._cloud = cloud
        self._tick = load.start_us
        self._tick_us = round(policy.tick_s * US)
        self._orders = 0
        self._offering = pool.groups[0].offerings[0]
        self.tally = Tally()
        kinds = {(g.name, o.key): i for i, (g, o) in enumerate((g, o) for g in pool.groups for o in g.offerings)}

        def kind_of(node_id: str) -> int:
            m = cloud.machine(node_id)
            return kinds[m.group, m.offering.key]

        self.core = Core(load, Rooms(load.shapes, capacities(pool)), kind_of, most_nodes(pool))
        self.clock.core = self.core
        self.view = LiveView(self.core, cloud, pool, load.base)
        cloud.running = Occupied(self.core)

    def changes(self) -> list[Change]:
        """What changed among the nodes up to now."""
        # The clock has whole microseconds, an epoch second a few fewer bits: a node that is due now is due.
        self._cloud.settle(self._load.epoch(self.core.now) + _SETTLE_S)
        return self._cloud.take_changes()

    def next_change(self) -> int:
        """When the next node becomes ready."""
        due = self._cloud.next_due()
        return NEVER if due == math.inf else max(self._load.us(due), self.core.now)

    def next_tick(self) -> int:
        """When the policy acts next."""
        return self._tick

    def eager(self) -> bool:
        """True if the policy is told of uncovered work at once."""
        return self._policy.eager

    def act(self) -> list[Change]:
        """Let the policy act."""
        regular = self.core.now >= self._tick
        if regular:
            self.view.close_window()
            self._tick += self._tick_us
        began = perf_counter()
        for order in self._policy.tick(self.view.now, self.view):
            self._carry_out(order)
        self.tally.note(perf_counter() - began, regular=regular)
        return self.changes()

    def _carry_out(self, order: Order) -> None:
        pool, ids = self._pool, order.node_ids
        try:
            if order.kind is ActionKind.LAUNCH:
                self._launch(order.count)
            elif order.kind is ActionKind.START:
                self._cloud.start(pool, ids, Preload())
            else:
                calls = {
                    ActionKind.STOP: self._cloud.stop,
                    ActionKind.HIBERNATE: self._cloud.hibernate,
                    ActionKind.DRAIN: self._cloud.drain,
                    ActionKind.TERMINATE: self._cloud.terminate,
                }
                calls[order.kind](pool, ids)
        except PoolError:
            self.tally.refused += 1

    def _launch(self, count: int) -> None:
        self._orders += 1
        token = stable_id(self._policy.name, self._policy.knob, self._orders)
        room = most_nodes(self._pool) - len(self.core.existing)
        if min(count, room) > 0:
            group = self._pool.groups[0].name
            self._cloud.launch(LaunchRequest(self._pool, group, self._offering, min(count, room), token, Preload()))


def replay(
    work: WorkTable,
    pool: Pool,
    policy: Policy,
    *,
    judged_from: datetime,
    until: datetime,
    schedules: Iterable[Schedule] = (),
    lead_scale: float = 1.0,
    seed: int = 0,
    warm_up_s: float = WARM_UP_S,
    most_cores: float | None = None,
    faults: Faults | None = None,
    history: DemandHistory | None = None,
    memo: dict[tuple[object, ...], object] | None = None,
    progress: Progress | None = None,
) -> ReplayResult:
    """Play the runs of a trace under a policy; event-exact.

    Args:
        work: the whole trace with nominal timing; what lies before is the policy's history.
        pool: nodes, prices, lead times, limits.
        policy: who decides; a new object for each replay.
        judged_from: waits and money count from here on.
        until: to here; instances that would have been ready before are followed until they start.
        schedules: declared schedules that the policy may know.
        lead_scale: factor on the pool's lead times.
        seed: of the cloud's lead times and the policy's draws.
        warm_up_s: play begins so much earlier, so that no policy starts from nothing.
        most_cores: rows that want more in all are played without taking room and not judged; None = all take part.
        faults: what goes wrong in the cloud.
        history: `history_of(work, pool, most_cores)`, if it is at hand already.
        memo: of other replays of this very trace and seed; what a policy finds there it need not work out again.
        progress: told how far play is.

    Returns:
        waits, hits, money, and the timeline of nodes.
    """
    start, first, last = epoch(judged_from) - warm_up_s, epoch(judged_from), epoch(until)
    pool = scaled(pool, lead_scale)
    work, why = screen(by_submit(work), pool, most_cores)
    load = make_load(work, why, pool, start=start, judged_from=first, until=last)
    stage = Stage(load, pool, policy, seed=seed, faults=faults)
    setting = Setting(pool, start, first, last, history or history_of(work, pool, most_cores), seed)
    bind = getattr(policy, "bind", None)
    if bind is not None:
        shared = {} if memo is None else memo
        bind(Binding(work, pool, load, tuple(schedules), stage.cloud, stage.clock, stage.core, shared))
    policy.prepare(setting)
    stage.tally.begin()
    _play(stage, load, start, last, progress)
    stage.tally.end()
    return collect(load, stage.core, stage.cloud, pool, policy, stage.tally, (first, last))


def _play(stage: Stage, load: Load, start: float, last: float, progress: Progress | None) -> None:
    give_up = load.us(last + PATIENCE_S)
    end = load.us(last)
    if progress is None:
        stage.core.run(stage, end, give_up)
        return
    pieces = 100
    for i in range(1, pieces):
        stage.core.run(stage, load.start_us + (end - load.start_us) * i // pieces, 0)
        progress(i / pieces, f"{from_epoch(stage.view.now):%Y-%m-%d}")
    stage.core.run(stage, end, give_up)
    progress(1.0, "done")


@dataclass(frozen=True)
class Binding:
    """What a policy that runs the production control needs beside the view."""

    work: WorkTable
    pool: Pool
    load: Load
    schedules: Sequence[Schedule]
    cloud: SimCloud
    clock: CoreClock
    core: Core
    memo: dict[tuple[object, ...], object]


def history_of(
    work: WorkTable, pool: Pool, most_cores: float | None = None, *, step_s: float = STEP_S
) -> DemandHistory:
    """Nodes' worth of demand per step over the whole trace, as if nothing had waited; what is left out is not in it."""
    return demand_history(screen(work, pool, most_cores)[0], pool.groups[0].offerings[0].allocatable, step_s)


def scaled(pool: Pool, lead_scale: float) -> Pool:
    """The pool with its lead times scaled, its groups served by the simulated cloud, in mode full."""
    return replace(pool, mode=Mode.FULL, groups=tuple(_scaled_group(g, lead_scale) for g in pool.groups))


def _scaled_group(group: Group, lead_scale: float) -> Group:
    states = group.standby_states - {Standby.RUNNING} | {Standby.COLD}
    lead = MappingProxyType({s: group.lead_time(s).scaled(lead_scale) for s in states})
    return replace(group, provider="sim", lead=lead)
