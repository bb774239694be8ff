"""Spot nodes: what an interruption loses is the time that what runs there has run; it counts wherever one chooses."""

from dataclasses import replace

import pytest

from preprov.control.gathering import current_leads
from preprov.control.passes import make_plan_now
from preprov.control.reacting import reaction
from preprov.model.offerings import CapacityType
from preprov.model.plans import ActionKind
from preprov.model.prices import PriceRow
from preprov.model.resources import Resources
from preprov.planning.prices import TablePriceBook
from tests.unit.control.world import World, dag, make_pool, make_world, task


def half_price(per_hour: float, task_s: float) -> World:
    """A pool of firm nodes and of spot nodes at half the price, and one task that waits for a node."""
    firm = make_pool().groups[0]
    spot = replace(firm.offerings[0], capacity_type=CapacityType.SPOT, usd_per_hour=0.1)
    pool = make_pool(groups=(replace(firm, name="firm"), replace(firm, name="spot", offerings=(spot,))))
    made = make_world(pool)
    rows = [PriceRow("m", 0.1, capacity_type=CapacityType.SPOT, interruptions_per_hour=per_hour)]
    world = replace(made, ctx=replace(made.ctx, prices=TablePriceBook.from_pools([pool], rows)))
    world.submit(dag("d", task("t", seconds=task_s, cpu=4)))
    return world


@pytest.mark.parametrize(
    ("per_hour", "task_s", "group"),
    [(0.1, 60, "spot"), (0.1, 4 * 3600, "firm"), (0.001, 4 * 3600, "spot")],
    ids=["short tasks", "long tasks", "long tasks, seldom taken back"],
)
def test_long_tasks_are_not_put_where_an_interruption_loses_more_than_the_price_saves(per_hour, task_s, group):
    world = half_price(per_hour, task_s)
    plan, _ = make_plan_now(world.ctx, world.pool)
    assert {a.group for a in plan.actions if a.kind is ActionKind.LAUNCH} == {group}
    seen = world.cloud.observe(world.pool)
    leads = current_leads(world.ctx, world.pool)
    quick = reaction(world.ctx, world.pool, seen, leads, waiting=Resources(4, 4), tick_s=5.0)
    assert {a.group for a in quick.actions if a.kind is ActionKind.LAUNCH} == {group}
