"""Busy nodes that are too many: they take no new work, so that they can go when what runs on them ends.

Where short tasks keep landing on half-empty nodes none of them ever empties. A busy node that is not wanted from now
until well after its work should be over is drained, if the others could hold what runs on all of them: those that are
free soonest first, and only after an unbroken vote, as for idle nodes. What runs there ends by itself.
"""

from collections.abc import Sequence
from datetime import timedelta
from math import ceil
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.nodes import Node
from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Mode
from preprov.planning.caps import Allowance
from preprov.planning.scaledown import MAX_HOLD_S, MIN_HOLD_S, fate
from preprov.planning.situation import Decision, Move, Situation

Array: TypeAlias = NDArray[Any]
_EPS: Final = 1e-6


def vacate(s: Situation, d: Decision, allowance: Allowance) -> None:
    """Vote on busy nodes beyond the target, and drain those whose vote has held; adds to the decision."""
    if s.inputs.mode is not Mode.FULL or s.inputs.halted or any(m.kind.raises for m in d.moves):
        return
    busy = [n for n in s.supply.ready if n.node_id in s.supply.protected and n.node_id in s.inputs.busy_until]
    busy = [n for n in busy if n.group not in s.inputs.nameless]
    gone = {i for m in d.moves for i in m.node_ids}
    there = [n for n in s.supply.ready if n.node_id not in gone]
    left = {g.name: sum(n.group == g.name for n in there) for g in s.inputs.pool.groups}
    target, top = s.cold_target(), d.running
    least = ceil(_used(s, busy) - _EPS)
    for node in sorted(busy, key=lambda n: (s.inputs.busy_until[n.node_id], n.node_id)):
        size = s.supply.size[node.node_id]
        over_s = max((s.inputs.busy_until[node.node_id] - s.inputs.now).total_seconds(), 0.0)
        if left[node.group] <= s.inputs.pool.group(node.group).min_nodes or top - size < max(target[0], least) - _EPS:
            continue
        hold_s = _hold_s(s, node)
        until = s.horizon.step_at(over_s + hold_s) + 1
        if (target[:until] > top - size + _EPS).any():
            continue  # wanted again about when it would be free
        since = min(s.inputs.votes.get(node.node_id, s.inputs.now), s.inputs.now)
        d.votes[node.node_id] = since
        top -= size
        left[node.group] -= 1
        if since + timedelta(seconds=hold_s) <= s.inputs.now and allowance.gives_up():
            allowance.given_up()
            d.moves.append(_drained(s, node, over_s))


def _used(s: Situation, busy: Sequence[Node]) -> float:
    """Nodes that would hold all that runs on these: what comes after it in its runs wants about as much."""
    shares = {n.node_id: 0.0 for n in busy}
    rooms = {n.node_id: n.offering.allocatable for n in busy}
    for r in s.inputs.committed:
        if r.node_id in shares:
            shares[r.node_id] += max(x.amount.share_of(rooms[r.node_id], s.inputs.pool.binding) for x in r.segments)
    return sum(s.supply.size[n] * min(share or 1.0, 1.0) for n, share in shares.items())


def _hold_s(s: Situation, node: Node) -> float:
    """Unbroken disuse before an idle node of its kind is given up."""
    course = fate(
        s.choice(node.group, node.offering),
        gap_s=None,
        horizon_s=s.horizon.length_s,
        surprise=0.0,
        shortage_usd_per_core_hour=s.inputs.pool.objective.shortage_usd_per_core_hour,
        states=(),
    )
    return float(np.clip(course.hold_s, MIN_HOLD_S, MAX_HOLD_S))


def _drained(s: Situation, node: Node, over_s: float) -> Move:
    why = f"too many nodes are half empty; what runs there should end in {over_s / 60:.0f} min"
    choice = s.choice(node.group, node.offering)
    ids = (node.node_id,)
    return Move(ActionKind.DRAIN, choice, 1, 0, 0, Standby.RUNNING, came_from=Standby.RUNNING, node_ids=ids, why=why)
