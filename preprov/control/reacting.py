"""The quick tick: wake, launch or put away nodes by what the next minutes want, within what the plan lets exist."""

from collections import deque
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import structlog

from preprov.control.ahead import late_within
from preprov.control.apply import apply_plan
from preprov.control.context import Context
from preprov.control.guarding import within_guards
from preprov.control.ingesting import source_age_s
from preprov.control.lately import lately
from preprov.control.observing import committed_by_node
from preprov.control.planning_facts import held_optimum, task_sizes
from preprov.control.pricing import risks
from preprov.control.sharing import limits_held
from preprov.control.soon import rises_soon
from preprov.control.trust import in_force
from preprov.model.errors import ForecastError
from preprov.model.nodes import PoolObservation
from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind, ActionRecord, CapacityPlan, stable_id
from preprov.model.pools import Mode, Pool
from preprov.model.reservations import Reservation
from preprov.model.resources import KINDS, ZERO, Resources, sum_of
from preprov.model.worktable import Array
from preprov.planning.held import foreign_by_node
from preprov.planning.leads import Leads
from preprov.planning.packing import Mix
from preprov.planning.reaction import Reaction, ReactionInputs, Soon, level_of, react
from preprov.planning.supply import fingerprint

log = structlog.get_logger(__name__)

FRESH_S: Final = 30.0
"""What the next minutes want is worked out anew after so long, or when a run came."""
_FINE_S: Final = 10.0
_COARSE_S: Final = 30.0
_NEAR_S: Final = 120.0
"""Up to here the next minutes are looked at finely: what is asleep wakes within it, what is cold comes later."""
_LEAST_S: Final = 600.0
_REMEMBER: Final = timedelta(days=7)
_SEEN_EVERY_S: Final = 15.0
_QUIET_BEFORE: Final = 1440
"""Looks of six hours."""
_VALID: Final = timedelta(seconds=60)


@dataclass
class Surprises:
    """How often demand came above what was foreseen a lead time before, as nodes; the newest week of them.

    Attributes:
        foreseen: (instant, nodes) wanted then for the window that follows. seen: (instant, nodes above it).
    """

    foreseen: deque[tuple[datetime, int]] = field(default_factory=deque)
    seen: deque[tuple[datetime, int]] = field(default_factory=deque)
    counts: dict[int, int] = field(default_factory=dict)

    def note(self, now: datetime, needed: int, wanted: int, lead_s: float) -> None:
        """Now so many nodes are needed, and so many are wanted for the window that begins."""
        if self.seen and (now - self.seen[-1][0]).total_seconds() < _SEEN_EVERY_S:
            return
        before = now - timedelta(seconds=lead_s)
        while len(self.foreseen) > 1 and self.foreseen[1][0] <= before:
            self.foreseen.popleft()
        if self.foreseen and self.foreseen[0][0] <= before:
            self._add(now, max(needed - self.foreseen[0][1], 0))
        self.foreseen.append((now, wanted))

    def _add(self, now: datetime, above: int) -> None:
        self.seen.append((now, above))
        self.counts[above] = self.counts.get(above, 0) + 1
        while self.seen[0][0] < now - _REMEMBER:
            _, old = self.seen.popleft()
            self.counts[old] -= 1

    def at(self, level: float) -> int:
        """Nodes that a share `level` of the surprises do not exceed, as if hours without any had gone before.

        So one burst after an hour of quiet does not keep nodes for all time to come.
        """
        left = (1.0 - level) * (len(self.seen) + _QUIET_BEFORE)
        for above in sorted(self.counts, reverse=True):
            left -= self.counts[above]
            if left < 0:
                return above
        return 0


@dataclass(frozen=True)
class Looked:
    """What the next minutes were found to want more than was wanted then, by work that ran or waited."""

    at: datetime
    offsets: Array
    rises: Array
    wanted: Array


def look_ahead(ctx: Context, pool: Pool, leads: Leads, wanted: Resources, *, anew: bool = False) -> Looked:
    """What the next minutes want: as found a moment ago, moved up to now, or found anew."""
    now, key = ctx.clock.now(), (pool.name, "soon")
    held = ctx.memo.get(key)
    if held is not None and not anew:
        looked = held[1]
        if isinstance(looked, Looked) and timedelta(0) <= now - looked.at < timedelta(seconds=FRESH_S):
            return looked
    cold = max(leads(g.name, o, Standby.COLD).p95_s for g in pool.groups for o in g.offerings)
    end = max(cold + 2 * FRESH_S, _LEAST_S)
    offsets = np.concatenate([np.arange(_FINE_S, _NEAR_S, _FINE_S), np.arange(_NEAR_S, end + _COARSE_S, _COARSE_S)])
    looked = Looked(now, offsets, _rises(ctx, pool, offsets), np.array(wanted.as_tuple()))
    ctx.memo[key] = (now, looked)
    return looked


def _rises(ctx: Context, pool: Pool, offsets: Array) -> Array:
    """What is known to come; nothing where that cannot be said: what waits and runs is seen all the same."""
    try:
        return rises_soon(ctx, pool, offsets)
    except ForecastError as error:
        log.error("nothing_foreseen", pool=pool.name, why=error.what)
        return np.zeros((1, len(offsets), len(KINDS)))


def reaction(
    ctx: Context,
    pool: Pool,
    observation: PoolObservation,
    leads: Leads,
    *,
    waiting: Resources = ZERO,
    used: Resources | None = None,
    tick_s: float,
    blocked: str = "",
    anew: bool = False,
) -> Reaction:
    """What to do now; nothing is done. What came above what was foreseen is noted.

    Args:
        used: by running work; None = what committed reservations claim.
        tick_s: until the next reaction. blocked: why nothing may be raised. anew: look at the work again in any case.
    """
    now = ctx.clock.now()
    reservations = ctx.ports.ledger.reservations(pool.name)
    held = committed_by_node(reservations)
    used = _claimed(held) if used is None else used
    wanted = used + waiting
    looked = look_ahead(ctx, pool, leads, wanted, anew=anew)
    past = (now - looked.at).total_seconds()
    # Work that has ended since wants nothing any more, and what has begun is no rise any more.
    rises = looked.rises + (looked.wanted - np.array(wanted.as_tuple()))
    seen = _surprises(ctx, pool)
    inputs = ReactionInputs(
        pool=pool,
        mode=in_force(ctx, pool),
        now=now,
        observation=observation,
        soon=Soon(looked.offsets - past, rises),
        leads=leads,
        prices=ctx.prices,
        used=used + sum_of(foreign_by_node(observation, reservations).values()),
        waiting=waiting,
        overrides=ctx.ports.intent.overrides(pool.name, now),
        committed=frozenset(held),
        optimum=held_optimum(ctx, pool),
        risks=risks(ctx, pool, leads, now),
        idle=ctx.ports.votes.votes(pool.name),
        grain=_grain(ctx, pool),
        tick_s=tick_s,
        blocked=blocked,
        late_usd=late_within(ctx, pool, float(looked.offsets[-1])),
        lately=lambda: lately(ctx, pool, observation),
    )
    above = seen.at(level_of(inputs))
    found = react(replace(inputs, soon=replace(inputs.soon, surprise=above)) if above else inputs)
    seen.note(now, found.needed, found.foreseen, found.lead_s)
    return found


def _grain(ctx: Context, pool: Pool) -> Mix | None:
    """Which sizes of tasks run side by side lately; None if none did."""
    kinds = task_sizes(ctx, pool, ctx.clock.now()).kinds
    key = (pool.name, "grain")
    held = ctx.memo.get(key)
    if held is None or held[1][0] is not kinds:  # type: ignore[index]
        ctx.memo[key] = held = (ctx.clock.now(), (kinds, Mix.of(kinds)))
    return held[1][1]  # type: ignore[index,no-any-return]


def _surprises(ctx: Context, pool: Pool) -> Surprises:
    """What is remembered of them by this process."""
    key = (pool.name, "surprises")
    held = ctx.memo.get(key)
    if held is None:
        ctx.memo[key] = held = (ctx.clock.now(), Surprises())
    return held[1]  # type: ignore[return-value]


def carry_out(
    ctx: Context,
    pool: Pool,
    observation: PoolObservation,
    done: Reaction,
    *,
    kinds: Container[ActionKind] = frozenset(ActionKind),
) -> tuple[ActionRecord, ...]:
    """Keep it as a plan of its own, so that it can be asked why, and do it."""
    votes = ctx.ports.votes.votes(pool.name)
    ready = {n.node_id for n in observation.nodes if n.standby is Standby.RUNNING and not n.is_busy}
    kept = {n: at for n, at in votes.items() if n not in ready} | dict(done.idle)
    if kept != dict(votes):
        ctx.ports.votes.replace(pool.name, kept)
    if any(a.kind.raises for a in done.actions):
        with limits_held(ctx, pool):
            return _done(ctx, pool, observation, done, kinds)
    return _done(ctx, pool, observation, done, kinds)


def _done(
    ctx: Context, pool: Pool, observation: PoolObservation, done: Reaction, kinds: Container[ActionKind]
) -> tuple[ActionRecord, ...]:
    """As much of the reaction as the guards let through."""
    now = ctx.clock.now()
    trimmed = (within_guards(ctx, pool, a, observation) for a in done.actions)
    actions = tuple(a for a in trimmed if a is not None)
    if not actions:
        return ()
    told = done.explain(actions)
    plan = CapacityPlan(
        plan_id=stable_id(pool.name, "reaction", now.isoformat(), *(a.action_id for a in actions)),
        pool=pool.name,
        mode=in_force(ctx, pool),
        issued_at=now,
        valid_until=now + _VALID,
        actions=told.actions,
        cost_usd=told.usd,
        node_hours=told.node_hours,
        expected_wait_core_hours=told.wait_core_h,
        observed=fingerprint(observation),
        alternatives=told.alternatives,
        basis={"solver": "reaction", "wanted": done.wanted},
    )
    ctx.ports.plans.save(plan)
    return apply_plan(ctx, pool, plan, observation, kinds=kinds)


def why_blocked(ctx: Context, pool: Pool) -> str:
    """Why nothing may be raised now; "" if it may."""
    halted = ctx.ports.intent.halted()
    if halted:
        return f"halted: {halted}"
    mode = in_force(ctx, pool)
    if mode not in (Mode.FLOOR, Mode.FULL):
        return f"mode is {mode}"
    if mode is Mode.FLOOR and not pool.window.contains(ctx.clock.now().astimezone(ZoneInfo(pool.zone))):
        return "outside the pool's window (mode floor)"
    age, most = source_age_s(ctx, pool.name), pool.guards.stale_source_s
    return f"the source of work is {age:.0f} s old (stale_source {most:.0f} s)" if age > most else ""


def _claimed(held: Mapping[str, list[Reservation]]) -> Resources:
    total = np.zeros(len(KINDS))
    for claims in held.values():
        for r in claims:
            total += np.max([s.amount.as_tuple() for s in r.segments], axis=0)
    return Resources.of(total.tolist())
