"""What a real Slurm lets change of jobs: requests of what waits, time limits, signals; and what it refuses."""

from pathlib import Path

import pytest

from preprov.contracts import LaunchRequest
from preprov.model.errors import PoolError, RefusedError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.resources import Resources
from preprov.slurm.troubles import as_pool_errors
from preprov.testing.adjuster_contract import CORES, GIB
from preprov.testing.waiting import wait_until
from tests.contract.launch.test_adjusters import SlurmAdjusterWorld
from tests.slurmworld import SlurmWorld


class _Real:
    """A real cluster, as the suite's world of Slurm wants it."""

    def __init__(self, world: SlurmWorld) -> None:
        self._world = world
        self.scheduler = world.again_scheduler()
        self.connect = lambda: world.slurm

    def ready(self) -> list[Node]:
        group = self._world.pool.groups[0]
        request = LaunchRequest(self._world.pool, group.name, group.offerings[0], 1, "adjust", Preload())
        (name,) = self._world.provider.launch(request)
        return [self._world.wait(name, Phase.READY)]


def test_what_it_lets_change_and_what_not(world: SlurmWorld, tmp_path: Path) -> None:
    place = SlurmAdjusterWorld(tmp_path, _Real(world))
    node, adjuster = place.node, place.adjuster
    runs = place.running()
    waits = place._start(2 * CORES)
    wait_until(lambda: place._job(waits).state == "PENDING", what="it to wait")
    more = Resources(cpu=4 * CORES, memory=2 * GIB)

    told = adjuster.resize(waits, node, more, 60)
    now = place.has(waits)
    assert now is not None
    assert (now.cpu, now.memory) == (told.cpu, told.memory) == (4, 2 * GIB)

    before = place.has(runs)
    with pytest.raises(RefusedError, match="until it runs"):
        adjuster.resize(runs, node, more, 60)
    with pytest.raises(PoolError), as_pool_errors(node.node_id):  # and that is what Slurm itself says
        world.slurm.update_job(place._job(runs).job_id, MinMemoryNode="1024")
    assert place.has(runs) == before

    adjuster.extend(runs, node, 7200)
    assert place.time_limit_s(runs) == 7200

    adjuster.checkpoint(runs, node, "SIGUSR2", 60)
    assert place.kept(runs)
