"""What our jobs use, from sstat while they run and from sacct once they have ended."""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from preprov.model.agent import Usage
from preprov.model.time import from_epoch
from preprov.slurm.accounting import AccountedJob
from preprov.slurm.commands import SlurmCommands
from preprov.slurm.errors import SlurmError
from preprov.slurm.records import SlurmJob
from preprov.slurm.stepstat import StepStat

_GIB: Final = 1024.0
_EVERY_S: Final = 1.0
_WAIT_S: Final = 30.0
"""An accounting that says nothing of a job so long after its end will say nothing."""


class Rates:
    """Turns totals into rates; remembers the totals of the last look, per job."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, float, float]] = {}
        self._summed: set[int] = set()

    def since_last(self, slurm: SlurmCommands, jobs: Sequence[SlurmJob], now: float) -> dict[int, tuple[Usage, ...]]:
        """Job -> samples since the last look (times in epoch seconds, wall), in time order."""
        out: dict[int, tuple[Usage, ...]] = {}
        running = [j for j in jobs if j.runs and now - self._last.get(j.job_id, (0.0,))[0] >= _EVERY_S]
        steps: dict[int, list[StepStat]] = {}
        for s in slurm.usage([j.job_id for j in running]) if running else ():
            steps.setdefault(s.job_id, []).append(s)
        started = {j.job_id: j.started_at or now for j in jobs}
        for job_id, found in steps.items():
            out[job_id] = tuple(self._rate(job_id, found, started[job_id], now))
        ended = [j for j in jobs if j.is_over and j.job_id not in self._summed and now - (j.ended_at or 0) < _WAIT_S]
        for job in _accounted(slurm, ended):
            out[job.job_id] = tuple(self._sum(job))
        known = {j.job_id for j in jobs}
        self._last = {j: v for j, v in self._last.items() if j in known}
        self._summed &= known
        return out

    def _rate(self, job_id: int, steps: Sequence[StepStat], started: float, now: float) -> Iterator[Usage]:
        cpu, disk = sum(s.cpu_s or 0.0 for s in steps), sum(s.disk_mib or 0.0 for s in steps)
        at, before, read = self._last.get(job_id, (started, 0.0, 0.0))
        memory = [s.rss_mib for s in steps if s.rss_mib is not None]
        if now - at <= 0 or not memory:
            return
        self._last[job_id] = (now, cpu, disk)
        per_s = 1.0 / (now - at)
        yield Usage(now, max(cpu - before, 0.0) * per_s, sum(memory) / _GIB, max(disk - read, 0.0) * per_s)

    def _sum(self, job: AccountedJob) -> Iterator[Usage]:
        """One sample at its end: the mean since the last look, and its largest memory."""
        used, end = job.used, job.ended_at
        if end is None or (used.cpu_s is None and used.peak_mib is None):
            return
        self._summed.add(job.job_id)
        at, before, read = self._last.get(job.job_id, (job.started_at or end, 0.0, 0.0))
        length = max(end - at, 1.0)  # Slurm tells whole seconds
        cpu = None if used.cpu_s is None else max(used.cpu_s - before, 0.0) / length
        disk = None if used.disk_mib is None else max(used.disk_mib - read, 0.0) / length
        yield Usage(max(end, at + 1e-3), cpu, None if used.peak_mib is None else used.peak_mib / _GIB, disk)


def _accounted(slurm: SlurmCommands, jobs: Sequence[SlurmJob]) -> Sequence[AccountedJob]:
    if not jobs:
        return ()
    first = min(j.submitted_at or time.time() for j in jobs)
    try:
        since, until = from_epoch(first) - timedelta(minutes=1), from_epoch(time.time() + 1)
        return slurm.accounting(since, until, jobs=[j.job_id for j in jobs])
    except SlurmError:
        return ()
