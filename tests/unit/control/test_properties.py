"""What passes keep, whatever comes: guards, whole runs, and nothing ordered where nothing changed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.control.passes import pool_pass
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Group, Guards
from preprov.model.resources import Resources
from preprov.model.work import State
from tests.unit.control.world import dag, make_pool, make_world, task

TIERS = frozenset({Standby.RUNNING, Standby.STOPPED})
LEAD = {Standby.COLD: LeadTime(60, 90), Standby.STOPPED: LeadTime(20, 30)}
USD = {"a": 0.2, "b": 0.3}

waves = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 8), st.integers(60, 400)), min_size=1, max_size=3)
"""Due in so many seconds, so many instances, each so long."""


def two_groups(guards: Guards, most: int = 4):
    kept = {Standby.STOPPED: 0.003}
    groups = tuple(
        Group(
            name,
            "sim",
            (Offering("m", Resources(4, 16), usd_per_hour=usd),),
            TIERS,
            max_nodes=most,
            standby_usd_per_hour=kept,
            lead=LEAD,
        )
        for name, usd in USD.items()
    )
    return make_world(make_pool(groups=groups, guards=guards))


def submit(world, found):
    for i, (due, instances, seconds) in enumerate(found):
        world.submit(dag(f"w{i}", task("t", cpu=3, seconds=seconds, instances=instances), due_in=float(due)))


@settings(max_examples=4, deadline=None)
@given(waves, st.integers(1, 8), st.none() | st.floats(0.2, 2.0), st.none() | st.floats(0.1, 1.0), st.integers(1, 6))
def test_no_pass_exceeds_a_guard(found, most, per_hour, per_day, per_minute):
    """Plans and what is done between them together, over a quarter of an hour of passes."""
    guards = Guards(
        max_nodes=most, max_usd_per_hour=per_hour, max_usd_per_day=per_day, max_launches_per_minute=per_minute
    )
    world = two_groups(guards)
    submit(world, found)
    launched: list[tuple[float, int]] = []

    def look(result):
        at = result.at.timestamp()
        done = [r for r in result.records if r.result == "done" and r.action.kind is ActionKind.LAUNCH]
        launched.extend((at, r.action.count) for r in done)
        nodes = world.cloud.observe(world.pool).nodes
        by_group = {g: [n for n in nodes if n.group == g] for g in USD}
        assert len(nodes) <= most
        assert all(len(ns) <= 4 for ns in by_group.values())
        assert sum(n for t, n in launched if at - t < 60) <= per_minute
        rate = sum(USD[g] for g, ns in by_group.items() for n in ns if n.standby is Standby.RUNNING)
        if per_hour is not None and done:
            assert rate <= per_hour + 1e-9
        if per_day is not None and done:
            assert world.cloud.bill(result.at).usd + rate * 0.25 <= per_day + rate * 0.05 + 1e-6

    world.run_for(900, each=look)


@settings(max_examples=5, deadline=None)
@given(waves, st.integers(0, 900))
def test_a_pass_with_nothing_changed_orders_nothing(found, at):
    world = two_groups(Guards(max_nodes=8))
    submit(world, found)
    world.run_for(at + 10)
    pool_pass(world.ctx, world.pool)
    again = pool_pass(world.ctx, world.pool)
    assert [r.action.reason for r in again.records if r.result == "done"] == []


@settings(max_examples=3, deadline=None)
@given(waves)
def test_all_work_ends_well_and_the_pool_goes_back_to_nothing_that_runs(found):
    world = two_groups(Guards(max_nodes=8))
    submit(world, found)
    world.run_for(2400)
    runs = world.ctx.ports.work.runs("p")
    assert {r.state for r in runs} == {State.SUCCEEDED}
    tasks = world.ctx.ports.work.task_runs([r.run_id for r in runs])
    assert all(t.attempt == 1 for t in tasks), "no running work was ended"
    left = [n for n in world.cloud.observe(world.pool).nodes if n.standby is Standby.RUNNING]
    assert left == []
