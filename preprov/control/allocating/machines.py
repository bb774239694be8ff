"""Machines: room on them is held for a person or a program, whatever runs there then."""

from collections.abc import Mapping
from typing import Final

from preprov.contracts import Allocatable, Holding, Unit
from preprov.control.context import Context
from preprov.control.observing import committed_by_node, observe
from preprov.control.reserving import limits_of, must_fit_somewhere
from preprov.model.errors import ConflictError, RefusedError
from preprov.model.nodes import Node, Phase
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation

_TAKES: Final = (Phase.READY, Phase.WARMING)


def must_take(node: Node) -> None:
    """A node that sleeps or is about to go takes nothing.

    Raises:
        ConflictError: it is so.
    """
    if node.phase not in _TAKES:
        raise ConflictError(f"it is {node.phase}", where=node.node_id, hint="the plan wakes a node in time")


def is_on_room(claim: Reservation) -> bool:
    """Whether it holds room of nodes for whatever runs there then."""
    return claim.purpose in (Purpose.BOOKING, Purpose.WINDOW)


def is_on_devices(claim: Reservation) -> bool:
    """Whether devices are all it holds."""
    return bool(claim.most.gpu) and not (claim.most.cpu or claim.most.memory)


class Machines:
    """Nodes of a pool. How many there are, and when, is the plan's to say: a claim makes it want them."""

    kind = "vm"

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def observe(self, pool: Pool) -> tuple[Unit, ...]:
        """As the contract says; a node is its claimants' that are bound to it."""
        out = []
        for n, bound in self._nodes(pool):
            holders = tuple(sorted(r.claimant for r in bound))
            holding = Holding.ALLOCATED if holders else Holding.FREE
            amount = pool.claimable(n.offering).as_dict()
            out.append(Unit(self.kind, n.node_id, pool.name, n.node_id, holding, amount, holders, str(n.phase)))
        return tuple(out)

    def _nodes(self, pool: Pool) -> list[tuple[Node, list[Reservation]]]:
        """By name, each with the claims that are bound to it."""
        bound = committed_by_node(self._ctx.ports.ledger.reservations(pool.name))
        nodes = sorted(observe(self._ctx, pool).nodes, key=lambda n: n.node_id)
        return [(n, bound.get(n.node_id, [])) for n in nodes]

    def reserve(self, pool: Pool, claim: Reservation) -> Reservation:
        """As the contract says."""
        must_fit_somewhere(pool, claim.most)
        return self._ctx.ports.ledger.reserve_all((claim,), *limits_of(self._ctx, pool, claim.tenant))[0]

    def allocate(self, pool: Pool, claim: Reservation, node: Node) -> Reservation:
        """As the contract says; a node that sleeps or is about to go takes nothing."""
        must_take(node)
        room, now = pool.claimable(node.offering), self._ctx.clock.now()
        return self._ctx.ports.ledger.commit(claim.reservation_id, node.node_id, room, now)

    def resize(self, pool: Pool, claim: Reservation, node: Node, amount: Mapping[str, float]) -> Reservation:
        """Refused: what is held for somebody is as it was agreed."""
        raise RefusedError("a booking is not changed", where=claim.reservation_id, hint="release it, and book anew")

    def release(self, pool: Pool, claim: Reservation, node: Node | None, reason: str) -> Reservation:
        """As the contract says; no node is ended by it."""
        return self._ctx.ports.ledger.release(claim.reservation_id, reason)


def types(ctx: Context) -> tuple[Allocatable, ...]:
    """What this module brings."""
    return (Machines(ctx),)


def type_for(ctx: Context, pool: Pool, claim: Reservation, node: Node | None) -> Allocatable | None:
    """This one if a claim is on it."""
    return Machines(ctx) if is_on_room(claim) and not is_on_devices(claim) else None
