"""Hand warm nodes to ready tasks: reserve softly, commit, start, release."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from preprov.contracts import TaskReport
from preprov.control import lifecycle
from preprov.control.context import Context
from preprov.control.observing import claim, committed_by_node
from preprov.model.errors import OverbookedError, PoolError, ReservationError
from preprov.model.plans import stable_id
from preprov.model.pools import Node, Phase, Pool, PoolObservation
from preprov.model.reservations import Reservation, ReservationState, Segment
from preprov.model.resources import ZERO, Resources
from preprov.model.work import DagRun, State, TaskRun
from preprov.planning.order import launch_order
from preprov.planning.placement import NodeRoom, Request, first_fit

log = structlog.get_logger(__name__)

_UNKNOWN_RUNTIME_S = 3600.0
_SOFT_GRACE = timedelta(minutes=15)


@dataclass(frozen=True)
class DispatchResult:
    """What one round of dispatch did.

    Attributes:
        waiting: demand that is ready and found no room. unplaceable: task -> why it fits on no node.
    """

    started: tuple[str, ...]
    waiting: Resources
    waiting_tasks: int
    unplaceable: Mapping[str, str]
    live_tasks: int


def dispatch(ctx: Context, pool: Pool, observation: PoolObservation) -> DispatchResult:
    """One round: due turns, reports, freed children, then ready tasks onto ready nodes in launch order."""
    now = ctx.clock.now()
    lifecycle.materialise_due(ctx, pool, now)
    live = lifecycle.load(ctx, pool)
    reports = poll(ctx, pool, observation)
    live = lifecycle.absorb(ctx, pool, live, reports, now)
    if observation.complete:
        live = lifecycle.lost_with_nodes(ctx, pool, live, frozenset(n.node_id for n in observation.nodes), now)
    live = lifecycle.advance(ctx, live, now)
    ctx.ports.ledger.expire(pool.name, now)
    _reserve_upcoming(ctx, pool, live, now)
    _resume(ctx, pool, live, observation, frozenset(r.claimant for r in reports), now)
    return _place(ctx, pool, live, observation, now)


def poll(ctx: Context, pool: Pool, observation: PoolObservation) -> list[TaskReport]:
    """Reports from the schedulers of all the pool's providers."""
    reports: list[TaskReport] = []
    for name in dict.fromkeys(g.provider for g in pool.groups):
        scheduler = ctx.schedulers.get(name)
        if scheduler is None:
            continue
        groups = {g.name for g in pool.groups if g.provider == name}
        nodes = [n for n in observation.nodes if n.group in groups and n.phase in (Phase.READY, Phase.DRAINING)]
        reports.extend(scheduler.poll(nodes))
    return reports


def _resume(
    ctx: Context,
    pool: Pool,
    live: lifecycle.Live,
    observation: PoolObservation,
    reported: frozenset[str],
    now: datetime,
) -> None:
    """Send starts again that were committed but that no node knows of: a crash between the two loses nothing."""
    ready = {n.node_id: n for n in observation.in_phase(Phase.READY)}
    by_claimant = {
        t.claimant(i): (t, i)
        for t in live.tasks.values()
        if t.state in (State.READY, State.RUNNING)
        for i in range(t.spec.instances)
        if i not in t.done
    }
    for r in ctx.ports.ledger.reservations(pool.name):
        if r.state is not ReservationState.COMMITTED or r.claimant in reported or r.claimant not in by_claimant:
            continue
        node = ready.get(r.node_id or "")
        if node is not None:
            task, instance = by_claimant[r.claimant]
            _start(ctx, pool, live.runs[task.run_id], task, instance, node, now)


def _segments(task: TaskRun, start: datetime) -> tuple[Segment, ...]:
    length = timedelta(seconds=task.spec.runtime_hint_s or _UNKNOWN_RUNTIME_S)
    return (Segment(start, start + length, task.spec.request),)


def _reserve_upcoming(ctx: Context, pool: Pool, live: lifecycle.Live, now: datetime) -> None:
    """Soft reservations for the roots of runs that are due later, so that the claim is on the books before the time."""
    held = {r.claimant for r in ctx.ports.ledger.reservations(pool.name)}
    for run in live.runs.values():
        if run.due is None or run.due <= now:
            continue
        for task in live.of_run(run.run_id):
            if task.spec.parents or task.state is not State.PENDING:
                continue
            for i in range(task.spec.instances):
                if task.claimant(i) not in held:
                    ctx.ports.ledger.reserve(_soft(pool, task, i, run.due))


def _soft(pool: Pool, task: TaskRun, instance: int, start: datetime) -> Reservation:
    claimant = task.claimant(instance)
    segments = _segments(task, start)
    return Reservation(
        reservation_id=stable_id(pool.name, claimant, start.isoformat()),
        pool=pool.name,
        claimant=claimant,
        segments=segments,
        tenant=task.tenant,
        priority=task.priority,
        expires_at=segments[-1].end + _SOFT_GRACE,
        created_at=start,
    )


def _rooms(
    observation: PoolObservation, reservations: tuple[Reservation, ...], asked_to_drain: frozenset[str]
) -> tuple[dict[str, Node], list[NodeRoom]]:
    held = committed_by_node(reservations)
    nodes, rooms = {}, []
    for n in observation.nodes:
        if n.phase is not Phase.READY or n.node_id in asked_to_drain or "*" in asked_to_drain:
            continue
        used = ZERO
        for r in held.get(n.node_id, ()):
            used = used + claim(r)
        nodes[n.node_id] = n
        rooms.append(NodeRoom(n.node_id, n.offering.allocatable.minus_clamped(used), n.preloaded, dict(n.tags)))
    return nodes, rooms


def _place(
    ctx: Context, pool: Pool, live: lifecycle.Live, observation: PoolObservation, now: datetime
) -> DispatchResult:
    reservations = ctx.ports.ledger.reservations(pool.name)
    nodes, rooms = _rooms(observation, reservations, ctx.ports.intent.drains(pool.name))
    started_already = {r.claimant for r in reservations if r.state is ReservationState.COMMITTED}
    requests: dict[str, tuple[TaskRun, int]] = {}
    # RUNNING ones too: some of their instances may still wait for room
    wanting = [t for t in live.tasks.values() if t.state in (State.READY, State.RUNNING)]
    ordered = launch_order(wanting, live.runs, now)
    asked = []
    for task in ordered:
        for i in range(task.spec.instances):
            if task.claimant(i) in started_already or i in task.done:
                continue
            requests[task.claimant(i)] = (task, i)
            asked.append(Request.of(task, i))
    placement = first_fit(asked, rooms, pool.binding)
    started = []
    for claimant, node_id in placement.assigned.items():
        task, i = requests[claimant]
        if _start(ctx, pool, live.runs[task.run_id], task, i, nodes[node_id], now):
            started.append(claimant)
    waiting = ZERO
    left = [c for c in requests if c not in set(started)]
    for claimant in left:
        waiting = waiting + requests[claimant][0].spec.request
    return DispatchResult(tuple(started), waiting, len(left), dict(placement.unplaceable), len(live.tasks))


def _start(ctx: Context, pool: Pool, run: DagRun, task: TaskRun, instance: int, node: Node, now: datetime) -> bool:
    """Reserve, commit and start one instance; False leaves it ready for the next round."""
    scheduler = ctx.schedulers.get(pool.group(node.group).provider)
    if scheduler is None:
        return False
    ledger = ctx.ports.ledger
    try:
        reservation = ledger.reserve(_soft(pool, task, instance, now))
        ledger.commit(reservation.reservation_id, node.node_id, node.offering.allocatable, now)
    except (OverbookedError, ReservationError) as e:
        log.warning("not committed", claimant=task.claimant(instance), node=node.node_id, why=str(e))
        return False
    try:
        scheduler.start(task, instance, node)
    except PoolError as e:
        ledger.release(reservation.reservation_id, f"not started: {e.what}")
        log.warning("not started", claimant=task.claimant(instance), node=node.node_id, why=str(e))
        return False
    if task.state is not State.RUNNING:
        first = replace(task, state=State.RUNNING, started_at=task.started_at or now, node_id=node.node_id)
        ctx.ports.work.save_tasks([first])
        if run.state is State.PENDING:
            ctx.ports.work.save_run(run.run_id, State.RUNNING, None)
    return True
