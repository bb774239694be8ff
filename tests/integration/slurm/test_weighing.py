"""A real scheduler: a job goes to a node that idles, though one that is still coming would be the tighter fit."""

from collections.abc import Iterator

import pytest

from preprov.contracts import LaunchRequest
from preprov.model.nodes import Phase
from preprov.model.offerings import Preload
from preprov.pools.slurm.weighing import BEHIND
from preprov.testing.slurm_cluster import SlurmHost
from tests.integration.slurm.conftest import short_folder
from tests.slurmworld import SlurmWorld, slurm_world

SLOW = "delay = { median_s = 8.0, p95_s = 9.0 }"
SCRIPT = "#!/bin/sh\nsleep 1\n"


@pytest.fixture(scope="module")
def world(host: SlurmHost) -> Iterator[SlurmWorld]:
    with short_folder("psw-") as folder, slurm_world(host, folder, "weighing", options=SLOW) as world:
        yield world


def launch(world: SlurmWorld, count: int, token: str) -> tuple[str, ...]:
    group = world.pool.groups[0]
    return world.provider.launch(LaunchRequest(world.pool, group.name, group.offerings[0], count, token, Preload(), {}))


def given_to(world: SlurmWorld) -> str:
    """The node that a job of one core is given, at once or when that is up."""
    job = world.slurm.submit(["--partition=batch", "--output=/dev/null", "--cpus-per-task=1"], SCRIPT)
    nodes: list[str] = []

    def given() -> bool:
        nodes[:] = [j.nodes for j in world.slurm.jobs() if j.job_id == job and j.nodes]
        return bool(nodes)

    world.until(given, "the job to be given a node")
    return nodes[0]


def test_a_job_is_not_bound_to_a_node_that_is_still_coming(world: SlurmWorld) -> None:
    up = launch(world, 2, "first")
    for name in up:
        world.wait(name, Phase.READY)
    (away,) = {"cn3"} - {*up}
    world.slurm.update_nodes([away], state="drain", reason="so that the next one stands alone")
    (coming,) = launch(world, 1, "second")
    world.provider.tend(world.pool)
    weights = {n.name: n.weight >= BEHIND for n in world.slurm.nodes()}
    assert weights == {**dict.fromkeys(up, False), away: True, coming: True}
    assert given_to(world) in up
    assert world.node(coming).phase is Phase.WARMING, "it came too soon to tell"
    world.wait(coming, Phase.READY)
    world.provider.tend(world.pool)
    assert {n.name: n.weight >= BEHIND for n in world.slurm.nodes()}[coming] is False
