"""What a real Slurm has on record of its own power-ups."""

import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from preprov.model.time import epoch
from preprov.testing.slurm_cluster import SlurmHost
from tests.integration.slurm.conftest import short_folder
from tests.slurmworld import SlurmWorld, slurm_world

SUSPEND_S = 6.0


@pytest.fixture(scope="module")
def shared(host: SlurmHost) -> Iterator[SlurmWorld]:
    how = {"nodes": 1, "suspend_s": SUSPEND_S, "options": "delay = 3"}
    with short_folder("psr-") as folder, slurm_world(host, folder, "recall", **how) as world:
        yield world


def recorded_down(world: SlurmWorld) -> None:
    """Wait until the accounting knows for some seconds that the node is powered down.

    It keeps seconds: of a node that is called for in the second in which it went, it keeps nothing.
    """

    def known() -> bool:
        now = world.clock.now()
        spans = world.slurm.powered_down(now - timedelta(hours=1), now)
        return any(s.ended is None and s.began < epoch(now) - 2 for s in spans)

    world.until(known, "the accounting to know that the node is powered down")


@pytest.mark.timeout(400)
def test_power_ups_that_slurm_made_for_its_queue_are_recalled(world: SlurmWorld) -> None:
    recorded_down(world)
    for _ in range(2):  # the first comes up, goes by the idle timer, and comes up again
        options = ["--partition=batch", "--output=/dev/null", "--mem=10M", "--chdir=/"]
        job = world.slurm.submit(options, "#!/bin/sh\nsleep 1\n")

        def over(wanted: int = job) -> bool:
            return any(j.job_id == wanted and j.is_over for j in world.slurm.jobs())

        world.until(over, "the job to end")
        world.until(lambda: all(n.is_gone for n in world.slurm.nodes()), "the idle timer to take the node")
        recorded_down(world)
    since = world.clock.now() - timedelta(hours=1)

    def recalled() -> bool:
        return len(world.provider.recall_leads(world.pool, "cloud", since).warmed) == 2

    try:
        world.until(recalled, "the accounting to know of both")
    except AssertionError as error:
        error.add_note(f"powered down: {world.slurm.powered_down(since, world.clock.now())}")
        error.add_note(f"jobs: {world.slurm.accounting(since, world.clock.now())}")
        raise
    found = world.provider.recall_leads(world.pool, "cloud", since)
    sys.stdout.write(f"{[(w.node_id, w.seconds) for w in found.warmed]}, left out {found.left_out}\n")
    assert {w.node_id for w in found.warmed} == {"cn1"}
    assert all(3 <= w.seconds < 60 for w in found.warmed), "the machine takes three seconds, and Slurm some more"
    assert {w.instance_type for w in found.warmed} == {"m"}
