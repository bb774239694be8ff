"""What a running task is seen to use beyond cores and memory, and what is absent where nobody may see it."""

import os
import sys
import time
from pathlib import Path

import pytest

from preprov.agent import counters, limits, proc
from preprov.agent.counters import Counters
from preprov.model.agent import Usage
from preprov.model.nodes import Node
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld

READS = """
import pathlib, time
pathlib.Path("some").write_bytes(b"x" * 4096)
while not pathlib.Path("end").exists():
    for _ in range(50):
        pathlib.Path("some").read_bytes()
    time.sleep(0.01)
"""
SENDS = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(b"x" * 1000, ("10.99.0.2", 9))
    time.sleep(0.005)
"""
APART = """ip link add d0 type veth peer name d1 && ip addr add 10.99.0.1/24 dev d0 && ip link set d0 up &&
ip link set d1 up && ip neigh add 10.99.0.2 lladdr 02:00:00:00:00:01 dev d0 && exec "$@" """


def seen(world: LocalWorld, node: Node, claimant: str) -> list[Usage]:
    """Samples so far; asking again gives only newer ones."""
    return [u for r in world.scheduler.poll([node]) if r.claimant == claimant for u in r.usage]


def test_calls_and_faults_of_a_task_are_counted_and_other_networks_are_not_its_own(
    world: LocalWorld, node: Node
) -> None:
    claimant = world.run(node, [sys.executable, "-c", READS])
    told: list[Usage] = []

    def enough() -> bool:
        told.extend(seen(world, node, claimant))
        return len(told) >= 3

    wait_until(enough, what="samples")
    (world.task_folder(node, claimant) / "work" / "end").touch()
    reading = told[1:]
    assert all(u.read_ops is not None and u.read_ops > 100 for u in reading)
    assert all(u.write_ops is not None and u.write_ops < u.read_ops for u in reading)  # type: ignore[operator]
    assert all(u.page_faults is not None and u.page_faults >= 0 for u in told)
    assert all(u.network is None for u in told), "the node's own network says nothing of one task"
    if "rlimit" in (world.folder(node) / "limits.json").read_text():
        assert all(u.working_set is None for u in told)
    else:
        assert all(u.working_set is not None and 0 < u.working_set < 1 for u in told)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a task a network of its own")
def test_a_task_in_a_network_of_its_own_is_seen_to_send(world: LocalWorld, node: Node) -> None:
    claimant = world.run(node, ["unshare", "-n", "sh", "-c", APART, "sh", sys.executable, "-c", SENDS])
    told: list[Usage] = []

    def sending() -> bool:
        told.extend(seen(world, node, claimant))
        return any(u.network is not None and u.network > 0.01 for u in told)

    wait_until(sending, what="it to be seen sending")
    world.scheduler.cancel(claimant, node)
    known = [u.network for u in told if u.network is not None]
    assert max(known) < 1, "200 packets of a kilobyte a second, out of one end and into the other"


def test_a_network_that_two_tasks_share_is_of_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {"self": 1, 10: 1, 20: 2, 21: 3, 30: 4, 31: 4, 40: 5, 50: 5, 60: None}
    monkeypatch.setattr(proc, "network_of", inside.__getitem__)
    tasks = {"ours": [10], "two": [20, 21], "one": [30, 31], "a": [40], "b": [50], "unseen": [60], "half": [10, 20]}
    alone = {c: p for c, p in tasks.items() if c != "half"}
    assert counters.own_networks(alone) == {"two": {2: 20, 3: 21}, "one": {4: 31}}
    assert counters.own_networks(tasks) == {"one": {4: 31}}


def test_what_is_not_counted_is_no_zero() -> None:
    before = Counters(cpu_s=1.0, io_bytes=None, network_bytes=5, networks=(1,))
    now = Counters(cpu_s=3.0, io_bytes=9, reads=4, disk_ops=None, network_bytes=9, networks=(2,))
    rates = [now.rate(n, before, 2.0) for n in ("cpu_s", "io_bytes", "reads", "disk_ops", "network_bytes")]
    assert rates == [1.0, None, 2.0, None, None]
    assert Counters.of(now.as_dict()) == now
    assert Counters.of({"cpu_s": 2.0, "io_bytes": 7}) == Counters(2.0, 7, None, None, None, None)


def test_both_versions_of_cgroups_are_read(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    assert (limits.page_faults([one]), limits.disk_operations([one])) == (None, None)
    (one / "memory.stat").write_text("pgmajfault 3\ninactive_file 4096\ntotal_pgmajfault 5\n")
    (two / "memory.stat").write_text("anon 8192\npgmajfault 7\n")
    (two / "io.stat").write_text("8:0 rbytes=4096 wbytes=0 rios=3 wios=4 dbytes=0 dios=9\n8:16 rios=1 wios=x\n\n")
    assert [limits.page_faults([g]) for g in (one, two)] == [5, 7]
    assert [limits.disk_operations([g]) for g in (one, two)] == [None, 8]


def test_a_process_that_is_gone_or_hidden_tells_nothing() -> None:
    gone = 2**22 + 1
    assert (proc.io(gone), proc.network_bytes(gone), proc.network_of(gone)) == (None, None, None)
    assert proc.io(os.getpid()) is not None
    assert proc.network_bytes(os.getpid()) is not None
    begun = time.monotonic()
    assert proc.network_of(os.getpid()) == proc.network_of("self")
    assert time.monotonic() - begun < 1
