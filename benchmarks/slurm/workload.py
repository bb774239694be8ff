"""A night's jobs: a crontab drawn by one seed, its runs and what people submit besides by the seed and the night.

A day of the clock is a quarter of an hour of wall time, and its night the first twelve minutes of it: so that a cron
line comes back with the day, as it does where people work, and Slurm, its jobs and its nodes still live in wall time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

SPEED: Final = 96.0
"""Seconds of the clock per wall second."""
DAY_S: Final = 900.0
NIGHT_S: Final = 720.0
"""Wall seconds."""
FIRST_HOUR: Final = 18
"""Of the clock, at which a night begins."""
_HOURS: Final = int(NIGHT_S * SPEED / 3600)
_ADHOC_SHARE: Final = 0.25
MEMORY_MIB: Final = 900


@dataclass(frozen=True, slots=True)
class CronJob:
    """A line of the crontab: what it runs, and when.

    Attributes:
        minute, hours: of the clock, at each of which it comes.
        tasks: how many tasks run side by side. merge: another one follows when they all have ended.
        median_s, sigma: of a task's wall runtime, lognormal.
    """

    name: str
    minute: int
    hours: tuple[int, ...]
    tasks: int
    merge: bool
    median_s: float
    sigma: float

    @property
    def cron(self) -> str:
        """Its five fields."""
        return f"{self.minute} {','.join(str(h) for h in sorted(self.hours))} * * *"

    @property
    def offsets_s(self) -> tuple[float, ...]:
        """Wall seconds after the night's beginning at which it comes."""
        hours = sorted((h - FIRST_HOUR) % 24 for h in self.hours)
        return tuple((h * 3600 + self.minute * 60) / SPEED for h in hours)


@dataclass(frozen=True, slots=True)
class Submission:
    """What is submitted at a moment of the night.

    Attributes:
        at_s: wall seconds after the night's beginning. runtimes_s: of its tasks. merge_s: 0 = nothing follows.
        cron: True if the crontab says so.
    """

    at_s: float
    name: str
    runtimes_s: tuple[float, ...]
    merge_s: float
    cron: bool

    @property
    def jobs(self) -> int:
        """Slurm jobs that it makes."""
        return len(self.runtimes_s) + (self.merge_s > 0)


def crontab(seed: int) -> tuple[CronJob, ...]:
    """The lines of this seed: some that come every few hours, some a few times a night, and a wave or two."""
    rng = np.random.default_rng([seed, 1])
    out = []
    for i in range(3):  # a little, often
        step = int(rng.integers(2, 5))
        hours = tuple(range(int(rng.integers(0, step)), _HOURS, step))
        out.append(_job(rng, f"hourly{i}", hours, int(rng.integers(1, 3)), rng.random() < 0.3, 15.0, 40.0))
    for i in range(4):  # a few times
        hours = tuple(int(h) for h in rng.choice(_HOURS - 2, size=int(rng.integers(2, 4)), replace=False))
        out.append(_job(rng, f"report{i}", hours, int(rng.integers(2, 5)), rng.random() < 0.5, 20.0, 60.0))
    for i in range(2):  # waves
        hours = (int(rng.integers(1, _HOURS - 5)),)
        out.append(_job(rng, f"wave{i}", hours, int(rng.integers(7, 11)), True, 30.0, 60.0))
    return tuple(out)


def _job(
    rng: np.random.Generator, name: str, hours: tuple[int, ...], tasks: int, merge: bool, low: float, high: float
) -> CronJob:
    """A line; `hours` after the night's beginning."""
    clock = tuple((FIRST_HOUR + h) % 24 for h in hours)
    minute, median, sigma = int(rng.integers(0, 60)), float(rng.uniform(low, high)), float(rng.uniform(0.1, 0.3))
    return CronJob(name, minute, clock, tasks, bool(merge), median, sigma)


def night(seed: int, number: int) -> tuple[Submission, ...]:
    """What is submitted in the night of that number, by time."""
    rng = np.random.default_rng([seed, 2, number])
    out = [s for job in crontab(seed) for s in _turns(rng, job)]
    cron_jobs = sum(s.jobs for s in out)
    out += _adhoc(rng, round(cron_jobs * _ADHOC_SHARE / (1 - _ADHOC_SHARE)))
    return tuple(sorted(out, key=lambda s: s.at_s))


def _turns(rng: np.random.Generator, job: CronJob) -> Iterator[Submission]:
    for at in job.offsets_s:
        runtimes = job.median_s * np.exp(job.sigma * rng.standard_normal(job.tasks))
        merge = float(np.clip(8.0 * np.exp(0.2 * rng.standard_normal()), 3.0, 30.0)) if job.merge else 0.0
        yield Submission(at, job.name, tuple(np.clip(runtimes, 5.0, 150.0).round(1)), merge, cron=True)


def _adhoc(rng: np.random.Generator, jobs: int) -> Iterator[Submission]:
    """People's own: so many jobs at any time of the night, one to three at once."""
    left = jobs
    while left > 0:
        n = min(int(rng.integers(1, 4)), left)
        left -= n
        runtimes = np.clip(25.0 * np.exp(0.6 * rng.standard_normal(n)), 5.0, 120.0).round(1)
        who = int(rng.integers(0, 5))
        yield Submission(float(rng.uniform(0.0, NIGHT_S - 60.0)), f"adhoc{who}", tuple(runtimes), 0.0, cron=False)
