"""A run that is unlike those before it is told as it ends, once, with the command that shows it."""

from dataclasses import replace

from preprov.control.why import why_run
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.resources import Resources
from preprov.model.work import TaskRun, TaskSpec
from preprov.sim.adjustable import AdjustableSim
from tests.unit.control.world import World, dag, make_pool, make_world


def world_of(peaks: list[float]) -> tuple[World, list[str]]:
    """Runs one after the other that use so many GiB."""
    world = make_world(make_pool())
    of: dict[str, float] = {}

    def load(task: TaskRun, _: float) -> Resources:
        return Resources(cpu=0.5, memory=of[task.run_id])

    sim = AdjustableSim(world.clock, world.cloud, load=load)
    world = replace(world, ctx=replace(world.ctx, schedulers={"sim": sim}), scheduler=sim)
    spec = TaskSpec("t", ("x",), request=Resources(cpu=1, memory=12), runtime_hint_s=40)
    for peak in peaks:
        (run,) = world.submit(dag("d", spec))
        of[run.run_id] = peak
        world.run_for(90 if len(of) > 1 else 240, every=10, plan_every=90)
    return world, list(of)


def odd(world: World) -> list[ActionRecord]:
    return [r for r in world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.ODD]


def test_a_run_that_is_unlike_the_others_is_told_once_with_what_shows_it() -> None:
    world, runs = world_of([2.0, 2.02, 1.99, 2.01, 2.0, 6.0, 2.0])
    (row,) = odd(world)
    assert row.action.task == f"{runs[5]}/t#0"
    assert "memory 6 GiB, where 2 is usual" in row.action.reason
    assert row.action.reason.endswith(f"preprov task show {runs[5]}/t")
    assert (row.action.numbers["memory_used"], round(row.action.numbers["memory_usual"])) == (6.0, 2)
    assert any("where 2 is usual" in e.why for e in why_run(world.ctx, runs[5]).events)


def test_the_third_in_a_row_says_that_it_is_usual_now() -> None:
    world, runs = world_of([2.0, 2.02, 1.99, 2.01, 2.0, 6.0, 6.01, 6.0, 6.0])
    told = [r.action.task.split("/")[0] for r in odd(world)]
    assert told == runs[5:8]
    assert f"what has run since {runs[5]}/t#0 is usual now" in odd(world)[-1].action.reason
