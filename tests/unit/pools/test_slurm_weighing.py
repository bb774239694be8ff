"""Weights: what is up is used before what is not, and the order of slurm.conf stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.model.errors import ConfigError
from preprov.pools.slurm.weighing import BEHIND
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world


@pytest.fixture(params=[False, True], ids=["22.05", "24.05"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FakeSlurmWorld]:
    with fake_slurm_world(tmp_path, newer=request.param) as world:
        yield world


def weights(world: FakeSlurmWorld) -> dict[str, int]:
    return {n.name: n.weight for n in world.slurm.nodes.values()}


def test_what_is_not_up_weighs_more_and_a_second_look_has_nothing_to_do(world: FakeSlurmWorld) -> None:
    (node,) = world.ready()
    (said,) = world.provider.tend(world.pool)
    assert "so that what is up is used first" in said
    assert weights(world) == {n: 1 if n == node.node_id else BEHIND + 1 for n in world.slurm.nodes}
    assert world.provider.tend(world.pool) == ()


def test_the_order_of_slurm_conf_stays_among_both(world: FakeSlurmWorld) -> None:
    for weight, node in enumerate(world.slurm.nodes.values(), 5):
        node.weight = weight
    world.provider.tend(world.pool)
    assert list(weights(world).values()) == [BEHIND + 5, BEHIND + 6, BEHIND + 7, BEHIND + 8]
    (first,) = world.ready()
    assert first.node_id == "cn1"
    world.provider.tend(world.pool)
    assert list(weights(world).values()) == [5, BEHIND + 6, BEHIND + 7, BEHIND + 8]


def test_a_node_that_is_sent_down_weighs_more_at_once(world: FakeSlurmWorld) -> None:
    (node,) = world.ready()
    world.provider.tend(world.pool)
    world.provider.terminate(world.pool, [node.node_id])
    assert weights(world)[node.node_id] == BEHIND + 1
    world.until(lambda: not world.provider.observe(world.pool).nodes, "it to be gone")
    assert world.provider.tend(world.pool) == ()


def test_a_cluster_that_read_its_configuration_again_is_weighed_again(world: FakeSlurmWorld) -> None:
    (node,) = world.ready()
    world.provider.tend(world.pool)
    for n in world.slurm.nodes.values():
        n.weight = 1
    assert len(world.provider.tend(world.pool)) == 1
    assert [n for n, w in weights(world).items() if w < BEHIND] == [node.node_id]


def test_it_can_be_left_out(tmp_path: Path) -> None:
    with fake_slurm_world(tmp_path, weigh=False) as world:
        (node,) = world.ready()
        assert world.provider.tend(world.pool) == ()
        world.provider.terminate(world.pool, [node.node_id])
        assert set(weights(world).values()) == {1}
    with pytest.raises(ConfigError, match="weigh is true or false"), fake_slurm_world(tmp_path, weigh="no") as world:
        world.provider.tend(world.pool)
