"""What jobs have used while they still run: `sstat` tells totals, two looks make a rate.

The last total of each job is kept in the notebook, so that the next process goes on from there and what the accounting
tells in the end is only the rest.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Final

from preprov.slurm.stepstat import StepStat
from preprov.sources.slurm.units import Unit, UnitTask

_NOTE: Final = "looks"
_KEPT_S: Final = 3_600.0
"""So long after a job was last looked at its end is told at the latest."""
_SOONEST_S: Final = 10.0
MOST: Final = 1_000
"""Jobs looked at in one pass, those first that were not for longest: each look asks the nodes of the job."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a job had used by an instant: epoch seconds by Slurm's clock, core-seconds, MiB read and written."""

    at: float
    cpu_s: float
    disk_mib: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a job used since the look before, on all its nodes together.

    Attributes:
        cpu: cores. memory_mib: at its largest. disk_mib_s: MiB/s. None = not measured.
    """

    cpu: float | None
    memory_mib: float | None
    disk_mib_s: float | None


@dataclass
class Looks:
    """The last look at each job, by its number."""

    last: MutableMapping[int, Look] = field(default_factory=dict)

    @classmethod
    def read(cls, notebook: Mapping[str, str]) -> "Looks":
        """Of the notebook."""
        kept = json.loads(notebook.get(_NOTE) or "{}")
        return cls({int(job): Look(*map(float, look)) for job, look in kept.items()})

    def notes(self, notebook: Mapping[str, str], running: Iterable[int], wall: float) -> dict[str, str | None]:
        """What to change in the notebook; jobs that are long over are forgotten."""
        alive = set(running)
        self.last = {j: look for j, look in self.last.items() if j in alive or wall - look.at < _KEPT_S}
        kept = {str(j): [round(look.at, 1), look.cpu_s, look.disk_mib] for j, look in sorted(self.last.items())}
        text = json.dumps(kept, separators=(",", ":")) if kept else None
        return {} if notebook.get(_NOTE) == text else {_NOTE: text}

    def due(self, units: Iterable[Unit], wall: float) -> list[UnitTask]:
        """Tasks that run and were not looked at just now."""
        running = [t for u in units for t in u.tasks.values() if t.started_at is not None and not t.over]
        since = {t.job_id: self._before(t.job_id, t.started_at or wall).at for t in running}
        due = sorted((t for t in running if wall - since[t.job_id] >= _SOONEST_S), key=lambda t: since[t.job_id])
        return due[:MOST]

    def taken(self, tasks: Iterable[UnitTask], stats: Iterable[StepStat], wall: float) -> Iterator[tuple[int, Stretch]]:
        """(job number, what it used since the last look) of those that were found; these looks are the last now."""
        steps: dict[int, list[StepStat]] = {}
        for s in stats:
            steps.setdefault(s.job_id, []).append(s)
        for task in tasks:
            found = steps.get(task.job_id, ())
            memory = [s.rss_mib for s in found if s.rss_mib is not None]
            if not memory:
                continue
            before = self._before(task.job_id, task.started_at or wall)
            look = Look(wall, sum(s.cpu_s or 0.0 for s in found), sum(s.disk_mib or 0.0 for s in found))
            self.last[task.job_id] = look
            length = wall - before.at
            cpu = max(look.cpu_s - before.cpu_s, 0.0) / length
            yield task.job_id, Stretch(cpu, sum(memory), max(look.disk_mib - before.disk_mib, 0.0) / length)

    def rest(self, task: UnitTask) -> Stretch:
        """What a task that has ended used after the last look at it, or in all; its memory is that of all its life."""
        ended, runtime, used = task.ended_at or 0.0, task.runtime_s or 0.0, task.used
        before = self._before(task.job_id, ended - runtime if task.started_at is None else task.started_at)
        length = min(max(ended - before.at, 1.0), runtime)  # Slurm tells whole seconds
        cpu = None if used.cpu_s is None else max(used.cpu_s - before.cpu_s, 0.0) / length
        disk = None if used.disk_mib is None else max(used.disk_mib - before.disk_mib, 0.0) / length
        return Stretch(cpu, used.peak_mib, disk)

    def _before(self, job: int, started: float) -> Look:
        """The last look at this attempt of a job; its start, if there was none."""
        look = self.last.get(job)
        return look if look is not None and look.at > started else Look(started, 0.0, 0.0)
