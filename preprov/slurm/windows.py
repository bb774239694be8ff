"""A span of the accounting, asked for in windows that are as long as it can answer."""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from preprov.slurm.errors import SlurmError, Trouble

T = TypeVar("T")

LONGEST_S: Final = 86_400.0
_SHORTEST_S: Final = 60.0
_QUICK_S: Final = 10.0
_PROVED: Final = 8
"""So many quick answers in a row, and twice as much is tried: a question that is too much costs a minute."""


class Windows:
    """How much is asked at once: half as much after an answer that was too much, twice as much after some quick ones.

    Attributes:
        length_s: of the next window, at most.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        """Begin with the longest.

        Args:
            wall: seconds, to see how long an answer takes.
        """
        self._wall = wall
        self.length_s = LONGEST_S
        self._quick = 0

    def ask(self, first: float, last: float, question: Callable[[float, float], T]) -> T | None:
        """What the question is answered for [first, last]; None = that was too much, the next window is shorter.

        Raises:
            SlurmError: it cannot be asked; or so little is too much that less makes no sense.
        """
        began = self._wall()
        try:
            answer = question(first, last)
        except SlurmError as e:
            if e.trouble is not Trouble.TOO_MUCH or last - first <= _SHORTEST_S:
                raise
            self.length_s, self._quick = max((last - first) / 2, _SHORTEST_S), 0
            return None
        if last - first >= self.length_s:
            self._quick = self._quick + 1 if self._wall() - began < _QUICK_S else 0
        if self._quick >= _PROVED:
            self.length_s, self._quick = min(2 * self.length_s, LONGEST_S), 0
        return answer

    def each(self, first: float, last: float, question: Callable[[float, float], T]) -> Iterator[T]:
        """The answers for a whole span, one after the other.

        Raises:
            SlurmError: as `ask`.
        """
        while first < last:
            end = min(first + self.length_s, last)
            answer = self.ask(first, end, question)
            if answer is not None:
                yield answer
                first = end
