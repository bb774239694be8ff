"""Deadlines in passes: what lateness costs raises capacity, and where capacity binds runs go in the proposed order."""

from dataclasses import replace
from datetime import timedelta

from preprov.control.ahead import lateness, runs_ahead
from preprov.control.demanding import current_demand
from preprov.control.gathering import current_leads
from preprov.control.passes import make_plan_now, order_now, pool_pass
from preprov.model.limits import Deadline
from preprov.model.pools import Guards
from preprov.model.work import State
from tests.unit.control.world import START, dag, make_pool, make_world, task


def tight_world(**more):
    """One node of four cores at the most."""
    return make_world(make_pool(guards=Guards(max_nodes=1), **more))


def wide(minutes):
    """Four-core tasks that fill the one node for 80 minutes, though each takes ten; it cannot land in time."""
    return dag("wide", task("t", cpu=4, seconds=600, instances=8), land_by=START + timedelta(minutes=minutes))


def narrow(minutes):
    return dag("narrow", task("t", cpu=4, seconds=600), land_by=START + timedelta(minutes=minutes))


def test_where_capacity_binds_what_can_still_land_goes_before_what_cannot():
    world = tight_world()
    (late,) = world.submit(wide(30))
    (small,) = world.submit(narrow(35))
    world.run_for(2400)
    plan = world.ctx.ports.plans.latest("p")
    assert plan.basis["order"][0] == small.run_id
    run = world.ctx.ports.work.run(small.run_id)
    assert run.state is State.SUCCEEDED
    assert run.ended_at <= small.land_by
    assert world.ctx.ports.work.run(late.run_id).state is not State.SUCCEEDED


def test_the_order_says_when_runs_end_and_whether_they_land():
    world = tight_world()
    world.submit(wide(30), narrow(35), dag("quick", task("t", seconds=60), due_in=1800))
    found = order_now(world.ctx, world.pool)
    assert any("max_nodes" in name for name in found.binds)
    by_dag = {p.ahead.coming.dag_id: p.forecast for p in found.order}
    assert by_dag["narrow"].meets > 0.8
    assert by_dag["wide"].meets == 0.0
    assert by_dag["quick"].meets is None
    assert 1.0 <= found.proposed[0] < 1.2 < found.first_come[0]
    narrow_end = by_dag["narrow"].finish[1] - START
    assert timedelta(minutes=10) < narrow_end < timedelta(minutes=15), "a launch, then ten minutes"
    plenty = make_world()
    plenty.submit(narrow(35))
    free = order_now(plenty.ctx, plenty.pool)
    assert free.binds == ()
    assert free.order[0].forecast.meets > 0.8


def test_a_cap_that_is_only_asked_about():
    world = make_world()
    world.submit(wide(30))
    have = order_now(world.ctx, world.pool)
    less = order_now(world.ctx, world.pool, most=2)
    assert have.order[0].forecast.meets > less.order[0].forecast.meets
    assert less.capacity.cores.max() <= 8


def test_turns_of_schedules_are_ahead_with_the_deadlines_of_their_route():
    pool = make_pool(
        deadlines=(Deadline("night*", land_by="01:40", late_usd_per_minute=2.0), Deadline(land_by="03:00"))
    )
    world = make_world(pool)
    world.submit(dag("nightly", task("t", seconds=60), schedule="30 1 * * *"), dag("other", task("t")))
    ahead = {a.coming.dag_id: a for a in runs_ahead(world.ctx, pool)}
    night = ahead["nightly"].run
    assert ahead["nightly"].coming.expected
    assert night.land_by == START.replace(hour=1, minute=40)
    assert night.late_usd_per_minute == 2.0
    assert ahead["other"].run.late_usd_per_minute == 0.0


def test_what_lateness_costs_is_put_where_waiting_would_make_a_run_late():
    pool = make_pool(deadlines=(Deadline("tight", late_usd_per_minute=30.0), Deadline(late_usd_per_minute=0.0)))
    world = make_world(pool)
    tight = dag("tight", task("t", cpu=4, seconds=600), due_in=900, land_by=START + timedelta(seconds=1510))
    easy = dag("easy", task("t", cpu=4, seconds=60), due_in=2700, land_by=START + timedelta(seconds=3500))
    world.submit(tight, easy)
    _, demand = current_demand(world.ctx, pool)
    usd = lateness(world.ctx, pool, demand, current_leads(world.ctx, pool))
    due = 900 // pool.step_seconds
    assert usd[:due].max() == 0
    assert usd[due] > 100, "a core-hour of this run's waiting costs many dollars"
    assert usd[2700 // pool.step_seconds] == 0, "the other has time"
    free = replace(pool, deadlines=())
    assert lateness(world.ctx, free, demand, current_leads(world.ctx, free)) is None


def test_lateness_has_no_price_where_none_is_said():
    world = make_world()
    world.submit(narrow(35))
    plan, _ = make_plan_now(world.ctx, world.pool)
    assert "order" not in plan.basis
    pool_pass(world.ctx, world.pool)
    assert "order" not in world.ctx.ports.plans.latest("p").basis
