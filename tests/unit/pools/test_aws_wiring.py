"""A pool of provider "aws" from preprov.toml, through the command."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from preprov.app import open_app
from preprov.contracts import SetsTargets
from preprov.control.heeding import heed
from preprov.control.passes import pool_pass
from preprov.doctor import examine
from preprov.model.errors import ConfigError
from preprov.model.nodes import Phase
from preprov.model.offerings import Offering
from preprov.model.plans import ActionKind
from preprov.model.pools import Group, Mode, Override, Pool
from preprov.model.resources import Resources
from preprov.pools.aws.options import aws_group
from preprov.settings import Settings
from tests.awsworld import AwsWorld, aws_world

TOML = """
[[pool]]
name = "batch"
mode = "observe"
  [[pool.group]]
  name = "g"
  provider = "aws"
  states = ["running", "stopped"]
  options = {{ region = "us-east-1", asg = "nodes", endpoint_url = "{url}" }}
    [[pool.group.offering]]
    type = "m5.large"
    cpu = 2
    memory = 8
"""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    with aws_world(monkeypatch, warm="Stopped") as made:
        yield made


@pytest.fixture
def settings(world: AwsWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "preprov.toml").write_text(TOML.format(url=world.cloud.url))
    monkeypatch.setenv("PREPROV_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Settings.load()


@pytest.mark.parametrize(
    ("options", "chooses", "mixes"),
    [
        ('asg = "nodes"', False, False),
        ('launch_template = "nodes", subnets = { us-east-1a = "subnet-1" }', True, True),
        ('no_such_option = "x"', True, True),
    ],
)
def test_no_plan_counts_on_what_the_provider_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, chooses: bool, mixes: bool
) -> None:
    """Whatever is configured, and that is true where nothing is said."""
    said = TOML.replace('asg = "nodes"', options.replace("{", "{{").replace("}", "}}"))
    (tmp_path / "preprov.toml").write_text(said.format(url="http://127.0.0.1:9"))
    monkeypatch.setenv("PREPROV_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with open_app(Settings.load()) as app:
        (group,) = app.ctx.pools["batch"].groups
    assert (group.chooses_offering, group.mixes_states) == (chooses, mixes)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_configured_group_is_observed_and_nothing_is_written(world: AwsWorld, settings: Settings) -> None:
    (node,) = world.ready()
    world.cloud.calls.clear()
    with open_app(settings, clock=world.clock) as app:
        provider = app.ctx.provider("aws")
        assert isinstance(provider, SetsTargets)
        (seen,) = provider.observe(app.ctx.pool("batch")).nodes
        assert (seen.node_id, seen.phase, seen.offering.capacity.cpu) == (node.node_id, node.phase, 2)
        result = pool_pass(app.ctx, app.ctx.pool("batch"))
    assert [n.node_id for n in result.observation.nodes] == [node.node_id]
    assert all(c.action.startswith("Describe") for c in world.cloud.calls), world.cloud.called()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_passes_raise_a_floor_and_bring_verified_nodes_into_service(world: AwsWorld, settings: Settings) -> None:
    with open_app(settings, clock=world.clock) as app:
        pool = replace(app.ctx.pool("batch"), mode=Mode.FULL, gate=None)
        now = world.clock.now()
        app.ctx.ports.intent.add_override(Override("batch", 2, now, now + timedelta(hours=2), "a test"))
        for _ in range(12):
            result = pool_pass(app.ctx, pool)
            world.clock.sleep(60)
    assert [n.phase for n in result.observation.nodes] == [Phase.READY, Phase.READY]
    assert world.group()["DesiredCapacity"] == 2
    launched = [c for c in world.cloud.calls if c.action == "LaunchInstances"]
    assert sum(int(c.params["RequestedCapacity"]) for c in launched) == 2
    actions = [c.action for c in world.cloud.calls]
    assert actions.index("PutScheduledUpdateGroupAction") < actions.index("LaunchInstances"), "the lease comes first"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interruption_drains_the_node_and_is_in_the_audit(world: AwsWorld, settings: Settings) -> None:
    (node,) = world.ready()
    queue = world.api("sqs").create_queue(QueueName="notices")["QueueUrl"]
    event = {"detail-type": "EC2 Spot Instance Interruption Warning", "time": "2025-11-03T01:00:00Z"}
    body = json.dumps({**event, "detail": {"instance-id": node.node_id, "instance-action": "terminate"}})
    world.api("sqs").send_message(QueueUrl=queue, MessageBody=body)
    with open_app(settings, clock=world.clock) as app:
        (group,) = app.ctx.pool("batch").groups
        told = replace(group, options={**group.options, "queue_url": queue})
        for mode, phase in ((Mode.OBSERVE, Phase.READY), (Mode.FLOOR, Phase.DRAINING)):
            pool = replace(app.ctx.pool("batch"), groups=(told,), mode=mode, gate=None)
            heed(app.ctx, pool, app.ctx.provider("aws").observe(pool))
            assert world.phase(node.node_id) is phase
        (row,) = app.ctx.ports.audit.records("batch")
    assert (row.action.kind, row.result, row.node_ids) == (ActionKind.DRAIN, "done", (node.node_id,))
    assert "01:02:00" in row.action.reason


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_doctor_asks_the_cloud(world: AwsWorld, settings: Settings) -> None:
    found = {c.what: c for c in examine() if c.what.startswith("batch/g")}
    assert found["batch/g: warm pool"].state == "ok"
    assert "AutoScaling" not in found["batch/g: credentials"].found


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"asg": "nodes"}, "region"),
        ({"region": "r"}, "either an asg or a launch_template"),
        ({"region": "r", "asg": "a", "launch_template": "b"}, "either an asg or a launch_template"),
        ({"region": "r", "asg": "a", "subnet": "s"}, "subnet"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], says: str) -> None:
    group = Group("g", "aws", (Offering("m5.large", Resources(cpu=2)),), options=options)
    with pytest.raises(ConfigError, match=says):
        aws_group(Pool("p", (group,)), "g")
