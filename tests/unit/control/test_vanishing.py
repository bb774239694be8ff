"""A node that nobody here ended is told of once, and one that was ended by us never."""

from dataclasses import replace

import pytest

from preprov.model.pools import Mode
from tests.unit.control.world import World, dag, make_world, task


def told(world: World) -> list[str]:
    """Nodes that rows of the audit say are gone."""
    return [i for r in world.ctx.ports.audit.records("p") if r.detail.startswith("gone: ") for i in r.node_ids]


def busy(world: World, *, nodes: int = 2) -> list[str]:
    world.submit(dag("d", *(task(f"t{n}", seconds=3000, cpu=4) for n in range(nodes))))
    world.run_for(200)
    assert told(world) == []
    return [n.node_id for n in world.cloud.observe(world.pool).nodes]


def delete_by_hand(world: World, node_id: str) -> None:
    running, world.cloud.running = world.cloud.running, {}  # whoever deletes it does not ask what runs there
    world.cloud.terminate(world.pool, [node_id])
    world.cloud.running = running


def test_a_node_deleted_by_hand_is_told_of_once():
    world = make_world()
    node, _ = busy(world)
    delete_by_hand(world, node)
    world.run_for(400)
    assert told(world) == [node]
    (row,) = [r for r in world.ctx.ports.audit.records("p", node_id=node) if r.detail.startswith("gone: ")]
    assert "nothing here ended it" in row.action.reason


def test_what_was_ended_here_is_not_told_of():
    world = make_world()
    world.submit(dag("d", task("t", seconds=60, cpu=4)))
    world.run_for(1500)
    assert world.nodes() == 0
    assert told(world) == []


def test_an_incomplete_look_proves_nothing(monkeypatch: pytest.MonkeyPatch):
    world = make_world()
    busy(world)
    whole = world.cloud.observe
    monkeypatch.setattr(world.cloud, "observe", lambda pool: replace(whole(pool), nodes=(), complete=False))
    world.run_for(120)
    assert told(world) == []


def test_where_nothing_may_be_written_nothing_is_said():
    world = make_world()
    node, _ = busy(world)
    world.pool = replace(world.pool, mode=Mode.OBSERVE)
    delete_by_hand(world, node)
    world.run_for(120)
    assert told(world) == []
