"""Jobs that wait in a Slurm that behaves ask for what past runs of their task used; what it refuses is on record."""

from dataclasses import replace
from pathlib import Path

import pytest

from preprov.clocks import WallClock
from preprov.control.context import Context
from preprov.control.halting import halt
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.control.waiting_requests import ask_anew
from preprov.model.adjusting import Adjusting
from preprov.model.plans import ActionRecord
from preprov.model.pools import Gate, Mode
from preprov.planning.prices import TablePriceBook
from preprov.sim.ports import memory_ports
from preprov.slurm.errors import SlurmError, Trouble
from preprov.sources.budget import RequestBudget
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from preprov.testing.fake_slurm import FakeJob
from tests.fakeslurmworld import FakeSlurmWorld


class Stage:
    """A cluster, what was read of it, and control over it."""

    def __init__(self, folder: Path, *, newer: bool = False, mode: Mode = Mode.FULL, **manner: object) -> None:
        self.world = FakeSlurmWorld(folder, newer=newer)
        self.slurm = self.world.slurm
        adjusting = Adjusting(**{"pending": True, **manner})  # type: ignore[arg-type]
        self.pool = replace(self.world.pool, mode=mode, adjusting=adjusting, gate=Gate(0, 0))
        self.world.pool = self.pool
        clock = WallClock()
        self.ctx = Context(
            ports=memory_ports(),
            providers={"slurm": self.world.provider},
            schedulers={"slurm": self.world.another_scheduler()},
            prices=TablePriceBook.from_pools([self.pool]),
            clock=clock,
            pools={self.pool.name: self.pool},
        )

    def ran(self, runs: int, *, peak_mib: float = 300.0, seconds: float = 50.0, **fields: object) -> None:
        """Jobs of the same name, one after the other, in the past; and all of it is read."""
        for i in range(runs):
            used = {"cpu_s": seconds * 0.4, "peak_mib": peak_mib + i}
            at = self.slurm.now() - 4000 + 100 * i
            job = self.job(submit=at, used=used, **fields)
            job.start, job.end, job.state = at + 1, at + 1 + seconds, "COMPLETED"
        self.read()

    def read(self) -> None:
        reader = SlurmReader(self.world.connect(), RequestBudget(1e6, self.ctx.clock))
        source = SlurmSource(SlurmSettings("cluster", history_s=86_400.0), reader, self.ctx.clock)
        sync(self.ctx, source, Router(default=self.pool.name))

    def job(self, **fields: object) -> FakeJob:
        return self.slurm.add(**{"name": "fit", "cpus": 2, "memory": 2048, "limit_min": 60, **fields})

    def look(self) -> tuple[ActionRecord, ...]:
        return ask_anew(self.ctx, self.pool, self.ctx.clock.now())


@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
def test_what_waits_asks_for_what_its_task_used(tmp_path: Path, newer: bool) -> None:
    stage = Stage(tmp_path, newer=newer)
    stage.ran(5)
    waits, other = stage.job(), stage.job(name="unknown")
    (row,) = stage.look()
    assert (row.result, row.action.task) == ("done", f"{waits.job_id}/fit#0")
    assert 304 < waits.memory < 700
    assert waits.cpus == 1
    assert row.action.numbers["memory_before"] == 2.0
    assert row.action.numbers["memory_after"] == pytest.approx(waits.memory / 1024, abs=1 / 1024)
    assert "5 runs used" in row.action.reason
    assert (other.cpus, other.memory) == (2, 2048), "nothing is known of it"
    assert stage.look() == (), "it is as it should be"
    assert row in stage.ctx.ports.audit.records("batch")


def test_one_that_asks_for_too_little_is_given_more_and_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.ran(5, peak_mib=900, seconds=590)
    waits = stage.job(memory=500, cpus=1, limit_min=10)
    (row,) = stage.look()
    assert waits.memory > 904
    assert waits.limit_min == 15
    assert "time limit 10 -> 15 min" in row.action.reason
    waits = stage.job(memory=300, cpus=1, limit_min=600)
    stage.look()
    assert waits.memory > 904
    assert waits.limit_min == 600, "no limit is shortened"


@pytest.mark.parametrize(
    "fields",
    [
        {"array_id": 7, "elements": "0-3"},
        {"het_id": 7},
        {"depends": "afterok:1"},
        {"nodes": 2},
        {"partition": "else"},
        {"comment": "preprov:r/t#0"},
        {"state": "RUNNING", "node": "cn1"},
    ],
)
def test_what_cannot_be_changed_for_sure_is_left(tmp_path: Path, fields: dict) -> None:
    stage = Stage(tmp_path)
    stage.ran(5)
    job = stage.job(**fields)
    assert stage.look() == ()
    assert (job.cpus, job.memory) == (2, 2048)


def test_cores_of_several_tasks_are_left(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.ran(5)
    job = stage.job(tasks=2)
    stage.look()
    assert job.cpus == 2
    assert job.memory < 2048


@pytest.mark.parametrize(
    "manner",
    [{"pending": False}, {"mode": Mode.FLOOR}, {"mode": Mode.RECOMMEND}, {"mode": Mode.OBSERVE}, {"decrease": False}],
)
def test_only_where_a_pool_allows_it_and_acts_in_full(tmp_path: Path, manner: dict) -> None:
    stage = Stage(tmp_path, **manner)
    stage.ran(5)
    job = stage.job()
    assert stage.look() == ()
    assert (job.cpus, job.memory) == (2, 2048)


def test_a_halt_stops_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.ran(5)
    halt(stage.ctx, reason="enough")
    job = stage.job()
    assert stage.look() == ()
    assert job.memory == 2048


def test_a_refusal_is_on_record_and_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path)
    stage.ran(5)
    job = stage.job()

    def refuses(_: object) -> None:
        raise SlurmError(Trouble.DENIED, "Access/permission denied for job 6", "scontrol update")

    monkeypatch.setattr(stage.slurm, "_update_job", refuses)
    (row,) = stage.look()
    assert row.result == "failed"
    assert row.detail.startswith("refused: ")
    assert "permission denied" in row.detail
    assert job.memory == 2048
    assert stage.look() == ()


def test_one_that_began_meanwhile_is_refused_by_slurm_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path)
    stage.ran(5)
    job = stage.job()
    scheduler = stage.ctx.schedulers["slurm"]
    seen = scheduler.waiting(stage.pool)  # type: ignore[attr-defined]
    monkeypatch.setattr(scheduler, "waiting", lambda _: seen)
    job.state, job.node = "RUNNING", "cn1"
    (row,) = stage.look()
    assert row.result == "failed"
    assert "no longer pending" in row.detail
    assert job.memory == 2048


def test_of_a_task_that_failed_with_less_nothing_is_taken_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.ran(5)
    first, tame = stage.job(), stage.job()
    assert len(stage.look()) == 2
    first.state, first.start, first.end = "OUT_OF_MEMORY", stage.slurm.now(), stage.slurm.now()
    tame.state, tame.start, tame.end = "COMPLETED", stage.slurm.now(), stage.slurm.now()
    again = stage.job()
    assert stage.look() == ()
    assert again.memory == 2048
