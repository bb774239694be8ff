"""Pools of unlike offerings: which nodes policies that count nodes are played on, and that all work starts."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.pools import Guards, Pool
from preprov.model.resources import Resources
from preprov.replay import registry
from preprov.replay.lanes import lanes_for
from preprov.replay.policies import Reactive, StaticRunning
from preprov.sim.cloud import Faults, Shortage

from .test_engine import play, starts
from .traces import T0, T, pool_of, work_of

PEERS = [name for name in registry.BUILT_IN if name != "preprov"]


def pool_with(*kinds: tuple[str, float, float], most: int = 1000) -> Pool:
    """A group for each (name, cores, USD an hour), 2 GiB to a core; lead time 100 s."""
    pool = pool_of(lead_s=100)
    group = pool.groups[0]
    offering = group.offerings[0]
    groups = tuple(
        replace(
            group,
            name=name,
            max_nodes=most,
            offerings=(
                replace(offering, instance_type=name, capacity=Resources(cpu=cpu, memory=2 * cpu), usd_per_hour=usd),
            ),
        )
        for name, cpu, usd in kinds
    )
    return replace(pool, groups=groups, guards=Guards(max_nodes=1000))


TWO = pool_with(("small", 4, 0.15), ("big", 16, 0.9))


@pytest.mark.parametrize("name", PEERS)
def test_nobody_waits_for_ever_for_a_node_of_another_group(name: str):
    work = work_of([(1800.0, [T(600, cpu=8, memory=1), T(600, cpu=1)])])
    result = play(work, TWO, registry.make_policy(name), hours=2, warm_up_s=3600)
    assert (result.unstarted, result.waits.instances) == (0, 2)
    assert result.waits.mean <= 100
    assert result.cost_usd < 2 * (0.15 + 0.9) + 0.1, "at most a node of each size all the time"


def test_reactive_launches_for_each_task_the_nodes_that_hold_it():
    work = work_of([(0, [T(600, cpu=8, memory=1), *[T(600, cpu=1)] * 4])])
    result = play(work, TWO, Reactive(), hours=2)
    assert starts(result) == {t: [pytest.approx(100)] for t in range(5)}
    assert result.nodes.groupby("node_id")["group"].first().value_counts().to_dict() == {"big": 1, "small": 1}
    assert result.cost_usd == pytest.approx((0.15 + 0.9) * 1300 / 3600, rel=0.06), "launched, run, idle for ten minutes"


def test_one_size_for_all_where_parting_does_not_pay():
    small_is_dear = pool_with(("small", 4, 0.8), ("big", 16, 0.9))
    work = work_of([(0, [T(600, cpu=8, memory=1), *[T(600, cpu=1)] * 4])])
    (lane,) = lanes_for(work, small_is_dear)
    assert [g for g, _ in lane.places] == ["big"]
    assert lane.tasks.all()


def test_the_cheaper_of_two_like_groups_is_taken_and_then_the_other():
    twins = pool_with(("dear", 4, 0.4), ("cheap", 4, 0.1), most=2)
    work = work_of([(0, [T(600, cpu=4, memory=1)] * 3)])
    result = play(work, twins, Reactive(), hours=2)
    assert result.unstarted == 0
    assert result.nodes.groupby("node_id")["group"].first().value_counts().to_dict() == {"cheap": 2, "dear": 1}
    out = Faults(shortages=(Shortage(T0, T0 + timedelta(hours=2), twins.groups[1].offerings[0].key),))
    result = play(work_of([(0, [T(600, cpu=4, memory=1)] * 2)]), twins, Reactive(), hours=2, faults=out)
    assert starts(result) == {t: [pytest.approx(100)] for t in range(2)}, "what cannot be had is taken elsewhere"
    assert set(result.nodes["group"]) == {"dear"}


def test_counts_by_default_are_each_lanes_own():
    work = work_of(
        [(-86_400.0, [*[T(600, cpu=8, memory=1)] * 4, *[T(600, cpu=2, memory=1)] * 4]), (600.0, [T(60, cpu=8)])]
    )
    result = play(work, TWO, StaticRunning(), hours=1, warm_up_s=3600)
    assert result.knob == 4, "two big ones and two small ones, as history wanted at most"
    assert result.waits.warm == 1.0


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4000), st.sampled_from([0.5, 1.0, 3.0, 6.0, 16.0]), st.integers(30, 900)),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(PEERS),
    st.lists(st.tuples(st.sampled_from([4.0, 8.0, 16.0]), st.floats(0.1, 2.0)), min_size=1, max_size=3),
)
def test_every_task_that_fits_some_group_starts(tasks, name, kinds):
    pool = pool_with(*((f"g{i}", cpu, usd) for i, (cpu, usd) in enumerate(kinds)), ("largest", 16, 1.0))
    work = work_of([(float(at), [T(float(s), cpu=cpu, memory=0.5)]) for at, cpu, s in tasks])
    lanes = lanes_for(work, pool)
    assert (np.sum([lane.tasks for lane in lanes], axis=0) == 1).all(), "each task is in one lane"
    firsts = [lane.places[0] for lane in lanes]
    assert len({(g, o.key) for g, o in firsts}) == len(lanes)
    result = play(work, pool, registry.make_policy(name), hours=3)
    assert result.unstarted == 0
    assert result.waits.instances == len(tasks)


def test_what_never_starts_counts_as_waiting():
    nothing = Faults(shortages=(Shortage(T0 - timedelta(days=1), T0 + timedelta(days=30)),))
    work = work_of([(0, [T(60), T(60, parents=(0,)), T(60, instances=2)])])
    result = play(work, pool_of(), Reactive(), hours=1, faults=nothing)
    assert (result.unstarted, result.waits.instances) == (4, 4)
    assert result.waits.warm == 0.0
    assert result.waits.mean >= 7 * 86_400, "as long as it was played"
    assert result.row()["unstarted"] == 4
    assert np.isinf(result.per_instance["start"]).all()
