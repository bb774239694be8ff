"""What is said of a Slurm before its nodes are touched."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from preprov.contracts import Examined
from preprov.model.offerings import LeadTime, Standby
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world

GOOD = "cloud_reg_addrs,idle_on_node_suspend,power_save_interval=1"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeSlurmWorld]:
    """A cluster that is as it should be."""
    with fake_slurm_world(tmp_path) as world:
        for name, key in (
            ("resume", "ResumeProgram"),
            ("suspend", "SuspendProgram"),
            ("resume-fail", "ResumeFailProgram"),
        ):
            file = tmp_path / name
            file.write_text(f"#!/bin/sh\nexec preprov slurm {name} $@\n")
            file.chmod(0o755)
            world.slurm.conf[key] = str(file)
        world.slurm.conf["SlurmctldParameters"] = GOOD
        yield world


def found(world: FakeSlurmWorld, state: str) -> list[str]:
    assert isinstance(world.provider, Examined)
    return [f.found for f in world.provider.examine(world.pool) if f.state == state]


def test_a_cluster_that_is_as_it_should_be(world: FakeSlurmWorld) -> None:
    assert found(world, "bad") == found(world, "warn") == []
    assert len(found(world, "ok")) == 3
    assert world.provider.other_writers(world.pool, "g") == ()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("ResumeProgram", "(null)", "ResumeProgram is not set"),
        ("SuspendProgram", "/usr/bin/gone", "is not there"),
        ("ResumeFailProgram", "/bin/sh", "does not call `preprov slurm resume-fail`"),
        ("SlurmctldParameters", "cloud_reg_addrs", "lacks idle_on_node_suspend"),
    ],
)
def test_what_slurm_would_call_wrongly_is_bad(world: FakeSlurmWorld, key: str, value: str, said: str) -> None:
    world.slurm.conf[key] = value
    (one,) = found(world, "bad")
    assert said in one


def test_a_program_on_another_host_is_left_to_it(world: FakeSlurmWorld) -> None:
    world.slurm.conf["ResumeProgram"] = "/only/on/the/controller/preprov-resume"
    assert found(world, "bad") == []


def test_nodes_that_slurm_does_not_know_or_cannot_power_are_bad(world: FakeSlurmWorld) -> None:
    del world.slurm.nodes["cn4"]
    world.slurm.nodes["cn3"].flags = set()
    said = found(world, "bad")
    assert any("knows no cn4" in s for s in said)
    assert any("cn3: no cloud nodes" in s for s in said)


def test_times_that_do_not_fit_are_said(world: FakeSlurmWorld) -> None:
    world.slurm.conf["SuspendTime"] = "NONE"
    group = replace(world.pool.groups[0], lead={Standby.COLD: LeadTime(30.0, 90.0)})
    world.pool = replace(world.pool, groups=(group,))
    assert any("powers no node down" in s for s in found(world, "warn"))
    assert any("ResumeTimeout is 60 s" in s for s in found(world, "warn"))


def test_a_slurm_that_does_not_answer_is_a_finding(world: FakeSlurmWorld) -> None:
    world.slurm.answers = 0
    (one,) = found(world, "bad")
    assert "Unable to contact slurm controller" in one
