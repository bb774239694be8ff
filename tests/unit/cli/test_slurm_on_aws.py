"""What Slurm calls, with AWS behind it: the real SDK at a fake account, and a Slurm that behaves behind its commands.

Slurm learns a node's address as it registers (`cloud_reg_addrs`): nobody tells it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from preprov.clocks import WallClock
from preprov.model.nodes import Phase
from preprov.model.notes import SLURM_NODE
from preprov.model.offerings import Standby
from preprov.pools.slurm import machines
from preprov.pools.slurm.marks import Marks
from preprov.slurm import commands
from preprov.testing.fake_aws_nodes import FakeNode, Times
from preprov.testing.fake_slurm import FakeSlurm
from preprov.testing.waiting import wait_until
from tests.awsworld import AwsWorld, aws_world
from tests.unit.cli.conftest import Result

CONFIG = """
[[pool]]
name = "batch"
mode = "full"
[[pool.group]]
name = "g"
provider = "slurm"
states = ["running", "hibernated", "stopped"]
max_nodes = 4
[pool.group.options]
vendor = "aws"
nodes = "cn[1-4]"
suspend_to = "stopped"
region = "us-east-1"
endpoint_url = "{url}"
launch_template = "nodes"
[[pool.group.offering]]
type = "m5.large"
zone = "us-east-1a"
cpu = 2
memory = 8
"""


class Cloud:
    """Both of them. The image of the machines starts slurmd, which asks the machine's tags for its name."""

    def __init__(self, aws: AwsWorld, slurm: FakeSlurm, call: Callable[..., Result]) -> None:
        self.aws, self.slurm, self._call = aws, slurm, call
        self.deaf: set[str] = set()

    def run(self, argv: Sequence[str], stdin: str | None = None) -> str:
        """Slurm's commands."""
        for name, machine in self.machines().items():
            if machine.ready_at is not None and machine.state == "running" and name not in self.deaf:
                self.slurm.register(name)
        return self.slurm.run(argv, stdin)

    def machines(self) -> dict[str, FakeNode]:
        """Node -> its machine, of those that are paid for."""
        with self.aws.cloud.acting():
            alive = [n for n in self.aws.cloud.nodes.values() if n.state not in ("shutting-down", "terminated")]
            assert max(Counter(n.tags[SLURM_NODE] for n in alive).values(), default=1) == 1
            return {n.tags[SLURM_NODE]: n for n in alive}

    def calls(self, verb: str, hosts: str) -> dict[str, str]:
        """As slurmctld calls a program; node -> state."""
        done = self._call("slurm", verb, hosts, "-o", "json")
        told = {n["node"]: n["state"] for n in done.json["nodes"]}
        assert done.code == int("failed" in told.values()), done.err
        return told

    def power(self, name: str, state: str) -> None:
        """Slurm decides so."""
        node = self.slurm.nodes[name]
        if state == "down":
            node.flags = {"CLOUD", "POWERED_DOWN"}
        else:
            self.slurm._to(node, state)

    def is_up(self, name: str) -> bool:
        return not self.slurm.nodes[name].flags & {"POWERED_DOWN", "POWERING_UP"}

    def wants(self, name: str, to: Standby) -> None:
        """preprov has marked what is to become of it."""
        node = self.slurm.nodes[name]
        node.extra = replace(Marks.read(node.extra), to=to).write()

    def writes(self) -> Counter[str]:
        """What was asked of EC2 that changes anything."""
        asked = ("CreateFleet", "StartInstances", "StopInstances", "TerminateInstances")
        return Counter(c.action for c in self.aws.cloud.calls if c.action in asked)


@pytest.fixture
def cloud(preprov: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with aws_world(monkeypatch, clock=WallClock()) as aws:
        aws.cloud.times = Times(pending=0.2, boot=0.2, stage=0.2, wake=0.1, stop=0.1)
        (tmp_path / "preprov.toml").write_text(CONFIG.format(url=aws.cloud.url))
        monkeypatch.setenv("PREPROV_HOME", str(tmp_path / "home"))
        made = Cloud(aws, FakeSlurm([f"cn{i}" for i in range(1, 5)], tmp_path), preprov)
        monkeypatch.setattr(commands, "run_command", lambda conf=None: made.run)
        monkeypatch.setattr(machines, "_LEAVE_S", 0.1)
        yield made


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_machines_come_sleep_wake_and_end_by_the_names_that_slurm_gives_them(cloud: Cloud) -> None:
    for name in ("cn1", "cn2"):
        cloud.power(name, "power_up")
    for _ in range(2):
        assert cloud.calls("resume", "cn[1-2]") == {"cn1": "done", "cn2": "done"}
        assert cloud.writes() == {"CreateFleet": 2}, "called again, it makes no more"
    assert cloud.is_up("cn1")
    assert cloud.is_up("cn2")
    ids = {name: m.node_id for name, m in cloud.machines().items()}

    cloud.slurm.add(state="RUNNING", node="cn1", wanted="cn1", start=cloud.slurm.now())
    for name in ("cn1", "cn2"):
        cloud.power(name, "down")
    for _ in range(2):
        assert cloud.calls("suspend", "cn[1-2]") == {"cn1": "failed", "cn2": "done"}, "a job runs on the first"
        assert cloud.writes()["StopInstances"] == 1
    assert cloud.machines()["cn1"].state == "running"
    wait_until(lambda: cloud.aws.phase(ids["cn2"]) is Phase.STOPPED, what="it to be stopped, as is configured")

    cloud.power("cn2", "power_up")
    assert cloud.calls("resume", "cn2") == {"cn2": "done"}
    assert cloud.is_up("cn2")
    assert {name: m.node_id for name, m in cloud.machines().items()} == ids, "the same one wakes"

    cloud.power("cn2", "down")
    cloud.machines()["cn2"].run("somebody/t#0", cloud.aws.cloud.now)
    assert cloud.calls("suspend", "cn2") == {"cn2": "failed"}, "Slurm knows of no job, but its agent of a task"
    assert cloud.machines()["cn2"].state == "running"

    cloud.machines()["cn2"].tasks.clear()
    cloud.wants("cn2", Standby.HIBERNATED)
    assert cloud.calls("suspend", "cn2") == {"cn2": "done"}
    wait_until(lambda: cloud.aws.phase(ids["cn2"]) is Phase.HIBERNATED, what="it to be hibernated, as preprov chose")

    cloud.slurm.jobs.clear()
    cloud.wants("cn1", Standby.COLD)
    for _ in range(2):
        assert cloud.calls("suspend", "cn1") == {"cn1": "done"}
        assert set(cloud.machines()) == {"cn2"}
    assert cloud.writes()["TerminateInstances"] == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_machine_that_never_registers_is_ended_and_the_next_is_another(cloud: Cloud) -> None:
    cloud.deaf.add("cn3")
    cloud.slurm.config_more["ResumeTimeout"] = "5 sec"
    cloud.power("cn3", "power_up")
    assert cloud.calls("resume", "cn3") == {"cn3": "failed"}
    (machine,) = cloud.machines().values()
    cloud.power("cn3", "down")
    cloud.slurm.nodes["cn3"].state = "DOWN"  # as Slurm does after ResumeTimeout
    assert cloud.calls("resume-fail", "cn3") == {"cn3": "done"}
    assert cloud.machines() == {}
    assert cloud.slurm.nodes["cn3"].state == "IDLE"
    assert cloud.calls("resume-fail", "cn3") == {"cn3": "failed"}, "there is nothing to clear up"
    assert cloud.writes()["TerminateInstances"] == 1

    cloud.deaf.clear()
    cloud.slurm.config_more["ResumeTimeout"] = "60 sec"
    cloud.power("cn3", "power_up")
    assert cloud.calls("resume", "cn3") == {"cn3": "done"}
    assert cloud.machines()["cn3"].node_id != machine.node_id


@pytest.mark.slow
def test_what_ec2_refuses_slurm_is_told(cloud: Cloud) -> None:
    cloud.aws.exhausted()
    cloud.power("cn4", "power_up")
    assert cloud.calls("resume", "cn4") == {"cn4": "failed"}
    assert cloud.slurm.nodes["cn4"].state == "DOWN"
    assert "InsufficientCapacityError" in cloud.slurm.nodes["cn4"].reason
    assert cloud.machines() == {}
