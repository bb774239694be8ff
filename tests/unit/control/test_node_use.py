"""Samples of machines, shown with the nodes that are on them."""

from datetime import UTC, datetime

import pytest

from preprov.control.node_use import FRESH_S, amounts, in_use
from preprov.model.agent import Usage
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.sim.facts import MemorySamples

NOW = datetime(2025, 3, 3, tzinfo=UTC).timestamp()


def node(node_id: str, address: str = "", machine: Node | None = None) -> Node:
    at = datetime.fromtimestamp(NOW - 3600, UTC)
    offering = Offering("m", Resources(cpu=4, memory=16))
    return Node(node_id, "p", "g", offering, Phase.READY, at, at, address=address, machine=machine)


@pytest.mark.parametrize(
    ("of", "host"),
    [
        (node("i-1", "10.0.0.5"), "10.0.0.5"),
        (node("cn1", "slurm:cn1"), "cn1"),
        (node("cn1.hpc.example", "slurm:cn1.hpc.example"), "cn1"),
        (node("i-1", "ip-10-0-0-5.ec2.internal"), "ip-10-0-0-5"),
        (node("worker-7", "", node("i-9", "10.0.0.9")), "10.0.0.9"),
    ],
)
def test_a_machine_is_known_by_its_nodes_name_or_address(of: Node, host: str) -> None:
    samples = MemorySamples()
    samples.append("p", [(f"node/{host}", Usage(NOW - 60 * i, cpu=float(3 - i), memory=8.0)) for i in range(3)])
    assert {k: amounts(u) for k, u in in_use(samples, [of, node("other")], NOW).items()} == {
        of.node_id: {"cpu": 3.0, "memory": 8.0}
    }


def test_what_is_old_or_of_others_is_not_told() -> None:
    samples = MemorySamples()
    samples.append("p", [("node/cn1", Usage(NOW - FRESH_S - 1, cpu=1.0)), ("node/10", Usage(NOW, cpu=1.0))])
    samples.append("p", [("node//run/agent.sock", Usage(NOW, cpu=1.0))])
    assert in_use(samples, [node("cn1"), node("i-2", "10.0.0.5"), node("n3", "unix:/run/agent.sock")], NOW) == {}
    assert in_use(samples, [], NOW) == {}
