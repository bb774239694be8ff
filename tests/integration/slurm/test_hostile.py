"""Slurm at its worst: fifty thousand jobs, and everything that goes wrong while they are read into a real store.

By its commands, in the JSON of two eras, and over slurmrestd.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import stamina

from preprov.contracts import Clock, Ports
from preprov.control.context import Context
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.errors import SourceError
from preprov.model.reference import reference_pool
from preprov.model.time import from_epoch
from preprov.planning.prices import TablePriceBook
from preprov.slurm.commands import SlurmCommands
from preprov.slurm.errors import SlurmError, Trouble
from preprov.slurm.rest import SlurmRest
from preprov.sources.budget import RequestBudget
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from preprov.store.database import open_store
from preprov.testing.fake_slurm import FakeJob, FakeSlurm
from preprov.testing.fake_slurmrestd import FakeSlurmrestd

POOL = "batch"
JOBS = int(os.environ.get("PREPROV_TEST_RUNS", "50000"))
NAMES = ("größe_ночь_夜", "x" * 1000, "a.b-c", "ü\u202eñ 'x\"; --", "plain")
DAY_S = 86_400.0


class Now(Clock):
    """The clock of whoever reads; Slurm's own is ahead of it by so much, or behind."""

    def __init__(self, slurm: FakeSlurm, ahead_s: float) -> None:
        self.slurm, self.ahead_s = slurm, ahead_s

    def now(self) -> datetime:
        return from_epoch(self.slurm.now() - self.ahead_s)

    def sleep(self, seconds: float) -> None:
        self.slurm.offset += seconds


class Faults:
    """Asks a fake, by its commands or as a client of its slurmrestd, and lets some of that go wrong."""

    def __init__(self, slurm: FakeSlurm, doomed: Sequence[FakeJob]) -> None:
        self.slurm, self.doomed = slurm, list(doomed)
        self.restd = FakeSlurmrestd(slurm)
        self.rng = np.random.default_rng(5)
        self.strikes: Counter[str] = Counter()
        self.quiet = False

    def purge(self, at: float) -> None:
        """A job may go between two questions."""
        if not self.quiet and self.doomed and 0.05 <= at < 0.15:
            self.strikes["job purged between two questions"] += 1
            self.slurm.jobs.pop(self.doomed.pop().job_id, None)

    def run(self, argv: Sequence[str], stdin: str | None = None) -> str:
        at = self.rng.random()
        if not self.quiet and at < 0.05:
            self.strikes["time-out"] += 1
            raise SlurmError(Trouble.UNREACHABLE, "Socket timed out on send/recv operation", argv[0])
        self.purge(at)
        said = self.slurm.run(argv, stdin)
        if not self.quiet and at > 0.95 and "--json" in argv:
            self.strikes["cut short"] += 1
            return said[: len(said) // 2]
        return said

    def get(self, url: str, **more: Any) -> httpx.Response:
        at = self.rng.random()
        if not self.quiet and at < 0.02:
            self.strikes["time-out"] += 1
            raise httpx.ReadTimeout("the read operation timed out")
        if not self.quiet and at < 0.05:
            self.strikes["500"] += 1
            body = '{"errors": [{"errno": -1, "error": "Unspecified error"}], "jobs": [], "partitions": []}'
            return httpx.Response(500, text=body)
        self.purge(at)
        answer = self.restd.get(url, **more)
        if not self.quiet and at > 0.95:
            self.strikes["cut short"] += 1
            return httpx.Response(200, text=answer.text[: len(answer.text) // 2])
        return answer


def history(slurm: FakeSlurm, count: int) -> list[FakeJob]:
    """Four weeks of single jobs, pairs that wait for each other and arrays; a few wait. Returns those to vanish."""
    rng = np.random.default_rng(3)
    doomed = []
    while len(slurm.jobs) < count:
        i = len(slurm.jobs)
        at = slurm.now() - float(rng.uniform(3700, 27 * DAY_S))
        name = NAMES[i % len(NAMES)]
        first = slurm.add(name=name, submit=at)
        group = [first]
        if i % 3 == 1:
            line = f"sbatch --dependency=afterok:{first.job_id} run.sh"
            group.append(slurm.add(name=f"{name}-after", submit=at, line=line))
        elif i % 3 == 2:
            first.array_id, first.element = first.job_id, 0
            group += [slurm.add(name=name, submit=at, array_id=first.job_id, element=k) for k in (1, 2)]
        if i % 500 == 0:
            if i % 1000 == 0:
                doomed.append(first)
            for job in group[1:] if i % 3 == 1 else ():
                job.depends = f"afterok:{first.job_id}(unfulfilled)"
            continue
        for k, job in enumerate(group):
            job.state, job.start, job.end = "COMPLETED", at + 10 + 10 * k, at + 15 + 10 * k
            slurm.forgotten.add(job.job_id)
    return doomed


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("newer", "rest", "jobs", "ahead_s"),
    [(False, False, JOBS // 10, -3600.0), (True, False, JOBS, 3600.0), (True, True, JOBS // 10, -3600.0)],
    ids=["22.05", "24.05", "rest"],
)
def test_fifty_thousand_jobs_come_through_everything_that_goes_wrong(
    tmp_path: Path,
    newer: bool,
    rest: bool,
    jobs: int,
    ahead_s: float,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slurm = FakeSlurm(["cn1"], tmp_path, newer=newer)
    trouble = Faults(slurm, history(slurm, jobs))
    clock = Now(slurm, ahead_s)
    store = open_store("", tmp_path)
    ports: Ports = store.ports()
    pool = reference_pool(POOL)
    ctx = Context(ports, {}, {}, TablePriceBook.from_pools([pool]), clock, {POOL: pool})
    router = Router(default=POOL)

    def started() -> SlurmSource:
        answers = SlurmRest("http://slurm", "root", lambda: "token") if rest else SlurmCommands(trouble.run)
        reader = SlurmReader(answers, RequestBudget(1e6, clock))
        return SlurmSource(
            SlurmSettings("cluster", history_s=28 * DAY_S), reader, clock, wall=lambda: clock.now().timestamp()
        )

    monkeypatch.setattr(httpx, "get", trouble.get)
    errors: list[SourceError] = []
    reader, passes, done = started(), 0, False
    with stamina.set_testing(True, attempts=2):
        while not done and passes < 200:
            passes += 1
            try:
                done = not sync(ctx, reader, router).more
            except SourceError as e:
                errors.append(e)
                reader = started() if len(errors) % 3 == 0 else reader  # as when the process was started anew
        trouble.quiet = True
        quick = slurm.add(name="quick")
        slurm.end(quick, "COMPLETED")
        slurm.forgotten.add(quick.job_id)  # it began, ended and left the queue between two passes
        slurm.offset += 30.0
        sync(ctx, reader, router)
    work = ports.work.work(POOL)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(slurm.jobs)} jobs, {len(work.runs)} runs in {passes} passes, {len(errors)} broken off; "
            f"{dict(trouble.strikes)}\n"
        )
    assert done
    assert errors
    assert all(e.retryable and e.hint for e in errors)
    assert work.runs["run_id"].is_unique
    wanted = expected(slurm)
    assert set(work.runs["run_id"]) == set(wanted)
    counts = work.tasks.groupby(work.runs["run_id"].to_numpy()[work.tasks["run"]])["instances"].sum().to_dict()
    assert {r: n for r, n in counts.items() if n != len(wanted[r])} == {}
    ends = work.tasks.groupby(work.runs["run_id"].to_numpy()[work.tasks["run"]])["ended_at"].max().to_dict()
    over = {r: max(j.end for j in jobs) for r, jobs in wanted.items() if all(j.end for j in jobs)}
    assert [r for r, end in over.items() if not abs(ends[r] + ahead_s - end) <= 2.0] == []
    assert {r.run_id for r in ports.sources.state("cluster").open} == set(wanted) - set(over)
    store.close()


def expected(slurm: FakeSlurm) -> dict[str, list[FakeJob]]:
    """Run -> its jobs."""
    of: dict[int, int] = {}
    out: dict[str, list[FakeJob]] = {}
    for job in slurm.jobs.values():
        parent = int(job.line.split("afterok:")[1].split()[0]) if job.line else job.array_id or job.job_id
        of[job.job_id] = of.get(parent, parent)
        out.setdefault(str(of[job.job_id]), []).append(job)
    return out
