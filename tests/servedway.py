"""Nodes that serve a place, the whole way by the control code over each place's own fake: never from under its runs."""

from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from preprov.contracts import Clock
from preprov.control.adopting import release
from preprov.control.observing import observe
from preprov.model.nodes import Node
from preprov.model.pools import Mode, Override
from preprov.model.work import TaskRun
from preprov.sim.scheduler import SimScheduler
from preprov.testing.serves_contract import ServesWorld
from tests.unit.control.world import START, World, make_pool, make_world


class Nodes(SimScheduler):
    """Workers that are told to leave end once they have no run."""

    world: ServesWorld
    leaving: dict[str, Node]

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        long = replace(task, spec=replace(task.spec, runtime_hint_s=1e9 if task.task_id == "worker" else 1.0))
        super().start(long, instance, node)
        if task.task_id != "worker":
            self.leaving[f"{task.run_id}/worker#0"] = node

    def go(self) -> None:
        """Once the place answers, those without a run end."""
        for claimant, node in self.leaving.items():
            if self.worker_of(claimant, node) not in self.world.busy():
                self.cancel(claimant, node)

    def worker_of(self, claimant: str, node: Node) -> str:
        return self.world.place.worker_name(node.node_id, claimant.rpartition("/")[0].rpartition(":")[2])


class BusyWorld(ServesWorld, Protocol):
    """That says by itself which workers have runs, whether the place answers or not."""

    def busy(self) -> frozenset[str]:
        """Names of workers."""
        ...


class ServedWay:
    """Give it `make`: a place for pool `p` on that clock."""

    def make(self, clock: Clock) -> BusyWorld:
        raise NotImplementedError

    def scene(self) -> tuple[World, BusyWorld, Nodes]:
        """One node is wanted for ten minutes."""
        world = make_world(make_pool(mode=Mode.FULL))
        place = self.make(world.clock)
        nodes = Nodes(world.clock, world.cloud)
        nodes.world, nodes.leaving = place, {}
        ctx = replace(world.ctx, schedulers={"sim": nodes}, served={"p": (place.place,)})
        until = START + timedelta(seconds=600)
        ctx.ports.intent.add_override(Override("p", 1, START, until, "wanted"))
        return replace(world, ctx=ctx, scheduler=nodes), place, nodes

    def test_a_node_stays_while_its_worker_has_a_run_and_goes_when_it_has_none(self) -> None:
        """While the place does not say, a worker counts as busy."""
        world, place, nodes = self.scene()

        def run(seconds: float) -> None:
            world.run_for(seconds, every=15, plan_every=60, each=lambda _: nodes.go())

        run(300)
        (node,) = observe(world.ctx, world.ctx.pool("p")).nodes
        (claimant,) = [c for c in nodes.starts if c.endswith("/worker#0")]
        worker = nodes.worker_of(claimant, node)
        place.give(worker)
        run(3000)
        assert world.nodes() == 1, "nothing wants the node any more, but its worker has a run"
        place.away(True)
        place.finish(worker)
        run(1200)
        assert world.nodes() == 1, "nobody can say whether its worker has a run"
        place.away(False)
        run(1500)
        assert world.nodes() == 0, "an idle worker keeps no node"

    def test_the_place_is_left_as_it_was_found(self) -> None:
        """Whatever was set for warm nodes, and workers are told to leave."""
        world, place, nodes = self.scene()
        before = place.everything()
        world.run_for(300, every=15, plan_every=60)
        assert (place.everything() != before) is bool(place.changes)
        assert [b.whole for b in release(world.ctx, world.pool)] == ([True] if place.changes else [])
        assert place.everything() == before
        assert [c for c in nodes.starts if c.endswith("/worker#0")]
        assert len(nodes.leaving) == 1
