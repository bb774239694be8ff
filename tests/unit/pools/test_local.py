"""What is particular to the local provider."""

import json
import os
import shutil
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from preprov.clocks import ScaledClock
from preprov.contracts import LaunchRequest
from preprov.model.errors import ConflictError, InsufficientCapacityError, NodeBusyError, PoolError, QuotaExceededError
from preprov.model.nodes import Phase
from preprov.model.offerings import LeadTime, Offering, Preload, Standby
from preprov.model.pools import Group
from preprov.model.resources import Resources
from preprov.model.time import Timescale, from_epoch
from preprov.pools import agents, local_view
from preprov.pools.local_disk import PoolDisk, delay_s
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld

T0 = datetime(2025, 3, 1, 2, 0, tzinfo=UTC)


# ---- provisioning delay and the clock


def group(**options: object) -> Group:
    return Group("g", "local", (Offering("m", Resources(cpu=1)),), options=options)


def draws(g: Group, state: Standby = Standby.COLD, n: int = 400) -> list[float]:
    return sorted(delay_s(g, state, "token", f"node-{i}", 0) for i in range(n))


def test_a_delay_is_drawn_from_the_configured_distribution() -> None:
    found = draws(group(delay={"median_s": 20.0, "p95_s": 60.0}))
    assert found[200] == pytest.approx(20.0, rel=0.15)
    assert found[380] == pytest.approx(60.0, rel=0.25)


def test_the_same_node_always_draws_the_same_delay_and_another_another() -> None:
    g = group(delay={"median_s": 20.0, "p95_s": 60.0})
    assert delay_s(g, Standby.COLD, "t", "n", 0) == delay_s(g, Standby.COLD, "t", "n", 0)
    assert len({delay_s(g, Standby.COLD, t, n, s) for t in "ab" for n in "ab" for s in range(2)}) == 8


@pytest.mark.parametrize(
    ("options", "lead", "cold", "stopped"),
    [
        ({}, {}, 0.0, 0.0),
        ({"delay": 5}, {}, 5.0, 5.0),
        ({"delay": {"cold": 30, "stopped": {"median_s": 4.0}}}, {}, 30.0, 4.0),
        ({"delay": {"cold": 30}}, {}, 30.0, 0.0),
        ({}, {Standby.COLD: LeadTime(9.0, 9.0)}, 9.0, 0.0),
        ({"delay": False}, {Standby.COLD: LeadTime(9.0, 9.0)}, 0.0, 0.0),
        ({"delay": True}, {Standby.COLD: LeadTime(9.0, 9.0)}, 9.0, 0.0),
    ],
)
def test_where_a_delay_comes_from(
    options: dict[str, object], lead: dict[Standby, LeadTime], cold: float, stopped: float
) -> None:
    g = replace(group(**options), lead=lead)
    assert delay_s(g, Standby.COLD, "t", "n", 0) == pytest.approx(cold)
    assert delay_s(g, Standby.STOPPED, "t", "n", 0) == pytest.approx(stopped)


def test_a_faster_clock_shortens_the_delay_and_sees_it_whole(home: Path) -> None:
    """Twelve seconds of the clock at speed 40; instants and stages are the clock's."""
    clock = ScaledClock(T0, 40.0)
    world = LocalWorld(home, clock=clock, speed=40.0, delay=12)
    began = clock.now()
    (node,) = world.ready()
    assert node.ready_at is not None
    waited = (node.ready_at - node.created_at).total_seconds()
    assert 12.0 <= waited < 12.0 + 40.0 * 5
    assert sum(node.stages.values()) == pytest.approx(waited, abs=1.0)
    assert node.stages["allocate"] + node.stages["boot"] >= 12.0
    assert abs((node.created_at - began).total_seconds()) < 40.0
    assert node.last_seen is not None
    assert T0 < node.last_seen < T0 + timedelta(hours=2)


def test_progress_grows_while_a_node_boots(home: Path) -> None:
    world = LocalWorld(home, delay=0.8)
    (node_id,) = world.provider.launch(world.request())
    seen: list[float] = []

    def ready() -> bool:
        node = world.node(node_id)
        seen.append(node.progress or 0.0)
        return node.phase is Phase.READY

    wait_until(ready)
    assert seen == sorted(seen)
    assert any(0.1 < p < 0.95 for p in seen)
    assert seen[-1] == 1.0


def test_a_start_from_standby_has_its_own_delay(home: Path) -> None:
    world = LocalWorld(home, delay={"cold": 0, "stopped": 0.4, "hibernated": 0.2})
    (node,) = world.ready()
    for put, least in ((world.provider.stop, 0.4), (world.provider.hibernate, 0.2)):
        put(world.pool, [node.node_id])
        world.provider.start(world.pool, [node.node_id], Preload())
        assert sum(world.wait(node.node_id, Phase.READY).stages.values()) >= least


# ---- capacity


def test_machines_run_out(home: Path) -> None:
    world = LocalWorld(home, capacity=None, max_nodes=8)
    pool = world.pool_with(capacity=2)
    some = replace(world.request(3, "a"), pool=pool)
    ids = world.provider.launch(some)
    assert len(ids) == 2
    assert sorted(world.provider.launch(some)) == sorted(ids), "what the token has is its answer"
    with pytest.raises(InsufficientCapacityError):
        world.provider.launch(replace(some, token="b"))
    world.wait(ids[0], Phase.READY)
    world.provider.terminate(pool, [ids[0]])
    assert len(world.provider.launch(replace(some, token="b"))) == 1


def test_stopped_nodes_count(world: LocalWorld) -> None:
    """They still have their disk, and come back without asking."""
    g = replace(world.pool.groups[0], max_nodes=1)
    pool = replace(world.pool, groups=(g,))
    (node,) = world.ready()
    world.provider.stop(pool, [node.node_id])
    with pytest.raises(QuotaExceededError):
        world.provider.launch(LaunchRequest(pool, "g", world.offering, 1, "another", Preload()))


# ---- files


def test_nodes_are_found_by_their_tags_alone(world: LocalWorld) -> None:
    """A directory that is no node, or half of one, is passed over; a moved home is found whole."""
    (node,) = world.ready()
    pool_dir = world.folder(node).parent
    (pool_dir / "stray").mkdir()
    (pool_dir / ".making-x-1").mkdir()
    (pool_dir / "broken").mkdir()
    (pool_dir / "broken" / "node.json").write_text("{")
    assert [n.node_id for n in world.provider.observe(world.pool).nodes] == [node.node_id]


def test_leftovers_of_old_crashes_are_swept(world: LocalWorld) -> None:
    (node,) = world.ready()
    pool_dir = world.folder(node).parent
    for name in (".making-old-1", ".gone-old-1"):
        (pool_dir / name / "sub").mkdir(parents=True)
        os.utime(pool_dir / name, (1, 1))
    world.provider.launch(world.request(1, "another"))
    assert not list(pool_dir.glob(".making-*"))
    assert not list(pool_dir.glob(".gone-*"))


def test_nobody_else_may_read_a_node(world: LocalWorld) -> None:
    (node,) = world.ready()
    for path in (world.folder(node), world.folder(node) / "disk", world.folder(node) / "tasks"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["pool/with/slashes", "..", ".hidden", "späte Nacht", "a~b"])
def test_any_pool_name_has_a_folder_of_its_own_inside_home(tmp_path: Path, name: str) -> None:
    path = PoolDisk(tmp_path, name).path
    assert path.parent == tmp_path / "nodes"
    assert path.name not in (".", "..")
    assert not path.name.startswith(".")


@pytest.mark.parametrize("node_id", ["..", "../../etc", ".launches", "a/b", ""])
def test_a_node_id_cannot_point_elsewhere(world: LocalWorld, node_id: str) -> None:
    world.provider.terminate(world.pool, [node_id])
    assert PoolDisk(world.home, "batch").node(node_id) is None


def test_a_home_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("a file in the way")
    world = LocalWorld(tmp_path)
    with pytest.raises(PoolError) as e:
        world.provider.launch(world.request())
    assert "PREPROV_HOME" in e.value.hint


def test_an_agent_gets_none_of_our_settings() -> None:
    env = agents.environment({"PREPROV_STORE__URL": "secret", "PREPROV_HOME": "/h", "PATH": "/bin", "PYTHONPATH": "/x"})
    assert "secret" not in json.dumps(env)
    assert env["PATH"] == "/bin"
    assert env["PYTHONPATH"].endswith(":/x")


def test_what_lies_in_the_working_directory_is_not_imported(
    world: LocalWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json.py", "socket.py", "fsspec.py"):
        (tmp_path / name).write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert world.ready()


def test_limits_of_this_user_are_told() -> None:
    assert agents.limits() in ("cgroup1", "cgroup2", "rlimit")


# ---- odd nodes


def test_a_silent_agent_is_busy_for_all_we_know(world: LocalWorld) -> None:
    """Not yet lost: nobody can say that nothing runs there, so nothing is done to it, and nothing to its neighbour."""
    silent, other = world.ready(2)
    for pid in world.pids(silent).values():
        psutil.Process(pid).suspend()
    seen = world.node(silent.node_id)
    assert seen.phase is Phase.READY
    assert seen.running is None
    assert seen.is_busy
    assert "not answered" in seen.reason
    for pid in world.pids(silent).values():
        psutil.Process(pid).resume()
    assert world.wait(silent.node_id, Phase.READY)
    assert world.node(other.node_id).running == ()


def test_a_hibernated_node_whose_memory_was_lost_is_a_stopped_one(world: LocalWorld) -> None:
    """As after a reboot of the machine under it."""
    (node,) = world.ready()
    world.provider.hibernate(world.pool, [node.node_id])
    world.kill_hibernated(node)
    found = world.node(node.node_id)
    assert found.phase is Phase.STOPPED
    assert "memory is gone" in found.reason
    world.provider.start(world.pool, [node.node_id], Preload())
    assert world.wait(node.node_id, Phase.READY).came_from is Standby.STOPPED


def test_a_stopped_node_whose_agent_is_about_to_start_is_on_its_way(world: LocalWorld) -> None:
    """Whoever asked for it would take it for suspended again, and give it up."""
    (node,) = world.ready()
    world.provider.stop(world.pool, [node.node_id])
    files = PoolDisk(world.home, world.pool.name).node(node.node_id)
    assert files is not None
    order = {**files.facts["warming"], "serial": files.facts["warming"]["serial"] + 1, "from": "stopped"}
    called = replace(files, alive=True, facts={**files.facts, "warming": order})
    found = [
        local_view.node(local_view.Seen(f), Timescale(0.0, from_epoch(0.0)), time.time(), 60.0) for f in (files, called)
    ]
    assert [(n.phase, n.came_from) for n in found if n] == [
        (Phase.STOPPED, Standby.COLD),
        (Phase.WARMING, Standby.STOPPED),
    ]


def test_a_stopped_node_cannot_be_hibernated(world: LocalWorld) -> None:
    (node,) = world.ready()
    world.provider.stop(world.pool, [node.node_id])
    with pytest.raises(ConflictError):
        world.provider.hibernate(world.pool, [node.node_id])


def test_a_warming_node_cannot_be_hibernated_but_stopped(home: Path) -> None:
    world = LocalWorld(home, delay=60)
    (node_id,) = world.provider.launch(world.request())
    wait_until(lambda: world.node(node_id).progress is not None)
    with pytest.raises(ConflictError):
        world.provider.hibernate(world.pool, [node_id])
    world.provider.stop(world.pool, [node_id])
    assert world.node(node_id).phase is Phase.STOPPED


def test_draining_holds_while_asleep_and_ends_with_the_next_start(world: LocalWorld) -> None:
    (node,) = world.ready()
    world.provider.drain(world.pool, [node.node_id])
    world.kill_agent(node)
    world.provider.start(world.pool, [node.node_id], Preload())
    assert world.wait(node.node_id, Phase.DRAINING), "an agent that died goes on draining"
    world.provider.stop(world.pool, [node.node_id])
    world.provider.start(world.pool, [node.node_id], Preload())
    assert world.wait(node.node_id, Phase.READY)


def test_a_node_whose_folder_was_deleted_is_gone(world: LocalWorld) -> None:
    (node,) = world.ready()
    folder = world.folder(node)
    pids = world.pids(node)
    shutil.rmtree(folder)
    assert world.provider.observe(world.pool).nodes == ()
    world.provider.terminate(world.pool, [node.node_id])
    wait_until(lambda: not any(psutil.pid_exists(p) and _runs(p) for p in pids.values()), what="its agent to notice")


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_check_and_the_end_are_one_step(world: LocalWorld) -> None:
    """A task that comes between the question and the end is refused, or the end is."""
    (node,) = world.ready()
    disk = PoolDisk(world.home, "batch")
    files = disk.node(node.node_id)
    assert files is not None
    assert agents.ask(files.path, "hold", seconds=0.3) is not None
    with pytest.raises(ConflictError):
        world.run(node, ["true"])
    claimant = wait_until(lambda: _begun(world, node), what="the hold to be over")
    assert claimant
    with pytest.raises(NodeBusyError):
        world.provider.terminate(world.pool, [node.node_id])


def _begun(world: LocalWorld, node: object) -> str:
    try:
        return world.run(node, ["sleep", "60"])  # type: ignore[arg-type]
    except ConflictError:
        return ""


@pytest.mark.slow
def test_many_nodes_are_observed_at_once(home: Path) -> None:
    world = LocalWorld(home, max_nodes=30)
    ids = world.provider.launch(world.request(30))
    assert len(set(ids)) == 30
    wait_until(lambda: len(world.provider.observe(world.pool).in_phase(Phase.READY)) == 30, deadline_s=60)
    world.provider.terminate(world.pool, ids)
