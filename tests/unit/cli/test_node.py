"""How a machine becomes a node, from the command line."""

import gzip
import hashlib
import json

from tests.unit.cli.test_commands import valid

TOML = """
[[pool]]
name = "night"
[pool.preload]
packages = ["jq"]
commands = [{commands}]
[[pool.group]]
name = "vms"
provider = "{provider}"
options = {{ region = "r", asg = "nodes" }}
[[pool.group.offering]]
type = "m5.large"
cpu = 2
memory = 8
"""


def configure(tmp_path, provider="aws", commands=()):
    (tmp_path / "preprov.toml").write_text(
        TOML.format(provider=provider, commands=", ".join(map(json.dumps, commands)))
    )


def test_user_data_of_a_pool(preprov, tmp_path):
    configure(tmp_path)
    made = preprov("node", "user-data", "night", "--agent-url", "s3://b/agent.tar.xz", "-o", "json")
    document = valid(made.json)
    assert (document["cloud"], document["limit"], document["compressed"]) == ("aws", 16384, False)
    assert document["agent_sha256"] in document["script"]
    plain = preprov("node", "user-data", "night", "--agent-url", "s3://b/agent.tar.xz")
    assert plain.out == document["script"]


def test_what_is_written_is_what_the_cloud_is_given(preprov, tmp_path):
    configure(tmp_path, commands=[f"echo {i:05d} and so on, and so on" for i in range(600)])
    made = preprov("node", "user-data", "night", "--installed", "--file", "out", "-o", "json")
    document = valid(made.json)
    assert document["compressed"]
    assert gzip.decompress((tmp_path / "out").read_bytes()).decode() == document["script"]


def test_the_agents_archive_is_named_by_its_digest(preprov, tmp_path):
    document = valid(preprov("node", "package", "agent.tar.xz", "-o", "json").json)
    assert hashlib.sha256((tmp_path / "agent.tar.xz").read_bytes()).hexdigest() == document["sha256"]
    assert preprov("node", "package", "agent.tar.xz").out.split()[0] == document["sha256"]


def test_a_pool_without_a_cloud_is_told(preprov, tmp_path):
    configure(tmp_path, provider="local")
    made = preprov("node", "user-data", "night")
    assert made.code == 2
    assert "--cloud aws | gcp | azure" in made.err


def test_an_agent_that_does_not_fit_is_told(preprov, tmp_path):
    configure(tmp_path)
    made = preprov("node", "user-data", "night")
    assert made.code == 2
    assert "--agent-url" in made.err
