"""Tasks as jobs of a real Slurm, against the suite every scheduler passes."""

from collections.abc import Callable
from itertools import count

import pytest

from preprov.contracts import LaunchRequest
from preprov.launch.slurm import SlurmScheduler
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.work import TaskSpec
from preprov.testing.scheduler_contract import SchedulerContract
from tests.slurmworld import SlurmWorld

_tokens = count()


class RealSchedulerWorld:
    """One ready node of a cluster."""

    writes_logs = True
    observes = True

    def __init__(self, world: SlurmWorld) -> None:
        self.world = world
        self.scheduler = world.again_scheduler()
        group = world.pool.groups[0]
        request = LaunchRequest(
            world.pool, group.name, group.offerings[0], 1, f"one-{next(_tokens)}", Preload(), {"purpose": "test"}
        )
        (name,) = world.provider.launch(request)
        self.node: Node = world.wait(name, Phase.READY)

    def again(self) -> SlurmScheduler:
        return self.world.again_scheduler()

    def spec(self, task_id: str, *, seconds: float, exit_code: int = 0, says: str = "") -> TaskSpec:
        said = f"echo '{says}';" if says else ""
        begun = f'echo x >> "{self.world.home}/$PREPROV_RUN_ID-$PREPROV_INSTANCE"'
        longer = max(seconds, 1.5)  # Slurm looks at what its jobs use every second
        return TaskSpec(task_id, command=("sh", "-c", f"{begun}; {said} sleep {longer}; exit {exit_code}"))

    def until(self, look: Callable[[], bool], what: str) -> None:
        self.world.until(look, what)

    def begun(self, claimant: str) -> int:
        run, _, instance = claimant.replace("/only#", " ").partition(" ")
        return len((self.world.home / f"{run}-{instance}").read_text().split())

    def end_node(self) -> None:
        self.world.provider.terminate(self.world.pool, [self.node.node_id])


class TestRealSlurm(SchedulerContract):
    @pytest.fixture
    def world(self, world: SlurmWorld) -> RealSchedulerWorld:  # type: ignore[override]
        return RealSchedulerWorld(world)
