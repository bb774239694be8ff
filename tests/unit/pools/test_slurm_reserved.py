"""Nodes that Slurm keeps for a reservation of its own are no room of the pool."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from preprov.contracts import LaunchRequest
from preprov.control.observing import within_reach
from preprov.model.errors import ConflictError, InsufficientCapacityError
from preprov.model.nodes import Phase
from preprov.testing.fake_slurm import FakeReservation
from preprov.testing.waiting import wait_until
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world

HOUR = 3600.0


@pytest.fixture(params=[False, True], ids=["22.05", "24.05"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FakeSlurmWorld]:
    with fake_slurm_world(tmp_path, newer=request.param) as world:
        yield world


@pytest.fixture
def reserve(world: FakeSlurmWorld) -> Callable[..., None]:
    def made(nodes: str, *, begins_in: float = -60.0, cores: int = 99) -> None:
        start = world.slurm.now() + begins_in
        world.slurm.reservations.append(FakeReservation("maint", nodes, start, start + HOUR, cores))

    return made


def launch(world: FakeSlurmWorld, count: int) -> tuple[str, ...]:
    group = world.pool.groups[0]
    return world.provider.launch(LaunchRequest(world.pool, "g", group.offerings[0], count, f"t{count}", world.preload))


@pytest.mark.parametrize("begins_in", [-60.0, 600.0], ids=["now", "soon"])
def test_they_are_not_powered_up_and_the_plan_knows_that_they_are_not_there(
    world: FakeSlurmWorld, reserve: Callable[..., None], begins_in: float
) -> None:
    reserve("cn[1-3]", begins_in=begins_in)
    seen = world.provider.observe(world.pool)
    assert seen.withheld == {"g": 3}
    assert [p for p in seen.problems if "Slurm keeps cn1, cn2, cn3 for its reservation maint until " in p]
    assert within_reach(world.pool, seen).groups[0].max_nodes == 1
    assert launch(world, 3) == ("cn4",)
    reserve("cn4", begins_in=begins_in)
    with pytest.raises(InsufficientCapacityError):
        launch(world, 2)


def test_one_that_is_up_takes_no_task_and_is_not_ended(world: FakeSlurmWorld, reserve: Callable[..., None]) -> None:
    first, _ = world.ready(2)
    reserve(first.node_id)
    seen = world.provider.observe(world.pool)
    found = {n.node_id: n for n in seen.nodes}[first.node_id]
    assert (found.phase, found.running) == (Phase.DRAINING, None), "nobody says that it is idle: it is left alone"
    assert "reservation maint" in found.reason
    assert seen.withheld == {}, "it exists, and is counted as that"
    world.slurm.reservations.clear()
    assert {n.phase for n in world.provider.observe(world.pool).nodes} == {Phase.READY}


def test_one_that_is_up_is_room_until_its_reservation_begins(
    world: FakeSlurmWorld, reserve: Callable[..., None]
) -> None:
    (node,) = world.ready()
    reserve(node.node_id, begins_in=600.0)
    assert {n.phase for n in world.provider.observe(world.pool).nodes} == {Phase.READY}


def test_one_that_is_put_away_is_not_woken_and_others_are(world: FakeSlurmWorld, reserve: Callable[..., None]) -> None:
    names = [n.node_id for n in world.ready(2)]
    world.provider.stop(world.pool, names)

    def phases() -> dict[str, Phase]:
        return {n.node_id: n.phase for n in world.provider.observe(world.pool).nodes}

    wait_until(lambda: set(phases().values()) == {Phase.STOPPED}, what="both to be stopped")
    reserve(names[0])
    with pytest.raises(ConflictError, match="reservation maint"):
        world.provider.start(world.pool, names, world.preload)
    wait_until(lambda: phases() == {names[0]: Phase.STOPPED, names[1]: Phase.READY}, what="the other to be ready")


@pytest.mark.parametrize(("begins_in", "cores"), [(2 * HOUR, 99), (-2 * HOUR, 99), (-60.0, 2)])
def test_what_is_far_off_over_or_of_some_cores_only_takes_no_node_away(
    world: FakeSlurmWorld, reserve: Callable[..., None], begins_in: float, cores: int
) -> None:
    reserve("cn[1-4]", begins_in=begins_in, cores=cores)
    seen = world.provider.observe(world.pool)
    assert (seen.withheld, seen.problems) == ({}, ())
    assert len(launch(world, 3)) == 3
