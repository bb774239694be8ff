"""How good chances are that were told: Brier score (1950) beside climatology, and reliability."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EDGES: Final = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0])
_LIMITS: Final = ((0.25, 1.0), (0.5, 1.0), (0.75, 1.0), (0.9, 1.0), (1.0, 1.0), (1.0, 1.25))
"""Limits at which chances are asked for: a quantile of earlier peaks, times a factor."""


def limits(peaks: Floats) -> Floats:
    """(n,) earlier peaks -> (K,) limits that somebody might set who knows no more."""
    return np.array([np.quantile(peaks, q) * factor for q, factor in _LIMITS])


def climatology(peaks: Floats, limit: float) -> float:
    """Share of (n,) earlier peaks above a limit; by Laplace's rule never 0 or 1."""
    return (int((peaks > limit).sum()) + 1) / (len(peaks) + 2)


@dataclass
class Chances:
    """Chances told by ours and by climatology, and whether it came to pass; of one process."""

    told: list[float] = field(default_factory=list)
    usual: list[float] = field(default_factory=list)
    came: list[bool] = field(default_factory=list)

    def add(self, told: float, usual: float, came: bool) -> None:
        """One more."""
        self.told.append(told)
        self.usual.append(usual)
        self.came.append(came)

    def brier(self) -> tuple[float, float]:
        """Mean squared error of ours and of climatology."""
        came = np.array(self.came, dtype=np.float64)
        ours, usual = (float(np.square(np.array(x) - came).mean()) for x in (self.told, self.usual))
        return ours, usual


def report(processes: Sequence[Chances]) -> dict[str, Any]:
    """Scores of all, each process as much as the next; reliability of all chances together.

    Returns:
        {"asked", "brier", "brier_climatology", "skill", "reliability": [{"told", "came", "count"}]}
    """
    asked = [c for c in processes if c.came]
    if not asked:
        return {"asked": 0, "brier": None, "brier_climatology": None, "skill": None, "reliability": []}
    ours, usual = np.mean([c.brier() for c in asked], axis=0).tolist()
    told, came = np.concatenate([c.told for c in asked]), np.concatenate([c.came for c in asked])
    place = np.clip(np.searchsorted(_EDGES, told, side="right") - 1, 0, len(_EDGES) - 2)
    rows = [
        {"told": float(told[mine].mean()), "came": float(came[mine].mean()), "count": int(mine.sum())}
        for mine in (place == k for k in range(len(_EDGES) - 1))
        if mine.any()
    ]
    return {
        "asked": len(told),
        "brier": ours,
        "brier_climatology": usual,
        "skill": 1 - ours / usual if usual > 0 else None,
        "reliability": rows,
    }
