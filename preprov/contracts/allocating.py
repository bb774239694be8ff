"""One way to hold anything: a machine, a task's process or container, a device, a volume."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.model.reservations import Reservation


class Holding(StrEnum):
    """How far a unit is somebody's."""

    FREE = "free"
    RESERVED = "reserved"
    ALLOCATED = "allocated"


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing of a resource type, as seen now.

    Attributes:
        name: unique in its pool and kind. node_id: where it is; "" = nowhere yet.
        amount: what it has, or what it may use, by resource in the units of `model.resources.UNITS`; a type of storage
            adds "disk" in GiB.
        holders: claimants that have it, or wait for it; of a task, which is a claimant itself, its tenant.
        detail: its state in words, for people.
    """

    kind: str
    name: str
    pool: str
    node_id: str = ""
    holding: Holding = Holding.FREE
    amount: Mapping[str, float] = field(default_factory=dict)
    holders: tuple[str, ...] = ()
    detail: str = ""


@runtime_checkable
class Allocatable(Protocol):
    """One resource type. A claim is a `Reservation`, and the ledger is its only book.

    A type that cannot do one of these refuses it with a RefusedError that says why, before anything is changed. Types
    of third parties enter by the entry point `preprov.resource_types`: a callable, given the ports and the clock. Their
    claims are on units in their own terms (`Reservation.units`), which `ReservationLedger.allot` binds and changes.

    Attributes:
        kind: its name: "vm", "process", "container", "job", "gpu", "volume", or one of its own.
    """

    @property
    def kind(self) -> str:
        """See above."""
        ...

    def observe(self, pool: Pool) -> tuple[Unit, ...]:
        """Units of the pool by name, with those who hold them. Changes nothing."""
        ...

    def reserve(self, pool: Pool, claim: Reservation) -> Reservation:
        """Put a soft claim on the books. The same id, or a live claim of the same claimant, is returned as it is.

        Raises:
            OverbookedError: there can never be room for it beside what is promised, or its tenant holds too much.
            ReservationError: its id was used up.
        """
        ...

    def allocate(self, pool: Pool, claim: Reservation, node: Node) -> Reservation:
        """Bind a claim to a node, and begin what it is for; again changes nothing.

        Raises:
            OverbookedError: the node has no room. ReservationError: the claim is over, or bound to another node.
            PoolError: it could not begin; its claim is then released, so that nothing holds room for nothing.
        """
        ...

    def resize(self, pool: Pool, claim: Reservation, node: Node, amount: Mapping[str, float]) -> Reservation:
        """Let an allocated claim have so much from now on, by resource; what is not named stays.

        Returns the claim with what is in force, as it is in the books.

        Raises:
            OverbookedError: the node has no room. PoolError: it was not changed, nor were the books.
        """
        ...

    def release(self, pool: Pool, claim: Reservation, node: Node | None, reason: str) -> Reservation:
        """End what a claim is for, on its owner's word, and give its room back; again changes nothing.

        `node` is where it is; None = it is on none, or that is gone.

        Raises:
            PoolError: it could not be ended; it stays on the books.
        """
        ...
