"""What ran on another kind of machine is told as it would have gone on the one it is foretold for."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from preprov.control.demanding import runtime_model
from preprov.control.machines import kinds_of_nodes, machines_of, work_as_on
from preprov.control.measuring import usage_runs, usual_runs
from preprov.control.outlooks import curves_of
from preprov.control.rightsizing import show_task
from preprov.model.agent import Usage
from preprov.model.offerings import Offering
from preprov.model.pools import Pool
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.work import TaskRun, TaskSpec
from tests.unit.control.world import START, World, dag, make_group, make_pool, make_world

OLD, NEW = "old.large", "new.large"
BOTH = TaskSpec("both", ("both",), request=Resources(cpu=1, memory=1))
ONCE = TaskSpec("once", ("once",), request=Resources(cpu=1, memory=1))


def pool_of(kind: str) -> Pool:
    node = Offering(kind, Resources(cpu=4, memory=16), usd_per_hour=0.2)
    return make_pool(groups=(make_group(node),))


def ran(world: World, spec: TaskSpec, seconds: float, count: int = 6) -> list[TaskRun]:
    """Runs one after the other, watched; half of the time they use a GiB, then three."""
    out = []
    for _ in range(count):
        (run,) = world.submit(dag("etl", replace(spec, runtime_hint_s=seconds)))
        world.run_for(seconds + 240)
        (task,) = world.ctx.ports.work.task_runs([run.run_id])
        assert task.started_at is not None
        begun = epoch(task.started_at)
        usage = [
            Usage(
                begun + s,
                cpu=1.0,
                memory=1.0 if s < seconds / 2 else 3.0,
                network=6000.0 / seconds,
            )
            for s in np.linspace(0, seconds, 20)
        ]
        world.ctx.ports.samples.append("p", [(task.claimant(0), u) for u in usage])
        out.append(task)
    return out


@pytest.fixture(scope="module")
def moved() -> World:
    """A pool that went from one kind of machine to another, on which everything takes half as long."""
    world = make_world(pool_of(OLD))
    ran(world, BOTH, 120)
    ran(world, ONCE, 200)
    world.run_for(600)
    world.pool = pool_of(NEW)
    world.ctx.pools[world.pool.name] = world.pool  # type: ignore[index]
    ran(world, BOTH, 60)
    world.ctx.memo.clear()  # what is learnt is kept for an hour
    return world


def test_nodes_are_known_by_kind_and_kinds_compared(moved: World) -> None:
    assert set(kinds_of_nodes(moved.ctx).values()) == {OLD, NEW}
    assert machines_of(moved.ctx, moved.pool).factor(OLD, NEW) == pytest.approx(0.5, abs=0.08)


def test_a_task_that_only_ran_elsewhere_is_shown_as_it_would_go_here(moved: World) -> None:
    shown = show_task(moved.ctx, moved.pool, "etl/once")
    assert (shown.machine, list(shown.factors)) == (NEW, [OLD])
    curve = shown.curves["memory"]
    assert curve.runtime_s[3] == pytest.approx(200 * shown.factors[OLD], rel=0.05)
    assert curve.runtime_s[3] == pytest.approx(100, rel=0.15)
    assert [round(p.amount) for p in curve.phases] == [1, 3]
    assert curve.phases[1].start_s == pytest.approx(50, rel=0.2)
    assert curve.peak[3] == pytest.approx(3.0, rel=0.02)
    assert shown.curves["network"].peak[3] == pytest.approx(30 / shown.factors[OLD], rel=0.1)


def test_a_run_is_foretold_for_the_machine_that_it_ran_on_by_what_was_known_then(moved: World) -> None:
    runs = usage_runs(moved.ctx, moved.pool, dag="etl", task="once", since=START, until=moved.clock.now())
    last = runs[-1][0]
    shown = show_task(moved.ctx, moved.pool, f"{last.run_id}/once")
    assert (shown.machine, dict(shown.factors)) == (OLD, {})
    assert shown.curves["memory"].runtime_s[3] == pytest.approx(200, rel=0.05)
    early = machines_of(moved.ctx, moved.pool, last.submitted_at)
    assert early.factor(OLD, NEW) == 1.0  # a canary: nothing had run on the new ones by then


def test_what_is_reserved_and_adjusted_by_is_of_this_machine(moved: World) -> None:
    (first, *_) = [t for t in _tasks(moved) if t.task_id == "once"]
    runs = usual_runs(moved.ctx, moved.pool, "etl", first)
    assert [u.duration_s for _, u in runs] == pytest.approx([100] * len(runs), rel=0.2)
    assert {u.machine for _, u in runs} == {NEW}
    run = moved.ctx.ports.work.run(first.run_id)
    assert run is not None
    here = there = None
    for _ in range(10):
        here = curves_of(moved.ctx, moved.pool, run, first, machine=NEW)
        there = curves_of(moved.ctx, moved.pool, run, first, machine=OLD)
    assert here
    assert there
    assert there["memory"].runtime_s[3] / here["memory"].runtime_s[3] == pytest.approx(2.0, rel=0.2)
    assert there["memory"].peak == pytest.approx(here["memory"].peak)


def test_demand_is_foretold_with_the_runtimes_of_this_machine(moved: World) -> None:
    now = moved.clock.now()
    tasks = {(t.run_id, t.task_id): t for t in _tasks(moved)}
    seen = moved.ctx.ports.work.work("p", since=START - timedelta(days=1), until=now).with_waits()
    rows = zip(seen.runs["run_id"].to_numpy()[seen.tasks["run"]], seen.tasks["task_id"], strict=True)
    told = replace(seen, tasks=seen.tasks.assign(node=[tasks[row].node_id for row in rows]))
    (first, *_) = [t for t in tasks.values() if t.task_id == "once"]
    model = runtime_model(moved.ctx, moved.pool, told, now)
    median = model.tables(np.array([first.signature], dtype=object), np.array([np.nan])).quantile(0.5)
    assert median[0] == pytest.approx(100, rel=0.25)
    there = work_as_on(moved.ctx, moved.pool, told, OLD)
    assert (there.tasks["ended_at"] == seen.tasks["ended_at"]).all()
    assert there.tasks["runtime_s"].max() == pytest.approx(200, rel=0.1)


def _tasks(world: World) -> list[TaskRun]:
    runs = world.ctx.ports.work.runs("p", limit=100)
    return list(world.ctx.ports.work.task_runs([r.run_id for r in runs]))
