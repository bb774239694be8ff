"""Ask every decision why: what was foretold, what it was chosen over, who decided, and what came of it."""

from dataclasses import replace

import pytest

from preprov.control.forecasting import issue_forecast
from preprov.control.passes import pool_pass
from preprov.control.why import why_action, why_node, why_run
from preprov.model.errors import ConfigError
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Guards
from preprov.model.resources import Resources
from tests.unit.control.world import dag, make_pool, make_world, task


@pytest.fixture
def night(make_world):
    """A run that is over, its one node gone; launched by the plan, which a reaction would not have waited for."""
    world = make_world()
    (run,) = world.submit(dag("etl", task("a", cpu=2, seconds=300), task("b", "a", cpu=2, seconds=120), due_in=300))
    issue_forecast(world.ctx, world.pool, step_seconds=3600)
    world.run_for(300, react=False)
    world.run_for(2700)
    return world, run


LADDER = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})


def reacting(**changes):
    """A pool in which nodes wake and sleep between plans, after two waves a quarter of an hour apart and a night."""
    lead = {Standby.COLD: LeadTime(60, 90), Standby.STOPPED: LeadTime(30, 45), Standby.HIBERNATED: LeadTime(10, 20)}
    pool = make_pool(**changes)
    world = make_world(replace(pool, groups=(replace(pool.groups[0], standby_states=LADDER, lead=lead),)))
    for number in range(2):
        world.submit(dag(f"wave-{number}", *(task(f"t{i}", cpu=4, seconds=60) for i in range(3))))
        issue_forecast(world.ctx, world.pool, step_seconds=3600)
        world.run_for(900, every=5, plan_every=60)
    world.run_for(3600, every=30, plan_every=60)
    return world


def carried_out(world):
    return [
        r for r in world.ctx.ports.audit.records("p") if r.result == "done" and r.action.kind is not ActionKind.HOLD
    ]


@pytest.mark.slow
def test_every_action_between_plans_is_told_with_its_cost_and_what_it_was_chosen_over():
    world = reacting()
    told = {}
    for r in carried_out(world):
        story = why_action(world.ctx, r.action.action_id)
        (plan,) = story.plans
        assert r.action.cost_usd is not None
        assert "USD" in r.action.reason
        assert plan.alternatives
        assert all(a.cost_usd is not None and "against this" in a.why_not for a in plan.alternatives if plan.basis)
        told.setdefault((r.action.kind, plan.basis["solver"]), []).append((r, plan))
    reactions = {kind: rows for (kind, solver), rows in told.items() if solver == "reaction"}
    assert {ActionKind.START, ActionKind.HIBERNATE} <= reactions.keys()
    for r, plan in reactions[ActionKind.START]:
        names = [a.name for a in plan.alternatives]
        assert names == ["leave as it is: wake when work waits", "leave as it is: launch cold when work waits"]
        assert r.action.numbers["saves_core_hours"] > 0
        assert all(a.wait_core_hours > plan.expected_wait_core_hours for a in plan.alternatives)
    for r, plan in reactions[ActionKind.HIBERNATE]:
        assert "keep running" in [a.name for a in plan.alternatives]
        assert r.action.cost_usd < 0
        (on,) = [a for a in plan.alternatives if a.name == "keep running"]
        assert plan.cost_usd - on.cost_usd == pytest.approx(r.action.cost_usd, abs=1e-5)


@pytest.mark.slow
def test_a_node_and_a_run_are_told_whole_where_nodes_wake_between_plans():
    world = reacting()
    started = next(r for r in carried_out(world) if r.action.kind is ActionKind.START)
    story = why_node(world.ctx, started.node_ids[0])
    assert all(p.alternatives and p.cost_usd is not None for p in story.plans)
    assert story.foretold
    second = world.ctx.ports.work.runs("p")[-1]
    story = why_run(world.ctx, second.run_id)
    assert [f.forecast_id != "" for f in story.foretold] == [True]
    assert story.foretold[0].came is not None
    nodes = {t.node_id for t in world.ctx.ports.work.task_runs([second.run_id])}
    assert {o.node_id for o in story.outcomes} == nodes
    assert all(p.alternatives for p in story.plans)


def test_a_run_of_which_nobody_foretold_or_saw_anything_says_nothing_of_that():
    world = make_world()
    (run,) = world.submit(dag("etl", task("a")))
    assert why_run(world.ctx, run.run_id).foretold == ()


def launches(world):
    done = [r for r in world.ctx.ports.audit.records("p") if r.result == "done"]
    return [r for r in done if r.action.kind is ActionKind.LAUNCH]


def test_an_action_is_told_with_its_forecast_its_alternatives_and_what_came_of_it(night):
    world, _ = night
    (launch,) = launches(world)
    story = why_action(world.ctx, launch.action.action_id)
    assert {e.who for e in story.events} == {"test"}
    assert "2 cores due" in story.events[0].why
    (plan,) = story.plans
    assert plan.plan_id == launch.plan_id
    assert all(a.cost_usd is not None and a.why_not for a in plan.alternatives)
    (hour,) = story.foretold
    assert hour.came == 2
    (node,) = story.outcomes
    assert (node.node_id, node.tasks) == (launch.node_ids[0], 2)
    assert 30 < node.ready_after_s < 200
    assert node.used_h == pytest.approx(420 / 3600, abs=0.02)
    assert node.used_h < node.running_h
    assert node.usd == pytest.approx(node.running_h * 0.2)
    bill = world.cloud.bill().usd
    assert node.usd == pytest.approx(bill, rel=0.02), "as the cloud bills it"
    assert node.gone_at is not None
    assert "2 tasks" in node.words()


def test_a_node_is_told_from_its_launch_to_its_end(night):
    world, _ = night
    (launch,) = launches(world)
    story = why_node(world.ctx, launch.node_ids[0])
    what = " | ".join(e.what for e in story.events)
    assert what.index("launch 1") < what.index("ready after") < what.index("task a started") < what.index("terminate")
    assert story.foretold
    assert story.outcomes[0].tasks == 2
    with pytest.raises(ConfigError):
        why_node(world.ctx, "no such node")


def test_a_run_is_told_with_what_brought_its_node_up(night):
    world, run = night
    story = why_run(world.ctx, run.run_id)
    assert any(e.what.startswith("launch 1") for e in story.events)
    assert story.plans
    assert story.ahead is None
    (hour,) = story.foretold
    assert (hour.forecast_id != "", hour.came) == (True, 2)
    (node,) = story.outcomes
    assert node.tasks == 2


def test_a_run_that_is_not_over_is_told_when_it_should_end_and_what_it_waits_for():
    world = make_world(make_pool(guards=Guards(max_nodes=1)))
    (run,) = world.submit(dag("wide", task("t", cpu=4, seconds=900, instances=2)))
    world.submit(dag("other", task("t", cpu=4, seconds=900)))
    for _ in range(8):
        pool_pass(world.ctx, world.pool)
        world.clock.sleep(15)
    story = why_run(world.ctx, run.run_id)
    assert story.ahead.forecast.finish[1] is not None
    waits = why_run(world.ctx, world.submit(dag("late", task("t", cpu=4)))[0].run_id)
    assert waits.ahead is not None
    pool_pass(world.ctx, world.pool)
    waits = why_run(world.ctx, waits.subject.split()[1])
    (event,) = [e for e in waits.events if "waits for room" in e.what]
    assert "max_nodes" in event.why


def test_a_task_that_fits_nowhere_any_more_says_so():
    world = make_world()
    (run,) = world.submit(dag("d", task("t", cpu=4)))
    small = replace(world.pool.groups[0], offerings=(Offering("s", Resources(2, 8), usd_per_hour=0.1),))
    pool = replace(world.pool, groups=(small,))
    world = replace(world, pool=pool, ctx=replace(world.ctx, pools={"p": pool}))
    pool_pass(world.ctx, pool)
    (event,) = [e for e in why_run(world.ctx, run.run_id).events if "nowhere" in e.what]
    assert "s has 2 cores" in event.why
