"""The local provider, on real processes, against the suite every provider passes."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from preprov.clocks import WallClock
from preprov.launch.local import LocalScheduler
from preprov.model.pools import Group, Mode, Node, Offering, Pool, Preload, Standby
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, State, TaskRun, TaskSpec
from preprov.pools.local import LocalProvider
from preprov.testing.local_nodes import cleared
from preprov.testing.pool_contract import PoolContract
from preprov.testing.waiting import wait_until

ALL = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})


class LocalWorld:
    """Real nodes under a folder of the test's own."""

    def __init__(self, home: Path, **options: object) -> None:
        self.home = home
        offering = Offering("m", Resources(cpu=2, memory=4), usd_per_hour=0.1)
        group = Group("g", "local", (offering,), standby_states=ALL, max_nodes=8, options=options)
        self.pool = Pool("batch", (group,), mode=Mode.FULL)
        self.provider = self.again()
        self.scheduler = LocalScheduler(home, WallClock())
        data = home / "data.csv"
        data.write_text("a,b\n1,2\n")
        self.preload = Preload(
            datasets=(DatasetRef(str(data), "v1", hashlib.sha256(data.read_bytes()).hexdigest()),)
        )

    def again(self) -> LocalProvider:
        return LocalProvider(self.home, WallClock())

    def until(self, look: Callable[[], bool], what: str) -> None:
        wait_until(look, what=what)

    def occupy(self, node: Node) -> str:
        wait = f"while [ ! -e {self._flag(node)} ]; do sleep 0.02; done"
        spec = TaskSpec("hold", command=("sh", "-c", wait))
        task = TaskRun(f"run-{node.node_id}", "hold", self.pool.name, spec, "s", State.READY)
        self.scheduler.start(task, 0, node)
        return task.claimant(0)

    def free(self, node: Node) -> None:
        self._flag(node).touch()
        self.until(lambda: all(r.ended_at for r in self.scheduler.poll([node])), f"{node.node_id} to be free")

    def _flag(self, node: Node) -> Path:
        return self.home / f"{node.node_id}.over"

    def spoiled(self) -> Preload:
        (good,) = self.preload.datasets
        return Preload(datasets=(replace(good, sha256="0" * 64),))

    def exhausted(self) -> Pool:
        group = replace(self.pool.groups[0], options={**self.pool.groups[0].options, "capacity": 0})
        return replace(self.pool, groups=(group,))


class TestLocal(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[LocalWorld]:
        with cleared(tmp_path) as home:
            yield LocalWorld(home)


@pytest.mark.slow
class TestLocalWithoutCgroups(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[LocalWorld]:
        with cleared(tmp_path) as home:
            yield LocalWorld(home, limits="rlimit")
