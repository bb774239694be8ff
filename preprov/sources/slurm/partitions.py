"""Partitions: how many cores can run there at the most, and where nothing starts.

Of a partition of cloud nodes every node counts, powered up or not: what runs beside what fills them all waits for the
partition, and no node would help it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from preprov.contracts import SyncBatch
from preprov.model.waits import Cause, SlotLimit
from preprov.slurm.errors import SlurmError
from preprov.slurm.records import Partition
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.text import clean

_EVERY_S: Final = 300.0


@dataclass
class Partitions:
    """As last read, by one process.

    Attributes:
        stopped: those where nothing starts.
    """

    stopped: frozenset[str] = frozenset()
    _read_at: float = float("-inf")
    _noted: Mapping[str, str] = field(default_factory=dict)

    def read(self, reader: SlurmReader, wall: float) -> SyncBatch:
        """What is new of them: read every few minutes only. A cluster that does not show them is read without."""
        if abs(wall - self._read_at) < _EVERY_S:
            return SyncBatch()
        try:
            found = [p for p in reader.partitions() if p.name]
        except SlurmError as e:
            return SyncBatch(notes=(f"partitions are not known: {e.where or 'slurm'}: {e.said}",))
        self._read_at = wall
        self.stopped = frozenset(p.name for p in found if not p.starts_jobs)
        notes = {p.name: _note(p) for p in found if p.state != "UP"}
        new = tuple(note for name, note in notes.items() if note and note != self._noted.get(name))
        self._noted = notes
        return SyncBatch(limits=limits(found), notes=new)


def _note(p: Partition) -> str:
    """What a person should know of one that is not up; "" = nothing is said of its state."""
    if not p.starts_jobs:
        return f"partition {clean(p.name)} is {p.state}: its jobs are not expected to start (`scontrol update`)"
    return f"partition {clean(p.name)} is {p.state}: it takes no new jobs" if "DRAIN" in p.state else ""


def limits(partitions: Sequence[Partition]) -> tuple[SlotLimit, ...]:
    """Cores of each; none of one that does not tell."""
    return tuple(
        SlotLimit(Cause.SLURM_PARTITION, clean(p.name), float(p.total_cpus) if p.starts_jobs else 0.0)
        for p in partitions
        if p.total_cpus > 0 or not p.starts_jobs
    )
