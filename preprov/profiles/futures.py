"""What a task may come to use from now on: joint draws of memory and cores over time, and reservations that hold them.

A draw is a past run, as often as its model weighs it, stretched in time and scaled in amount by errors as wide as the
kernel of a density estimate (smoothed bootstrap, Silverman 1986) and as heavy in the tails as so few runs allow
(Student's t). Of a task that runs, only ways are drawn that would still run, and rather those that use by now what it
was seen to use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import UsageRun
from preprov.profiles.aligned import BINS, LEAST, RESOURCES, AlignedRuns, binned, features
from preprov.profiles.blending import pinball
from preprov.profiles.curve_sizer import bin_times
from preprov.profiles.curves import LEVELS, MODELS, Scenarios
from preprov.profiles.steps import compacted

Floats = NDArray[np.float64]

_BANDWIDTH: Final = 1.06
_LEAST_ERROR: Final = 0.01
_LIKE: Final = 0.15
"""Spread, in logarithms, within which a reading is taken for what a past run used then."""
_UNLIKE: Final = 0.02
_FEWEST_ALIVE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Step:
    """What is reserved from so many seconds after the start, until the next one."""

    start_s: float
    end_s: float
    cpu: float
    memory: float


@dataclass(frozen=True, slots=True)
class Future:
    """Ways one run may go.

    Attributes:
        cpu, memory: (n, BINS) cores and GiB over each one's own time. duration: (n,) s. weight: (n,), adding up to 1.
    """

    cpu: Floats
    memory: Floats
    duration: Floats
    weight: Floats

    @classmethod
    def of(cls, told: Mapping[str, Scenarios]) -> "Future":
        """Of scenarios by resource whose rows are the same past runs."""
        cpu, memory = told["cpu"], told["memory"]
        return cls(cpu.amount, memory.amount, cpu.duration, cpu.weight)

    @property
    def longest_s(self) -> float:
        """Of the ways it may go."""
        return float(self.duration.max())

    def steps(self, quantile: float, memory_quantile: float, margin: float, most: int) -> tuple[Step, ...]:
        """A reservation in at most so many steps, nowhere below the quantiles of what is used at the time."""
        needed, width = [], 0.0
        for amount, level in ((self.cpu, quantile), (self.memory, memory_quantile)):
            found, width = Scenarios(amount, self.duration, self.weight).needed(level)
            needed.append(found * (1 + margin))
        curve = np.array(needed)
        edges = compacted(curve / np.maximum(curve.max(axis=1, keepdims=True), LEAST), most)
        out: list[Step] = []
        for i, j in edges:
            cpu, gib = (float(v) for v in curve[:, i : j + 1].max(axis=1))
            if out and (out[-1].cpu, out[-1].memory) == (cpu, gib):
                out[-1] = replace(out[-1], end_s=(j + 1) * width)
            else:
                out.append(Step(i * width, (j + 1) * width, cpu, gib))
        return tuple(out)

    def draw(
        self,
        times: Floats,
        count: int,
        rng: np.random.Generator,
        *,
        elapsed_s: float = 0.0,
        late_s: float = 0.0,
        seen: Mapping[str, float] | None = None,
    ) -> tuple[Floats, Floats]:
        """(T,) s from now -> (count, T) cores and (count, T) GiB in use then.

        Args:
            elapsed_s: it has run for so long already. late_s: one that has not begins so late, on average.
            seen: what it was last seen to use, by resource.
        """
        row, length, scale = self._ways(count, rng)
        alive = np.flatnonzero(length > elapsed_s)
        if len(alive) < _FEWEST_ALIVE * count:
            return self._beyond(times, count)
        if elapsed_s > 0:
            like = self._likeness(row[alive], length[alive], elapsed_s, seen or {})
            alive = rng.choice(alive, size=count, p=like / like.sum())
        row, length, scale = row[alive], length[alive], scale[:, alive]
        late = rng.exponential(late_s, len(row)) if late_s > 0 and elapsed_s <= 0 else np.zeros(len(row))
        place = (elapsed_s + times[None, :] - late[:, None]) / length[:, None]
        at = np.clip((place * BINS).astype(np.int64), 0, BINS - 1)
        runs = (place >= 0) & (place < 1)
        cpu = np.where(runs, self.cpu[row[:, None], at] * scale[0][:, None], 0.0)
        memory = np.where(runs, self.memory[row[:, None], at] * scale[1][:, None], 0.0)
        return cpu, memory

    def rest(
        self, quantiles: tuple[float, float], elapsed_s: float, seen: Mapping[str, float], rng: np.random.Generator
    ) -> tuple[float, float]:
        """The most that it uses from now on: quantiles of cores and of memory."""
        times = np.linspace(0.0, max(self.longest_s - elapsed_s, 1.0), BINS)
        drawn = self.draw(times, _RESTS, rng, elapsed_s=elapsed_s, seen=seen)
        cpu, memory = (float(np.quantile(d.max(axis=1), q)) for d, q in zip(drawn, quantiles, strict=True))
        return cpu, memory

    def _ways(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats, Floats]:
        """(count,) past runs, (count,) how long each takes, (2, count) how much more or less it uses."""
        n = len(self.duration)
        row = rng.choice(n, size=count, p=self.weight / self.weight.sum())
        error = rng.standard_t(max(n - 1, 2), size=(3, count))
        wide = [self._error(x) for x in (self.duration, self.cpu.max(axis=1), self.memory.max(axis=1))]
        factor = np.exp(np.clip(error * np.array(wide)[:, None], -1.5, 1.5))
        return row, self.duration[row] * factor[0], factor[1:]

    def _error(self, values: Floats) -> float:
        logs = np.log(np.maximum(values, LEAST))
        mean = float((logs * self.weight).sum())
        spread = float(np.sqrt(((logs - mean) ** 2 * self.weight).sum()))
        return max(_BANDWIDTH * spread * float(np.power(float(len(values)), -0.2)), _LEAST_ERROR)

    def _likeness(self, row: NDArray[np.int64], length: Floats, elapsed_s: float, seen: Mapping[str, float]) -> Floats:
        """(k,) how well what each would use by now agrees with what was seen."""
        at = np.clip((elapsed_s / length * BINS).astype(np.int64), 0, BINS - 1)
        out = np.ones(len(row))
        for name, amount in (("cpu", self.cpu), ("memory", self.memory)):
            use = seen.get(name)
            if use is not None and use > 0:
                away = np.log(use / amount[row, at]) / _LIKE
                out *= np.maximum(np.exp(-0.5 * np.square(away)), _UNLIKE)
        return out

    def _beyond(self, times: Floats, count: int) -> tuple[Floats, Floats]:
        """It runs longer than any did: nothing is known but the most that was ever used."""
        shape = (count, len(times))
        return np.full(shape, self.cpu.max()), np.full(shape, self.memory.max())


_RESTS: Final = 512


# ---- which model, and whether it is to be trusted

_JUDGED: Final = 6
"""The last runs, each foretold from those before it."""
_COVERED: Final = 0.7
"""Least share of their time that they must have kept below the 90 % quantile of the model that did best."""
_COMPARED: Final = ("history", "scaled", "shifted")
"""Quick to learn, and their scenarios are past runs in the same order."""
_AT: Final = 0.9


@dataclass(frozen=True)
class Learnt:
    """What past runs of one signature say.

    Attributes:
        past: the runs. model: that foretold the last of them best.
        covered: by resource, the share of the last runs' time that was within what was foretold of nine in ten.
    """

    past: AlignedRuns
    model: str
    covered: Mapping[str, float]

    @classmethod
    def of(cls, runs: Sequence[UsageRun]) -> "Learnt":
        """Of at least two runs, the oldest first, odd ones left out."""
        past = AlignedRuns()
        lost = dict.fromkeys(_COMPARED, 0.0)
        within: dict[tuple[str, str], list[float]] = {(m, r): [] for m in _COMPARED for r in RESOURCES}
        judged = all(np.isfinite(binned(u, r)).all() for u in runs[-_JUDGED:] for r in RESOURCES)
        for i, run in enumerate(runs):
            if judged and i >= max(len(runs) - _JUDGED, 1):
                for name in _COMPARED:
                    for resource in RESOURCES:
                        told = _told(past, name, resource, run)
                        came = binned(run, resource)
                        lost[name] += pinball(told, came, LEVELS) / max(float(came.max()), LEAST)
                        high = told[:, int(np.argmin(np.abs(LEVELS - _AT)))]
                        within[name, resource].append(float((came <= high * (1 + _SLACK)).mean()))
            past.add(run)
        best = min(_COMPARED, key=lambda m: lost[m])
        return cls(past, best, {r: float(np.mean(within[best, r] or [0.0])) for r in RESOURCES})

    @property
    def is_trusted(self) -> bool:
        """True if both cores and memory were watched, and came as foretold often enough."""
        seen = all(bool(np.isfinite(c).all()) for c in self.past.curves.values())
        return seen and all(c >= _COVERED for c in self.covered.values())

    def future(self, known: Floats) -> Future:
        """Of a run of which (F,) is known."""
        model = MODELS[self.model](0)
        return Future.of({r: model.scenarios(self.past, known, r) for r in RESOURCES})


_SLACK: Final = 0.05


def _told(past: AlignedRuns, name: str, resource: str, run: UsageRun) -> Floats:
    """(BINS, Q) at the times of a run's bins."""
    scenarios = MODELS[name](0).scenarios(past, features(run), resource)
    return scenarios.quantiles(bin_times(run), LEVELS)
