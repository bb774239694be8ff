"""What tasks that were served here used, and what they should ask for."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from preprov.control.measuring import executions, usage_runs, usual_runs
from preprov.control.rightsizing import of_pool, show_task
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.agent import Usage
from preprov.model.errors import ForecastError
from preprov.model.resources import Resources
from preprov.model.signature_sources import task_signature
from preprov.model.time import epoch
from preprov.model.work import State, TaskSpec
from preprov.testing.listed import ListedPlace, ListedRun
from tests.unit.control.world import START, World, dag, make_pool, make_world, task

GREEDY = TaskSpec("greedy", ("true",), request=Resources(cpu=2, memory=12), runtime_hint_s=60)


NEWER = replace(GREEDY, command=("true", "--newer"))


def watched(
    world: World,
    runs: int,
    *,
    peak: float = 3.0,
    cores: float = 0.5,
    spec: TaskSpec = GREEDY,
    name: str = "etl",
    tenant: str = "default",
) -> list[str]:
    """Runs one after the other, each watched every ten seconds: a rise to the peak, then half of it."""
    made = []
    for i in range(runs):
        (run,) = world.submit(replace(dag(name, spec), tenant=tenant))
        world.run_for(300)
        (served,) = world.ctx.ports.work.task_runs([run.run_id])
        assert served.state is State.SUCCEEDED
        assert served.started_at is not None
        begun = epoch(served.started_at)
        height = peak * (1 + 0.01 * i)
        usage = [
            Usage(begun + s, cpu=cores, memory=height * min(s, 30) / 30 if s <= 30 else height / 2)
            for s in range(0, 61, 10)
        ]
        world.ctx.ports.samples.append("p", [(served.claimant(0), u) for u in usage])
        made.append(run.run_id)
    return made


def test_a_task_that_asks_for_four_times_its_use_is_told_so_and_what_would_be_free():
    world = make_world()
    watched(world, 5)
    report = of_pool(world.ctx, world.pool, since=START)
    (need,) = report.needs
    assert (need.dag, need.task, need.runs, need.measured) == ("etl", "greedy", 5, 5)
    assert (need.asked_cpu, need.asked_memory) == (2.0, 12.0)
    assert need.memory[1] == pytest.approx(3.12, abs=0.01)
    assert 3.12 <= need.ask_memory <= 4.5
    assert need.ask_cpu == 0.5
    assert need.too_small == 0
    told = report.as_dict()
    # a node has 16 GiB and 4 cores: 12 GiB are three quarters of it
    assert need.node_hours_asked == pytest.approx(need.hours * 0.75)
    assert need.node_hours_needed == pytest.approx(need.hours * need.ask_memory / 16)
    assert told["all"]["saved_share"] == pytest.approx(1 - need.ask_memory / 12)
    freed = need.node_hours_asked - need.node_hours_needed
    assert told["all"]["saved_usd"] == pytest.approx(freed * 0.2)
    assert told["tasks"][0]["share_of_all"] == pytest.approx(1.0)


def test_nothing_is_said_of_a_task_that_was_watched_twice_or_never():
    world = make_world()
    watched(world, 2)
    world.submit(dag("blind", task("t")))
    world.run_for(300)
    twice, never = sorted(of_pool(world.ctx, world.pool, since=START).needs, key=lambda n: -n.measured)
    assert (twice.measured, never.measured) == (2, 0)
    assert math.isnan(twice.ask_memory)
    assert math.isnan(never.memory[0])
    assert twice.node_hours_needed == twice.node_hours_asked


def test_what_failed_or_is_not_over_teaches_nothing():
    world = make_world()
    watched(world, 3)
    before = executions(world.ctx, world.pool, since=START, until=world.clock.now())
    assert before.column("machine").tolist() == [world.pool.groups[0].offerings[0].instance_type] * 3
    world.submit(dag("etl", GREEDY))
    world.run_for(30)
    assert len(executions(world.ctx, world.pool, since=START, until=world.clock.now())) == len(before) == 3
    late = executions(world.ctx, world.pool, since=START, until=START + timedelta(seconds=400))
    assert len(late) == 1


def test_of_an_unknown_dag_there_is_a_clear_error():
    world = make_world()
    watched(world, 1)
    with pytest.raises(ForecastError, match="no task of DAG none"):
        of_pool(world.ctx, world.pool, since=START, dag="none")


def test_a_run_is_foretold_by_those_that_had_ended_before_it():
    world = make_world()
    runs = watched(world, 5)
    shown = show_task(world.ctx, world.pool, f"{runs[4]}/greedy")
    assert (shown.dag, shown.task, shown.runs) == ("etl", "greedy", 4)
    assert shown.actual is not None
    assert shown.claimant == f"{runs[4]}/greedy#0"
    assert float(np.nanmax(shown.actual.memory)) == pytest.approx(3.12)
    memory = shown.curves["memory"]
    assert memory.runs == 4
    assert memory.values[:, memory.levels.tolist().index(0.5)].max() == pytest.approx(3.05, abs=0.1)
    assert [round(p.amount) for p in memory.phases][-1] == 2
    assert shown.curves["cpu"].peak.max() == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("name", ["etl/greedy", "default/etl/greedy"])
def test_a_task_is_shown_by_all_its_runs(name: str):
    world = make_world()
    watched(world, 4)
    shown = show_task(world.ctx, world.pool, name)
    assert (shown.runs, shown.actual) == (4, None)
    assert set(shown.curves) == {"memory", "cpu"}


def test_a_task_that_was_hardly_watched_or_is_none_is_refused():
    world = make_world()
    watched(world, 2)
    with pytest.raises(ForecastError, match=r"2 run\(s\) of etl/greedy were watched in pool p; 3 are needed"):
        show_task(world.ctx, world.pool, "etl/greedy")
    with pytest.raises(ForecastError, match="names no task"):
        show_task(world.ctx, world.pool, "etl")


def test_samples_of_other_times_are_not_of_the_run():
    world = make_world()
    (run,) = watched(world, 1)
    (served,) = world.ctx.ports.work.task_runs([run])
    assert served.started_at is not None
    world.ctx.ports.samples.append("p", [(f"{run}/greedy#0", Usage(epoch(served.started_at) - 500, memory=99.0))])
    ((_, usage),) = usage_runs(world.ctx, world.pool, dag="etl", task="greedy", since=START, until=world.clock.now())
    assert usage.memory.max() == pytest.approx(3.0)
    assert usage.at.min() >= 0


def test_the_largest_offering_is_the_node_that_shares_are_of():
    pool = make_pool()
    world = make_world(pool)
    watched(world, 3)
    assert of_pool(world.ctx, pool, since=START).room.memory == 16


def test_tasks_that_ran_elsewhere_are_sized_by_the_samples_that_a_source_brought():
    world = make_world()
    watched(world, 3)
    place, began = ListedPlace("far", at=START), epoch(world.ctx.clock.now()) - 600
    for i in range(4):
        at = began + 60 * i
        place.add(ListedRun(f"read-{i}", "far", at, (("load", "", 2.0),), "them", ended=at + 30))
        usage = [Usage(at + s, cpu=1.0, memory=6.0) for s in range(0, 30, 10)]
        world.ctx.ports.samples.append("p", [(f"read-{i}/load#0", u) for u in usage])
    place.add(ListedRun("runs", "far", began + 300, (("load", "", 2.0),), "them"))
    sync(world.ctx, place.source(), Router(default="p"))
    own, read = sorted(of_pool(world.ctx, world.pool, since=START).needs, key=lambda n: n.dag)
    assert (own.dag, own.runs, own.measured) == ("etl", 3, 3)
    assert (read.dag, read.task, read.tenant, read.runs, read.measured) == ("far", "load", "them", 4, 4)
    assert read.memory == (6.0, 6.0)
    assert 6.0 <= read.ask_memory <= 8.0
    assert show_task(world.ctx, world.pool, "far/load").curves["memory"].peak[-1] == pytest.approx(6.0, rel=0.01)
    shown = show_task(world.ctx, world.pool, "read-3/load")
    assert (shown.dag, shown.runs, shown.claimant) == ("far", 3, "read-3/load#0")
    assert shown.actual is not None
    assert shown.actual.memory.tolist() == [6.0, 6.0, 6.0]


def test_a_run_unlike_the_others_is_told_with_its_reason_and_not_learnt_from():
    world = make_world()
    watched(world, 6)
    (leak,) = watched(world, 1, peak=11.0)
    watched(world, 1)
    told = show_task(world.ctx, world.pool, f"{leak}/greedy")
    (how,) = told.odd[told.claimant]
    assert (how.what, how.used) == ("memory", pytest.approx(11.0))
    assert how.usual == pytest.approx(3.0, rel=0.1)
    later = show_task(world.ctx, world.pool, "etl/greedy")
    assert list(later.odd) == [told.claimant]
    assert later.runs == 7
    assert later.curves["memory"].peak[-1] < 4


def test_a_task_that_has_changed_is_learnt_anew():
    world = make_world()
    watched(world, 6)
    first, *_ = watched(world, 4, peak=9.0)
    told = show_task(world.ctx, world.pool, "etl/greedy")
    assert told.since.startswith(first)
    assert told.runs == 4
    assert told.curves["memory"].peak[0] > 8


def test_a_signature_shows_its_own_code_and_its_own_tenant():
    world = make_world()
    watched(world, 4)
    watched(world, 4, peak=6.0, spec=NEWER)
    watched(world, 4, peak=1.0, tenant="other")
    old, new = (task_signature(s, "etl", "default") for s in (GREEDY, NEWER))
    tops = {}
    for what in (old, new, "default/etl/greedy", "other/etl/greedy"):
        shown = show_task(world.ctx, world.pool, what)
        assert (shown.runs, shown.level) == (4, "signature")
        tops[what] = shown.curves["memory"].peak[-1]
    assert tops[old] == pytest.approx(3.0, abs=0.2)
    assert tops[new] == tops["default/etl/greedy"] == pytest.approx(6.0, abs=0.3)
    assert tops["other/etl/greedy"] == pytest.approx(1.0, abs=0.1)


def test_a_new_version_borrows_from_the_task_and_a_new_task_from_its_dag_and_so_on():
    world = make_world()
    watched(world, 3)
    watched(world, 2, peak=6.0, spec=NEWER)
    shown = show_task(world.ctx, world.pool, task_signature(NEWER, "etl", "default"))
    assert (shown.level, shown.of, shown.runs) == ("task", "default/etl/greedy", 5)
    memory = shown.curves["memory"]
    assert memory.peak[0] <= 3.02
    assert memory.peak[-1] >= 6.0, "never narrower than the runs that it rests on"
    assert not shown.odd
    for what, level, of in (
        ("default/etl/fresh", "DAG", "default/etl"),
        ("default/none/fresh/0123456789abcdef", "tenant", "default"),
        ("new/none/fresh/0123456789abcdef", "pool", ""),
    ):
        shown = show_task(world.ctx, world.pool, what)
        assert (shown.level, shown.of, shown.runs) == (level, of, 5)


def test_what_acts_on_a_new_version_rests_on_those_before_it_and_never_on_other_tasks():
    world = make_world()
    watched(world, 3)
    (newer,) = watched(world, 1, peak=6.0, spec=NEWER)
    (served,) = world.ctx.ports.work.task_runs([newer])
    assert len(usual_runs(world.ctx, world.pool, "etl", served)) == 4
    other = replace(served, spec=replace(NEWER, task_id="other"), signature="default/etl/other/0123456789abcdef")
    assert usual_runs(world.ctx, world.pool, "etl", other) == []
    watched(world, 2, peak=6.0, spec=NEWER)
    own = usual_runs(world.ctx, world.pool, "etl", served)
    assert {i.signature for i, _ in own} == {task_signature(NEWER, "etl", "default")}
