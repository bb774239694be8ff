"""The AWS command line, which knows nothing of preprov, sees in the fake what preprov sees."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from preprov.model.nodes import Phase
from preprov.model.offerings import Standby
from tests.awsworld import REGION, AwsWorld, aws_world

AWS = shutil.which("aws")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(AWS is None, reason="the AWS command line is not on this machine"),
]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    with aws_world(monkeypatch, warm="Stopped") as made:
        yield made


def aws(world: AwsWorld, *words: str) -> Any:
    command = [str(AWS), "--endpoint-url", world.cloud.url, "--region", REGION, "--output", "json", *words]
    out = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=200)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout) if out.stdout.strip() else None


def test_both_see_the_same_group(world: AwsWorld) -> None:
    world.provider.set_targets(world.pool, "g", {Standby.STOPPED: 1})
    world.until(lambda: [n.phase for n in world.nodes().values()] == [Phase.STOPPED], "the warm pool to fill")
    (kept,) = world.nodes()
    pool = aws(world, "autoscaling", "describe-warm-pool", "--auto-scaling-group-name", "nodes")
    assert [(i["InstanceId"], i["LifecycleState"]) for i in pool["Instances"]] == [(kept, "Warmed:Stopped")]
    aws(world, "autoscaling", "set-desired-capacity", "--auto-scaling-group-name", "nodes", "--desired-capacity", "1")
    world.until(lambda: world.phase(kept) is Phase.READY, "the node that somebody else has asked for to be ready")
    group = aws(world, "autoscaling", "describe-auto-scaling-groups", "--query", "AutoScalingGroups[0]")
    assert [(i["InstanceId"], i["LifecycleState"]) for i in group["Instances"]] == [(kept, "InService")]
