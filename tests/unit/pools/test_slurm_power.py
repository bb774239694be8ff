"""What Slurm calls to have nodes and to be rid of them: ResumeProgram, SuspendProgram, ResumeFailProgram."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from preprov.clocks import WallClock
from preprov.contracts import LaunchRequest
from preprov.control.context import Context
from preprov.control.observing import learn_leads, observe
from preprov.model.errors import ConfigError, ConflictError
from preprov.model.nodes import Phase
from preprov.model.offerings import Preload, Standby
from preprov.planning.prices import TablePriceBook
from preprov.pools.slurm.boots import Boots
from preprov.pools.slurm.marks import Marks
from preprov.pools.slurm.power import Done
from preprov.sim.ports import memory_ports
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
    assert "may be tried again" not in " ".join(world.provider.tend(world.pool))
    world.slurm.nodes[name].reason_at -= 61.0  # so long ago was it refused
    assert world.provider.tend(world.pool) == (f"{name} may be tried again",)
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


@pytest.mark.parametrize("verb", ["stop", "terminate"])
def test_a_suspend_program_slower_than_the_suspend_timeout_brings_no_node_back(
    world: FakeSlurmWorld, verb: str
) -> None:
    (node,) = world.ready()
    slow = world.slurm.nodes[node.node_id]
    world.slurm.suspend = None
    getattr(world.provider, verb)(world.pool, [node.node_id])
    world.until(lambda: "POWERED_DOWN" in slow.flags, "it to be powered down")
    assert len(world.vendor.machines) == 1
    assert [n.phase for n in world.nodes().values()] == ([Phase.DRAINING] if verb == "stop" else [])
    marks = Marks.read(slow.extra)
    assert marks.going_at is not None
    slow.extra = replace(marks, going_at=marks.going_at - 61.0).write()  # so long ago was it ordered
    assert [n.phase for n in world.nodes().values()] == [Phase.FAILED]
    assert not world.programs.suspend(node.node_id).failed
    assert [n.phase for n in world.nodes().values()] == ([Phase.STOPPED] if verb == "stop" else [])


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
    world.slurm.resume = world.programs.resume
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


@pytest.fixture
def deaf(world: FakeSlurmWorld) -> FakeSlurmWorld:
    """Its machines come up and never register; what a program waits for that is the least there is."""
    world.vendor.joins, world.slurm.resume = None, None
    world.slurm.config_more["ResumeTimeout"] = "5 sec"
    return world


def time_out(world: FakeSlurmWorld, name: str = "cn1") -> Done:
    """As Slurm does once ResumeTimeout has passed."""
    node = world.slurm.nodes[name]
    world.slurm._to(node, "power_up")
    world.slurm.nodes[name].flags -= {"_resume"}
    world.programs.resume(name)
    node.state, node.flags = "DOWN", {"CLOUD", "POWERED_DOWN"}
    node.reason, node.reason_at = "ResumeTimeout reached", world.slurm.now()
    return world.programs.fail(name)


def test_a_node_that_did_not_come_is_tried_again_and_not_for_ever(deaf: FakeSlurmWorld) -> None:
    for n in range(3):
        done = time_out(deaf)
        assert not deaf.vendor.machines
        assert ("cn1" in done.done) == (n < 2)
    node = deaf.slurm.nodes["cn1"]
    assert node.state == "DOWN"
    assert "3 times in a row" in node.reason
    assert any("cn1 is DOWN: preprov: 3 times" in p for p in deaf.provider.observe(deaf.pool).problems)


def test_a_boot_counts_as_come_once_slurm_has_heard_of_it_and_not_before(deaf: FakeSlurmWorld) -> None:
    for _ in range(2):
        time_out(deaf)
    deaf.vendor.joins, deaf.slurm.resume = deaf.slurm.register, deaf.programs.resume
    deaf.slurm.config_more["ResumeTimeout"] = "60 sec"
    (node,) = deaf.ready()
    deaf.provider.terminate(deaf.pool, [node.node_id])
    deaf.until(lambda: not deaf.nodes(), "it to be gone")
    deaf.vendor.joins, deaf.slurm.resume = None, None
    deaf.slurm.config_more["ResumeTimeout"] = "5 sec"
    assert "failure 1 in a row" in time_out(deaf).done["cn1"]


def test_a_node_that_did_not_come_is_no_supply_and_is_told_of_until_it_is_called_for_again(
    deaf: FakeSlurmWorld,
) -> None:
    ask(deaf, 1, "one")
    time_out(deaf)
    seen = deaf.provider.observe(deaf.pool)
    assert seen.nodes == ()
    (failed,) = seen.failed
    assert (failed.node_id, failed.phase, failed.token) == ("cn1", Phase.FAILED, "one")
    assert failed.created_at < failed.since
    assert "ResumeTimeout" in failed.reason
    ask(deaf, 1, "two")
    assert deaf.provider.observe(deaf.pool).failed == ()


def test_a_boot_that_came_to_nothing_is_kept_as_a_lead_time_that_failed_and_once(deaf: FakeSlurmWorld) -> None:
    ask(deaf, 1, "one")
    time_out(deaf)
    ctx = Context(
        ports=memory_ports(),
        providers={"slurm": deaf.provider},
        schedulers={},
        prices=TablePriceBook.from_pools([deaf.pool]),
        clock=WallClock(),
        pools={deaf.pool.name: deaf.pool},
    )
    assert [learn_leads(ctx, deaf.pool, observe(ctx, deaf.pool), set()) for _ in range(2)] == [1, 1]
    (kept,) = ctx.ports.leads.observations("slurm")
    assert (kept.node_id, kept.outcome, kept.came_from) == ("cn1", "failed", Standby.COLD)
    time_out(deaf)
    learn_leads(ctx, deaf.pool, observe(ctx, deaf.pool), set())
    assert len(ctx.ports.leads.observations("slurm")) == 2


def test_what_slurm_has_just_given_up_is_not_yet_a_failure(deaf: FakeSlurmWorld) -> None:
    """Its ResumeFailProgram is on its way, and tells of it; if that never comes, the machine is seen to be left."""
    node = deaf.slurm.nodes["cn1"]
    deaf.slurm._to(node, "power_up")
    deaf.programs.resume("cn1")
    node.state, node.flags = "DOWN", {"CLOUD", "POWERED_DOWN"}
    node.reason, node.reason_at = "ResumeTimeout reached", deaf.slurm.now()
    assert deaf.look_at("cn1").phase is Phase.WARMING
    node.reason_at -= 61.0
    assert deaf.look_at("cn1").phase is Phase.FAILED


def test_a_refusal_of_the_vendor_is_no_boot_that_failed(deaf: FakeSlurmWorld) -> None:
    """Slurm gives it up once more after its ResumeTimeout; it stays refused until `retry_s` have passed."""
    deaf.vendor.refuses = True
    node = deaf.slurm.nodes["cn1"]
    for _ in range(4):
        assert "refused by sim" in time_out(deaf).done["cn1"]
        assert node.state == "DOWN"
        assert "no more machines" in node.reason
    assert deaf.provider.observe(deaf.pool).failed == ()
    node.reason_at -= 61.0
    deaf.programs.fail("cn2")
    assert node.state == "IDLE", "given back by the next program that Slurm calls"


@pytest.mark.parametrize(
    ("lacks", "said"),
    [("marks_launches", "do not tell for which node"), ("names_serving", "ends no machine by name")],
)
def test_a_vendor_that_knows_no_machine_by_name_is_refused_before_it_launches(
    world: FakeSlurmWorld, lacks: str, said: str
) -> None:
    world.vendor.can[lacks] = False
    assert said in world.programs.resume("cn1").failed["cn1"]
    assert not world.vendor.machines
    assert said in world.slurm.nodes["cn1"].reason
    assert [f.found for f in world.provider.examine(world.pool) if f.state == "bad" and said in f.found]


def test_what_a_vendor_would_not_give_back_by_name_is_ended(tmp_path: Path) -> None:
    """A warm pool wakes whichever of its machines it likes, and that would be another node of Slurm."""
    with fake_slurm_world(tmp_path, suspend_to="stopped") as world:
        world.vendor.can["names_kept"] = False
        assert world.provider.capabilities(world.pool, "g").standby_states == {Standby.RUNNING}
        (warning,) = [f for f in world.provider.examine(world.pool) if f.state == "warn" and "chooses" in f.found]
        assert "hibernated or stopped" in warning.found
        (node,) = world.ready()
        world.slurm.nodes[node.node_id].flags |= {"POWER_DOWN"}  # as its idle timer does
        world.until(lambda: not world.nodes(), "it to be gone")
        assert not world.vendor.machines


def test_a_join_that_nothing_can_run_is_refused_before_anything_is_launched(tmp_path: Path) -> None:
    with fake_slurm_world(tmp_path, join=["slurmd"]) as world:
        assert "nothing runs `join` on machines of sim" in world.programs.resume("cn1").failed["cn1"]
        assert not world.vendor.machines


def test_a_vendor_that_says_nothing_for_a_moment_loses_no_node(world: FakeSlurmWorld) -> None:
    def joins(name: str) -> None:
        world.slurm.register(name)
        world.vendor.silent = 1

    world.vendor.joins = joins
    world.slurm.resume = None
    world.slurm._to(world.slurm.nodes["cn1"], "power_up")
    assert "joined" in world.programs.resume("cn1").done["cn1"]


def test_where_the_vendor_does_not_answer_slurm_is_told_at_once(world: FakeSlurmWorld) -> None:
    world.slurm.resume = None
    world.slurm._to(world.slurm.nodes["cn1"], "power_up")
    world.vendor.silent = 1
    assert "rate exceeded" in world.programs.resume("cn1").failed["cn1"]
    assert world.slurm.nodes["cn1"].state == "DOWN"
    assert not world.vendor.machines


def test_a_resume_fail_that_comes_late_leaves_the_next_boot_alone(deaf: FakeSlurmWorld) -> None:
    time_out(deaf)
    deaf.slurm._to(deaf.slurm.nodes["cn1"], "power_up")
    deaf.programs.resume("cn1")
    assert "left alone" in deaf.programs.fail("cn1").failed["cn1"]
    assert len(deaf.vendor.machines) == 1


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
