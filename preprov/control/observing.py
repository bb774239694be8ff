"""Ask the providers what exists, and keep what is worth learning from it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from preprov.contracts import LeadObservation, PoolSnapshot
from preprov.control.context import Context
from preprov.control.foreign import with_foreign
from preprov.control.workers import without_workers
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.model.resources import ZERO, Resources, sum_of
from preprov.planning.held import foreign_by_node

UNLISTED: Final = "not listed yet"
"""Reason of a node that no listing shows so far."""
_LISTED_WITHIN: Final = timedelta(minutes=2)
"""After so long a node that no listing shows is gone."""


def observe(ctx: Context, pool: Pool) -> PoolObservation:
    """All nodes of the pool over all its providers; a provider that does not answer makes it incomplete."""
    if not ctx.live:
        return PoolObservation(pool.name, ctx.clock.now(), ())
    nodes: list[Node] = []
    failed: list[Node] = []
    problems: list[str] = []
    complete = True
    withheld: dict[str, int] = {}
    for name in dict.fromkeys(g.provider for g in pool.groups):
        if name not in ctx.providers:  # a pool that only has history
            complete = False
            problems.append(f"{name}: nothing supplies nodes for this pool yet")
            continue
        try:
            seen = ctx.provider(name).observe(pool)
        except PoolError as e:
            complete = False
            problems.append(f"{name}: {e}")
            continue
        nodes.extend(seen.nodes)
        failed.extend(seen.failed)
        problems.extend(seen.problems)
        withheld |= seen.withheld
        complete = complete and seen.complete
    shown = without_workers(ctx, pool, with_foreign(ctx, pool, nodes))
    return PoolObservation(pool.name, ctx.clock.now(), shown, complete, tuple(problems), withheld, tuple(failed))


def within_reach(pool: Pool, observation: PoolObservation) -> Pool:
    """The pool without the nodes that somebody else keeps for himself."""
    if not observation.withheld:
        return pool
    groups = []
    for g in pool.groups:
        most = max(g.max_nodes - observation.withheld.get(g.name, 0), 0)
        groups.append(replace(g, max_nodes=most, min_nodes=min(g.min_nodes, most)))
    return replace(pool, groups=tuple(groups))


def observe_launched(ctx: Context, pool: Pool) -> PoolObservation:
    """The same, with the nodes that launches of the last moments named and that no listing shows yet: they warm.

    Listings lag behind by as much as a minute. Without these, whoever decides again within seconds would launch again.
    """
    seen = observe(ctx, pool)
    late = tuple(_unlisted(ctx, pool, seen))
    return replace(seen, nodes=(*seen.nodes, *late)) if late else seen


def _unlisted(ctx: Context, pool: Pool, seen: PoolObservation) -> Iterator[Node]:
    """Nodes of launches that were done lately, less those that are listed, did not come, or were ended since."""
    launched: dict[str, ActionRecord] = {}
    for r in ctx.ports.audit.records(pool.name, since=seen.at - _LISTED_WITHIN) if ctx.live else ():
        if r.result == "done" and r.action.kind is ActionKind.LAUNCH:
            launched |= dict.fromkeys(r.node_ids, r)
        elif r.result == "done" and r.action.kind is ActionKind.TERMINATE:
            launched = {i: of for i, of in launched.items() if i not in r.node_ids}
    groups = {g.name: g for g in pool.groups}
    for node_id in sorted(launched.keys() - {n.node_id for n in (*seen.nodes, *seen.failed)}):
        r = launched[node_id]
        group = groups.get(r.action.group)
        if group is not None:
            offering = next((o for o in group.offerings if o.key == r.action.offering), group.offerings[0])
            token = r.action.action_id
            yield Node(
                node_id, pool.name, group.name, offering, Phase.WARMING, r.at, r.at, token=token, reason=UNLISTED
            )


def learn_leads(ctx: Context, pool: Pool, observation: PoolObservation, known: set[tuple[str, datetime]]) -> int:
    """Keep one lead-time observation per warming that ended; returns how many were new.

    Args:
        ctx: the context.
        pool: the pool.
        observation: what exists now, and what did not come.
        known: (node_id, ready_at) already kept, by this process; the store is idempotent anyway.
    """
    added = 0
    for n in (*observation.nodes, *observation.failed):
        failed = n.phase is Phase.FAILED and n.ready_at is None
        ended = n.since if failed else n.ready_at
        if ended is None or (n.node_id, ended) in known:
            continue
        known.add((n.node_id, ended))
        begun = n.created_at if n.came_from is Standby.COLD or failed else n.since
        seconds = sum(n.stages.values()) or max((ended - begun).total_seconds(), 0.0)
        ctx.ports.leads.add(
            LeadObservation(
                at=ended,
                pool=pool.name,
                provider=pool.group(n.group).provider,
                group=n.group,
                zone=n.offering.zone,
                instance_type=n.offering.instance_type,
                image=",".join(sorted(n.preloaded))[:200],
                came_from=n.came_from,
                seconds=seconds,
                node_id=n.node_id,
                stages=dict(n.stages),
                outcome="failed" if failed else "ready",
            )
        )
        added += 1
    return added


def committed_by_node(reservations: tuple[Reservation, ...]) -> Mapping[str, list[Reservation]]:
    """Committed reservations of each node."""
    out: dict[str, list[Reservation]] = {}
    for r in reservations:
        if r.state is ReservationState.COMMITTED and r.node_id:
            out.setdefault(r.node_id, []).append(r)
    return out


def of_tasks(reservations: Iterable[Reservation]) -> tuple[Reservation, ...]:
    """Those of task instances that are dispatched here. Anybody may name a booking as they like, even as a task."""
    return tuple(r for r in reservations if r.purpose is Purpose.TASK)


def snapshot(
    ctx: Context,
    pool: Pool,
    observation: PoolObservation,
    reservations: tuple[Reservation, ...],
    *,
    target: int,
    waiting: Resources,
) -> PoolSnapshot:
    """Counts, use and price rate of a pool at this instant."""
    counts: dict[str, dict[str, int]] = {g.name: {} for g in pool.groups}
    allocatable, foreign, rate, priced = ZERO, ZERO, 0.0, True
    others = foreign_by_node(observation, reservations)
    for n in observation.nodes:
        phases = counts.setdefault(n.group, {})
        phases[str(n.phase)] = phases.get(str(n.phase), 0) + 1
        if n.phase in (Phase.READY, Phase.DRAINING):
            allocatable = allocatable + n.offering.allocatable
            foreign = foreign + others.get(n.node_id, ZERO).minimum(n.offering.allocatable)
        if n.standby is Standby.RUNNING:
            usd = ctx.prices.usd_per_hour(n.offering, observation.at)
        else:
            usd = ctx.prices.standby_usd_per_hour(n.offering, n.standby, observation.at)
        priced = priced and usd is not None
        rate += usd or 0.0
    # A window is a promise of room, and no use of it; a booking that was handed over is its owner's.
    bound = (r for held in committed_by_node(reservations).values() for r in held)
    used = sum_of(r.most_after(observation.at) for r in bound if r.purpose is not Purpose.WINDOW)
    return PoolSnapshot(
        pool=pool.name,
        at=observation.at,
        nodes=counts,
        allocatable=allocatable,
        used=used,
        usd_per_hour=rate if priced else None,
        target=target,
        waiting=waiting,
        foreign=foreign,
    )


def spent_usd(ctx: Context, pool: Pool, since: datetime, now: datetime) -> float:
    """Money spent on the pool in [since, now], from the snapshots (each rate holds until the next one)."""
    rows = ctx.ports.history.snapshots(pool.name, since=since, until=now)
    total = 0.0
    for row, after in zip(rows, [*(r.at for r in rows[1:]), now], strict=False):
        total += (row.usd_per_hour or 0.0) * max((after - row.at).total_seconds(), 0.0) / 3600
    return total
