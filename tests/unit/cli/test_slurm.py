"""What Slurm calls, and the configuration for it, on the command line."""

import os
import tomllib

import pytest

from tests.unit.cli.test_commands import valid

CONFIG = """
[[pool]]
name = "batch"
mode = "full"
[[pool.group]]
name = "cloud"
provider = "slurm"
max_nodes = 4
[pool.group.options]
vendor = "local"
nodes = "cn[1-4]"
conf = "/nowhere/slurm.conf"
[[pool.group.offering]]
type = "m"
cpu = 2
memory = 4
"""


@pytest.fixture
def configured(preprov, tmp_path, monkeypatch):
    """A cluster whose commands are not on the PATH."""
    (tmp_path / "preprov.toml").write_text(CONFIG)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return preprov


def test_the_configuration_is_shown_or_written_with_its_programs(configured, tmp_path):
    shown = configured("slurm", "config", "--suspend-time", "77")
    assert shown.code == 0, shown.err
    assert "SuspendTime=77" in shown.out
    assert "cloud_reg_addrs" in shown.err
    done = configured("slurm", "config", "--write", tmp_path / "s", "-o", "json")
    valid(done.json)
    for name in ("preprov-resume", "preprov-suspend", "preprov-resume-fail"):
        file = tmp_path / "s" / name
        assert os.access(file, os.X_OK)
        assert str(file) in done.json["written"]
        assert f"={file}\n" in done.json["fragment"]


@pytest.mark.parametrize("verb", ["resume", "suspend", "resume-fail"])
def test_a_program_says_what_became_of_each_node_and_ends_with_1_if_one_failed(configured, verb):
    done = configured("slurm", verb, "other[1-2]", "-o", "json")
    assert done.code == 1
    valid(done.json)
    assert {n["node"]: n["state"] for n in done.json["nodes"]} == {"other1": "failed", "other2": "failed"}


def test_a_list_that_is_none_is_wrong_usage(configured):
    done = configured("slurm", "resume", "cn[1-")
    assert done.code == 2
    assert "host list" in done.err


def test_a_cluster_is_added_as_a_source_and_what_is_missing_said(configured, tmp_path):
    done = configured("source", "add", "cluster", "slurm", "pool=batch", 'crontab=["jobs"]', "--no-test")
    assert done.code == 0, done.err
    assert tomllib.loads((tmp_path / "preprov.toml").read_text())["source"] == [
        {"name": "cluster", "kind": "slurm", "pool": "batch", "crontab": ["jobs"]}
    ]
    done = configured("source", "test", "cluster")
    assert done.code == 1
    assert "not on the PATH" in " ".join(done.out.split())
