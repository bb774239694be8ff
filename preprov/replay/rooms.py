"""First fit over ready nodes, fast: which node takes the next instance.

Order: nodes that run something come first, in the order in which they became busy, then idle ones in the order of their
launch. It is stable, packs, and makes idle nodes interchangeable: how many nodes were ready at each instant decides all
waits, whichever of the idle ones a policy ends.

For each amount of cores that any task wants there is a bit mask of the busy nodes that have as many free, and where
memory can be short, for some amounts of memory too; the first node that fits is the lowest bit they share. Most
placements change no mask at all.
"""

from bisect import bisect_right
from heapq import heapify, heappop, heappush
from typing import Final

from preprov.replay.load import Shape

NO_NODE: Final = -1
_SPARSE: Final = 256
_MEMORY_LEVELS: Final = 24


class Rooms:
    """Free amounts of all nodes, and who comes first.

    Nodes are numbers 0, 1, 2… in the order of their launch. Amounts are in units.

    Attributes:
        free_cpu, free_memory, free_gpu: by node. tasks: instances running, by node. idle_since: by node, microseconds.
        open: by node: takes new work. total_free: free cpu of open nodes.
        wants_memory, wants_gpu: whether these can ever be short when cores are not.
    """

    def __init__(self, shapes: list[Shape], kinds: list[Shape]) -> None:
        self.kinds = kinds
        self.levels = sorted({s.cpu for s in shapes})
        most = max(k.cpu for k in kinds)
        self.level_of = _levels_at(self.levels, most)
        self.masks = [0] * len(self.levels)
        self.wants_memory = any(s.memory * k.cpu > s.cpu * k.memory for s in shapes for k in kinds)
        self.wants_gpu = any(s.gpu for s in shapes)
        self._memory_levels = _spread(sorted({s.memory for s in shapes}), _MEMORY_LEVELS) if self.wants_memory else []
        self._memory_masks = [0] * len(self._memory_levels)
        self._memory_of: list[int] = []
        self.free_cpu: list[int] = []
        self.free_memory: list[int] = []
        self.free_gpu: list[int] = []
        self.tasks: list[int] = []
        self.kind: list[int] = []
        self.open: list[bool] = []
        self.idle_since: list[int] = []
        self.total_free = 0
        self._bit_of: list[int] = []
        self._node_at: list[int] = []
        self._busy = 0
        self._closed_idle = 0
        self._idle: list[list[int]] = [[] for _ in kinds]

    def add(self, kind: int) -> int:
        """A new node of that kind, closed; returns its number."""
        k = self.kinds[kind]
        self.free_cpu.append(k.cpu)
        self.free_memory.append(k.memory)
        self.free_gpu.append(k.gpu)
        self.tasks.append(0)
        self.kind.append(kind)
        self.open.append(False)
        self.idle_since.append(0)
        self._bit_of.append(NO_NODE)
        self._memory_of.append(0)
        return len(self.tasks) - 1

    def admit(self, node: int, at: int) -> None:
        """The node takes work from now on."""
        if not self.open[node]:
            self.open[node] = True
            self.idle_since[node] = at
            self.total_free += self.free_cpu[node]
            heappush(self._idle[self.kind[node]], node)

    def close(self, node: int) -> None:
        """The node takes no new work."""
        if self.open[node]:
            self.open[node] = False
            self.total_free -= self.free_cpu[node]
            if self._bit_of[node] != NO_NODE:
                self._leave(node)
            else:
                self._forget_idle()

    def find(self, shape: Shape, level: int) -> int:
        """The first node with room for one instance; NO_NODE if there is none. `level` = position of its cores."""
        mask = self.masks[level]
        if self.wants_memory:
            mask &= self._memory_masks[bisect_right(self._memory_levels, shape.memory) - 1]
        while mask:
            low = mask & -mask
            node = self._node_at[low.bit_length() - 1]
            if (not self.wants_memory or self.free_memory[node] >= shape.memory) and (
                not self.wants_gpu or self.free_gpu[node] >= shape.gpu
            ):
                return node
            mask ^= low
        return self._first_idle(shape)

    def _first_idle(self, shape: Shape) -> int:
        best = NO_NODE
        for kind, heap in enumerate(self._idle):
            while heap and not (self.open[heap[0]] and self._bit_of[heap[0]] == NO_NODE):
                heappop(heap)
            if heap and (best == NO_NODE or heap[0] < best):
                k = self.kinds[kind]
                if shape.cpu <= k.cpu and shape.memory <= k.memory and shape.gpu <= k.gpu:
                    best = heap[0]
        return best

    def slots(self, node: int, shape: Shape) -> int:
        """How many instances of the shape fit on the node now."""
        n = self.free_cpu[node] // shape.cpu if shape.cpu else 1 << 60
        if shape.memory and self.wants_memory:
            n = min(n, self.free_memory[node] // shape.memory)
        if shape.gpu:
            n = min(n, self.free_gpu[node] // shape.gpu)
        return n

    def take(self, node: int, shape: Shape, n: int) -> None:
        """Put n instances on an open node that has room for them."""
        cpu = shape.cpu * n
        old = self.free_cpu[node]
        new = old - cpu
        self.free_cpu[node] = new
        self.total_free -= cpu
        self.free_memory[node] -= shape.memory * n
        self.free_gpu[node] -= shape.gpu * n
        self.tasks[node] += n
        if self._bit_of[node] == NO_NODE:
            self._enter(node)
            return
        if self.wants_memory:
            self._mark_memory(node)
        level_of = self.level_of
        if level_of[old] != level_of[new]:
            bit = ~(1 << self._bit_of[node])
            for i in range(level_of[new], level_of[old]):
                self.masks[i] &= bit

    def give(self, node: int, shape: Shape, n: int, at: int) -> None:
        """Take n instances off a node."""
        cpu = shape.cpu * n
        old = self.free_cpu[node]
        new = old + cpu
        self.free_cpu[node] = new
        self.free_memory[node] += shape.memory * n
        self.free_gpu[node] += shape.gpu * n
        left = self.tasks[node] - n
        self.tasks[node] = left
        if not left:
            self.idle_since[node] = at
        if not self.open[node]:
            return
        self.total_free += cpu
        if not left:
            self._leave(node)
            heappush(self._idle[self.kind[node]], node)
            return
        if self.wants_memory:
            self._mark_memory(node)
        level_of = self.level_of
        if level_of[old] != level_of[new]:
            bit = 1 << self._bit_of[node]
            for i in range(level_of[old], level_of[new]):
                self.masks[i] |= bit

    def gang(self, shape: Shape) -> list[tuple[int, int]] | None:
        """(node, ranks) that hold the whole gang, in the order of first fit; None if there is not room for all."""
        left = shape.ranks
        if left * shape.cpu > self.total_free:
            return None
        out = []
        for node in self._in_order():
            n = min(self.slots(node, shape), left)
            if n:
                out.append((node, n))
                left -= n
                if not left:
                    return out
        return None

    def _in_order(self) -> list[int]:
        busy = [node for node in self._node_at if node != NO_NODE]
        return busy + self.idle_nodes()

    def idle_nodes(self) -> list[int]:
        """Open nodes that run nothing, in the order of launch."""
        return sorted(n for heap in self._idle for n in self._still_idle(heap))

    def _forget_idle(self) -> None:
        """A closed node stays in its heap until it comes up; too many of them are swept out."""
        self._closed_idle += 1
        if self._closed_idle > _SPARSE:
            self._closed_idle = 0
            for heap in self._idle:
                heap[:] = self._still_idle(heap)
                heapify(heap)

    def _still_idle(self, heap: list[int]) -> set[int]:
        return {n for n in heap if self.open[n] and self._bit_of[n] == NO_NODE}

    def _enter(self, node: int) -> None:
        """The node becomes busy: last in the order, in the masks of all it still has room for."""
        if len(self._node_at) > 2 * self._busy + _SPARSE:
            self._renumber()
        self._bit_of[node] = len(self._node_at)
        self._node_at.append(node)
        self._busy += 1
        bit = 1 << self._bit_of[node]
        for i in range(self.level_of[self.free_cpu[node]]):
            self.masks[i] |= bit
        if self.wants_memory:
            self._memory_of[node] = 0
            self._mark_memory(node)

    def _mark_memory(self, node: int) -> None:
        """Bring the node's bit in the masks of memory up to date."""
        old, new = self._memory_of[node], bisect_right(self._memory_levels, self.free_memory[node])
        if old == new:
            return
        self._memory_of[node] = new
        bit, masks = 1 << self._bit_of[node], self._memory_masks
        for i in range(old, new):
            masks[i] |= bit
        for i in range(new, old):
            masks[i] &= ~bit

    def _leave(self, node: int) -> None:
        place = self._bit_of[node]
        self._bit_of[node] = NO_NODE
        self._node_at[place] = NO_NODE
        self._busy -= 1
        bit = ~(1 << place)
        self.masks = [m & bit for m in self.masks]
        self._memory_masks = [m & bit for m in self._memory_masks]

    def _renumber(self) -> None:
        """Close the gaps that nodes left behind."""
        self._node_at = [n for n in self._node_at if n != NO_NODE]
        self.masks = [0] * len(self.levels)
        self._memory_masks = [0] * len(self._memory_levels)
        for place, node in enumerate(self._node_at):
            self._bit_of[node] = place
            self._memory_of[node] = 0
            if self.wants_memory:
                self._mark_memory(node)
            for i in range(self.level_of[self.free_cpu[node]]):
                self.masks[i] |= 1 << place


def _levels_at(levels: list[int], most: int) -> list[int]:
    """For each free amount 0..most, how many levels are not above it."""
    out, i = [], 0
    for amount in range(most + 1):
        while i < len(levels) and levels[i] <= amount:
            i += 1
        out.append(i)
    return out


def _spread(values: list[int], most: int) -> list[int]:
    """At most so many of the sorted values, evenly spread, the smallest among them."""
    if len(values) <= most:
        return values
    return [values[i * len(values) // most] for i in range(most)]
