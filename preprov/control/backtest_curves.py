"""Backtest of resource curves: memory given over time, and what was said of memory and CPU, beside three peers."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import ForecastError
from preprov.model.usage import UsageRun
from preprov.profiles.aligned import RESOURCES, binned, features
from preprov.profiles.curve_peers import CURVE_PEERS
from preprov.profiles.curve_sizer import CurveSizer, pinball
from preprov.profiles.curves import LEVELS
from preprov.profiles.steps import Steps, outcome

Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]

HISTORY: Final = 0.3
STEPS: Final = 4
NODE_GIB: Final = 128.0
OURS: Final = "ours"
_REFERENCE: Final = "k-segments"
_BANDS: Final = (0.1, 0.9)


class CurveMethod(Protocol):
    """A way to give memory over time, of one process."""

    def __len__(self) -> int: ...

    def learn(self, run: UsageRun) -> None:
        """A run has ended."""
        ...

    def allocate(self, known: Floats) -> Steps:
        """What to give."""
        ...

    def quantiles(self, run: UsageRun, resource: str) -> Floats:
        """(BINS, Q) what is expected at the middle of the run's bins; of the run only what is known before it."""
        ...


@dataclass
class _Tally:
    wasted: float = 0.0
    used: float = 0.0
    failures: int = 0
    lost: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    size: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    inside: float = 0.0
    looked: int = 0

    def add(self, method: CurveMethod, run: UsageRun, cap: float) -> None:
        came = outcome(method.allocate(features(run)), run, cap)
        self.wasted, self.used, self.failures = (
            self.wasted + came.wasted,
            self.used + came.used,
            self.failures + came.failures,
        )
        for resource in RESOURCES:
            expected, actual = method.quantiles(run, resource), binned(run, resource)
            if not np.isfinite(actual).all():
                continue
            self.lost[resource] += 2 * pinball(expected, actual, LEVELS)
            self.size[resource] += float(actual.mean())
            if resource == "memory":
                low, high = (expected[:, int(np.argmin(np.abs(LEVELS - b)))] for b in _BANDS)
                self.inside += float(((actual >= low) & (actual <= high)).mean())
                self.looked += 1

    def scores(self) -> dict[str, float]:
        loss = {f"wql_{r}": self.lost[r] / self.size[r] if self.size[r] > 0 else 0.0 for r in RESOURCES}
        inside = self.inside / self.looked if self.looked else 0.0
        maq = self.used / (self.used + self.wasted) if self.used + self.wasted > 0 else 1.0
        return {"gbh": self.wasted, "failures": self.failures, "maq": maq, **loss, "coverage_80_memory": inside}


def run_curves_backtest(
    runs: Sequence[UsageRun],
    *,
    steps: int = STEPS,
    node_gib: float = NODE_GIB,
    seeds: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge our curves beside constant peak, k-Segments and the median curve.

    Runs of each process go in the order of submission: the first 30 % are history, the rest are judged and then learnt
    from. Everybody has the same number of steps (the median curve: one for each of 64 bins) and the same retry.

    Returns:
        {"methods": {name: scores}, "processes": {process: {name: scores}}, "summary": {...}}

    Raises:
        ForecastError: nothing can be judged.
    """
    by_process: dict[str, list[UsageRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda r: r.submitted):
        by_process[f"{run.workflow}/{run.process}"].append(run)
    judged = {name: rows for name, rows in by_process.items() if len(rows) > np.ceil(HISTORY * len(rows))}
    if not judged:
        raise ForecastError("no process can be judged: none has two runs", hint="columns tid, process, start, end")
    total, done = sum(len(rows) for rows in judged.values()) * (len(CURVE_PEERS) + seeds), 0
    processes: dict[str, dict[str, list[_Tally]]] = {}
    for process, rows in sorted(judged.items()):
        first = int(np.ceil(HISTORY * len(rows)))
        methods: list[tuple[str, CurveMethod]] = [(OURS, CurveSizer(steps, node_gib, seed)) for seed in range(seeds)]
        methods += [(name, make(steps)) for name, make in CURVE_PEERS.items()]
        for name, method in methods:
            tally = _Tally()
            for i, run in enumerate(rows):
                if i >= first:
                    tally.add(method, run, node_gib)
                method.learn(run)
            processes.setdefault(process, {}).setdefault(name, []).append(tally)
            done += len(rows)
            if progress is not None:
                progress(done, total)
    return _report(processes, len(runs))


def _report(processes: dict[str, dict[str, list[_Tally]]], runs: int) -> dict[str, Any]:
    names = list(next(iter(processes.values())))
    methods = {name: _together([tallies[name] for tallies in processes.values()]) for name in names}
    ours, reference = methods[OURS], methods[_REFERENCE]
    return {
        "methods": methods,
        "processes": {p: {name: _together([tallies[name]]) for name in names} for p, tallies in processes.items()},
        "summary": {
            "runs": runs,
            "ratio_vs_k_segments": ours["gbh"] / reference["gbh"] if reference["gbh"] > 0 else None,
            "ratio_vs_constant_peak": ours["gbh"] / methods["constant-peak"]["gbh"]
            if methods["constant-peak"]["gbh"] > 0
            else None,
        },
    }


def _together(tallies: Sequence[Sequence[_Tally]]) -> dict[str, float]:
    """Sums over processes, means over seeds; losses relative to use, each process as much as the next."""
    each = [[t.scores() for t in seeds] for seeds in tallies]
    summed = {k: float(sum(np.mean([s[k] for s in seeds]) for seeds in each)) for k in ("gbh", "failures")}
    used = sum(np.mean([t.used for t in seeds]) for seeds in tallies)
    rest = {k: float(np.mean([[s[k] for s in seeds] for seeds in each])) for k in each[0][0] if k not in summed}
    return summed | rest | {"maq": float(used / (used + summed["gbh"])) if used + summed["gbh"] > 0 else 1.0}
