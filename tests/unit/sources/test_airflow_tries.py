"""Tasks of Airflow that were tried again: each of their tries is told, at a bounded number of questions a pass."""

import httpx
import numpy as np
import pytest
import stamina

from preprov.model.errors import SourceUnavailableError
from preprov.model.waits import Cause
from preprov.sim.clock import VirtualClock
from preprov.sim.ports import memory_ports
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import basic, exchanged
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag, FakeRun
from preprov.testing.live_source_contract import POOL, read, unrouted
from preprov.testing.store_examples import T0


class World:
    """An Airflow whose tasks fail, a store, a reader."""

    def __init__(self, version: str = "v2", **settings: object) -> None:
        self.clock = VirtualClock(T0)
        self.airflow = FakeAirflow(self.clock, version=version)
        self.ports = memory_ports()
        self.settings = {"requests_per_second": 1000.0, "history_days": 2.0, "patience_s": 1e9, **settings}
        self.restart()
        self.airflow.add_dag(FakeDag("d", (("a", ("b",), {"hostname": "w1"}), ("b", (), {}))))

    def restart(self) -> None:
        tokens = exchanged("http://af", "me", lambda: "pw")
        credential = tokens if self.airflow.version == "v2" else basic("me", lambda: "pw")
        settings = AirflowSettings("prod", "http://af", credential, **self.settings)
        self.reader = AirflowSource(settings, self.clock, transport=self.airflow.transport())

    def now(self):
        return self.clock.now()

    def read(self):
        return read(self, self.ports, self.reader)

    def step(self) -> bool:
        """One pass; True if another is to follow at once."""
        more = False
        for batch in self.reader.changes(self.ports.sources.state("prod"), self.now()):
            self.ports.sources.apply("prod", unrouted(batch, "UTC"), self.now())
            more |= batch.more
        return more

    def tasks(self):
        return self.ports.work.work(POOL).tasks.set_index("task_id")

    def asked(self) -> list[str]:
        """Questions about tries."""
        return [p for _, p in self.airflow.log if p.endswith("/tries")]

    def at(self) -> float:
        return self.clock.now().timestamp() - T0.timestamp()

    def go(self, run: FakeRun, task_id: str, *steps: tuple[float, str], index: int = -1) -> None:
        """States that it comes to, each after so many seconds."""
        for seconds, state in steps:
            self.clock.sleep(seconds)
            self.airflow.set_task(run, task_id, state, index=index)


BEGINS = ((0, "scheduled"), (5, "queued"), (2, "running"))


@pytest.fixture(autouse=True)
def _no_waiting():
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture(params=["v1", "v2"])
def world(request):
    return World(request.param)


def test_each_try_is_told_with_its_own_times_and_waits(world):
    run = world.airflow.start_run("d", "r")
    world.go(run, "a", *BEGINS, (60, "up_for_retry"), (30, "scheduled"), (10, "queued"), (3, "running"))
    run.tasks["a", -1].hostname = "w2"
    world.go(run, "a", (20, "success"))
    world.go(run, "b", *BEGINS, (10, "success"))
    world.airflow.end_run(run)
    world.clock.sleep(1)
    world.read()
    tasks = world.tasks()
    assert list(tasks.index) == ["a@1", "a", "b"]
    begun = T0.timestamp()
    assert (tasks["started_at"] - begun).round().tolist() == [7, 110, 137]
    assert (tasks["ended_at"] - begun).round().tolist() == [67, 130, 147]
    assert (tasks["slot_at"] - begun).round().tolist() == [5, 107, 135]
    assert tasks["attempt"].tolist() == [1, 2, 1]
    assert np.isnan(tasks.loc["a@1", "runtime_s"]), "what failed tells no runtime"
    assert tasks["runtime_s"].tolist()[1:] == pytest.approx([20, 10])
    assert tasks["node"].tolist() == ["w1", "w2", ""]
    assert tasks["signature"].nunique() == 2, "a try is of its task's kind"
    assert {k.split("/")[0] for k in tasks["slot_of"]} == {str(Cause.AIRFLOW_POOL)}
    if world.airflow.version == "v2":
        assert (tasks["ready_at"] - begun).round().tolist() == [0, 97, 130]
    work = world.ports.work.work(POOL)
    names = work.tasks["task_id"].tolist()
    assert {(names[p], names[c]) for p, c in zip(work.parents, work.children, strict=True)} == {
        ("a@1", "a"),
        ("a", "b"),
    }
    assert len(world.asked()) == 1


def test_what_a_try_held_counts_in_core_hours(world):
    run = world.airflow.start_run("d", "r")
    world.go(run, "a", *BEGINS, (3600, "up_for_retry"), *BEGINS, (1800, "success"))
    world.go(run, "b", *BEGINS, (1, "success"))
    world.airflow.end_run(run)
    world.clock.sleep(1)
    world.read()
    (claimed,) = world.ports.sources.claimed(T0)
    assert claimed.core_hours == pytest.approx(1.5, abs=0.01)


def test_a_try_is_known_while_the_task_waits_to_be_tried_again_and_its_next_asks_once(world):
    run = world.airflow.start_run("d", "r")
    world.go(run, "a", *BEGINS, (60, "up_for_retry"))
    world.read()
    tasks = world.tasks()
    assert tasks["ended_at"].notna().to_dict() == {"a@1": True, "a": False, "b": False}
    assert np.isnan(tasks.loc["a", "started_at"])
    assert world.asked() == [], "the instance itself tells of a first try until the second begins"
    work = world.ports.work.work(POOL)
    names = work.tasks["task_id"].tolist()
    edges = {(names[p], names[c]) for p, c in zip(work.parents, work.children, strict=True)}
    assert edges == {("a", "b")}, "what is over holds nothing back"
    world.go(run, "a", *BEGINS)
    for _ in range(3):
        world.clock.sleep(30)
        world.read()
    assert list(world.tasks().index) == ["a@1", "a", "b"]
    assert len(world.asked()) == 1, "what was read is not asked for again"
    world.go(run, "a", (60, "up_for_retry"), *BEGINS)
    world.read()
    assert list(world.tasks().index) == ["a@1", "a@2", "a", "b"]
    assert len(world.asked()) == 2
    world.restart()
    world.read()
    world.go(run, "a", (5, "success"))
    world.airflow.end_run(run)
    for _ in range(2):
        world.clock.sleep(1)
        world.read()
        world.restart()
    assert list(world.tasks().index) == ["a@1", "a@2", "a", "b"]
    assert len(world.asked()) == 2, "nor by another process, nor at the end of its run"
    world.clock.sleep(3600)
    world.read()
    world.read()
    assert not [k for k in world.ports.sources.state("prod").notebook if k.startswith("trie")]


def test_what_a_cleared_task_ran_before_stays_in_history_with_its_runtime(world):
    run = world.airflow.start_run("d", "r")
    world.airflow.play(run)
    world.clock.sleep(100)
    world.read()
    world.clock.sleep(3600)
    world.airflow.clear(run, ["b"])
    world.go(run, "b", *BEGINS, (60, "success"))
    world.airflow.end_run(run)
    world.clock.sleep(1)
    world.read()
    runtimes = world.tasks()["runtime_s"]
    assert runtimes.to_dict() == pytest.approx({"a": 10, "b@1": 10, "b": 60})
    assert (world.tasks()["started_at"] - T0.timestamp()).round().tolist()[:2] == [0, 10]


def test_instances_of_a_mapped_task_each_have_their_tries(world):
    run = world.airflow.start_run("d", "r")
    world.airflow.expand(run, "a", 3)
    for i in range(3):
        world.go(run, "a", *BEGINS, index=i)
    world.go(run, "a", (5, "up_for_retry"), *BEGINS, (5, "success"), index=1)
    world.go(run, "a", (5, "success"), index=0)
    world.read()
    assert sorted(world.tasks().index) == ["a[0]", "a[1]", "a[1]@1", "a[2]", "b"]
    assert [p.split("/")[-2:] for p in world.asked()] == [["1", "tries"]]


def retried(world: World, count: int) -> None:
    """So many runs that are over, each with one task that was tried twice."""
    for i in range(count):
        run = world.airflow.start_run("d", f"r{i}")
        world.go(run, "a", *BEGINS, (5, "up_for_retry"), *BEGINS, (5, "success"))
        world.go(run, "b", *BEGINS, (5, "success"))
        world.airflow.end_run(run)
    world.clock.sleep(1)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("past", [False, True])
def test_a_pass_asks_so_often_and_the_next_ones_go_on_where_it_stood(restarts, past):
    world = World(tries_a_pass=4)
    if not past:
        world.read()
    retried(world, 10)
    seen = []
    more = True
    while more and len(seen) < 9:
        before = len(world.asked())
        more = world.step()
        assert len(world.asked()) - before <= 4
        work = world.ports.work.work(POOL)
        assert len(work.runs) == 10, "runs do not wait for their tries"
        seen.append(sum(t == "a@1" for t in work.tasks["task_id"]))
        if restarts:
            world.restart()
    assert seen == [4, 8, 10]
    assert len(set(world.asked())) == len(world.asked()) == 10, "nothing is asked twice"
    assert not [k for k in world.ports.sources.state("prod").notebook if k.startswith("tries:")]
    assert not world.step()
    assert len(world.asked()) == 10


def test_a_pass_that_breaks_off_between_tries_loses_none():
    world = World(tries_a_pass=4)
    world.read()
    retried(world, 10)
    world.step()
    world.airflow.answers = 8
    with pytest.raises(SourceUnavailableError):
        world.step()
    world.airflow.answers = None
    while world.step():
        pass
    assert sum(t == "a@1" for t in world.ports.work.work(POOL).tasks["task_id"]) == 10


def test_a_run_that_is_gone_or_open_again_owes_nothing():
    world = World(tries_a_pass=1)
    world.read()
    retried(world, 4)
    world.step()
    owed = [k for k in world.ports.sources.state("prod").notebook if k.startswith("tries:")]
    assert len(owed) == 3
    run_ids = [k.split("\n")[1] for k in owed]
    world.airflow.delete_run(("d", run_ids[0]))
    world.airflow.clear(world.airflow.runs["d", run_ids[1]], ["b"])
    for _ in range(4):
        world.step()
    assert not [k for k in world.ports.sources.state("prod").notebook if k.startswith("tries:")]


def test_of_a_run_whose_tasks_all_failed_so_many_are_read_and_that_is_said():
    world = World(tries_a_pass=4)
    world.read()
    run = world.airflow.start_run("d", "r")
    world.airflow.expand(run, "a", 6)
    for i in range(6):
        world.go(run, "a", *BEGINS, (5, "up_for_retry"), *BEGINS, (5, "success"), index=i)
    world.airflow.end_run(run)
    world.clock.sleep(1)
    notes = [n for b in world.reader.changes(world.ports.sources.state("prod"), world.now()) for n in b.notes]
    assert notes == ["d/r: 6 tasks were tried again; earlier tries of 4 are read"]
    assert len(world.asked()) == 4


def test_airflow_2_9_keeps_no_tries_which_is_said_and_no_error():
    world = World("v1")
    world.airflow.release = "2.9.3"
    retried(world, 2)
    world.read()
    assert sorted(world.tasks().index) == ["a", "a", "b", "b"]
    assert world.asked() == []
    (found,) = [f for f in world.reader.examine() if f.what == "earlier tries"]
    assert (found.state, "2.10" in found.hint) == ("warn", True)
    world.airflow.release = "2.10.0"
    world.restart()
    (found,) = [f for f in world.reader.examine() if f.what == "earlier tries"]
    assert found.state == "ok"


def test_an_answer_that_makes_no_sense_is_kept_aside():
    world = World()
    world.read()
    world.airflow.faults.append(
        lambda r: httpx.Response(200, json={"task_instances": [{"try_number": 1}]}) if "/tries" in r.url.path else None
    )
    retried(world, 1)
    batches = list(world.reader.changes(world.ports.sources.state("prod"), world.now()))
    assert [r.reason for b in batches for r in b.rejects] == ["Airflow: no task_id"]
