"""What a person does to one claim, whatever type of resource it is on."""

from collections.abc import Mapping
from dataclasses import dataclass

from preprov.contracts import Allocatable, Unit
from preprov.control.allocating.types import named, resource_types, type_of
from preprov.control.context import Context
from preprov.control.observing import observe
from preprov.control.phased import note
from preprov.model.errors import RefusedError, ReservationError
from preprov.model.nodes import Node
from preprov.model.plans import ActionKind
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.model.work import run_of


@dataclass(frozen=True)
class _Claim:
    claim: Reservation
    pool: Pool
    node: Node | None
    type: Allocatable


def units(ctx: Context, pool: Pool, kind: str | None = None) -> tuple[Unit, ...]:
    """Everything that can be held of a pool and who holds it; of one kind, or of all.

    Raises:
        ConfigError: there is no such kind.
    """
    types = resource_types(ctx).values() if kind is None else (named(ctx, kind),)
    return tuple(u for t in types for u in t.observe(pool))


def bind(ctx: Context, reservation_id: str, node_id: str) -> Reservation:
    """Bind a soft claim to a node.

    Raises:
        ReservationError: there is none of that id, or no such node. PoolError: as its type says.
    """
    found = _found(ctx, reservation_id, node_id)
    if found.node is None:
        pool = found.pool.name
        raise ReservationError(f"pool {pool} has no node {node_id}", hint=f"preprov pool show {pool}")
    return found.type.allocate(found.pool, found.claim, found.node)


def resize(ctx: Context, reservation_id: str, amounts: Mapping[str, float]) -> Reservation:
    """Let a running task, or a volume, have other amounts of some resources; put on record.

    Raises:
        ReservationError: there is no live claim of that id, or its node has no room.
        RefusedError: its pool changes nothing that runs, or its type cannot be changed. PoolError: it failed.
    """
    found = _found(ctx, reservation_id)
    pool, claim, node = found.pool, found.claim, found.node
    if claim.purpose is Purpose.TASK and pool.adjusting is None:
        hint = "configure [pool.adjust]: what nobody keeps up ends with its lease"
        raise RefusedError(f"pool {pool.name} changes nothing that runs", where=reservation_id, hint=hint)
    if node is None or claim.state is not ReservationState.COMMITTED:
        raise ReservationError("only what has begun is changed", where=reservation_id, hint="wait until it runs")
    after = found.type.resize(pool, claim, node, amounts)
    why = (ActionKind.RESIZE, f"by hand of {ctx.actor}")
    note(ctx, pool, claim.claimant, node, why, before=claim.amounts, after=after.amounts)
    return after


def give_back(ctx: Context, reservation_id: str, reason: str) -> Reservation:
    """Release a claim; again changes nothing. A task that has begun is ended by cancelling its run.

    Raises:
        ReservationError: there is none of that id, or its task runs. PoolError: as its type says.
    """
    found = _found(ctx, reservation_id)
    if found.claim.purpose is Purpose.TASK and found.claim.state is ReservationState.COMMITTED:
        run = run_of(found.claim.claimant)
        raise ReservationError("its task has begun", where=reservation_id, hint=f"preprov run cancel {run}")
    return found.type.release(found.pool, found.claim, found.node, reason)


def _found(ctx: Context, reservation_id: str, node_id: str | None = None) -> _Claim:
    claims = [r for r in ctx.ports.ledger.get(reservation_id) if r.reservation_id == reservation_id]
    if not claims:
        raise ReservationError(f"there is no reservation {reservation_id}", hint="preprov reservation list")
    claim, pool = claims[0], ctx.pool(claims[0].pool)
    wanted = node_id or claim.node_id
    nodes = observe(ctx, pool).nodes if wanted else ()
    node = next((n for n in nodes if n.node_id == wanted), None)
    return _Claim(claim, pool, node, type_of(ctx, pool, claim, node))
