"""Play a trace against a policy on the simulated cloud and a virtual clock."""

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter
from types import MappingProxyType
from typing import Final

import numpy as np

from preprov.contracts import LaunchRequest, Progress
from preprov.model.errors import PoolError
from preprov.model.offerings import Preload, Standby
from preprov.model.plans import ActionKind, stable_id
from preprov.model.pools import Group, Mode, Pool
from preprov.model.time import epoch, from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from preprov.replay.books import Books, CountedRooms
from preprov.replay.core import NEVER, Core, Occupied
from preprov.replay.installation import ALONE, Installation
from preprov.replay.lanes import Lane, Place, lanes_for
from preprov.replay.load import US, Load, capacities, make_load, most_nodes, screen
from preprov.replay.policy import DemandHistory, Order, Policy, Setting, demand_history
from preprov.replay.result import ReplayResult, Tally, collect
from preprov.replay.rooms import Rooms
from preprov.replay.views import LaneView, LiveView
from preprov.sim.cloud import Change, Faults, SimCloud
from preprov.sim.workstore import by_submit

WARM_UP_S: Final = 86_400.0
STEP_S: Final = 300.0
PATIENCE_S: Final = 7 * 86_400.0
"""After `until`, play goes on at most so long for the judged instances that have not started yet."""
_SETTLE_S: Final = 2e-6


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


@dataclass(frozen=True)
class Player:
    """A policy, what it sees, and what is launched for it: the first place as long as it can be had, then the next."""

    policy: Policy
    view: LiveView
    places: tuple[Place, ...]


class Stage:
    """The cloud, the clock and the policies, one for each lane, on the core's time."""

    def __init__(
        self,
        load: Load,
        pool: Pool,
        policies: Sequence[Policy],
        lanes: Sequence[Lane],
        *,
        seed: int = 0,
        faults: Faults | None = None,
    ) -> None:
        self.clock = CoreClock(load)
        self.cloud = cloud = SimCloud(self.clock, seed=seed, faults=faults or Faults())
        self._load = load
        self._pool = pool
        self._cloud = cloud
        self._tick = load.start_us
        self._tick_us = round(policies[0].tick_s * US)
        self._eager = policies[0].eager
        self._orders = 0
        self.tally = Tally()
        kinds = {(g.name, o.key): i for i, (g, o) in enumerate((g, o) for g in pool.groups for o in g.offerings)}
        books = _books(load, pool, lanes, kinds) if len(kinds) > 1 and len(lanes) else None

        def kind_of(node_id: str) -> int:
            m = cloud.machine(node_id)
            return kinds[m.group, m.offering.key]

        holds = capacities(pool)
        rooms = Rooms(load.shapes, holds) if books is None else CountedRooms(load.shapes, holds, books)
        self.core = Core(load, rooms, kind_of, most_nodes(pool), books)
        self.clock.core = self.core
        if books is None:
            first = (pool.groups[0].name, pool.groups[0].offerings[0])
            self._players = [Player(policies[0], LiveView(self.core, cloud, pool, load.base), (first,))]
        else:
            self._players = [
                Player(policy, LaneView(self.core, cloud, pool, load.base, books, i, lane.places), lane.places)
                for i, (policy, lane) in enumerate(zip(policies, lanes, strict=True))
            ]
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
        return self._eager

    def act(self) -> list[Change]:
        """Let the policy act."""
        regular = self.core.now >= self._tick
        if regular:
            for player in self._players:
                player.view.close_window()
            self._tick += self._tick_us
        began = perf_counter()
        for player in self._players:
            for order in player.policy.tick(player.view.now, player.view):
                self._carry_out(player, order)
        self.tally.note(perf_counter() - began, regular=regular)
        return self.changes()

    def _carry_out(self, player: Player, order: Order) -> None:
        pool, ids = self._pool, order.node_ids
        try:
            if order.kind is ActionKind.LAUNCH:
                self._launch(player, order.count)
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

    def _launch(self, player: Player, count: int) -> None:
        self._orders += 1
        token = stable_id(player.policy.name, player.policy.knob, self._orders)
        missing = min(count, most_nodes(self._pool) - len(self.core.existing))
        refusal: PoolError | None = None
        for i, (group, offering) in enumerate(player.places):
            if missing <= 0:
                return
            request = LaunchRequest(self._pool, group, offering, missing, f"{token}-{i}" if i else token, Preload())
            try:
                missing -= len(self._cloud.launch(request))
            except PoolError as e:
                refusal = e
        if refusal is not None:
            raise refusal


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
    installation: Installation = ALONE,
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
        installation: what else binds the policy `preprov`.
        progress: told how far play is.

    Returns:
        waits, hits, money, and the timeline of nodes.
    """
    start, first, last = epoch(judged_from) - warm_up_s, epoch(judged_from), epoch(until)
    pool = scaled(pool, lead_scale)
    work, why = screen(by_submit(work), pool, most_cores)
    load = make_load(work, why, pool, start=start, judged_from=first, until=last)
    lanes = () if getattr(policy, "whole_pool", False) else lanes_for(work, pool)
    found = math.isnan(policy.knob)
    policies = [policy, *(deepcopy(policy) for _ in lanes[1:])]
    stage = Stage(load, pool, policies, lanes, seed=seed, faults=faults)
    shared = {} if memo is None else memo
    binding = Binding(work, pool, load, tuple(schedules), stage.cloud, stage.clock, stage.core, shared, installation)
    if sum(len(g.offerings) for g in pool.groups) > 1 and lanes:
        for mine, lane in zip(policies, lanes, strict=True):
            seen = lane.of(work)
            past = demand_history(seen, lane.places[0][1].allocatable, STEP_S)
            _brief(
                mine, replace(binding, work=seen, pool=lane.pool), Setting(lane.pool, start, first, last, past, seed)
            )
    else:
        past = history or history_of(work, pool, most_cores)
        _brief(policy, binding, Setting(pool, start, first, last, past, seed))
    stage.tally.begin()
    _play(stage, load, start, last, progress)
    stage.tally.end()
    # A count of nodes that each lane found in its own history counts in all; what was asked for holds for each.
    knob = sum(p.knob for p in policies) if found else policy.knob
    return collect(load, stage.core, stage.cloud, pool, policies, knob, stage.tally, (first, last))


def _brief(policy: Policy, binding: "Binding", setting: Setting) -> None:
    """Tell a policy what it may know before play begins."""
    bind = getattr(policy, "bind", None)
    if bind is not None:
        bind(binding)
    policy.prepare(setting)


def _books(load: Load, pool: Pool, lanes: Sequence[Lane], kinds: Mapping[tuple[str, str], int]) -> Books:
    lane_of_shape, lane_of_kind = [0] * len(load.shapes), [-1] * len(kinds)
    shape = np.array(load.shape, dtype=np.int64)
    for i, lane in enumerate(lanes):
        for s in np.unique(shape[lane.tasks[load.rows] & (shape >= 0)]).tolist():
            lane_of_shape[s] = i
        for group, offering in lane.places:
            lane_of_kind[kinds[group, offering.key]] = i
    return Books(dict(zip(load.shapes, lane_of_shape, strict=True)), capacities(pool), lane_of_kind)


def _play(stage: Stage, load: Load, start: float, last: float, progress: Progress | None) -> None:
    give_up = load.us(last + PATIENCE_S)
    end = load.us(last)
    if progress is None:
        stage.core.run(stage, end, give_up)
        return
    pieces = 100
    for i in range(1, pieces):
        stage.core.run(stage, load.start_us + (end - load.start_us) * i // pieces, 0)
        progress(i / pieces, f"{from_epoch(load.epoch(stage.core.now)):%Y-%m-%d}")
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
    installation: Installation = ALONE


def history_of(
    work: WorkTable, pool: Pool, most_cores: float | None = None, *, step_s: float = STEP_S
) -> DemandHistory:
    """Nodes' worth of demand per step over the whole trace, as if nothing had waited; what is left out is not in it."""
    return demand_history(screen(work, pool, most_cores)[0], pool.groups[0].offerings[0].allocatable, step_s)


def scaled(pool: Pool, lead_scale: float) -> Pool:
    """The pool with its lead times scaled, its groups served by the simulated cloud, in mode full and without a gate.

    A gate asks for nights that were watched before anything may be done; played is what comes after them.
    """
    groups = tuple(_scaled_group(g, lead_scale) for g in pool.groups)
    return replace(pool, mode=Mode.FULL, gate=None, groups=groups)


def _scaled_group(group: Group, lead_scale: float) -> Group:
    states = group.standby_states - {Standby.RUNNING} | {Standby.COLD}
    lead = MappingProxyType({s: group.lead_time(s).scaled(lead_scale) for s in states})
    return replace(group, provider="sim", lead=lead)
