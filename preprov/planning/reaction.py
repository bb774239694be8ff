"""Between plans: which kept nodes wake now and which idle ones sleep, by what the next minutes will want.

A plan says how many nodes exist and what they may cost; which of them run at this very second is decided here, at every
tick. A node is woken when the chance that it is wanted within its way to ready outweighs the price of its being early
(newsvendor), for work that waits at once; it is put away when that chance is gone for as long as waking it again pays
for, and its minimum billing is used up. So each tier is ordered for its own lead window: what the window needs is the
maximum over it of demand then less demand now.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from math import ceil
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from preprov.contracts import PriceBook
from preprov.model.plans import Action, ActionKind, stable_id
from preprov.model.pools import LeadTime, Mode, Node, Offering, Override, Phase, Pool, PoolObservation, Standby
from preprov.model.resources import KINDS, ZERO, Resources
from preprov.planning.leads import Leads
from preprov.planning.offers import relative_size
from preprov.planning.optimum import Optimum
from preprov.planning.packing import Mix
from preprov.planning.placement import nodes_for
from preprov.planning.scaledown import disruption_budget
from preprov.planning.situation import LOWER
from preprov.planning.stock import Stock
from preprov.planning.supply import billing_start, fingerprint

Array: TypeAlias = NDArray[Any]

MIN_HOLD_S: Final = 5.0
_LEVELS: Final = (0.01, 0.999)
_LATE_S: Final = 60.0
_EPS: Final = 1e-6
_HOUR: Final = 3600.0


@dataclass(frozen=True)
class Soon:
    """The next minutes.

    Attributes:
        offsets: (W,) seconds from now, ascending. rises: (S, W, 5) how much more than now is wanted then.
        surprise: nodes that demand came above what was foreseen, at the service level, as it was seen lately.
    """

    offsets: Array
    rises: Array
    surprise: int = 0


@dataclass(frozen=True)
class ReactionInputs:
    """What a reaction depends on.

    Attributes:
        used, waiting: of running work, others' too; of work that is ready and found no room on any ready node.
        overrides: floors that people asked for.
        committed: nodes that committed reservations name. optimum: of the last plan: how many nodes exist, in which
            state; None = there is none, then nothing is put away.
        idle: node -> since when it has been found superfluous. tick_s: until the next reaction.
        blocked: why nothing may be raised; "" if it may.
    """

    pool: Pool
    mode: Mode
    now: datetime
    observation: PoolObservation
    soon: Soon
    leads: Leads
    prices: PriceBook
    used: Resources = ZERO
    waiting: Resources = ZERO
    overrides: tuple[Override, ...] = ()
    committed: frozenset[str] = frozenset()
    optimum: Optimum | None = None
    idle: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    grain: Mix | None = None
    tick_s: float = 5.0
    blocked: str = ""


@dataclass(frozen=True)
class Reaction:
    """What to do now.

    Attributes:
        idle: nodes found superfluous, since when. wanted: running nodes for the window that begins.
        needed, foreseen: running nodes that work takes now; that were foreseen for the window, surprises left out.
        lead_s: length of that window.
    """

    actions: tuple[Action, ...]
    idle: Mapping[str, datetime]
    wanted: int
    needed: int
    foreseen: int
    lead_s: float


def reacts_in(pool: Pool) -> bool:
    """True if the pool's offerings are of one kind, so that one count tells what runs; else its plan decides alone."""
    offerings = [o for g in pool.groups for o in g.offerings]
    if len(offerings) == 1:
        return True
    kinds = {
        tuple(amount > 0 for k, amount in zip(KINDS, o.allocatable.as_tuple(), strict=True) if k in pool.binding)
        for o in offerings
    }
    return len(kinds) == 1


def service_level(pool: Pool, usd: float | None, cores: float) -> float:
    """Chance of being wanted, less than one, above which a node runs early: the newsvendor's ratio, or the hit rate."""
    objective = pool.objective
    if objective.hit_rate is not None:
        return objective.hit_rate
    under = objective.shortage_usd_per_core_hour * cores
    over = 1.0 if usd is None else usd
    return min(max(under / (under + over), _LEVELS[0]), _LEVELS[1])


def react(inputs: ReactionInputs) -> Reaction:
    """Wake, launch or put away. Nothing that runs work is ever put away; caps only stop raises.

    Returns:
        actions due now, in whole nodes; none if nothing is to be done.
    """
    return _Reacting(inputs).decide()


class _Reacting:
    """One reaction."""

    def __init__(self, inputs: ReactionInputs) -> None:
        self.i = inputs
        pool = inputs.pool
        self.reference = _reference(inputs)
        self.usd = inputs.prices.usd_per_hour(self.reference, inputs.now)
        self.level = service_level(pool, self.usd, self.reference.allocatable.cpu)
        # Who does not mind waiting need not pay for being early.
        self.in_time = min(max(self.level, 0.5), 0.95)
        self._ways: dict[tuple[str, int, Standby], tuple[LeadTime, float]] = {}
        self._size_of: dict[int, float] = {}
        by_phase: dict[Phase, list[Node]] = {}
        for n in inputs.observation.nodes:
            by_phase.setdefault(n.phase, []).append(n)
        self.ready = by_phase.get(Phase.READY, [])
        self.warming = [n for n in by_phase.get(Phase.WARMING, []) if self._expected(n)]
        kept = [*by_phase.get(Phase.HIBERNATED, ()), *by_phase.get(Phase.STOPPED, ())]
        self.kept = sorted(kept, key=lambda n: (self._lead(n, n.standby).median_s, n.created_at, n.node_id))
        self.settling = [n for n in inputs.observation.nodes if n.settling]
        self.busy = {n.node_id for n in self.ready if n.is_busy or n.node_id in inputs.committed}
        self.actions: list[Action] = []
        self._wanted: dict[tuple[float, float], int] = {}
        self._rise = self._rises()
        # (S, W) the most of each future up to then, in ascending order.
        self._most = np.sort(np.maximum.accumulate(self._rise, axis=1), axis=0)
        self._quickest_s = self._quickest()

    def decide(self) -> Reaction:
        lead_s = self._quickest_s
        wanted = self.wanted(lead_s + self.i.tick_s, self.level)
        have = self._sizes(self.ready) + self._sizes(self.warming)
        if not self.i.blocked and self.i.mode in (Mode.FLOOR, Mode.FULL):
            have = self._wake(have)
            self._launch(have)
        idle = self._put_away(have) if not self.actions and self.i.optimum is not None else {}
        needed, foreseen = self._busy_nodes + self._waiting_nodes, self._foreseen(lead_s + self.i.tick_s)
        return Reaction(tuple(self.actions), idle, wanted, needed, foreseen, lead_s)

    # ------------------------------------------------------------------ how many

    def _rises(self) -> Array:
        """(S, W) nodes of the reference beyond the busy ones that each future wants, room on busy ones used first."""
        i = self.i
        kinds = Counter(id(n.offering) for n in self.ready if n.node_id in self.busy)
        offerings = {id(n.offering): n.offering for n in self.ready}
        room = np.zeros(len(KINDS))
        for kind, count in kinds.items():
            room += count * np.array(offerings[kind].allocatable.as_tuple())
        room = np.maximum(room - np.array(i.used.as_tuple()), 0.0)
        # What waits has been tried on that room and did not fit.
        waits = np.array(i.waiting.as_tuple())
        wanted = np.maximum(i.soon.rises, 0.0) + waits if waits.any() else np.maximum(i.soon.rises - room, 0.0)
        return nodes_for(wanted, self.reference, i.pool.binding, i.grain)

    def wanted(self, window_s: float, level: float) -> int:
        """Running nodes that a share `level` of the futures does not exceed within the window; minima included."""
        if (window_s, level) not in self._wanted:
            inside = self._inside(window_s)
            more = max(self._rise_within(inside, level) + self.i.soon.surprise, self._waiting_nodes)
            ahead_s = float(self.i.soon.offsets[inside - 1]) if len(self.i.soon.offsets) else 0.0
            self._wanted[window_s, level] = max(self._busy_nodes + more, self._floor(ahead_s))
        return self._wanted[window_s, level]

    def _foreseen(self, window_s: float) -> int:
        """As `wanted`, by work alone and without what was added for surprises."""
        return self._busy_nodes + max(self._rise_within(self._inside(window_s), self.level), self._waiting_nodes)

    def _inside(self, window_s: float) -> int:
        """Instants up to the first at or after the window's end: what comes just before that shows only there."""
        offsets = self.i.soon.offsets
        return min(int(offsets.searchsorted(window_s)) + 1, max(len(offsets), 1))

    def _rise_within(self, inside: int, level: float) -> int:
        if not self._most.size:
            return 0
        futures = len(self._most)
        return int(self._most[min(max(ceil(level * futures - 1e-9) - 1, 0), futures - 1), inside - 1])

    @cached_property
    def _busy_nodes(self) -> int:
        return ceil(self._sizes(n for n in self.ready if n.node_id in self.busy) - _EPS)

    @cached_property
    def _waiting_nodes(self) -> int:
        if self.i.waiting.is_zero:
            return 0
        return int(nodes_for(np.array(self.i.waiting.as_tuple()), self.reference, self.i.pool.binding, self.i.grain))

    def _floor(self, ahead_s: float) -> int:
        """Nodes that have to run at some time from now until then: minima, floors by schedule, what people asked."""
        i, pool = self.i, self.i.pool
        until = i.now + timedelta(seconds=max(ahead_s, 0.0))
        floors = [sum(g.min_nodes for g in pool.groups)]
        for f in pool.floors:
            zone = ZoneInfo(f.zone or pool.zone)
            if f.window.contains(i.now.astimezone(zone)) or f.window.contains(until.astimezone(zone)):
                floors.append(f.nodes)
        floors += [o.floor for o in i.overrides if o.since <= until and o.until > i.now]
        return max(floors)

    def _quickest(self) -> float:
        states = {n.standby: n for n in self.kept}
        leads = [self._in_time_s(n, s) for s, n in states.items()]
        cold = self.i.leads(self.i.pool.groups[0].name, self.reference, Standby.COLD)
        return min([*leads, cold.quantile(self.in_time)])

    # ------------------------------------------------------------------ raises

    def _wake(self, have: float) -> float:
        """Bring back kept nodes, each for its own lead window; returns the size of what runs or is on its way then."""
        windows = {self._in_time_s(node, node.standby) + self.i.tick_s for node in self.kept}
        if all(self.wanted(window_s, self.level) <= have + _EPS for window_s in windows):
            return have
        chosen: dict[tuple[str, Standby], list[Node]] = {}
        for node in self.kept:
            state = node.standby
            if self.wanted(self._in_time_s(node, state) + self.i.tick_s, self.level) <= have + _EPS:
                continue
            chosen.setdefault((node.group, state), []).append(node)
            have += self._size(node)
        for (group, state), nodes in chosen.items():
            allowed = nodes[: self.i.pool.group(group).max_step]
            have -= self._sizes(nodes[len(allowed) :])
            self._act(ActionKind.START, group, allowed, state, f"the next {self._words()} want {self._count(have)}")
        return have

    def _launch(self, have: float) -> None:
        """Launch what neither running nor kept nodes can cover within the way from cold."""
        i, pool = self.i, self.i.pool
        if not i.observation.complete:
            return
        group = next((g for g in pool.groups for o in g.offerings if o.key == self.reference.key), pool.groups[0])
        lead = i.leads(group.name, self.reference, Standby.COLD)
        wanted = self.wanted(lead.quantile(self.in_time) + i.tick_s, self.level)
        if wanted <= have:
            return
        waking = {n for a in self.actions for n in a.node_ids}
        left = self._sizes(n for n in (*self.kept, *self.settling) if n.node_id not in waking)
        short = wanted - have - left
        there = sum(n.group == group.name for n in i.observation.nodes)
        room = min(group.max_nodes - there, pool.guards.max_nodes - len(i.observation.nodes), group.max_step)
        count = min(int(np.ceil(short - _EPS)), room)
        if count > 0:
            why = f"the next {lead.quantile(self.in_time) / 60:.0f} min want {self._count(have + left + short)}"
            self._act(ActionKind.LAUNCH, group.name, (), Standby.COLD, why, count=count)

    # ------------------------------------------------------------------ ends

    def _put_away(self, have: float) -> dict[str, datetime]:
        """Idle nodes that nobody will want for as long as waking them pays for; returns since when each is one."""
        i = self.i
        candidates = [n for n in self.ready if n.node_id not in self.busy]
        if not candidates:
            return {}
        back_s = self._back_s()
        hold = timedelta(seconds=self._hold_s(back_s))
        keep = self.wanted(back_s + i.tick_s, max(self.level, 0.5))
        idle: dict[str, datetime] = {}
        away: dict[tuple[str, Standby], list[Node]] = {}
        stock: Stock | None = None
        left = {g.name: sum(n.group == g.name for n in self.ready) for g in i.pool.groups}
        candidates.sort(key=lambda n: (i.idle.get(n.node_id, i.now), -n.created_at.timestamp(), n.node_id))
        for node in candidates:
            size = self._size(node)
            if have - size < keep - _EPS or left[node.group] <= i.pool.group(node.group).min_nodes:
                continue
            since = min(i.idle.get(node.node_id, i.now), i.now)
            idle[node.node_id] = since
            have -= size
            paid = billing_start(node) + timedelta(seconds=node.offering.minimum_billing_s)
            if i.now < max(since + hold, paid) or i.mode is not Mode.FULL:
                continue
            stock = stock or Stock(i.pool, i.observation, i.optimum, i.now)
            state = stock.next_of(node)
            if state is not None:
                away.setdefault((node.group, state), []).append(node)
                left[node.group] -= 1
        budget = disruption_budget(i.pool, i.now)
        for (group, state), nodes in away.items():
            allowed = nodes[: int(min(budget, len(nodes)))]
            budget -= len(allowed)
            if allowed:
                why = f"nothing wants it for {back_s:.0f} s, and waking it again costs less than keeping it on"
                self._act(LOWER[state], group, allowed, state, why)
        return idle

    def _back_s(self) -> float:
        """Seconds of running that putting a node away and waking it again cost."""
        offering = self.reference
        group = self.i.pool.groups[0]
        states = group.standby_states & {Standby.HIBERNATED, Standby.STOPPED} or {Standby.COLD}
        leads = [self.i.leads(group.name, offering, s).mean_s for s in states]
        return max(min(leads), offering.minimum_billing_s)

    def _hold_s(self, back_s: float) -> float:
        """Half of what waking it costs, the waiting of those included that might come all the same (ski rental)."""
        cores, price = self.reference.allocatable.cpu, self.i.pool.objective.shortage_usd_per_core_hour
        rate = 1.0 if self.usd is None else max(self.usd, _EPS)
        chance = float(np.count_nonzero(self._rise[:, -1])) / len(self._rise) if self._rise.size else 0.0
        return min(max(MIN_HOLD_S, chance * (0.5 * back_s + cores * price / rate * self._quickest_s)), _HOUR)

    # ------------------------------------------------------------------ small things

    def _expected(self, node: Node) -> bool:
        """A node on its way counts until it is far beyond what such ways take."""
        lead = self._lead(node, node.came_from)
        return (self.i.now - node.since).total_seconds() < max(2 * lead.p95_s, _LATE_S)

    def _lead(self, node: Node, state: Standby) -> LeadTime:
        return self._way(node, state)[0]

    def _in_time_s(self, node: Node, state: Standby) -> float:
        """Seconds from that state to ready, at the level of the objective."""
        return self._way(node, state)[1]

    def _way(self, node: Node, state: Standby) -> tuple[LeadTime, float]:
        """Nodes are many and their kinds few, so that each kind is looked up once."""
        kind = (node.group, id(node.offering), state)
        if kind not in self._ways:
            lead = self.i.leads(node.group, node.offering, state)
            self._ways[kind] = (lead, lead.quantile(self.in_time))
        return self._ways[kind]

    def _size(self, node: Node) -> float:
        """In nodes of the reference."""
        offering = node.offering
        if id(offering) not in self._size_of:
            self._size_of[id(offering)] = relative_size(offering, self.reference, self.i.pool.binding)
        return self._size_of[id(offering)]

    def _sizes(self, nodes: Iterable[Node]) -> float:
        return float(sum(self._size(n) for n in nodes))

    def _count(self, size: float) -> str:
        n = int(np.ceil(size - _EPS))
        return f"{n} node{'s' if n != 1 else ''} ready"

    def _words(self) -> str:
        return f"{self._quickest_s + self.i.tick_s:.0f} s"

    def _act(
        self,
        kind: ActionKind,
        group: str,
        nodes: Sequence[Node],
        state: Standby,
        why: str,
        *,
        count: int | None = None,
    ) -> None:
        i = self.i
        ids = tuple(sorted(n.node_id for n in nodes))
        n = len(ids) if count is None else count
        # A launch that is decided again before its nodes show is the same launch.
        seen = i.now.isoformat() if ids else fingerprint(i.observation)
        ends = Standby.RUNNING if kind.raises else state
        offering = nodes[0].offering.key if nodes else self.reference.key
        waits = f", {i.waiting.cpu:.3g} cores wait" if i.waiting.cpu > 0 and kind.raises else ""
        self.actions.append(
            Action(
                action_id=stable_id(i.pool.name, "reaction", kind, group, state, seen, ",".join(ids), n),
                kind=kind,
                at=i.now,
                group=group,
                count=n,
                reason=f"{kind} {n} x {offering} ({state}): {why}{waits}",
                offering=offering,
                standby_state=ends,
                node_ids=ids,
                numbers={"service_level": self.level, "surprise_nodes": float(i.soon.surprise)},
            )
        )


def _reference(i: ReactionInputs) -> Offering:
    """What is launched: the cheapest per core of what can be had; as configured where no price is known."""
    every = [(g, o) for g in i.pool.groups for o in g.offerings]
    good = [(g, o) for g, o in every if i.leads.available(g.name, o)] or every

    def price(of: tuple[Any, Offering]) -> float:
        usd = i.prices.usd_per_hour(of[1], i.now)
        return float("inf") if usd is None else usd / max(of[1].allocatable.cpu, _EPS)

    return min(good, key=price)[1]
