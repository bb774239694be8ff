"""What is known of a signature's runs, in columns: peaks, hours, and what was known of each before it began."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW: Final = 512
"""Runs that a signature's history holds at most: the last ones."""
_SMOOTHING: Final = 0.15
_MOST_NUMBERS: Final = 24
_MOST_WORDS: Final = 48


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a task before it begins. Nothing that only its own run can tell belongs here.

    Attributes:
        numbers: name -> a size, a count, a parameter; positive ones are compared by their logarithm.
        words: parts of its name, tags, labels.
    """

    numbers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    words: frozenset[str] = frozenset()


class History:
    """The last runs of one signature.

    Columns are added as facts are met, up to so many; what is not known of a run is NaN.
    """

    def __init__(self) -> None:
        self._n = 0
        self._peak = np.empty(16)
        self._hours = np.empty(16)
        self._numbers = np.full((16, 4), np.nan)
        self._words = np.zeros((16, 8), dtype=bool)
        self._by_peak = np.empty(0)
        self._hours_by_peak = np.empty(0)
        self._smooth: Floats | None = None
        self.names: dict[str, int] = {}
        self.vocabulary: dict[str, int] = {}

    def __len__(self) -> int:
        return self._n

    @property
    def peak(self) -> Floats:
        """(n,) peaks, oldest first."""
        return self._peak[: self._n]

    @property
    def hours(self) -> Floats:
        """(n,) runtimes."""
        return self._hours[: self._n]

    @property
    def numbers(self) -> Floats:
        """(n, F) logarithms of numbers known before, NaN where not known."""
        return self._numbers[: self._n, : len(self.names)]

    @property
    def words(self) -> NDArray[np.bool_]:
        """(n, V) whether a word was there."""
        return self._words[: self._n, : len(self.vocabulary)]

    @property
    def by_peak(self) -> Floats:
        """(n,) peaks, ascending."""
        return self._by_peak

    def hours_at(self, peak: Floats) -> Floats:
        """How long runs with such peaks take, any shape.

        Smoothed over neighbours in rank, for how long the one run with the highest peak took is chance.
        """
        if self._smooth is None:
            n = self._n
            reach = max(1, round(_SMOOTHING * n / 2)) if n > 2 else 0
            held = np.concatenate([[0.0], np.cumsum(self._hours_by_peak)])
            low, high = np.maximum(np.arange(n) - reach, 0), np.minimum(np.arange(n) + reach + 1, n)
            self._smooth = (held[high] - held[low]) / (high - low)
        return np.interp(peak, self._by_peak, self._smooth)

    def add(self, peak: float, hours: float, facts: Facts) -> None:
        """One more run; the oldest goes when there are twice as many as the window holds."""
        if self._n == 2 * WINDOW:
            for name in ("_peak", "_hours", "_numbers", "_words"):
                column = getattr(self, name)
                column[:WINDOW] = column[WINDOW : 2 * WINDOW]
            self._n = WINDOW
            order = np.argsort(self.peak, kind="stable")
            self._by_peak, self._hours_by_peak = self.peak[order], self.hours[order]
        self._grow(facts)
        numbers, words = self.encode([facts])
        i = self._n
        self._peak[i], self._hours[i] = peak, hours
        self._numbers[i], self._words[i] = np.nan, False
        self._numbers[i, : len(self.names)] = numbers[0]
        self._words[i, : len(self.vocabulary)] = words[0]
        self._n += 1
        at = int(np.searchsorted(self._by_peak, peak, side="right"))
        self._by_peak = np.insert(self._by_peak, at, peak)
        self._hours_by_peak = np.insert(self._hours_by_peak, at, hours)
        self._smooth = None

    def encode(self, facts: Iterable[Facts]) -> tuple[Floats, NDArray[np.bool_]]:
        """(Q, F) and (Q, V) of tasks, in this history's columns."""
        listed = list(facts)
        numbers = np.full((len(listed), len(self.names)), np.nan)
        words = np.zeros((len(listed), len(self.vocabulary)), dtype=bool)
        for row, fact in enumerate(listed):
            for name, value in fact.numbers.items():
                if (column := self.names.get(name)) is not None:
                    numbers[row, column] = as_log(value)
            for word in fact.words:
                if (column := self.vocabulary.get(word)) is not None:
                    words[row, column] = True
        return numbers, words

    def _grow(self, facts: Facts) -> None:
        for name in sorted(set(facts.numbers) - set(self.names))[: _MOST_NUMBERS - len(self.names)]:
            self.names[name] = len(self.names)
        for word in sorted(facts.words - set(self.vocabulary))[: _MOST_WORDS - len(self.vocabulary)]:
            self.vocabulary[word] = len(self.vocabulary)
        rows = self._n + 1 if self._n < len(self._peak) else 2 * len(self._peak)
        self._peak, self._hours = _wider(self._peak, rows), _wider(self._hours, rows)
        self._numbers = _wider(self._numbers, rows, len(self.names))
        self._words = _wider(self._words, rows, len(self.vocabulary))


def as_log(value: float) -> float:
    """Logarithm of a number, 0 for nothing; NaN where it is not known or below nothing."""
    return math.log1p(value) if 0 <= value < math.inf else math.nan


def _wider(column: NDArray[Any], rows: int, width: int | None = None) -> NDArray[Any]:
    """The array with room for so many rows and columns, at least doubled where it grows; new cells say nothing."""
    old_rows, old_width = len(column), column.shape[1] if column.ndim > 1 else None
    if rows <= old_rows and (width is None or old_width is None or width <= old_width):
        return column
    shape: tuple[int, ...] = (max(rows, old_rows),)
    if width is not None and old_width is not None:
        shape = (shape[0], old_width if width <= old_width else 2 * width)
    empty = np.nan if column.dtype != np.bool_ else False
    out = np.full(shape, empty, dtype=column.dtype)
    out[tuple(slice(n) for n in column.shape)] = column
    return out
