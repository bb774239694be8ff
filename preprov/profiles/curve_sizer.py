"""What a run will use over time, and memory that follows it: how models are mixed each signature's own past decides.

What is said of a resource's use over time, of its peak and of the runtime is blended (`blending`): each model's
quantiles are put right by what came before, and weigh by what they lost. The forest stands behind a gate, and the
sequence model, where there is one, behind another.

A plan is a model's envelope with a margin: flat; in a few steps by the clock, each where any past run, or nine in ten,
was that high then; or in steps by the course of a run, laid over how long a short one is expected to take. Each
finished run is replayed against every plan. What a plan is expected to waste is what its model, its shape and its
margin wasted each on average, discounted: of a hundred plans the one that wasted least was mostly lucky. Waste is
relative to use, or one long run would decide alone. Plans are not mixed: halfway between two a run may fail in both.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import ResourceCurve, UsageRun
from preprov.profiles.aligned import BINS, LEAST, RESOURCES, AlignedRuns, binned, features
from preprov.profiles.blending import DECAY, GATE, Blend, let_in, pinball
from preprov.profiles.curves import LEVELS, MODELS, CurveModel, Scenarios, phases, weighted_quantiles
from preprov.profiles.sequence import SEEN_AT, SequenceCurves, Vintages
from preprov.profiles.steps import Steps, fitted, outcome

Floats = NDArray[np.float64]

FOREST, SEQUENCE = "forest", "sequence"
RICHER: Final = (FOREST, SEQUENCE)
"""Models that stand behind a gate each, the simpler one first."""
SEEN, UNSEEN, FOLLOWED = "seen", "unseen", "followed"
_RUNTIME: Final = "runtime"
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
        self._use: dict[str, Blend] = {}
        self._peak: dict[str, Blend] = {}
        self._runtime = self._blend(RESOURCES[0])
        self._told: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._past)

    def learn(self, run: UsageRun) -> None:
        """One finished run, judged against what would have been said of it, then added."""
        self.lost = {}
        if len(self._past):
            for plan, steps in self._plans(features(run)):
                came = outcome(steps, run, self._cap)
                self._wasted[plan] = DECAY * self._wasted.get(plan, 0.0) + came.wasted / max(came.used, LEAST)
            for resource in run.resources:
                if resource in self.resources:
                    self._judge(run, resource)
        self._past.add(run)
        for model in self._models.values():
            model.learn(self._past)

    def _judge(self, run: UsageRun, resource: str) -> None:
        """What each model would have said of a resource, and what came."""
        told = self._scenarios(resource, features(run))
        came, at = binned(run, resource), bin_times(run)
        self._see(run, resource, told)
        lost = self._blend_of(self._use, resource).learn({m: s.quantiles(at, LEVELS) for m, s in told.items()}, came)
        self.lost |= {(m, resource): loss for m, loss in lost.items()}
        self._blend_of(self._peak, resource).learn(_peaks(told), came.max(keepdims=True))
        if resource == self.resources[0]:
            self._runtime.learn(_runtimes(told), np.array([run.duration_s]))

    def allocate(self, known: Floats) -> Steps:
        """What to ask for, over time; at least one run must have been learnt."""
        plans = dict(self._plans(known))
        chosen = _least(self._wasted, tuple(plans))
        self.allocated_by = chosen.model
        return plans[chosen]

    def quantiles(self, run: UsageRun, resource: str) -> Floats:
        """(BINS, Q) at the times of a run's bins; of the run only what is known before it."""
        told = self._scenarios(resource, features(run), self.weights(resource))
        return self._blend_of(self._use, resource).mixed(
            {m: s.quantiles(bin_times(run), LEVELS) for m, s in told.items()}
        )

    def peaks(self, resource: str) -> Floats:
        """(n,) the highest use of each run that was learnt, as far as it was observed."""
        past = self._past.curves.get(resource, np.empty((0, BINS)))
        out: Floats = past[np.isfinite(past[:, 0])].max(axis=1)
        return out

    def runtime(self, known: Floats) -> Floats:
        """(Q,) quantiles of how long a run takes, s."""
        told = self._scenarios((*self.resources, RESOURCES[0])[0], known, self._runtime.weights)
        out: Floats = self._runtime.mixed(_runtimes(told, self._runtime))[0]
        return out

    @property
    def resources(self) -> tuple[str, ...]:
        """Those of which any run was observed."""
        return tuple(r for r, c in self._past.curves.items() if np.isfinite(c[:, 0]).any())

    def curve(self, known: Floats, resource: str, seen: tuple[float, float] | None = None) -> ResourceCurve:
        """What a run is expected to use.

        Args:
            known: (F,) before it. resource: one that was observed.
            seen: for how long it has run, s, and what it uses now; it counts where that has foretold the rest better.
        """
        if seen is not None and self._sequence is not None and self._seeing_helps(resource):
            after = self._sequence.after(self._past, known, resource, *seen)
            if after is not None:
                return after.curve(resource)
        use, peak = self._blend_of(self._use, resource), self._blend_of(self._peak, resource)
        told = self._scenarios(resource, known, {**use.weights, **peak.weights, **self._runtime.weights})
        same = resource == self.resources[0]
        runtime = self._runtime.mixed(_runtimes(told, self._runtime))[0] if same else self.runtime(known)
        at = (np.arange(BINS) + 0.5) / BINS * float(runtime[-1])
        values = use.mixed({m: told[m].quantiles(at, LEVELS) for m in use.weights})
        return ResourceCurve(
            resource,
            at,
            LEVELS,
            values,
            peak.mixed(_peaks(told, peak))[0],
            runtime,
            phases(values[:, int(np.searchsorted(LEVELS, 0.5))], float(runtime[-1]) / BINS),
            len(self._past.watched(resource)),
        )

    def weights(self, resource: str) -> Mapping[str, float]:
        """The models that have a say in what a run is expected to use over time."""
        return self._blend_of(self._use, resource).weights

    def _seeing_helps(self, resource: str) -> bool:
        return self._told.get((SEEN, resource), np.inf) < GATE * self._told.get((UNSEEN, resource), 0.0)

    def _see(self, run: UsageRun, resource: str, told: Mapping[str, Scenarios]) -> None:
        """What would have been said of the rest of a run after a tenth of its usual time, and was said before it."""
        elapsed = SEEN_AT * float(np.median(self._past.duration))
        came, later = binned(run, resource), bin_times(run) > elapsed
        if self._sequence is None or resource not in RESOURCES or not later.any():
            return
        now = float(came[min(int(elapsed / run.duration_s * BINS), BINS - 1)])
        after = self._sequence.after(self._past, features(run), resource, elapsed, now)
        if after is None:
            return
        use, times = self._blend_of(self._use, resource), bin_times(run)
        before = use.mixed({m: told[m].quantiles(times, LEVELS) for m in use.weights})
        said = {SEEN: after.quantiles(times, LEVELS), UNSEEN: before}
        lost = {name: pinball(q[later], came[later], LEVELS) for name, q in said.items()}
        lost[FOLLOWED] = lost[SEEN if self._seeing_helps(resource) else UNSEEN]
        for name, loss in lost.items():
            self.lost[name, resource] = loss
            self._told[name, resource] = DECAY * self._told.get((name, resource), 0.0) + loss

    def _blend_of(self, blends: dict[str, Blend], resource: str) -> Blend:
        if resource not in blends:
            blends[resource] = self._blend(resource)
        return blends[resource]

    def _blend(self, resource: str) -> Blend:
        return Blend([m for m in MODELS if m not in RICHER], [m for m in RICHER if m in self._of(resource)])

    def _of(self, resource: str) -> Mapping[str, CurveModel]:
        """The models of a resource: the sequence model knows those only that are always kept."""
        return {m: model for m, model in self._models.items() if m != SEQUENCE or resource in RESOURCES}

    def _scenarios(
        self, resource: str, known: Floats, models: Mapping[str, float] | None = None
    ) -> dict[str, Scenarios]:
        """What some models say, or all, of past runs of which the resource was observed."""
        past = self._past.watched(resource)
        of = self._of(resource)
        return {m: of[m].scenarios(past, known, resource) for m in of if models is None or m in models}

    def _plans(self, known: Floats) -> Iterator[tuple[_Plan, Steps]]:
        for name, scenarios in self._scenarios("memory", known).items():
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


def _least(wasted: Mapping[_Plan, float], plans: tuple[_Plan, ...]) -> _Plan:
    """The plan that is expected to waste least, by what its model, its shape and its margin wasted on average."""
    best: dict[str, float] = {}
    for p in plans:
        best[p.model] = min(wasted.get(p, 0.0), best.get(p.model, np.inf))
    models = let_in(best, [m for m in best if m not in RICHER], [m for m in RICHER if m in best])
    plans = tuple(p for p in plans if p.model in models)
    table = np.array([wasted.get(p, 0.0) for p in plans])
    expected = np.zeros(len(plans))
    for part in zip(*plans, strict=True):
        _, number = np.unique(part, return_inverse=True)
        expected += (np.bincount(number, table) / np.bincount(number))[number]
    return plans[int(np.argmin(np.round(expected, 9)))]


def _peaks(told: Mapping[str, Scenarios], blend: Blend | None = None) -> dict[str, Floats]:
    """(1, Q) by model; only of those that have a say in a blend."""
    asked = {m: s for m, s in told.items() if blend is None or m in blend.weights}
    return {m: weighted_quantiles(s.amount.max(axis=1), s.weight, LEVELS)[None, :] for m, s in asked.items()}


def _runtimes(told: Mapping[str, Scenarios], blend: Blend | None = None) -> dict[str, Floats]:
    """(1, Q) s by model; only of those that have a say in a blend."""
    asked = {m: s for m, s in told.items() if blend is None or m in blend.weights}
    return {m: weighted_quantiles(s.duration, s.weight, LEVELS)[None, :] for m, s in asked.items()}


def bin_times(run: UsageRun) -> Floats:
    """(BINS,) s: the middle of each of a run's bins."""
    return (np.arange(BINS) + 0.5) / BINS * run.duration_s
