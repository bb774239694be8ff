"""Storage volumes of real files: whose they are, where, and what is left when something ends in the middle."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from preprov.contracts import Holding
from preprov.control.allocating.by_hand import bind, give_back, resize, units
from preprov.control.allocating.types import type_of
from preprov.control.lifecycle import load, lost_with_nodes
from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    NotFoundError,
    OverbookedError,
    RefusedError,
    ReservationError,
)
from preprov.model.nodes import Node
from preprov.model.plans import ActionKind
from preprov.model.reservations import Purpose, Reservation, ReservationState, WantedVolume
from preprov.testing.local_nodes import cleared
from tests.localnodes import LocalWorld
from tests.unit.control.world import make_pool, make_world
from tests.volumeworld import context, wants

DATA = WantedVolume("data", 0.25)


class Killed(BaseException):
    """As if the process had ended there."""


class World:
    """Two nodes, and a provider of which any verb may be made to fail once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.local = LocalWorld(home)
        self.pool = self.local.pool
        self.one, self.two = self.local.ready(2)
        self.ctx = context(self.pool, self.local.provider, self.local.clock)
        self.ledger = self.ctx.ports.ledger

    def claim(self, name: str, volume: WantedVolume = DATA, **more: Any) -> Reservation:
        claim = wants(self.ctx, self.pool, name, volume, **more)
        return type_of(self.ctx, self.pool, claim).reserve(self.pool, claim)

    def bound(self, name: str, node: Node, volume: WantedVolume = DATA) -> Reservation:
        return bind(self.ctx, self.claim(name, volume).reservation_id, node.node_id)

    def link(self, node: Node, name: str = "data") -> Path:
        return self.local.folder(node) / "volumes" / name

    def disk(self, name: str = "data") -> Path:
        return self.home / "volumes" / "batch" / name / "disk.img"

    def there(self) -> dict[str, str]:
        return {v.name: v.node_id for v in self.local.provider.volumes(self.pool)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with cleared(tmp_path) as home:
        yield World(home)


def test_it_keeps_what_is_written_from_node_to_node(world: World) -> None:
    first = world.bound("a", world.one)
    about = world.disk().stat()
    assert (about.st_size, about.st_blocks, about.st_mode & 0o777) == (2**28, 0, 0o600)
    with world.link(world.one).open("r+b") as disk:
        disk.write(b"kept")
    (unit,) = units(world.ctx, world.pool, "volume")
    assert (unit.node_id, unit.holding, unit.holders) == (world.one.node_id, Holding.ALLOCATED, ("a",))
    assert unit.amount == {"disk": 0.25}
    give_back(world.ctx, first.reservation_id, "over")
    assert not world.link(world.one).is_symlink()
    (unit,) = units(world.ctx, world.pool, "volume")
    assert (unit.node_id, unit.holding, unit.holders) == ("", Holding.FREE, ())
    world.bound("b", world.two)
    assert world.link(world.two).read_bytes()[:4] == b"kept"


def test_a_second_node_is_refused_and_whoever_waits_is_shown(world: World) -> None:
    first = world.bound("a", world.one)
    world.claim("b")
    with pytest.raises(OverbookedError):
        bind(world.ctx, "b", world.two.node_id)
    with pytest.raises(ReservationError):
        bind(world.ctx, first.reservation_id, world.two.node_id)
    with pytest.raises(ConflictError, match=world.one.node_id):
        world.local.provider.attach_volume(world.pool, "data", world.two.node_id)
    with pytest.raises(ConflictError):
        world.local.provider.delete_volume(world.pool, "data")
    (unit,) = units(world.ctx, world.pool, "volume")
    assert (unit.node_id, unit.holders) == (world.one.node_id, ("a", "b"))
    give_back(world.ctx, "b", "waits in vain")
    assert world.there() == {"data": world.one.node_id}


def test_one_that_was_attached_by_hand_is_left_alone(world: World) -> None:
    give_back(world.ctx, world.bound("a", world.one).reservation_id, "")
    world.local.provider.attach_volume(world.pool, "data", world.one.node_id)
    world.claim("b")
    with pytest.raises(ConflictError, match="attached to"):
        bind(world.ctx, "b", world.two.node_id)
    assert [r.state for r in world.ledger.get("b")] == [ReservationState.SOFT]
    assert bind(world.ctx, "b", world.one.node_id).node_id == world.one.node_id


def test_it_grows_and_never_shrinks(world: World) -> None:
    bound = world.bound("a", world.one)
    after = resize(world.ctx, bound.reservation_id, {"disk": 0.5})
    assert after.amounts == {"disk": 0.5}
    assert world.disk().stat().st_size == 2**29
    (row,) = world.ctx.ports.audit.records("batch")
    assert row.action.kind is ActionKind.RESIZE
    assert dict(row.action.numbers) == {"disk_before": 0.25, "disk_after": 0.5}
    for amounts in ({"disk": 0.25}, {"cpu": 1.0}, {}):
        with pytest.raises(RefusedError):
            resize(world.ctx, bound.reservation_id, amounts)
    with pytest.raises(InsufficientCapacityError):
        resize(world.ctx, bound.reservation_id, {"disk": 1e9})
    world.local.provider.grow_volume(world.pool, "data", 0.1)
    assert world.ledger.get(bound.reservation_id) == (after,)
    assert world.disk().stat().st_size == 2**29
    give_back(world.ctx, bound.reservation_id, "")
    assert world.bound("b", world.two).amounts == {"disk": 0.5}, "the books have what it has"


def test_all_together_never_promise_more_than_the_disk_has(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 2**30

    monkeypatch.setattr("preprov.pools.local_volumes.shutil.disk_usage", lambda _: Usage)
    world.bound("a", world.one, WantedVolume("first", 0.75))
    with pytest.raises(InsufficientCapacityError, match=r"0\.2 are left"):
        world.bound("b", world.one, WantedVolume("second", 0.5))
    assert world.there() == {"first": world.one.node_id}
    assert [r.state for r in world.ledger.get("b")] == [ReservationState.RELEASED], "nothing is held for nothing"


@pytest.mark.parametrize("verb", ["create_volume", "attach_volume"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_in_the_middle_it_is_run_again(
    world: World, verb: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(world.local.provider, verb)

    def killed(*args: Any) -> None:
        if after:
            real(*args)
        raise Killed

    world.claim("a")
    with monkeypatch.context() as m:
        m.setattr(world.local.provider, verb, killed)
        with pytest.raises(Killed):
            bind(world.ctx, "a", world.one.node_id)
    bound = bind(world.ctx, "a", world.one.node_id)
    assert (bound.state, world.there()) == (ReservationState.COMMITTED, {"data": world.one.node_id})
    assert world.link(world.one).stat().st_size == 2**28
    assert len(list((world.home / "volumes" / "batch").iterdir())) == 1


@pytest.mark.parametrize("step", ["write_json", "Path.rename"])
def test_half_made_is_not_there_and_is_cleared_away(world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise Killed

    world.claim("a")
    with monkeypatch.context() as m:
        m.setattr(f"preprov.pools.local_volumes.{step}", killed)
        with pytest.raises(Killed):
            bind(world.ctx, "a", world.one.node_id)
        assert world.there() == {}
    bind(world.ctx, "a", world.one.node_id)
    assert [p.name for p in (world.home / "volumes" / "batch").iterdir()] == ["data"]


def test_a_release_that_was_cut_short_is_run_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = world.bound("a", world.one, replace(DATA, keep=False))

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as m:
        m.setattr(world.local.provider, "delete_volume", killed)
        with pytest.raises(Killed):
            give_back(world.ctx, bound.reservation_id, "over")
    assert [r.state for r in world.ledger.get("a")] == [ReservationState.COMMITTED], "it stays on the books"
    assert give_back(world.ctx, bound.reservation_id, "over").state is ReservationState.RELEASED
    assert world.there() == {}
    assert not world.disk().exists()


def test_what_fails_to_attach_is_undone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its own claim had made and would delete is deleted; what was there before is not."""

    def fails(*_: object) -> None:
        raise ConflictError("not now")

    for volume, left in ((replace(DATA, keep=False), {}), (DATA, {"data": ""})):
        name = f"keep-{volume.keep}"
        world.claim(name, volume)
        with monkeypatch.context() as m:
            m.setattr(world.local.provider, "attach_volume", fails)
            with pytest.raises(ConflictError):
                bind(world.ctx, name, world.one.node_id)
        assert world.ledger.get(name)[0].reason == "not attached: not now"
        assert world.there() == left
    world.claim("later", replace(DATA, keep=False))
    with monkeypatch.context() as m:
        m.setattr(world.local.provider, "attach_volume", fails)
        with pytest.raises(ConflictError):
            bind(world.ctx, "later", world.one.node_id)
    assert world.there() == {"data": ""}


def test_a_bound_one_that_is_bound_again_in_vain_stays_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = world.bound("a", world.one, replace(DATA, keep=False))

    def fails(*_: object) -> None:
        raise ConflictError("not now")

    monkeypatch.setattr(world.local.provider, "attach_volume", fails)
    with pytest.raises(ConflictError):
        bind(world.ctx, bound.reservation_id, world.one.node_id)
    assert world.ledger.get("a") == (bound,)
    assert world.there() == {"data": world.one.node_id}


def test_a_lost_node_lets_go_of_it_and_the_claim_finds_another(world: World) -> None:
    bound = world.bound("a", world.one)
    world.local.provider.terminate(world.pool, [world.one.node_id])
    assert world.there() == {"data": ""}
    exist = frozenset({world.two.node_id})
    lost_with_nodes(world.ctx, world.pool, load(world.ctx, world.pool), exist, world.ctx.clock.now())
    (soft,) = world.ledger.get(bound.reservation_id)
    assert (soft.state, soft.node_id) == (ReservationState.SOFT, None)
    assert bind(world.ctx, "a", world.two.node_id).node_id == world.two.node_id
    assert world.there() == {"data": world.two.node_id}


def test_given_back_after_its_node_is_gone(world: World) -> None:
    bound = world.bound("a", world.one, replace(DATA, keep=False))
    world.local.provider.terminate(world.pool, [world.one.node_id])
    assert give_back(world.ctx, bound.reservation_id, "").state is ReservationState.RELEASED
    assert world.there() == {}


def test_a_lost_one_given_back_while_soft_deletes_what_it_made(world: World) -> None:
    bound = world.bound("a", world.one, replace(DATA, keep=False))
    world.local.provider.terminate(world.pool, [world.one.node_id])
    world.ledger.rebook(bound.reservation_id, bound.end, "gone")
    give_back(world.ctx, bound.reservation_id, "")
    assert world.there() == {}


def test_one_that_was_deleted_by_hand(world: World) -> None:
    bound = world.bound("a", world.one)
    world.disk().unlink()
    (unit,) = units(world.ctx, world.pool, "volume")
    assert (unit.detail, unit.node_id, unit.holders) == ("gone", "", ("a",))
    with pytest.raises(NotFoundError):
        resize(world.ctx, bound.reservation_id, {"disk": 0.5})
    assert give_back(world.ctx, bound.reservation_id, "").state is ReservationState.RELEASED
    (world.disk().parent / "volume.json").unlink()
    world.disk().parent.rmdir()
    world.bound("b", world.one)
    assert world.link(world.one).stat().st_size == 2**28, "its dead link is replaced"


def test_it_is_its_tenants(world: World) -> None:
    give_back(world.ctx, world.bound("a", world.one).reservation_id, "")
    with pytest.raises(RefusedError, match="another tenant's"):
        world.claim("b", tenant="red")
    asked = wants(world.ctx, world.pool, "c", DATA, tenant="red")
    world.ledger.reserve(asked)
    with pytest.raises(RefusedError, match="another tenant's"):
        bind(world.ctx, "c", world.one.node_id)
    assert world.there() == {"data": ""}


def test_a_claimant_has_one_live_claim(world: World) -> None:
    world.claim("a")
    with pytest.raises(ReservationError, match="another live claim"):
        world.claim("other", WantedVolume("more", 1), claimant="a")


def test_a_claim_on_a_volume_says_which(world: World) -> None:
    claim = world.claim("a")
    for wrong in ({"volume": None}, {"purpose": Purpose.BOOKING}):
        with pytest.raises(ReservationError):
            replace(claim, **wrong)
    for gib in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ReservationError):
            WantedVolume("data", gib)


def test_a_volume_is_never_handed_over_and_is_held_beyond_its_time(world: World) -> None:
    from preprov.control.handover import hand_over

    now = world.ctx.clock.now()
    world.claim("a")
    hand_over(world.ctx, world.pool, world.local.provider.observe(world.pool), frozenset(), now)
    assert world.there() == {}
    assert [r.state for r in world.ledger.get("a")] == [ReservationState.SOFT]
    bind(world.ctx, "a", world.one.node_id)
    world.ledger.expire("batch", now + timedelta(hours=3))
    assert [r.state for r in world.ledger.get("a")] == [ReservationState.COMMITTED]


def test_where_nothing_has_volumes_it_is_said() -> None:
    simulated = make_world(make_pool())
    claim = wants(simulated.ctx, simulated.pool, "a", DATA)
    with pytest.raises(RefusedError, match="nothing of pool p has volumes"):
        type_of(simulated.ctx, simulated.pool, claim).reserve(simulated.pool, claim)
    assert units(simulated.ctx, simulated.pool, "volume") == ()
