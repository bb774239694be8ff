"""Jobs of a Slurm on a node: in real cgroups of version 1 as Slurm lays them out, and in folders laid out as version 2.

That a real Slurm lays them out so is seen in tests/integration/slurm; version 2 was not seen at work.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from preprov.agent import limits
from preprov.agent.disk import NodeDir
from preprov.agent.slurmjobs import NoRoomError, NotThereError, SlurmJobs
from preprov.model.agent import Bounds
from preprov.testing.waiting import wait_until

MIB = 1 / 1024
BYTES = 1 << 20


@pytest.fixture
def node(tmp_path: Path) -> NodeDir:
    (tmp_path / "n1").mkdir()
    return NodeDir(tmp_path / "n1")


def jobs(node: NodeDir, mounts: dict[str, Path], *, cpu: float = 2.0, memory: float = 1.0) -> SlurmJobs:
    return SlurmJobs(node, limits.Limits("cgroup1", cpu=cpu, memory=memory), mounts)


# ---- version 2


@pytest.fixture
def scope(tmp_path: Path) -> Path:
    return tmp_path / "cgroup" / "system.slice" / "n1_slurmstepd.scope"


def job2(scope: Path, number: int, mib: int, *, cores: str = "0-1") -> Path:
    """With its batch step, as Slurm leaves them."""
    job = scope / f"job_{number}"
    for path in (job, job / "step_batch", job / "step_batch" / "user", job / "step_batch" / "user" / "task_0"):
        path.mkdir(parents=True)
        limited = path.name != "task_0"
        (path / "memory.max").write_text(f"{mib * BYTES if limited else 'max'}\n")
        (path / "memory.current").write_text(f"{10 * BYTES}\n")
        (path / "memory.high").write_text("max\n")
        (path / "memory.stat").write_text("inactive_file 0\n")
        (path / "cpu.max").write_text("max 100000\n")
        (path / "cpuset.cpus.effective").write_text(f"{cores}\n")
    return job


def maxima(job: Path) -> list[str]:
    return [(p / "memory.max").read_text().strip() for p in (job, job / "step_batch", job / "step_batch" / "user")]


def test_version_2_is_found_raised_and_given_back(node: NodeDir, scope: Path, tmp_path: Path) -> None:
    job = job2(scope, 7, 200)
    job2(scope, 8, 300)
    found = jobs(node, {"": tmp_path / "cgroup"})
    told = found.read()["7"]
    assert (told.cpu, told.memory, told.can, told.free) == (None, 200 * MIB, ("cpu", "memory"), True)
    assert told.working_set == 10 * MIB
    told = found.limit("7", 0.5, 400 * MIB, 60)
    assert (told.cpu, told.memory, told.free) == (0.5, 400 * MIB, False)
    assert maxima(job) == [str(400 * BYTES)] * 3
    assert (job / "step_batch" / "user" / "task_0" / "memory.max").read_text().strip() == "max"
    again = jobs(node, {"": tmp_path / "cgroup"})  # an agent that was started again
    assert again.limit("7", None, None, 60).free
    assert maxima(job) == [str(200 * BYTES)] * 3
    assert (job / "cpu.max").read_text().split()[0] == "max"


def test_no_more_than_the_node_and_its_other_jobs_leave(node: NodeDir, scope: Path, tmp_path: Path) -> None:
    job = job2(scope, 7, 200)
    job2(scope, 8, 300)
    found = jobs(node, {"": tmp_path / "cgroup"})
    with pytest.raises(NoRoomError, match=r"its other jobs may use 0\.293"):
        found.limit("7", None, 0.75, 60)
    with pytest.raises(NoRoomError, match="the node has 2"):
        found.limit("7", 3, None, 60)
    assert maxima(job) == [str(200 * BYTES)] * 3
    assert found.read()["7"].free
    job2(scope, 9, 100, cores="1")
    with pytest.raises(NoRoomError, match="Slurm holds it to 1"):
        found.limit("9", 2, None, 60)


def test_less_never_goes_under_what_it_works_with(node: NodeDir, scope: Path, tmp_path: Path) -> None:
    job2(scope, 7, 200)
    told = jobs(node, {"": tmp_path / "cgroup"}).limit("7", None, 1 * MIB, 60)
    assert told.memory is not None
    assert 10 * MIB < told.memory < 20 * MIB


def test_a_lease_that_nobody_renews_ends(node: NodeDir, scope: Path, tmp_path: Path) -> None:
    job = job2(scope, 7, 200)
    found = jobs(node, {"": tmp_path / "cgroup"})
    found.limit("7", None, 400 * MIB, 60)
    found.refresh()
    assert maxima(job)[0] == str(400 * BYTES)
    found.limit("7", None, 400 * MIB, 0)
    found.refresh()
    assert maxima(job) == [str(200 * BYTES)] * 3


def test_without_cgroups_it_says_so(node: NodeDir, scope: Path, tmp_path: Path) -> None:
    found = jobs(node, {"": tmp_path / "cgroup"})
    assert found.read() == {}
    with pytest.raises(NotThereError, match="task/cgroup"):
        found.limit("7", 1, 1, 60)
    assert jobs(node, {}).read() == {}


# ---- version 1, the kernel's own

HOLDS = "import sys\nb = b'x' * (int(sys.argv[1]) << 20)\nprint('has', flush=True)\nsys.stdin.read()"


@pytest.fixture
def real() -> Iterator[tuple[Path, Path]]:
    """(mount, job): a job with its batch step under the memory controller; skipped where that cannot be."""
    v1, _ = limits.mounts()
    if "memory" not in v1:
        pytest.skip("no memory controller of version 1")
    mount = v1["memory"][0]
    top = mount / f"slurm_{uuid4().hex[:8]}"
    job = top / "uid_0" / "job_7"
    try:
        for path in (top, top / "uid_0", job, job / "step_batch"):
            path.mkdir()
            (path / "memory.use_hierarchy").write_text("1") if (path / "memory.use_hierarchy").exists() else None
    except OSError:
        limits.remove_group(top)
        pytest.skip("cgroups cannot be written here")
    for path in (job, job / "step_batch"):
        (path / "memory.limit_in_bytes").write_text(str(64 * BYTES))
    yield mount, job
    limits.remove_group(top)


def test_version_1_a_real_process_gets_what_it_needs(node: NodeDir, real: tuple[Path, Path]) -> None:
    mount, job = real
    found = jobs(node, {"memory": mount})

    def told() -> Bounds:
        return found.read()["7"]

    assert (told().memory, told().can) == (64 * MIB, ("memory",))
    assert found.limit("7", 1.0, 256 * MIB, 60).memory == 256 * MIB
    join = f"open({str(job / 'step_batch' / 'cgroup.procs')!r}, 'w').write('0');"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{join}\n{HOLDS}", "128"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"has\n", "it would have been killed at 64"
        assert (told().working_set or 0) > 120 * MIB
        assert (found.limit("7", None, 32 * MIB, 60).memory or 0) > 120 * MIB
        with contextlib.suppress(OSError):  # it has more than Slurm gave: it stays as it is, for the next look
            found.limit("7", None, None, 60)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: not (job / "step_batch" / "cgroup.procs").read_text(), what="it to end")
    found.limit("7", None, None, 60)
    assert (told().memory, told().free) == (64 * MIB, True)
    assert (job / "step_batch" / "memory.limit_in_bytes").read_text().strip() == str(64 * BYTES)
