"""Whether tasks may share a node whose peaks together are more than it has: the chance that the peaks meet.

What each may use over time comes as draws; draw by draw they are added up, and the chance that the sum is ever more
than the node has is told with what so few draws leave open (upper bound of Clopper and Pearson 1934).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.curved import CurvePacking

Floats: TypeAlias = NDArray[np.float64]

DRAWS: Final = 4096
INSTANTS: Final = 96
_SURE: Final = 0.95
_DUST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Meeting:
    """How often a node was exceeded in so many draws."""

    cpu: int
    memory: int
    draws: int

    def within(self, packing: CurvePacking) -> bool:
        """True if both are surely within their bounds.

        A bound of memory that is too small for the draws to show is kept where none of them exceeds it.
        """
        if packing.meeting <= 0:
            return False
        memory = self.memory == 0 or at_most(self.memory, self.draws) <= packing.meeting_in_memory
        return memory and at_most(self.cpu, self.draws) <= packing.meeting

    def words(self) -> str:
        """For people."""
        cores, memory = at_most(self.cpu, self.draws), at_most(self.memory, self.draws)
        return f"the chance that they exceed it is at most {cores:.2%} (cores) and {memory:.2%} (memory)"


def at_most(found: int, draws: int) -> float:
    """What a chance is at the most, 95 % sure, that showed so often."""
    from scipy.special import betaincinv

    return 1.0 if found >= draws else float(betaincinv(found + 1, draws - found, _SURE))


def meeting(drawn: Sequence[tuple[Floats, Floats]], cpu: float, memory: float) -> Meeting:
    """Of tasks on a node.

    Args:
        drawn: of each, (M, T) cores and (M, T) GiB at the same instants; (1, T) where nothing is uncertain.
        cpu, memory: what the node has for them.
    """
    cores, gib = (sum((d[k] for d in drawn), np.zeros((1, 1))) for k in (0, 1))
    over = [int((x.max(axis=1) > room + _DUST).sum()) for x, room in ((cores, cpu), (gib, memory))]
    if len(cores) == 1:  # nothing of it is uncertain
        return Meeting(over[0] * DRAWS, over[1] * DRAWS, DRAWS)
    return Meeting(over[0], over[1], len(cores))
