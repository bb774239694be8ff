"""What the vendor has no room for is not asked for: quotas, addresses, disks; through the real SDKs."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from preprov.control.guarding import check_guards
from preprov.control.observing import observe
from preprov.control.preflight import fitting, preflight
from preprov.model.errors import GuardError
from preprov.model.offerings import Preload
from preprov.model.plans import Action, ActionKind
from preprov.model.work import DatasetRef, ImageRef
from tests.clouds import CLOUDS, Aws, Azure, Cloud, Gcp, cloud_of, launches
from tests.unit.control.world import make_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with cloud_of(request.param, monkeypatch) as made:
        yield made


def wanted(cloud: Cloud, count: int) -> Action:
    group = cloud.pool.groups[0]
    now = cloud.clock.now()
    return Action("a", ActionKind.LAUNCH, now, group.name, count, "wanted", offering=group.offerings[0].key)


def quota(cloud: Cloud, nodes: int) -> None:
    """Room for so many nodes in all."""
    if isinstance(cloud, Aws):
        cloud.world.cloud.quotas["L-1216C47A"] = 2.0 * nodes
    else:
        cloud.world.fake.faults.quota = nodes


def test_no_more_is_asked_for_than_the_quota_leaves(cloud: Cloud) -> None:
    quota(cloud, 3)
    ctx = cloud.context()
    assert fitting(ctx, cloud.pool, wanted(cloud, 5)).count == 3
    records = cloud.passes(ctx, 100.0, minutes=6)
    assert [r for r in launches(records) if r.result == "failed"] == [], "the vendor has nothing to refuse"
    assert cloud.machines() == 3
    cloud.clock.sleep(61)
    with pytest.raises(GuardError, match=r"quota .* leaves 0 nodes, 1 more asked"):
        check_guards(ctx, cloud.pool, wanted(cloud, 1), observe(ctx, cloud.pool))


def test_what_was_launched_since_the_last_look_counts(cloud: Cloud) -> None:
    quota(cloud, 4)
    ctx = cloud.context()
    assert fitting(ctx, cloud.pool, wanted(cloud, 9)).count == 4
    (done,) = launches([*cloud.one_pass(ctx, 2.0 if isinstance(cloud, Aws) else 4.0).records], "done")[:1]
    assert fitting(ctx, cloud.pool, wanted(cloud, 9)).count == 4 - len(done.node_ids)


def test_addresses_of_the_subnet_count(cloud: Cloud) -> None:
    if isinstance(cloud, Aws):
        pytest.skip("the fake's groups name zones, not subnets: see the fleets below")
    cloud.world.fake.account.addresses = 2
    with pytest.raises(GuardError, match=r"free addresses in nodes \(2\) leaves 2 nodes"):
        check_guards(cloud.context(), cloud.pool, wanted(cloud, 3), observe(cloud.context(), cloud.pool))


def test_limits_that_cannot_be_asked_stop_nothing(cloud: Cloud) -> None:
    quota(cloud, 1)
    if isinstance(cloud, Aws):
        cloud.world.cloud.faults.denied = {"servicequotas:GetServiceQuota"}
    else:
        right = "compute.regions.get" if isinstance(cloud, Gcp) else "Microsoft.Compute/locations/usages/read"
        cloud.world.fake.faults.denied = {right}
    assert fitting(cloud.context(), cloud.pool, wanted(cloud, 5)).count == 5
    assert any("cannot be asked" in f.found for f in preflight(cloud.context(), cloud.pool))


def test_what_does_not_fit_on_the_disk_is_not_launched(cloud: Cloud) -> None:
    if isinstance(cloud, Aws):
        api = cloud.world.api("ec2")
        disk = {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 50}}]}
        api.create_launch_template_version(LaunchTemplateName="nodes", SourceVersion="1", LaunchTemplateData=disk)
        api.modify_launch_template(LaunchTemplateName="nodes", DefaultVersion="2")
    large = Preload(datasets=(DatasetRef("s3://data/a", "v1", size_gib=60.0),))
    cloud.pool = replace(cloud.pool, preload=large)
    with pytest.raises(GuardError, match="disk of 50 GiB: what is preloaded and the system take 65 GiB"):
        check_guards(cloud.context(), cloud.pool, wanted(cloud, 1), observe(cloud.context(), cloud.pool))
    (bad,) = [f for f in preflight(cloud.context(), cloud.pool) if f.state == "bad"]
    assert "disk" in bad.what
    small = Preload(datasets=(DatasetRef("s3://data/a", "v1", size_gib=40.0),))
    cloud.pool = replace(cloud.pool, preload=small)
    check_guards(cloud.context(), cloud.pool, wanted(cloud, 1), observe(cloud.context(), cloud.pool))


def test_a_quota_that_is_near_is_the_doctors(cloud: Cloud) -> None:
    quota(cloud, 100)
    assert {f.state for f in preflight(cloud.context(), cloud.pool)} <= {"ok"}
    quota(cloud, 2)
    (near,) = [f for f in preflight(cloud.context(), cloud.pool) if f.state == "warn"]
    assert "2 more nodes" in near.found


def test_looking_needs_no_right_to_write(cloud: Cloud) -> None:
    preflight(cloud.context(), cloud.pool)
    if isinstance(cloud, Azure):
        assert all(m == "GET" for m, _ in cloud.world.fake.calls)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("docker://python", True),
        ("docker://acme/etl", True),
        ("docker://docker.io/acme/etl", True),
        ("docker://ghcr.io/acme/etl", False),
        ("docker://localhost:5000/etl", False),
        ("s3://images/etl", False),
    ],
)
def test_a_wave_that_the_hub_would_refuse_is_told(uri: str, told: bool) -> None:
    world = make_world()
    images = tuple(ImageRef(uri, f"sha256:{i}") for i in range(6))
    found = preflight(world.ctx, replace(world.pool, preload=Preload(images)))
    assert [f.what for f in found] == (["p: registry"] if told else [])
    assert preflight(world.ctx, replace(world.pool, preload=Preload(images[:5]))) == []
