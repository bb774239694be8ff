"""Hand warm nodes to ready tasks: reserve softly, commit, start, release."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from preprov.contracts import TaskReport
from preprov.control import lifecycle
from preprov.control.adjusting_tasks import adjust_tasks
from preprov.control.context import Context
from preprov.control.handover import hand_over, in_turn, open_rooms
from preprov.control.lanes import in_lanes, known_lanes, together
from preprov.control.learnt import signatures_of
from preprov.control.moving import at_their_size, moved
from preprov.control.noticing import notice
from preprov.control.observing import of_tasks
from preprov.control.phased import Curves, as_asked, note, share_nodes
from preprov.control.placing import assign, request_of
from preprov.control.probing import probed
from preprov.control.readying import ready_tasks
from preprov.control.reclaiming import reclaim
from preprov.control.retrying import climb
from preprov.control.soon import note_parts
from preprov.control.starting import Start, remember, soft, start_all
from preprov.model.nodes import Phase, PoolObservation
from preprov.model.plans import ActionKind
from preprov.model.pools import Pool
from preprov.model.reservations import ReservationState, most
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.planning.lanes import lane_of
from preprov.planning.packing import Kind
from preprov.planning.placement import NodeRoom, why_nowhere


@dataclass(frozen=True)
class DispatchResult:
    """What one round of dispatch did.

    Attributes:
        waiting: demand that is ready and found no room; wave: the same kind by kind. unplaceable: task -> why it fits
            on no node. begun: ids of live runs that are due.
    """

    started: tuple[str, ...]
    waiting: Resources
    waiting_tasks: int
    unplaceable: Mapping[str, str]
    live_tasks: int
    wave: tuple[Kind, ...] = ()
    begun: frozenset[str] = frozenset()


def dispatch(ctx: Context, pool: Pool, observation: PoolObservation) -> DispatchResult:
    """One round: due turns, reports, freed children, then ready tasks onto ready nodes in launch order."""
    now = ctx.clock.now()
    signatures_of(ctx).new_round(pool.name)
    lifecycle.materialise_due(ctx, pool, now)
    live = lifecycle.load(ctx, pool)
    reports = poll(ctx, pool, observation)
    live = moved(ctx, pool, live, reports, now)
    climb(ctx, pool, live, observation, reports, now)
    before, live = live, lifecycle.absorb(ctx, pool, live, reports, now)
    notice(ctx, pool, before, live, observation, now)
    if observation.complete:
        live = lifecycle.lost_with_nodes(ctx, pool, live, frozenset(n.node_id for n in observation.nodes), now)
    live = lifecycle.advance(ctx, live, now)
    parts = ((t, len(t.done)) for t in live.tasks.values() if t.state is State.RUNNING)
    note_parts(ctx, pool, {(t.run_id, t.task_id): n for t, n in parts if 0 < n < t.spec.instances})
    ctx.ports.ledger.expire(pool.name, now)
    adjust_tasks(ctx, pool, live, observation, reports, now)
    curves = Curves(ctx, pool, live)
    reclaim(curves, observation, reports, now)
    _reserve_upcoming(ctx, pool, live, curves, now)
    _resume(ctx, pool, live, observation, frozenset(r.claimant for r in reports), now)
    sized, probing = probed(ctx, pool, live, observation, reports, now)
    return _place(ctx, pool, sized, observation, reports, curves, probing, now)


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
    lost = []
    for r in of_tasks(ctx.ports.ledger.reservations(pool.name)):
        if r.state is not ReservationState.COMMITTED or r.claimant in reported or r.claimant not in by_claimant:
            continue
        node = ready.get(r.node_id or "")
        if node is not None:
            task, instance = by_claimant[r.claimant]
            lost.append(Start(live.runs[task.run_id], task, instance, node, r.under))
    start_all(ctx, pool, lost, now)


def _reserve_upcoming(ctx: Context, pool: Pool, live: lifecycle.Live, curves: Curves, now: datetime) -> None:
    """Soft reservations for the roots of runs that are due later, so that the claim is on the books before the time."""
    held = {r.claimant for r in of_tasks(ctx.ports.ledger.reservations(pool.name))}
    for run in live.runs.values():
        if run.due is None or run.due <= now:
            continue
        for task in live.of_run(run.run_id):
            if task.spec.parents or task.state is not State.PENDING:
                continue
            for i in range(task.spec.instances):
                if task.claimant(i) not in held:
                    ctx.ports.ledger.reserve(soft(pool, task, i, run.due, segments=curves.segments(task, run.due)))


def _reserve_waiting(
    ctx: Context, pool: Pool, waiting: Sequence[tuple[TaskRun, int]], curves: Curves, now: datetime
) -> None:
    """Soft reservations of the whole curve for what waits; what does not come within the grace is on the books anew."""
    if curves.packing is None:
        return
    held = {r.claimant for r in of_tasks(ctx.ports.ledger.reservations(pool.name))}
    for task, i in waiting:
        segments = None if task.claimant(i) in held else curves.segments(task, now)
        if segments is not None:
            ctx.ports.ledger.reserve(soft(pool, task, i, now, segments=segments))


def _place(
    ctx: Context,
    pool: Pool,
    live: lifecycle.Live,
    observation: PoolObservation,
    reports: Sequence[TaskReport],
    curves: Curves,
    probing: frozenset[str],
    now: datetime,
) -> DispatchResult:
    drained = ctx.ports.intent.drains(pool.name)
    books = hand_over(ctx, pool, observation, drained, now)
    nodes = {n.node_id: n for n in observation.nodes}
    lanes = known_lanes(ctx, pool)
    rooms = in_lanes(lanes, open_rooms(observation, as_asked(curves, books.reservations), drained), nodes)
    committed = {r.claimant for r in of_tasks(books.reservations) if r.state is ReservationState.COMMITTED}
    live = at_their_size(live, books.reservations)
    wanting = _wanting(live, committed | probing)
    ready = ready_tasks(ctx, pool, live, wanting, _on_disks(rooms))
    ordered = [wanting[r.key] for r in in_turn(ctx, rooms, books.reservations, ready, now)]
    requests = [request_of(t, i) for t, i in ordered]
    if curves.packing is not None:
        requests = [replace(r, amount=curves.size(t)) for r, (t, _) in zip(requests, ordered, strict=True)]
    if lanes:
        requests = [replace(r, lane=lane_of(pool, lanes, r.amount, r.affinity) or 0) for r in requests]
    placement = assign(
        pool, observation, books, rooms, list(zip((t for t, _ in ordered), requests, strict=True)), ctx.tenants, now
    )
    remember(ctx, pool, "short", wanting, placement.unplaced, now)
    remember(ctx, pool, "held", wanting, wanting.keys() - placement.placed.keys() - placement.unplaced.keys(), now)
    starts = []
    for claimant, (node_id, under) in placement.placed.items():
        task, i = wanting[claimant]
        starts.append(Start(live.runs[task.run_id], task, i, nodes[node_id], under, curves.segments(task, now)))
    started = start_all(ctx, pool, starts, now)
    unplaced = [(t, i) for t, i in ordered if t.claimant(i) in placement.unplaced]
    offerings = {n: node.offering for n, node in nodes.items()}
    shared = share_nodes(curves, rooms, offerings, () if books.coming else unplaced, reports, now)
    for claimant, where in shared.items():
        task, i = wanting[claimant]
        node = nodes[where.node_id]
        if start_all(ctx, pool, [Start(live.runs[task.run_id], task, i, node, "", where.segments)], now):
            started.append(claimant)
            note(ctx, pool, claimant, node, (ActionKind.SHARE, where.why), peak=most(where.segments).as_dict())
    _reserve_waiting(ctx, pool, [(t, i) for t, i in unplaced if t.claimant(i) not in started], curves, now)
    nowhere = _fitting_nowhere(pool, {c: wanting[c][0].spec for c in placement.unplaced})
    # No node is wanted for what fits on none, nor for what has to wait whatever there is.
    left = sorted((placement.placed.keys() | placement.unplaced.keys()) - set(started) - nowhere.keys())
    wave = _kinds([wanting[c][0].spec for c in left])
    begun = frozenset(r.run_id for r in live.runs.values() if r.due is None or r.due <= now)
    return DispatchResult(tuple(started), together(wave), len(left), nowhere, len(live.tasks), wave, begun)


def _fitting_nowhere(pool: Pool, specs: Mapping[str, TaskSpec]) -> dict[str, str]:
    """Claimant -> why it fits on no node that the pool could ever have."""
    known: dict[tuple[Resources, tuple[tuple[str, str], ...]], str] = {}
    out = {}
    for claimant, spec in specs.items():
        key = (spec.request, tuple(sorted(spec.affinity.items())))
        if key not in known:
            known[key] = why_nowhere(pool, spec.request, spec.affinity)
        if known[key]:
            out[claimant] = known[key]
    return out


def _kinds(specs: Sequence[TaskSpec]) -> tuple[Kind, ...]:
    """Like instances together."""
    found: dict[tuple[Resources, tuple[tuple[str, str], ...]], int] = {}
    for spec in specs:
        key = (spec.request, tuple(sorted(spec.affinity.items())))
        found[key] = found.get(key, 0) + 1
    return tuple(Kind(request, float(n), dict(labels)) for (request, labels), n in found.items())


def _on_disks(rooms: Sequence[NodeRoom]) -> frozenset[str]:
    """What lies on nodes that have room."""
    return frozenset(key for r in rooms if not r.free.is_zero for key in r.preloaded)


def _wanting(live: lifecycle.Live, committed: set[str]) -> dict[str, tuple[TaskRun, int]]:
    """Instances that want a node now; a RUNNING task may have some that found no room yet."""
    return {
        t.claimant(i): (t, i)
        for t in live.tasks.values()
        if t.state in (State.READY, State.RUNNING)
        for i in range(t.spec.instances)
        if t.claimant(i) not in committed and i not in t.done
    }
