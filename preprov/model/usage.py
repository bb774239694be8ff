"""What a run of a task used over time, and what one is expected to: curves with their uncertainty.

Memory is in GiB, CPU in cores, times are seconds from the start of the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class UsageRun:
    """One finished run.

    Attributes:
        workflow, process: which task of what. submitted: epoch s. duration_s: more than 0.
        at: (S,) seconds, ascending, S >= 1. memory, cpu: (S,) in use from then on; NaN where not observed.
        request_gib: what was asked for, NaN = nothing. input_bytes, input_files: known before; NaN = not known.
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
        resource: memory or cpu. at: (T,) s. levels: (Q,) quantiles. values: (T, Q) at each time.
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
