"""Ramps and disruption budgets are for a minute and what is still going down, however often the pool is looked at."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.contracts import Capabilities, LaunchRequest
from preprov.control.apply import apply_plan
from preprov.control.gathering import current_leads
from preprov.control.lately import lately
from preprov.control.observing import observe
from preprov.control.passes import pool_pass
from preprov.control.reacting import reaction
from preprov.control.running import Runner
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import LeadTime, Standby
from preprov.model.plans import Action, ActionKind, ActionRecord, CapacityPlan
from preprov.model.pools import Mode, Pool, Window, Within
from preprov.planning.lately import Lately
from preprov.sim.cloud import SimCloud
from preprov.sim.scheduler import SimScheduler
from tests.unit.control.world import START, World, dag, make_pool, make_world, task

MINUTE = timedelta(minutes=1)
ENDS = (ActionKind.HIBERNATE, ActionKind.STOP, ActionKind.TERMINATE, ActionKind.DRAIN)


def stepped(most: int, **more: object) -> Pool:
    """Of one group that raises so many at once."""
    pool = make_pool(**more)
    return replace(pool, groups=(replace(pool.groups[0], max_step=most),))


def done(world: World, *kinds: ActionKind) -> list[tuple[datetime, int]]:
    rows = [r for r in world.ctx.ports.audit.records("p") if r.result == "done" and r.action.kind in kinds]
    return [(r.at, len(r.node_ids)) for r in rows]


def within_a_minute(rows: list[tuple[datetime, int]]) -> Iterator[tuple[datetime, int]]:
    """At each instant at which something was done, how much within the minute up to it."""
    for at, _ in rows:
        yield at, sum(n for then, n in rows if at - MINUTE < then <= at)


def wave(world: World, tasks: int, seconds: float) -> None:
    world.submit(dag("wave", *(task(f"t{i}", seconds=seconds, cpu=4) for i in range(tasks))))


def run(world: World, seconds: float, *, forgetful: bool) -> None:
    """Looks five seconds apart, a plan each minute; `forgetful`: as if each plan were another process's first."""
    until, number = world.clock.now() + timedelta(seconds=seconds), 0
    while world.clock.now() < until:
        if forgetful and number % 12 == 0:
            world.ctx.memo.clear()
        pool_pass(world.ctx, world.pool, plan=number % 12 == 0)
        world.clock.sleep(5)
        number += 1


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_step_is_what_a_minute_may_raise_not_a_look(forgetful: bool):
    world = make_world(stepped(2))
    wave(world, 7, 900)
    run(world, 300, forgetful=forgetful)
    rows = done(world, ActionKind.LAUNCH, ActionKind.START)
    assert max(n for _, n in within_a_minute(rows)) == 2
    assert sum(n for _, n in rows) == 7
    assert rows[-1][0] - rows[0][0] == 3 * MINUTE, "and no slower than that"


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_disruption_budget_is_for_a_minute_not_for_a_look(forgetful: bool):
    world = make_world(make_pool(disruptions=(Within(1),)))
    wave(world, 5, 30)
    run(world, 900, forgetful=forgetful)
    rows = done(world, *ENDS)
    assert max(n for _, n in within_a_minute(rows)) == 1
    assert sum(n for _, n in rows) == 5


def test_a_budget_of_none_holds_in_its_hours_of_its_zone_and_not_a_second_longer():
    """One o'clock UTC is ten in Tokyo: nothing is given up there until five past."""
    still = Within(0, Window(start_s=9 * 3600, end_s=10 * 3600 + 300), "Asia/Tokyo")
    world = make_world(make_pool(disruptions=(still,)))
    wave(world, 3, 30)
    run(world, 600, forgetful=False)
    rows = done(world, *ENDS)
    first = rows[0][0].astimezone(ZoneInfo("Asia/Tokyo"))
    assert (first.hour, first.minute) == (10, 5)
    assert sum(n for _, n in rows) == 3


@st.composite
def budgets(draw) -> tuple[Within, ...]:
    """Of whole quarters of an hour around the time at which the world begins, in zones of odd offsets."""
    zones = st.sampled_from(["", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham"])
    quarters = st.integers(0, 95).map(lambda q: q * 900)
    windows = st.builds(Window, start_s=quarters, end_s=quarters, weekdays=st.just(frozenset({6, 0})))
    return tuple(draw(st.lists(st.builds(Within, st.integers(0, 3), st.just(Window()) | windows, zones), max_size=3)))


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(budgets(), st.integers(1, 4))
def test_no_minute_gives_up_more_than_the_budget_of_its_last_second_or_raises_more_than_a_step(disruptions, step):
    world = make_world(stepped(step, disruptions=disruptions, zone="America/Los_Angeles"))
    wave(world, 6, 40)
    run(world, 900, forgetful=False)
    for at, n in within_a_minute(done(world, *ENDS)):
        hours = [w for w in disruptions if w.window.contains(at.astimezone(ZoneInfo(w.zone or world.pool.zone)))]
        assert n <= min((w.nodes for w in hours), default=n)
    raised = done(world, ActionKind.LAUNCH, ActionKind.START)
    assert all(n <= step for _, n in within_a_minute(raised))


LADDER = frozenset({Standby.RUNNING, Standby.STOPPED})


class Sleepy(SimCloud):
    """Its nodes take three minutes to fall asleep."""

    def observe(self, pool: Pool) -> PoolObservation:
        seen = super().observe(pool)
        return replace(seen, nodes=tuple(self._falling(n, seen.at) for n in seen.nodes))

    @staticmethod
    def _falling(node: Node, at: datetime) -> Node:
        falls = node.phase is Phase.STOPPED and at - node.since < 3 * MINUTE
        return replace(node, phase=Phase.DRAINING, settling=True) if falls else node


def sleepy(**more: object) -> World:
    pool = make_pool(**more)
    lead = {Standby.COLD: LeadTime(60, 90), Standby.STOPPED: LeadTime(10, 20)}
    pool = replace(pool, groups=(replace(pool.groups[0], standby_states=LADDER, lead=lead),))
    world = make_world(pool)
    cloud = Sleepy(world.clock, seed=1)
    return replace(
        world,
        cloud=cloud,
        ctx=replace(
            world.ctx, providers={"sim": cloud}, schedulers={"sim": SimScheduler(world.clock, cloud)}, holder="h"
        ),
    )


def test_a_node_counts_against_the_budget_until_it_sleeps():
    world = sleepy(disruptions=(Within(1),))
    wave(world, 4, 30)
    run(world, 1500, forgetful=True)
    rows = [r for r in world.ctx.ports.audit.records("p") if r.result == "done" and r.action.kind in ENDS]
    assert ActionKind.STOP in {r.action.kind for r in rows}
    for r, later in pairwise(rows):
        assert r.action.count == later.action.count == 1
        assert later.at - r.at >= (3 if r.action.kind is ActionKind.STOP else 1) * MINUTE


def test_what_preprov_did_not_put_on_its_way_does_not_count():
    """Vendors prepare nodes for standby, and people drain nodes for reasons of their own: neither is given up here."""
    world = make_world(make_pool(disruptions=(Within(1),)))
    wave(world, 1, 30)
    run(world, 100, forgetful=False)
    seen = observe(world.ctx, world.pool)
    (node,) = seen.nodes
    falls = replace(seen, nodes=(replace(node, phase=Phase.DRAINING, settling=True),))
    assert lately(world.ctx, world.pool, falls).given_up == frozenset()
    assert lately(world.ctx, world.pool, falls).disruptions_left(world.pool, world.clock.now()) == 1


def test_at_an_instant_of_the_past_what_was_done_since_does_not_count():
    world = make_world(make_pool(disruptions=(Within(1),)))
    wave(world, 2, 30)
    run(world, 30, forgetful=False)
    seen = observe(world.ctx, world.pool)
    assert lately(world.ctx, world.pool, seen).raised == {"g": 2}
    assert lately(world.ctx.at(START - MINUTE), world.pool, seen) == Lately()


def test_a_plan_kept_for_later_gives_up_no_more_than_the_budget_leaves_by_then():
    world = make_world(make_pool(disruptions=(Within(2),)))
    wave(world, 4, 30)
    world.run_for(120, react=False)
    seen = observe(world.ctx, world.pool)
    ids = sorted(n.node_id for n in seen.nodes)
    assert len(ids) == 4

    def end(*nodes: str) -> CapacityPlan:
        now = world.clock.now()
        action = Action(f"end {nodes}", ActionKind.TERMINATE, now, "g", len(nodes), "a test", node_ids=nodes)
        return CapacityPlan(f"p {nodes}", "p", Mode.FULL, now, now + MINUTE, (action,))

    def results(*nodes: str) -> list[str]:
        return [r.result for r in apply_plan(world.ctx, world.pool, end(*nodes), observe(world.ctx, world.pool))]

    assert results(*ids[:3]) == ["skipped"]
    assert results(ids[0]) == ["done"]
    assert results(*ids[1:3]) == ["skipped"]
    assert results(ids[1]) == ["done"]
    world.clock.sleep(60)
    assert results(*ids[2:]) == ["done"]


class Slow(SimCloud):
    """One that goes by plans alone, and whose calls take their time."""

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        return replace(super().capabilities(pool, group), reacts=False)

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        self.clock.sleep(4)
        return super().launch(request)


def test_where_only_plans_act_the_rest_follows_as_soon_as_the_minute_is_over():
    world = make_world(stepped(2))
    cloud = Slow(world.clock, seed=1)
    ctx = replace(world.ctx, providers={"sim": cloud}, schedulers={"sim": SimScheduler(world.clock, cloud)})
    world = replace(world, ctx=ctx, cloud=cloud)
    wave(world, 6, 900)
    Loop(world).run_for(240)
    rows = done(world, ActionKind.LAUNCH)
    assert max(n for _, n in within_a_minute(rows)) == 2
    assert sum(n for _, n in rows) == 6
    assert rows[-1][0] - rows[0][0] <= timedelta(seconds=2 * 70)


class Loop:
    """The long-lived loop on the virtual clock."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runner = Runner(world.ctx, [world.pool])

    def run_for(self, seconds: float) -> None:
        until = self.world.clock.now() + timedelta(seconds=seconds)
        while self.world.clock.now() < until:
            self.runner.sweep()
            self.world.clock.sleep(5)


def test_a_look_that_orders_nothing_asks_the_audit_log_for_nothing():
    world = make_world(make_pool(disruptions=(Within(1),)))
    wave(world, 1, 900)
    run(world, 300, forgetful=False)
    asked: list[object] = []
    audit = world.ctx.ports.audit
    read = type(audit).records

    class Counting(type(audit)):  # type: ignore[misc]
        def records(self, *args: object, **more: object) -> tuple[ActionRecord, ...]:
            asked.append(more)
            return read(self, *args, **more)

    audit.__class__ = Counting
    ctx, pool = world.ctx, world.pool
    found = reaction(ctx, pool, observe(ctx, pool), current_leads(ctx, pool), tick_s=5)
    assert (found.actions, asked) == ((), [])
