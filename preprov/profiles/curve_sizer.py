"""Memory that follows the curve: which model, how sure and how many steps, each signature's own past chooses.

A plan is a model's envelope with a margin: flat; in a few steps by the clock, each where any past run, or nine in ten,
was that high then; or in steps by the course of a run, laid over how long a short one is expected to take. Each
finished run is replayed against every plan; what that would have wasted for what was used, discounted, decides
which one is followed. Relative to use, or one long run would decide alone. The sequence model, where there is one, is
one more of them behind a gate: it is followed only while it does better than the best of the others by a margin.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import ResourceCurve, UsageRun
from preprov.profiles.aligned import BINS, LEAST, RESOURCES, AlignedRuns, binned, features
from preprov.profiles.curves import LEVELS, MODELS, CurveModel, Scenarios
from preprov.profiles.sequence import SEEN_AT, SequenceCurves, Vintages
from preprov.profiles.steps import Steps, fitted, outcome

Floats = NDArray[np.float64]
T = TypeVar("T")

DECAY: Final = 0.97
SEQUENCE: Final = "sequence"
GATE: Final = 0.98
"""The sequence model must have lost no more than this, as a share of what the best of the others has."""
SEEN, UNSEEN, FOLLOWED = "seen", "unseen", "followed"
_MARGINS: Final = (1.15, 1.05, 1.0)
"""On an envelope, the most careful first: it is followed until something is known."""
_EARLY: Final = (0.0, 0.03, 0.07, 0.15, 0.3)
"""Shares of past runs that may be shorter than what the steps of a course are laid out for."""


class _Plan(NamedTuple):
    model: str
    shape: str
    margin: float


class CurveSizer:
    """Learns one signature's use over time, run by run.

    Args:
        steps: that an allocation may have. cap: the most that can be asked for, GiB. seed: of the forest.
        vintages: of the sequence model; None = there is none.
    """

    def __init__(self, steps: int, cap: float, seed: int = 0, vintages: Vintages | None = None) -> None:
        self._steps, self._cap = steps, cap
        self._past = AlignedRuns()
        self._models: dict[str, CurveModel] = {name: make(seed) for name, make in MODELS.items()}
        self._sequence = None if vintages is None else SequenceCurves(vintages)
        if self._sequence is not None:
            self._models[SEQUENCE] = self._sequence
        self.allocated_by = ""
        """The model whose plan was followed last."""
        self.lost: dict[tuple[str, str], float] = {}
        """(model, resource) -> pinball loss on the run learnt last; SEEN and the like: of its rest."""
        self._wasted: dict[_Plan, float] = {}
        self._lost: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._past)

    def learn(self, run: UsageRun) -> None:
        """One finished run, judged against what would have been said of it, then added."""
        self.lost = {}
        if len(self._past):
            for plan, steps in self._plans(features(run)):
                came = outcome(steps, run, self._cap)
                self._wasted[plan] = DECAY * self._wasted.get(plan, 0.0) + came.wasted / max(came.used, LEAST)
            for resource in RESOURCES:
                for name in self._models:
                    self.lost[name, resource] = pinball(
                        self._quantiles(name, resource, run), binned(run, resource), LEVELS
                    )
                self._see(run, resource)
            for key, loss in self.lost.items():
                self._lost[key] = DECAY * self._lost.get(key, 0.0) + loss
        self._past.add(run)
        for model in self._models.values():
            model.learn(self._past)

    def allocate(self, known: Floats) -> Steps:
        """What to ask for, over time; at least one run must have been learnt."""
        plans = dict(self._plans(known))
        chosen = _gated({p: self._wasted.get(p, 0.0) for p in plans}, lambda p: p.model)
        self.allocated_by = chosen.model
        return plans[chosen]

    def quantiles(self, run: UsageRun, resource: str) -> Floats:
        """(BINS, Q) at the times of a run's bins, by the model of least pinball loss so far."""
        return self._quantiles(self.believed(resource), resource, run)

    def curve(self, known: Floats, resource: str, seen: tuple[float, float] | None = None) -> ResourceCurve:
        """What a run is expected to use.

        Args:
            known: (F,) before it. resource: memory or cpu.
            seen: for how long it has run, s, and what it uses now; it counts where that has foretold the rest better.
        """
        if seen is not None and self._sequence is not None and self._seeing_helps(resource):
            after = self._sequence.after(self._past, known, resource, *seen)
            if after is not None:
                return after.curve(resource)
        return self._scenarios(self.believed(resource), resource, known).curve(resource)

    def _seeing_helps(self, resource: str) -> bool:
        return self._lost.get((SEEN, resource), np.inf) < GATE * self._lost.get((UNSEEN, resource), 0.0)

    def _see(self, run: UsageRun, resource: str) -> None:
        """What would have been said of the rest of a run after a tenth of its usual time, and was said before it."""
        elapsed = SEEN_AT * float(np.median(self._past.duration))
        came, later = binned(run, resource), bin_times(run) > elapsed
        if self._sequence is None or not later.any():
            return
        now = float(came[min(int(elapsed / run.duration_s * BINS), BINS - 1)])
        after = self._sequence.after(self._past, features(run), resource, elapsed, now)
        if after is not None:
            told = {
                SEEN: after.quantiles(bin_times(run), LEVELS),
                UNSEEN: self._quantiles(self.believed(resource), resource, run),
            }
            for name, said in told.items():
                self.lost[name, resource] = pinball(said[later], came[later], LEVELS)
            followed = SEEN if self._seeing_helps(resource) else UNSEEN
            self.lost[FOLLOWED, resource] = self.lost[followed, resource]

    def believed(self, resource: str) -> str:
        """The model that is followed in what a run is expected to use."""
        return _gated({m: self._lost.get((m, resource), 0.0) for m in self._models}, lambda m: m)

    def _scenarios(self, name: str, resource: str, known: Floats) -> Scenarios:
        return self._models[name].scenarios(self._past, known, resource)

    def _quantiles(self, name: str, resource: str, run: UsageRun) -> Floats:
        return self._scenarios(name, resource, features(run)).quantiles(bin_times(run), LEVELS)

    def _plans(self, known: Floats) -> Iterator[tuple[_Plan, Steps]]:
        for name in self._models:
            scenarios = self._scenarios(name, "memory", known)
            shapes = {
                "flat": fitted(*scenarios.needed(1.0), 1),
                "clock": fitted(*scenarios.needed(1.0), self._steps),
                "clock-90": fitted(*scenarios.needed(0.9), self._steps),
            }
            for early in _EARLY:
                shapes[f"course-{early}"] = fitted(*scenarios.needed_in_course(early), self._steps)
            for margin in _MARGINS:
                for shape, steps in shapes.items():
                    yield _Plan(name, shape, margin), Steps(steps.start, steps.amount * margin)


def _gated(lost: Mapping[T, float], model: Callable[[T], str]) -> T:
    """What lost least; of the sequence model only what lost less than the best of the others by a margin."""
    simple = min((k for k in lost if model(k) != SEQUENCE), key=lambda k: lost[k])
    best = min(lost, key=lambda k: lost[k])
    return best if model(best) == SEQUENCE and lost[best] < GATE * lost[simple] else simple


def bin_times(run: UsageRun) -> Floats:
    """(BINS,) s: the middle of each of a run's bins."""
    return (np.arange(BINS) + 0.5) / BINS * run.duration_s


def pinball(expected: Floats, came: Floats, levels: Floats) -> float:
    """Mean pinball loss of (T, Q) quantiles against (T,); 0 where nothing was observed."""
    away = came[:, None] - expected
    loss = np.maximum(levels * away, (levels - 1) * away)
    return float(np.nan_to_num(np.nanmean(loss))) if np.isfinite(loss).any() else 0.0
