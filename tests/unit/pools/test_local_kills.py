"""A controller that is killed anywhere leaves nothing that the next one cannot put right."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from preprov.model.nodes import Phase
from preprov.testing.local_nodes import processes
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld

CHILD = """
import sys
from pathlib import Path
from tests.localnodes import LocalWorld
world = LocalWorld(Path(sys.argv[1]))
print("now", flush=True)
if sys.argv[2] == "launch":
    world.provider.launch(world.request(3, sys.argv[3]))
else:
    world.provider.terminate(world.pool, sys.argv[3].split(","))
"""


def killed(home: Path, after_s: float, *arguments: str) -> None:
    """Do it in another process, which is killed so long after it began."""
    root = Path(__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home), *arguments], stdout=subprocess.PIPE, env=env, cwd=root
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"now\n"
        time.sleep(after_s)  # the point of the kill, not a wait for anything
        child.kill()


def agents(home: Path) -> list[str]:
    """Folders of live agents, one entry per agent."""
    return [json.loads(p.read_text())["agent"][0] for p in home.glob("nodes/*/*/processes.json")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_launch_killed_at_any_point_is_finished_once(home: Path, seed: int) -> None:
    after_s = random.Random(seed).uniform(0.0, 0.25)
    killed(home, after_s, "launch", "token")
    world = LocalWorld(home)
    before = {n.node_id for n in world.provider.observe(world.pool).nodes}
    ids = world.provider.launch(world.request(3, "token"))
    assert len(ids) == 3
    assert before <= set(ids)
    for node_id in ids:
        world.wait(node_id, Phase.READY)
    assert {n.node_id for n in world.provider.observe(world.pool).nodes} == set(ids)
    names = [p.name() for p in processes(home)]
    wait_until(lambda: [p.name() for p in processes(home)].count("preprov-agent") == 3, what=f"3 agents, not {names}")
    world.provider.terminate(world.pool, ids)
    wait_until(lambda: not processes(home))


@pytest.mark.slow
def test_a_launch_killed_and_never_repeated_is_finished_or_was_never_made(home: Path) -> None:
    """Whoever looks next finds nodes that become ready, and none that hang."""
    killed(home, 0.03, "launch", "token")
    world = LocalWorld(home)
    wait_until(
        lambda: all(n.phase is Phase.READY for n in world.provider.observe(world.pool).nodes), what="ready or absent"
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_an_end_killed_at_any_point_leaves_nothing(home: Path, seed: int) -> None:
    world = LocalWorld(home)
    ids = world.provider.launch(world.request(3, "token"))
    for node_id in ids:
        world.wait(node_id, Phase.READY)
    killed(home, random.Random(seed).uniform(0.0, 0.25), "terminate", ",".join(ids))
    left = world.provider.observe(world.pool).nodes
    world.provider.terminate(world.pool, [n.node_id for n in left])
    assert world.provider.observe(world.pool).nodes == ()
    wait_until(lambda: not processes(home))
    assert world.provider.observe(world.pool).nodes == (), "whoever looks next clears what the last of them left"
    assert world.provider.launch(world.request(3, "token")) == (), "what was ended stays ended"
    assert not list(home.glob("nodes/batch/[!.]*"))
