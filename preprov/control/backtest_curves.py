"""Backtest of resource curves: memory given over time, and what was said of memory and CPU, beside three peers."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import ForecastError
from preprov.model.usage import UsageRun
from preprov.profiles.aligned import RESOURCES, binned, features
from preprov.profiles.blending import pinball
from preprov.profiles.chances import Chances, climatology, limits
from preprov.profiles.chances import report as scored
from preprov.profiles.curve_peers import CURVE_PEERS
from preprov.profiles.curve_sizer import FOLLOWED, SEEN, SEQUENCE, UNSEEN, CurveSizer
from preprov.profiles.curves import LEVELS, MODELS
from preprov.profiles.sequence import Vintages
from preprov.profiles.sequence_teacher import Teacher, available
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
    judged: int = 0
    member_lost: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    followed: Counter[str] = field(default_factory=Counter)
    chances: Chances = field(default_factory=Chances)
    weight: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    def add_members(self, sizer: CurveSizer, run: UsageRun, weights: Mapping[str, Mapping[str, float]]) -> None:
        """What each model alone lost on a run just learnt, and what say each had in what was said of it."""
        self.judged += 1
        self.followed[sizer.allocated_by] += 1
        for resource in RESOURCES:
            for name, weight in weights[resource].items():
                self.weight[resource, name] += weight
            if np.isfinite(binned(run, resource)).all():
                for (name, of), loss in sizer.lost.items():
                    self.member_lost[name, of] += 2 * loss * (of == resource)

    def add_chances(self, sizer: CurveSizer, run: UsageRun) -> None:
        """How likely it is to run out of memory at some limits, before it has run."""
        peaks, came = sizer.peaks("memory"), binned(run, "memory")
        if not len(peaks) or not np.isfinite(came).all():
            return
        curve = sizer.curve(features(run), "memory")
        for limit in limits(peaks).tolist():
            self.chances.add(curve.above(limit), climatology(peaks, limit), bool(came.max() > limit))

    def member(self, name: str) -> dict[str, float]:
        """Losses relative to use, mean weights, and the share of runs whose memory was given by it."""
        lost = {f"wql_{r}": self.member_lost[name, r] / self.size[r] if self.size[r] > 0 else 0.0 for r in RESOURCES}
        shares = {f"weight_{r}": self.weight[r, name] / max(self.judged, 1) for r in RESOURCES}
        return lost | shares | {"followed_allocation": self.followed[name] / max(self.judged, 1)}

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


class _School:
    """One sequence model for all processes: taught when there is half as much again to be learnt."""

    def __init__(self, seed: int) -> None:
        self.vintages = Vintages()
        self._teacher = Teacher(seed)

    def take(self, process: str, run: UsageRun) -> None:
        self._teacher.take(process, run)
        if self._teacher.is_due:
            self.vintages.kept.append(self._teacher.teach())


@dataclass(frozen=True)
class _Entrant:
    """A way to give memory: one method for each process; ours with what they have in common."""

    name: str
    make: Callable[[], CurveMethod]
    school: _School | None = None


def run_curves_backtest(
    runs: Sequence[UsageRun],
    *,
    steps: int = STEPS,
    node_gib: float = NODE_GIB,
    seeds: int = 1,
    sequence: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge our curves beside constant peak, k-Segments and the median curve.

    Runs go in the order of submission: of each process the first 30 % are history, the rest are judged and then learnt
    from. The sequence model learns from all processes, in that order. Everybody has the same number of steps (the
    median curve: one for each of 64 bins) and the same retry.

    Args:
        sequence: ours has the sequence model too, if torch is installed.

    Returns:
        {"methods": {name: scores}, "members": {model: losses and shares}, "processes": {process: {name: scores}},
        "out_of_memory": chances.report, "summary": {...}}

    Raises:
        ForecastError: nothing can be judged.
    """
    rows = [(f"{r.workflow}/{r.process}", r) for r in sorted(runs, key=lambda r: r.submitted)]
    count = Counter(process for process, _ in rows)
    first = {process: int(np.ceil(HISTORY * n)) for process, n in count.items() if n > np.ceil(HISTORY * n)}
    if not first:
        raise ForecastError("no process can be judged: none has two runs", hint="columns tid, process, start, end")
    taught = sequence and available()
    entrants = []
    for seed in range(seeds):
        school = _School(seed) if taught else None
        make = partial(CurveSizer, steps, node_gib, seed, school.vintages if school is not None else None)
        entrants.append(_Entrant(OURS, make, school))
    entrants += [_Entrant(name, partial(peer, steps)) for name, peer in CURVE_PEERS.items()]
    tallies: dict[str, dict[str, list[_Tally]]] = {process: defaultdict(list) for process in sorted(first)}
    for number, entrant in enumerate(entrants):

        def told(done: int, before: int = number * len(rows)) -> None:
            if progress is not None:
                progress(before + done, len(entrants) * len(rows))

        for process, tally in _judged(entrant, rows, first, node_gib, told).items():
            tallies[process][entrant.name].append(tally)
    names = [*MODELS, *([SEQUENCE] if taught else [])]
    vintages = sum(len(e.school.vintages.kept) for e in entrants if e.school is not None) / seeds
    seen = _members(tallies, (SEEN, UNSEEN, FOLLOWED)) if taught else {}
    return _report(tallies, len(runs)) | {
        "out_of_memory": scored([t.chances for by_name in tallies.values() for t in by_name[OURS]]),
        "members": _members(tallies, names),
        "after_a_tenth": {name: {k: v for k, v in told.items() if k.startswith("wql")} for name, told in seen.items()},
        "sequence_vintages": vintages,
    }


def _judged(
    entrant: _Entrant,
    rows: Sequence[tuple[str, UsageRun]],
    first: Mapping[str, int],
    node_gib: float,
    told: Callable[[int], None],
) -> dict[str, _Tally]:
    """By process, each run judged and then learnt from."""
    methods: dict[str, CurveMethod] = {process: entrant.make() for process in first}
    tallies = {process: _Tally() for process in first}
    seen: Counter[str] = Counter()
    for done, (process, run) in enumerate(rows, start=1):
        method = methods.get(process)
        if method is not None:
            _judge(method, run, tallies[process] if seen[process] >= first[process] else None, node_gib)
        seen[process] += 1
        if entrant.school is not None:
            entrant.school.take(process, run)
        told(done)
    return tallies


def _judge(method: CurveMethod, run: UsageRun, tally: _Tally | None, node_gib: float) -> None:
    """Judged, if there is a tally, then learnt from."""
    weights = {r: method.weights(r) for r in RESOURCES} if isinstance(method, CurveSizer) else {}
    if tally is not None:
        tally.add(method, run, node_gib)
        if isinstance(method, CurveSizer):
            tally.add_chances(method, run)
    method.learn(run)
    if tally is not None and isinstance(method, CurveSizer):
        tally.add_members(method, run, weights)


def _members(tallies: Mapping[str, Mapping[str, Sequence[_Tally]]], names: Sequence[str]) -> dict[str, Any]:
    """Of each model in ours: means over processes and seeds."""
    ours = [t for by_name in tallies.values() for t in by_name[OURS]]
    told = {name: [t.member(name) for t in ours] for name in names}
    return {name: {k: float(np.mean([m[k] for m in each])) for k in each[0]} for name, each in told.items()}


def _report(processes: Mapping[str, Mapping[str, Sequence[_Tally]]], runs: int) -> dict[str, Any]:
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
