"""The real Terraform: counts through the local module, and the AWS example against an AWS that behaves."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from preprov.configfile import ConfigFile
from preprov.contracts import LaunchRequest
from preprov.control.adopting import adopt
from preprov.control.context import Context
from preprov.control.passes import pool_pass
from preprov.model.errors import PoolError
from preprov.model.offerings import Preload, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Gate, Mode, Pool
from preprov.model.resources import ZERO, Resources
from preprov.planning.prices import TablePriceBook
from preprov.pools.terraform import TerraformProvider
from preprov.pools.terraform_command import Terraform
from preprov.pools.terraform_declared import DeclaredPool, declared_in
from preprov.pools.terraform_sections import section, shape_drift
from preprov.sim.ports import memory_ports
from tests.clouds import in_bursts, uncertain
from tests.unit.terraform.conftest import Vendor
from tests.unit.terraform.modules import TERRAFORM
from tests.unit.terraform.terraform import environment, needed, terraform

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]
AWS_TYPE = "aws_autoscaling_group"


def example(name: str, to: Path) -> Path:
    shutil.copytree(TERRAFORM, to / "terraform", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    return to / "terraform" / "examples" / "complete" / name


def declared(folder: Path) -> DeclaredPool:
    return declared_in({"outputs": Terraform(folder).outputs()}, str(folder))[0]


def adopted(folder: Path) -> Pool:
    """As `preprov pool adopt terraform` registers it."""
    return ConfigFile.model_validate({"pool": [section(declared(folder), folder)]}).pools()["nightly"]


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, str]]:
    """The local example, applied with its counts in Terraform's hands."""
    needed()
    env, folder = environment(tmp_path), example("local", tmp_path)
    for key in ("TF_CLI_CONFIG_FILE", "TF_DATA_DIR"):
        monkeypatch.setenv(key, env[key])
    (folder / "owner.auto.tfvars").write_text('counts_owner = "terraform"\n')
    terraform(folder, env, "init", "-no-color")
    terraform(folder, env, "apply", "-auto-approve", "-no-color")
    return folder, env


class Seen(Vendor):
    """Nodes as the outputs declare them."""

    def counts(self) -> dict[str, dict[str, int]]:
        return {g.name: g.counts.model_dump() for g in declared(self.folder).groups}


def test_an_applied_count_is_seen_to_change(applied: tuple[Path, dict[str, str]]) -> None:
    folder, env = applied
    pool, provider = adopted(folder), TerraformProvider(lambda _: Seen(folder))
    provider.set_targets(pool, "cheap", {Standby.STOPPED: 3})
    assert declared(folder).group("cheap").counts.standby == 3
    assert len(provider.observe(pool).nodes) == 3
    assert "No changes" in terraform(folder, env, "plan", "-no-color")


def test_counts_are_given_back_as_they_were_found(applied: tuple[Path, dict[str, str]]) -> None:
    folder, env = applied
    pool, provider = adopted(folder), TerraformProvider(lambda _: Seen(folder))
    found = provider.baseline(pool, "cheap")
    provider.launch(LaunchRequest(pool, "cheap", pool.group("cheap").offerings[0], 1, "t1", Preload()))
    provider.set_targets(pool, "cheap", {Standby.STOPPED: 3})
    assert declared(folder).group("cheap").counts.model_dump() != found
    assert provider.restore(pool, "cheap", found)
    assert declared(folder).group("cheap").counts.model_dump() == found == provider.baseline(pool, "cheap")
    assert provider.restore(pool, "cheap", found) == ()
    assert "No changes" in terraform(folder, env, "plan", "-no-color")


def test_a_change_that_is_not_ours_is_not_applied(applied: tuple[Path, dict[str, str]]) -> None:
    folder, _ = applied
    pool, provider = adopted(folder), TerraformProvider(lambda _: Seen(folder))
    main = folder / "main.tf"
    more = '    extra = { max_nodes = 1, offering = { type = "small", cpu = 1, memory = 1 } }\n    cheap = {'
    main.write_text(main.read_text().replace("    cheap = {", more))
    with pytest.raises(PoolError, match="more than change counts"):
        provider.set_targets(pool, "quick", {Standby.HIBERNATED: 1})
    assert {g.name for g in declared(folder).groups} == {"quick", "cheap"}


def test_a_lock_that_is_held_is_respected(applied: tuple[Path, dict[str, str]]) -> None:
    """Somebody else's lock, as the local backend keeps it: a lock on the state file, with who holds it beside it."""
    import fcntl

    folder, _ = applied
    pool = adopted(folder)
    options = {**pool.groups[0].options, "lock_timeout": 0.0}
    provider = TerraformProvider(lambda _: Seen(folder))
    raw = section(declared(folder), folder)
    for group in raw["group"]:
        group["options"] = options
    pool = ConfigFile.model_validate({"pool": [raw]}).pools()["nightly"]
    info = {
        "ID": "1",
        "Operation": "OperationTypeApply",
        "Info": "",
        "Who": "somebody@elsewhere",
        "Version": "1.11.4",
        "Created": "2025-11-03T01:00:00Z",
        "Path": "terraform.tfstate",
    }
    (folder / ".terraform.tfstate.lock.info").write_text(json.dumps(info))
    with (folder / "terraform.tfstate").open("r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        with pytest.raises(PoolError, match="somebody@elsewhere") as e:
            provider.set_targets(pool, "quick", {Standby.HIBERNATED: 1})
    assert e.value.retryable
    assert declared(folder).group("quick").counts.standby == 0


# ---- AWS


@pytest.fixture
def as_aws_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where moto answers what AWS would not, and Terraform would take it for drift."""
    from moto.autoscaling import models as scaling
    from moto.ec2.models import launch_templates

    version, hook, group = launch_templates.LaunchTemplateVersion, scaling.LifecycleHook, scaling.FakeAutoScalingGroup
    make, hooked, update = version.__init__, hook.__init__, group.update

    def made(self: Any, template: Any, number: int, data: dict[str, Any], *more: Any) -> None:
        tags = [t for t in data.get("TagSpecifications", []) if t["ResourceType"] != "launch-template"]
        make(self, template, number, {**data, "TagSpecifications": tags}, *more)

    def hung(self: Any, *words: Any, **named: Any) -> None:
        hooked(self, *words, **named)
        self.role_arn = self.notification_target_arn = None

    def updated(self: Any, *words: Any, **named: Any) -> None:
        before = self.mixed_instances_policy
        update(self, *words, **named)
        self.mixed_instances_policy = self.mixed_instances_policy or before

    monkeypatch.setattr(version, "__init__", made)
    monkeypatch.setattr(hook, "__init__", hung)
    monkeypatch.setattr(group, "update", updated)


@pytest.fixture
def cloud(as_aws_answers: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    needed(aws=True)
    from preprov.sim.clock import VirtualClock
    from preprov.testing.fake_aws import FakeAws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with FakeAws(VirtualClock(datetime(2025, 11, 3, 1, tzinfo=UTC)), region="eu-central-1") as fake:
        monkeypatch.setenv("AWS_ENDPOINT_URL", fake.url)
        env = environment(tmp_path)
        for key in ("TF_CLI_CONFIG_FILE", "TF_DATA_DIR", "CHECKPOINT_DISABLE"):
            monkeypatch.setenv(key, env[key])
        yield fake


def test_what_preprov_raises_is_no_change_to_terraform(
    cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apply, adopt, passes that raise the warm pool and the nodes in service: `terraform plan` shows no changes."""
    from preprov.pools.aws.provider import AwsProvider

    env, folder = environment(tmp_path), example("aws-warm-pool", tmp_path)
    (folder / "my.auto.tfvars").write_text(
        'image_id = "ami-12c6146b"\ntrusted_principal_arns = ["arn:aws:iam::123456789012:role/preprov"]\n'
    )
    terraform(folder, env, "init", "-no-color")
    terraform(folder, env, "apply", "-auto-approve", "-no-color")
    pool = adopted(folder)
    assert {g.name: g.provider for g in pool.groups} == {"stopped": "aws", "quick": "aws", "spot": "aws"}
    provider = AwsProvider(cloud.clock)
    assert not provider.other_writers(pool, "stopped")
    pool = uncertain(replace(pool, mode=Mode.FULL, gate=Gate(floor_nights=0, full_nights=0), binding=("cpu",)))
    ctx = Context(
        ports=memory_ports(),
        providers={"aws": provider},
        schedulers={},
        prices=TablePriceBook.from_pools([pool]),
        clock=cloud.clock,
        pools={pool.name: pool},
    )
    adopt(ctx, pool)
    in_bursts(monkeypatch, 3)
    cores = pool.groups[0].offerings[0].allocatable.cpu
    for minute in range(10):
        pool_pass(ctx, pool, serve=False, waiting=Resources(cpu=cores) if minute < 2 else ZERO)
        cloud.clock.sleep(60)
    done = [r.action for r in ctx.ports.audit.records(pool.name) if r.result == "done"]
    raised = {a.standby_state for a in done if a.kind is ActionKind.LAUNCH}
    assert Standby.RUNNING in raised
    assert raised & {Standby.STOPPED, Standby.HIBERNATED}
    kept = [g.name for g in pool.groups if sum(provider.targets(pool, g.name).values())]
    assert kept, "no warm pool was raised"
    terraform(folder, env, "plan", "-detailed-exitcode", "-no-color")
    with Terraform(folder).plan(refresh_only=True) as plan:
        assert any(c.type_ == AWS_TYPE for c in plan.drift)
        assert shape_drift(plan.drift, "preprov") == ()
