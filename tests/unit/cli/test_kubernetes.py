"""What has to be in a cluster before is printed; nothing is asked of it."""

import json

import pytest

from tests.unit.cli.test_commands import valid

GROUP = """
[[pool]]
name = "{name}"
[[pool.group]]
name = "g"
provider = "kubernetes"
offering = [{{ type = "m", cpu = 4, memory = 16 }}]
[pool.group.options]
node_selector = {{ pool = "{name}" }}
"""


@pytest.fixture
def configured(preprov, tmp_path):
    (tmp_path / "preprov.toml").write_text(GROUP.format(name="batch") + GROUP.format(name="other"))
    return preprov


def test_what_has_to_be_there_before_is_a_list_for_kubectl(configured):
    done = configured("kubernetes", "manifests", "--account", "keeper")
    assert done.code == 0, done.err
    listed = json.loads(done.out)
    kinds = [i["kind"] for i in listed["items"]]
    assert sorted(kinds) == sorted(set(kinds)), "two groups of one namespace need each thing once"
    assert {"Role", "ClusterRole", "PriorityClass"} <= set(kinds)
    assert {i["metadata"]["name"] for i in listed["items"] if "Role" in i["kind"]} == {"keeper"}
    (unit,) = json.loads(configured("kubernetes", "manifests", "--pool", "other", "--unit").out)["items"]
    assert unit["spec"]["template"]["spec"]["nodeSelector"]["pool"] == "other"


def test_as_a_document(configured):
    done = configured("kubernetes", "manifests", "-o", "json")
    valid(done.json)
    assert [g["pool"] for g in done.json["groups"]] == ["batch", "other"]


def test_a_wrong_option_is_named(configured, tmp_path):
    (tmp_path / "preprov.toml").write_text(GROUP.format(name="batch").replace("node_selector", "selector"))
    done = configured("kubernetes", "manifests")
    assert done.code != 0
    assert "there is no option 'selector'" in done.err
