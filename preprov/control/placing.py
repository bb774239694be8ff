"""Which instance goes on which node: first into what its tenant holds, then into what is left for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from preprov.control.context import Tenant
from preprov.control.handover import Books
from preprov.control.readying import wanted_keys
from preprov.model.nodes import Phase, PoolObservation
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, ReservationState
from preprov.model.resources import ZERO, Resources
from preprov.model.work import TaskRun
from preprov.planning.held import Holder, held_by_tenant, holders_of
from preprov.planning.placement import NodeRoom, PlacementRequest, first_fit, labels_of, rooms_of

Wanting: TypeAlias = tuple[TaskRun, PlacementRequest]
"""An instance of a task, by its request."""


@dataclass
class Assigned:
    """claimant -> (node, what it is under); claimant -> why not."""

    placed: dict[str, tuple[str, str]] = field(default_factory=dict)
    unplaced: dict[str, str] = field(default_factory=dict)


def assign(
    pool: Pool,
    observation: PoolObservation,
    books: Books,
    rooms: Sequence[NodeRoom],
    ordered: Sequence[Wanting],
    tenants: Mapping[str, Tenant],
    now: datetime,
) -> Assigned:
    """Place instances in the order given; what has to wait for its booking or its quota is neither placed nor not.

    Args:
        pool: the pool. observation: what exists of it.
        books: what is reserved. rooms: what is free to all.
        ordered: who goes first. tenants: with their quotas.
        now: the present instant.
    """
    out = Assigned()
    drained = {n.node_id for n in observation.nodes} - {r.node_id for r in rooms}
    holders = {
        name: h
        for name, h in holders_of(books.reservations, now).items()
        if h.reservation.node_id not in drained and not h.free.is_zero
    }
    left = _within_holders(pool, observation, holders, ordered, out)
    awaited = {n for r in books.reservations if r.state is ReservationState.SOFT for n in (r.reservation_id, r.gang)}
    left = [(t, r) for t, r in left if not (t.spec.under and t.spec.under in awaited)]
    allowed = _within_quota(tenants, held_by_tenant(books.reservations, now), left)
    if not books.coming:
        _place(pool, allowed, rooms, out)
        return out
    until = min(books.coming.values())
    late = [x for x in allowed if not _ends_by(x[0], until, now)]
    soon = [x for x in allowed if _ends_by(x[0], until, now)]
    taken = _place(pool, late, _beside_what_comes(pool, observation, books, rooms, until, now), out)
    _place(pool, soon, _less(rooms, taken), out)
    return out


def _place(
    pool: Pool, instances: Sequence[Wanting], rooms: Sequence[NodeRoom], out: Assigned
) -> Mapping[str, Resources]:
    """By first fit; returns what was taken of each node."""
    found = first_fit([r for _, r in instances], rooms, pool.binding)
    out.placed.update((c, (node, "")) for c, node in found.placed.items())
    out.unplaced.update(found.unplaced)
    taken: dict[str, Resources] = {}
    for _, r in instances:
        if node := found.placed.get(r.claimant):
            taken[node] = taken.get(node, ZERO) + r.amount
    return taken


def _less(rooms: Sequence[NodeRoom], taken: Mapping[str, Resources]) -> list[NodeRoom]:
    return [replace(r, free=r.free.minus_clamped(taken.get(r.node_id, ZERO))) for r in rooms]


def _within_holders(
    pool: Pool,
    observation: PoolObservation,
    holders: Mapping[str, Holder],
    ordered: Sequence[Wanting],
    out: Assigned,
) -> list[Wanting]:
    """Place what is under a booking into it, and what has a window into that; returns what has still to be placed."""
    if not holders:
        return list(ordered)
    nodes = {n.node_id: n for n in observation.in_phase(Phase.READY)}
    groups: dict[tuple[str, str], list[Wanting]] = {}
    for task, request in ordered:
        groups.setdefault((task.tenant, task.spec.under), []).append((task, request))
    for (tenant, under), instances in groups.items():
        own = {n: h for n, h in holders.items() if h.reservation.tenant == tenant and _serves(h, under)}
        rooms = []
        for name, h in own.items():
            if node := nodes.get(h.reservation.node_id or ""):
                rooms.append(NodeRoom(name, h.free, h.free, labels_of(node), node.preloaded))
        found = first_fit([r for _, r in instances], rooms, pool.binding)
        out.placed.update((c, (str(own[h].reservation.node_id), h)) for c, h in found.placed.items())
    return [(t, r) for t, r in ordered if r.claimant not in out.placed]


def _serves(holder: Holder, under: str) -> bool:
    """True if what is under `under` ("" = nothing) may go there."""
    r = holder.reservation
    return under in (r.reservation_id, r.gang) if under else r.purpose is Purpose.WINDOW


def _within_quota(
    tenants: Mapping[str, Tenant], held: Mapping[str, Resources], ordered: Sequence[Wanting]
) -> list[Wanting]:
    """The instances that their tenant may start now; what it holds counts against its quota."""
    used = dict(held)
    out = []
    for task, request in ordered:
        tenant = tenants.get(task.tenant)
        after = used.get(task.tenant, ZERO) + request.amount
        if tenant is not None and any(getattr(after, k) > limit for k, limit in tenant.quota.items()):
            continue
        used[task.tenant] = after
        out.append((task, request))
    return out


def _beside_what_comes(
    pool: Pool, observation: PoolObservation, books: Books, rooms: Sequence[NodeRoom], until: datetime, now: datetime
) -> list[NodeRoom]:
    """Room for what will still run when the room is wanted that somebody has been promised.

    What should have ended by then is in nobody's way.
    """
    over = {r.reservation_id for r in books.reservations if r.purpose is Purpose.TASK and now < r.end <= until}
    free_now = {r.node_id: r.free for r in rooms}
    lasting = [r for r in books.reservations if r.reservation_id not in over]
    free_then = {r.node_id: r.free for r in rooms_of(observation, lasting)}
    then = [replace(r, free=free_then[r.node_id]) for r in rooms]
    amounts = {r.reservation_id: r.most_after(now) for r in lasting if r.reservation_id in books.coming}
    found = first_fit([PlacementRequest(n, a) for n, a in amounts.items()], then, pool.binding)
    kept: dict[str, Resources] = {}
    for name, node in found.placed.items():
        kept[node] = kept.get(node, ZERO) + amounts[name]
    return [replace(r, free=r.free.minimum(free_now[r.node_id])) for r in _less(then, kept)]


def _ends_by(task: TaskRun, until: datetime, now: datetime) -> bool:
    """True if it should have ended by then; not if nobody says how long it takes."""
    return task.spec.runtime_hint_s is not None and now + timedelta(seconds=task.spec.runtime_hint_s) <= until


def request_of(task: TaskRun, instance: int) -> PlacementRequest:
    """What an instance wants of a node."""
    spec = task.spec
    return PlacementRequest(
        claimant=task.claimant(instance),
        amount=spec.request,
        gang=f"{task.run_id}/{task.task_id}" if spec.gang and spec.instances > 1 else "",
        affinity=spec.affinity,
        preload=wanted_keys(spec),
    )
