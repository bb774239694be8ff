"""image bake, list, rollout, prune: what they print, and with which code they end."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from preprov.control.baking import bake
from preprov.model.offerings import Preload
from tests.clouds import DATASET, Cloud, cloud_of

pytestmark = pytest.mark.slow
SCHEMAS = Path(__file__).parents[3] / "docs" / "reference" / "schemas"
POOL = """
[[pool]]
name = "night"

  [pool.preload]
  datasets = [{{ uri = "{uri}", version = "{version}", sha256 = "{sha}" }}]

  [[pool.group]]
  name = "vms"
  provider = "gcp"
  options = {{ project = "acme", zone = "europe-west1-b", mig = "nodes", endpoint_url = "{url}" }}

    [[pool.group.offering]]
    type = "n2-standard-4"
    cpu = 4
    memory = 16
"""


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """With an image of what the pool preloads."""
    with cloud_of("gcp", monkeypatch, preload=Preload(datasets=(DATASET,))) as made:
        bake(made.context(), made.pool, made.pool.groups[0], say=str)
        yield made


def configure(cloud: Cloud, version: str) -> None:
    text = POOL.format(uri=DATASET.uri, version=version, sha=DATASET.sha256, url=cloud.world.fake.url)
    Path("preprov.toml").write_text(text)


def valid(result):
    """The document, checked against the published schema of its command."""
    assert result.code == 0, result.err
    schema = json.loads((SCHEMAS / f"{result.json['command'].replace(' ', '-')}.json").read_text())
    jsonschema.validate(result.json, schema)
    return result.json


def test_from_an_image_that_is_there_to_its_end(preprov, cloud):
    configure(cloud, DATASET.version)
    listed = valid(preprov("image", "list", "night", "-o", "json"))
    (image,) = listed["groups"][0]["images"]
    assert (image["state"], image["present"], image["used_by"]) == ("ready", True, [])
    assert preprov("image", "bake", "night").code == 2, "it wants a yes"
    baked = valid(preprov("image", "bake", "night", "--rollout", "--yes", "-o", "json"))["groups"][0]
    assert (baked["made"], baked["image"]["image_id"]) == (False, image["image_id"])
    assert image["image_id"] in baked["changed"][0]
    assert valid(preprov("image", "rollout", "night", "--yes", "-o", "json"))["groups"][0]["changed"] == []
    assert "template of nodes" in preprov("image", "list", "night").out
    stays = valid(preprov("image", "prune", "night", "--keep", "0", "--yes", "-o", "json"))["groups"][0]
    assert (stays["deleted"], stays["kept"][0]["why"]) == ([], "used by template of nodes")


def test_an_image_of_an_earlier_preload_is_not_rolled_out_unless_it_is_named(preprov, cloud):
    configure(cloud, "v9")
    (image,) = valid(preprov("image", "list", "night", "-o", "json"))["groups"][0]["images"]
    assert image["present"] is False
    refused = preprov("image", "rollout", "night", "--yes")
    assert refused.code == 1
    assert "preprov image bake" in refused.err
    gone = valid(preprov("image", "prune", "night", "--keep", "0", "--dry-run", "-o", "json"))["groups"][0]
    assert [i["image_id"] for i in gone["deleted"]] == [image["image_id"]]
    named = preprov("image", "rollout", "night", "--image", image["image_id"], "--yes")
    assert image["image_id"] in named.out
    nobody = replace(cloud.pool, name="x")
    assert nobody.preload.digest == image["digest"]
