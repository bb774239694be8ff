"""What is due now: raises through the guards, ends by vote, drains and failures; in the order of precedence."""

from collections.abc import Iterable
from datetime import timedelta
from math import ceil
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.nodes import Node
from preprov.model.offerings import LeadTime, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Mode
from preprov.planning.caps import Allowance
from preprov.planning.offers import Choice
from preprov.planning.scaledown import Fate, fate
from preprov.planning.situation import LOWER, Decision, Move, Situation
from preprov.planning.stock import PlannedStock
from preprov.planning.supply import billing_start

Array: TypeAlias = NDArray[Any]

_EPS: Final = 1e-6


def decide(s: Situation, allowance: Allowance) -> Decision:
    """Raise what is short; else vote on what is superfluous. Then drains, failures and what cannot be touched."""
    d = Decision(s.supply.running_size, list(s.supply.standby))
    if not s.inputs.reacts:
        _start(s, d, allowance)
    _launch(s, d, allowance)
    raised = bool(d.moves)
    if not raised and not s.inputs.reacts:
        _end_running(s, d, allowance)
    _end_standby(s, d, allowance)
    _drain(s, d)
    _remark(s, d)
    if s.inputs.halted:
        d.moves.clear()
        d.running, d.standby = s.supply.running_size, list(s.supply.standby)
    return d


# --------------------------------------------------------------------------- raises


def _start(s: Situation, d: Decision, allowance: Allowance) -> None:
    """Bring back standby nodes, each tier for what its own lead window wants beyond the quicker tiers."""
    wanted: dict[tuple[str, str, Standby], list[Node]] = {}
    reach = d.running
    lacking = {g.name: g.min_nodes - _running_in(s, g.name) for g in s.inputs.pool.groups}
    for node in s.supply.standby:
        if node.settling:  # it can be woken once it sleeps
            continue
        lead = s.inputs.leads(node.group, node.offering, node.standby)
        if s.target(lead)[0] > reach + _EPS or lacking[node.group] > 0:
            wanted.setdefault((node.group, node.offering.key, node.standby), []).append(node)
            lacking[node.group] -= 1
        reach += s.supply.size[node.node_id]
    for (group, _, state), nodes in wanted.items():
        choice = s.choice(group, nodes[0].offering)
        n = allowance.grant(choice, len(nodes), launch=False, standby_usd=choice.standby_usd.get(state, 0.0))
        if not n:
            continue
        taken = nodes[:n]
        lo, d.running = d.running, d.running + s.supply.sizes(taken)
        gone = {t.node_id for t in taken}
        d.standby = [x for x in d.standby if x.node_id not in gone]
        lead = s.inputs.leads(group, nodes[0].offering, state)
        d.moves.append(
            Move(
                ActionKind.START,
                choice,
                n,
                _level(lo),
                _level(d.running),
                Standby.RUNNING,
                came_from=state,
                node_ids=tuple(sorted(gone)),
                due_s=_due_s(s, _level(d.running), lead),
            )
        )


def _launch(s: Situation, d: Decision, allowance: Allowance) -> None:
    """Launch what neither running nor standby nodes can cover; the groups' own minima first."""
    for group in s.inputs.pool.groups:
        started = sum(m.count for m in d.moves if m.choice.group.name == group.name)
        lacking = group.min_nodes - _running_in(s, group.name) - started
        if lacking > 0:
            best = next(c for c in s.choices if c.group.name == group.name)
            _launch_some(s, d, allowance, best, lacking, why=f"group {group.name} keeps {group.min_nodes}")
    silent = s.supply.sizes((*s.supply.overdue, *s.supply.lost))
    for choice, most in (*_as_planned(s), *((c, None) for c in s.choices)):
        # Nodes that never came are replaced once over; if the replacements do not come either, more would not help.
        wanted = float(s.existing(choice.lead)[0])
        short = wanted - d.running - s.supply.sizes(d.standby) - d.filled - max(0.0, silent - wanted)
        if short <= _EPS:
            continue
        if min(choice.share, s.size(choice)) > _EPS:
            nodes = ceil(short / s.size(choice) - _EPS)
            _launch_some(s, d, allowance, choice, nodes if most is None else min(nodes, most))


def _as_planned(s: Situation) -> list[tuple[Choice, int | None]]:
    """What the optimum launches of each offering now; where a guard says no, the best that may be comes after."""
    if s.optimum is None:
        return []
    there: dict[tuple[str, str], int] = {}
    for n in (*s.supply.ready, *(w for w, _ in s.supply.warming), *s.supply.standby):
        there[(n.group, n.offering.key)] = there.get((n.group, n.offering.key), 0) + 1
    first, out = s.optimum.index(s.inputs.now), []
    for choice in s.choices:
        planned = s.optimum.nodes.get(choice.key)
        if planned is not None:
            ahead = sum(planned.values(), np.zeros(1))[first : first + s.window(choice.lead)]
            out.append((choice, max(int(ahead.max(initial=0)) - there.get(choice.key, 0), 0)))
    return [(c, n) for c, n in out if n > 0]


def _running_in(s: Situation, group: str) -> int:
    return sum(n.group == group for n in (*s.supply.ready, *(n for n, _ in s.supply.warming)))


def _launch_some(
    s: Situation, d: Decision, allowance: Allowance, choice: Choice, wanted: int, *, why: str = ""
) -> None:
    n = allowance.grant(choice, wanted, launch=True)
    n -= 0 if why else _fill(s, d, choice, n)
    if not n:
        return
    lo, d.running = d.running, d.running + n * s.size(choice)
    d.moves.append(
        Move(
            ActionKind.LAUNCH,
            choice,
            n,
            _level(lo),
            _level(d.running),
            Standby.RUNNING,
            due_s=_due_s(s, _level(d.running), choice.lead),
            why=why,
        )
    )


def _fill(s: Situation, d: Decision, choice: Choice, most: int) -> int:
    """Have the vendor launch into its standby what is planned to be kept; how many of `most` that are.

    What will run within the lead window is launched into service: it would be woken as soon as it slept.
    """
    if choice.group.name not in s.inputs.fills or s.optimum is None:
        return 0
    size = s.size(choice)
    runs = ceil((s.target(choice.lead)[0] - d.running - s.supply.sizes(d.standby)) / size - _EPS)
    left, filled = most - max(runs, 0), 0
    for state in (Standby.HIBERNATED, Standby.STOPPED):
        there = sum(1 for n in d.standby if (n.group, n.offering.key, n.standby) == (*choice.key, state))
        n = min(left, s.planned(choice.key, state, choice.lead) - there)
        if state not in choice.group.standby_states or n < 1:
            continue
        why = f"{there + n} are worth keeping {state}, and the vendor keeps as many"
        level = _level(d.running)
        d.moves.append(Move(ActionKind.LAUNCH, choice, n, level, level, state, why=why))
        d.filled += n * size
        filled, left = filled + n, left - n
    return filled


def _due_s(s: Situation, level: int, lead: LeadTime) -> float:
    """Seconds from now to the first step that wants this many nodes; the end of the lead window if none alone does."""
    window = s.window(lead)
    alone = s.need.order_up_to(1)[:window] >= level
    i = int(alone.argmax()) if alone.any() else min(window, s.horizon.steps) - 1
    return s.horizon.seconds_to(i)


def _level(size: float) -> int:
    return int(size + _EPS)


# --------------------------------------------------------------------------- ends


def _end_running(s: Situation, d: Decision, allowance: Allowance) -> None:
    """Vote on idle nodes beyond the target; give up those whose vote has held, to the cheapest state."""
    top = d.running
    left = {g.name: sum(n.group == g.name for n in s.supply.ready) for g in s.inputs.pool.groups}
    stock = _stock(s, d)
    unnamed: dict[str, int] = {}
    for node in _given_up_first(s):
        size = s.supply.size[node.node_id]
        state = stock.next_of(node)
        target = s.cold_target() if state is None else s.target(s.way_back(node, state))
        if top - size < target[0] - _EPS or left[node.group] <= s.inputs.pool.group(node.group).min_nodes:
            continue
        if node.group in s.inputs.nameless:
            unnamed[node.group] = unnamed.get(node.group, 0) + 1
            continue
        states = _allowed_states(s, d, node)
        course = _fate(s, node, target, top - size, states=states, instead=state)
        stock.take(node, course.instead)
        if _vote(s, d, node, course, top, size, allowance, paid_for=True):
            d.running -= size
        left[node.group] -= 1
        top -= size
    for group, n in unnamed.items():
        d.notes.append(f"{n} idle in {group} beyond what is wanted: whoever owns its count has to lower it")


def _stock(s: Situation, d: Decision) -> PlannedStock:
    return PlannedStock(d.standby, s.optimum, s.inputs.now, s.horizon.window(s.tick_s))


def _end_standby(s: Situation, d: Decision, allowance: Allowance) -> None:
    """Give up standby nodes that cost more to keep than to launch anew, the slowest tier first."""
    target = s.existing(s.reference.lead)
    top = d.running + s.supply.sizes(d.standby)
    stock = _stock(s, d)
    for node in reversed(list(d.standby)):
        size = s.supply.size[node.node_id]
        can_end = not (node.settling or node.node_id in s.supply.protected)
        if can_end and top - size >= target[0] - _EPS:
            instead = None if s.optimum is None else Standby.COLD if stock.spare(node) else node.standby
            course = _fate(s, node, target, top - size, states=(), now_in=node.standby, instead=instead)
            if course.state is Standby.COLD:
                stock.take(node, node.standby, -1)
                if _vote(s, d, node, course, top, size, allowance, paid_for=False):
                    d.standby.remove(node)
        top -= size


def _vote(
    s: Situation,
    d: Decision,
    node: Node,
    course: Fate,
    top: float,
    size: float,
    allowance: Allowance,
    *,
    paid_for: bool,
) -> bool:
    """Cast or keep the vote; True if the node is given up now."""
    now = s.inputs.now
    since = min(s.inputs.votes.get(node.node_id, now), now)
    d.votes[node.node_id] = since
    at = since + timedelta(seconds=course.hold_s)
    if paid_for:
        at = max(at, billing_start(node) + timedelta(seconds=node.offering.minimum_billing_s))
    if s.inputs.mode is Mode.FLOOR or at > now or not allowance.gives_up():
        return False
    allowance.given_up()
    d.moves.append(
        Move(
            LOWER[course.instead],
            s.choice(node.group, node.offering),
            1,
            _level(top - size),
            _level(top),
            course.instead,
            came_from=node.standby,
            node_ids=(node.node_id,),
            fate=course,
        )
    )
    return True


def _fate(
    s: Situation,
    node: Node,
    target: Array,
    below: float,
    *,
    states: Iterable[Standby],
    now_in: Standby = Standby.RUNNING,
    instead: Standby | None = None,
) -> Fate:
    """The cheapest course for the node that serves levels above `below`; `instead` is one that was decided already."""
    again = target > below + _EPS
    returns = bool(again.any())
    until = int(again.argmax()) if returns else s.horizon.steps
    reached = s.need.highest[:, max(until, 1) - 1] > below + _EPS
    return fate(
        s.choice(node.group, node.offering),
        gap_s=s.horizon.seconds_to(until) if returns else None,
        horizon_s=s.horizon.length_s,
        surprise=float(np.count_nonzero(reached)) / len(reached),
        shortage_usd_per_core_hour=s.inputs.pool.objective.shortage_usd_per_core_hour,
        states=states,
        now_in=now_in,
        decided=instead,
    )


def _allowed_states(s: Situation, d: Decision, node: Node) -> tuple[Standby, ...]:
    """States its group can keep it in; a group that does not mix keeps to the one it has nodes in."""
    group = s.inputs.pool.group(node.group)
    states = sorted(group.standby_states & {Standby.HIBERNATED, Standby.STOPPED})
    if not group.mixes_states:
        there = {n.standby for n in d.standby if n.group == group.name}
        there |= {m.state for m in d.moves if m.choice.group.name == group.name} & set(states)
        states = [x for x in states if not there or x in there]
    return tuple(states)


def _given_up_first(s: Situation) -> list[Node]:
    """Idle ready nodes: those voted on longest, then the dearest, the least preloaded, the youngest."""
    votes = s.inputs.votes
    wanted = {i.digest for i in s.inputs.pool.preload.images} | {d.key for d in s.inputs.pool.preload.datasets}

    def rank(n: Node) -> tuple[bool, float, float, int, float, str]:
        since = votes.get(n.node_id)
        rate = s.choice(n.group, n.offering).rate / max(s.supply.size[n.node_id], _EPS)
        return (
            since is None,
            since.timestamp() if since else 0.0,
            -rate,
            len(wanted & n.preloaded),
            -n.created_at.timestamp(),
            n.node_id,
        )

    return sorted((n for n in s.supply.ready if n.node_id not in s.supply.protected), key=rank)


def _drain(s: Situation, d: Decision) -> None:
    """Drains that were asked for, then the end of what is drained or failed and idle."""
    ends = [n for n in (*s.supply.draining, *s.supply.failed) if n.node_id not in s.supply.protected]
    owners = sorted({n.group for n in ends if n.group in s.inputs.nameless and n.standby is Standby.RUNNING})
    if owners:
        d.notes.append(f"drained or failed nodes of {', '.join(owners)} are left to whoever owns the count")
        ends = [n for n in ends if n.group not in owners or n.standby is not Standby.RUNNING]
    if s.inputs.mode is Mode.FLOOR:
        if ends or s.supply.to_drain:
            d.notes.append("mode floor never lowers: drains and failed nodes are left as they are")
        return
    for group, nodes in _by_group(s.supply.to_drain).items():
        d.moves.append(_plain(s, ActionKind.DRAIN, group, nodes, Standby.RUNNING, "a person asked to drain"))
    failed = {n.node_id for n in s.supply.failed}
    for group, nodes in _by_group(n for n in ends if n.node_id in failed).items():
        why = "; ".join(sorted({n.reason for n in nodes if n.reason})) or "the check failed"
        d.moves.append(_plain(s, ActionKind.TERMINATE, group, nodes, Standby.COLD, f"failed: {why}"))
    for group, nodes in _by_group(n for n in ends if n.node_id not in failed).items():
        d.moves.append(_plain(s, ActionKind.TERMINATE, group, nodes, Standby.COLD, "drained and idle"))


def _by_group(nodes: Iterable[Node]) -> dict[tuple[str, str, Standby], list[Node]]:
    out: dict[tuple[str, str, Standby], list[Node]] = {}
    for n in nodes:
        out.setdefault((n.group, n.offering.key, n.standby), []).append(n)
    return out


def _plain(
    s: Situation, kind: ActionKind, key: tuple[str, str, Standby], nodes: list[Node], state: Standby, why: str
) -> Move:
    ids = tuple(n.node_id for n in nodes)
    return Move(kind, s.choice(key[0], nodes[0].offering), len(ids), 0, 0, state, 0.0, key[2], ids, why=why)


def _remark(s: Situation, d: Decision) -> None:
    """Say what is there but cannot be counted on or touched."""
    sup = s.supply
    busy_failed = [n for n in sup.failed if n.node_id in sup.protected]
    for nodes, text in (
        (sup.overdue, "warming for longer than a launch is likely to take, replaced once"),
        (sup.lost, "silent, replaced once and left to the orphan rule"),
        (busy_failed, "failed but may run work, left alone"),
        (sup.strangers, "of a group that the pool does not have, left alone"),
    ):
        if nodes:
            names = ", ".join(n.node_id for n in list(nodes)[:5])
            d.notes.append(f"{len(nodes)} {text}: {names}{' …' if len(nodes) > 5 else ''}")
