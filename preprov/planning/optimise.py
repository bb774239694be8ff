"""The optimiser: which nodes run, are kept in standby or are gone, at each step, at least expected cost.

Cost: running and kept nodes, nodes on their way, minimum billing, interruptions of spot nodes, and the price of work
that waits for a node over joint samples of demand, with lead times as distributions. Limits: nodes of groups and pools,
money per hour and day, ramps, minima, floors, a promised hit rate. Method: the cheapest course of each level of demand
by dynamic programming (`courses`), put together by HiGHS under what is scarce (`master`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.offerings import Standby
from preprov.planning.courses import Setting, terms_of
from preprov.planning.inputs import SharedRoom
from preprov.planning.lately import SPAN_S
from preprov.planning.levels import COLD, RUN, STATES, levels_of
from preprov.planning.master import Problem, Solution, solve
from preprov.planning.need import NO_PRICE_LEVEL, upper_quantile
from preprov.planning.offers import Choice
from preprov.planning.optimum import Optimum, Signals
from preprov.planning.room import nodes_left
from preprov.planning.rows import UNSERVED, Column, Row, Weights
from preprov.planning.sharing import days_of, shared_rows
from preprov.planning.situation import Situation

Array: TypeAlias = NDArray[Any]

_MOST_LEVELS: Final = 4096


@dataclass(frozen=True)
class Part:
    """A pool made ready for the programme."""

    s: Situation
    choices: list[Choice]
    problem: Problem
    rows: list[Row]
    most: int


def optimise(situations: Sequence[Situation]) -> tuple[Optimum, ...]:
    """Plan one pool, or several jointly: under the limits that their inputs share.

    Args:
        situations: one per pool.

    Returns:
        one per pool; the gap is that of all of them together.

    Raises:
        SolverError: HiGHS found nothing in time.
    """
    parts = [_part(s, i) for i, s in enumerate(situations)]
    rows = [r for p in parts for r in p.rows] + shared_rows([(p.s, p.choices) for p in parts])
    time_s = max((s.inputs.pool.solver_s for s in situations), default=5.0)
    solution = solve([p.problem for p in parts], rows, time_limit_s=time_s)
    names = dict.fromkeys(p.s.inputs.pool.name for p in parts)
    return tuple(
        _optimum(p, solution, i, tuple(n for n in names if n != p.s.inputs.pool.name)) for i, p in enumerate(parts)
    )


def _part(s: Situation, index: int) -> Part:
    choices = _considered(s)
    owners = {c.key: i for i, c in enumerate(choices)}
    most = min(_most_levels(s, choices), _MOST_LEVELS)
    levels = levels_of(s, owners, most, promised(s))
    horizon, objective = s.horizon, s.inputs.pool.objective
    shortage = np.full(horizon.steps, objective.shortage_usd_per_core_hour)
    if promised(s) is not None:
        shortage[:] = 0.0
    if s.inputs.urgency is not None:
        late = np.asarray(s.inputs.urgency, dtype=float)[: horizon.steps]
        shortage[: len(late)] += late
    setting = Setting(
        choices=choices,
        sizes=[max(s.size(c), 1e-9) for c in choices],
        cores=s.reference.cores,
        lengths_h=horizon.lengths_h,
        begins_s=np.array([horizon.seconds_to(i) for i in range(horizon.steps)]),
        step_s=float(horizon.step_s),
        shortage=shortage,
        level=s.need.level,
        risk=[c.risk for c in choices],
        states=_states(s, choices),
    )
    groups = s.inputs.pool.groups
    of_group = np.array([[g.name for g in groups].index(c.group.name) for c in choices])
    passes = horizon.step_s / (SPAN_S if s.inputs.reacts else max(s.tick_s, SPAN_S))
    per_minute = s.inputs.pool.guards.max_launches_per_minute
    launches = [
        min(g.max_step * passes, np.inf if per_minute is None else per_minute * horizon.step_s / 60) for g in groups
    ]
    problem = Problem(
        name=_name(s),
        group_names=tuple(g.name for g in groups),
        terms=terms_of(setting, levels),
        levels=levels,
        most_usd=_most_usd(s),
        groups=of_group,
        most_launches=np.maximum(np.array(launches, dtype=float), 1.0),
        least_running=np.array([g.min_nodes for g in groups], dtype=float),
    )
    return Part(s, choices, problem, _rows(s, choices, of_group, index), most)


def promised(s: Situation) -> float | None:
    """The hit rate to keep; None where waiting has a price."""
    objective = s.inputs.pool.objective
    if objective.hit_rate is not None:
        return objective.hit_rate
    return NO_PRICE_LEVEL if s.reference.usd is None else None


def _considered(s: Situation) -> list[Choice]:
    """What may be launched, best first, and what exists already.

    Launched is only what holds the largest task and can be had, if there is such.
    """
    good = [c for c in s.choices if c.holds_largest and c.available and min(c.share, s.size(c)) > 1e-6]
    there = {(n.group, n.offering.key) for n in s.inputs.observation.nodes}
    own = [c for c in s.by_offering.values() if c.key in there and c not in good]
    return [*(good or s.choices[:1]), *(c for c in own if good or c is not s.choices[0])]


def _states(s: Situation, choices: Sequence[Choice]) -> list[frozenset[Standby]]:
    """Standby states each choice may use.

    A group that does not mix has one: that of its nodes, else the one that is quickest back.
    """
    out = []
    for c in choices:
        states = c.group.standby_states & {Standby.HIBERNATED, Standby.STOPPED}
        if not c.group.mixes_states and len(states) > 1:
            there = {n.standby for n in s.supply.standby if n.group == c.group.name}
            states = frozenset(there or {min(states, key=lambda x: c.standby_lead[x].median_s)})
        out.append(frozenset(states))
    return out


def _most_levels(s: Situation, choices: Sequence[Choice]) -> int:
    """Levels that all groups together can ever serve."""
    groups = {c.group.name: c.group for c in choices}
    size = {name: max(s.size(c) for c in choices if c.group.name == name) for name in groups}
    room = sum(size[n] * g.max_nodes for n, g in groups.items())
    return int(min(room, s.inputs.pool.guards.max_nodes * max(size.values())) + 1e-6)


def _most_usd(s: Situation) -> Array | None:
    """(T,) what may be spent within each step; what exists already may go on."""
    cap = s.inputs.pool.guards.max_usd_per_hour
    if cap is None or s.reference.usd is None:
        return None
    now = sum(s.choice(n.group, n.offering).rate for n in s.supply.billed if (n.group, n.offering.key) in s.by_offering)
    out: Array = max(cap, now) * s.horizon.lengths_h
    return out


def _name(s: Situation) -> str:
    return f"{s.inputs.pool.name} ({s.inputs.lane})" if s.inputs.lane else s.inputs.pool.name


def _rows(s: Situation, choices: Sequence[Choice], of_group: Array, index: int) -> list[Row]:
    """Limits of this pool alone: nodes of each group, of all, and money of each day."""
    pool, guards = s.inputs.pool, s.inputs.pool.guards
    name = _name(s)
    there: dict[str, int] = {}
    for n in s.inputs.observation.nodes:
        there[n.group] = there.get(n.group, 0) + 1
    out = []
    for k, g in enumerate(pool.groups):
        limit = max(g.max_nodes, there.get(g.name, 0))
        mine = (of_group == k).astype(float)
        out.append(Row(f"max_nodes of {name}/{g.name}", limit, {index: Weights(levels=mine)}))
    limit = max(guards.max_nodes, sum(there.values()))
    out.append(Row(f"max_nodes of {name}", limit, {index: Weights(levels=np.ones(len(choices)))}))
    if guards.max_usd_per_day is not None and s.reference.usd is not None:
        for day, days, left in days_of(s, guards.max_usd_per_day, s.inputs.spent_today_usd):
            out.append(Row(f"max_usd_per_day of {name} {day}", left, {index: Weights(spend=days)}))
    return out


# --------------------------------------------------------------------------- the answer


def _optimum(part: Part, solution: Solution, index: int, together: tuple[str, ...]) -> Optimum:
    taken = solution.taken[index]
    steps = part.s.horizon.steps
    levels = {c.key: np.zeros((len(STATES), steps)) for c in part.choices}
    asked, short = part.problem.levels.must, np.zeros(steps, dtype=np.int64)
    for column, n in taken:
        if column.choice == UNSERVED:
            short += n
            continue
        short += n * (asked[column.band] & (column.states != RUN))
        _add(levels[part.choices[column.choice].key], column, n)
    out_of_reach = max(int(part.s.need.counts.max(initial=0)) - part.most, 0)
    nodes: dict[tuple[str, str], Mapping[Standby, Array]] = {}
    for c in part.choices:
        whole = np.ceil(levels[c.key] / max(part.s.size(c), 1e-9) - 1e-6).astype(np.int64)
        nodes[c.key] = {state: whole[k] for k, state in enumerate(STATES) if k != COLD}
    total = sum(levels.values(), np.zeros((len(STATES), steps)))
    return Optimum(
        signals=signals_of(part.s),
        running=total[0].astype(np.int64),
        kept=total[:COLD].sum(axis=0).astype(np.int64),
        nodes=nodes,
        solver=solution.solver,
        cost_usd=sum((c.cost - c.fines) * n for c, n in taken),
        gap=solution.gap,
        seconds=solution.seconds,
        binding=solution.binding + (("max_nodes",) if out_of_reach else ()),
        beyond=solution.beyond,
        unserved=int(short.max(initial=0)) + out_of_reach,
        together=together,
    )


def _add(counts: Array, column: Column, n: int) -> None:
    np.add.at(counts, (np.minimum(column.states, COLD), np.arange(counts.shape[1])), n)


def signals_of(s: Situation) -> Signals:
    """What to compare a held optimum with."""
    i, objective, guards = s.inputs, s.inputs.pool.objective, s.inputs.pool.guards
    fixed: dict[str, float] = {
        "shortage price": objective.shortage_usd_per_core_hour,
        "hit rate": 1.0 - (objective.hit_rate or 0.0),
        "max_nodes": guards.max_nodes,
        "max_usd_per_hour": guards.max_usd_per_hour if guards.max_usd_per_hour is not None else -1.0,
        "max_usd_per_day": guards.max_usd_per_day if guards.max_usd_per_day is not None else -1.0,
    }
    for c in s.choices:
        name = "/".join(c.key)
        fixed[f"price of {name}"] = c.rate if c.available else -1.0
        fixed[f"lead of {name}"] = c.lead.p95_s
        fixed[f"limit of {name}"] = c.group.max_nodes
        if c.risk:
            fixed[f"interruptions of {name}"] = c.rate + c.risk
        for state, lead in c.standby_lead.items():
            fixed[f"lead of {name} {state}"] = lead.p95_s
    lost = len(s.supply.lost) + len(s.supply.overdue) + len(s.supply.failed)
    demand = np.stack([s.need.counts.mean(axis=0), upper_quantile(s.need.counts, s.need.level).astype(float)])
    if i.urgency is not None:
        fixed["deadlines"] = float(np.sum(i.urgency))
    have = {"lost": float(lost), **{f"left of {x.limit.name}": _wanted_of(s, x) for x in i.shared if x.others}}
    return Signals(s.horizon.start, s.horizon.step_s, demand, fixed, have)


def _wanted_of(s: Situation, room: SharedRoom) -> float:
    """Nodes that a limit across pools leaves to this one, no more than it could want: only then does it matter."""
    left = nodes_left(room, 0, 0.0, s.reference.offering.capacity.cpu)
    return max(min(left, float(s.need.counts.max(initial=0))), 0.0)
