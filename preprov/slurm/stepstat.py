"""What running steps use: sstat has no JSON, so its `|`-separated fields are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from preprov.slurm.shapes import number

_KIB: Final = 1024.0
_MIB: Final = 1024.0**2


@dataclass(frozen=True, slots=True)
class StepStat:
    """One running step so far; None = not measured.

    Attributes:
        cpu_s: core-seconds of all its tasks. rss_mib: resident memory of its tasks together, at their largest.
        disk_mib: read and written by all of them.
    """

    FIELDS: ClassVar = ("JobID", "NTasks", "AveCPU", "AveRSS", "AveDiskRead", "AveDiskWrite")

    job_id: int
    step: str
    cpu_s: float | None
    rss_mib: float | None
    disk_mib: float | None


def step_stats(text: str) -> Iterator[StepStat]:
    """Parse what `sstat -P --noconvert -o FIELDS` printed; a line of another form is left out."""
    for line in text.splitlines():
        parts = line.split("|")
        job, _, step = parts[0].partition(".")
        if len(parts) != len(StepStat.FIELDS) or not job.isdigit():
            continue
        tasks = number(parts[1]) or 1.0
        cpu, rss = _clock(parts[2]), _bytes(parts[3])
        disk = [d for d in (_bytes(parts[4]), _bytes(parts[5])) if d is not None]
        yield StepStat(
            int(job),
            step,
            None if cpu is None else cpu * tasks,
            None if rss is None else rss * tasks / _MIB,
            sum(disk) * tasks / _MIB if disk else None,
        )


def _bytes(value: str) -> float | None:
    scale = {"K": _KIB, "M": _MIB, "G": _KIB**3, "T": _KIB**4}.get(value[-1:].upper())
    found = number(value[:-1] if scale else value)
    return None if found is None else found * (scale or 1.0)


def _clock(value: str) -> float | None:
    """`[days-]hours:minutes:seconds` in seconds."""
    days, dash, rest = value.partition("-")
    if not dash:
        days, rest = "0", value
    total = 0.0
    for part in rest.split(":"):
        found = number(part)
        if found is None:
            return None
        total = total * 60.0 + found
    return total + (number(days) or 0.0) * 86400.0
