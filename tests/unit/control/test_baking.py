"""Images through the real SDKs: baked once, rolled out, old ones pruned; cut short anywhere, run again."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from preprov import doctor
from preprov.contracts import BakesImages
from preprov.control.adopting import GivenBack, adopt, release
from preprov.control.baking import Baked, bake, baking_groups, images_of, prune, roll_out
from preprov.control.context import Context
from preprov.model.adoption import BOOTS_FROM
from preprov.model.errors import ConfigError, GuardError, PoolError, PreprovError
from preprov.model.offerings import Preload, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Group, Guards, Mode
from preprov.model.work import DatasetRef
from tests.clouds import CLOUDS, DATASET, Aws, Azure, Cloud, Gcp, cloud_of
from tests.unit.control.world import make_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PRELOAD = Preload(datasets=(DATASET,))
LATER = Preload(datasets=(DatasetRef("s3://data/a", "v2", "1" * 64),))


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with cloud_of(request.param, monkeypatch, preload=PRELOAD) as made:
        if isinstance(made, Azure):
            made.pool = made.world.pool = with_option(made.pool, gallery_image="night/nodes")
        yield made


@pytest.fixture
def gcp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The quickest of them, for what does not depend on the cloud."""
    with cloud_of("gcp", monkeypatch, preload=PRELOAD) as made:
        yield made


def with_option(pool: Any, **more: object) -> Any:
    group = pool.groups[0]
    return replace(pool, groups=(replace(group, options={**group.options, **more}),))


def group_of(cloud: Cloud) -> Group:
    return cloud.pool.groups[0]


def baked(cloud: Cloud, ctx: Context | None = None, said: list[str] | None = None) -> Baked:
    return bake(ctx or cloud.context(), cloud.pool, group_of(cloud), say=(said if said is not None else []).append)


def benches(cloud: Cloud) -> int:
    return len(images_of(cloud.context(), cloud.pool, group_of(cloud))[1])


def preloading(cloud: Cloud, preload: Preload) -> None:
    cloud.pool = cloud.world.pool = replace(cloud.pool, preload=preload)


class Dies:
    """A provider whose process dies right after it has asked for one thing."""

    def __init__(self, inner: Any, after: str) -> None:
        self._inner, self._after = inner, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._after:
            return found

        def die(*args: Any, **kwargs: Any) -> None:
            found(*args, **kwargs)
            raise KeyboardInterrupt

        return die

    # a protocol is looked for in the type
    def _of(name: str) -> Any:  # type: ignore[misc]
        def call(self: "Dies", *args: Any, **kwargs: Any) -> Any:
            return self.__getattr__(name)(*args, **kwargs)

        return call

    open_bench, benches, close_benches = _of("open_bench"), _of("benches"), _of("close_benches")
    images, make_image, roll_out = _of("images"), _of("make_image"), _of("roll_out")
    delete_image = _of("delete_image")


def test_an_image_is_baked_once_and_its_bench_is_gone(cloud: Cloud) -> None:
    before, said = cloud.machines(), list[str]()
    first = baked(cloud, said=said)
    assert first.made
    assert (first.image.state, first.image.digest) == ("ready", PRELOAD.digest)
    assert any("was launched" in line for line in said)
    cloud.clock.sleep(120)
    assert benches(cloud) == 0
    assert cloud.machines() == before
    again = baked(cloud)
    assert not again.made
    assert again.image.image_id == first.image.image_id
    assert cloud.machines() == before, "nothing is launched for what is there"
    notes = [r.detail for r in cloud.ports.audit.records(cloud.pool.name)]
    assert any(first.image.image_id in line for line in notes)


def test_a_bench_is_no_node_of_the_pool(cloud: Cloud) -> None:
    ctx = cloud.context(Dies(cloud.provider(), "open_bench"))
    with pytest.raises(KeyboardInterrupt):
        baked(cloud, ctx)
    cloud.clock.sleep(240)
    assert benches(cloud) == 1
    assert cloud.nodes() == {}
    cloud.passes(cloud.context(), minutes=3)
    assert benches(cloud) == 1, "no pass ends it"


@pytest.mark.parametrize("after", ["open_bench", "make_image", "close_benches"])
def test_cut_short_anywhere_it_is_gone_on_with(cloud: Cloud, after: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        baked(cloud, cloud.context(Dies(cloud.provider(), after)))
    done = baked(cloud)
    assert done.image.state == "ready"
    images, left = images_of(cloud.context(), cloud.pool, group_of(cloud))
    assert len(images) == 1
    cloud.clock.sleep(120)
    assert benches(cloud) == 0
    assert cloud.machines() == 0, left


def test_a_bench_that_does_not_verify_makes_no_image_and_is_ended(cloud: Cloud) -> None:
    cloud.spoil(True)
    with pytest.raises(PoolError, match=r"no image is made.* is failed"):
        baked(cloud)
    cloud.clock.sleep(120)
    assert cloud.machines() == 0
    assert images_of(cloud.context(), cloud.pool, group_of(cloud)) == ((), ())


def test_a_bench_that_takes_too_long_is_ended(gcp: Cloud) -> None:
    with pytest.raises(PoolError, match="was not verified within 20 s"):
        bake(gcp.context(), gcp.pool, group_of(gcp), within_s=20, say=str)
    gcp.clock.sleep(120)
    assert gcp.machines() == 0


def test_rolled_out_new_nodes_boot_from_it_and_it_is_kept(cloud: Cloud) -> None:
    old = baked(cloud).image
    image, said = roll_out(cloud.context(), cloud.pool, group_of(cloud))
    assert image.image_id == old.image_id
    assert len(said) == 1
    assert roll_out(cloud.context(), cloud.pool, group_of(cloud))[1] == (), "once"
    preloading(cloud, LATER)
    cloud.clock.sleep(600)
    new = baked(cloud).image
    (in_use,) = prune(cloud.context(), cloud.pool, group_of(cloud), keep=0).kept[1:]
    assert in_use[0].image_id == old.image_id
    assert "used by" in in_use[1], "an image in use is never deleted"
    roll_out(cloud.context(), cloud.pool, group_of(cloud))
    cloud.clock.sleep(60)
    would = prune(cloud.context(), cloud.pool, group_of(cloud), keep=0, dry=True)
    done = prune(cloud.context(), cloud.pool, group_of(cloud), keep=0)
    assert [i.image_id for i in done.deleted] == [i.image_id for i in would.deleted] == [old.image_id]
    left, _ = images_of(cloud.context(), cloud.pool, group_of(cloud))
    assert [i.image_id for i in left] == [new.image_id]
    assert left[0].used_by, "the group is launched from it"


def boots_from(cloud: Cloud) -> object:
    """What new machines boot from, asked of the cloud itself."""
    if isinstance(cloud, Aws):
        return template_version(cloud, "$Default")
    return dict(cloud.world.vmss.image) if isinstance(cloud, Azure) else cloud.world.mig.template or "nodes"


def template_version(cloud: Aws, which: str) -> tuple[int, str]:
    found = cloud.world.api("ec2").describe_launch_template_versions(LaunchTemplateName="nodes", Versions=[which])
    (one,) = found["LaunchTemplateVersions"]
    return one["VersionNumber"], one["LaunchTemplateData"]["ImageId"]


def given_back(cloud: Cloud) -> GivenBack:
    (one,) = release(cloud.context(), cloud.pool)
    return one


def test_released_a_group_boots_from_what_it_was_found_with(cloud: Cloud) -> None:
    before, settings = boots_from(cloud), cloud.settings()
    adopt(cloud.context(), cloud.pool)
    for preload in (PRELOAD, LATER):
        preloading(cloud, preload)
        baked(cloud)
        cloud.clock.sleep(600)
        roll_out(cloud.context(), cloud.pool, group_of(cloud))
    assert boots_from(cloud) != before
    one = given_back(cloud)
    assert one.whole, one
    assert any("image" in line for line in one.said), one.said
    assert boots_from(cloud) == before
    assert cloud.settings() == settings
    assert cloud.ports.adoptions.in_force(cloud.pool.name) == {}


def test_what_a_group_boots_from_is_recorded_before_a_rollout(cloud: Cloud) -> None:
    """Nobody adopted it, and the rollout is the first write."""
    before = boots_from(cloud)
    baked(cloud)
    roll_out(cloud.context(), cloud.pool, group_of(cloud))
    assert boots_from(cloud) != before
    assert given_back(cloud).whole
    assert boots_from(cloud) == before


def test_adopted_by_an_earlier_release_it_is_recorded_with_the_rollout(cloud: Cloud) -> None:
    before = boots_from(cloud)
    (adoption,) = adopt(cloud.context(), cloud.pool)
    cloud.ports.adoptions.release(cloud.pool.name, adoption.group, cloud.clock.now())
    old = replace(adoption, baseline={k: v for k, v in adoption.baseline.items() if k != BOOTS_FROM})
    cloud.ports.adoptions.adopt(old)
    assert given_back(cloud).whole, "a baseline without it is given back as it is"
    cloud.ports.adoptions.adopt(old)
    baked(cloud)
    roll_out(cloud.context(), cloud.pool, group_of(cloud))
    assert given_back(cloud).whole
    assert boots_from(cloud) == before


def test_an_image_that_its_owner_chose_since_stays(cloud: Cloud) -> None:
    adopt(cloud.context(), cloud.pool)
    baked(cloud)
    roll_out(cloud.context(), cloud.pool, group_of(cloud))
    if isinstance(cloud, Aws):
        ec2, name = cloud.world.api("ec2"), {"LaunchTemplateName": "nodes"}
        made = ec2.create_launch_template_version(**name, SourceVersion="1", LaunchTemplateData={"ImageId": "ami-9"})
        ec2.modify_launch_template(**name, DefaultVersion=str(made["LaunchTemplateVersion"]["VersionNumber"]))
    elif isinstance(cloud, Azure):
        cloud.world.vmss.image = {"id": "/theirs"}
    else:
        cloud.world.fake.images.templates["theirs"] = {"name": "theirs", "properties": {}}
        cloud.world.mig.template = "theirs"
    theirs = boots_from(cloud)
    assert given_back(cloud).whole
    assert boots_from(cloud) == theirs


def test_the_image_a_group_goes_back_to_is_not_pruned(gcp: Cloud) -> None:
    """It was adopted while it booted from one of ours."""
    old = baked(gcp).image
    roll_out(gcp.context(), gcp.pool, group_of(gcp))
    before = boots_from(gcp)
    gcp.ports.adoptions.release(gcp.pool.name, "vms", gcp.clock.now())
    adopt(gcp.context(), gcp.pool)
    preloading(gcp, LATER)
    gcp.clock.sleep(600)
    baked(gcp)
    roll_out(gcp.context(), gcp.pool, group_of(gcp))
    kept = {i.image_id: why for i, why in prune(gcp.context(), gcp.pool, group_of(gcp), keep=0).kept}
    assert "goes back to" in kept[old.image_id]
    assert given_back(gcp).whole
    assert boots_from(gcp) == before


@pytest.mark.parametrize("follows", ["$Latest", "mixed"])
def test_an_auto_scaling_group_goes_back_by_whichever_version_it_follows(
    monkeypatch: pytest.MonkeyPatch, follows: str
) -> None:
    with cloud_of("aws", monkeypatch, preload=PRELOAD) as cloud:
        assert isinstance(cloud, Aws)
        spec = {"LaunchTemplateName": "nodes", "Version": "$Default" if follows == "mixed" else "$Latest"}
        mixed = {"MixedInstancesPolicy": {"LaunchTemplate": {"LaunchTemplateSpecification": spec}}}
        cloud.world.api("autoscaling").update_auto_scaling_group(
            AutoScalingGroupName="nodes", **(mixed if follows == "mixed" else {"LaunchTemplate": spec})
        )
        which = spec["Version"]
        adopt(cloud.context(), cloud.pool)
        before = template_version(cloud, which)
        baked(cloud)
        roll_out(cloud.context(), cloud.pool, group_of(cloud))
        assert template_version(cloud, which)[1] != before[1]
        assert given_back(cloud).whole
        assert template_version(cloud, which)[1] == before[1]
        assert follows == "$Latest" or template_version(cloud, which) == before
        assert given_back_lines(cloud) == ()


def given_back_lines(cloud: Cloud) -> tuple[str, ...]:
    """What is said when it is given back once more."""
    adopt(cloud.context(), cloud.pool)
    return given_back(cloud).said


def test_counts_go_back_even_if_the_image_does_not(gcp: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    adopt(gcp.context(), gcp.pool)
    baked(gcp)
    roll_out(gcp.context(), gcp.pool, group_of(gcp))
    gcp.provider().set_targets(gcp.pool, "vms", {Standby.STOPPED: 2})

    def refuse(*_: object) -> None:
        raise PoolError("no", where="here")

    monkeypatch.setattr("preprov.pools.gcp.images.put_back", refuse)
    one = given_back(gcp)
    assert one.error
    assert gcp.settings()["target_stopped_size"] == 0
    assert "vms" in gcp.ports.adoptions.in_force(gcp.pool.name)


def test_an_image_that_nodes_run_from_is_kept(cloud: Cloud) -> None:
    if isinstance(cloud, Gcp):
        pytest.skip("a disk of Compute Engine does not need the image it was made of")
    old = baked(cloud).image
    roll_out(cloud.context(), cloud.pool, group_of(cloud))
    cloud.until(cloud.context(), 4.0, lambda: len(cloud.ready()) > 0, "a node")
    preloading(cloud, LATER)
    baked(cloud)
    roll_out(cloud.context(), cloud.pool, group_of(cloud))
    assert old.image_id in {i.image_id for i, _ in prune(cloud.context(), cloud.pool, group_of(cloud), keep=0).kept}


def test_an_image_that_fails_is_told_and_pruned(cloud: Cloud) -> None:
    fake = cloud.world.cloud.images if isinstance(cloud, Aws) else cloud.world.fake
    fake = fake.images if isinstance(cloud, Gcp) else fake.gallery if isinstance(cloud, Azure) else fake
    fake.fails = True
    with pytest.raises(PoolError, match="failed"):
        baked(cloud)
    cloud.clock.sleep(120)
    assert cloud.machines() == 0
    fake.fails = False
    (gone,) = prune(cloud.context(), cloud.pool, group_of(cloud)).deleted
    assert gone.state == "failed"
    assert baked(cloud).image.state == "ready"


def test_a_forgotten_bench_is_ended_by_prune(gcp: Cloud) -> None:
    with pytest.raises(KeyboardInterrupt):
        baked(gcp, gcp.context(Dies(gcp.provider(), "open_bench")))
    assert prune(gcp.context(), gcp.pool, group_of(gcp)).closed == ()
    gcp.clock.sleep(5 * 3600)
    assert len(prune(gcp.context(), gcp.pool, group_of(gcp)).closed) == 1
    gcp.clock.sleep(120)
    assert gcp.machines() == 0


def test_a_forgotten_bench_is_told_and_in_mode_full_ended_by_a_pass(cloud: Cloud) -> None:
    with pytest.raises(KeyboardInterrupt):
        baked(cloud, cloud.context(Dies(cloud.provider(), "open_bench")))
    assert doctor.benches(cloud.context()) == []
    cloud.clock.sleep(5 * 3600)
    (finding,) = doctor.benches(cloud.context())
    assert finding.state == "warn"
    assert "launched 5 h ago" in finding.found
    full, cloud.pool = cloud.pool, replace(cloud.pool, mode=Mode.FLOOR)
    assert cloud.one_pass(cloud.context()).records == ()
    assert benches(cloud) == 1, "below mode full it is only reported"
    cloud.pool = full
    ctx = cloud.context()
    (record,) = cloud.one_pass(ctx).records
    assert (record.result, record.action.kind) == ("done", ActionKind.TERMINATE)
    assert "nobody makes one any more" in record.action.reason
    assert cloud.one_pass(ctx).records == (), "it was looked for a moment ago"
    cloud.clock.sleep(120)
    assert cloud.machines() == 0
    assert doctor.benches(cloud.context()) == []
    assert baked(cloud).made, "the next bench is another one"


def test_halted_nothing_is_baked_rolled_out_or_deleted(gcp: Cloud) -> None:
    baked(gcp)
    preloading(gcp, LATER)
    ctx = gcp.context()
    ctx.ports.intent.set_halt("a look", actor="me", at=gcp.clock.now())
    for do in (bake, roll_out, prune):
        with pytest.raises(GuardError, match="halted"):
            do(ctx, gcp.pool, group_of(gcp))  # type: ignore[operator]


def test_guards_hold_for_a_bench(gcp: Cloud) -> None:
    gcp.pool = replace(gcp.pool, guards=Guards(max_nodes=0))
    with pytest.raises(GuardError, match="max_nodes 0"):
        baked(gcp)
    assert gcp.machines() == 0


def test_what_cannot_be_baked_is_told() -> None:
    world = make_world()
    with pytest.raises(ConfigError, match="no image can be baked"):
        baking_groups(world.ctx, world.pool)
    assert not isinstance(world.cloud, BakesImages)


def test_the_digest_is_of_what_lies_on_a_disk() -> None:
    assert PRELOAD.digest == replace(PRELOAD, join=("join",), min_read_mb_s=5).digest
    assert len({PRELOAD.digest, LATER.digest, replace(PRELOAD, commands=("x",)).digest, Preload().digest}) == 4


def test_a_preload_of_nothing_is_refused(gcp: Cloud) -> None:
    preloading(gcp, Preload())
    with pytest.raises(PreprovError, match="preloads nothing"):
        baked(gcp)
