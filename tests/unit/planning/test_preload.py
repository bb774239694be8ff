"""Preload advice: what is baked, staged, or left, and who gets the disk."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.errors import ConfigError
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, ImageRef, TaskSpec
from preprov.planning.preload import Asset, Placing, Site, assets_of, plan_preload, preload_of

IMAGE = ImageRef("oci/tool", "sha256:1")
DATA = DatasetRef("s3://b/ref", "v1", size_gib=20.0)
SITE = Site(launches_per_day=50, disk_gib=100, usd_per_hour=0.8, shortage_usd_per_core_hour=1.0)


def asset(uses=200.0, size=10.0, ref=DATA, cores=4.0, **more):
    return Asset(ref, uses, cores, size, **more)


def test_assets_are_counted_by_expected_instances():
    align = TaskSpec("align", images=(IMAGE,), datasets=(DATA,), instances=10, request=Resources(4, 8))
    count = TaskSpec("count", datasets=(DATA,), request=Resources(1, 1))
    got = {a.key: a for a in assets_of([(align, 2.0), (count, 20.0)])}
    assert got["sha256:1"].uses_per_day == 20
    assert got["s3://b/ref@v1"].uses_per_day == 40
    assert got["s3://b/ref@v1"].cores == pytest.approx((20 * 4 + 20 * 1) / 40)
    assert got["s3://b/ref@v1"].size_gib == 20


def test_what_every_node_wants_is_worth_baking_and_what_changes_all_the_time_is_staged():
    (stable,) = plan_preload([asset()], SITE)
    assert stable.placing is Placing.BAKE
    (moving,) = plan_preload([asset(changes_per_day=500)], SITE)
    assert moving.placing is Placing.STAGE
    assert "wanted on 98%" in moving.why
    (nowhere,) = plan_preload([asset()], replace(SITE, bakes=False))
    assert nowhere.placing is Placing.STAGE


def test_what_hardly_any_node_wants_is_left():
    (rare,) = plan_preload([asset(uses=1, cores=1)], replace(SITE, bakes=False))
    assert rare.placing is Placing.LEAVE
    assert rare.saves_s_per_day == 0


def test_the_disk_goes_to_what_saves_most_per_gib():
    often = asset(uses=300, size=60, ref=replace(DATA, uri="s3://often"))
    seldom = asset(uses=60, size=60, ref=replace(DATA, uri="s3://seldom"))
    small = asset(uses=200, size=5, ref=IMAGE)
    advice = plan_preload([seldom, small, often], SITE)
    kept = {a.asset.key for a in advice if a.placing is not Placing.LEAVE}
    assert kept == {"s3://often@v1", "sha256:1"}
    assert "do not fit" in next(a.why for a in advice if a.asset is seldom)
    made = preload_of(advice)
    assert made.images == (IMAGE,)
    assert [d.uri for d in made.datasets] == ["s3://often"]


def test_a_speed_must_be_positive():
    with pytest.raises(ConfigError):
        replace(SITE, fetch_gib_per_s=0.0)


@given(st.lists(st.tuples(st.floats(0.01, 1000), st.floats(0.1, 200)), max_size=8), st.floats(0, 300), st.booleans())
def test_the_disk_is_never_overfilled_and_nothing_is_kept_at_a_loss(items, disk, bakes):
    assets = [asset(uses=u, size=s, ref=replace(DATA, uri=f"s3://{i}")) for i, (u, s) in enumerate(items)]
    advice = plan_preload(assets, replace(SITE, disk_gib=disk, bakes=bakes))
    kept = [a for a in advice if a.placing is not Placing.LEAVE]
    assert sum(a.asset.size_gib for a in kept) <= disk + 1e-9
    assert all(a.usd_per_day[a.placing] > 0 for a in kept)
    assert len(advice) == len(assets)
