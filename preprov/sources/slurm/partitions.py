"""Partitions: how many cores can run there at the most, and where nothing starts.

Of a partition of cloud nodes every node counts, powered up or not: what runs beside what fills them all waits for the
partition, and no node would help it. While a reservation of Slurm's own has some of its cores, there are fewer for
everybody else; what runs in the reservation asks for none of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from preprov.contracts import SyncBatch
from preprov.model.waits import Cause, SlotLimit
from preprov.slurm.errors import SlurmError
from preprov.slurm.hostlist import expand
from preprov.slurm.records import Partition, Reservation
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.text import clean

_EVERY_S: Final = 300.0
_AHEAD_S: Final = 2 * 86_400.0
"""Reservations that come back are told so far ahead."""
_AGAIN_S: Final = {"HOURLY": 3_600.0, "DAILY": 86_400.0}
"""Flag of a reservation -> after how long it comes back. Of those that come back in another rhythm, the next."""
Span: TypeAlias = tuple[float, float, float]


@dataclass
class Partitions:
    """As last read, by one process.

    Attributes:
        stopped: those where nothing starts.
    """

    stopped: frozenset[str] = frozenset()
    _read_at: float = float("-inf")
    _noted: Mapping[str, str] = field(default_factory=dict)

    def read(self, reader: SlurmReader, wall: float, shown: Callable[[float], float] = float) -> SyncBatch:
        """What is new of them: read every few minutes only. A cluster that does not show them is read without.

        Args:
            reader: who asks. wall: now by Slurm's clock. shown: an instant by Slurm's clock -> by ours.
        """
        if abs(wall - self._read_at) < _EVERY_S:
            return SyncBatch()
        try:
            found = [p for p in reader.partitions() if p.name]
        except SlurmError as e:
            return SyncBatch(notes=(f"partitions are not known: {e.where or 'slurm'}: {e.said}",))
        held, notes = self._reservations(reader)
        self._read_at = wall
        self.stopped = frozenset(p.name for p in found if not p.starts_jobs)
        notes |= {p.name: _note(p) for p in found if p.state != "UP"}
        new = tuple(note for name, note in notes.items() if note and note != self._noted.get(name))
        self._noted = notes
        return SyncBatch(limits=limits(found, held, wall, shown), notes=new)

    def _reservations(self, reader: SlurmReader) -> tuple[Sequence[Reservation], dict[str, str]]:
        """(reservations, what a person should know): none where they are not shown."""
        try:
            return reader.reservations(), {}
        except SlurmError as e:
            return (), {"": f"reservations are not known: {e.where or 'slurm'}: {e.said}"}


def _note(p: Partition) -> str:
    """What a person should know of one that is not up; "" = nothing is said of its state."""
    if not p.starts_jobs:
        return f"partition {clean(p.name)} is {p.state}: its jobs are not expected to start (`scontrol update`)"
    return f"partition {clean(p.name)} is {p.state}: it takes no new jobs" if "DRAIN" in p.state else ""


def limits(
    partitions: Sequence[Partition],
    reservations: Sequence[Reservation] = (),
    wall: float = 0.0,
    shown: Callable[[float], float] = float,
) -> tuple[SlotLimit, ...]:
    """Cores of each, and when some are kept for reservations; none of one that does not tell.

    Args:
        partitions: of the cluster. reservations: of Slurm's own.
        wall: now by Slurm's clock, as their times are. shown: such an instant by our clock.
    """
    out = []
    for p in partitions:
        if p.total_cpus <= 0 and p.starts_jobs:
            continue
        slots = float(p.total_cpus) if p.starts_jobs else 0.0
        spans = [s for r in reservations for s in _spans(r, p, wall)] if slots else []
        reserved = tuple((shown(since), shown(until), cores) for since, until, cores in sorted(spans))
        out.append(SlotLimit(Cause.SLURM_PARTITION, clean(p.name), slots, reserved=reserved))
    return tuple(out)


def _spans(r: Reservation, p: Partition, wall: float) -> Iterator[Span]:
    """When it has how many cores of that partition, from now on."""
    cores = _cores(r, p)
    every = next((s for flag, s in _AGAIN_S.items() if flag in r.flags), None)
    since, until = r.start, r.end
    while cores > 0 and since < wall + _AHEAD_S:
        if until > wall:
            yield since, until, cores
        if every is None:
            return
        since, until = since + every, until + every


def _cores(r: Reservation, p: Partition) -> float:
    """Of its cores those that are likely to be on nodes of the partition; all of these nodes where it does not say."""
    theirs, ours = _names(r.nodes), _names(p.nodes)
    both = len(theirs & ours)
    if not both:
        return 0.0
    whole = both * p.total_cpus / max(len(ours), 1)
    told = (r.cpus or float(r.cores)) * both / len(theirs)
    return min(told, whole) if told else whole


def _names(nodes: str) -> frozenset[str]:
    try:
        return frozenset(expand(nodes)) if nodes else frozenset()
    except SlurmError:
        return frozenset()
