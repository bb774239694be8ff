"""Unlike tasks in passes: those that need a GPU get nodes of their own, the rest stays on the cheap ones."""

from dataclasses import replace

import pytest

from preprov.control.context import Tenant
from preprov.control.demanding import current_demand
from preprov.control.lanes import fits_nowhere, parted
from preprov.control.passes import make_plan_now, pool_pass
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Guards
from preprov.model.resources import Resources
from preprov.model.work import State, TaskSpec
from tests.unit.control.world import START, dag, make_pool, make_world, task

LEADS = {Standby.COLD: LeadTime(60, 90)}
CPU = Offering("c", Resources(8, 32), usd_per_hour=0.2)
GPU = Offering("g", Resources(8, 32, 1), usd_per_hour=1.5)


@pytest.fixture
def world():
    groups = (Group("cpu", "sim", (CPU,), lead=LEADS), Group("gpu", "sim", (GPU,), lead=LEADS))
    return make_world(make_pool(groups=groups, guards=Guards(max_nodes=20)))


def train(task_id, *parents, seconds=120, **more):
    return TaskSpec(task_id, ("true",), parents, Resources(cpu=4, memory=16, gpu=1), runtime_hint_s=seconds, **more)


def there(world):
    nodes = world.cloud.observe(world.pool).nodes
    return {g: sum(n.group == g for n in nodes) for g in ("cpu", "gpu")}


def test_a_few_gpu_tasks_do_not_put_all_work_on_gpu_nodes(world):
    wide = task("prepare", cpu=4, seconds=120, instances=8)
    (run,) = world.submit(dag("ml", wide, train("train", "prepare", instances=2), due_in=300))
    most = {"cpu": 0, "gpu": 0}

    def look(_):
        for g, n in there(world).items():
            most[g] = max(most[g], n)

    world.run_for(1500, each=look)
    assert world.ctx.ports.work.run(run.run_id).state is State.SUCCEEDED
    assert most["cpu"] >= 4
    assert 1 <= most["gpu"] <= 2
    tasks = {t.task_id: t for t in world.ctx.ports.work.task_runs([run.run_id])}
    waits = [(t.started_at - t.ready_at).total_seconds() for t in tasks.values()]
    assert max(waits) <= 30, "both were warm before they were wanted"
    plan = world.ctx.ports.plans.latest("p")
    world.run_for(1800)
    assert there(world) == {"cpu": 0, "gpu": 0}
    assert plan is not None


def test_the_lanes_add_up_to_the_whole_in_every_future(world):
    world.submit(dag("ml", task("prepare", cpu=4, seconds=300, instances=8), train("train", "prepare"), due_in=300))
    forecast_id, demand = current_demand(world.ctx, world.pool)
    found = parted(world.ctx, world.pool, demand, forecast_id, ())
    (lane,) = found.lanes
    assert lane.demand.samples[:, :, 2].max() == 1
    assert found.main.samples[:, :, 2].max() == 0
    whole = demand.samples if demand.mean is None else demand.mean
    sums = found.main.mean + (lane.demand.samples if lane.demand.mean is None else lane.demand.mean)
    assert sums == pytest.approx(whole, abs=1e-3)


def test_gpu_work_that_nobody_announced_is_served_once_it_is_there(world):
    world.submit(dag("plain", task("t", cpu=4, seconds=600, instances=4)))
    pool_pass(world.ctx, world.pool)
    (run,) = world.submit(dag("adhoc", train("t", seconds=60)))
    world.run_for(900)
    assert world.ctx.ports.work.run(run.run_id).state is State.SUCCEEDED


def test_small_tasks_leave_the_gpu_alone_while_there_is_other_room(world):
    gpus, cpus = world.pool.groups[1], world.pool.groups[0]
    world.pool = replace(world.pool, groups=(replace(cpus, min_nodes=1), replace(gpus, min_nodes=1)))
    world.submit(
        dag("ml", train("t", seconds=2000), due_in=3000), dag("plain", task("t", cpu=1, seconds=900), due_in=200)
    )
    world.run_for(400)
    busy = [n for n in world.cloud.observe(world.pool).nodes if n.running]
    assert [n.group for n in busy] == ["cpu"]


def test_what_a_tenant_may_not_start_wants_no_nodes(world):
    world = replace(world, ctx=replace(world.ctx, tenants={"default": Tenant(quota={"cpu": 4.0})}))
    world.submit(dag("plain", task("t", cpu=4, seconds=3000, instances=6)))
    result = None
    for _ in range(12):
        result = pool_pass(world.ctx, world.pool)
        world.clock.sleep(30)
    assert result.dispatched.waiting_tasks == 0
    assert result.dispatched.waiting.is_zero


def test_the_plan_names_the_lanes(world):
    world.submit(dag("ml", task("prepare", cpu=4, instances=8), train("train", "prepare"), due_in=300))
    plan, _ = make_plan_now(world.ctx, world.pool)
    assert [x["lane"] for x in plan.basis["lanes"]] == ["main", "g"]
    assert {a.group for a in plan.actions if a.kind.raises} == {"cpu", "gpu"}
    assert plan.issued_at == START


def test_what_fits_nowhere_is_named_with_its_reason(world):
    assert fits_nowhere(world.ctx, world.pool) == ()
    huge = TaskSpec("huge", ("true",), request=Resources(cpu=4, memory=4))
    away = replace(huge, task_id="away", affinity={"zone": "mars"})
    world.submit(dag("d", huge, away))
    small = replace(world.pool, groups=(replace(world.pool.groups[0], offerings=(replace(CPU, zone="earth"),)),))
    (one,) = fits_nowhere(world.ctx, small)
    assert (one.task_id, one.instances) == ("away", 1)
    assert "zone=mars" in one.why
    tiny = replace(small, groups=(replace(small.groups[0], offerings=(Offering("t", Resources(2, 2)),)),))
    assert {x.task_id for x in fits_nowhere(world.ctx, tiny)} == {"huge", "away"}
    assert any("t has 2 cores" in x.why for x in fits_nowhere(world.ctx, tiny))
