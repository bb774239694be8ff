"""What every resource type must do: a claim is kept once, begun once, changed or refused whole, and given back.

Subclass `AllocatableContract` and give it a fixture `world` that yields an `AllocatableWorld`.
"""

import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

import pytest

from preprov.contracts import Allocatable, Clock, Holding
from preprov.model.errors import OverbookedError, PoolError, RefusedError, ReservationError
from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment, WantedUnits, WantedVolume
from preprov.model.resources import ZERO, Resources


class AllocatableWorld(Protocol):
    """A type, and a node of a pool on which nothing is held.

    Attributes:
        type: under test. amount: of a claim of which one fits on the node, and no two.
        too_much: what no claim can ever have, by resource.
    """

    type: Allocatable
    pool: Pool
    node: Node
    clock: Clock
    amount: Mapping[str, float]
    too_much: Mapping[str, float]

    @property
    def purpose(self) -> Purpose:
        """What its claims are for."""
        ...

    def claimant(self, number: int) -> str:
        """A name that claims of this type may have, a new one for each number."""
        ...

    def begun(self, claimant: str) -> int:
        """How often what it is for was begun there; 1 for types that begin nothing, once they are bound."""
        ...

    def books(self) -> tuple[Reservation, ...]:
        """All live claims."""
        ...


class AllocatableContract:
    """The suite."""

    def claim(self, world: AllocatableWorld, number: int = 0) -> Reservation:
        """A claim from now on; of purpose VOLUME, all are on the same one."""
        now, is_volume = world.clock.now(), world.purpose is Purpose.VOLUME
        is_room = world.purpose not in (Purpose.VOLUME, Purpose.UNITS)
        return Reservation(
            f"r{number}",
            world.pool.name,
            world.claimant(number),
            (Segment(now, now + timedelta(hours=1), Resources.of(world.amount) if is_room else ZERO),),
            expires_at=now + timedelta(hours=1),
            created_at=now,
            purpose=world.purpose,
            volume=WantedVolume("data", world.amount["disk"]) if is_volume else None,
            units=WantedUnits.of(world.type.kind, world.amount) if world.purpose is Purpose.UNITS else None,
        )

    def test_it_is_a_type_with_a_name(self, world: AllocatableWorld) -> None:
        """And what it shows is of that type, and of the pool."""
        assert isinstance(world.type, Allocatable)
        assert world.type.kind
        for unit in world.type.observe(world.pool):
            assert (unit.kind, unit.pool) == (world.type.kind, world.pool.name)
            assert unit.holding is Holding.FREE
            assert unit.holders == ()

    def test_a_claim_is_kept_once(self, world: AllocatableWorld) -> None:
        """And holds no node yet."""
        first = world.type.reserve(world.pool, self.claim(world))
        assert world.type.reserve(world.pool, self.claim(world)) == first
        assert [(r.state, r.node_id) for r in world.books()] == [(ReservationState.SOFT, None)]

    def test_it_is_begun_once_and_seen(self, world: AllocatableWorld) -> None:
        """On its node, by who holds it."""
        soft = world.type.reserve(world.pool, self.claim(world))
        bound = world.type.allocate(world.pool, soft, world.node)
        assert world.type.allocate(world.pool, soft, world.node) == bound
        assert (bound.state, bound.node_id) == (ReservationState.COMMITTED, world.node.node_id)
        assert world.begun(bound.claimant) == 1
        held = [u for u in world.type.observe(world.pool) if u.holding is not Holding.FREE]
        assert {u.node_id for u in held} == {world.node.node_id}
        assert all(bound.claimant in (u.name, *u.holders) for u in held)

    def test_nothing_is_held_twice(self, world: AllocatableWorld) -> None:
        """What has no room is not begun, and disturbs nobody."""
        first = world.type.allocate(world.pool, world.type.reserve(world.pool, self.claim(world)), world.node)
        second = world.type.reserve(world.pool, self.claim(world, 1))
        with pytest.raises(OverbookedError):
            world.type.allocate(world.pool, second, world.node)
        assert world.begun(second.claimant) == 0
        assert {r.state for r in world.books() if r.claimant == first.claimant} == {ReservationState.COMMITTED}

    def test_it_is_changed_whole_or_not_at_all(self, world: AllocatableWorld) -> None:
        """What is in force is on the books; a refusal leaves them as they were."""
        bound = world.type.allocate(world.pool, world.type.reserve(world.pool, self.claim(world)), world.node)
        less = {k: v * 0.8 for k, v in world.amount.items()}
        told = bound
        with contextlib.suppress(RefusedError):
            told = world.type.resize(world.pool, bound, world.node, less)
        (held,) = world.books()
        assert held == told
        with pytest.raises((OverbookedError, PoolError)):
            world.type.resize(world.pool, held, world.node, world.too_much)
        assert world.books() == (held,)

    def test_it_is_given_back_and_room_is_free(self, world: AllocatableWorld) -> None:
        """Again changes nothing; the next one has its place."""
        bound = world.type.allocate(world.pool, world.type.reserve(world.pool, self.claim(world)), world.node)
        over = world.type.release(world.pool, bound, world.node, "enough")
        assert (over.state, over.reason) == (ReservationState.RELEASED, "enough")
        assert world.type.release(world.pool, bound, world.node, "again") == over
        assert world.books() == ()
        following = world.type.reserve(world.pool, self.claim(world, 1))
        assert world.type.allocate(world.pool, following, world.node).node_id == world.node.node_id
        with pytest.raises(ReservationError):
            world.type.allocate(world.pool, bound, world.node)
