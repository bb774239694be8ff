"""Samples of a task whose clock is put back, or whose counters go backwards; and what counts as out of memory."""

import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from preprov.agent import disk, limits, proc, supervise
from preprov.agent.gpus import Gpus
from preprov.agent.tasks import Tasks
from preprov.model.agent import TaskStatus, Usage

CLAIMANT = "r/t#0"
HOUR = 3600.0


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[[], Tasks]]:
    """Agents, one after the other, that find the same task running on their node."""
    node = disk.NodeDir(tmp_path / "n1")
    folder = node.task_dir(CLAIMANT)
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as child:
        disk.write_json(folder / "task.json", {"claimant": CLAIMANT, "argv": ["sleep"], "env": {}})
        disk.write_json(
            folder / "status.json",
            {"claimant": CLAIMANT, "process": proc.identity(child.pid), **supervise.started()},
        )
        yield lambda: Tasks(node, limits.Limits("rlimit"), Gpus(tmp_path / "gpus", None))
        child.kill()


def samples(tasks: Tasks) -> list[Usage]:
    (status,) = tasks.report(None)[1]
    return list(status.usage)


def put_back(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - by)


def pause() -> None:
    time.sleep(0.02)


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_clock_that_jumps_stops_no_samples_and_stretches_none(
    running: Callable[[], Tasks], monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    tasks, begun = running(), time.time()
    pause()
    tasks.measure()
    put_back(monkeypatch, by)
    for _ in range(2):
        pause()
        tasks.measure()
    again = running()
    pause()
    again.measure()
    at = [u.at for u in samples(again)]
    assert len(at) == 4
    assert all(0 < later - earlier < 60 for earlier, later in pairwise(at))
    assert all(-1 < t - begun < 60 for t in at)


def test_a_task_that_ends_after_the_clock_was_put_back_ran_for_as_long_as_it_did(
    running: Callable[[], Tasks], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = running()
    put_back(monkeypatch, HOUR)
    (status,) = tasks.running()
    proc.send_all([status.pid], 9)
    for _ in range(200):
        pause()
        tasks.refresh()
        (over,) = tasks.report(None)[1]
        if over.ended_at is not None:
            break
    assert isinstance(over, TaskStatus)
    assert over.ended_at is not None
    assert 0 <= over.ended_at - over.started_at < 60
    assert not over.out_of_memory


def test_use_that_goes_backwards_is_none_and_what_follows_counts_from_there(
    running: Callable[[], Tasks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that ended takes its counters with it."""
    tasks = running()
    counted = iter([(5.0, 10**9), (1.0, 10**6), (1.0 + 1e-9, 3 * 10**6)])
    told: list[float | int] = []

    def cpu(_: object) -> float:
        told[:] = next(counted)
        return float(told[0])

    monkeypatch.setattr(limits, "cpu_seconds", cpu)
    monkeypatch.setattr(proc, "io", lambda _: proc.Io(int(told[1]), int(told[1]), 7))
    for _ in range(3):
        pause()
        tasks.measure()
    first, back, last = samples(tasks)
    assert first.cpu is not None
    assert first.cpu > 0
    assert (back.cpu, back.disk_io, back.read_ops, back.write_ops) == (0.0, 0.0, 0.0, 0.0)
    assert last.cpu == pytest.approx(0.0, abs=1e-6)
    assert last.disk_io is not None
    assert 0 < last.disk_io <= 2 / 0.02


@pytest.mark.parametrize(
    ("name", "text", "short"),
    [
        ("memory.events", "low 0\nhigh 7\nmax 9\noom 1\noom_kill 1\n", True),
        ("memory.events", "low 0\nhigh 7\nmax 9\noom 0\noom_kill 0\n", False),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", True),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", False),
        ("memory.oom_control", "damaged", False),
    ],
)
def test_the_kernel_says_whether_it_ended_a_task_for_want_of_memory(
    tmp_path: Path, name: str, text: str, short: bool
) -> None:
    (tmp_path / name).write_text(text)
    assert limits.out_of_memory([tmp_path / "none", tmp_path]) is short
