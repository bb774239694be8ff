"""Whatever is killed, running work is neither ended, nor lost sight of, nor run twice."""

import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from preprov.agent import boot
from preprov.agent.disk import NodeDir
from preprov.contracts import TaskReport
from preprov.model.errors import NodeBusyError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld


def ended(world: LocalWorld, node: Node) -> TaskReport:
    """The one task of the node, once it has ended."""

    def look() -> TaskReport | None:
        reports = world.scheduler.poll([node])
        return reports[0] if reports and reports[0].ended_at else None

    report = wait_until(look, what="the task to end")
    assert report is not None
    return report


def look_once(world: LocalWorld, node: Node) -> Node:
    """As the provider sees it at this moment, dead agents not yet started again."""
    return world.node(node.node_id)


def test_a_task_outlives_its_agent_and_is_adopted(world: LocalWorld, node: Node) -> None:
    claimant = world.occupy(node)
    world.kill_agent(node)

    lost = look_once(world, node)  # which also starts the agent again
    assert lost.phase is Phase.LOST
    assert lost.running == (claimant,)
    assert lost.is_busy

    back = world.wait(node.node_id, Phase.READY)
    assert back.running == (claimant,)
    assert back.ready_at == node.ready_at
    world.free(node)
    assert ended(world, node).exit_code == 0


def test_a_node_with_a_dead_agent_and_a_live_task_is_never_ended(world: LocalWorld, node: Node) -> None:
    claimant = world.occupy(node)
    world.kill_agent(node)
    for verb in (world.provider.terminate, world.provider.stop):
        with pytest.raises(NodeBusyError, match=claimant):
            verb(world.pool, [node.node_id])
    assert world.folder(node).exists()
    world.provider.start(world.pool, [node.node_id], Preload())
    assert world.wait(node.node_id, Phase.READY).running == (claimant,)


def test_the_agent_alone_is_started_again_by_the_node_itself(world: LocalWorld, node: Node) -> None:
    claimant = world.occupy(node)
    first = world.pids(node)["agent"]
    psutil.Process(first).kill()
    wait_until(lambda: world.pids(node)["agent"] != first, what="another agent")
    assert world.wait(node.node_id, Phase.READY).running == (claimant,)


def test_a_task_that_ends_while_no_agent_lives_is_reported_later(world: LocalWorld, node: Node) -> None:
    go = world.home / "go"
    world.run(node, ["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.02; done; exit 7"])
    world.kill_agent(node)
    go.touch()
    status = world.task_folder(node, "run-1/t#0") / "status.json"
    wait_until(lambda: status.exists() and "exit_code" in json.loads(status.read_text()), what="its end to be noted")
    world.provider.start(world.pool, [node.node_id], Preload())
    world.wait(node.node_id, Phase.READY)
    report = ended(world, node)
    assert report.exit_code == 7
    assert report.usage, "what it used in all is known, though nobody sampled it"


def test_a_start_repeated_after_a_crash_runs_nothing_twice(world: LocalWorld, node: Node) -> None:
    command = ["sh", "-c", "echo x >> ../begun; sleep 0.3"]
    claimant = world.run(node, command)
    begun = world.task_folder(node, claimant) / "begun"
    wait_until(begun.exists)
    world.kill_agent(node)
    world.provider.start(world.pool, [node.node_id], Preload())
    world.wait(node.node_id, Phase.READY)
    world.run(node, command)
    assert ended(world, node).exit_code == 0
    world.run(node, command)
    assert begun.read_text().split() == ["x"]


def test_a_start_that_was_only_noted_is_carried_out_when_it_is_repeated(world: LocalWorld, node: Node) -> None:
    """The agent died after it wrote down what to run and before it ran it."""
    world.kill_agent(node)
    claimant = "run-1/t#0"
    folder = world.task_folder(node, claimant)
    (folder / "work").mkdir(parents=True)
    (folder / "lock").touch()
    (folder / "task.json").write_text(json.dumps({"claimant": claimant, "argv": ["true"], "env": {}}))
    world.provider.start(world.pool, [node.node_id], Preload())
    back = world.wait(node.node_id, Phase.READY)
    assert back.running == ()
    assert world.scheduler.poll([node]) == ()
    world.run(node, ["true"])
    assert ended(world, node).exit_code == 0


def test_a_task_whose_supervisor_was_killed_too_is_still_seen(world: LocalWorld, node: Node) -> None:
    claimant = world.occupy(node)
    status = world.task_folder(node, claimant) / "status.json"
    wait_until(status.exists)
    psutil.Process(json.loads(status.read_text())["supervisor"][0]).kill()
    world.kill_agent(node)
    assert look_once(world, node).running == (claimant,)
    with pytest.raises(NodeBusyError):
        world.provider.terminate(world.pool, [node.node_id])
    assert world.wait(node.node_id, Phase.READY).running == (claimant,)
    world.free(node)
    assert ended(world, node).exit_code is None, "nobody saw how it ended"


def test_another_process_under_a_reused_id_is_not_taken_for_the_task(world: LocalWorld, node: Node) -> None:
    claimant = world.run(node, ["true"])
    ended(world, node)
    world.kill_agent(node)
    folder = world.task_folder(node, claimant)
    status = json.loads((folder / "status.json").read_text())
    del status["ended_at"]
    status["process"] = [psutil.Process().pid, 1]  # alive, but begun at another time
    (folder / "status.json").write_text(json.dumps(status))
    assert look_once(world, node).running == ()


def test_an_agent_killed_while_warming_goes_on_warming(world: LocalWorld) -> None:
    pool = world.pool_with(delay=0.6)
    (node_id,) = world.provider.launch(replace(world.request(), pool=pool))
    node = world.node(node_id)
    wait_until(lambda: (world.folder(node) / "processes.json").exists())
    world.kill_agent(node)
    look_once(world, node)
    back = world.wait(node_id, Phase.READY)
    assert sum(back.stages.values()) >= 0.6


@pytest.mark.slow
def test_a_node_silent_beyond_its_time_to_live_is_lost_and_can_be_ended(home: Path) -> None:
    world = LocalWorld(home, ttl_s=0.2)
    (node,) = world.ready()
    for pid in world.pids(node).values():
        psutil.Process(pid).suspend()
    wait_until(lambda: look_once(world, node).phase is Phase.LOST, what="the node to be lost", deadline_s=20)
    world.provider.terminate(world.pool, [node.node_id])
    assert world.provider.observe(world.pool).nodes == ()


def test_an_agent_dead_for_long_is_not_started_again(home: Path) -> None:
    world = LocalWorld(home, ttl_s=0.0)
    (node,) = world.ready()
    world.kill_agent(node)
    for _ in range(2):
        lost = look_once(world, node)
        assert lost.phase is Phase.LOST
        assert lost.running == ()
    world.provider.terminate(world.pool, [node.node_id])
    assert world.provider.observe(world.pool).nodes == ()


def test_two_removals_at_once_both_find_it_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a controller that was killed still goes on when the next one asks for the same."""
    node = NodeDir(tmp_path / "n1")
    node.path.mkdir()
    looked = boot.live_claimants

    def the_other_is_faster(node: NodeDir) -> list[str]:
        found = looked(node)
        node.path.rename(tmp_path / "gone")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(boot, "live_claimants", the_other_is_faster)
        assert boot.remove(node) == {}
    assert boot.remove(node) == {}
    assert [p.name for p in tmp_path.iterdir()] == ["gone"]
