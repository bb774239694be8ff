"""make_plan: demand, lead times, prices and what exists become an immutable plan of actions that explain themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import numpy as np

from preprov.model.offerings import Standby
from preprov.model.plans import Action, ActionKind, CapacityPlan, stable_id
from preprov.model.resources import Resources
from preprov.model.time import floor_to
from preprov.planning.caps import Allowance
from preprov.planning.costing import Costs, alternatives, price_moves
from preprov.planning.decide import decide
from preprov.planning.inputs import PlanInputs, PlanOutcome
from preprov.planning.joining import joined_courses, joined_targets, targets_of
from preprov.planning.lanes import split
from preprov.planning.master import SolverError
from preprov.planning.need import Horizon, horizon_of, needed, service_level
from preprov.planning.offers import choice_of, choices, relative_size
from preprov.planning.optimise import optimise, signals_of
from preprov.planning.optimum import Optimum, moved
from preprov.planning.packing import Mix
from preprov.planning.reasons import Words
from preprov.planning.situation import Decision, Move, Situation
from preprov.planning.supply import fingerprint, read_supply
from preprov.planning.trajectory import later_moves
from preprov.planning.vacating import vacate

__all__ = ["PlanInputs", "PlanOutcome", "fingerprint", "has_moved", "make_plan", "optimise_together"]

MIN_VALID_S: Final = 120.0


@dataclass(frozen=True)
class _Made:
    """One lane decided, priced and ready to be put into words."""

    s: Situation
    d: Decision
    later: list[Move]
    costs: Costs
    words: Words
    hold: str

    @property
    def priced(self) -> bool:
        return all(c.usd is not None for c in self.s.choices)


def make_plan(inputs: PlanInputs) -> PlanOutcome:
    """Plan one pool.

    Precedence: nothing that runs or may run work is ended > hard caps (which stop raises only) > floors > service
    level > cost. Counts are whole nodes; equal inputs give an equal plan; a pool that has what it needs gets a HOLD.

    Method: base-stock ordering. The level to order up to is a quantile over joint demand samples of the maximum over
    the lead window (newsvendor ratio or hit rate), each standby tier for its own lead; ends by ski rental with
    predictions. Actions after now are the plan as it stands and are made again next time. Lanes are optimised together,
    and the guards are theirs together.

    Raises:
        ConfigError: the pool's zone or a lead time is invalid.
    """
    parts, basis, fallback = _optimised(inputs)
    allowance = Allowance(inputs, _rate(parts))
    made = [_decided(s, allowance) for s in parts]
    observed = fingerprint(inputs.observation)
    actions = _actions(made, observed)
    priced = all(m.priced for m in made)
    cost = sum(m.costs.total for m in made)
    wait = sum(m.costs.wait_core_h for m in made)
    courses = [alternatives(m.s, m.costs, m.priced) for m in made]
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
        targets=joined_targets([targets_of(m.s, m.d, m.later) for m in made]),
        cost_usd=cost if priced else None,
        node_hours=sum(m.costs.node_hours for m in made),
        expected_wait_core_hours=wait,
        forecast_id=inputs.forecast_id,
        observed=observed,
        alternatives=courses[0] if len(made) == 1 else joined_courses(courses, cost, wait, priced=priced),
        notes=tuple(dict.fromkeys(n for m in made for n in (*m.s.notes, *m.d.notes, *_held_back(m.s)))),
        fallback=fallback,
        basis=basis,
    )
    votes = {node: since for m in made for node, since in m.d.votes.items()}
    return PlanOutcome(plan, votes, _whole(parts), _binding(parts, allowance), allowance.later)


def _decided(s: Situation, allowance: Allowance) -> _Made:
    d = decide(s, allowance)
    vacate(s, d, allowance)
    d.notes.extend(allowance.notes)
    later, owners = later_moves(s, d)
    costs = price_moves(s, d.moves, later, owners)
    words = Words(s, priced=all(c.usd is not None for c in s.choices))
    return _Made(s, d, later, costs, words, words.hold(d, allowance.blocked))


def _binding(parts: Sequence[Situation], allowance: Allowance) -> tuple[str, ...]:
    """What is scarce: limits the programme met, minima apart, and guards that said no."""
    met = [name for s in parts if s.optimum is not None for name in s.optimum.binding]
    return tuple(dict.fromkeys((*(name for name in met if not name.startswith("min_nodes")), *allowance.short)))


def _held_back(s: Situation) -> tuple[str, ...]:
    """What the programme could not do, and which limits say so."""
    optimum = s.optimum
    if optimum is None or not optimum.binding:
        return ()
    short = f"; {optimum.unserved} nodes short" if optimum.unserved else ""
    notes = [f"held back by {_limits(optimum.binding)}{short}"]
    if optimum.beyond:
        why = "the solver's time ran out, and the guards hold it then"
        notes.append(f"goes beyond {_limits(optimum.beyond)} later: {why}")
    return tuple(notes)


def _limits(rows: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(_short(name) for name in rows))


def _short(row: str) -> str:
    """The name of a row without pool, group and day; a limit across pools keeps its own name."""
    name, shared, what = row.partition(": ")
    return f"{what.split(' ')[0]} of {name}" if shared else row.split(" ")[0]


# --------------------------------------------------------------------------- the optimum


def _optimised(inputs: PlanInputs) -> tuple[list[Situation], dict[str, object], str]:
    """The lanes with the optimum held or found anew; the basis of the plan, and why it is made without one."""
    parts = [situation(i) for i in split(inputs)]
    if not inputs.optimise:
        return parts, {"solver": "greedy", "solved": False, "because": "asked for"}, ""
    if inputs.found is not None:
        optimum, because = inputs.found
        return _with(parts, optimum), _basis(parts, optimum, because), ""
    why = _moved(parts, inputs.held)
    if inputs.held is not None and not why:
        return _with(parts, inputs.held), _basis(parts, inputs.held, ""), ""
    try:
        optimum = _together(parts, optimise(parts))
    except SolverError as e:
        reason = f"greedy: the solver found nothing ({e})"
        return parts, {"solver": "greedy", "solved": False, "because": reason}, reason
    return _with(parts, optimum), _basis(parts, optimum, why), ""


def _moved(parts: Sequence[Situation], held: Optimum | None) -> str:
    if held is None:
        return "none held"
    if held.others.keys() != {s.inputs.lane for s in parts[1:]}:
        return "which kinds of tasks there are"
    return next((why for s in parts if (why := moved(_of(held, s).signals, signals_of(s)))), "")


def _of(optimum: Optimum, s: Situation) -> Optimum:
    return optimum.others[s.inputs.lane] if s.inputs.lane else optimum


def _with(parts: Sequence[Situation], optimum: Optimum) -> list[Situation]:
    return [replace(s, optimum=_of(optimum, s)) for s in parts]


def _together(parts: Sequence[Situation], found: Sequence[Optimum]) -> Optimum:
    """The main lane's optimum with those of the others inside it."""
    others = {s.inputs.lane: optimum for s, optimum in zip(parts[1:], found[1:], strict=True)}
    return replace(found[0], others=others) if others else found[0]


def _whole(parts: Sequence[Situation]) -> Optimum | None:
    found = [s.optimum for s in parts if s.optimum is not None]
    return _together(parts, found) if len(found) == len(parts) else None


def _basis(parts: Sequence[Situation], optimum: Optimum, why: str) -> dict[str, object]:
    basis = optimum.basis(why)
    if optimum.others:
        every = [_of(optimum, s) for s in parts]
        basis["optimum_usd"] = round(sum(o.cost_usd for o in every), 4)
        basis["binding"] = list(dict.fromkeys(name for o in every for name in o.binding))
        basis["beyond"] = list(dict.fromkeys(name for o in every for name in o.beyond))
        basis["lanes"] = [
            {"lane": s.inputs.lane or "main", "offerings": ["/".join(c.key) for c in s.choices]} for s in parts
        ]
    return basis


def optimise_together(together: Sequence[PlanInputs]) -> tuple[Optimum, ...] | str:
    """The optimum of each of several pools that share limits, found jointly; a sentence if the solver fails."""
    pools = [[situation(i) for i in split(inputs)] for inputs in together]
    try:
        found = list(optimise([s for parts in pools for s in parts]))
    except SolverError as e:
        return f"the solver found nothing for {len(together)} pools together ({e})"
    out = []
    for parts in pools:
        mine, found = found[: len(parts)], found[len(parts) :]
        out.append(_together(parts, mine))
    return tuple(out)


def has_moved(inputs: PlanInputs) -> str:
    """What moved since the held optimum was found; "none held" without one; "" if it still holds."""
    return _moved([situation(i) for i in split(inputs)], inputs.held)


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
        usual = inputs.grain.total if isinstance(inputs.grain, Mix) else inputs.grain
        total = usual or inputs.largest or Resources(cpu=1.0)
    return total


def _rate(parts: Sequence[Situation]) -> float | None:
    """USD per hour of what is billed now; None if the price of something is not known."""
    total = 0.0
    for s in parts:
        for n in s.inputs.observation.nodes:
            choice = s.by_offering.get((n.group, n.offering.key))
            usd = choice.usd if choice is not None else n.offering.usd_per_hour
            if usd is None:
                return None
            total += usd if choice is None or n.standby is Standby.RUNNING else choice.standby_usd.get(n.standby, 0.0)
    return None if any(s.reference.usd is None for s in parts) else total


def _actions(made: Sequence[_Made], observed: str) -> tuple[Action, ...]:
    """What is due now, lane by lane, or a HOLD if nothing is; then what comes later, in time order."""
    out = [_action(m.s, x, m.words, observed) for m in made for x in _merged(m.d.moves)]
    if not out:
        out.append(_hold(made, observed))
    later = sorted(((x.at_s, x, m) for m in made for x in m.later), key=lambda row: row[0])
    out.extend(_action(m.s, x, m.words, observed) for _, x, m in later)
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
    if m.kind.raises and m.state is not Standby.RUNNING:
        basis = (*basis, m.state)
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


def _hold(made: Sequence[_Made], observed: str) -> Action:
    s = made[0].s
    now, group = s.inputs.now, s.reference.group.name
    since = floor_to(now, s.horizon.step_s).isoformat()
    reasons = [f"{m.s.inputs.lane}: {m.hold}" if m.s.inputs.lane else m.hold for m in made]
    return Action(
        action_id=stable_id(s.inputs.pool.name, ActionKind.HOLD, since, observed),
        kind=ActionKind.HOLD,
        at=now,
        group=group,
        count=sum(len(m.s.supply.ready) for m in made),
        reason="; ".join(reasons),
        cost_usd=0.0 if s.reference.usd is not None else None,
    )
