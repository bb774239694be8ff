"""What an allocation costs, as judged after the run and as expected before it.

An attempt whose allocation is below its peak fails and is tried again with more, up a ladder. Wastage is, after Witt et
al. 2019 (Feedback-based resource allocation for batch scheduling of scientific workflows) and Sizey (Bader et al.
2024):
allocated less peak times runtime for the attempt that succeeds, and all that was allocated for as long as it ran for
each that fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_ATTEMPTS: Final = 64
"""A ladder this long has reached any node."""
_EQUAL: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Price:
    """What a failure costs.

    Attributes:
        failure: how much a failed attempt's allocation counts against one that was too large; 1 = what it cost.
        time_to_failure: share of the runtime after which an attempt fails that has too little.
        restart_h: hours that a failure costs besides, until the next attempt is where the failed one was.
        ladder: by how much the next attempt asks for more. cap: the most that can be asked for: a node.
    """

    failure: float = 1.0
    time_to_failure: float = 1.0
    restart_h: float = 1 / 60
    ladder: float = 2.0
    cap: float = float("inf")

    def __post_init__(self) -> None:
        if min(self.failure, self.time_to_failure, self.restart_h) < 0 or self.ladder <= 1 or not self.cap > 0:
            raise ValueError(f"no such price: {self}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task, in units of the resource times hours: wasted, used; and failed attempts."""

    wasted: float
    failures: int
    used: float

    @property
    def allocated(self) -> float:
        """By all attempts together."""
        return self.wasted + self.used


def outcome(
    allocation: float, peak: float, hours: float, price: Price, again: Callable[[float], float] | None = None
) -> Outcome:
    """Run one task until an attempt succeeds. One with all that can be asked for does, whatever it uses.

    Args:
        again: allocation of a failed attempt -> that of the next one; by default up the price's ladder.
    """
    again = again or (lambda given: given * price.ladder)
    wasted, failures, given = 0.0, 0, min(allocation, price.cap)
    while given < peak and given < price.cap and failures < MOST_ATTEMPTS:
        wasted += given * hours * price.time_to_failure
        failures += 1
        given = min(max(again(given), given), price.cap)
    return Outcome(wasted + max(given - peak, 0.0) * hours, failures, peak * hours)


def waste(allocation: Any, peak: Any, hours: Any, price: Price) -> Floats:
    """Wastage with the price of failures in it, elementwise and broadcast.

    The ladder in one step: the n-th attempt succeeds, n the least with allocation x ladder^n >= min(peak, cap).
    """
    given = np.minimum(allocation, price.cap)
    steps = np.log2(np.minimum(peak, price.cap) / given) / np.log2(price.ladder)
    grown = price.ladder ** np.ceil(np.maximum(steps - _EQUAL, 0.0))
    failed = given * ((grown - 1) / (price.ladder - 1))
    over = np.maximum(np.minimum(given * grown, price.cap) - peak, 0.0)
    out: Floats = hours * over + price.failure * failed * (price.time_to_failure * hours + price.restart_h)
    return out
