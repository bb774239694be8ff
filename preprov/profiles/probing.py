"""What a probe run is worth before it is made, and what it says of memory afterwards.

A probe pays by what is known better after it (value of information, Howard 1966): what is expected to be wasted, and to
fail, with the request of least expected waste now, less the same with what would be known then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from preprov.profiles.draws import LEVELS, Mixture
from preprov.profiles.waste import Price

PAIRS: Final = 3
"""Probes whose task has run, too, from which on a probe says what its task will use."""
_ASKED_FOR: Final = 4.0
_UNKNOWN: Final = 1.0
"""Of a task that never ran: people ask for about four times what is used, give or take a factor of e."""
_TOLD: Final = 0.15
"""Spread that a probe is held to leave open until its own past says."""
_LEAST: Final = 0.02
_DEGREES: Final = 3


@dataclass(frozen=True, slots=True)
class Expected:
    """A peak of memory, foretold: its logarithm is Student's t about that of `middle`. middle: GiB."""

    middle: float
    spread: float
    degrees: int

    @classmethod
    def of(cls, peaks: Sequence[float], asked: float) -> "Expected":
        """From past peaks; from what is asked for where there are fewer than three."""
        known = np.log([p for p in peaks if np.isfinite(p) and p > 0])
        if len(known) < PAIRS:
            middle = float(np.exp(known.mean())) if len(known) else asked / _ASKED_FOR
            return cls(middle, _UNKNOWN, _DEGREES)
        return cls(float(np.exp(known.mean())), _wide(known), len(known) - 1)

    def least_waste(self, hours: float, price: Price) -> tuple[float, float]:
        """(GiB to ask for, GiB hours that are then expected to be wasted)."""
        from scipy.special import stdtrit

        peaks = self.middle * np.exp(np.clip(self.spread * stdtrit(self.degrees, LEVELS), -4.0, 4.0))
        mixture = Mixture.of([peaks[None, :]], np.ones(1), lambda p: np.full(p.shape, hours))
        asked = mixture.cheapest(price)
        return float(asked[0]), float(mixture.waste(asked[:, None], price)[0, 0])


def told_by(peak: float, pairs: Sequence[tuple[float, float]]) -> Expected | None:
    """What a probe that used so much says; None from fewer than three pairs.

    Args:
        peak: of the probe, GiB. pairs: of past ones: peak of the probe, peak of the task.
    """
    ratios = _ratios(pairs)
    if len(ratios) < PAIRS or not peak > 0:
        return None
    return Expected(peak * float(np.exp(ratios.mean())), _wide(ratios), len(ratios) - 1)


@dataclass(frozen=True, slots=True)
class Worth:
    """GiB hours that are expected to be wasted, now and after a probe."""

    now: float
    after: float

    @property
    def saved(self) -> float:
        """GiB hours; not less than nothing."""
        return max(self.now - self.after, 0.0)


def worth(now: Expected, hours: float, price: Price, pairs: Sequence[tuple[float, float]] = ()) -> Worth:
    """What a probe is expected to be worth to a run of so many hours."""
    ratios = _ratios(pairs)
    known = len(ratios) >= PAIRS
    left = min(_wide(ratios) if known else _TOLD, now.spread)
    after = Expected(now.middle, left, len(ratios) - 1 if known else now.degrees)
    # What it will say is not known yet, but on average it says what is expected now.
    grown = float(np.exp((now.spread**2 - left**2) / 2))
    return Worth(now.least_waste(hours, price)[1], after.least_waste(hours, price)[1] * grown)


def _ratios(pairs: Sequence[tuple[float, float]]) -> np.ndarray:
    return np.log([task / probe for probe, task in pairs if probe > 0 and task > 0])


def _wide(logs: np.ndarray) -> float:
    """Of one more."""
    return max(float(np.std(logs, ddof=1)) * float(np.sqrt(1 + 1 / len(logs))), _LEAST)
