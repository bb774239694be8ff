"""Workers of the places that are served: one on each warm node, which leaves before its node does.

A worker is a task on the node like any other, but a node that has nothing but an idle one counts as idle. Before such
a node is put away the worker is asked to leave: it takes no further run, ends those it has, and then ends itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from preprov.contracts import PlaceSeen, Serves
from preprov.control.context import Context
from preprov.control.foreign import SERVES
from preprov.model.errors import NodeBusyError, PoolError
from preprov.model.foreign import Foreign
from preprov.model.nodes import Node, Phase
from preprov.model.pools import Pool
from preprov.model.resources import Resources, sum_of
from preprov.planning.slots import slots_of

log = structlog.get_logger(__name__)

_LEAVES: Final = "leave"
"""The task that tells a worker to leave."""
_STALE: Final = timedelta(seconds=60)
"""What a place said is believed for so long after the next look was due; then a node with a worker is busy."""
GONE_FOR: Final = timedelta(seconds=90)
"""A node whose worker was asked to leave gets none for so long, for it is about to go."""
_AGAIN: Final = timedelta(seconds=15)
"""A worker that is not there so long after it was started has ended; each time twice as long, up to the longest."""
_LONGEST: Final = timedelta(minutes=10)


@dataclass
class Memory:
    """Of one place, by this process; everything may be forgotten.

    Attributes:
        seen: at the last look, if it answered. next: when the next is due. ready: warm nodes and their slots then.
        on: node -> serial of the worker that it tells of. left: node -> when it was asked to leave.
        tries: node -> (when it became ready, tries, when last). told: the last recommendation.
        fails: looks in a row that it did not answer.
    """

    seen: PlaceSeen | None = None
    next: datetime | None = None
    ready: tuple[tuple[str, int], ...] = ()
    on: dict[str, str] = field(default_factory=dict)
    left: dict[str, datetime] = field(default_factory=dict)
    tries: dict[str, tuple[str, int, datetime]] = field(default_factory=dict)
    told: object = None
    fails: int = 0


def memory_of(ctx: Context, place: Serves) -> Memory:
    """What this process remembers of a place."""
    key = (place.service.pool, "served", place.service.name)
    held = ctx.memo.get(key)
    if held is None:
        ctx.memo[key] = held = (ctx.clock.now(), Memory())
    return held[1]  # type: ignore[return-value]


# ------------------------------------------------------------------ what nodes look like


def without_workers(ctx: Context, pool: Pool, nodes: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes as others are to see them: an idle worker is nothing that runs, a run that it has in hand is.

    What such runs take of a node is foreign, as all work is that preprov has not started. Of a worker that nobody can
    say anything of it is as much as it may take.
    """
    places, nodes = ctx.served.get(pool.name, ()), tuple(nodes)
    if not places:
        return nodes
    ctx.memo[(pool.name, "nodes-seen")] = (ctx.clock.now(), nodes)
    out = []
    for node in nodes:
        running, foreign = node.running, node.foreign or ()
        for place in places:
            running, runs = _without(ctx, pool, place, node, running)
            foreign = (*foreign, *runs)
        same = running is node.running and len(foreign) == len(node.foreign or ())
        out.append(node if same else replace(node, running=running, foreign=foreign))
    return tuple(out)


def others_on(ctx: Context, pool: Pool) -> dict[str, Resources]:
    """Node -> what is foreign there beside the runs of places that are served, as it was seen last."""
    return {n.node_id: sum_of(f.amount for f in n.foreign) for n in _nodes(ctx, pool) if n.foreign}


def _without(
    ctx: Context, pool: Pool, place: Serves, node: Node, running: tuple[str, ...] | None
) -> tuple[tuple[str, ...] | None, tuple[Foreign, ...]]:
    """(what is to be seen of what runs there, what the runs of the place take, or may take)."""
    node_id = node.node_id
    memory, begins = memory_of(ctx, place), f"{SERVES}{place.service.name}:"
    mine = [c for c in running or () if c.startswith(begins)]
    worker = next((c for c in mine if not c.rpartition("/")[2].startswith(_LEAVES)), None)
    if running is not None:
        memory.on.pop(node_id, None)
        if worker is not None:
            memory.on[node_id] = worker.rpartition("/")[0].removeprefix(f"{begins}{node_id}:")
    if running is None or not mine:
        return running, ()
    fresh = memory.seen is not None and memory.next is not None and ctx.clock.now() <= memory.next + _STALE
    if worker is not None and not fresh:
        return running, (Foreign(place.service.run),) * _slots(pool, place, node)
    runs, began = (memory.seen.runs, memory.seen.began) if memory.seen is not None else ({}, {})
    has = runs.get(place.worker_name(node_id, memory.on[node_id]), ()) if worker is not None else ()
    shown = (*(c for c in running if c not in mine), *(f"{place.service.name}: {r}" for r in has))
    return shown, tuple(Foreign(place.service.run, began.get(r)) for r in has)


def _slots(pool: Pool, place: Serves, node: Node) -> int:
    """How many runs a worker on the node may have."""
    return max(slots_of(pool.claimable(node.offering), place.service.run), 1)


def leave_first(ctx: Context, pool: Pool, node_ids: Iterable[str]) -> None:
    """Ask the workers of these nodes to leave; NodeBusyError if there are any: the nodes go when those have gone."""
    waiting = []
    for place in ctx.served.get(pool.name, ()):
        memory, now = memory_of(ctx, place), ctx.clock.now()
        for node_id in node_ids:
            if node_id in memory.on or node_id in memory.left:
                memory.left[node_id] = now  # however long it takes: no new worker meanwhile
            if node_id in memory.on:
                waiting.append(node_id)
                say_farewell(ctx, pool, place, node_id, memory.on[node_id])
    if waiting:
        raise NodeBusyError(
            f"the worker on {', '.join(waiting)} takes no more runs, and ends when those it has have ended",
            where=pool.name,
        )


def say_farewell(ctx: Context, pool: Pool, place: Serves, node_id: str, serial: str) -> None:
    """Have a node's worker take nothing more; again changes nothing."""
    raw = next((n for n in _nodes(ctx, pool) if n.node_id == node_id), None)
    scheduler = ctx.schedulers.get(pool.group(raw.group).provider) if raw is not None else None
    if raw is None or scheduler is None or raw.phase is not Phase.READY:
        return  # a node that drains has told its worker by itself
    try:
        scheduler.start(place.farewell(raw, serial), 0, raw)
    except PoolError as e:
        log.warning("a worker was not told to leave", pool=pool.name, node=node_id, why=str(e))


def _nodes(ctx: Context, pool: Pool) -> tuple[Node, ...]:
    held = ctx.memo.get((pool.name, "nodes-seen"))
    return held[1] if held else ()  # type: ignore[return-value]


def have_worker(ctx: Context, pool: Pool, place: Serves, memory: Memory, node: Node) -> None:
    """Start the node's worker, unless it is there or was started just now."""
    if node.node_id in memory.on or node.running is None:
        return
    now, woken = ctx.clock.now(), f"{(node.ready_at or node.since).timestamp():.0f}"
    before, tries, at = memory.tries.get(node.node_id, ("", 0, now))
    if before != woken:
        tries = 0
    elif now - at < min(_AGAIN * 2 ** max(tries - 1, 0), _LONGEST):
        return
    scheduler = ctx.schedulers.get(pool.group(node.group).provider)
    if scheduler is None:
        return
    memory.tries[node.node_id] = (woken, tries + 1, now)
    total = _slots(pool, place, node)
    try:
        scheduler.start(place.worker(node, f"{woken}.{tries}", total), 0, node)
    except PoolError as e:
        log.warning("a worker was not started", pool=pool.name, node=node.node_id, why=str(e))
        return
    log.info("worker started", pool=pool.name, place=place.service.name, node=node.node_id, slots=total, again=tries)


def hosts_worker(ctx: Context, pool: Pool, node_id: str) -> bool:
    """True if a worker lives there that nobody else sees."""
    return any(node_id in memory_of(ctx, p).on for p in ctx.served.get(pool.name, ()))
