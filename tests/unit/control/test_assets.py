"""Images that the places that are read tell of: how often they are needed, and what a pool does not preload."""

from dataclasses import replace
from datetime import timedelta

import pytest

from preprov.control.assets import not_preloaded
from preprov.control.preloading import advise
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.offerings import Preload
from preprov.model.work import ImageRef
from preprov.sources.prefect import PrefectSettings, PrefectSource
from preprov.testing.fake_prefect import FakePrefect
from tests.unit.control.world import World, dag, make_world, task

DIGEST = "sha256:" + "a" * 64
HOURLY = {"cron": "0 * * * *", "timezone": "UTC"}


@pytest.fixture
def world() -> World:
    """A Prefect has an hourly deployment with an image, a queued run in another, and one in its work pool's."""
    world = make_world()
    prefect = FakePrefect(world.clock)
    properties = {"image": {"default": "registry.acme.org/base:7"}, "cpu": {"default": 2}}
    prefect.pools["vms"] = {
        "name": "vms",
        "type": "docker",
        "base_job_template": {"variables": {"properties": properties}},
    }
    prefect.deploy("etl", "hourly", HOURLY, pool="vms", job_variables={"image": "acme/etl:1"})
    adhoc = prefect.deploy("train", "adhoc", pool="vms", job_variables={"image": f"acme/train@{DIGEST}"})
    prefect.start_run("train", deployment=adhoc, state="SCHEDULED", start=None)
    plain = prefect.deploy("plain", "adhoc", pool="vms")
    prefect.end_run(prefect.start_run("plain", "a", deployment=plain))
    settings = PrefectSettings("prod", "http://pf/api", requests_per_second=1e6, history_days=2, patience_s=1e9)
    sync(
        world.ctx, PrefectSource(settings, world.clock, transport=prefect.transport()), Router(default=world.pool.name)
    )
    return world


def test_images_of_a_place_that_is_read_are_advised_upon(world: World) -> None:
    world.submit(dag("own", task("t", images=(ImageRef("oci/tool", "sha256:1"),)), due_in=3600))
    found = advise(world.ctx, world.pool, days=2)
    uses = {a.asset.ref.uri: a.asset.uses_per_day for a in found.advice}
    assert uses == {
        "docker://acme/etl:1": 24,
        "docker://acme/train": 1,
        "oci/tool": 1,
        "docker://registry.acme.org/base:7": 0.5,
    }
    assert next(a.asset.cores for a in found.advice if a.asset.ref.uri == "docker://acme/etl:1") == 2
    assert "images of a registry that say no digest cannot be preloaded: name each by its digest" in found.notes


def test_what_is_not_preloaded_is_named_with_its_dags(world: World) -> None:
    etl, train, base = (
        ImageRef("docker://acme/etl:1"),
        ImageRef("docker://acme/train", DIGEST),
        "registry.acme.org/base",
    )
    assert not_preloaded(world.ctx, world.pool, days=2) == {
        etl: ("etl/hourly",),
        train: ("train/adhoc",),
        ImageRef(f"docker://{base}:7"): ("plain/adhoc",),
    }
    world.clock.sleep(timedelta(hours=1).total_seconds())
    held = replace(world.pool, preload=Preload(images=(train, ImageRef(f"docker://{base}", DIGEST))))
    assert tuple(not_preloaded(world.ctx, held, days=2)) == (etl,)
