"""Tasks given to several nodes at once, where their scheduler can do that."""

from dataclasses import dataclass, field, replace
from threading import Barrier, Lock

import pytest

from preprov.contracts import StartsSideBySide
from preprov.launch.agents import AgentScheduler
from preprov.model.errors import ConflictError
from preprov.model.nodes import Node
from preprov.model.pools import Override
from preprov.model.work import State, TaskRun
from preprov.sim.scheduler import SimScheduler
from tests.unit.control.world import START, World, dag, make_world, task


@dataclass
class SideBySide(SimScheduler):
    """Its first starts wait for each other: one after the other they would wait in vain."""

    at_once: int = 4
    together: Barrier = field(default_factory=lambda: Barrier(4, timeout=30))
    refuses: set[str] = field(default_factory=set)
    asked: dict[str, list[str]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        with self.lock:
            first = node.node_id not in self.asked
            self.asked.setdefault(node.node_id, []).append(task.claimant(instance))
        if first:
            self.together.wait()
        with self.lock:
            if self.refuses and node.node_id == min(self.asked) and self.refuses.pop():
                raise ConflictError("not now", where=node.node_id)
            super().start(task, instance, node)


def four_warm_nodes(**more: object) -> tuple[World, SideBySide]:
    world = make_world()
    scheduler = SideBySide(world.clock, world.cloud, **more)  # type: ignore[arg-type]
    world = replace(world, ctx=replace(world.ctx, schedulers={"sim": scheduler}), scheduler=scheduler)
    until = START.replace(hour=23)
    world.ctx.ports.intent.add_override(Override("p", 4, START, until, "wanted"))
    world.run_for(300)
    assert world.nodes() == 4
    return world, scheduler


def states(world: World, run_id: str) -> list[State]:
    return [t.state for t in world.ctx.ports.work.task_runs([run_id])]


def test_nodes_are_given_their_tasks_side_by_side_and_each_in_order() -> None:
    world, scheduler = four_warm_nodes()
    (run,) = world.submit(dag("wave", *(task(f"t{i:02d}", cpu=1, seconds=600) for i in range(16))))
    world.run_for(10)
    assert states(world, run.run_id) == [State.RUNNING] * 16
    assert sorted(len(a) for a in scheduler.asked.values()) == [4, 4, 4, 4]
    assert all(asked == sorted(asked) for asked in scheduler.asked.values()), "in launch order on each node"
    assert len(set(scheduler.starts)) == len(scheduler.starts) == 16
    assert all(t.provision_wait_s == 0 for t in world.ctx.ports.work.task_runs([run.run_id]))


def test_what_one_node_refuses_is_ready_again_and_holds_nobody_up() -> None:
    world, _ = four_warm_nodes(refuses={"once"})
    (run,) = world.submit(dag("wave", *(task(f"t{i:02d}", cpu=2, seconds=600) for i in range(8))))
    world.run_for(10)
    assert sorted(map(str, states(world, run.run_id))) == ["ready"] + ["running"] * 7
    world.run_for(10)
    assert states(world, run.run_id) == [State.RUNNING] * 8
    live = [r for r in world.ctx.ports.ledger.reservations("p") if r.node_id]
    assert len({r.claimant for r in live}) == len(live) == 8


@pytest.mark.parametrize(("kind", "several"), [(AgentScheduler, True), (SimScheduler, False)])
def test_who_says_so(kind: type[object], several: bool) -> None:
    assert issubclass(kind, AgentScheduler) is several
    assert hasattr(kind, "at_once") is several
    assert not isinstance(make_world().scheduler, StartsSideBySide), "the simulation stays in one order"
