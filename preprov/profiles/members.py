"""The pool: simple predictive distributions of a peak, each right for another kind of task.

`ecdf` and `recent` look at the task's history alone; `linear`, `loglog`, `local` and `knn` follow one number known
before the run (an input's size, what an earlier task of the same sample wrote), the two that go best with the peak;
the forest (`forest`) looks at all of them and at the words in its name. Residuals are those of the point left out,
so that a line through few points does not look surer than it is. Local regression: Cleveland 1979; no line is followed
far.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprov.profiles.draws import placed, placed_weighted
from preprov.profiles.forest import Forest
from preprov.profiles.history import History

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

RECENT: Final = 20
SOURCES: Final = 2
_FEWEST: Final = 4
_KNOWN_SHARE: Final = 0.7
_NEIGHBOURS: Final = 5
_LOCAL: Final = 40
_FEWEST_LOCAL: Final = 12
_REACH: Final = 0.7
"""How far beyond what was seen a line is believed, in logarithms."""
_LEAST_SPREAD: Final = 1e-3
_SAME: Final = 0.97
_LEAST_LEVERAGE: Final = 0.1


class Member(NamedTuple):
    """One of the pool: what kind, and which of the history's columns it follows (-1 = none of them alone)."""

    kind: str
    column: int = -1


@dataclass(frozen=True, slots=True)
class Query:
    """Q tasks to be sized, in a history's columns: (Q, F) numbers and (Q, V) words."""

    numbers: Floats
    words: Bools

    def __len__(self) -> int:
        return len(self.numbers)

    def told(self, member: Member) -> Bools:
        """(Q,) of which of them the member can speak."""
        return np.ones(len(self), dtype=bool) if member.column < 0 else np.isfinite(self.numbers[:, member.column])

    def parted(self, members: Sequence[Member]) -> Iterator[tuple[list[Member], Ints]]:
        """The rows by who can speak of them."""
        told = np.stack([self.told(m) for m in members], axis=1)
        kinds, which = np.unique(told, axis=0, return_inverse=True)
        for k, kind in enumerate(kinds):
            yield [m for m, speaks in zip(members, kind, strict=True) if speaks], np.flatnonzero(which.ravel() == k)

    def at(self, rows: Ints) -> "Query":
        """Some of them."""
        return Query(self.numbers[rows], self.words[rows])


@dataclass(frozen=True, slots=True)
class Grown:
    """A forest, and which of the history's columns and how many of its rows it knows."""

    forest: Forest
    numbers: int
    words: int
    peak: Floats


def sources(history: History) -> tuple[int, ...]:
    """Columns of numbers that go best with the peak and do not say the same.

    By rank correlation (Spearman 1904) times the share that is known.
    """
    n = len(history)
    if n < _FEWEST:
        return ()
    from scipy.stats import rankdata  # a second to load, and every pass that may adjust comes by here

    ranks = rankdata(history.peak)
    found = []
    for column, x in enumerate(history.numbers.T):
        known = np.isfinite(x)
        if known.sum() >= max(_FEWEST, _KNOWN_SHARE * n) and np.ptp(x[known]) > 1e-9:
            found.append((_together(rankdata(x[known]), ranks[known]) * float(known.mean()), -column))
    chosen: list[int] = []
    for _, column in sorted(found, reverse=True):
        x = history.numbers[:, -column]
        if len(chosen) < SOURCES and all(_together(x, history.numbers[:, c]) < _SAME for c in chosen):
            chosen.append(-column)
    return tuple(chosen)


def _together(x: Floats, y: Floats) -> float:
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3:
        return 0.0
    x, y = x[known] - x[known].mean(), y[known] - y[known].mean()
    size = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return abs(float((x * y).sum())) / size if size > 0 else 0.0


class Pool:
    """The members after n >= 1 runs, and what of them depends on no task.

    Args:
        history: what they know; a pool is good until it changes. columns: that members follow. grown: the forest.
    """

    def __init__(self, history: History, columns: tuple[int, ...], grown: Grown | None) -> None:
        self._history = history
        self._grown = grown
        self._pairs = {c: _Pair.of(history.numbers[:, c], history.peak) for c in columns}
        self.members = tuple(self._speakers())

    def _speakers(self) -> Iterator[Member]:
        n = len(self._history)
        yield Member("ecdf")
        if n > RECENT + _FEWEST:
            yield Member("recent")
        if self._grown is not None:
            yield Member("forest")
        for column, pair in self._pairs.items():
            yield from (Member(kind, column) for kind, fewest in _FEWEST_KNOWN.items() if len(pair.x) >= fewest)

    def draw(self, member: Member, query: Query) -> Floats:
        """(Q, L) or (1, L) what a member expects of tasks that it can speak of, at `draws.LEVELS`."""
        history, grown = self._history, self._grown
        if member.column >= 0:
            return _OF_PAIR[member.kind](self._pairs[member.column], query.numbers[:, member.column])
        if member.kind == "forest" and grown is not None:
            known = facts_known(query.numbers[:, : grown.numbers], query.words[:, : grown.words])
            return _weighted(grown.peak, grown.forest.weights(known))
        peak = np.sort(history.peak[-RECENT:]) if member.kind == "recent" else history.by_peak
        return placed(peak[None, :], _LEAST_SPREAD * float(peak[-1]))


def facts_known(numbers: Floats, words: Bools) -> Floats:
    """(Q, F + V) all that is known of tasks."""
    return np.concatenate([numbers, words], axis=1)


@dataclass(frozen=True, slots=True)
class _Pair:
    """One number against the peak: (n,) logarithms of the number, ascending, and of the peaks; the peaks."""

    x: Floats
    logs: Floats
    peak: Floats

    @classmethod
    def of(cls, x: Floats, peak: Floats) -> "_Pair":
        order = np.argsort(x, kind="stable")[: int(np.isfinite(x).sum())]
        return cls(x[order], np.log(peak[order]), peak[order])

    def nearest(self, at: Floats, k: int) -> Ints:
        """(Q,) -> (Q, k) runs with the most similar number, nearest first."""
        n = len(self.x)
        start = np.clip(np.searchsorted(self.x, at) - k, 0, max(n - 2 * k, 0))
        around = start[:, None] + np.arange(min(2 * k, n))
        order = np.argsort(np.abs(self.x[around] - at[:, None]), axis=1, kind="stable")[:, :k]
        return np.take_along_axis(around, order, axis=1)


def _line(x: Floats, y: Floats) -> tuple[float, float, float, Floats]:
    """Least squares: (mean of x, mean of y, slope, (n,) residuals with the point itself left out)."""
    middle, level = float(x.mean()), float(y.mean())
    away = x - middle
    spread = float(np.square(away).sum()) + 1e-12
    slope = float((away * (y - level)).sum()) / spread
    leverage = 1 / len(x) + np.square(away) / spread
    return middle, level, slope, (y - level - slope * away) / np.maximum(1 - leverage, _LEAST_LEVERAGE)


def _loglog(pair: _Pair, at: Floats) -> Floats:
    middle, level, slope, residual = _line(pair.x, pair.logs)
    expected = np.clip(level + slope * (at - middle), pair.logs.min() - _REACH, pair.logs.max() + _REACH)
    out: Floats = np.exp(expected[:, None] + placed(np.sort(residual)[None, :], _LEAST_SPREAD))
    return out


def _linear(pair: _Pair, at: Floats) -> Floats:
    largest = float(pair.x[-1])
    middle, level, slope, residual = _line(np.exp(pair.x - largest), pair.peak)
    low, high = float(pair.peak.min()), float(pair.peak.max())
    expected = level + slope * (np.exp(np.minimum(at - largest, 3.0)) - middle)
    expected = np.clip(expected, low / 2, high * 2)
    return np.maximum(expected[:, None] + placed(np.sort(residual)[None, :], _LEAST_SPREAD * high), low / 4)


def _neighbours(pair: _Pair, at: Floats) -> Floats:
    peak = np.sort(pair.peak[pair.nearest(at, _NEIGHBOURS)], axis=1)
    return placed(peak, _LEAST_SPREAD * peak[:, -1:])


def _local(pair: _Pair, at: Floats) -> Floats:
    """A line through the neighbours, tricube weights; residuals as far as they weigh."""
    nearest = pair.nearest(at, min(max(10, len(pair.x) // 3), _LOCAL))
    x, y = pair.x[nearest], pair.logs[nearest]
    far = np.abs(x - at[:, None])
    weight = np.clip(1 - (far / (far[:, -1:] * 1.0001 + 1e-9)) ** 3, 1e-6, None) ** 3
    total = weight.sum(axis=1, keepdims=True)
    middle, level = (weight * x).sum(axis=1, keepdims=True) / total, (weight * y).sum(axis=1, keepdims=True) / total
    away = x - middle
    spread = (weight * np.square(away)).sum(axis=1, keepdims=True) + 1e-6 * total
    slope = (weight * away * (y - level)).sum(axis=1, keepdims=True) / spread
    leverage = weight / total + weight * np.square(away) / spread
    residual = np.clip((y - level - slope * away) / np.maximum(1 - leverage, 2 * _LEAST_LEVERAGE), -2.0, 2.0)
    expected = np.clip(level + slope * (at[:, None] - middle), pair.logs.min() - _REACH, pair.logs.max() + _REACH)
    order = np.argsort(residual, axis=1, kind="stable")
    residual, weight = np.take_along_axis(residual, order, axis=1), np.take_along_axis(weight, order, axis=1)
    out: Floats = np.exp(expected + placed_weighted(residual, weight, _LEAST_SPREAD))
    return out


def _weighted(peak: Floats, weight: Floats) -> Floats:
    """The history itself, each run as much as it weighs for each task: (n,), (Q, n)."""
    order = np.argsort(peak, kind="stable")
    return placed_weighted(peak[None, order], weight[:, order], _LEAST_SPREAD * float(peak[order[-1]]))


_OF_PAIR: Final[Mapping[str, Callable[[_Pair, Floats], Floats]]] = {
    "loglog": _loglog,
    "linear": _linear,
    "knn": _neighbours,
    "local": _local,
}
_FEWEST_KNOWN: Final = {"loglog": _FEWEST, "linear": _FEWEST, "knn": _NEIGHBOURS + 3, "local": _FEWEST_LOCAL}
