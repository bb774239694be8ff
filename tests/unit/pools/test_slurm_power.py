"""What Slurm calls to have nodes and to be rid of them: ResumeProgram, SuspendProgram, ResumeFailProgram."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.contracts import LaunchRequest
from preprov.model.errors import ConfigError, ConflictError
from preprov.model.pools import Phase, Preload, Standby
from preprov.pools.slurm.boots import Boots
from preprov.pools.slurm.marks import Marks
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeSlurmWorld]:
    with fake_slurm_world(tmp_path) as world:
        yield world


def ask(world: FakeSlurmWorld, count: int, token: str) -> tuple[str, ...]:
    group = world.pool.groups[0]
    return world.provider.launch(LaunchRequest(world.pool, group.name, group.offerings[0], count, token, Preload()))


def test_a_program_called_twice_makes_one_machine(world: FakeSlurmWorld) -> None:
    world.slurm._to(world.slurm.nodes["cn1"], "power_up")
    world.programs.resume("cn1")
    world.programs.resume("cn1")
    assert len(world.vendor.machines) == 1


def test_a_name_that_comes_back_has_another_machine(world: FakeSlurmWorld) -> None:
    (first,) = world.ready()
    before = set(world.vendor.machines)
    world.provider.terminate(world.pool, [first.node_id])
    world.until(lambda: not world.nodes(), "the node to be gone")
    assert not world.vendor.machines
    (again,) = world.ready(token="other")
    assert again.node_id == first.node_id
    assert not set(world.vendor.machines) & before


def test_a_refusal_of_the_vendor_is_told_to_slurm_and_tried_again_later(world: FakeSlurmWorld) -> None:
    world.vendor.refuses = True
    (name,) = ask(world, 1, "one")
    world.nodes()
    assert world.slurm.nodes[name].state == "DOWN"
    assert "no more machines" in world.slurm.nodes[name].reason
    world.vendor.refuses = False
    assert world.provider.tend(world.pool) == ()
    world.slurm.nodes[name].reason_at -= 61.0  # so long ago was it refused
    assert name in " ".join(world.provider.tend(world.pool))
    assert world.slurm.nodes[name].state == "IDLE"


def test_a_machine_whose_check_fails_is_ended_and_takes_no_job(world: FakeSlurmWorld) -> None:
    world.vendor.spoils = True
    (name,) = ask(world, 1, "one")
    world.nodes()
    assert world.slurm.nodes[name].state == "DOWN"
    assert "its image is not what it should be" in world.slurm.nodes[name].reason
    assert not world.vendor.machines


def test_a_node_that_runs_a_job_is_not_suspended(world: FakeSlurmWorld) -> None:
    (node,) = world.ready()
    world.occupy(node)
    done = world.programs.suspend(node.node_id)
    assert "left alone" in done.failed[node.node_id]
    assert len(world.vendor.machines) == 1


def test_a_node_that_slurm_holds_for_up_is_not_suspended(world: FakeSlurmWorld) -> None:
    """The program comes late: Slurm has powered the name up again since it called it."""
    (node,) = world.ready()
    assert "left alone" in world.programs.suspend(node.node_id).failed[node.node_id]
    assert len(world.vendor.machines) == 1


def test_whoever_powers_a_name_up_anew_keeps_his_marks(world: FakeSlurmWorld) -> None:
    """A SuspendProgram that is slow must not wipe out the token of the next launch: that one would come twice."""
    (node,) = world.ready(token="first")
    slow = world.slurm.nodes[node.node_id]
    world.slurm.suspend = None
    world.provider.terminate(world.pool, [node.node_id])
    world.until(lambda: "POWERED_DOWN" in slow.flags, "it to be powered down")
    found = world.connect().nodes()
    slow.extra = Marks.read(slow.extra).launched("batch", "second", 1.0, {}).write()
    world.connect = lambda conf=None: Late(world, found)  # type: ignore[method-assign,assignment,return-value]
    world.programs._connect = world.connect
    world.programs.suspend(node.node_id)
    assert Marks.read(slow.extra).token == "second"


def test_what_slurm_suspended_before_it_had_a_machine_gets_none(world: FakeSlurmWorld) -> None:
    """Its SuspendProgram found nothing to end: the ResumeProgram that comes later must not leave a machine behind."""
    node = world.slurm.nodes["cn1"]
    world.slurm.resume = None
    world.slurm._to(node, "power_up")
    world.slurm._to(node, "power_down_force")
    world.until(lambda: not world.nodes() and "POWERED_DOWN" in node.flags, "it to be powered down")
    done = world.programs.resume("cn1")
    assert "any more" in done.failed["cn1"]
    assert not world.vendor.machines
    world.slurm.resume = world._resume
    assert world.ready()[0].node_id == "cn1"


def test_what_was_woken_and_is_shown_asleep_for_a_moment_is_waited_for(world: FakeSlurmWorld) -> None:
    (node,) = world.ready()
    world.provider.stop(world.pool, [node.node_id])
    world.until(lambda: world.look_at(node.node_id).phase is Phase.STOPPED, "it to be stopped")
    (asleep,) = world.vendor.machines.values()
    world.slurm._to(world.slurm.nodes[node.node_id], "power_up")
    world.vendor.late = [asleep] * 6
    done = world.programs.resume(node.node_id)
    assert not done.failed
    assert node.node_id in done.done
    assert not world.vendor.late


@pytest.mark.parametrize("verb", ["stop", "terminate"])
def test_a_node_on_its_way_into_standby_is_seen_and_one_that_ends_is_not(world: FakeSlurmWorld, verb: str) -> None:
    (node,) = world.ready()
    world.slurm.suspend = lambda name: setattr(world.slurm, "settle", lambda: None)  # it goes, and time stands still
    getattr(world.provider, verb)(world.pool, [node.node_id])
    world.nodes()
    seen = [(n.phase, n.settling) for n in world.nodes().values()]
    assert seen == ([(Phase.DRAINING, True)] if verb == "stop" else [])
    if verb == "stop":
        with pytest.raises(ConflictError):
            world.provider.start(world.pool, [node.node_id], Preload())


class Late:
    """Commands that show first what was found before."""

    def __init__(self, world: FakeSlurmWorld, found: object) -> None:
        self.real = FakeSlurmWorld.connect(world)
        self.found = found

    def nodes(self) -> object:
        found, self.found = self.found, None
        return found or self.real.nodes()

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


def test_a_node_that_did_not_come_is_tried_again_and_not_for_ever(world: FakeSlurmWorld) -> None:
    node = world.slurm.nodes["cn1"]
    for n in range(3):
        world.slurm.resume = None  # its machine never registers
        world.slurm._to(node, "power_up")
        node.flags -= {"_resume"}
        world.programs.resume("cn1")
        node.state = "DOWN"  # as Slurm does after ResumeTimeout
        done = world.programs.fail("cn1")
        assert not world.vendor.machines
        assert ("cn1" in done.done) == (n < 2)
    assert node.state == "DOWN"
    assert "3 times in a row" in node.reason


def test_a_name_of_nobody_is_said_and_a_list_that_is_none_refused(world: FakeSlurmWorld) -> None:
    assert "names it" in world.programs.resume("other1").failed["other1"]
    with pytest.raises(ConfigError):
        world.programs.resume("cn[1-")


def test_what_slurm_suspends_by_itself_becomes_what_the_group_says(tmp_path: Path) -> None:
    with fake_slurm_world(tmp_path, suspend_to="stopped") as world:
        (node,) = world.ready()
        slurm = world.slurm.nodes[node.node_id]
        slurm.flags |= {"POWER_DOWN"}  # as its idle timer does
        world.until(lambda: world.look_at(node.node_id).phase is Phase.STOPPED, "it to be stopped")
        assert world.look_at(node.node_id).standby is Standby.STOPPED


def test_a_file_of_boots_that_a_crash_cut_short_counts_as_none(tmp_path: Path) -> None:
    boots = Boots(tmp_path)
    with boots.of("p/g", "cn1") as boot:
        first = boot.token
        boot.ended()
    (file,) = tmp_path.iterdir()
    with Boots(tmp_path).of("p/g", "cn1") as boot:
        assert boot.token != first
    file.write_text('{"serial": ')
    with boots.of("p/g", "cn1") as boot:
        assert boot.token == first
