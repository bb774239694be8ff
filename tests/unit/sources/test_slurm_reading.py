"""A Slurm whose clock is not ours, read pass by pass."""

import json
import os
import pwd
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from preprov.contracts import Progress, SourceState
from preprov.demand.waiting.tonight import foresee
from preprov.model.agent import Usage
from preprov.model.errors import SourceError, SourceUnavailableError
from preprov.model.time import from_epoch
from preprov.sim.clock import VirtualClock
from preprov.sim.ports import memory_ports
from preprov.slurm.commands import SlurmCommands, run_command
from preprov.slurm.errors import SlurmError, Trouble
from preprov.slurm.rest import SlurmRest
from preprov.sources.budget import RequestBudget
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from preprov.testing.fake_slurm import FakeJob, FakePartition, FakeReservation, FakeSlurm
from preprov.testing.fake_slurmrestd import FakeSlurmrestd
from preprov.testing.live_source_contract import POOL, held, read, unrouted
from preprov.testing.store_examples import T0


class World:
    """A Slurm that is ahead of us by so much, a store, a reader."""

    def __init__(self, folder: Path, ahead_s: float, *, newer: bool = True) -> None:
        self.ahead_s = ahead_s
        self.slurm = FakeSlurm(["cn1"], folder, newer=newer)
        self.ports = memory_ports()
        self.reader = self.source()

    def source(self, history_s: float = 86_400.0) -> SlurmSource:
        reader = SlurmReader(SlurmCommands(self.slurm.run), RequestBudget(1e6, self))
        return SlurmSource(SlurmSettings("cluster", history_s=history_s), reader, self, wall=self.wall)

    def wall(self) -> float:
        return self.slurm.now() - self.ahead_s

    def now(self) -> datetime:
        return from_epoch(self.wall())

    def sleep(self, seconds: float) -> None:
        self.slurm.offset += seconds

    def read(self):
        return read(self, self.ports, self.reader)

    def read_more(self, progress: Progress | None = None) -> bool:
        """One pass; whether there is more of the past."""
        more = False
        for batch in self.reader.changes(self.ports.sources.state("cluster"), self.now(), progress):
            self.ports.sources.apply("cluster", unrouted(batch, "UTC"), self.now())
            more |= batch.more
        return more

    def quick(self) -> FakeJob:
        """A job that nobody sees in the queue."""
        job = self.slurm.add(name="quick")
        self.sleep(5)
        self.slurm.end(job, "COMPLETED")
        self.slurm.forgotten.add(job.job_id)
        return job


@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
@pytest.mark.parametrize("ahead_s", [-3600.0, -600.0, 600.0, 3600.0])
def test_a_clock_that_is_off_loses_no_job_and_is_told_in_ours(tmp_path: Path, ahead_s: float, newer: bool) -> None:
    w = World(tmp_path, ahead_s, newer=newer)
    w.read()
    w.sleep(60)
    quick = w.quick()
    long = w.slurm.add(name="long")
    w.sleep(400)
    w.read()
    w.slurm.end(long, "COMPLETED")
    w.sleep(60)
    w.reader = w.source()  # the next process knows from the notebook
    w.read()
    assert sorted(held(w.ports)) == sorted((str(quick.job_id), str(long.job_id)))
    work = w.ports.work.work(POOL)
    ended = dict(zip(work.runs["run_id"].to_numpy()[work.tasks["run"]], work.tasks["ended_at"], strict=True))
    for job in (quick, long):
        assert ended[str(job.job_id)] == pytest.approx(job.end - ahead_s, abs=1.5)
    for _ in range(3):
        w.sleep(33.3)
        again = w.read()
        assert (again.new, again.changed) == (0, 0), "a clock is not set anew at each pass"


def test_a_clock_that_is_put_right_between_two_passes_loses_no_job(tmp_path: Path) -> None:
    w = World(tmp_path, 3600.0)
    w.read()
    for ahead_s in (0.0, -3600.0, 3600.0):
        w.sleep(300)
        w.read()
        w.slurm.offset += ahead_s - w.ahead_s
        w.ahead_s = ahead_s
        w.sleep(20)
        w.quick()
        w.sleep(20)
        w.read()
        assert sorted(held(w.ports)) == sorted(str(j) for j in w.slurm.jobs)


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0])
def test_what_jobs_used_is_told_once_some_minutes_after_their_end(tmp_path: Path, ahead_s: float) -> None:
    w = World(tmp_path, ahead_s)
    w.read()
    told: list[tuple[str, Usage]] = []

    def passes(count: int) -> None:
        for _ in range(count):
            w.sleep(60)
            for batch in w.reader.changes(w.ports.sources.state("cluster"), w.now()):
                w.ports.sources.apply("cluster", unrouted(batch, "UTC"), w.now())
                told.extend(u for u in batch.usage if not u[0].startswith(f"{running.job_id}/"))

    begun = w.slurm.now()
    used = {"cpu_s": 300.0, "peak_mib": 2048.0, "disk_mib": 400.0}
    plain = w.slurm.add(name="fit", start=begun, used=used)
    wide = w.slurm.add(name="wide", start=begun, nodes=2, used=used)
    parent = w.slurm.add(name="fit", start=begun, used=used)
    parent.array_id, parent.element = parent.job_id, 4
    unseen = w.slurm.add(name="unseen", start=begun)
    running = w.slurm.add(name="running", start=begun, state="RUNNING", used=used)
    after = w.slurm.add(name="fit", start=begun, used=used, line=f"sbatch --dependency=afterok:{plain.job_id} a.sh")
    w.sleep(100)
    for job in (plain, wide, parent, unseen, after):
        w.slurm.end(job, "COMPLETED")
    passes(1)
    assert told == [], "the accounting is written late"
    w.reader = w.source()
    passes(4)
    w.reader = w.source()
    passes(4)
    found = dict(told)
    assert len(told) == len(found)
    assert set(found) == {
        f"{plain.job_id}/fit#0",
        f"{plain.job_id}/fit (2)#0",
        f"{wide.job_id}/wide#0",
        f"{wide.job_id}/wide#1",
        f"{parent.job_id}/fit[4]#0",
    }
    work = w.ports.work.work(POOL)
    names = {
        f"{r}/{t}"
        for r, t in zip(work.runs["run_id"].to_numpy()[work.tasks["run"]], work.tasks["task_id"], strict=True)
    }
    assert {c.partition("#")[0] for c in found} | {f"{j.job_id}/{j.name}" for j in (unseen, running)} == names
    one = found[f"{plain.job_id}/fit#0"]
    assert one.at == pytest.approx(begun + 100 - ahead_s, abs=1.5)
    assert (one.cpu, one.memory) == (pytest.approx(3.0, rel=0.02), 2.0)
    assert one.disk_io == pytest.approx(4.194, rel=0.02)
    assert one.network is None
    assert found[f"{wide.job_id}/wide#1"].cpu == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0])
def test_what_running_jobs_use_is_told_from_look_to_look_and_adds_up_to_what_the_accounting_says(
    tmp_path: Path, ahead_s: float
) -> None:
    w = World(tmp_path, ahead_s)
    w.read()
    told: list[tuple[str, Usage]] = []

    def one_pass() -> None:
        for batch in w.reader.changes(w.ports.sources.state("cluster"), w.now()):
            w.ports.sources.apply("cluster", unrouted(batch, "UTC"), w.now())
            told.extend(batch.usage)

    begun = w.slurm.now()
    job = w.slurm.add(name="fit", start=begun, state="RUNNING", node="cn1", nodes=2)
    for cpu_s, memory, disk in ((60.0, 1024.0, 0.0), (300.0, 4096.0, 240.0), (330.0, 2048.0, 240.0)):
        w.sleep(60)
        job.used = {"cpu_s": cpu_s, "peak_mib": memory, "disk_mib": disk}
        one_pass()
        w.reader = w.source()  # each process knows of the looks before
    w.sleep(40)
    job.used = {"cpu_s": 410.0, "peak_mib": 4000.0, "disk_mib": 240.0}
    w.slurm.end(job, "COMPLETED")
    w.sleep(200)
    one_pass()
    one_pass()
    found = [u for name, u in told if name == f"{job.job_id}/fit#1"]
    assert [u.at for u in found] == pytest.approx([begun - ahead_s + t for t in (60, 120, 180, 220)], abs=2)
    assert [u.cpu for u in found] == pytest.approx([0.5, 2.0, 0.25, 1.0], rel=0.1)
    assert [u.memory for u in found] == pytest.approx([0.5, 2.0, 1.0, 3.9], rel=0.1)
    lengths = [b - a for a, b in zip([begun - ahead_s, *(u.at for u in found)], (u.at for u in found), strict=False)]
    assert sum(2 * u.cpu * s for u, s in zip(found, lengths, strict=True)) == pytest.approx(410.0, rel=0.02)
    assert found[1].disk_io == pytest.approx(2.0 * 1.048576, rel=0.1)
    assert {name for name, _ in told} == {f"{job.job_id}/fit#0", f"{job.job_id}/fit#1"}


def test_many_running_jobs_are_looked_at_in_turns_within_the_budget(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)
    begun = w.slurm.now() - 60
    jobs = [w.slurm.add(name=f"j{i}", start=begun, state="RUNNING", node="cn1").job_id for i in range(1_250)]
    told: set[str] = set()
    for _ in range(2):
        budget = RequestBudget(1e6, w)
        reader = SlurmReader(SlurmCommands(w.slurm.run), budget)
        source = SlurmSource(SlurmSettings("cluster", history_s=600.0), reader, w, wall=w.wall)
        w.slurm.calls.clear()
        for batch in source.changes(w.ports.sources.state("cluster"), w.now()):
            w.ports.sources.apply("cluster", unrouted(batch, "UTC"), w.now())
            told |= {name for name, _ in batch.usage}
        asked = [c for c in w.slurm.calls if c[0] == "sstat"]
        assert all(len(c[-1].split(",")) <= 100 for c in asked)
        assert len(asked) <= 10
        assert budget.asked == len(w.slurm.calls)
        w.sleep(60)
    assert len(told) == len(jobs)


def test_a_cluster_without_sstat_or_one_that_wants_no_looks_is_read_all_the_same(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)
    job = w.slurm.add(name="fit", start=w.slurm.now() - 60, state="RUNNING", node="cn1")

    def run(argv, stdin=None):
        if argv[0] == "sstat":
            raise SlurmError(Trouble.UNREACHABLE, "sstat did not end within 60 s", "sstat -a")
        return w.slurm.run(argv, stdin)

    reader = SlurmReader(SlurmCommands(run), RequestBudget(1e6, w))
    for usage in (True, False):
        source = SlurmSource(SlurmSettings("cluster", usage=usage), reader, w, wall=w.wall)
        batches = list(source.changes(w.ports.sources.state("cluster"), w.now()))
        notes = [n for b in batches for n in b.notes]
        assert notes == (["what running jobs use is not known: sstat -a: sstat did not end within 60 s"] * usage)
        assert any(str(job.job_id) in set(b.runs.work.runs["run_id"]) for b in batches)


@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
def test_what_runs_in_a_reservation_of_slurms_own_asks_for_nothing_and_constraints_are_kept(
    tmp_path: Path, newer: bool
) -> None:
    w = World(tmp_path, 0.0, newer=newer)
    begun = w.slurm.now()
    kept = w.slurm.add(name="kept", start=begun, state="RUNNING", node="cn1", cpus=2, reservation="maint")
    w.slurm.add(name="fast", submit=begun, start=begun, state="RUNNING", node="cn1", cpus=2, features="gpu&(a|b)")
    for _ in range(2):  # as the queue has it, and as the accounting does
        w.read()
        work = w.ports.work.work(POOL)
        tasks = work.tasks.set_index("task_id")
        assert tasks.loc["kept", ["cpu", "memory", "gpu"]].tolist() == [0.0, 0.0, 0.0]
        assert tasks.loc["fast", "cpu"] == 2.0
        assert tasks["constraint"].to_dict() == {"kept": "", "fast": "gpu&(a|b)"}
        w.sleep(60)
        for job in w.slurm.jobs.values():
            w.slurm.end(job, "COMPLETED")
            w.slurm.forgotten.add(job.job_id)
    assert kept.job_id in w.slurm.jobs


@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
def test_a_heterogeneous_job_is_one_run_with_a_task_for_each_component(tmp_path: Path, newer: bool) -> None:
    w = World(tmp_path, 0.0, newer=newer)
    head = w.slurm.add(name="sim", cpus=2)
    wide = w.slurm.add(name="viz", cpus=8, nodes=2, partition="gpu", features="a100")
    for offset, job in enumerate((head, wide)):
        job.het_id, job.het_offset = head.job_id, offset
    after = w.slurm.add(name="after", depends=f"afterok:{head.job_id}(unfulfilled)")
    w.slurm.jobs = dict(reversed(w.slurm.jobs.items()))  # whichever component is told of first
    told: list[str] = []

    def passes() -> None:
        for _ in range(2):
            w.sleep(60)
            for batch in w.reader.changes(w.ports.sources.state("cluster"), w.now()):
                w.ports.sources.apply("cluster", unrouted(batch, "UTC"), w.now())
                told.extend(name for name, _ in batch.usage)
        assert held(w.ports) == [str(head.job_id)]

    def tasks():
        return w.ports.work.work(POOL).tasks.set_index("task_id").sort_index()

    passes()
    assert tasks().index.tolist() == ["after", "sim+0", "sim+1"]
    assert tasks()[["cpu", "instances", "constraint"]].to_numpy().tolist()[1:] == [[2.0, 1, ""], [4.0, 2, "a100"]]
    signatures = tasks()["signature"].to_dict()
    assert len(set(signatures.values())) == 3
    work = w.ports.work.work(POOL)
    names = work.tasks["task_id"].tolist()
    edges = {(names[p], names[c]) for p, c in zip(work.parents, work.children, strict=True)}
    assert edges == {("sim+0", "after"), ("sim+1", "after")}
    begun = w.slurm.now()
    for job in (head, wide):
        job.state, job.start, job.node = "RUNNING", begun, "cn1"
        job.used = {"cpu_s": 300.0, "peak_mib": 2048.0, "disk_mib": 0.0}
    passes()
    assert tasks()["started_at"].tolist()[1:] == pytest.approx([begun, begun], abs=1.0)
    assert tasks()["signature"].to_dict() == signatures
    for job in (head, wide):
        w.slurm.end(job, "COMPLETED")
    w.slurm.forgotten.update(w.slurm.jobs.keys() - {after.job_id})
    after.depends = ""
    w.reader = w.source()
    passes()
    assert tasks()["ended_at"].tolist()[1:] == pytest.approx([head.end, wide.end], abs=1.0)
    assert tasks()["signature"].to_dict() == signatures
    w.slurm.end(after, "COMPLETED")
    w.slurm.forgotten.add(after.job_id)
    w.sleep(300)
    passes()
    assert tasks()["ended_at"].notna().all()
    assert not w.ports.sources.state("cluster").open
    assert {t for t in told if "sim" in t} == {f"{head.job_id}/sim+{i}" for i in ("0#0", "1#0", "1#1")}
    again = w.read()
    assert (again.new, again.changed, again.gone) == (0, 0, 0), "and nothing comes twice"


def test_the_partition_that_each_component_waits_in_is_its_queue_and_one_that_is_held_holds_all(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)
    head = w.slurm.add(name="sim")
    other = w.slurm.add(name="sim", partition="gpu", reason="AssocMaxJobsLimit")
    for offset, job in enumerate((head, other)):
        job.het_id, job.het_offset = head.job_id, offset
    (runs,) = [b.runs for b in w.reader.changes(w.ports.sources.state("cluster"), w.now()) if len(b.runs)]
    assert runs.queues.tolist() == ["batch", "gpu"]
    assert (runs.work.runs["due"] > runs.work.runs["submit"] + 86_400.0).all()


@pytest.mark.parametrize("anew", [False, True], ids=["one process", "a process for each pass"])
@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
def test_elements_of_an_array_are_kept_after_the_controller_has_forgotten_them(
    tmp_path: Path, newer: bool, anew: bool
) -> None:
    """While later ones still run, and after: each window of the accounting tells only of those that ended in it."""
    w = World(tmp_path, 0.0, newer=newer)
    first = w.slurm.add(name="wave")
    array = [first, *(w.slurm.add(name="wave", submit=first.submit) for _ in range(3))]
    for element, job in enumerate(array):
        job.array_id, job.element = first.job_id, element

    def ends() -> list[bool]:
        w.reader = w.source() if anew else w.reader
        w.read()
        tasks = w.ports.work.work(POOL).tasks.set_index("task_id")["ended_at"].sort_index()
        assert tasks.index.tolist() == [f"wave[{i}]" for i in range(4)]
        return tasks.notna().tolist()

    for element, job in enumerate(array):
        job.state, job.start = "RUNNING", w.slurm.now()
        w.sleep(900)
        assert ends() == [i < element for i in range(4)]
        w.slurm.end(job, "COMPLETED")
        if element % 2:
            assert ends() == [i <= element for i in range(4)]
        w.sleep(400)
        w.slurm.forgotten.add(job.job_id)  # some are forgotten between two passes
        w.slurm.calls.clear()
        assert ends() == [i <= element for i in range(4)]
        asked = [c for c in w.slurm.calls if any(a.startswith("--jobs=") for a in c)]
        assert len(asked) <= 1
        assert ends() == [i <= element for i in range(4)]
    w.sleep(600)
    again = w.read()
    assert (again.new, again.changed, again.gone) == (0, 0, 0)


def test_an_array_that_ended_over_several_days_of_the_past_is_read_whole(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)
    begun = w.slurm.now() - 4 * 86_400.0
    first = w.slurm.add(name="wave", submit=begun)
    for i, job in enumerate([first, *(w.slurm.add(name="wave", submit=begun) for _ in range(3))]):
        job.array_id, job.element = first.job_id, i
        job.state, job.start, job.end = "COMPLETED", begun + 60.0, begun + i * 86_400.0 + 600.0
        w.slurm.forgotten.add(job.job_id)
    w.reader = w.source(history_s=7 * 86_400.0)
    w.read()
    assert w.ports.work.work(POOL).tasks["ended_at"].notna().tolist() == [True] * 4


def past(w: World, days: int, a_day: int) -> list[FakeJob]:
    """Jobs that ended over so many days, and left the queue."""
    made = [w.slurm.add(name="past") for _ in range(days * a_day)]
    for i, job in enumerate(made):
        job.state, job.end = "COMPLETED", w.slurm.now() - 3_600 - i * 86_400 / a_day
        job.submit = job.start = job.end - 30
        w.slurm.forgotten.add(job.job_id)
    return made


def asked_windows(w: World) -> list[float]:
    """How many seconds each question to the accounting was about."""
    told = [dict(a.lstrip("-").split("=", 1) for a in c if "=" in a) for c in w.slurm.calls if c[0] == "sacct"]
    at = [[datetime.fromisoformat(t[k]) for k in ("starttime", "endtime")] for t in told if "starttime" in t]
    return [(end - begin).total_seconds() for begin, end in at]


def test_where_a_day_is_too_much_for_the_accounting_it_is_asked_for_less_and_all_is_read(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)
    jobs = past(w, days=3, a_day=48)
    w.slurm.most = 10
    w.reader = w.source(history_s=4 * 86_400.0)
    for _ in range(20):
        if not w.read_more():
            break
    else:
        pytest.fail("there is no end of the past")
    assert len(held(w.ports)) == len(jobs)
    assert max(asked_windows(w)) == 86_400.0
    w.slurm.calls.clear()
    w.read_more()
    assert max(asked_windows(w)) < 1_000.0, "the cursor has passed it"


def test_an_accounting_that_never_answers_is_an_error_in_the_end_and_the_queue_is_read_all_the_same(
    tmp_path: Path,
) -> None:
    w = World(tmp_path, 0.0)
    past(w, days=1, a_day=2)
    w.slurm.most = -1

    def passes() -> None:
        for _ in range(20):
            job = w.slurm.add(name="now")
            assert w.read_more()
            assert str(job.job_id) in held(w.ports)

    with pytest.raises(SourceUnavailableError, match="did not end within"):
        passes()
    w.slurm.most = None
    while w.read_more():
        pass
    assert len(held(w.ports)) == len(w.slurm.jobs)


def test_a_long_past_does_not_hold_up_what_is_live(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)
    jobs = past(w, days=6, a_day=5)
    w.reader = w.source(history_s=7 * 86_400.0)
    real = w.slurm.run

    def slow(argv, stdin=None):
        w.slurm.offset += 20.0 if argv[0] == "sacct" else 0.0
        return real(argv, stdin)

    w.slurm.run = slow  # type: ignore[method-assign]
    w.reader = w.source(history_s=7 * 86_400.0)
    seen, shares = [], []
    for _ in range(10):
        seen.append(w.slurm.add(name="now"))
        began = w.slurm.now()
        more = w.read_more(lambda share, _: shares.append(share))
        assert w.slurm.now() - began < 150, "seven days take longer"
        assert {str(j.job_id) for j in seen} <= set(held(w.ports))
        if not more:
            break
        w.slurm.end(seen[0], "COMPLETED")
        w.slurm.forgotten.add(seen[0].job_id)  # it ended between two passes; the accounting is read up to days ago
        w.reader = w.reader if len(seen) % 2 else w.source(history_s=7 * 86_400.0)
    assert len(seen) > 2
    assert len(held(w.ports)) == len(jobs) + len(seen)
    assert str(seen[0].job_id) not in {r.run_id for r in w.ports.sources.state("cluster").open}
    assert all(0 <= s <= 1 for s in shares)


def test_what_is_over_and_told_is_not_remembered_for_ever(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)
    mine = tracemalloc.Filter(inclusive=True, filename_pattern="*/preprov/sources/slurm/source.py")
    sizes = []
    tracemalloc.start()
    try:
        for _ in range(4):
            for job in [w.slurm.add(name="quick") for _ in range(300)]:
                w.slurm.end(job, "COMPLETED")
                w.slurm.forgotten.add(job.job_id)
            w.sleep(300)
            w.read()
            w.sleep(300)
            w.read()
            kept = tracemalloc.take_snapshot().filter_traces([mine])
            sizes.append(sum(t.size for t in kept.traces))
    finally:
        tracemalloc.stop()
    assert len(held(w.ports)) == 1_200
    assert sizes[-1] - sizes[0] < 20_000, sizes


@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
def test_where_nothing_starts_is_noted_once_and_its_jobs_are_not_expected(tmp_path: Path, newer: bool) -> None:
    w = World(tmp_path, 0.0, newer=newer)
    gpu = FakePartition("gpu", 8)
    w.slurm.partitions = [FakePartition("batch", 4), gpu]
    stuck = w.slurm.add(name="stuck", partition="gpu", reason="Priority")
    w.slurm.add(name="either", partition="gpu,batch")

    def pass_of(state: str) -> tuple[dict[str, bool], list[str]]:
        gpu.state = state
        w.sleep(301)
        notes = []
        for batch in w.reader.changes(w.ports.sources.state("cluster"), w.now()):
            w.ports.sources.apply("cluster", unrouted(batch, "UTC"), w.now())
            notes += batch.notes
        runs = w.ports.work.work(POOL).runs
        return dict(zip(runs["dag_id"], runs["due"] < w.wall() + 86_400.0, strict=True)), notes

    both = {"ana/stuck": True, "ana/either": True}
    assert pass_of("UP") == (both, [])
    limits = {f.name: f.slots for f in w.ports.sources.limits()}
    assert limits == {"batch": 4.0 * w.slurm.cpus, "gpu": 8.0 * w.slurm.cpus}, "nodes that are off count"
    for state in ("DOWN", "INACTIVE"):
        expected, (note,) = pass_of(state)
        assert expected == {**both, "ana/stuck": False}
        assert f"gpu is {state}" in note
        assert pass_of(state) == (expected, [])
        assert {f.name: f.slots for f in w.ports.sources.limits()} == {**limits, "gpu": 0.0}
        (found,) = [f for f in w.reader.examine() if f.what == "partitions"]
        assert (found.state, "nothing starts in gpu" in found.found) == ("warn", True)
    expected, (note,) = pass_of("DRAIN")
    assert expected == both, "what is queued there already still starts"
    assert "takes no new jobs" in note
    assert pass_of("UP") == (both, [])
    assert stuck.state == "PENDING"


def test_partitions_are_asked_for_every_few_minutes_and_where_they_are_hidden_the_rest_is_read(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)
    for _ in range(10):
        w.read()
        w.sleep(60)
    asked = [c for c in w.slurm.calls if "partition" in c]
    assert len(asked) == 2

    def run(argv, stdin=None):
        if "partition" in argv:
            raise SlurmError(Trouble.DENIED, "Access/permission denied", "scontrol show")
        return w.slurm.run(argv, stdin)

    w.slurm.add(name="fit")
    reader = SlurmReader(SlurmCommands(run), RequestBudget(1e6, w))
    batches = list(SlurmSource(SlurmSettings("cluster"), reader, w, wall=w.wall).changes(SourceState(), w.now()))
    assert [n for b in batches for n in b.notes] == [
        "partitions are not known: scontrol show: Access/permission denied"
    ]
    assert any(len(b.runs) for b in batches)
    assert all(b.limits is None for b in batches), "those that were told stay"


@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
def test_a_reservation_has_its_cores_of_a_partition_while_it_holds(tmp_path: Path, newer: bool) -> None:
    w = World(tmp_path, 600.0, newer=newer)
    w.slurm.partitions = [FakePartition("batch", 4), FakePartition("gone", 4, state="DOWN")]
    now = float(int(w.slurm.now()))
    w.slurm.reservations = [
        FakeReservation("maint", "cn[1-3]", now + 3600, now + 7200, 6),
        FakeReservation("half", "cn[4-5]", now - 60, now + 60, 2),  # one of its nodes is in another partition
        FakeReservation("nightly", "cn1", now - 3600, now + 600, 2, "DAILY,SPEC_NODES"),
        FakeReservation("over", "cn[1-4]", now - 7200, now - 10, 8),
        FakeReservation("licences", "", now, now + 600, 0),
    ]
    w.read()
    batch, gone = w.ports.sources.limits()
    assert (batch.name, batch.slots, gone.slots, gone.reserved) == ("batch", 8.0, 0.0, ())
    day = 86_400.0
    assert [n for _, _, n in batch.reserved] == [2, 1, 6, 2, 2]
    begins, ends = ([span[i] - now + 600.0 for span in batch.reserved] for i in (0, 1))
    assert begins == pytest.approx([-3600, -60, 3600, day - 3600, 2 * day - 3600], abs=2.0), "by our clock"
    assert ends == pytest.approx([600, 60, 7200, day + 600, 2 * day + 600], abs=2.0)


def test_a_cluster_that_does_not_show_its_reservations_is_read_without(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)

    def run(argv, stdin=None):
        if "reservation" in argv:
            raise SlurmError(Trouble.DENIED, "Access/permission denied", "scontrol show")
        return w.slurm.run(argv, stdin)

    source = SlurmSource(SlurmSettings("c"), SlurmReader(SlurmCommands(run), RequestBudget(1e6, w)), w, wall=w.wall)
    batches = list(source.changes(SourceState(), w.now()))
    assert [n for b in batches for n in b.notes] == [
        "reservations are not known: scontrol show: Access/permission denied"
    ]
    assert [f.slots for b in batches for f in b.limits or ()] == [2.0]


@pytest.mark.parametrize(
    ("kept_h", "waits_h"), [(0, 12), (24, 30), (1, 18)], ids=["all", "a node less", "an hour later all"]
)
def test_a_partition_that_tonights_jobs_fill_is_the_bottleneck(tmp_path: Path, kept_h: int, waits_h: int) -> None:
    """A crontab's array of twelve, an hour each, where there is room for four, or for two while one node is kept."""
    w = World(tmp_path, 0.0)
    w.slurm.partitions = [FakePartition("batch", 2)]
    turn = datetime.fromtimestamp(w.wall(), UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
    if kept_h:
        end = turn.timestamp() + kept_h * 3600.0
        w.slurm.reservations = [FakeReservation("maint", "cn1", turn.timestamp() - 600.0, end, 2)]
    crontab = tmp_path / "root.cron"
    crontab.write_text(f"0 {turn.hour} * * * sbatch --job-name=wave --partition=batch wave.sh\n")
    yesterday = turn.timestamp() - 86_400.0
    first = w.slurm.add(name="wave", submit=yesterday, user="root", reason="Resources")
    array = [first, *(w.slurm.add(name="wave", submit=yesterday, user="root") for _ in range(11))]
    for i, job in enumerate(array):
        job.array_id, job.element, job.state = first.job_id, i, "COMPLETED"
        job.start = yesterday + 3600.0 * (i // 4)
        job.end = job.start + 3600.0
        w.slurm.forgotten.add(job.job_id)
    settings = SlurmSettings("cluster", history_s=3 * 86_400.0, crontabs=(crontab,))
    w.reader = SlurmSource(settings, SlurmReader(SlurmCommands(w.slurm.run), RequestBudget(1e6, w)), w, wall=w.wall)
    w.read()
    found = foresee(w.ports.work.work(POOL), w.ports.work.schedules(POOL), w.ports.sources.limits(), w.now(), 8)
    assert found.keys() == {"slurm_partition/cluster/batch"}
    (waits,) = found.values()
    assert waits.sum() == pytest.approx(waits_h * 3600.0)


@pytest.mark.parametrize(
    ("private", "user", "level", "said"),
    [
        ("none", 4321, "None", ""),
        ("jobs,usage,users", 4321, "None", "PrivateData=jobs,usage"),
        ("accounts,users", 4321, "None", ""),  # nothing of that is read
        ("jobs", 0, "None", ""),
        ("jobs", 64030, "None", ""),
        ("jobs", 4321, "Operator", ""),
        ("jobs", 4321, "Administrator", ""),
    ],
)
def test_a_queue_that_hides_jobs_of_others_is_not_found_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: str, user: int, level: str, said: str
) -> None:
    w = World(tmp_path, 0.0)
    w.slurm.config_more |= {"PrivateData": private, "SlurmUser": "slurm(64030)"}
    w.slurm.admin_level = level
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: SimpleNamespace(pw_name="ana"))
    found = [f for f in w.reader.examine() if f.what == "jobs of others"]
    assert [(f.state, f.found.partition(":")[0]) for f in found] == ([("warn", said)] if said else [])
    assert all("adminlevel=Operator" in f.hint for f in found)


@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
def test_over_rest_jobs_that_are_hidden_are_counted_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, newer: bool
) -> None:
    w = World(tmp_path, 0.0, newer=newer)
    restd = FakeSlurmrestd(w.slurm)
    monkeypatch.setattr(httpx, "get", restd.get)
    reader = SlurmReader(SlurmRest("http://slurm", "ana", lambda: "token"), RequestBudget(1e6, w))
    source = SlurmSource(SlurmSettings("cluster"), reader, w, wall=w.wall)

    def said() -> list[tuple[str, str, str]]:
        return [(f.what, f.state, f.found) for f in source.examine() if f.what in ("jobs of others", "arrays")]

    w.slurm.add(user="ana", elements="0-4%2").array_id = 1
    w.slurm.add(user="ben", state="RUNNING", node="cn1", start=w.slurm.now())
    w.slurm.end(w.slurm.add(user="ben"), "COMPLETED")
    assert said() == [], "all is shown"
    restd.private = "ana"
    ((what, state, found),) = said()
    assert (what, state) == ("jobs of others", "warn")
    assert "counts 6 jobs" in found
    assert "shows this user 5" in found
    w.slurm.jobs[1].elements = "0,2,4,6,8,..."
    assert said() == [("arrays", "warn", "elements are missing of 1 arrays that wait")]


def test_the_commands_are_asked_for_whole_lists_of_elements(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "squeue"
    told.write_text("""#!/bin/sh\nprintf '{"said": "%s"}' "$SLURM_BITSTR_LEN"\n""")
    told.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert json.loads(run_command()(["squeue"], None))["said"] == "0"


def test_whether_what_running_jobs_use_can_be_asked_is_tried(tmp_path: Path) -> None:
    w = World(tmp_path, 0.0)

    def run(argv, stdin=None):
        if argv[0] == "sstat" and failing:
            if failing[0]:
                raise SlurmError(Trouble.DENIED, failing[0], "sstat -a")
            return ""
        return w.slurm.run(argv, stdin)

    def usage() -> tuple[str, str]:
        reader = SlurmReader(SlurmCommands(run), RequestBudget(1e6, w))
        (found,) = [f for f in SlurmSource(SlurmSettings("c"), reader, w, wall=w.wall).examine() if f.what == "usage"]
        assert (found.state == "ok") == (not found.hint)
        return found.state, found.found

    failing: list[str] = []
    w.slurm.add(start=w.slurm.now() - 5, state="RUNNING", node="cn1")
    assert usage()[0] == "ok"
    assert not [c for c in w.slurm.calls if c[0] == "sstat"], "a job that has just begun has no step yet"
    w.slurm.add(start=w.slurm.now() - 300, state="RUNNING", node="cn1")
    assert usage() == ("ok", "`sstat` tells what 1 of 1 running jobs use")
    failing = ["Access/permission denied"]
    assert usage() == ("warn", "sstat -a: Access/permission denied")
    failing = [""]
    assert usage()[0] == "warn"
    settings = SlurmSettings("c", usage=False)
    source = SlurmSource(settings, SlurmReader(SlurmCommands(run), RequestBudget(1e6, w)), w, wall=w.wall)
    assert "usage" not in {f.what for f in source.examine()}


def test_a_clock_that_is_off_is_said(tmp_path: Path) -> None:
    for ahead_s, state, said in ((3600.0, "warn", "ahead of"), (-3600.0, "warn", "behind"), (2.0, "ok", "agrees")):
        (clock,) = [f for f in World(tmp_path, ahead_s).reader.examine() if f.what == "clock"]
        assert (clock.state, said in clock.found) == (state, True)


def test_without_sdiag_the_clock_is_taken_as_ours() -> None:
    def run(argv: object, stdin: str | None = None) -> str:
        raise SlurmError(Trouble.MISSING, "sdiag is not on the PATH", "sdiag")

    assert SlurmCommands(run).clock() is None
    assert SlurmCommands(lambda *_: "something else").clock() is None


def test_over_rest_each_job_that_is_asked_for_takes_a_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = '{"jobs": [{"job_id": 7, "state": {"current": ["COMPLETED"]}}]}'
    monkeypatch.setattr(httpx, "get", lambda *_a, **_k: httpx.Response(200, text=body))
    budget = RequestBudget(10.0, VirtualClock(T0))
    assert len(SlurmReader(SlurmRest("http://slurm", "root", lambda: "token"), budget).of_jobs(range(1, 6))) == 5
    assert budget.asked == 5
    budget = RequestBudget(10.0, VirtualClock(T0))
    slurm = FakeSlurm(["cn1"], tmp_path)
    jobs = [slurm.add().job_id for _ in range(5)]
    assert len(SlurmReader(SlurmCommands(slurm.run), budget).of_jobs(jobs)) == 5
    assert budget.asked == 1


@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
def test_over_rest_the_same_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, newer: bool) -> None:
    w = World(tmp_path, 600.0, newer=newer)
    monkeypatch.setattr(httpx, "get", FakeSlurmrestd(w.slurm).get)
    w.quick()
    w.slurm.add(name="waits", partition="gpu,debug")
    w.slurm.partitions = [FakePartition("batch", 3), FakePartition("gpu", 1, state="DOWN")]
    rest = SlurmReader(SlurmRest("http://slurm", "root", lambda: "token"), RequestBudget(1e6, w))
    read_by = {"rest": SlurmSource(SlurmSettings("cluster"), rest, w, wall=w.wall), "commands": w.source()}
    told, limits = {}, {}
    for name, source in read_by.items():
        ports = memory_ports()
        read(w, ports, source)
        work, limits[name] = ports.work.work(POOL), ports.sources.limits()
        told[name] = (work.runs["dag_id"].tolist(), work.tasks[["task_id", "signature", "slot_of"]].to_numpy().tolist())
        assert {f.what for f in source.examine() if f.state != "ok"} == {"clock", "partitions"}
    assert told["rest"] == told["commands"]
    assert limits["rest"] == limits["commands"]
    assert [f.slots for f in limits["rest"]] == [3.0 * w.slurm.cpus, 0.0]


def test_a_slurmrestd_without_that_version_says_to_set_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "get", lambda *_a, **_k: httpx.Response(404, text="not here"))
    clock = VirtualClock(T0)
    reader = SlurmReader(SlurmRest("http://slurm", "root", lambda: "token"), RequestBudget(1e6, clock))
    source = SlurmSource(SlurmSettings("cluster"), reader, clock, wall=lambda: clock.now().timestamp())
    (found,) = source.examine()
    assert found.state == "bad"
    assert "v0.0.38" in found.found
    assert "set `api`" in found.hint
    with pytest.raises(SourceError) as e:
        list(source.changes(memory_ports().sources.state("cluster"), clock.now()))
    assert "set `api`" in e.value.hint


@pytest.mark.parametrize("told", [1741111200, {"set": True, "infinite": False, "number": 1741111200}])
def test_over_rest_the_controller_tells_its_time(monkeypatch: pytest.MonkeyPatch, told: object) -> None:
    body = json.dumps({"errors": [], "statistics": {"req_time": told}})
    asked: list[str] = []

    def get(url: str, **_: object) -> httpx.Response:
        asked.append(url)
        return httpx.Response(200, text=body)

    monkeypatch.setattr(httpx, "get", get)
    rest = SlurmRest("http://slurm", "root", lambda: "token")
    assert rest.clock() == 1741111200.0
    assert asked == ["http://slurm/slurm/v0.0.38/diag"]
    body = "{"
    with pytest.raises(SlurmError) as e:
        rest.clock()
    assert e.value.trouble is Trouble.GARBLED
