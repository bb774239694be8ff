"""What a run of a task used over time, and what one is expected to: curves with their uncertainty.

Memory is in GiB, CPU in cores, the rest as `UNITS` says, times are seconds from the start of the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNITS: Final[Mapping[str, str]] = {
    "memory": "GiB",
    "cpu": "cores",
    "disk_io": "MB/s",
    "network": "MB/s",
    "gpu": "devices",
    "gpu_memory": "GiB",
}
"""Of what a task uses; a resource that is not among them is a rate of things a second."""


def unit(resource: str) -> str:
    """What amounts of it are in."""
    return UNITS.get(resource, "1/s")


@dataclass(frozen=True, slots=True)
class UsageRun:
    """One finished run.

    Attributes:
        workflow, process: which task of what. submitted: epoch s. duration_s: more than 0.
        at: (S,) seconds, ascending, S >= 1. memory, cpu: (S,) in use from then on; NaN where not observed.
        request_gib: what was asked for, NaN = nothing. input_bytes, input_files: known before; NaN = not known.
        more: (S,) of further resources that were observed, by name, as memory and cpu are.
        machine: kind of machine it ran on; "" = not known.
    """

    workflow: str
    process: str
    submitted: float
    duration_s: float
    at: Floats
    memory: Floats
    cpu: Floats
    request_gib: float = float("nan")
    input_bytes: float = float("nan")
    input_files: float = float("nan")
    more: Mapping[str, Floats] = field(default_factory=dict)
    machine: str = ""

    def used(self, resource: str) -> Floats:
        """(S,) of one resource; NaN where it was not observed."""
        if resource in ("memory", "cpu"):
            return self.memory if resource == "memory" else self.cpu
        return self.more.get(resource, np.full(len(self.at), np.nan))

    def observed(self, resource: str) -> bool:
        """True if there is any sample of it."""
        return bool(np.isfinite(self.used(resource)).any())

    @property
    def resources(self) -> tuple[str, ...]:
        """Those of which there is any sample: memory, CPU, then the others."""
        return tuple(r for r in ("memory", "cpu", *self.more) if self.observed(r))


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """What one task instance used, in short.

    Attributes:
        samples: how many were taken. cpu_mean, cpu_p95: cores. memory_peak, memory_mean: GiB. NaN = not observed.
    """

    samples: int
    cpu_mean: float = float("nan")
    cpu_p95: float = float("nan")
    memory_peak: float = float("nan")
    memory_mean: float = float("nan")


@dataclass(frozen=True, slots=True)
class Thinning:
    """How samples grow coarser with age.

    Attributes:
        steps: (age, width) in seconds, both ascending: of samples older than that one for so many seconds is left, with
            the mean of what is a rate and the largest of what is a level. () = all stay as they came.
    """

    steps: tuple[tuple[float, float], ...] = ((7 * 86_400.0, 30.0), (30 * 86_400.0, 300.0))


@dataclass(frozen=True, slots=True)
class Phase:
    """From when on about how much is in use."""

    start_s: float
    amount: float


@dataclass(frozen=True, slots=True)
class ResourceCurve:
    """What a run is expected to use of one resource.

    Attributes:
        resource: see `UNITS`. at: (T,) s. levels: (Q,) quantiles. values: (T, Q) at each time.
        peak: (Q,) quantiles of the highest use. runtime_s: (Q,) of how long it runs.
        phases: of the median. runs: that it rests on.
    """

    resource: str
    at: Floats
    levels: Floats
    values: Floats
    peak: Floats
    runtime_s: Floats
    phases: Sequence[Phase]
    runs: int

    def above(self, limit: float) -> float:
        """Probability that the peak is above a limit: of memory, that the run is killed for it.

        Never surer than the runs that it rests on: one of n + 1 may be the first of its kind.
        """
        least = 1.0 / (self.runs + 1)
        below = float(np.interp(limit, self.peak, self.levels, left=least, right=1 - least))
        return 1 - min(max(below, least), 1 - least)
