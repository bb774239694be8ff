"""A real slurmctld gives nodes up that do not come, and calls preprov to clear up after them."""

import json
from collections.abc import Iterator
from itertools import count

import pytest

from preprov.app import App, open_app
from preprov.contracts import LaunchRequest, LeadObservation
from preprov.control.observing import observe
from preprov.control.passes import pool_pass
from preprov.model.offerings import Preload
from preprov.pools.slurm.view import REFUSED
from preprov.settings import Settings
from preprov.slurm.records import SlurmNode
from preprov.testing.slurm_cluster import SlurmHost
from tests.integration.slurm.conftest import short_folder
from tests.slurmworld import SlurmWorld, slurm_world

RESUME_S = 15.0
COMMON = ("--partition=batch", "--mem=100M", "-n1", "-c1", "--output=/dev/null", "--chdir=/")
_tokens = count()


@pytest.fixture(scope="module")
def shared(host: SlurmHost) -> Iterator[SlurmWorld]:
    """One machine for two nodes; its slurmd starts once there is a file `comes`."""
    with short_folder("psf-") as folder:
        slurmd = f"test -e {folder}/comes && exec slurmd -D -b -N {{node}} -f {{conf}}; exec sleep 600"
        how = {"nodes": 2, "resume_timeout_s": RESUME_S, "options": "capacity = 1", "join": ("sh", "-c", slurmd)}
        with slurm_world(host, folder, "failing", **how) as world:
            yield world


def launch(world: SlurmWorld) -> str:
    group = world.pool.groups[0]
    (name,) = world.provider.launch(
        LaunchRequest(world.pool, group.name, group.offerings[0], 1, f"t{next(_tokens)}", Preload())
    )
    return name


def learnt(world: SlurmWorld, app: App, name: str, outcome: str) -> list[LeadObservation]:
    """What the store holds of a node, after one more look of the controller."""
    pool_pass(app.ctx, world.pool, plan=False, react=False)
    found = app.ctx.ports.leads.observations("slurm")
    return [o for o in found if (o.node_id, o.outcome) == (name, outcome)]


def of(world: SlurmWorld, name: str) -> SlurmNode:
    return {n.name: n for n in world.slurm.nodes()}[name]


def test_a_node_that_does_not_come_is_cleared_up_learnt_from_and_comes_the_next_time(world: SlurmWorld) -> None:
    with open_app(Settings(home=world.home), pools={world.pool.name: world.pool}) as app:
        name = launch(world)
        world.until(lambda: bool(world.machines()), "its machine")
        refused = launch(world)
        world.until(lambda: bool(learnt(world, app, name, "failed")), "Slurm to give it up")
        (failed,) = learnt(world, app, name, "failed")
        assert RESUME_S <= failed.seconds < 3 * RESUME_S
        said = (f"{name}: done: cleared; failure 1 in a row", f"{refused}: done: refused by local")
        world.until(
            lambda: all(f"slurm resume-fail {s}" in world.power_log() for s in said),
            "the program that Slurm called to end",
        )
        assert world.machines() == [], "nothing is paid for any more"
        seen = observe(app.ctx, world.pool)
        assert name not in {n.node_id for n in seen.nodes}
        assert (of(world, name).is_gone, of(world, name).is_down) == (True, False), "Slurm may try it again"
        assert of(world, refused).is_down
        assert of(world, refused).reason.startswith(REFUSED), "until `retry_s` have passed"
        assert [p for p in seen.problems if f"{refused} is DOWN" in p]

        (world.home / "comes").touch()
        job = world.cluster.submit(*COMMON, f"--nodelist={name}", script="#!/bin/sh\nexit 0\n")
        world.until(lambda: bool(learnt(world, app, name, "ready")), "it to come the next time")
        world.until(lambda: any(j.job_id == job and j.state == "COMPLETED" for j in world.slurm.jobs()), "its job")
        boots = [json.loads(f.read_text()) for f in (world.home / "slurm" / "boots").glob(f"*-{name}.json")]
        assert [b["failures"] for b in boots] == [0]
