"""The part of slurm.conf that `preprov slurm config` writes, and its programs."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from preprov.model.errors import ConfigError
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.pools.slurm.config import fragment

BIG = Offering("g", Resources(cpu=16, memory=64, gpu=2), usd_per_hour=1.0)


def pool(name: str = "batch", **options: object) -> Pool:
    told = {"vendor": "local", "nodes": "cn[1-4]", **options}
    return Pool(name, (Group("g", "slurm", (BIG,), options=told),))


def lines(*pools: Pool, **more: float) -> list[str]:
    return fragment(pools, Path("/f"), ["preprov"], {}, **more).text.splitlines()


def test_nodes_and_partition_are_declared() -> None:
    found = lines(pool(features=["ssd", "big"], node_options="Weight=5"))
    assert "NodeName=cn[1-4] CPUs=16 RealMemory=65536 Gres=gpu:2 Feature=ssd,big State=CLOUD Weight=5" in found
    assert "PartitionName=batch Nodes=cn[1-4] MaxTime=INFINITE State=UP" in found


def test_groups_of_one_partition_share_it() -> None:
    found = lines(pool(partition="p"), pool("other", partition="p", nodes="dn[1-2]"))
    assert [x for x in found if x.startswith("PartitionName")] == [
        "PartitionName=p Nodes=cn[1-4],dn[1-2] MaxTime=INFINITE State=UP"
    ]


def test_the_resume_timeout_follows_the_slowest_way_up() -> None:
    slow = pool()
    group = replace(slow.groups[0], lead={Standby.COLD: LeadTime(100.0, 200.0)})
    assert "ResumeTimeout=460" in lines(replace(slow, groups=(group,)))
    assert "ResumeTimeout=90" in lines(slow, resume_timeout_s=90.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vendor": "slurm"}, "vendor"),
        ({"vendor": ""}, "vendor"),
        ({"nodes": "cn[1-"}, "host list"),
        ({"suspend_to": "running"}, "suspend_to"),
        ({"join": "slurmd"}, "join"),
        ({"retry_s": -1}, "retry_s"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: Mapping[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        lines(pool(**options))


def test_a_node_belongs_to_one_group() -> None:
    with pytest.raises(ConfigError, match="cn4 is in"):
        lines(pool(), pool("other", nodes="cn[4-5]"))
    with pytest.raises(ConfigError, match="no pool"):
        lines(Pool("x", (Group("g", "local", (BIG,)),)))


def test_a_program_calls_preprov_with_its_environment_and_keeps_what_it_says(tmp_path: Path) -> None:
    echo = tmp_path / "preprov"
    echo.write_text('#!/bin/sh\necho "$PREPROV_HOME: $*"\n')
    echo.chmod(0o755)
    folder = tmp_path / "with space"
    folder.mkdir()
    made = fragment([pool()], folder, [str(echo)], {"PREPROV_HOME": "/a home"})
    for name, text in made.scripts.items():
        (folder / name).write_text(text)
        os.chmod(folder / name, 0o755)
        subprocess.run([folder / name, "cn[1-2]"], env={}, check=True)
    said = (folder / "preprov-power.log").read_text()
    assert said.splitlines() == [f"/a home: slurm {verb} cn[1-2]" for verb in ("resume", "suspend", "resume-fail")]
