"""Real idle timers: a node that is wanted outlives SuspendTime, and goes once nobody says so any more."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from preprov.contracts import LaunchRequest
from preprov.model.nodes import Phase
from preprov.model.offerings import Preload
from preprov.testing.slurm_cluster import SlurmHost
from tests.integration.slurm.conftest import short_folder
from tests.slurmworld import SlurmWorld, slurm_world

SUSPEND_S = 8.0


@pytest.fixture(scope="module")
def shared(host: SlurmHost) -> Iterator[SlurmWorld]:
    with short_folder("psk-") as folder, slurm_world(host, folder, "keeping", suspend_s=SUSPEND_S) as world:
        yield world


def test_a_wanted_node_outlives_the_timer_and_its_end_is_the_lease(world: SlurmWorld) -> None:
    group = world.pool.groups[0]
    request = LaunchRequest(world.pool, group.name, group.offerings[0], 1, "kept", Preload(), {})
    (name,) = world.provider.launch(request)
    world.wait(name, Phase.READY)
    until = world.clock.now() + timedelta(minutes=10)
    began, touched = time.monotonic(), 0

    def kept() -> bool:
        nonlocal touched
        touched += len(world.provider.keep(world.pool, [name], until))
        assert world.node(name).phase is Phase.READY
        return time.monotonic() - began > 2.5 * SUSPEND_S

    world.until(kept, "two and a half times its SuspendTime to pass")
    assert touched >= 3
    world.until(lambda: not world.nodes() and not world.machines(), "the timer to take it, now that nobody keeps it")
