"""Tasks on the machines of a fake cloud that have real agents: handed over as a controller does."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from preprov.contracts import Clock, LeavesNotes
from preprov.launch.identity import Identity
from preprov.launch.remote import RemoteScheduler
from preprov.model.nodes import Node
from preprov.model.offerings import Preload
from preprov.model.pools import Pool
from preprov.model.work import DatasetRef, State, TaskRun, TaskSpec
from preprov.testing.waiting import wait_until


class CloudTasks:
    """For a world of the contract suites.

    Args:
        home: of the controller, and of what is preloaded.
        look: has the agents do a round.
    """

    def __init__(self, name: str, home: Path, clock: Clock, pool: Pool, look: Callable[[], None]) -> None:
        self.home, self.pool, self.look = home, pool, look
        self._name, self._clock = name, clock
        home.mkdir(parents=True, exist_ok=True)
        (home / "data.csv").write_text("a,b\n1,2\n")
        sha256 = hashlib.sha256((home / "data.csv").read_bytes()).hexdigest()
        self.preload = Preload(datasets=(DatasetRef(str(home / "data.csv"), "v1", sha256),))

    def greeting(self) -> dict[str, str]:
        return Identity(self.home).notes()

    def scheduler(self, provider: LeavesNotes) -> RemoteScheduler:
        def introduce(node: Node, notes: dict[str, str]) -> None:
            provider.leave_notes(self.pool, [node.node_id], notes)

        return RemoteScheduler(self._name, self.home, self._clock, introduce)

    def occupy(self, scheduler: RemoteScheduler, node: Node) -> str:
        task = TaskRun(
            f"run-{node.node_id}", "t", self.pool.name, TaskSpec("t", command=("sleep", "600")), "s", State.READY
        )
        scheduler.start(task, 0, node)
        self.look()
        return task.claimant(0)

    def free(self, scheduler: RemoteScheduler, node: Node) -> None:
        for report in scheduler.poll([node]):
            if report.ended_at is None:
                scheduler.cancel(report.claimant, node)
        wait_until(lambda: all(r.ended_at for r in scheduler.poll([node])), what=f"{node.node_id} to be free")
        self.look()

    def spoiled(self) -> Preload:
        (good,) = self.preload.datasets
        return Preload(datasets=(replace(good, sha256="0" * 64),))
