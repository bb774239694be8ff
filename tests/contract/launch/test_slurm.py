"""The scheduler of Slurm's nodes, on a Slurm that behaves and really runs its jobs, against the suite of schedulers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from preprov.launch.slurm import SlurmScheduler
from preprov.model.work import TaskSpec
from preprov.testing.scheduler_contract import SchedulerContract
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world
from tests.reservedway import ReservedWay, Surroundings


class SlurmSchedulerWorld(FakeSlurmWorld):
    """One ready node."""

    def __init__(self, home: Path, **options: object) -> None:
        super().__init__(home, **options)  # type: ignore[arg-type]
        (self.node,) = self.ready()

    def again(self) -> SlurmScheduler:  # type: ignore[override]
        return self.another_scheduler()

    def spec(self, task_id: str, *, seconds: float, exit_code: int = 0, says: str = "") -> TaskSpec:
        said = f"echo '{says}';" if says else ""
        begun = f'echo x >> "{self.home}/$PREPROV_RUN_ID-$PREPROV_INSTANCE"'
        return TaskSpec(task_id, command=("sh", "-c", f"{begun}; {said} sleep {seconds}; exit {exit_code}"))

    def begun(self, claimant: str) -> int:
        run, _, instance = claimant.replace("/only#", " ").partition(" ")
        return len((self.home / f"{run}-{instance}").read_text().split())

    def end_node(self) -> None:
        self.provider.terminate(self.pool, [self.node.node_id])


class TestSlurm(SchedulerContract):
    @pytest.fixture(params=[False, True], ids=["22.05", "24.05"])
    def world(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SlurmSchedulerWorld]:
        world = SlurmSchedulerWorld(tmp_path, newer=request.param)
        try:
            yield world
        finally:
            world.slurm.stop()


class TestTheWholeWay(ReservedWay):
    @contextmanager
    def surroundings(self, folder: Path) -> Iterator[Surroundings]:
        with fake_slurm_world(folder) as world:
            yield Surroundings(world.pool, world.provider, world.scheduler)
