"""Models of a run's use over time, behind one protocol: what each expects is past runs, weighed, stretched and scaled.

`history`: every past run counts the same. `scaled`, `between` and `shifted`: each is stretched in time and scaled in
amount by what lines on input size say. `forest`: runs count as often as they share leaves with the new one in a forest
grown on the peaks of k segments and the runtime (quantile regression forests, Meinshausen 2006).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import Phase, ResourceCurve
from preprov.profiles.aligned import BINS, RESOURCES, AlignedRuns
from preprov.profiles.draws import first_at
from preprov.profiles.forest import FEWEST, Forest
from preprov.profiles.steps import Steps, fitted

Floats = NDArray[np.float64]

LEVELS: Final = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
_SEGMENTS: Final = 4
_FEWEST_SCALED: Final = 4
_REACH: Final = 2.0
_MOST_SCALE: Final = 1e3
_WORTH: Final = (1.0, 1.1, 1.1)
"""Of mean and lines: a line must be so much better to be followed."""
_GROW_AGAIN: Final = 1.5
_PHASES: Final = 4
_SAME_PHASE: Final = 0.15


@dataclass(frozen=True, slots=True)
class Scenarios:
    """Ways a run may go: (n, BINS) amounts over each one's own duration (n,) s, with weights (n,) adding up to 1."""

    amount: Floats
    duration: Floats
    weight: Floats

    def over(self, times: Floats) -> tuple[Floats, Floats]:
        """(T,) s -> (n, T) amounts then, and (n, T) weights: of those that still run, else the longest."""
        place = times[None, :] / self.duration[:, None]
        running = place < 1
        running[int(np.argmax(self.duration))] = True
        at = np.clip((place * BINS).astype(np.int64), 0, BINS - 1)
        return np.take_along_axis(self.amount, at, axis=1), np.where(running, self.weight[:, None], 0.0)

    def quantiles(self, times: Floats, levels: Floats) -> Floats:
        """(T,) s and (Q,) -> (T, Q)."""
        amount, weight = self.over(times)
        return weighted_quantiles(amount, weight, levels)

    def curve(self, resource: str) -> ResourceCurve:
        """As a curve with quantiles."""
        runtime = weighted_quantiles(self.duration, self.weight, LEVELS)
        at = (np.arange(BINS) + 0.5) / BINS * float(runtime[-1])
        values = self.quantiles(at, LEVELS)
        peak = weighted_quantiles(self.amount.max(axis=1), self.weight, LEVELS)
        middle = values[:, int(np.searchsorted(LEVELS, 0.5))]
        return ResourceCurve(
            resource, at, LEVELS, values, peak, runtime, phases(middle, float(runtime[-1]) / BINS), len(self.weight)
        )

    def needed(self, level: float) -> tuple[Floats, float]:
        """(BINS,) what is enough at each time for so large a share of those that still run; width of a bin in s."""
        longest = float(self.duration.max())
        amount, weight = self.over((np.arange(BINS) + 0.5) / BINS * longest)
        if level >= 1:
            return np.where(weight > 0, amount, 0.0).max(axis=0), longest / BINS
        return weighted_quantiles(amount, weight, np.array([level]))[:, 0], longest / BINS

    def needed_in_course(self, early: float) -> tuple[Floats, float]:
        """(BINS,) the most that any needs up to each share of its run; a bin's width in s of one that short.

        Args:
            early: share of runs that are shorter.
        """
        shortest = weighted_quantiles(self.duration, self.weight, np.array([early]))[0]
        return np.maximum.accumulate(self.amount.max(axis=0)), float(shortest) / BINS


class CurveModel(Protocol):
    """What a run will use over time, learnt from the runs of its signature."""

    def learn(self, past: AlignedRuns) -> None:
        """Take note that a run was added."""
        ...

    def scenarios(self, past: AlignedRuns, known: Floats, resource: str) -> Scenarios:
        """Ways a run may go of which (F,) is known; of at least one past run."""
        ...


class History:
    """Every past run counts the same."""

    def learn(self, past: AlignedRuns) -> None:
        """Nothing to do."""

    def scenarios(self, past: AlignedRuns, known: Floats, resource: str) -> Scenarios:
        """The past as it was."""
        n = len(past)
        return Scenarios(past.curves[resource], past.duration, np.full(n, 1 / n))


class Scaled:
    """Past runs stretched in time and scaled in amount, segment by segment, as input size says where it says something.

    Args:
        grows: errors of the runtime grow with its power of this: 0 = alike in seconds, 1 = alike as a share of it.
    """

    def __init__(self, grows: float = 1.0) -> None:
        self._grows = grows

    def learn(self, past: AlignedRuns) -> None:
        """Nothing to do."""

    def scenarios(self, past: AlignedRuns, known: Floats, resource: str) -> Scenarios:
        """The past as if it had had this input."""
        n = len(past)
        amount = past.worked_out((resource, float(known[0])), lambda: _scaled(past, float(known[0]), resource))
        # (n + 1,) of the past runs, and of this one
        length = past.worked_out((f"duration {self._grows}", float(known[0])), lambda: self._lengths(past, known[0]))
        then, at = length[:-1], float(length[-1])
        error = (past.duration - then) * (at / then) ** self._grows
        duration = np.maximum(at + error, past.duration / then * at / _REACH)
        return Scenarios(amount, duration, np.full(n, 1 / n))

    def _lengths(self, past: AlignedRuns, size: float) -> Floats:
        then, at = expected_from(past.known[:, 0], past.duration, size, self._grows)
        return np.append(then, at)


def _scaled(past: AlignedRuns, size: float, resource: str) -> Floats:
    """(n, BINS) amounts of past runs as if they had had an input of this size (a logarithm)."""
    n, sizes = len(past), past.known[:, 0]
    segments = past.curves[resource].reshape(n, _SEGMENTS, -1)
    line = [expected_from(sizes, segments[:, k].max(axis=1), size) for k in range(_SEGMENTS)]
    scale = np.stack([np.clip(at / then, 1 / _MOST_SCALE, _MOST_SCALE) for then, at in line], axis=1)
    out: Floats = (segments * scale[:, :, None]).reshape(n, -1)
    return out


class ForestSegments:
    """Past runs as often as they share leaves with the new one."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._forest: Forest | None = None
        self._runs = self._grown_at = 0

    def learn(self, past: AlignedRuns) -> None:
        """Grown again when there is half as much again to learn from, or the window has moved that far."""
        self._runs += 1
        if self._runs < FEWEST or (self._forest is not None and self._runs < _GROW_AGAIN * self._grown_at):
            return
        segments = [past.curves[r].reshape(len(past), _SEGMENTS, -1).max(axis=2) for r in RESOURCES]
        target = np.log(np.nan_to_num(np.hstack([*segments, past.duration[:, None]]), nan=1.0))
        spread = target.std(axis=0)
        self._forest = Forest.grow(past.known, target / np.where(spread > 0, spread, 1.0), self._seed)
        self._past = {r: c.copy() for r, c in past.curves.items()}
        self._duration, self._grown_at = past.duration.copy(), self._runs

    def scenarios(self, past: AlignedRuns, known: Floats, resource: str) -> Scenarios:
        """Those of its leaves; all, where no forest has grown yet."""
        if self._forest is None or resource not in self._past:
            return History().scenarios(past, known, resource)
        weight = self._forest.weights(known[None, :])[0]
        seen = np.isfinite(self._past[resource][:, 0])
        weight = np.where(seen, weight, 0.0) if seen.any() else weight
        near = weight > 0
        if not near.any():
            return History().scenarios(past, known, resource)
        return Scenarios(self._past[resource][near], self._duration[near], weight[near] / weight.sum())


def weighted_quantiles(values: Floats, weight: Floats, levels: Floats) -> Floats:
    """(n,) or (n, T) values, as many weights, (Q,) -> (Q,) or (T, Q), between those that weigh anything."""
    if values.ndim == 1:
        return _of_one(values[weight > 0], weight[weight > 0], levels)
    rows = np.where(weight > 0, values, np.inf).T.reshape(-1, len(values))
    weighs = weight.T.reshape(rows.shape)
    order = np.argsort(rows, axis=1)
    rows, weighs = np.take_along_axis(rows, order, 1), np.take_along_axis(weighs, order, 1)
    total = weighs.sum(axis=1, keepdims=True)
    at = (np.cumsum(weighs, axis=1) - weighs / 2) / total
    last = (weighs > 0).sum(axis=1, keepdims=True) - 1
    high = np.minimum(first_at(at, levels), last)
    low = np.maximum(high - 1, 0)
    at_low, at_high = np.take_along_axis(at, low, 1), np.take_along_axis(at, high, 1)
    part = np.clip((levels - at_low) / np.maximum(at_high - at_low, 1e-300), 0.0, 1.0)
    below, above = np.take_along_axis(rows, low, 1), np.take_along_axis(rows, high, 1)
    out: Floats = np.minimum(below + (above - below) * part, above)  # in this form rounding lets no two of them cross
    return out


def _of_one(values: Floats, weight: Floats, levels: Floats) -> Floats:
    """(n,) values, as many weights, (Q,) rising -> (Q,)."""
    order = np.argsort(values)
    held = np.cumsum(weight[order])
    out: Floats = np.interp(levels, (held - weight[order] / 2) / held[-1], values[order])
    return np.maximum.accumulate(out) if np.all(levels[1:] >= levels[:-1]) else out


def phases(middle: Floats, width_s: float) -> tuple[Phase, ...]:
    """(BINS,) a curve -> from when on about how much, in few words; neighbours that are nearly alike are one."""
    steps: Steps = fitted(middle, width_s, _PHASES)
    out: list[Phase] = []
    for start, amount in zip(steps.start.tolist(), steps.amount.tolist(), strict=True):
        if not out or abs(amount - out[-1].amount) > _SAME_PHASE * max(amount, out[-1].amount):
            out.append(Phase(start, amount))
    return tuple(out)


def expected_from(x: Floats, y: Floats, at: float, grows: float = 1.0) -> tuple[Floats, float]:
    """What logarithms (n,) of sizes say of (n,) y: (n,) of the past runs, and of a size `at`; the same if nothing.

    Of a line through sizes (n,) x and y, one through the logarithms of both, and the mean, the one is taken whose
    errors are the least part of what came, on average. The first weighs errors as they grow, by y to
    the power of `grows`.
    """
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < _FEWEST_SCALED or not np.isfinite(at) or np.ptp(x[known]) < 1e-9:
        return np.ones(len(x)), 1.0
    where = np.append(np.where(np.isfinite(x), x, at), at)
    logs = np.log(y[known])
    size = np.exp(where - where.max())
    slope, level = _line(size[:-1][known], y[known], y[known] ** (-2 * grows))
    straight = np.log(np.clip(level + slope * size, y[known].min() / _REACH, y[known].max() * _REACH))
    slope, level = _line(x[known], logs, np.ones(len(logs)))
    power = np.clip(level + slope * where, logs.min() - np.log(_REACH), logs.max() + np.log(_REACH))
    lines = [np.full(len(where), logs.mean()), straight, power]
    errors = [float(np.abs(logs - line[:-1][known]).mean()) * worth for line, worth in zip(lines, _WORTH, strict=True)]
    best = lines[int(np.argmin(errors))]
    return np.exp(best[:-1]), float(np.exp(best[-1]))


def foretold(x: Floats, y: Floats, at: float) -> float:
    """What past (n,) y at logarithms (n,) of sizes say of one of a size `at`: the median, stretched as lines say."""
    then, now = expected_from(x, y, at)
    return float(np.median(y / then)) * now


def _line(x: Floats, y: Floats, weight: Floats) -> tuple[float, float]:
    """Weighted least squares: (slope, level)."""
    share = weight / weight.sum()
    middle, level = float(share @ x), float(share @ y)
    away = x - middle
    slope = float(share @ (away * (y - level))) / max(float(share @ (away * away)), 1e-300)
    return slope, level - slope * middle


MODELS: Final[Mapping[str, Callable[[int], CurveModel]]] = {
    "history": lambda _seed: History(),
    "scaled": lambda _seed: Scaled(),
    "between": lambda _seed: Scaled(grows=0.5),
    "shifted": lambda _seed: Scaled(grows=0.0),
    "forest": ForestSegments,
}
