"""The local scheduler, on real processes, against the suite every scheduler passes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from preprov.clocks import WallClock
from preprov.contracts import LaunchRequest
from preprov.launch.local import LocalScheduler
from preprov.model.agent import task_folder
from preprov.model.pools import Group, Node, Offering, Phase, Pool, Preload
from preprov.model.resources import Resources
from preprov.model.work import TaskSpec
from preprov.pools.local import LocalProvider
from preprov.testing.local_nodes import cleared
from preprov.testing.scheduler_contract import SchedulerContract
from preprov.testing.waiting import wait_until


class LocalSchedulerWorld:
    """A scheduler and one real node."""

    writes_logs = True
    observes = True

    def __init__(self, home: Path, **options: object) -> None:
        self.home = home
        offering = Offering("m", Resources(cpu=2, memory=4))
        self.pool = Pool("batch", (Group("g", "local", (offering,), options={"sample_s": 0.1, **options}),))
        self.provider = LocalProvider(home, WallClock())
        self.scheduler = self.again()
        self.provider.launch(LaunchRequest(self.pool, "g", offering, 1, "token", Preload()))
        self.node: Node = wait_until(lambda: self.provider.observe(self.pool).in_phase(Phase.READY))[0]

    def again(self) -> LocalScheduler:
        return LocalScheduler(self.home, WallClock())

    def spec(self, task_id: str, *, seconds: float, exit_code: int = 0, says: str = "") -> TaskSpec:
        said = f"echo '{says}';" if says else ""
        script = f"echo x >> ../begun; {said} sleep {seconds}; exit {exit_code}"
        return TaskSpec(task_id, command=("sh", "-c", script))

    def until(self, look: Callable[[], bool], what: str) -> None:
        wait_until(look, what=what)

    def begun(self, claimant: str) -> int:
        folder = Path(self.node.address.removeprefix("unix:")).parent
        return len((folder / "tasks" / task_folder(claimant) / "begun").read_text().split())

    def end_node(self) -> None:
        self.provider.terminate(self.pool, [self.node.node_id])


class TestLocal(SchedulerContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[LocalSchedulerWorld]:
        with cleared(tmp_path) as home:
            yield LocalSchedulerWorld(home)


@pytest.mark.slow
class TestLocalWithoutCgroups(SchedulerContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[LocalSchedulerWorld]:
        with cleared(tmp_path) as home:
            yield LocalSchedulerWorld(home, limits="rlimit")
