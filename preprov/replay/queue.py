"""Task instances that wait for room: by priority, then since when, then in the order of the trace."""

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from preprov.replay.books import Books
from preprov.replay.load import Shape
from preprov.replay.rooms import NO_NODE, Rooms

_TASK_BITS = 32
_TIME_BITS = 64
_TASK_MASK = (1 << _TASK_BITS) - 1


class WaitingLine:
    """Waiting tasks in lines of those that fit in the same places: if one does not fit, none behind it does.

    Smaller tasks may pass bigger ones that do not fit; nothing is held free for anybody.

    Attributes:
        waits: True if anybody does. simple: no gang is among them.
        left: by task, instances not yet started. cpu, memory, gpu: units that wait together.
    """

    def __init__(
        self, shapes: list[Shape], rooms: Rooms, shape_of: list[int], count: list[int], books: Books | None = None
    ) -> None:
        self._shapes = shapes
        self._rooms = rooms
        self._shape_of = shape_of
        self._books = books
        self.left = count
        # Where memory can never be short, what a task wants of it does not tell lines apart.
        kinds = [Shape(s.cpu, s.memory if rooms.wants_memory else 0, s.gpu, s.ranks) for s in shapes]
        self._kinds = list(dict.fromkeys(kinds))
        self._kind_of = [self._kinds.index(k) for k in kinds]
        self._level = [rooms.levels.index(k.cpu) for k in self._kinds]
        self._lines: dict[int, list[int]] = {}
        self.waits = False
        self.simple = True
        self.cpu = 0
        self.memory = 0
        self.gpu = 0

    def tasks(self) -> list[int]:
        """All that wait, in no order."""
        return [key & _TASK_MASK for line in self._lines.values() for key in line]

    def push(self, task: int, priority: int, at: int) -> None:
        """The task waits for room for all instances it has left."""
        s = self._shape_of[task]
        kind = self._kind_of[s]
        key = _key(priority, at, task)
        line = self._lines.get(kind)
        if line is None:
            self._lines[kind] = [key]
            self.waits = True
            self.simple = self.simple and not self._kinds[kind].ranks
        else:
            heappush(line, key)
        self._count(self._shapes[s], self.left[task])

    def reorder(self, priority: Sequence[int], since: Sequence[int]) -> None:
        """Those that wait stand anew: by these priorities, then since when they wait."""
        for kind, line in self._lines.items():
            tasks = [key & _TASK_MASK for key in line]
            self._lines[kind] = [_key(priority[t], since[t], t) for t in tasks]
            heapify(self._lines[kind])

    def put_back(self, task: int, n: int, priority: int, at: int) -> None:
        """So many instances that had begun wait again, with those that still do."""
        if self.left[task]:
            self.left[task] += n
            self._count(self._shapes[self._shape_of[task]], n)
        else:
            self.left[task] = n
            self.push(task, priority, at)

    def has_kind(self, shape: int) -> bool:
        """True if somebody waits who fits where this shape fits."""
        return self._kind_of[shape] in self._lines

    def serve_one(self, node: int) -> list[tuple[int, int, int]]:
        """As `serve`, for a line without gangs and new room on one node only."""
        rooms, kinds = self._rooms, self._kinds
        placed: list[tuple[int, int, int]] = []
        while rooms.open[node]:
            cpu, memory, gpu = rooms.free_cpu[node], rooms.free_memory[node], rooms.free_gpu[node]
            best, first = -1, 0
            for kind, line in self._lines.items():
                k = kinds[kind]
                if k.cpu <= cpu and k.memory <= memory and k.gpu <= gpu and (best < 0 or line[0] < first):
                    best, first = kind, line[0]
            if best < 0:
                break
            task = first & _TASK_MASK
            n = min(rooms.slots(node, self._shapes[self._shape_of[task]]), self.left[task])
            placed.append(self._put(task, node, n))
            if not self.left[task]:
                self._leave(best)
        return placed

    def serve(self, freed: Collection[int], tasks: Collection[int]) -> list[tuple[int, int, int]]:
        """Place what fits now, the first in line first.

        Args:
            freed: nodes with more room than when the line was last served.
            tasks: tasks that joined since; they may fit anywhere.

        Returns:
            (task, node, instances) in the order of placement, already taken from the rooms.
        """
        new = {self._kind_of[self._shape_of[t]] for t in tasks if self._shape_of[t] >= 0}
        heads = self._candidates(freed, new)
        heapify(heads)
        placed: list[tuple[int, int, int]] = []
        while heads:
            key, kind = heads[0]
            task = key & _TASK_MASK
            parts = self._fit(kind, task)
            placed.extend(self._put(task, node, n) for node, n in parts)
            if not parts:
                heads = self._without(kind, heads)
            elif not self.left[task]:
                self._leave(kind)
                if kind in self._lines:
                    heapreplace(heads, (self._lines[kind][0], kind))
                else:
                    heappop(heads)
        return placed

    def _put(self, task: int, node: int, n: int) -> tuple[int, int, int]:
        shape = self._shapes[self._shape_of[task]]
        self._rooms.take(node, shape, n)
        self.left[task] -= n
        self._count(shape, -n)
        return task, node, n

    def _leave(self, kind: int) -> None:
        """The first of a line has started: the second moves up."""
        line = self._lines[kind]
        heappop(line)
        if not line:
            del self._lines[kind]
            self.waits = bool(self._lines)
            self.simple = not any(self._kinds[k].ranks for k in self._lines)

    def _candidates(self, freed: Collection[int], new: set[int]) -> list[tuple[int, int]]:
        """(first key, kind) of the lines that may move: those that fit on a freed node, gangs, and `new` ones."""
        rooms = self._rooms
        cpu = max((rooms.free_cpu[n] for n in freed), default=-1)
        memory = max((rooms.free_memory[n] for n in freed), default=-1)
        out = []
        for kind, line in self._lines.items():
            k = self._kinds[kind]
            if (k.cpu <= cpu and k.memory <= memory) or k.ranks or kind in new:
                out.append((line[0], kind))
        return out

    def _fit(self, kind: int, task: int) -> list[tuple[int, int]]:
        """Where the next instances of the task go: one node's worth, or the whole gang, or nothing."""
        shape = self._shapes[self._shape_of[task]]
        if shape.ranks:
            return self._rooms.gang(shape) or []
        node = self._rooms.find(shape, self._level[kind])
        if node == NO_NODE:
            return []
        return [(node, min(self._rooms.slots(node, shape), self.left[task]))]

    def _without(self, kind: int, heads: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The lines that may still fit when this one does not: those that want less of something."""
        no = self._kinds[kind]

        def hopeless(k: Shape) -> bool:
            return (
                k.cpu >= no.cpu and k.memory >= no.memory and k.gpu >= no.gpu and (not no.ranks or k.ranks >= no.ranks)
            )

        kept = [h for h in heads if not hopeless(self._kinds[h[1]])]
        heapify(kept)
        return kept

    def _count(self, shape: Shape, n: int) -> None:
        self.cpu += shape.cpu * n
        self.memory += shape.memory * n
        self.gpu += shape.gpu * n
        if self._books is not None:
            self._books.wait(shape, n)


def _key(priority: int, at: int, task: int) -> int:
    return (priority << (_TASK_BITS + _TIME_BITS)) | (at << _TASK_BITS) | task
