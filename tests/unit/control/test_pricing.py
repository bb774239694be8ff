"""Prices of a running preprov: heard from clouds, kept with their time, before the table and the configuration."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from preprov.contracts import Quote
from preprov.control.passes import make_plan_now
from preprov.control.pricing import KeptPrices, refresh_due, refresh_prices
from preprov.model.errors import ThrottledError
from preprov.model.offerings import CapacityType
from preprov.model.pools import Pool
from preprov.model.prices import Commitment, PriceRow
from preprov.sim.cloud import SimCloud
from tests.unit.control.world import START, dag, make_pool, make_world, task


@dataclass
class Quoting(SimCloud):
    """A cloud that names prices."""

    said: list[Quote] = field(default_factory=list)
    asked: list[datetime] = field(default_factory=list)
    refuses: bool = False

    def quotes(self, pool: Pool, group: str, since: datetime) -> tuple[Quote, ...]:
        self.asked.append(since)
        if self.refuses:
            raise ThrottledError("slower", where=pool.name)
        return tuple(q for q in self.said if q.since >= since)


@pytest.fixture
def world():
    made = make_world()
    cloud = Quoting(made.clock)
    store = made.ctx.ports.prices
    ctx = replace(made.ctx, providers={"sim": cloud}, prices=KeptPrices(store, made.clock, [made.pool]))
    return replace(made, ctx=ctx, cloud=cloud)


def offering(world):
    return world.pool.groups[0].offerings[0]


def test_what_a_cloud_says_counts_from_its_time_and_only_changes_are_kept(world):
    o = offering(world)
    world.cloud.said = [Quote(o, usd, START - timedelta(hours=h)) for usd, h in ((0.3, 9), (0.3, 6), (0.25, 3))]
    assert world.ctx.prices.usd_per_hour(o, START) == 0.2, "as configured"
    done = refresh_prices(world.ctx, [world.pool])
    assert (done.new, done.quotes) == (2, {("p", "g"): 3})
    assert [r.usd_per_hour for r in world.ctx.ports.prices.rows()] == [0.3, 0.25]
    hours = (12, 8, 1)
    assert [world.ctx.prices.usd_per_hour(o, START - timedelta(hours=h)) for h in hours] == [0.2, 0.3, 0.25]
    assert refresh_prices(world.ctx, [world.pool]).new == 0
    assert world.cloud.asked[0] < world.cloud.asked[1] == START - timedelta(hours=3)


def test_another_process_refreshes_and_this_one_sees_it_within_a_minute(world):
    o = offering(world)
    assert world.ctx.prices.usd_per_hour(o, START) == 0.2
    world.ctx.ports.prices.save([PriceRow("m", 0.7, since=START - timedelta(days=1), source="list")], at=START)
    world.clock.sleep(61)
    assert world.ctx.prices.usd_per_hour(o, world.clock.now()) == 0.7


def test_a_cloud_that_refuses_or_names_none_stops_nobody(world):
    silent = make_pool(name="q", groups=(replace(world.pool.groups[0], provider="other"),))
    world.cloud.refuses = True
    done = refresh_prices(world.ctx, [world.pool, silent])
    assert (done.new, done.silent) == (0, (("q", "g"),))
    assert "slower" in done.failed[("p", "g")]


def test_clouds_are_asked_as_often_as_was_said(world):
    assert refresh_due(world.ctx, 0) is None
    assert refresh_due(world.ctx, 600) is not None
    assert refresh_due(world.ctx, 600) is None
    world.clock.sleep(601)
    assert refresh_due(world.ctx, 600) is not None


def test_a_plan_is_made_with_the_price_in_force(world):
    world.submit(dag("d", task("t", cpu=4, seconds=600), due_in=300))
    before, _ = make_plan_now(world.ctx, world.pool)
    world.ctx.ports.prices.save([PriceRow("m", 0.4, since=START)], at=START)
    world.ctx.prices.forget()
    after, _ = make_plan_now(world.ctx, world.pool)
    assert after.cost_usd > 1.2 * before.cost_usd


def test_the_table_comes_before_the_configuration_and_a_commitment_takes_its_share(world):
    o, now = offering(world), START
    spot, reserved = (replace(o, capacity_type=c) for c in (CapacityType.SPOT, CapacityType.RESERVED))
    unpriced = replace(reserved, usd_per_hour=None)
    book = KeptPrices(
        world.ctx.ports.prices,
        world.clock,
        [world.pool],
        [PriceRow("m", 1.0), PriceRow("m", 0.4, capacity_type=CapacityType.SPOT)],
        [Commitment(0.5, "n*"), Commitment(0.25, "m*", until=now + timedelta(days=1)), Commitment(0.1)],
    )
    assert [book.usd_per_hour(x, now) for x in (o, spot, reserved, unpriced)] == [0.75, 0.4, 0.2, 0.75]
    found = book.found(o, now)
    assert (found.source, found.discount) == ("table", 0.25)
    assert book.usd_per_hour(o, now + timedelta(days=2)) == pytest.approx(0.9)
