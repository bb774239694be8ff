"""What a task gets, what is seen of it, and how it ends."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import preprov
from preprov.contracts import TaskReport
from preprov.model.agent import Usage
from preprov.model.errors import ConflictError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Standby
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.pools import agents
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld


def finish(world: LocalWorld, node: Node, claimant: str) -> tuple[TaskReport, list[Usage]]:
    """The report after its end, and all samples."""
    samples: list[Usage] = []
    last: list[TaskReport] = []

    def look() -> bool:
        for r in world.scheduler.poll([node]):
            if r.claimant == claimant:
                samples.extend(r.usage)
                last[:] = [r]
        return bool(last and last[0].ended_at)

    wait_until(look, what=f"{claimant} to end", deadline_s=20)
    look()
    return last[0], samples


def test_a_task_knows_who_it_is_and_where(world: LocalWorld, node: Node) -> None:
    task = TaskRun(
        "r", "t", "batch", TaskSpec("t", command=("env",), env={"MINE": "1"}, instances=3), "s", State.READY, attempt=2
    )
    world.scheduler.start(task, 1, node)
    finish(world, node, task.claimant(1))
    env = dict(line.split("=", 1) for line in world.scheduler.logs(task.claimant(1)))
    assert env["MINE"] == "1"
    assert env["PREPROV_NODE_DIR"] == str(world.folder(node))
    got = {k: v for k, v in env.items() if k.startswith("PREPROV_") and k != "PREPROV_NODE_DIR"}
    assert got == {
        "PREPROV_RUN_ID": "r",
        "PREPROV_TASK_ID": "t",
        "PREPROV_INSTANCE": "1",
        "PREPROV_ATTEMPT": "2",
        "PREPROV_NODE_ID": node.node_id,
        "PREPROV_IMAGES": "{}",
        "PREPROV_DATASETS": "{}",
    }


def test_a_task_sees_no_secrets_of_the_controller(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREPROV_STORE__URL", "postgresql://u:hunter2@h/d")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    world = LocalWorld(home, pass_env=["HTTP_PROXY"])
    (node,) = world.ready()
    claimant = world.run(node, ["env"])
    finish(world, node, claimant)
    text = "\n".join(world.scheduler.logs(claimant))
    assert "hunter2" not in text
    assert "PYTHONPATH" not in text
    assert "HTTP_PROXY=http://proxy" in text
    agents = [psutil.Process(p).environ() for p in world.pids(node).values()]
    assert not any("PREPROV_STORE__URL" in e for e in agents)


@pytest.mark.parametrize(("command", "code"), [(["no-such-program"], 127), (["/etc/passwd"], 126), (["false"], 1)])
def test_a_command_that_cannot_run_says_so(world: LocalWorld, node: Node, command: list[str], code: int) -> None:
    claimant = world.run(node, command)
    report, _ = finish(world, node, claimant)
    assert report.exit_code == code
    if code > 1:
        assert command[0] in " ".join(world.scheduler.logs(claimant))


def test_a_task_without_a_command_takes_as_long_as_was_believed(home: Path) -> None:
    world = LocalWorld(home, speed=10.0)
    (node,) = world.ready()
    claimant = world.run(node, [], runtime_hint_s=3.0)
    report, _ = finish(world, node, claimant)
    assert report.exit_code == 0
    assert report.ended_at is not None
    assert 3.0 <= (report.ended_at - report.started_at).total_seconds() < 60.0


def test_arguments_are_not_read_by_a_shell(world: LocalWorld, node: Node) -> None:
    claimant = world.run(node, ["echo", "$HOME; rm -rf *"])
    finish(world, node, claimant)
    assert list(world.scheduler.logs(claimant)) == ["$HOME; rm -rf *"]


def test_cpu_memory_and_disk_are_observed_over_time(world: LocalWorld, node: Node) -> None:
    script = (
        "import os, time\n"
        "keep = b'x' * (96 << 20)\n"
        "fd = os.open('f', os.O_WRONLY | os.O_CREAT)\n"
        "os.write(fd, keep[: 16 << 20]); os.fsync(fd)\n"
        "end = time.process_time() + 0.8\n"
        "while time.process_time() < end: pass\n"
    )
    claimant = world.run(node, ["python3", "-S", "-c", script])
    report, samples = finish(world, node, claimant)
    assert report.exit_code == 0
    assert len(samples) >= 4
    begun = report.started_at.timestamp()
    lengths = [b - a for a, b in zip([begun, *(u.at for u in samples)], [u.at for u in samples], strict=False)]
    core_s = sum((u.cpu or 0.0) * s for u, s in zip(samples, lengths, strict=True))
    assert core_s == pytest.approx(0.85, abs=0.3)
    assert max(u.memory or 0.0 for u in samples) == pytest.approx(0.105, abs=0.03)
    assert all(u.network is None and u.gpu is None for u in samples), "not observed is not 0"
    if all(u.disk_io is not None for u in samples):
        written = sum((u.disk_io or 0.0) * s for u, s in zip(samples, lengths, strict=True))
        assert written == pytest.approx(16.8, rel=0.3)


def test_a_task_shorter_than_a_sample_is_observed_too(home: Path) -> None:
    world = LocalWorld(home, sample_s=60)
    (node,) = world.ready()
    _, samples = finish(world, node, world.run(node, ["true"]))
    (only,) = samples
    assert only.cpu is not None
    assert only.memory


def test_samples_nobody_fetched_survive_the_agent(world: LocalWorld, node: Node) -> None:
    claimant = world.run(node, ["sleep", "0.5"])
    wait_until(lambda: (world.folder(node) / "samples.jsonl").exists())
    wait_until(lambda: len((world.folder(node) / "samples.jsonl").read_text().splitlines()) >= 3)
    psutil.Process(world.pids(node)["agent"]).kill()
    world.wait(node.node_id, Phase.READY)
    _, samples = finish(world, node, claimant)
    assert len(samples) >= 3
    assert [u.at for u in samples] == sorted({u.at for u in samples})


@pytest.mark.slow
def test_a_task_that_ignores_the_request_to_end_is_made_to(world: LocalWorld, node: Node) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    claimant = world.run(node, ["sh", "-c", script])
    wait_until(lambda: list(world.scheduler.logs(claimant)) == ["up"])
    world.scheduler.cancel(claimant, node)
    report, _ = finish(world, node, claimant)
    assert report.exit_code == -9


def test_what_a_task_leaves_behind_ends_with_it(world: LocalWorld, node: Node) -> None:
    claimant = world.run(node, ["sh", "-c", "sleep 1000 & echo $!"])
    finish(world, node, claimant)
    (pid,) = world.scheduler.logs(claimant)
    wait_until(lambda: not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE)
    world.provider.stop(world.pool, [node.node_id])


def test_limits_hold(home: Path) -> None:
    """A task cannot take more memory than its node has, however that is kept; the node says how it is."""
    world = LocalWorld(home, capacity=Resources(cpu=1, memory=0.0625))
    (node,) = world.ready()
    assert node.tags["preprov:limits"] in ("cgroup1", "cgroup2", "rlimit")
    claimant = world.run(node, ["python3", "-S", "-c", "x = bytearray(256 << 20); print(len(x))"])
    report, _ = finish(world, node, claimant)
    assert report.exit_code not in (0, None)
    assert report.out_of_memory is (node.tags["preprov:limits"] != "rlimit"), "without cgroups nobody can say"
    assert world.node(node.node_id).phase is Phase.READY, "the agent is not limited with its tasks"


@pytest.mark.parametrize("limits", ["rlimit"])
def test_limits_without_cgroups(home: Path, limits: str) -> None:
    world = LocalWorld(home, capacity=Resources(cpu=1, memory=0.0625), limits=limits)
    (node,) = world.ready()
    assert node.tags["preprov:limits"] == "rlimit"
    claimant = world.run(node, ["python3", "-S", "-c", "x = bytearray(256 << 20)"])
    assert finish(world, node, claimant)[0].exit_code == 1
    cores = world.run(node, ["nproc"], run_id="run-2")
    finish(world, node, cores)
    assert list(world.scheduler.logs(cores)) == ["1"]


def test_a_hibernated_node_stands_still(world: LocalWorld, node: Node) -> None:
    world.provider.hibernate(world.pool, [node.node_id])
    assert world.provider.observe(world.pool).in_phase(Phase.HIBERNATED)
    wait_until(lambda: agents.ask(world.folder(node), "health", timeout=0.2) is None, what="stillness")
    before = (world.folder(node) / "heartbeat").stat().st_mtime
    assert world.node(node.node_id).standby is Standby.HIBERNATED
    assert (world.folder(node) / "heartbeat").stat().st_mtime == before


def test_a_warming_node_takes_no_task(world: LocalWorld) -> None:
    pool = world.pool_with(delay=60)
    (node_id,) = world.provider.launch(replace(world.request(), pool=pool))
    node = world.wait(node_id, Phase.WARMING)
    wait_until(lambda: (world.folder(node) / "agent.sock").exists())
    with pytest.raises(ConflictError):
        world.run(node, ["true"])


def test_a_home_with_a_long_path_works(tmp_path_factory: pytest.TempPathFactory, home: Path) -> None:
    deep = home / ("d" * 80) / ("e" * 80)
    deep.mkdir(parents=True)
    world = LocalWorld(deep)
    (node,) = world.ready()
    assert len(node.address) > 200
    finish(world, node, world.run(node, ["true"]))


def test_starting_up_is_quick_and_needs_only_the_standard_library() -> None:
    """The agent runs on any node: nothing that has to be installed is imported."""
    code = "import sys, preprov.agent.boot, preprov.agent.preload, json; print(json.dumps(sorted(sys.modules)))"
    env = {**os.environ, "PYTHONPATH": str(Path(preprov.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, check=True)
    loaded = {m.split(".")[0] for m in json.loads(done.stdout)}
    assert loaded <= set(sys.stdlib_module_names) | {"preprov", "__main__"} | {m for m in loaded if m.startswith("_")}
