"""One preload becomes user data for each cloud: within its limits, clean to shellcheck, without secrets."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.errors import ConfigError
from preprov.model.offerings import Offering, Preload
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, ImageRef
from preprov.pools.nodes.package import Package, agent_package
from preprov.pools.nodes.userdata import LIMITS, Source, UserData, user_data

PACKAGE = agent_package()
URL = Source("url", "s3://bucket/preprov agent.tar.xz", PACKAGE.sha256)
PRELOAD = Preload(
    images=(ImageRef("docker://registry/etl", "sha256:" + "1" * 64),),
    datasets=(DatasetRef("s3://data/a.csv", "v1", "0" * 64),),
    packages=("jq",),
    commands=("echo 'it'\"'\"'s' > /tmp/said; echo $HOME",),
    join=("systemctl start slurmd",),
    min_read_mb_s=50,
)


def pool(preload: Preload = PRELOAD) -> Pool:
    return Pool("night", (Group("g", "aws", (Offering("m", Resources(cpu=1)),)),), preload=preload)


def made(cloud: str, source: Source = URL, preload: Preload = PRELOAD) -> UserData:
    return user_data(pool(preload), cloud, PACKAGE, source)


def settings_in(script: str, end: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(script.split(f"<<'{end}'\n")[1].split(f"\n{end}\n")[0])
    return found


@pytest.mark.parametrize("cloud", LIMITS)
@pytest.mark.parametrize("how", ["embedded", "url", "installed"])
def test_it_fits_and_shellcheck_finds_nothing(cloud: str, how: str, tmp_path: Path) -> None:
    source = URL if how == "url" else Source(how)  # type: ignore[arg-type]
    if cloud == "aws" and how == "embedded":
        with pytest.raises(ConfigError, match="aws takes 16384") as e:
            made(cloud, source)
        assert "preprov node package" in e.value.hint
        return
    data = made(cloud, source)
    assert len(data.content) <= LIMITS[cloud]
    assert (gzip.decompress(data.content) if data.compressed else data.content).decode() == data.script
    script = tmp_path / "script.sh"
    script.write_text(data.script)
    checked = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "-s", "sh", "-o", "all", "-e", "SC2250,SC2310,SC2312", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_it_says_what_the_node_is_to_hold() -> None:
    data = made("gcp")
    settings, spec = settings_in(data.script, "SETTINGS"), settings_in(data.script, "SPEC")
    assert settings["cloud"] == "gcp"
    assert settings["preload"] == {
        "images": [{"key": "sha256:" + "1" * 64, "uri": "docker://registry/etl", "digest": "sha256:" + "1" * 64}],
        "datasets": [{"key": "s3://data/a.csv@v1", "uri": "s3://data/a.csv", "sha256": "0" * 64}],
        "min_read_mb_s": 50,
    }
    assert spec == {"packages": ["jq"], "commands": list(PRELOAD.commands)}
    assert settings["join"] == [["sh", "-e", "-c", "systemctl start slurmd"]]
    assert "user=root" in data.script
    assert "user=preprov" in made("gcp", preload=replace(PRELOAD, join=())).script


def test_a_node_says_that_it_is_alive_well_before_it_would_count_as_lost() -> None:
    beats = user_data(replace(pool(), node_ttl_s=300), "gcp", PACKAGE, URL)
    assert settings_in(beats.script, "SETTINGS")["heartbeat_s"] == 100


def test_long_scripts_are_compressed_and_too_long_ones_refused() -> None:
    long = replace(
        PRELOAD, commands=tuple(f"echo {i:06d} and much more of the same, again and again" for i in range(400))
    )
    data = made("aws", preload=long)
    assert data.compressed
    assert len(data.script) > LIMITS["aws"] >= len(data.content)
    random = replace(PRELOAD, commands=tuple(os.urandom(64).hex() for _ in range(800)))
    with pytest.raises(ConfigError, match="would be"):
        made("aws", preload=random)


@pytest.mark.parametrize(
    "command",
    [
        "curl -u me:x https://h?token=abcdef0123456789",
        "export AWS_ACCESS_KEY_ID=AKIAABCDEFGHIJKLMNOP",
        "mysql --password=hunter22",
        "cat <<E\n-----BEGIN PRIVATE KEY-----",
    ],
)
def test_secrets_are_refused(command: str) -> None:
    with pytest.raises(ConfigError, match="secret"):
        made("gcp", preload=replace(PRELOAD, commands=(command,)))


@pytest.mark.parametrize("uri", ["/data/a", "data/a", "file:///data/a"])
def test_what_only_this_machine_has_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="on this machine"):
        made("gcp", preload=Preload(datasets=(DatasetRef(uri),)))


@given(st.lists(st.text(min_size=1), max_size=4))
def test_any_text_arrives_as_it_was_written(commands: list[str]) -> None:
    data = user_data(pool(Preload(commands=tuple(commands))), "gcp", Package(b"x"), Source("installed"))
    assert settings_in(data.script, "SPEC")["commands"] == commands


# ---- the agent's archive


def test_the_archive_is_the_same_each_time_and_runs_without_anything_else(tmp_path: Path) -> None:
    assert agent_package() == PACKAGE
    with tarfile.open(fileobj=io.BytesIO(PACKAGE.content)) as tar:
        tar.extractall(tmp_path, filter="data")
    command = [sys.executable, "-S", "-P", "-m", "preprov.agent"]
    env = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    asked = subprocess.run([*command, "limits"], env=env, capture_output=True, text=True, check=True)
    assert json.loads(asked.stdout)["kind"] in ("cgroup1", "cgroup2", "rlimit")
    wrong = subprocess.run(
        [*command, "cloud", str(tmp_path / "no.json")], env=env, capture_output=True, text=True, check=False
    )
    assert (wrong.returncode, "no.json" in wrong.stderr) == (2, True)
