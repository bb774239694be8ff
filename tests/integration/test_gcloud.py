"""gcloud itself against the fake Compute Engine: what it finds and does there is what the provider sees."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.contracts import LaunchRequest
from preprov.model.nodes import Phase
from preprov.model.offerings import Preload
from tests.gcpworld import GcpWorld, gcp_world

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not on this machine"),
]


@pytest.fixture
def world() -> Iterator[GcpWorld]:
    with gcp_world() as made:
        yield made


def gcloud(world: GcpWorld, home: Path, *args: str) -> object:
    settings = {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{world.fake.url}/compute/v1/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_CONFIG": str(home),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_CORE_PROJECT": world.fake.project,
    }
    command = ["gcloud", "compute", "instance-groups", "managed", *args, "--zone", world.fake.zone, "--format", "json"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_gcloud_and_the_provider_see_the_same(world: GcpWorld, tmp_path: Path) -> None:
    offering = world.pool.groups[0].offerings[0]
    ids = world.provider.launch(LaunchRequest(world.pool, "vms", offering, 2, "t1", Preload()))
    world.until(lambda: {n.phase for n in world.nodes().values()} == {Phase.READY}, "nodes")
    listed = gcloud(world, tmp_path, "list-instances", "nodes")
    assert isinstance(listed, list)
    assert sorted(i["name"] for i in listed) == sorted(ids)
    gcloud(world, tmp_path, "suspend-instances", "nodes", "--instances", ids[0])
    world.until(lambda: world.nodes()[ids[0]].phase is Phase.HIBERNATED, "the node to sleep")
    found = gcloud(world, tmp_path, "describe", "nodes")
    assert isinstance(found, dict)
    assert (found["targetSize"], found["targetSuspendedSize"]) == (1, 1)
