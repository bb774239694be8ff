"""A demand curve is used until it is old, or until something is seen that it did not foresee."""

from datetime import timedelta

import pytest

from preprov.control.demanding import current_demand
from preprov.control.passes import pool_pass
from preprov.control.standing import STANDS
from tests.unit.control.world import dag, task


def curve_id(world) -> str:
    return current_demand(world.ctx, world.pool)[0]


def test_a_curve_stands_while_all_goes_as_it_says(make_world):
    world = make_world()
    world.submit(dag("etl", task("extract", cpu=2), task("load", "extract"), due_in=3000))
    first, curve = current_demand(world.ctx, world.pool)
    world.clock.sleep(600)
    again, same = current_demand(world.ctx, world.pool)
    assert (again, same) == (first, curve)
    assert same.end >= world.clock.now() + timedelta(seconds=world.pool.horizon_s)
    world.clock.sleep(STANDS.total_seconds() - 600)
    assert curve_id(world) != first


def test_what_nobody_announced_makes_a_new_one(make_world):
    world = make_world()
    world.submit(dag("etl", task("extract", cpu=2), due_in=3000))
    first = curve_id(world)
    world.clock.sleep(30)
    world.submit(dag("adhoc", task("only", cpu=0.5), due_in=1200))
    second, curve = current_demand(world.ctx, world.pool)
    assert second != first
    assert curve.quantile(0.5).max() == pytest.approx(2.0)
    assert curve.mean.sum() > 0


def test_a_schedule_declared_since_makes_a_new_one(make_world):
    world = make_world()
    first = curve_id(world)
    world.clock.sleep(30)
    world.submit(dag("hourly", task("t"), schedule="0 * * * *"))
    assert curve_id(world) != first


def test_demand_that_none_of_its_futures_holds_makes_a_new_one(make_world):
    world = make_world()
    world.submit(dag("etl", task("extract", seconds=120, cpu=2), due_in=60))
    first = curve_id(world)
    world.clock.sleep(30)
    assert curve_id(world) == first
    world.clock.sleep(900)
    pool_pass(world.ctx, world.pool, plan=False)  # it is ready, and has no node: it should have ended long ago
    assert curve_id(world) != first
