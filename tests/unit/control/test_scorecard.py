"""Promised against realised."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from preprov.contracts import PoolSnapshot
from preprov.control.scorecard import scorecard
from preprov.model.errors import ConfigError
from preprov.model.limits import Deadline
from preprov.model.promises import Promise
from preprov.model.resources import Resources
from preprov.store.codec import dump, load
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag
from tests.unit.control.test_waits import a_night, read
from tests.unit.control.world import START, dag, task

PROMISE = Promise("p1", "p", START, "preprov", "x", START, START, 1, 48.0, 10.0, 5.0, 0.5, 30.0, None)


def test_waits_and_money_of_what_was_served(make_world):
    world = make_world()
    world.ctx.ports.promises.save(PROMISE)
    world.submit(dag("adhoc", task("a", seconds=60), task("b", "a", seconds=60)))
    world.run_for(600)
    card = scorecard(world.ctx, world.pool, START - timedelta(seconds=1))
    rows = {r["measure"]: r for r in card.rows()}
    assert card.promise == PROMISE
    assert (card.realised.instances, card.realised.attributed) == (2, 0)
    assert card.realised.warm_hit_ratio == pytest.approx(0.5), "the second found the node of the first"
    assert card.realised.usd_per_day > 0
    assert rows["wait_mean_s"]["difference"] == pytest.approx(card.realised.wait_mean_s - 30.0)
    assert rows["wait_p95_s"]["difference"] is None
    with pytest.raises(ConfigError, match="not in the past"):
        scorecard(world.ctx, world.pool, world.clock.now())


def test_only_time_that_was_watched_counts_and_idle_is_what_no_task_used(make_world):
    world = make_world()
    room = Resources(cpu=8, memory=32)
    for minute in (0, 10, 20, 300, 310):  # nobody looked between 20 and 300
        at = START + timedelta(minutes=minute)
        nodes = {"g": {"ready": 2, "stopped": 1}}
        used = Resources(cpu=4, memory=8)
        world.ctx.ports.history.record(PoolSnapshot("p", at, nodes, room, used, 0.6, 2, Resources()))
    world.clock.advance_to(START + timedelta(minutes=320))
    came = scorecard(world.ctx, world.pool, START).realised
    assert came.watched_days == pytest.approx(30 / 1440)
    assert came.node_hours_per_day == pytest.approx(48)
    assert came.usd_per_day == pytest.approx(0.6 * 24)
    assert came.idle_usd_per_day == pytest.approx(0.3 * 24)
    assert came.warm_hit_ratio is None


def test_of_what_others_start_waits_are_taken_apart_and_landing_is_judged(make_world):
    """`extract` waits a minute for its node, `b` for a slot that `a` holds: that is no provision wait."""
    world = make_world()
    airflow = FakeAirflow(world.clock)
    airflow.pools = {"default_pool": 128, "dwh": 1}
    slots = {"pool": "dwh"}
    tasks = [("extract", ("a", "b"), {}), ("a", (), slots), ("b", (), slots)]
    airflow.add_dag(FakeDag("etl", tasks, timetable="0 3 * * *", max_active_tasks=4))
    a_night(airflow)
    read(world, airflow)
    pool = replace(world.pool, deadlines=(Deadline("etl", land_by=f"{START - timedelta(minutes=50):%H:%M}"),))
    world.ctx.ports.promises.save(replace(PROMISE, land_by_met=0.5))
    card = scorecard(world.ctx, pool, START - timedelta(hours=2))
    came = card.realised
    assert (came.instances, came.attributed) == (3, 3)
    assert came.warm_hit_ratio == pytest.approx(2 / 3)
    assert came.wait_mean_s == pytest.approx(60 / 3, abs=1)
    assert came.wait_p95_s == pytest.approx(60, abs=2)
    (landed,) = [r for r in card.rows() if r["measure"] == "land_by_met"]
    assert (landed["promised"], landed["realised"], landed["difference"]) == (0.5, 1.0, 0.5)
    late = replace(pool, deadlines=(Deadline("etl", land_by=f"{START - timedelta(minutes=55):%H:%M}"),))
    assert scorecard(world.ctx, late, START - timedelta(hours=2)).realised.land_by_met == 0
    assert scorecard(world.ctx, world.pool, START - timedelta(hours=2)).realised.land_by_met is None


def test_a_promise_of_before_there_were_deadlines_in_it_can_be_read():
    kept = json.loads(dump(PROMISE))
    del kept["land_by_met"]
    assert load(Promise, json.dumps(kept)) == PROMISE


def test_the_promise_made_before_the_days_counts(make_world):
    world = make_world()
    later = Promise(
        "p2", "p", START + timedelta(hours=2), "preprov", "x", START, START, 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0
    )
    assert scorecard(world.ctx, world.pool, START - timedelta(hours=1)).promise is None
    for promise in (PROMISE, later):
        world.ctx.ports.promises.save(promise)
    world.clock.advance_to(START + timedelta(hours=4))
    assert scorecard(world.ctx, world.pool, START + timedelta(hours=3)).promise == later
    assert scorecard(world.ctx, world.pool, START + timedelta(hours=1)).promise == PROMISE
    assert scorecard(world.ctx, world.pool, START - timedelta(hours=1)).promise == PROMISE
