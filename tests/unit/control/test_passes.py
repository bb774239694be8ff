"""The whole main job in memory: queued DAGs -> demand -> plan -> warm nodes -> tasks -> scale-down."""

from datetime import timedelta

from preprov.model.plans import ActionKind
from preprov.model.work import State
from tests.unit.control.world import START, dag, task


def waits(world, run_id):
    return {
        t.task_id: (t.started_at - t.ready_at).total_seconds()
        for t in world.ctx.ports.work.task_runs([run_id])
        if t.started_at and t.ready_at
    }


def test_a_dag_due_later_finds_warm_nodes_and_the_pool_goes_back_to_zero(make_world):
    world = make_world()
    (run,) = world.submit(
        dag(
            "etl",
            task("extract", cpu=2),
            task("left", "extract", cpu=2),
            task("right", "extract", cpu=2),
            task("join", "left", "right", cpu=1),
            task("report", "join", cpu=1),
            due_in=300,
        )
    )
    world.run_for(290)
    assert world.nodes() > 0, "nodes are warm before the DAG is due"
    world.run_for(600)
    run = world.ctx.ports.work.run(run.run_id)
    assert run.state is State.SUCCEEDED
    assert max(waits(world, run.run_id).values()) <= 10, "nothing waited longer than a tick"
    starts = {t.task_id: t.started_at for t in world.ctx.ports.work.task_runs([run.run_id])}
    assert starts["extract"] < starts["left"] < starts["join"] < starts["report"]
    assert starts["extract"] >= START + timedelta(seconds=300)
    world.run_for(1800)
    assert world.nodes() == 0
    assert not world.ctx.ports.ledger.reservations("p"), "every claim was given back"


def test_work_that_comes_unannounced_is_served_as_soon_as_nodes_can_be_had(make_world):
    world = make_world()
    (run,) = world.submit(dag("adhoc", task("only", seconds=120)))
    world.run_for(600)
    assert world.ctx.ports.work.run(run.run_id).state is State.SUCCEEDED
    assert waits(world, run.run_id)["only"] < 200


def test_every_action_has_a_reason_and_an_audit_row(make_world):
    world = make_world()
    world.submit(dag("d", task("t"), due_in=200))
    world.run_for(900)
    rows = world.ctx.ports.audit.records("p")
    done = [r for r in rows if r.result == "done"]
    assert {r.action.kind for r in done} >= {ActionKind.LAUNCH, ActionKind.TERMINATE}
    assert all(r.action.reason and r.plan_id and r.actor == "test" for r in done)
    intended = [r.action.action_id for r in rows if r.result == "intended"]
    assert [r.action.action_id for r in done if r.action.action_id not in intended] == []


def test_a_failed_task_skips_what_depends_on_it_and_frees_its_claims(make_world):
    world = make_world()
    world.scheduler.exit_code = lambda t: 3 if t.task_id == "bad" else 0
    (run,) = world.submit(dag("d", task("bad"), task("child", "bad"), task("grandchild", "child"), task("other")))
    world.run_for(900)
    states = {t.task_id: t.state for t in world.ctx.ports.work.task_runs([run.run_id])}
    assert states == {
        "bad": State.FAILED,
        "child": State.SKIPPED,
        "grandchild": State.SKIPPED,
        "other": State.SUCCEEDED,
    }
    assert world.ctx.ports.work.run(run.run_id).state is State.FAILED
    assert not world.ctx.ports.ledger.reservations("p")


def test_a_retry_runs_again_and_all_instances_of_a_task_must_end_well(make_world):
    world = make_world()
    world.scheduler.exit_code = lambda t: 1 if t.task_id == "flaky" and t.attempt == 1 else 0
    (run,) = world.submit(dag("d", task("flaky", retries=1), task("wide", instances=6)))
    world.run_for(1200)
    tasks = {t.task_id: t for t in world.ctx.ports.work.task_runs([run.run_id])}
    assert tasks["flaky"].state is State.SUCCEEDED
    assert tasks["flaky"].attempt == 2
    assert tasks["wide"].done == tuple(range(6))
    assert world.ctx.ports.work.run(run.run_id).state is State.SUCCEEDED
    assert len(world.scheduler.starts) == len(set(world.scheduler.starts)) == 8


def test_a_surge_and_an_early_finish_revise_the_plan_and_end_no_task(make_world):
    world = make_world()
    runs = list(world.submit(dag("wave", task("t", seconds=900, instances=8), due_in=200)))
    counts = []

    def look(result):
        counts.append(len(result.observation.nodes))

    world.run_for(400, each=look)
    before = counts[-1]
    runs += world.submit(dag("surge", task("t", seconds=900, instances=24)))
    world.run_for(300, each=look)
    during = counts[-1]
    assert during >= before * 2, "three times the work, and the pool follows"
    world.scheduler.seconds = lambda t: 1
    for r in world.scheduler._runs.values():  # the wave ends early
        r.ends_at = min(r.ends_at, world.clock.now())
    world.run_for(1500, each=look)
    assert counts[-1] < during
    for run in runs:
        tasks = world.ctx.ports.work.task_runs([run.run_id])
        assert all(t.state is State.SUCCEEDED and t.attempt == 1 for t in tasks), "no task was ended"


def test_a_cron_dag_makes_its_own_runs(make_world):
    world = make_world()
    made = world.submit(dag("hourly", task("t", seconds=30), schedule="*/15 * * * *"))
    assert made == ()
    world.run_for(3600)
    runs = sorted(world.ctx.ports.work.runs("p"), key=lambda r: r.scheduled_for)
    assert [r.scheduled_for.minute for r in runs] == [0, 15, 30, 45]
    assert all(r.state is State.SUCCEEDED for r in runs)
    later = [max(waits(world, r.run_id).values()) for r in runs[1:]]
    assert max(later) <= 10, "the schedule is known, so every turn but the one it was declared in finds a warm node"


def test_half_empty_nodes_are_drained_so_that_they_can_go(make_world):
    world = make_world()
    short = task("short", seconds=120, cpu=3, instances=2, priority=9)
    world.submit(dag("wide", task("long", seconds=2500, cpu=1, instances=2), short))
    world.run_for(400)
    busy = [n for n in world.cloud.observe(world.pool).nodes if n.running]
    assert len(busy) == 2, "each has a long task; the short ones that parted them are over"
    world.submit(dag("drip", *(task(f"t{i}", seconds=100) for i in range(2)), schedule="*/5 * * * *"))
    world.run_for(2000)
    done = [r for r in world.ctx.ports.audit.records("p") if r.result == "done"]
    (drain,) = [r for r in done if r.action.kind is ActionKind.DRAIN]
    assert "half empty" in drain.action.reason
    world.run_for(1000)
    tasks = world.ctx.ports.work.task_runs([r.run_id for r in world.ctx.ports.work.runs("p")])
    assert all(t.attempt == 1 for t in tasks), "no task was ended"
    after = [t for t in tasks if t.started_at and t.started_at > drain.at]
    assert after
    assert {t.node_id for t in after}.isdisjoint(drain.node_ids), "it took no new work"
    done = [r for r in world.ctx.ports.audit.records("p") if r.result == "done"]
    ended = {n for r in done if r.action.kind is ActionKind.TERMINATE for n in r.node_ids}
    assert drain.node_ids[0] in ended
