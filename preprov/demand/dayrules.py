"""On which days something comes back: every day, on some weekdays, at an end of the month, on a date."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.runtime_tables import Ints

_EPOCH: Final = 719_163  # ordinal of 1970-01-01
FEWEST: Final = 3
_DAYS_FOR_DATES: Final = 27
_SELDOM: Final = 0.2
_WORKDAYS: Final = frozenset(range(5))


@dataclass(frozen=True)
class Rule:
    """A set of days. weekdays: Monday is 0; None = all. date: of the month, 0 = its last; None = all."""

    weekdays: frozenset[int] | None = None
    date: int | None = None

    def holds(self, days: Ints) -> NDArray[np.bool_]:
        """(N,) which of the days (proleptic ordinals) it names."""
        out = np.ones(len(days), dtype=bool)
        if self.weekdays is not None:
            out &= np.isin((days - 1) % 7, list(self.weekdays))
        if self.date is not None:
            out &= _dates(days + 1) == 1 if self.date == 0 else _dates(days) == self.date
        return out

    @property
    def fewest(self) -> int:
        """On how many of its days a thing must have come to be believed."""
        rare = self.date is not None or (self.weekdays is not None and len(self.weekdays) == 1)
        return FEWEST if rare else FEWEST + 1

    def __str__(self) -> str:
        if self.date is not None:
            return "last day of the month" if self.date == 0 else f"day {self.date} of the month"
        if self.weekdays is None:
            return "every day"
        if self.weekdays == _WORKDAYS:
            return "weekdays"
        names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
        return ", ".join(names[d] for d in sorted(self.weekdays))


@dataclass(frozen=True)
class Kept:
    """How a rule was kept: days it named, days on which it came, days missed in a row at the end."""

    rule: Rule
    named: int
    came: int
    missed_last: int

    @property
    def rate(self) -> float:
        """Share of its days on which it came, those missed at the end left out."""
        return (self.came + 0.5) / (self.named - self.missed_last + 1.0)


def best_rule(came: Ints, last: int) -> Kept:
    """The rule that explains best on which of the days from the first of `came` to `last` it came.

    By Bernoulli likelihood within the named days and without, less what a choice among so many rules costs.
    """
    days = np.arange(int(came.min()), max(last, int(came.max())) + 1)
    present = np.isin(days, came)
    scored = [(_likelihood(rule.holds(days), present) - cost, rule) for cost, rule in _rules(days, present)]
    rule = max(scored, key=lambda pair: pair[0])[1]
    named = present[rule.holds(days)]
    missed = int(np.argmax(named[::-1])) if named.any() else len(named)
    return Kept(rule, len(named), int(named.sum()), missed)


def _rules(days: Ints, present: NDArray[np.bool_]) -> Iterator[tuple[float, Rule]]:
    yield 0.0, Rule()
    weekday = (days - 1) % 7
    seen = np.bincount(weekday, minlength=7)
    share = np.bincount(weekday[present], minlength=7) / np.maximum(seen, 1)
    often = frozenset(np.flatnonzero(share >= 0.5).tolist())
    if seen.min() >= 1 and 0 < len(often) < 7:
        yield 1.0 if often == _WORKDAYS else float(np.log(7 * max(len(often), 1))), Rule(weekdays=often)
    if len(days) > _DAYS_FOR_DATES and present.mean() < _SELDOM:
        yield 2.0, Rule(date=0)
        for number in np.unique(_dates(days[present])).tolist():
            yield 2.0 if number == 1 else float(np.log(31)), Rule(date=int(number))


def _dates(days: Ints) -> Ints:
    """(N,) day of the month."""
    day = (days - _EPOCH).astype("datetime64[D]")
    out: Ints = (day - day.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1
    return out


def _likelihood(named: NDArray[np.bool_], present: NDArray[np.bool_]) -> float:
    out = 0.0
    for part in (present[named], present[~named]):
        n, k = len(part), int(part.sum())
        p = (k + 0.5) / (n + 1.0)
        out += k * np.log(p) + (n - k) * np.log1p(-p)
    return float(out)
