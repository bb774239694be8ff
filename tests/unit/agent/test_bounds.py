"""What a running task is limited to: on real nodes with cgroups, and on folders that look like version 2."""

import sys
from pathlib import Path

import pytest

from preprov.agent import bounds
from preprov.contracts import ResourceAdjuster, TaskReport
from preprov.model.errors import NotFoundError, RefusedError
from preprov.model.nodes import Node
from preprov.model.resources import Resources
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld

MIB = 1 / 1024

GROWS = """
import pathlib, signal, sys, time
size, block = int(sys.argv[1]), []
pathlib.Path("began").touch()
while not pathlib.Path("grow").exists():
    time.sleep(0.01)
for i in range(size):
    block.append(b"x" * (1 << 20))
pathlib.Path("grown").touch()
while not pathlib.Path("end").exists():
    time.sleep(0.01)
"""
KEEPS = """
import pathlib, signal, sys, time
def keep(*_):
    with open("kept", "a") as f:
        f.write("so far ")
signal.signal(signal.SIGUSR2, keep)
pathlib.Path("began").touch()
while not (pathlib.Path("kept").exists() and pathlib.Path("end").exists()):
    time.sleep(0.01)
sys.exit(75)
"""


def report(world: LocalWorld, node: Node, claimant: str) -> TaskReport:
    (found,) = [r for r in world.scheduler.poll([node]) if r.claimant == claimant]
    return found


@pytest.fixture
def limited(world: LocalWorld, node: Node) -> LocalWorld:
    """Skipped where a node has no cgroups of its own."""
    if "rlimit" in (world.folder(node) / "limits.json").read_text():
        pytest.skip("cgroups cannot be written here")
    return world


def begun(world: LocalWorld, node: Node, script: str, *arguments: str) -> tuple[str, Path]:
    claimant = world.run(node, [sys.executable, "-c", script, *arguments])
    work = world.task_folder(node, claimant) / "work"
    wait_until(lambda: (work / "began").exists(), what="the task to begin")
    return claimant, work


def test_a_task_that_wants_more_waits_for_it_and_is_not_killed(limited: LocalWorld, node: Node) -> None:
    claimant, work = begun(limited, node, GROWS, "64")
    told = limited.scheduler.resize(claimant, node, Resources(cpu=0.5, memory=48 * MIB), 60)
    assert told.memory == pytest.approx(48 * MIB, rel=0.01)
    (work / "grow").touch()
    wait_until(lambda: (b := report(limited, node, claimant).bounds) is not None and b.stalled, what="it to stall")
    stalled = report(limited, node, claimant).bounds
    assert stalled is not None
    assert stalled.cpu == pytest.approx(0.5)
    assert stalled.working_set == pytest.approx(48 * MIB, rel=0.1)
    assert set(stalled.can) == {"cpu", "memory"}
    assert not (work / "grown").exists()
    limited.scheduler.resize(claimant, node, Resources(cpu=0.5, memory=256 * MIB), 60)
    wait_until(lambda: (work / "grown").exists(), what="it to go on")
    (work / "end").touch()
    wait_until(lambda: report(limited, node, claimant).ended_at is not None, what="it to end")
    assert report(limited, node, claimant).exit_code == 0


def test_memory_is_never_cut_under_what_is_in_use(limited: LocalWorld, node: Node) -> None:
    claimant, work = begun(limited, node, GROWS, "64")
    (work / "grow").touch()
    wait_until(lambda: (work / "grown").exists(), what="it to have grown")
    told = limited.scheduler.resize(claimant, node, Resources(cpu=1, memory=16 * MIB), 60)
    assert told.memory >= 64 * MIB
    again = report(limited, node, claimant)
    assert again.ended_at is None
    assert again.bounds is not None
    assert not again.bounds.stalled


def test_limits_are_lifted_when_asked_and_when_nobody_renews_them(limited: LocalWorld, node: Node) -> None:
    claimant, _ = begun(limited, node, KEEPS)
    limited.scheduler.resize(claimant, node, Resources(cpu=1, memory=64 * MIB), 60)
    limited.scheduler.lift(claimant, node)
    bounds_ = report(limited, node, claimant).bounds
    assert bounds_ is not None
    assert (bounds_.cpu, bounds_.memory) == (None, None)
    limited.scheduler.resize(claimant, node, Resources(cpu=1, memory=64 * MIB), 0.001)
    wait_until(lambda: (b := report(limited, node, claimant).bounds) is not None and b.cpu is None, what="the lease")


def test_what_is_not_asked_for_is_not_limited(limited: LocalWorld, node: Node) -> None:
    claimant, _ = begun(limited, node, KEEPS)
    limited.scheduler.resize(claimant, node, Resources(cpu=1), 60)
    told = report(limited, node, claimant).bounds
    assert told is not None
    assert (told.cpu, told.memory) == (1.0, None)


def test_a_task_keeps_what_it_has_done_and_ends(world: LocalWorld, node: Node) -> None:
    claimant, work = begun(world, node, KEEPS)
    world.scheduler.checkpoint(claimant, node, "SIGUSR2", 60)
    world.scheduler.checkpoint(claimant, node, "SIGUSR2", 60)
    (work / "end").touch()
    wait_until(lambda: report(world, node, claimant).ended_at is not None, what="it to end")
    assert (work / "kept").read_text() == "so far ", "it is told once"
    assert report(world, node, claimant).exit_code == 75


def test_one_that_does_not_listen_is_ended_after_the_grace(world: LocalWorld, node: Node) -> None:
    claimant, _ = begun(world, node, KEEPS)
    world.scheduler.checkpoint(claimant, node, "SIGWINCH", 0.01)
    wait_until(lambda: report(world, node, claimant).ended_at is not None, what="it to end")
    assert report(world, node, claimant).exit_code == -9


def test_what_cannot_be_done_is_refused(home: Path) -> None:
    world = LocalWorld(home, sample_s=0.1, limits="rlimit")
    (node,) = world.ready()
    assert isinstance(world.scheduler, ResourceAdjuster)
    claimant, _ = begun(world, node, KEEPS)
    with pytest.raises(RefusedError, match="cgroups"):
        world.scheduler.resize(claimant, node, Resources(cpu=1, memory=1), 60)
    world.scheduler.lift(claimant, node)
    told = report(world, node, claimant).bounds
    assert told is not None
    assert told.can == ()
    with pytest.raises(RefusedError, match="time limit"):
        world.scheduler.extend(claimant, node, 60)
    with pytest.raises(NotFoundError):
        world.scheduler.checkpoint("nobody/t#0", node, "SIGUSR2", 1)


def test_an_absent_task_is_not_found(limited: LocalWorld, node: Node) -> None:
    with pytest.raises(NotFoundError):
        limited.scheduler.resize("nobody/t#0", node, Resources(cpu=1, memory=1), 60)
    limited.scheduler.lift("nobody/t#0", node)


# ---- version 2, on plain files: no kernel behind them


def group2(folder: Path, **files: str) -> list[Path]:
    """A cgroup of version 2 as its files show it."""
    told = {
        "cpu.max": "max 100000",
        "cpu.stat": "usage_usec 5000000\nnr_throttled 3\nthrottled_usec 250000",
        "memory.current": str(300 << 20),
        "memory.high": "max",
        "memory.max": "max",
        "memory.stat": f"anon {200 << 20}\ninactive_file {60 << 20}",
        "memory.pressure": "some avg10=0.00 avg60=0.00 total=0\nfull avg10=0.00 avg60=0.00 total=0",
    }
    for name, text in {**told, **files}.items():
        (folder / name).write_text(text)
    return [folder]


def test_version_2_slows_a_task_down_instead_of_killing_it(tmp_path: Path) -> None:
    groups = group2(tmp_path)
    assert bounds.read(groups).cpu is None
    bounds.limit(groups, 1.5, 1.0)
    assert (tmp_path / "cpu.max").read_text() == "150000 100000"
    assert (tmp_path / "memory.high").read_text() == str(1 << 30)
    assert (tmp_path / "memory.max").read_text() == "max"
    told = bounds.read(groups)
    assert (told.cpu, told.memory, told.stalled) == (1.5, 1.0, False)
    assert told.working_set == pytest.approx(240 * MIB)
    assert told.throttled_s == pytest.approx(0.25)
    assert told.can == ("cpu", "memory")


def test_version_2_keeps_the_working_set(tmp_path: Path) -> None:
    groups = group2(tmp_path)
    bounds.limit(groups, None, 100 * MIB)
    assert int((tmp_path / "memory.high").read_text()) > 240 << 20
    assert (tmp_path / "cpu.max").read_text() == "max 100000"


def test_version_2_stalls_where_no_process_gets_on(tmp_path: Path) -> None:
    groups = group2(tmp_path, **{"memory.pressure": "some avg10=80.00\nfull avg10=45.10 avg60=3.00 total=9"})
    assert bounds.read(groups).stalled


def test_version_2_is_lifted(tmp_path: Path) -> None:
    groups = group2(tmp_path)
    bounds.limit(groups, 1.5, 1.0)
    bounds.lift(groups)
    assert (bounds.read(groups).cpu, bounds.read(groups).memory) == (None, None)


def test_a_group_that_is_gone_has_no_limits(tmp_path: Path) -> None:
    gone = bounds.read([tmp_path / "gone"])
    assert (gone.can, gone.working_set) == ((), None)
