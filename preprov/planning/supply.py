"""What the pool has, read from the observation: what counts as ready, when the rest will, and what may be ended."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import log
from statistics import NormalDist
from typing import Final

from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.reservations import ReservationState
from preprov.planning.inputs import PlanInputs
from preprov.planning.offers import relative_size

_ALIVE: Final = 0.5
"""A node is counted on while it is more likely slow than failed."""
PATIENCE_S: Final = 60.0
"""No node is given up sooner, however short its lead time is said to be."""


def fingerprint(observation: PoolObservation) -> str:
    """16 hex digits over which nodes exist in which phase; another one at apply time makes a plan stale."""
    rows = sorted(f"{n.group}\x1f{n.node_id}\x1f{n.phase}" for n in observation.nodes)
    return hashlib.sha256("\x1e".join([observation.pool, str(observation.complete), *rows]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Supply:
    """The nodes of a pool by what they are good for. Sizes are in nodes of the reference offering.

    Attributes:
        ready: READY and not to be drained. warming: on their way and counted on, with the instant they should be ready.
        overdue: warming for so long that failure is likelier; not counted on.
        standby: hibernated or stopped, fastest back first, and what falls asleep. draining: DRAINING, or asked to.
        to_drain: READY or WARMING nodes a person asked to drain.
        protected: nodes that are never ended: they run work, may run work, or hold a committed reservation.
        draining_size: share of draining nodes that still carries work which the demand contains.
        strangers: nodes of a group that the pool does not have (any more): left alone, not counted on.
    """

    ready: tuple[Node, ...]
    warming: tuple[tuple[Node, datetime], ...]
    overdue: tuple[Node, ...]
    standby: tuple[Node, ...]
    draining: tuple[Node, ...]
    to_drain: tuple[Node, ...]
    failed: tuple[Node, ...]
    lost: tuple[Node, ...]
    protected: frozenset[str]
    size: dict[str, float]
    draining_size: float
    strangers: tuple[Node, ...]

    @property
    def running_size(self) -> float:
        """Ready, counted-on warming, and what draining nodes still carry."""
        counted = [*self.ready, *(n for n, _ in self.warming)]
        return self.sizes(counted) + self.draining_size

    @property
    def billed(self) -> tuple[Node, ...]:
        """Nodes billed as running."""
        warming = tuple(n for n, _ in self.warming)
        return (*self.ready, *warming, *self.overdue, *self.draining, *self.to_drain, *self.failed, *self.lost)

    def sizes(self, nodes: Iterable[Node]) -> float:
        """Their size together."""
        return float(sum(self.size[n.node_id] for n in nodes))


def read_supply(inputs: PlanInputs, reference: Offering) -> Supply:
    """Sort the observed nodes."""
    everybody = sorted(inputs.observation.nodes, key=lambda n: n.node_id)
    groups = {g.name for g in inputs.pool.groups}
    nodes = [n for n in everybody if n.group in groups]
    binding = inputs.pool.binding
    of_kind = {
        o.key: relative_size(o, reference, binding) for o in {n.offering.key: n.offering for n in nodes}.values()
    }
    size = {n.node_id: of_kind[n.offering.key] for n in nodes}
    claimed = {r.node_id for r in inputs.committed if r.state is ReservationState.COMMITTED}
    protected = frozenset(n.node_id for n in nodes if n.is_busy or n.node_id in claimed)

    everything = "*" in inputs.drains
    drained = [n for n in nodes if everything or n.node_id in inputs.drains]
    asked = {n.node_id for n in drained}
    kept = [n for n in nodes if n.node_id not in asked]
    warming: list[tuple[Node, datetime]] = []
    overdue: list[Node] = []
    for n in kept:
        if n.phase is Phase.WARMING:
            due = expected_ready(n, inputs)
            if due is None:
                overdue.append(n)
            else:
                warming.append((n, due))
    asleep = [_asleep(n, inputs) if n.settling else n for n in kept]
    draining = tuple(n for n in nodes if n.phase is Phase.DRAINING and not n.settling)
    to_drain = tuple(n for n in drained if n.phase in (Phase.READY, Phase.WARMING))
    standby_drained = tuple(n for n in drained if n.phase in (Phase.HIBERNATED, Phase.STOPPED))
    return Supply(
        ready=tuple(n for n in kept if n.phase is Phase.READY),
        warming=tuple(warming),
        overdue=tuple(overdue),
        standby=_ladder([n for n in asleep if n.phase in (Phase.HIBERNATED, Phase.STOPPED)], inputs),
        draining=draining + standby_drained,
        to_drain=to_drain,
        failed=tuple(n for n in nodes if n.phase is Phase.FAILED),
        lost=tuple(n for n in nodes if n.phase is Phase.LOST),
        protected=protected,
        size=size,
        draining_size=_carried(inputs, (*draining, *to_drain), protected, size),
        strangers=tuple(n for n in everybody if n.group not in groups),
    )


def expected_ready(node: Node, inputs: PlanInputs) -> datetime | None:
    """When a warming node should be ready; None if it is likelier to have failed than to be slow.

    Before the 95th percentile: launch time plus that. After it: P(alive | not ready yet) = (1-f) S / ((1-f) S + f) with
    survival S of the lead time and failure rate f; while it is above one half, the conditional median of what remains.
    """
    lead = inputs.leads(node.group, node.offering, node.came_from)
    elapsed = (inputs.now - node.since).total_seconds()
    if elapsed < max(lead.p95_s, PATIENCE_S):
        return max(node.since + timedelta(seconds=lead.p95_s), inputs.now)
    survival = 1.0 - _cdf(lead, elapsed)
    fails = inputs.leads.failure_rate(node.group, node.offering, node.came_from)
    alive = (1 - fails) * survival
    if alive <= _ALIVE * (alive + fails):
        return None
    return node.since + timedelta(seconds=lead.quantile(1.0 - survival / 2))


def _asleep(node: Node, inputs: PlanInputs) -> Node:
    """A node that falls asleep as if it slept, in the quickest state of its group: no cloud says which it will be."""
    state = inputs.pool.group(node.group).quickest_kept
    return node if state is None else replace(node, phase=Phase(state.value))


def _cdf(lead: LeadTime, seconds: float) -> float:
    if lead.median_s == 0 or lead.sigma == 0:
        return 1.0 if seconds >= lead.median_s else 0.0
    return NormalDist(0.0, lead.sigma).cdf(log(seconds / lead.median_s)) if seconds > 0 else 0.0


def _ladder(nodes: list[Node], inputs: PlanInputs) -> tuple[Node, ...]:
    """Standby nodes, the quickest back first; among equals those that hold most of the pool's preload."""
    wanted = {i.digest for i in inputs.pool.preload.images} | {d.key for d in inputs.pool.preload.datasets}

    def rank(n: Node) -> tuple[float, int, str]:
        lead = inputs.leads(n.group, n.offering, n.standby)
        return (lead.p95_s, -len(wanted & n.preloaded), n.node_id)

    return tuple(sorted(nodes, key=rank))


def _carried(inputs: PlanInputs, nodes: Iterable[Node], protected: frozenset[str], size: dict[str, float]) -> float:
    """Size of the work on draining nodes: what is committed there, or all of a busy node if nothing says how much."""
    total = 0.0
    for n in nodes:
        if n.node_id not in protected:
            continue
        used = 0.0
        for r in inputs.committed:
            if r.state is ReservationState.COMMITTED and r.node_id == n.node_id:
                peak = max(s.amount.share_of(n.offering.allocatable, inputs.pool.binding) for s in r.segments)
                used += peak
        total += size[n.node_id] * min(used or 1.0, 1.0)
    return total


def billing_start(node: Node) -> datetime:
    """When the present stretch of billing began."""
    return node.created_at if node.came_from is Standby.COLD else max(node.since, node.created_at)
