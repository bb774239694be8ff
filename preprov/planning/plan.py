"""make_plan: demand, lead times, prices and what exists become an immutable plan of actions that explain themselves."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import Final

import numpy as np

from preprov.model.plans import Action, ActionKind, CapacityPlan, Target, stable_id
from preprov.model.pools import Standby
from preprov.model.resources import Resources
from preprov.model.time import floor_to
from preprov.planning.caps import Allowance
from preprov.planning.costing import alternatives, price_moves
from preprov.planning.decide import Decision, Move, Situation, decide
from preprov.planning.inputs import PlanInputs, PlanOutcome
from preprov.planning.master import SolverError
from preprov.planning.need import Horizon, horizon_of, needed, service_level
from preprov.planning.offers import choice_of, choices, relative_size
from preprov.planning.optimise import optimise, signals_of
from preprov.planning.optimum import Optimum, moved
from preprov.planning.reasons import Words
from preprov.planning.supply import fingerprint, read_supply
from preprov.planning.trajectory import later_moves

__all__ = ["PlanInputs", "PlanOutcome", "fingerprint", "has_moved", "make_plan", "optimise_together"]

MIN_VALID_S: Final = 120.0


def make_plan(inputs: PlanInputs) -> PlanOutcome:
    """Plan one pool.

    Precedence: nothing that runs or may run work is ended > hard caps (which stop raises only) > floors > service
    level > cost. Counts are whole nodes; equal inputs give an equal plan; a pool that has what it needs gets a HOLD.

    Method: base-stock ordering. The level to order up to is a quantile over joint demand samples of the maximum over
    the lead window (newsvendor ratio or hit rate), each standby tier for its own lead; ends by ski rental with
    predictions. Actions after now are the plan as it stands and are made again next time.

    Raises:
        ConfigError: the pool's zone or a lead time is invalid.
    """
    s, basis, fallback = _optimised(situation(inputs))
    allowance = Allowance(inputs, s.supply, _rate(s))
    d = decide(s, allowance)
    later, owners = later_moves(s, d)
    costs = price_moves(s, d.moves, later, owners)
    priced = all(c.usd is not None for c in s.choices)
    words = Words(s, priced=priced)
    observed = fingerprint(inputs.observation)
    hold = words.hold(d, allowance.blocked)
    actions = _actions(s, d, later, words, observed, hold)
    plan = CapacityPlan(
        plan_id=stable_id(
            inputs.pool.name,
            inputs.now.isoformat(),
            inputs.mode,
            inputs.forecast_id,
            observed,
            *(f"{a.action_id}@{a.at.isoformat()}" for a in actions),
        ),
        pool=inputs.pool.name,
        mode=inputs.mode,
        issued_at=inputs.now,
        valid_until=inputs.now + timedelta(seconds=max(inputs.pool.step_seconds, MIN_VALID_S)),
        actions=actions,
        targets=_targets(s, d, later),
        cost_usd=costs.total if priced else None,
        node_hours=costs.node_hours,
        expected_wait_core_hours=costs.wait_core_h,
        forecast_id=inputs.forecast_id,
        observed=observed,
        alternatives=alternatives(s, costs, priced),
        notes=(*s.notes, *d.notes, *_held_back(s)),
        fallback=fallback,
        basis=basis,
    )
    return PlanOutcome(plan, d.votes, s.optimum, _binding(s, allowance))


def _binding(s: Situation, allowance: Allowance) -> tuple[str, ...]:
    """What is scarce: limits the programme met, minima apart, and guards that said no."""
    met = () if s.optimum is None else s.optimum.binding
    return tuple(dict.fromkeys((*(name for name in met if not name.startswith("min_nodes")), *allowance.short)))


def _optimised(s: Situation) -> tuple[Situation, dict[str, object], str]:
    """With the optimum held or found anew; the basis of the plan, and why it is made without one."""
    if not s.inputs.optimise:
        return s, {"solver": "greedy", "solved": False, "because": "asked for"}, ""
    if s.inputs.found is not None:
        optimum, because = s.inputs.found
        return replace(s, optimum=optimum), optimum.basis(because), ""
    held = s.inputs.held
    why = "none held" if held is None else moved(held.signals, signals_of(s))
    if held is not None and not why:
        return replace(s, optimum=held), held.basis(""), ""
    try:
        found = optimise([s])[0]
    except SolverError as e:
        reason = f"greedy: the solver found nothing ({e})"
        return s, {"solver": "greedy", "solved": False, "because": reason}, reason
    return replace(s, optimum=found), found.basis(why), ""


def _held_back(s: Situation) -> tuple[str, ...]:
    """What the programme could not do, and which limits say so."""
    optimum = s.optimum
    if optimum is None or not optimum.binding:
        return ()
    limits = ", ".join(dict.fromkeys(_short(name) for name in optimum.binding))
    return (f"held back by {limits}" + (f"; {optimum.unserved} nodes short" if optimum.unserved else ""),)


def _short(row: str) -> str:
    """The name of a row without pool, group and day; a limit across pools keeps its own name."""
    name, shared, what = row.partition(": ")
    return f"{what.split(' ')[0]} of {name}" if shared else row.split(" ")[0]


def situation(inputs: PlanInputs) -> Situation:
    """Read everything that decisions look at."""
    horizon = horizon_of(inputs)
    typical = _typical(inputs, horizon)
    ranked, notes = choices(inputs, typical)
    reference = ranked[0]
    supply = read_supply(inputs, reference.offering)
    by_offering = {c.key: c for c in ranked}
    strangers = {n.node_id for n in supply.strangers}
    for n in inputs.observation.nodes:
        if n.node_id not in strangers and (n.group, n.offering.key) not in by_offering:
            old = choice_of(inputs, inputs.pool.group(n.group), n.offering, typical)
            by_offering[old.key] = old
    level = service_level(inputs, reference)
    need = needed(inputs, horizon, supply, reference, level)
    if horizon.note:
        notes.append(horizon.note)
    sizes = {k: relative_size(c.offering, reference.offering, inputs.pool.binding) for k, c in by_offering.items()}
    return Situation(inputs, horizon, ranked, by_offering, supply, need, sizes, tuple(notes))


def _typical(inputs: PlanInputs, horizon: Horizon) -> Resources:
    """Proportions of the demand: what decides which resource binds."""
    mean = horizon.samples.mean(axis=(0, 1), dtype=np.float64)
    total = Resources.of(mean.tolist()) + inputs.waiting
    if total.is_zero:
        total = inputs.grain or inputs.largest or Resources(cpu=1.0)
    return total


def _rate(s: Situation) -> float | None:
    """USD per hour of what is billed now; None if the price of something is not known."""
    total = 0.0
    for n in s.inputs.observation.nodes:
        choice = s.by_offering.get((n.group, n.offering.key))
        usd = choice.usd if choice is not None else n.offering.usd_per_hour
        if usd is None:
            return None
        total += usd if choice is None or n.standby is Standby.RUNNING else choice.standby_usd.get(n.standby, 0.0)
    return None if s.reference.usd is None else total


def _actions(
    s: Situation, d: Decision, later: Sequence[Move], words: Words, observed: str, hold: str
) -> tuple[Action, ...]:
    out = [_action(s, m, words, observed) for m in _merged(d.moves)]
    if not out:
        out.append(_hold(s, hold, observed))
    out.extend(_action(s, m, words, observed) for m in later)
    return tuple(out)


def _merged(moves: Sequence[Move]) -> list[Move]:
    """Ends of like nodes as one move."""
    out: dict[object, Move] = {}
    for m in moves:
        key = (m.kind, m.choice.key, m.state, m.came_from, m.why, m.kind.raises and m.lo)
        if key not in out:
            out[key] = m
            continue
        first = out[key]
        out[key] = replace(
            first,
            count=first.count + m.count,
            lo=min(first.lo, m.lo),
            hi=max(first.hi, m.hi),
            node_ids=first.node_ids + m.node_ids,
            cost_usd=first.cost_usd + m.cost_usd,
        )
    return list(out.values())


def _action(s: Situation, m: Move, words: Words, observed: str) -> Action:
    pool, now = s.inputs.pool, s.inputs.now
    due = floor_to(now + timedelta(seconds=m.due_s if m.kind.raises else m.at_s), s.horizon.step_s)
    # Without the count: if the same decision grows before the provider shows its nodes, the same token asks for the
    # larger number and only the difference is launched.
    basis: tuple[object, ...] = (m.lo, observed) if m.kind.raises else (",".join(m.node_ids), m.lo, m.state)
    if m.at_s > 0:
        basis = (*basis, m.at_s)
    parts = (pool.name, m.kind, m.choice.group.name, m.choice.offering.key, m.came_from, due.isoformat(), m.why, *basis)
    return Action(
        action_id=stable_id(*parts),
        kind=m.kind,
        at=now + timedelta(seconds=m.at_s),
        group=m.choice.group.name,
        count=m.count,
        reason=words.reason(m),
        offering=m.choice.offering.key,
        standby_state=m.state,
        node_ids=m.node_ids,
        cost_usd=m.cost_usd if words.priced else None,
        numbers=words.numbers(m),
    )


def _hold(s: Situation, reason: str, observed: str) -> Action:
    now, group = s.inputs.now, s.reference.group.name
    since = floor_to(now, s.horizon.step_s).isoformat()
    return Action(
        action_id=stable_id(s.inputs.pool.name, ActionKind.HOLD, since, observed),
        kind=ActionKind.HOLD,
        at=now,
        group=group,
        count=len(s.supply.ready),
        reason=reason,
        cost_usd=0.0 if s.reference.usd is not None else None,
    )


def _targets(s: Situation, d: Decision, later: Sequence[Move]) -> tuple[Target, ...]:
    """Counts per group and state, now and wherever they change."""
    now = s.inputs.now
    counts: dict[tuple[str, Standby], int] = {(g.name, Standby.RUNNING): 0 for g in s.inputs.pool.groups}
    for n in (*s.supply.ready, *(w for w, _ in s.supply.warming), *s.supply.standby):
        counts[(n.group, n.standby)] = counts.get((n.group, n.standby), 0) + 1
    for m in d.moves:
        if m.hi > m.lo or m.kind.raises:
            _shift(counts, m)
    out = [Target(now, g, state, n) for (g, state), n in sorted(counts.items())]
    for at_s, group in groupby(later, key=lambda m: m.at_s):
        before = dict(counts)
        for m in group:
            _shift(counts, m)
        at = now + timedelta(seconds=at_s)
        out.extend(Target(at, k[0], k[1], n) for k, n in sorted(counts.items()) if before.get(k, 0) != n)
    return tuple(out)


def _shift(counts: dict[tuple[str, Standby], int], m: Move) -> None:
    group = m.choice.group.name
    for state, sign in ((m.came_from, -1), (m.state, 1)):
        if state is not Standby.COLD:
            counts[(group, state)] = max(0, counts.get((group, state), 0) + sign * m.count)


def optimise_together(together: Sequence[PlanInputs]) -> tuple[Optimum, ...] | str:
    """The optimum of each of several pools that share limits, found jointly; a sentence if the solver fails."""
    try:
        return optimise([situation(i) for i in together])
    except SolverError as e:
        return f"the solver found nothing for {len(together)} pools together ({e})"


def has_moved(inputs: PlanInputs) -> str:
    """What moved since the held optimum was found; "none held" without one; "" if it still holds."""
    return "none held" if inputs.held is None else moved(inputs.held.signals, signals_of(situation(inputs)))
