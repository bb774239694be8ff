"""Between plans: which kept nodes wake now and which idle ones sleep, by what the next minutes will want.

A plan says how many nodes exist and what they may cost; which of them run at this very second is decided here, at every
tick. A node is woken when the chance that it is wanted within its way to ready outweighs the price of its being early
(newsvendor), for work that waits at once; it is put away when that chance is gone for as long as waking it again pays
for, and its minimum billing is used up. So each tier is ordered for its own lead window: what the window needs is the
maximum over it of demand then less demand now.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from math import ceil
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.contracts import PriceBook
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Offering, Standby
from preprov.model.plans import Action, ActionKind, stable_id
from preprov.model.pools import Group, Mode, Override, Pool
from preprov.model.resources import KINDS, ZERO, Resources
from preprov.planning.ahead import Ahead
from preprov.planning.explaining import Decided
from preprov.planning.instead import Explained
from preprov.planning.kinds import Kinds
from preprov.planning.lately import Lately
from preprov.planning.leads import Leads
from preprov.planning.optimum import Optimum
from preprov.planning.packing import Mix
from preprov.planning.placement import nodes_for
from preprov.planning.scaledown import Return
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
        risks: (group, offering key) -> USD per running hour that interruptions cost.
        idle: node -> since when it has been found superfluous. tick_s: until the next reaction.
        blocked: why nothing may be raised; "" if it may. lately: tells what counts against ramps and disruption
            budgets.
        late_usd: USD that a core-hour of waiting in the next minutes costs on top, because runs are late then.
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
    risks: Mapping[tuple[str, str], float] = field(default_factory=lambda: MappingProxyType({}))
    idle: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    grain: Mix | None = None
    tick_s: float = 5.0
    blocked: str = ""
    late_usd: float = 0.0
    lately: Callable[[], Lately] = Lately


@dataclass(frozen=True)
class Reaction:
    """What to do now.

    Attributes:
        idle: nodes found superfluous, since when. wanted: running nodes for the window that begins.
        needed, foreseen: running nodes that work takes now; that were foreseen for the window, surprises left out.
        lead_s: length of that window.
        explain: what actions of it cost, and what else was considered; asked for where something is done.
    """

    actions: tuple[Action, ...]
    idle: Mapping[str, datetime]
    wanted: int
    needed: int
    foreseen: int
    lead_s: float
    explain: Callable[[Sequence[Action]], Explained] = field(repr=False, compare=False)


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


def service_level(pool: Pool, usd: float | None, cores: float, late_usd: float = 0.0) -> float:
    """Chance of being wanted, less than one, above which a node runs early: the newsvendor's ratio, or the hit rate.

    Args:
        late_usd: USD that a core-hour of waiting costs beside what the objective says.
    """
    objective = pool.objective
    if objective.hit_rate is not None:
        return objective.hit_rate
    under = (objective.shortage_usd_per_core_hour + late_usd) * cores
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
        self.ranked = _ranked(inputs)
        self.reference = self.ranked[0][1]
        self.usd = inputs.prices.usd_per_hour(self.reference, inputs.now)
        self.level = _level_for(inputs, self.reference)
        # Who does not mind waiting need not pay for being early.
        self.in_time = min(max(self.level, 0.5), 0.95)
        self.kinds = Kinds(pool, inputs.now, inputs.leads, inputs.prices, self.ranked, self.in_time)
        by_phase: dict[Phase, list[Node]] = {}
        for n in inputs.observation.nodes:
            by_phase.setdefault(n.phase, []).append(n)
        self.ready = by_phase.get(Phase.READY, [])
        self.warming = [n for n in by_phase.get(Phase.WARMING, []) if self._expected(n)]
        kept = [*by_phase.get(Phase.HIBERNATED, ()), *by_phase.get(Phase.STOPPED, ())]
        self.kept = sorted(kept, key=lambda n: (self.kinds.lead(n, n.standby).median_s, n.created_at, n.node_id))
        self.settling = [n for n in inputs.observation.nodes if n.settling]
        self.busy = {n.node_id for n in self.ready if n.is_busy or n.node_id in inputs.committed}
        self.actions: list[Action] = []
        self.ahead = self._ahead()
        self._quickest_s = self.kinds.quickest_s(self.kept)

    def decide(self) -> Reaction:
        lead_s = self._quickest_s
        wanted = self.wanted(lead_s + self.i.tick_s, self.level)
        have = self.kinds.sizes(self.ready) + self.kinds.sizes(self.warming)
        if not self.i.blocked and self.i.mode in (Mode.FLOOR, Mode.FULL):
            have = self._wake(have)
            self._launch(have)
        idle = self._put_away(have) if not self.actions and self.i.optimum is not None else {}
        needed = self.ahead.busy + self.ahead.waiting
        foreseen = self.ahead.foreseen(lead_s + self.i.tick_s, self.level)
        return Reaction(tuple(self.actions), idle, wanted, needed, foreseen, lead_s, self._explain)

    # ------------------------------------------------------------------ how many

    def wanted(self, window_s: float, level: float) -> int:
        """Running nodes that a share `level` of the futures does not exceed within the window; minima included."""
        return self.ahead.wanted(window_s, level)

    def _ahead(self) -> Ahead:
        i = self.i
        busy = self.kinds.sizes(n for n in self.ready if n.node_id in self.busy)
        return Ahead(
            i.pool,
            i.now,
            i.overrides,
            offsets=i.soon.offsets,
            rises=self._rises(),
            surprise=i.soon.surprise,
            busy=ceil(busy - _EPS),
            waiting=0 if i.waiting.is_zero else int(self._nodes_for(np.array(i.waiting.as_tuple()))),
        )

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
        return self._nodes_for(wanted)

    def _nodes_for(self, wanted: Array) -> Array:
        return nodes_for(wanted, self.reference, self.i.pool.binding, self.i.grain)

    # ------------------------------------------------------------------ raises

    def _wake(self, have: float) -> float:
        """Bring back kept nodes, each for its own lead window; returns the size of what runs or is on its way then."""
        windows = {self.kinds.in_time_s(node, node.standby) + self.i.tick_s for node in self.kept}
        if all(self.wanted(window_s, self.level) <= have + _EPS for window_s in windows):
            return have
        chosen: dict[tuple[str, Standby], list[Node]] = {}
        for node in self.kept:
            state = node.standby
            if self.wanted(self.kinds.in_time_s(node, state) + self.i.tick_s, self.level) <= have + _EPS:
                continue
            chosen.setdefault((node.group, state), []).append(node)
            have += self.kinds.size(node.offering)
        for (group, state), nodes in chosen.items():
            allowed = nodes[: self._steps_left(group)]
            have -= self.kinds.sizes(nodes[len(allowed) :])
            if not allowed:
                continue
            self._act(ActionKind.START, group, allowed, state, f"the next {self._words()} want {self._count(have)}")
        return have

    def _launch(self, have: float) -> None:
        """Launch what neither running nor kept nodes can cover within the way from cold: the cheapest that has room."""
        i = self.i
        windows = [self.kinds.cold_s(*which) for which in self.ranked]
        wanted = [self.wanted(window_s + i.tick_s, self.level) for window_s in windows]
        if not i.observation.complete or max(wanted) <= have:
            return
        waking = {n for a in self.actions for n in a.node_ids}
        there = have + self.kinds.sizes(n for n in (*self.kept, *self.settling) if n.node_id not in waking)
        for (group, offering), window_s, nodes in zip(self.ranked, windows, wanted, strict=True):
            size = max(self.kinds.size(offering), _EPS)
            lacking, room = ceil((nodes - there) / size - _EPS), self._room(group)
            count = min(lacking, room)
            if count > 0:
                why = f"the next {window_s / 60:.0f} min want {self._count(nodes)}"
                self._act(ActionKind.LAUNCH, group.name, (), Standby.COLD, why, count=count, offering=offering)
                there += count * size
            # What a cheaper one has room for waits for its way; only what it has none for is up to the next.
            if 0 < room >= lacking:
                return

    def _room(self, group: Group) -> int:
        """Nodes that may still be launched in a group."""
        nodes, pool = self.i.observation.nodes, self.i.pool
        launched = [a for a in self.actions if a.kind is ActionKind.LAUNCH]
        here = sum(n.group == group.name for n in nodes) + sum(a.count for a in launched if a.group == group.name)
        every = len(nodes) + sum(a.count for a in launched)
        most = min(group.max_nodes - here, pool.guards.max_nodes - every)
        return max(min(most, self._steps_left(group.name)), 0) if most > 0 else 0

    def _steps_left(self, group: str) -> int:
        """Nodes of a group that may still be raised in this minute."""
        raised = sum(a.count for a in self.actions if a.group == group)
        return self._lately.steps_left(self.i.pool.group(group)) - raised

    @cached_property
    def _lately(self) -> Lately:
        """Asked for only where something is ordered."""
        return self.i.lately()

    # ------------------------------------------------------------------ ends

    def _put_away(self, have: float) -> dict[str, datetime]:
        """Idle nodes that nobody will want for as long as waking them pays for; returns since when each is one."""
        i = self.i
        candidates = [n for n in self.ready if n.node_id not in self.busy]
        if not candidates:
            return {}
        idle: dict[str, datetime] = {}
        away: dict[tuple[str, Standby], list[Node]] = {}
        stock: Stock | None = None
        left = {g.name: sum(n.group == g.name for n in self.ready) for g in i.pool.groups}
        candidates.sort(key=lambda n: (i.idle.get(n.node_id, i.now), -n.created_at.timestamp(), n.node_id))
        for node in candidates:
            size, back = self.kinds.size(node.offering), self._return(node)
            keep = self.wanted(back.back_s + i.tick_s, max(self.level, 0.5))
            if have - size < keep - _EPS or left[node.group] <= i.pool.group(node.group).min_nodes:
                continue
            since = min(i.idle.get(node.node_id, i.now), i.now)
            idle[node.node_id] = since
            have -= size
            paid = billing_start(node) + timedelta(seconds=node.offering.minimum_billing_s)
            hold = timedelta(seconds=_hold_s(back))
            if i.now < max(since + hold, paid) or i.mode is not Mode.FULL:
                continue
            stock = stock or Stock(i.pool, i.observation, i.optimum, i.now)
            state = stock.next_of(node)
            if state is not None:
                away.setdefault((node.group, state), []).append(node)
                left[node.group] -= 1
        budget = self._lately.disruptions_left(i.pool, i.now) if away and i.pool.disruptions else float("inf")
        for (group, state), nodes in away.items():
            allowed = nodes[: int(min(budget, len(nodes)))]
            budget -= len(allowed)
            if allowed:
                back_s = self._return(allowed[0]).back_s
                why = f"nothing wants it for {back_s:.0f} s, and waking it again costs less than keeping it on"
                self._act(LOWER[state], group, allowed, state, why)
        return idle

    def _return(self, node: Node) -> Return:
        return self.kinds.back(node, self.ahead.chance, self._quickest_s)

    # ------------------------------------------------------------------ small things

    def _expected(self, node: Node) -> bool:
        """A node on its way counts until it is far beyond what such ways take."""
        lead = self.kinds.lead(node, node.came_from)
        return (self.i.now - node.since).total_seconds() < max(2 * lead.p95_s, _LATE_S)

    def _explain(self, actions: Sequence[Action]) -> Explained:
        decided = Decided(
            pool=self.i.pool,
            kinds=self.kinds,
            ahead=self.ahead,
            nodes={n.node_id: n for n in self.i.observation.nodes},
            have=self.kinds.sizes((*self.ready, *self.warming)),
            asleep=self.kinds.sizes((*self.kept, *self.settling)),
            level=self.level,
            quickest_s=self._quickest_s,
            tick_s=self.i.tick_s,
        )
        return decided.explain(actions)

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
        offering: Offering | None = None,
    ) -> None:
        i = self.i
        ids = tuple(sorted(n.node_id for n in nodes))
        n = len(ids) if count is None else count
        # A launch that is decided again before its nodes show is the same launch.
        seen = i.now.isoformat() if ids else fingerprint(i.observation)
        ends = Standby.RUNNING if kind.raises else state
        name = (offering or (nodes[0].offering if nodes else self.reference)).key
        waits = f", {i.waiting.cpu:.3g} cores wait" if i.waiting.cpu > 0 and kind.raises else ""
        self.actions.append(
            Action(
                action_id=stable_id(i.pool.name, "reaction", kind, group, state, seen, ",".join(ids), n),
                kind=kind,
                at=i.now,
                group=group,
                count=n,
                reason=f"{kind} {n} x {name} ({state}): {why}{waits}",
                offering=name,
                standby_state=ends,
                node_ids=ids,
                numbers={"service_level": self.level, "surprise_nodes": float(i.soon.surprise)},
            )
        )


def _hold_s(back: Return) -> float:
    """Seconds that an idle node is held, within reason."""
    return min(max(MIN_HOLD_S, back.hold_s), _HOUR)


def level_of(inputs: ReactionInputs) -> float:
    """The service level that a reaction goes by: of what would be launched."""
    return _level_for(inputs, _ranked(inputs)[0][1])


def _level_for(i: ReactionInputs, offering: Offering) -> float:
    return service_level(i.pool, i.prices.usd_per_hour(offering, i.now), offering.allocatable.cpu, i.late_usd)


def _ranked(i: ReactionInputs) -> list[tuple[Group, Offering]]:
    """What is launched: the cheapest per core of what can be had first; as configured where no price is known."""
    every = [(g, o) for g in i.pool.groups for o in g.offerings]
    good = [(g, o) for g, o in every if i.leads.available(g.name, o)] or every

    def price(of: tuple[Any, Offering]) -> float:
        usd = i.prices.usd_per_hour(of[1], i.now)
        risk = i.risks.get((of[0].name, of[1].key), 0.0)
        return float("inf") if usd is None else (usd + risk) / max(of[1].allocatable.cpu, _EPS)

    return sorted(good, key=price)
