"""An in-memory cloud that behaves: lead times, billing, standby states, refusals, faults, all repeatable by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from typing import Any

from preprov.contracts import Capabilities, Clock, LaunchRequest, PriceBook
from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    NodeBusyError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
    ThrottledError,
)
from preprov.model.foreign import Foreign
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Pool
from preprov.model.time import epoch, from_epoch
from preprov.sim.billing import Bill, Stretch, make_bill, stretches
from preprov.sim.machines import FOREVER, RUNNING_PHASES, Machine, drawn_lead_s, uniform

_KEPT = {Phase.HIBERNATED: Standby.HIBERNATED, Phase.STOPPED: Standby.STOPPED}
_SERVING = (Phase.READY, Phase.DRAINING)


@dataclass(frozen=True, slots=True)
class Shortage:
    """An offering of which no more than `available` machines exist over [since, until); offering "*" = all."""

    since: datetime
    until: datetime
    offering: str = "*"
    available: int = 0


@dataclass(frozen=True, slots=True)
class Wave:
    """At an instant the cloud takes back a share of its running machines of a capacity type ("*" = of all)."""

    at: datetime
    share: float
    capacity_type: str = "spot"


@dataclass(frozen=True)
class Faults:
    """What goes wrong, on purpose.

    Attributes:
        launch_failures: share of launches whose machine never becomes ready but FAILED, drawn by token.
        shortages: offerings that run out. outages: (since, until) in which every call raises ThrottledError.
        waves: interruptions; which machines is drawn by their id.
        api_latency_s: each call takes so long on the cloud's clock.
        listing_lag_s: a new machine is not listed before it is this old.
    """

    launch_failures: float = 0.0
    shortages: tuple[Shortage, ...] = ()
    outages: tuple[tuple[datetime, datetime], ...] = ()
    waves: tuple[Wave, ...] = ()
    api_latency_s: float = 0.0
    listing_lag_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """A machine entered a phase; None = it is gone, `taken` if the cloud took it back. `at` in epoch seconds."""

    at: float
    node_id: str
    phase: Phase | None
    taken: bool = False


@dataclass
class SimCloud:
    """A PoolProvider in memory, on a clock.

    Lead times are drawn lognormal by (seed, token, place in the token), so that the same decisions meet the same luck.
    Machines are billed from launch, or from their start out of standby, until they stop, each time at least the
    offering's minimum. A machine for which `running` names a task is never stopped, hibernated or ended.

    Attributes:
        clock: says what time it is. seed: of all draws. faults: what goes wrong; may be replaced at any time.
        prices: None = as the offerings and groups say.
        running: node_id -> claimants on it; whoever plays the scheduler keeps it.
        foreign: node_id -> what others hold of it; whoever plays them keeps it.
    """

    clock: Clock
    seed: int = 0
    name: str = "sim"
    faults: Faults = field(default_factory=Faults)
    prices: PriceBook | None = None
    running: Mapping[str, Sequence[str]] = field(default_factory=dict)
    foreign: dict[str, tuple[Foreign, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._machines: dict[str, Machine] = {}
        self._alive: dict[str, dict[str, Machine]] = {}
        self._tokens: dict[tuple[str, str], list[str]] = {}
        self._pools: dict[str, Pool] = {}
        self._warming: list[tuple[float, int, str]] = []
        self._changes: list[Change] = []
        self._waves_over: set[Wave] = set()

    # ------------------------------------------------------------------ the provider

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """As the group declares; leases are not simulated, and nobody is told of an interruption beforehand."""
        g = pool.group(group)
        return Capabilities(
            standby_states=g.standby_states,
            mixes_states=g.mixes_states,
            chooses_offering=g.chooses_offering,
            chooses_zone=g.chooses_zone,
            leases=False,
            preloads=True,
            interrupts=False,
        )

    def observe(self, pool: Pool) -> PoolObservation:
        """All machines of the pool that exist, by order of launch."""
        now = self._enter(pool)
        oldest = now - self.faults.listing_lag_s
        nodes = tuple(m.shown or self._node(m, now) for m in self._of(pool).values() if m.launched <= oldest)
        return PoolObservation(pool.name, from_epoch(now), nodes)

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """Begin to launch what the token still lacks.

        Raises:
            InsufficientCapacityError: there is no such machine now.
            QuotaExceededError: the group is at its max_nodes.
            ThrottledError: an outage is on.
        """
        now = self._enter(request.pool)
        made = self._tokens.setdefault((request.pool.name, request.token), [])
        missing = request.count - len(made)
        if missing > 0:
            try:
                allowed = self._allowed(request, missing, now)
            except PoolError:
                if not made:
                    raise
                allowed = 0  # what the token has already is its answer
            for _ in range(allowed):
                made.append(self._launch_one(request, len(made), now))
            self.settle(now)
        return tuple(made)

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """Bring machines back from standby; one that runs or warms is left alone.

        Raises:
            NotFoundError: some are gone; the others are started all the same.
        """
        now = self._enter(pool)
        alive, missing = self._of(pool), []
        for node_id in node_ids:
            m = alive.get(node_id)
            if m is None:
                missing.append(node_id)
            elif m.phase in _KEPT:
                m.preload = m.preload.merged(preload)
                lead = pool.group(m.group).lead_time(_KEPT[m.phase])
                m.warm(now, drawn_lead_s(lead, self.seed, m.node_id, m.starts))
                heappush(self._warming, (m.due, m.number, node_id))
                self._changes.append(Change(now, node_id, Phase.WARMING))
        self.settle(now)
        if missing:
            raise NotFoundError(f"no node {', '.join(missing)}", where=pool.name)

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """Suspend idle machines.

        Raises:
            NodeBusyError: one runs a task; nothing was done.
            NotFoundError: one is gone; nothing was done.
            PoolError: the group cannot hibernate.
        """
        self._keep(pool, node_ids, Phase.HIBERNATED)

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """Stop idle machines, disk kept. Errors as for `hibernate`."""
        self._keep(pool, node_ids, Phase.STOPPED)

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """The machines take no new task.

        Raises:
            NotFoundError: some are gone; the others drain all the same.
        """
        now = self._enter(pool)
        alive = self._of(pool)
        for m in (alive[i] for i in node_ids if i in alive):
            m.drains = True
            if m.phase is Phase.READY:
                self._move(m, Phase.DRAINING, now)
        missing = [i for i in node_ids if i not in alive]
        if missing:
            raise NotFoundError(f"no node {', '.join(missing)}", where=pool.name)

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """End idle machines and their disks; absent ones are fine.

        Raises:
            NodeBusyError: one runs a task; nothing was done.
        """
        now = self._enter(pool)
        alive = self._of(pool)
        self._refuse_busy(pool, node_ids)
        for node_id in node_ids:
            m = alive.pop(node_id, None)
            if m is not None:
                m.ended, m.due = now, FOREVER
                self._changes.append(Change(now, node_id, None))

    # ------------------------------------------------------------------ for those who drive it

    def lose(self, node_id: str) -> None:
        """The machine's agent falls silent for good; the machine itself stays and is billed."""
        now = self._enter(None)
        m = self._machines[node_id]
        m.due = FOREVER
        self._move(m, Phase.LOST, now)

    def next_due(self) -> float:
        """Epoch seconds of what happens next by itself: a warming that ends, an interruption; inf if nothing does."""
        while self._warming and self._machines[self._warming[0][2]].due != self._warming[0][0]:
            heappop(self._warming)
        wave = self._next_wave()
        return min(self._warming[0][0] if self._warming else FOREVER, epoch(wave.at) if wave else FOREVER)

    def settle(self, until: float) -> None:
        """Let everything happen that is due by then."""
        while (due := self.next_due()) <= until:
            wave = self._next_wave()
            if wave is not None and epoch(wave.at) <= due:
                self._take_back(wave)
                continue
            at, _, node_id = heappop(self._warming)
            phase = self._machines[node_id].finish_warming()
            self._changes.append(Change(at, node_id, phase))

    def _next_wave(self) -> Wave | None:
        if not self.faults.waves:
            return None
        return min((w for w in self.faults.waves if w not in self._waves_over), key=lambda w: w.at, default=None)

    def _take_back(self, wave: Wave) -> None:
        """Which machines go depends on the seed and their ids; what runs on them is nobody's to ask."""
        self._waves_over.add(wave)
        at = epoch(wave.at)
        for alive in self._alive.values():
            hit = [
                m
                for m in alive.values()
                if m.phase in RUNNING_PHASES
                and wave.capacity_type in ("*", str(m.offering.capacity_type))
                and uniform(self.seed, m.node_id, wave.at.isoformat()) < wave.share
            ]
            for m in hit:
                del alive[m.node_id]
                m.ended, m.due = at, FOREVER
                self._changes.append(Change(at, m.node_id, None, taken=True))

    def take_changes(self) -> list[Change]:
        """Changes of phase since the last call, in the order in which they came about."""
        out, self._changes = self._changes, []
        return out

    def kept(self, pool: Pool, state: Standby) -> list[str]:
        """Ids of the machines kept in that standby state, oldest first."""
        return [m.node_id for m in self._of(pool).values() if _KEPT.get(m.phase) is state]

    def machine(self, node_id: str) -> Machine:
        """The machine of that id, ended ones too (KeyError if there never was one)."""
        return self._machines[node_id]

    def machines(self, pool: str | None = None) -> tuple[Machine, ...]:
        """All machines there ever were, by order of launch."""
        return tuple(m for m in self._machines.values() if pool in (None, m.pool))

    def stretches(self, until: datetime | None = None, pool: str | None = None) -> tuple[Stretch, ...]:
        """What is billed up to an instant (now, if none is given), machine by machine."""
        last = epoch(until or self.clock.now())
        self.settle(last)
        return tuple(s for m in self.machines(pool) for s in stretches(m, last, self._pools.get(m.pool), self.prices))

    def bill(self, until: datetime | None = None, *, since: datetime | None = None, pool: str | None = None) -> Bill:
        """The bill over [since, until); from the beginning and up to now, if nothing else is said."""
        last = epoch(until or self.clock.now())
        return make_bill(self.stretches(until, pool), epoch(since) if since else -FOREVER, last)

    # ------------------------------------------------------------------ inside

    def _enter(self, pool: Pool | None) -> float:
        """Take the call: latency, outage, and the world brought up to now; returns epoch seconds."""
        if self.faults.api_latency_s > 0:
            self.clock.sleep(self.faults.api_latency_s)
        instant = self.clock.now()
        if pool is not None:
            self._pools[pool.name] = pool
            if any(a <= instant < b for a, b in self.faults.outages):
                raise ThrottledError(f"{self.name} does not answer", where=pool.name, hint="the next pass tries again")
        now = epoch(instant)
        self.settle(now)
        return now

    def _of(self, pool: Pool) -> dict[str, Machine]:
        return self._alive.setdefault(pool.name, {})

    def _move(self, m: Machine, phase: Phase, now: float) -> None:
        m.enter(phase, now)
        self._changes.append(Change(now, m.node_id, phase))

    def _allowed(self, request: LaunchRequest, missing: int, now: float) -> int:
        """How many of the missing machines can be had."""
        group = request.pool.group(request.group)
        alive = self._of(request.pool).values()
        in_group = sum(1 for m in alive if m.group == group.name)
        if in_group >= group.max_nodes:
            raise QuotaExceededError(f"group {group.name} is at its {group.max_nodes} nodes", where=request.pool.name)
        allowed = min(missing, group.max_nodes - in_group)
        key, instant = request.offering.key, from_epoch(now)
        for s in self.faults.shortages:
            if s.since <= instant < s.until and s.offering in ("*", key):
                of_kind = sum(1 for m in alive if s.offering == "*" or m.offering.key == key)
                allowed = min(allowed, max(s.available - of_kind, 0))
        if allowed < 1:
            raise InsufficientCapacityError(f"no {key} to be had", where=request.pool.name, hint="another offering")
        return allowed

    def _launch_one(self, request: LaunchRequest, index: int, now: float) -> str:
        number = len(self._machines)
        node_id = f"{self.name}-{number:06d}"
        lead = request.pool.group(request.group).lead_time(Standby.COLD)
        m = Machine(
            node_id=node_id,
            number=number,
            pool=request.pool.name,
            group=request.group,
            offering=request.offering,
            token=request.token,
            preload=request.pool.preload.merged(request.preload),
            launched=now,
            due=FOREVER,
            fails=uniform(self.seed, request.token, index, "fails") < self.faults.launch_failures,
            phases=[(now, Phase.WARMING)],
            tags=dict(request.tags),
        )
        m.lead_s = drawn_lead_s(lead, self.seed, request.token, index)
        m.due = now + m.lead_s
        self._machines[node_id] = m
        self._of(request.pool)[node_id] = m
        heappush(self._warming, (m.due, number, node_id))
        self._changes.append(Change(now, node_id, Phase.WARMING))
        return node_id

    def _keep(self, pool: Pool, node_ids: Sequence[str], phase: Phase) -> None:
        """Put machines into a kept state, all or none."""
        now = self._enter(pool)
        alive = self._of(pool)
        missing = [i for i in node_ids if i not in alive]
        if missing:
            raise NotFoundError(f"no node {', '.join(missing)}", where=pool.name)
        self._refuse_busy(pool, node_ids)
        machines = [alive[i] for i in node_ids]
        for m in machines:
            if _KEPT[phase] not in pool.group(m.group).standby_states:
                raise PoolError(f"group {m.group} keeps no {phase} nodes", where=pool.name)
            if m.phase in (Phase.FAILED, Phase.LOST):
                raise ConflictError(f"node {m.node_id} is {m.phase}", where=pool.name)
        for m in machines:
            if m.phase is not phase:
                m.due, m.drains = FOREVER, False
                self._move(m, phase, now)

    def _refuse_busy(self, pool: Pool, node_ids: Sequence[str]) -> None:
        busy = [i for i in node_ids if self.running.get(i)]
        if busy:
            raise NodeBusyError(f"{', '.join(busy)} runs a task", where=pool.name)

    def _node(self, m: Machine, now: float) -> Node:
        since, phase = m.phases[-1]
        lost = phase is Phase.LOST
        reachable = phase in RUNNING_PHASES and not lost
        done = 1.0 if m.due == FOREVER or m.lead_s <= 0 else 1 - (m.due - now) / m.lead_s
        m.lasting = m.lasting or _lasting(m)
        node = Node(
            **m.lasting,
            foreign=self.foreign.get(m.node_id, ()),
            running=None if lost else tuple(self.running.get(m.node_id, ())) if phase in _SERVING else (),
            last_seen=from_epoch(now if reachable else since),
            progress=done if phase is Phase.WARMING else None,
        )
        if phase in _KEPT:
            m.shown = node
        return node


def _lasting(m: Machine) -> dict[str, Any]:
    """What is the same of its node until it moves."""
    since, phase = m.phases[-1]
    return {
        "node_id": m.node_id,
        "pool": m.pool,
        "group": m.group,
        "offering": m.offering,
        "phase": phase,
        "created_at": from_epoch(m.launched),
        "since": from_epoch(since),
        "ready_at": None if m.ready_at is None or m.due != FOREVER else from_epoch(m.ready_at),
        "preloaded": m.preloaded(),
        "token": m.token,
        "reason": "its check failed" if phase is Phase.FAILED else "",
        "tags": {**m.tags, "preprov-pool": m.pool},
        "stages": m.stages(),
        "came_from": m.came_from,
    }
