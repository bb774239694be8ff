"""Slurm, of both eras, against the suite every place where work lives passes."""

from datetime import datetime
from pathlib import Path

import pytest

from preprov.model.time import from_epoch
from preprov.slurm.commands import SlurmCommands
from preprov.sources.budget import RequestBudget
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from preprov.testing.fake_slurm import FakeSlurm
from preprov.testing.live_source_contract import LiveSourceContract


class SlurmPlace:
    """A cluster; each run is a job and another one that waits for it, every third an array of two."""

    def __init__(self, folder: Path, *, newer: bool) -> None:
        self.slurm = FakeSlurm(["cn1"], folder, newer=newer)
        self.runs: dict[str, list[int]] = {}

    def sleep(self, seconds: float) -> None:
        self.slurm.offset += seconds

    def source(self) -> SlurmSource:
        reader = SlurmReader(SlurmCommands(self.slurm.run), RequestBudget(1000.0, self))
        settings = SlurmSettings("cluster", history_s=86_400.0)
        return SlurmSource(settings, reader, self, wall=self.slurm.now)

    def now(self) -> datetime:
        return from_epoch(self.slurm.now())

    def pass_time(self, seconds: float) -> None:
        self.slurm.offset += seconds

    def start(self, count: int, *, names: tuple[str, ...] = ()) -> list[str]:
        made = []
        for i in range(count):
            name = names[i % len(names)] if names else f"job-{i}"
            made.append(self._array(name) if i % 3 == 2 and not names else self._chain(name))
        return made

    def _chain(self, name: str) -> str:
        first = self.slurm.add(name=name)
        after = f"afterok:{first.job_id}"
        line = f"sbatch --dependency={after} run.sh"
        second = self.slurm.add(name=f"{name}-after", depends=f"{after}(unfulfilled)", line=line)
        self.runs[str(first.job_id)] = [first.job_id, second.job_id]
        return str(first.job_id)

    def _array(self, name: str) -> str:
        parent = self.slurm.add(name=name, elements="0-1")
        parent.array_id = parent.job_id
        self.runs[str(parent.job_id)] = [parent.job_id]
        return str(parent.job_id)

    def finish(self, run_id: str) -> None:
        for job_id in self.runs[run_id]:
            job = self.slurm.jobs[job_id]
            if job.elements:
                job.elements, job.element = "", 1
                other = self.slurm.add(name=job.name, array_id=job.job_id, element=0, submit=job.submit)
                self.slurm.end(other, "COMPLETED")
            job.depends = ""
            self.slurm.end(job, "COMPLETED")

    def delete(self, run_id: str) -> None:
        for job_id in self.runs[run_id]:
            del self.slurm.jobs[job_id]

    def fail_after(self, requests: int | None) -> None:
        self.slurm.answers = requests


class TestSlurm(LiveSourceContract):
    @pytest.fixture(params=[False, True], ids=["22.05", "24.05"])
    def place(self, tmp_path: Path, request: pytest.FixtureRequest) -> SlurmPlace:  # type: ignore[override]
        return SlurmPlace(tmp_path, newer=request.param)
