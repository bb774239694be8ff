"""A DAG that was submitted with a schedule finds warm nodes at its very first turn."""

from preprov.control.forecasting import analyze_queue, issue_forecast
from preprov.model.work import State
from tests.unit.control.world import START, dag, make_world, task


def test_the_first_turn_of_a_submitted_schedule_is_foreseen_and_finds_warm_nodes() -> None:
    world = make_world()
    etl = dag("etl", task("extract", cpu=2), task("load", "extract", cpu=4), schedule=f"10 {START.hour} * * *")
    assert world.submit(etl) == (), "its schedule makes the runs"
    forecast = issue_forecast(world.ctx, world.pool, horizon_s=3600, step_seconds=300).curve
    assert forecast.parts["scheduled"].max() > 0
    assert forecast.quantile(0.5).max() == 4
    assert [d.dag_id for d in analyze_queue(world.ctx, world.pool).due] == ["etl"]
    world.run_for(590)
    assert world.nodes() > 0, "warm before the turn"
    world.run_for(400)
    (run,) = world.ctx.ports.work.runs("p")
    assert run.state is State.SUCCEEDED
    first = world.ctx.ports.work.task_runs([run.run_id])[0]
    assert (first.started_at - run.scheduled_for).total_seconds() <= 20, "two passes: one makes the run, one starts it"
