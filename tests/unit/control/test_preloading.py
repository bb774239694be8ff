"""Preload advice from what a pool's queued and recurring DAGs read."""

from dataclasses import replace
from datetime import timedelta

import pytest

from preprov.contracts import LeadObservation
from preprov.control.preloading import advise
from preprov.model.offerings import Preload, Standby
from preprov.model.plans import Action, ActionKind, ActionRecord
from preprov.model.pools import Objective
from preprov.model.work import DatasetRef, ImageRef
from preprov.planning.preload import Placing
from tests.unit.control.world import START, dag, make_pool, make_world, task

REF = DatasetRef("s3://b/genome", "v7", size_gib=20.0)
TOOL = ImageRef("oci/aligner", "sha256:1")


def by_uri(found):
    return {a.asset.ref.uri: a for a in found.advice}


def test_schedules_queues_and_ad_hoc_runs_say_how_often_an_asset_is_read():
    world = make_world()
    world.submit(
        dag("hourly", task("align", cpu=4, instances=3, datasets=(REF,), images=(TOOL,)), schedule="0 * * * *"),
        dag("queued", task("align", cpu=4, datasets=(REF,)), due_in=3600),
    )
    found = by_uri(advise(world.ctx, world.pool))
    assert found["s3://b/genome"].asset.uses_per_day == 24 * 3 + 1
    assert found["oci/aligner"].asset.uses_per_day == 72
    world.submit(dag("adhoc", task("t", seconds=30, images=(ImageRef("oci/other", "sha256:2"),))))
    world.run_for(600)
    other = by_uri(advise(world.ctx, world.pool, days=2))["oci/other"]
    assert other.asset.uses_per_day == pytest.approx(0.5)


def test_what_is_read_all_day_is_worth_baking_where_the_image_is_ours_and_staging_where_not():
    pool = make_pool(preload_gib=50.0, objective=Objective(shortage_usd_per_core_hour=0.05))
    world = make_world(pool)
    world.submit(dag("hourly", task("align", cpu=4, instances=20, datasets=(REF,)), schedule="0 * * * *"))
    many = Action("a", ActionKind.LAUNCH, START - timedelta(days=1), "g", 60, "for the test")
    world.ctx.ports.audit.record(ActionRecord(many, "p", "", "test", START - timedelta(days=1), "done"))
    found = advise(world.ctx, pool, bakes=True)
    assert found.site.launches_per_day == 60
    (ours,) = found.advice
    (theirs,) = advise(world.ctx, pool, bakes=False).advice
    assert (ours.placing, theirs.placing) == (Placing.BAKE, Placing.STAGE)
    (small,) = advise(world.ctx, pool, bakes=False, disk_gib=10.0).advice
    assert small.placing is Placing.LEAVE
    assert "do not fit" in small.why


def test_versions_of_a_dataset_are_one_asset_that_changes():
    world = make_world()
    for i in range(3):
        world.submit(dag(f"d{i}", task("t", datasets=(replace(REF, version=f"v{i}"),)), due_in=3600))
        world.clock.sleep(60)
    (one,) = advise(world.ctx, world.pool, days=1).advice
    assert one.asset.uses_per_day == 3
    assert one.asset.changes_per_day == 2
    assert one.asset.ref.version == "v2"


def test_how_fast_nodes_fetch_is_measured_and_what_is_assumed_is_said():
    pool = make_pool(preload=Preload(datasets=(REF,)))
    world = make_world(pool)
    world.submit(dag("d", task("t", datasets=(REF,)), due_in=3600))
    guessed = advise(world.ctx, pool)
    assert guessed.site.fetch_gib_per_s == 0.1
    assert [n.split(":")[0] for n in guessed.notes] == [
        "room for assets on a node is not said (disk_gib of pool.preload)",
        "nothing was launched in 7 days",
        "fetching was not measured",
    ]
    for i in range(30):
        world.ctx.ports.leads.add(
            LeadObservation(
                START - timedelta(hours=i + 1),
                "p",
                "sim",
                "g",
                "",
                "m",
                "",
                Standby.COLD,
                100.0,
                f"n{i}",
                {"data": 40.0},
            )
        )
    world.ctx.memo.clear()
    measured = advise(world.ctx, pool)
    assert measured.site.fetch_gib_per_s == pytest.approx(0.5, rel=0.05)
    assert advise(world.ctx, pool, fetch_gib_per_s=2.0, disk_gib=5.0).site.fetch_gib_per_s == 2.0


def test_prices_and_images_are_those_of_the_groups_that_nodes_are_launched_in():
    first = make_pool().groups[0]

    def group(name: str, provider: str, usd: float):
        return replace(first, name=name, provider=provider, offerings=(replace(first.offerings[0], usd_per_hour=usd),))

    pool = make_pool(groups=(group("own", "sim", 0.4), group("cloud", "aws", 1.0), group("spot", "aws", 0.2)))
    world = make_world(pool)
    world.submit(dag("d", task("t", datasets=(REF,)), due_in=3600))

    def launched(name: str, count: int):
        action = Action(name, ActionKind.LAUNCH, START - timedelta(days=1), name, count, "", first.offerings[0].key)
        world.ctx.ports.audit.record(ActionRecord(action, "p", "", "test", START - timedelta(days=1), "done"))

    launched("cloud", 10)
    found = advise(world.ctx, pool)
    assert (found.site.usd_per_hour, found.site.bakes) == (1.0, True), "nothing of the first group is launched"
    launched("spot", 30)
    found = advise(world.ctx, pool)
    assert found.site.launches_per_day == pytest.approx(40)
    assert found.site.usd_per_hour == pytest.approx((10 * 1.0 + 30 * 0.2) / 40)
    assert any("offerings differ in price" in n for n in found.notes)
    launched("own", 1)
    found = advise(world.ctx, pool)
    assert not found.site.bakes
    assert any("no image can be made for group own" in n for n in found.notes)
