"""The local scheduler, on real processes, against the suite every scheduler passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from preprov.clocks import WallClock
from preprov.launch.local import LocalScheduler
from preprov.model.work import TaskSpec
from preprov.testing.local_nodes import cleared
from preprov.testing.scheduler_contract import SchedulerContract
from tests.localnodes import LocalWorld
from tests.reservedway import ReservedWay, Surroundings


class LocalSchedulerWorld:
    """A scheduler and one real node."""

    writes_logs = True
    observes = True

    def __init__(self, home: Path, **options: object) -> None:
        self._world = LocalWorld(home, sample_s=0.1, **options)
        self.scheduler = self._world.scheduler
        (self.node,) = self._world.ready()
        self.until = self._world.until

    def again(self) -> LocalScheduler:
        return LocalScheduler(self._world.home, WallClock())

    def spec(self, task_id: str, *, seconds: float, exit_code: int = 0, says: str = "") -> TaskSpec:
        said = f"echo '{says}';" if says else ""
        script = f"echo x >> ../begun; {said} sleep {seconds}; exit {exit_code}"
        return TaskSpec(task_id, command=("sh", "-c", script))

    def begun(self, claimant: str) -> int:
        return len((self._world.task_folder(self.node, claimant) / "begun").read_text().split())

    def end_node(self) -> None:
        self._world.provider.terminate(self._world.pool, [self.node.node_id])


class TestLocal(SchedulerContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[LocalSchedulerWorld]:
        with cleared(tmp_path) as home:
            yield LocalSchedulerWorld(home)


class TestTheWholeWay(ReservedWay):
    @contextmanager
    def surroundings(self, folder: Path) -> Iterator[Surroundings]:
        (folder / "home").mkdir()
        with cleared(folder / "home") as home:
            world = LocalWorld(home)
            yield Surroundings(world.pool, world.provider, world.scheduler)


@pytest.mark.slow
class TestLocalWithoutCgroups(SchedulerContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[LocalSchedulerWorld]:
        with cleared(tmp_path) as home:
            yield LocalSchedulerWorld(home, limits="rlimit")
