"""Limits of jobs that run, under the cgroups of a real Slurm, changed by the agents of the machines they run on.

Of cgroup version 1, which is what this kernel hands out; there Slurm limits memory, and makes no cgroup for cores.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from preprov.agent.limits import detect, mounts, remove_group
from preprov.app import App, open_app
from preprov.contracts import LaunchRequest
from preprov.control.passes import pool_pass
from preprov.control.submitting import submit
from preprov.model.agent import Bounds
from preprov.model.errors import ConflictError, RefusedError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.plans import ActionKind
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, State, TaskSpec
from preprov.settings import Settings
from preprov.testing.slurm_cluster import SlurmHost
from tests.integration.slurm.conftest import short_folder
from tests.slurmworld import SlurmWorld, slurm_world

MIB = 1 / 1024
ADJUST = "[pool.adjust]\ncalm = 1\nevery = 0\nahead = 5\nmost = 16"
CGROUPS = ("ProctrackType=proctrack/cgroup", "TaskPlugin=task/cgroup")
GROWS = """
import pathlib, sys, time
there, held = pathlib.Path(sys.argv[1]), []
while not (there / "end").exists():
    wanted = (there / "want").read_text() if (there / "want").exists() else ""
    while wanted and len(held) < int(wanted):
        held.append(b"x" * (1 << 20))
    (there / "new").write_text(str(len(held)))
    (there / "new").rename(there / "has")
    time.sleep(0.05)
"""
"""Holds as many MiB as it is told to, and says when it does."""


@pytest.fixture(scope="module")
def confined(host: SlurmHost) -> Iterator[SlurmWorld]:
    """A cluster that confines its jobs."""
    if "memory" not in mounts()[0] or detect() == "rlimit":
        pytest.skip("no memory controller of version 1 that can be written")
    (host.folder / "steps").mkdir()
    text = "CgroupAutomount=no\nCgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\n"
    (host.folder / "steps" / "cgroup.conf").write_text(text)
    with short_folder("pst-") as folder, slurm_world(host, folder, "steps", pool=ADJUST, more=CGROUPS) as world:
        yield world
    for controller in ("memory", "freezer"):  # Slurm leaves the top of its trees
        for left in mounts()[0][controller][0].glob("slurm_cn*"):
            remove_group(left)


@pytest.fixture
def app(confined: SlurmWorld) -> Iterator[App]:
    with open_app(Settings(home=confined.home), pools={confined.pool.name: confined.pool}) as app:
        try:
            yield app
        finally:
            confined.clear()


class Stage:
    """One node that Slurm has joined to the cluster, and tasks that do what they are told."""

    def __init__(self, world: SlurmWorld, app: App, folder: Path) -> None:
        self.world, self.app, self.folder = world, app, folder
        group = world.pool.groups[0]
        request = LaunchRequest(world.pool, group.name, group.offerings[0], 1, f"steps-{uuid4().hex[:8]}", Preload())
        (self.name,) = app.ctx.providers["slurm"].launch(request)
        world.wait(self.name, Phase.READY)

    @property
    def node(self) -> Node:
        found = self.app.ctx.providers["slurm"].observe(self.world.pool).nodes
        return next(n for n in found if n.node_id == self.name)

    @property
    def scheduler(self):
        return self.app.ctx.schedulers["slurm"]

    def look(self) -> None:
        pool_pass(self.app.ctx, self.world.pool, plan=False, react=False)

    def until(self, fact, what: str) -> None:
        def looked() -> object:
            self.look()
            return fact()

        self.world.until(lambda: bool(looked()), what)

    def run(self, memory: float) -> str:
        command = (sys.executable, "-S", "-E", "-c", GROWS, str(self.folder))
        spec = TaskSpec("t", command=command, request=Resources(cpu=1, memory=memory))
        (run,) = submit(self.app.ctx, (DagSpec("grows", (spec,), pool=self.world.pool.name),))
        self.until(lambda: (self.folder / "has").exists(), "it to run")
        return run.run_id

    def state(self, run: str) -> State:
        (task,) = self.app.ctx.ports.work.task_runs([run])
        return task.state

    def bounds(self, run: str) -> Bounds:
        (found,) = [r for r in self.scheduler.poll([self.node]) if r.claimant == f"{run}/t#0"]
        assert found.bounds is not None
        return found.bounds

    def has(self) -> str:
        return (self.folder / "has").read_text()


@pytest.fixture
def stage(confined: SlurmWorld, app: App, tmp_path: Path) -> Stage:
    return Stage(confined, app, tmp_path)


def in_force(stage: Stage) -> list[int]:
    """MiB, at each level that Slurm limits, as the kernel tells it."""
    (job,) = mounts()[0]["memory"][0].glob(f"slurm*{stage.name}/uid_*/job_*")
    files = (job / "memory.limit_in_bytes", job / "step_batch" / "memory.limit_in_bytes")
    return [int(f.read_text()) >> 20 for f in files]


def test_a_job_that_grows_is_given_more_before_slurm_would_kill_it(stage: Stage) -> None:
    """To six times what it asked for, by the whole of control; nothing of what it asked for is taken."""
    run = stage.run(128 * MIB)
    assert stage.bounds(run).can == ("memory",)
    assert in_force(stage)[0] == 128
    for mib in range(32, 768, 16):
        (stage.folder / "want").write_text(str(mib))
        stage.until(lambda mib=mib: stage.has() == str(mib), f"{mib} MiB")  # type: ignore[misc]
    assert min(in_force(stage)) > 768
    rows = [r for r in stage.app.ctx.ports.audit.records("batch") if r.action.kind is ActionKind.RESIZE]
    raised = [r.action.numbers for r in rows if r.result == "done"]
    assert raised
    assert min(n["memory_after"] for n in raised) >= 128 * MIB
    (stage.folder / "end").touch()
    stage.until(lambda: stage.state(run) is State.SUCCEEDED, "it to end well")


def test_by_hand_within_what_the_node_has_and_back(stage: Stage) -> None:
    run = stage.run(128 * MIB)
    claimant, node, scheduler = f"{run}/t#0", stage.node, stage.scheduler
    assert scheduler.adjustable(node).running == {"cpu", "memory"}
    told = scheduler.resize(claimant, node, Resources(cpu=2, memory=0.5), 60)
    assert (told.cpu, told.memory) == (1, 0.5), "Slurm makes no cgroup for cores here"
    assert in_force(stage) == [512, 512]
    with pytest.raises(ConflictError, match="the node has 4"):
        scheduler.resize(claimant, node, Resources(cpu=1, memory=5), 60)
    assert in_force(stage) == [512, 512]
    less = scheduler.resize(claimant, node, Resources(cpu=1, memory=32 * MIB), 60)
    assert less.memory == 128 * MIB, "Slurm gives what it asked for to nobody else"
    scheduler.resize(claimant, node, Resources(cpu=1, memory=0.5), 60)
    scheduler.lift(claimant, node)
    assert in_force(stage) == [128, 128]
    scheduler.resize(claimant, node, Resources(cpu=1, memory=0.5), 1)
    stage.world.until(lambda: in_force(stage) == [128, 128], "the lease to end")
    scheduler.cancel(claimant, node)


def test_a_job_that_slurm_does_not_confine_is_refused_with_the_reason(world: SlurmWorld, tmp_path: Path) -> None:
    with open_app(Settings(home=world.home), pools={world.pool.name: world.pool}) as app:
        stage = Stage(world, app, tmp_path)
        run = stage.run(128 * MIB)
        with pytest.raises(RefusedError, match="has no cgroup here"):
            stage.scheduler.resize(f"{run}/t#0", stage.node, Resources(cpu=1, memory=1), 60)
        assert stage.bounds(run).can == ()
        stage.scheduler.cancel(f"{run}/t#0", stage.node)
