"""Two pools under one quota or one purse, in passes: planned together, and never beyond it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.control.apply import apply_stored
from preprov.control.passes import make_plan_now, pool_pass
from preprov.control.sharing import family
from preprov.model.limits import SharedLimit
from preprov.model.plans import ActionKind
from preprov.model.pools import Objective
from preprov.planning.prices import TablePriceBook
from tests.unit.control.world import START, World, dag, make_pool, make_world, task


def two_worlds(limit: SharedLimit, low: float = 1.0, high: float = 1.0) -> tuple[World, World]:
    """Pools `low` and `high`, with their prices of waiting, in one context."""
    pools = [
        make_pool(name=name, objective=Objective(shortage_usd_per_core_hour=usd))
        for name, usd in (("low", low), ("high", high))
    ]
    world = make_world(pools[0])
    by_name = {p.name: p for p in pools}
    ctx = replace(world.ctx, pools=by_name, prices=TablePriceBook.from_pools(pools), limits=(limit,), n_samples=20)
    return replace(world, ctx=ctx), replace(world, ctx=ctx, pool=pools[1])


def nodes_limit(**more) -> SharedLimit:
    return SharedLimit("account", frozenset({("low", "g"), ("high", "g")}), **more)


def test_the_pool_whose_waiting_is_dearer_gets_the_quota_and_the_plan_says_so():
    low, high = two_worlds(nodes_limit(max_nodes=3), low=0.1, high=10.0)
    for world in (low, high):
        world.submit(dag(f"{world.pool.name} wave", task("t", cpu=4, seconds=1200, instances=3), due_in=200))
    for _ in range(15):
        for world in (low, high):
            pool_pass(world.ctx, world.pool)
        assert low.nodes() + high.nodes() <= 3
        low.clock.sleep(20)
    assert (low.nodes(), high.nodes()) == (0, 3)
    plan = high.ctx.ports.plans.latest("high")
    assert plan.basis["together"] == ["low"]
    assert any("account" in name for name in plan.basis["binding"])
    assert any("max_nodes of account" in note for note in low.ctx.ports.plans.latest("high").notes)


def test_without_a_limit_pools_plan_alone():
    low, high = two_worlds(SharedLimit("other", frozenset({("x", "g"), ("low", "g")}), max_nodes=3))
    assert family(low.ctx, low.pool) == ("low",)
    assert family(high.ctx, high.pool) == ("high",)
    limits = (nodes_limit(max_nodes=3), SharedLimit("purse", pools=frozenset({"low"}), max_usd_per_day=1.0))
    tied = replace(low.ctx, limits=limits)
    assert family(tied, high.pool) == ("high", "low")


def test_a_plan_made_before_is_refused_where_the_others_have_taken_the_rest_since():
    low, high = two_worlds(nodes_limit(max_nodes=4))
    low.submit(dag("a", task("t", cpu=4, seconds=1200, instances=4)))
    plan, _ = make_plan_now(low.ctx, low.pool)
    assert sum(a.count for a in plan.due(START) if a.kind is ActionKind.LAUNCH) == 4
    high.submit(dag("b", task("t", cpu=4, seconds=1200, instances=2)))
    pool_pass(high.ctx, high.pool)
    taken = high.nodes()
    assert taken > 0
    (record,) = apply_stored(low.ctx, low.pool, plan)
    assert record.result == "guarded"
    assert f"leaves {4 - taken} nodes" in record.detail


WAVES = st.tuples(st.sampled_from(["low", "high"]), st.integers(0, 600), st.integers(1, 5))


@settings(max_examples=5, deadline=None)
@given(
    st.sampled_from(["max_nodes", "max_cpu", "max_usd_per_day"]),
    st.integers(1, 6),
    st.lists(
        st.tuples(st.sampled_from(["low", "high"]), st.integers(0, 600), st.integers(1, 5)), min_size=1, max_size=4
    ),
)
def test_no_pass_of_either_pool_goes_beyond_what_they_share(kind, most, waves):
    """Through the door of passes: whatever comes when, all nodes, cores and dollars together stay within the limit."""
    if kind == "max_usd_per_day":
        limit = SharedLimit("purse", pools=frozenset({"low", "high"}), max_usd_per_day=0.05 * most)
    else:
        limit = nodes_limit(**{kind: most if kind == "max_nodes" else 4.0 * most})
    low, high = two_worlds(limit, low=0.5, high=5.0)
    worlds = {"low": low, "high": high}
    for i, (name, due, wide) in enumerate(waves):
        worlds[name].submit(dag(f"{name}{i}", task("t", cpu=3, seconds=300, instances=wide), due_in=float(due)))
    for _ in range(20):
        for world in worlds.values():
            pool_pass(world.ctx, world.pool)
        nodes = low.nodes() + high.nodes()
        if kind == "max_nodes":
            assert nodes <= most
        elif kind == "max_cpu":
            assert nodes * 4 <= 4.0 * most
        low.clock.sleep(45)
    if kind == "max_usd_per_day":
        # What runs is never ended for money: beyond the purse goes only what busy nodes cost after it was spent.
        launches = [
            r for r in low.ctx.ports.audit.records() if r.action.kind is ActionKind.LAUNCH and r.result == "done"
        ]
        for r in launches:
            bill = low.cloud.bill(r.at).usd
            assert bill + r.action.count * 0.2 * 0.25 <= limit.max_usd_per_day + 0.2 * 0.25 + 1e-6


@pytest.mark.parametrize("hours", [1, 30])
def test_what_was_seen_long_ago_is_asked_again(hours):
    low, high = two_worlds(nodes_limit(max_nodes=4))
    high.submit(dag("b", task("t", cpu=4, seconds=360000, instances=3)))
    pool_pass(high.ctx, high.pool)
    low.clock.sleep(timedelta(hours=hours).total_seconds())
    low.submit(dag("a", task("t", cpu=4, seconds=1200, instances=4)))
    pool_pass(low.ctx, low.pool)
    assert low.nodes() == 4 - high.nodes() == 1
