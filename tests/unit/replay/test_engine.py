"""The engine: waits to the second against a plain oracle, conservation, limits, determinism."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.plans import ActionKind
from preprov.model.pools import Pool
from preprov.model.worktable import WorkTable
from preprov.replay.engine import replay
from preprov.replay.policies import Reactive, ReactiveMax, StaticRunning, StaticStopped
from preprov.replay.policy import FloorPolicy, Order, Policy
from preprov.replay.result import ReplayResult
from preprov.sim.cloud import Faults, Shortage

from .oracle import Oracle
from .traces import E0, T0, T, pool_of, work_of


def play(work: WorkTable, pool: Pool, policy: Policy, hours: float = 3.0, **options) -> ReplayResult:
    return replay(
        work,
        pool,
        policy,
        judged_from=T0,
        until=T0 + timedelta(hours=hours),
        warm_up_s=options.pop("warm_up_s", 600.0),
        **options,
    )


def starts(result: ReplayResult) -> dict[int, list[float]]:
    out: dict[int, list[float]] = {}
    for row in result.per_instance.itertuples():
        out.setdefault(int(row.task), []).extend([row.start - E0] * int(row.weight))
    return {task: sorted(values) for task, values in out.items()}


def test_reactive_waits_one_lead_time_and_then_reuses_the_node():
    work = work_of([(0, [T(60)]), (300, [T(60), T(30, parents=(0,))])])
    result = play(work, pool_of(lead_s=100), Reactive())
    assert starts(result) == {0: [pytest.approx(100)], 1: [pytest.approx(300)], 2: [pytest.approx(360)]}
    assert result.waits.warm == pytest.approx(2 / 3)
    assert result.waits.mean == pytest.approx(100 / 3)
    assert result.evicted == 0
    # Launched at 0; idle from 390 on; the tick that finds it idle for 10 minutes ends it.
    assert result.node_hours == pytest.approx(1020 / 3600, abs=60.001 / 3600)
    assert result.cost_usd == pytest.approx(result.node_hours * 3.6)
    assert result.idle_node_hours == pytest.approx(result.node_hours - 150 / 4 / 3600)


def test_always_on_never_waits_and_pays_for_it():
    work = work_of([(0, [T(60)] * 8), (3600, [T(60)] * 8)])
    result = play(work, pool_of(), StaticRunning(2))
    assert result.waits.mean == 0
    assert result.waits.warm == 1
    assert result.node_hours == pytest.approx(6.0)


def test_a_warm_pool_waits_for_a_start_only():
    work = work_of([(1800, [T(60)])])
    result = play(work, pool_of(lead_s=100), StaticStopped(1), warm_up_s=3600)
    assert starts(result)[0] == [pytest.approx(1825)]
    assert result.standby_usd is not None
    assert result.standby_usd > 0


def test_a_gang_starts_as_one_or_not_at_all():
    work = work_of([(0, [T(600, cpu=6, memory=0, gang=True)]), (1, [T(10, cpu=1)])])
    result = play(work, pool_of(cpu=4, lead_s=100), Reactive())
    assert starts(result) == {0: [pytest.approx(100)], 1: [pytest.approx(100)]}
    assert result.waits.instances == 2


def test_instances_of_a_row_are_placed_one_by_one():
    work = work_of([(0, [T(50, cpu=1, memory=1, instances=10), T(5, parents=(0,))])])
    result = play(work, pool_of(cpu=4, lead_s=100, max_nodes=2), StaticRunning(1), warm_up_s=200)
    got = starts(result)
    assert got[0] == pytest.approx([0] * 4 + [50] * 4 + [100] * 2)
    assert got[1] == [pytest.approx(150)]


def test_what_a_limit_causes_is_queue_wait():
    work = work_of([(0, [T(300)] * 8)])
    result = play(work, pool_of(cpu=4, lead_s=100, max_nodes=1), Reactive())
    waits = result.per_instance.sort_values("start")
    assert list(waits["provision_wait"]) == pytest.approx([100] * 8)
    assert list(waits["limit_wait"]) == pytest.approx([0] * 4 + [300] * 4)


def test_rows_that_cannot_be_played_are_counted_not_hidden():
    gang = T(60, cpu=3, instances=4, gang=True)
    bad = [T(float("nan")), T(60, cpu=5), T(60, instances=100), T(60, parents=(1,)), gang]
    result = play(work_of([(0, bad)]), pool_of(cpu=4, max_nodes=3), StaticRunning(1), most_cores=50)
    assert result.left_out == {
        "runtime or ready time not known": 1,
        "fits on no node": 1,
        "too many cores": 100,
        "more than the pool may hold": 4,
    }
    assert result.waits.instances == 1
    assert starts(result) == {3: [pytest.approx(60)]}


def test_work_under_way_at_the_start_is_taken_over():
    work = work_of([(0, [T(7200), T(60, parents=(0,))]), (10, [T(60)])])
    result = replay(
        work,
        pool_of(lead_s=10),
        StaticRunning(1),
        judged_from=T0 + timedelta(hours=1),
        until=T0 + timedelta(hours=3),
        warm_up_s=1800,
    )
    assert result.waits.instances == 1
    assert starts(result)[1][0] == pytest.approx(7200, abs=15)


def test_shortages_and_failed_launches_cost_time_not_work():
    faults = Faults(launch_failures=0.5, shortages=(Shortage(T0, T0 + timedelta(minutes=30)),))
    work = work_of([(60.0 * i, [T(120)] * 3) for i in range(60)])
    result = play(work, pool_of(sigma=True), Reactive(), faults=faults)
    assert result.unstarted == 0
    assert result.waits.instances == 180
    assert result.waits.mean > 300


def test_a_busy_node_is_never_ended():
    class Wrecker(FloorPolicy):
        def tick(self, now, view):
            up = [i for i in view.core.node_ids if i not in view.warming_nodes()]
            return [*super().tick(now, view), *(Order(ActionKind.TERMINATE, 1, (i,)) for i in up)]

    work = work_of([(100.0 * i, [T(500)]) for i in range(20)])
    result = play(work, pool_of(), Wrecker(knob=0.0))
    assert result.evicted == 0
    assert result.refused > 0
    assert result.unstarted == 0
    per_node = result.nodes.groupby("node_id")["end"].max()
    assert len(per_node) >= 1


TASKS = st.lists(
    st.builds(
        T,
        runtime=st.integers(1, 900).map(float),
        cpu=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
        memory=st.sampled_from([0.25, 1.0, 3.0, 8.0]),
        instances=st.sampled_from([1, 1, 1, 3]),
        gang=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@st.composite
def traces(draw):
    runs = []
    for submit in draw(st.lists(st.integers(0, 5000), min_size=1, max_size=8)):
        members = draw(TASKS)
        linked = [
            replace(
                t,
                parents=tuple(sorted(draw(st.sets(st.integers(0, i - 1), max_size=2)))) if i else (),
                gang=t.gang and t.instances > 1,
            )
            for i, t in enumerate(members)
        ]
        runs.append((float(submit), linked))
    return work_of(runs, priorities=draw(st.sampled_from([(0,), (0, 5, -1)])))


POLICIES = st.sampled_from(
    [
        lambda: Reactive(),
        lambda: Reactive(60.0),
        lambda: ReactiveMax(1),
        lambda: StaticRunning(2),
        lambda: StaticStopped(3),
    ]
)


@pytest.mark.slow
@settings(max_examples=40)
@given(traces(), POLICIES, st.integers(0, 3), st.sampled_from([3, 5, 1000]))
def test_every_start_can_be_told_from_the_capacity_alone(work, make, seed, most):
    pool = pool_of(sigma=True, max_nodes=most)
    result = play(work, pool, make(), seed=seed, hours=2)
    expected = Oracle(work, result.capacity, 4.0, 8.0).run()
    got = starts(result)
    for task, times in got.items():
        assert times == pytest.approx([t - E0 for t in sorted(expected[task])], abs=1e-3)


@pytest.mark.slow
@settings(max_examples=25)
@given(traces(), POLICIES)
def test_the_books_balance(work, make):
    result = play(work, pool_of(sigma=True), make(), hours=8)
    parts = result.per_instance
    t = work.tasks
    used = float((t["cpu"] * t["instances"] * t["runtime_s"]).sum()) / 3600
    share = np.maximum(t["cpu"] / 4, t["memory"] / 8)
    assert parts["weight"].sum() == t["instances"].sum()
    assert result.evicted == 0
    # Used share is at least the work's cpu, at most the sum of each task's own larger share.
    worth = result.node_hours - result.idle_node_hours
    assert used / 4 - 1e-6 <= worth <= float((share * t["instances"] * t["runtime_s"]).sum()) / 3600 + 1e-6
    assert (parts["provision_wait"] >= 0).all()
    ready = result.nodes[result.nodes.phase == "ready"]
    for row in parts.itertuples():
        node = result.nodes.node_id.unique()[int(row.node)]
        mine = ready[ready.node_id == node]
        end = row.start + t["runtime_s"][int(row.task)]
        assert ((mine.start <= row.start + 1e-3) & (mine.end >= end - 1e-3)).any()


@settings(max_examples=10)
@given(traces(), POLICIES, st.integers(0, 5))
def test_the_same_seed_gives_the_same_replay(work, make, seed):
    pool = pool_of(sigma=True)
    a, b = play(work, pool, make(), seed=seed), play(work, pool, make(), seed=seed)
    assert a.per_instance.equals(b.per_instance)
    assert a.nodes.equals(b.nodes)
    assert a.cost_usd == b.cost_usd
