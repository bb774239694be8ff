"""What the next minutes are seen to want of runs that are under way."""

import numpy as np
import pytest

from preprov.control.soon import rises_soon
from preprov.demand.soon import Course, Moving
from preprov.model.resources import KINDS
from tests.unit.control.world import World, dag, make_world, task

CPU = KINDS.index("cpu")
OFFSETS = np.array([30.0, 90.0])


def rise(world: World) -> float:
    """Median of how many more cores are wanted a minute and a half from now."""
    return float(np.median(rises_soon(world.ctx, world.pool, OFFSETS)[:, -1, CPU]))


def started(*tasks_after: object) -> World:
    """A run whose first task, of a minute, has begun just now."""
    world = make_world()
    world.submit(dag("etl", task("first", seconds=60, cpu=2), *tasks_after))  # type: ignore[arg-type]
    for _ in range(60):
        world.run_for(10)
        (run,) = world.ctx.ports.work.runs("p", live=True)
        first = next(t for t in world.ctx.ports.work.task_runs([run.run_id]) if t.task_id == "first")
        if first.started_at is not None:
            return world
    raise AssertionError("it did not start")


def test_a_wave_is_seen_behind_a_task_that_is_late():
    world = started(task("wave", "first", seconds=600, cpu=4, instances=3))
    assert rise(world) == 10.0
    world.clock.sleep(65)  # its end, and what follows, is due by now; nobody says so
    assert rise(world) == 10.0
    world.clock.sleep(600)
    assert rise(world) == 0.0, "it hangs, or its end was not told"


def test_instances_that_are_over_have_nothing_to_give_back():
    world, lengths = make_world(), iter([30.0, 30.0, 30.0, 300.0])
    world.scheduler.seconds = lambda _: next(lengths)
    many = task("many", seconds=120, cpu=4, instances=4)
    world.submit(dag("etl", many, task("next", "many", seconds=600, cpu=4, instances=2)))
    while len(world.scheduler.starts) < 4:
        world.run_for(10)
    world.run_for(100)
    assert rise(world) == 8.0 - 4.0, "of the four only one still holds its cores"


def test_a_run_that_is_due_later_is_seen_before():
    world = make_world()
    world.submit(dag("later", task("t", seconds=600, cpu=3), due_in=60))
    assert rise(world) == pytest.approx(3.0)
    assert rises_soon(world.ctx, world.pool, OFFSETS)[:, 0, CPU].max() == 0.0


def test_a_run_of_which_more_becomes_known_is_seen_as_it_is():
    """As of sources that tell of tasks only as they come."""
    world = started(task("wave", "first", seconds=600, cpu=4, instances=3))
    assert rise(world) == 10.0
    kept = world.ctx.memo["p", "courses"][1]
    (name,) = kept
    alone = Course.of(np.array([0.0]), np.array([60.0]), np.array([[2.0, 2.0, 0.0, 0.0, 0.0]]))
    kept[name] = Moving((alone,), name, kept[name].samples)
    assert rise(world) == 10.0
