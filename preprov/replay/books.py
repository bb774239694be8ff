"""What waits and runs, parted by lane: each shape of task belongs to a lane, and so does each kind of node."""

from collections.abc import Mapping, Sequence

from preprov.replay.load import Shape
from preprov.replay.rooms import Rooms

_NO_LANE = -1


class Books:
    """Sums by lane, in units of cpu, memory and gpu.

    Attributes:
        waiting, running: by lane. peak: by lane, the most that ran and waited at once since `reset`.
        lane_of_kind: by kind of node, -1 = no lane's.
    """

    def __init__(self, lane_of: Mapping[Shape, int], kinds: Sequence[Shape], lane_of_kind: Sequence[int]) -> None:
        self._lane_of = lane_of
        self._rooms = kinds
        self.lane_of_kind = lane_of_kind
        lanes = max([*lane_of.values(), *lane_of_kind]) + 1
        self.waiting = [[0, 0, 0] for _ in range(lanes)]
        self.running = [[0, 0, 0] for _ in range(lanes)]
        self.peak = [[0, 0, 0] for _ in range(lanes)]

    def wait(self, shape: Shape, n: int) -> None:
        """So many instances of a shape wait more (or, if n < 0, less)."""
        _add(self.waiting[self._lane_of[shape]], shape, n)

    def run(self, shape: Shape, n: int) -> None:
        """So many instances of a shape run more (or less)."""
        _add(self.running[self._lane_of[shape]], shape, n)

    def note_peaks(self) -> None:
        """Raise the peaks to what runs and waits now."""
        for most, runs, waits in zip(self.peak, self.running, self.waiting, strict=True):
            for i in range(3):
                most[i] = max(most[i], runs[i] + waits[i])

    def reset(self, lane: int) -> None:
        """Begin a new window for a lane's peak."""
        self.peak[lane] = [r + w for r, w in zip(self.running[lane], self.waiting[lane], strict=True)]

    def uncovered(self, warming: Sequence[int]) -> bool:
        """True if more waits in some lane than the nodes of these kinds, which are on their way, will hold of it."""
        coming = [[0, 0, 0] for _ in self.waiting]
        for kind in warming:
            if self.lane_of_kind[kind] != _NO_LANE:
                _add(coming[self.lane_of_kind[kind]], self._rooms[kind], 1)
        return any(
            w > c for waits, holds in zip(self.waiting, coming, strict=True) for w, c in zip(waits, holds, strict=True)
        )


class CountedRooms(Rooms):
    """Rooms that tell the books what runs."""

    def __init__(self, shapes: list[Shape], kinds: list[Shape], books: Books) -> None:
        super().__init__(shapes, kinds)
        self._books = books

    def take(self, node: int, shape: Shape, n: int) -> None:
        """Put n instances on an open node that has room for them."""
        super().take(node, shape, n)
        self._books.run(shape, n)

    def give(self, node: int, shape: Shape, n: int, at: int) -> None:
        """Take n instances off a node."""
        super().give(node, shape, n, at)
        self._books.run(shape, -n)


def _add(to: list[int], shape: Shape, n: int) -> None:
    to[0] += shape.cpu * n
    to[1] += shape.memory * n
    to[2] += shape.gpu * n
