"""Nodes that are wanted are kept from Slurm's idle timer, for as long as somebody says so and no longer."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from preprov.contracts import KeepsNodes
from preprov.model.nodes import Phase
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world

UNTIL = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeSlurmWorld]:
    with fake_slurm_world(tmp_path) as world:
        yield world


def idle_for(world: FakeSlurmWorld, name: str) -> float:
    return world.slurm.now() - world.slurm.nodes[name].last_busy


def test_an_idle_node_is_touched_once_half_of_its_time_is_over(world: FakeSlurmWorld) -> None:
    assert isinstance(world.provider, KeepsNodes)
    (node,) = world.ready()
    assert world.provider.keep(world.pool, [node.node_id], UNTIL) == ()
    world.slurm.nodes[node.node_id].last_busy -= 151.0  # of 300
    assert world.provider.keep(world.pool, [node.node_id], UNTIL) == (node.node_id,)
    assert idle_for(world, node.node_id) < 60.0


def test_a_node_that_nobody_wants_runs_into_its_timer(world: FakeSlurmWorld) -> None:
    wanted, left = world.ready(2)
    for n in (wanted, left):
        world.slurm.nodes[n.node_id].last_busy -= 200.0
    world.provider.keep(world.pool, [wanted.node_id], UNTIL)
    assert idle_for(world, left.node_id) >= 200.0


@pytest.mark.parametrize("state", ["drain", "down", "power_down_asap"])
def test_what_is_drained_down_or_going_is_left_alone(world: FakeSlurmWorld, state: str) -> None:
    (node,) = world.ready()
    slurm = world.slurm.nodes[node.node_id]
    slurm.last_busy -= 200.0
    world.slurm._to(slurm, state)
    before = (slurm.state, "DRAIN" in slurm.flags)
    assert world.provider.keep(world.pool, [node.node_id], UNTIL) == ()
    assert (slurm.state, "DRAIN" in slurm.flags) == before or "POWERED_DOWN" in slurm.flags


def test_a_busy_node_is_left_alone(world: FakeSlurmWorld) -> None:
    (node,) = world.ready()
    world.occupy(node)
    world.slurm.nodes[node.node_id].last_busy -= 200.0
    assert world.provider.keep(world.pool, [node.node_id], UNTIL) == ()


def test_nothing_is_touched_where_slurm_suspends_nothing(world: FakeSlurmWorld) -> None:
    world.slurm.conf["SuspendTime"] = "NONE"
    (node,) = world.ready()
    world.slurm.nodes[node.node_id].last_busy -= 10_000.0
    assert world.provider.keep(world.pool, [node.node_id], UNTIL) == ()


def test_a_touch_without_effect_is_said(world: FakeSlurmWorld) -> None:
    (node,) = world.ready()
    slurm = world.slurm.nodes[node.node_id]
    slurm.last_busy -= 200.0
    world.provider.keep(world.pool, [node.node_id], UNTIL)
    slurm.last_busy = world.slurm.now() - 200.0  # a Slurm that does not begin it anew
    world.provider._toucher._touched[node.node_id] -= 10.0
    problems = world.provider.observe(world.pool).problems
    assert any("idle timer" in p for p in problems)


def test_a_node_that_was_just_touched_is_there_though_slurm_has_not_heard_of_it_again(world: FakeSlurmWorld) -> None:
    """Slurm asks a node whose drain it cleared whether it is there; for a moment it counts as not responding."""
    (node,) = world.ready()
    slurm = world.slurm.nodes[node.node_id]
    slurm.flags |= {"NOT_RESPONDING"}
    slurm.last_busy = world.slurm.now()
    assert world.look_at(node.node_id).phase is Phase.READY
    slurm.last_busy -= 10.0
    assert world.look_at(node.node_id).phase is Phase.DRAINING
