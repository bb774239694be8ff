"""The event core: tasks start as soon as ready nodes have room, and end when their runtime is over.

Event-exact on a virtual clock of whole microseconds. At one instant, first what ends frees its room, then nodes become
ready, then what has become ready starts (or waits), then the policy may act. The simulated cloud says when nodes become
ready; nothing here ends a node.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, Protocol

from preprov.model.pools import Phase
from preprov.replay.load import Load
from preprov.replay.queue import WaitingLine
from preprov.replay.rooms import NO_NODE, Rooms
from preprov.sim.cloud import Change

NEVER: Final = 1 << 62
_PART_BITS: Final = 32
_PART_MASK: Final = (1 << _PART_BITS) - 1


class World(Protocol):
    """What the core plays against: the cloud and the policy, on the core's own time."""

    def advance(self, us: int) -> list[Change]:
        """Move the clock on; returns what changed among the nodes up to then."""
        ...

    def next_change(self) -> int:
        """When the next node becomes ready, NEVER if none is on its way."""
        ...

    def next_tick(self) -> int:
        """When the policy wants to act next."""
        ...

    def act(self, us: int) -> list[Change]:
        """Let the policy act; returns what changed among the nodes by that."""
        ...

    def eager(self) -> bool:
        """True if the policy wants to be told of work that nothing warms for."""
        ...


class Core:
    """Plays a load.

    A *part* is a number of instances of one task that started together on one node.

    Attributes:
        now: microseconds. ready_at: by task, -1 before. part_task, part_node, part_count, part_start: by part.
        line: what waits. rooms: the nodes. node_ids: by number. warming: numbers of nodes on their way.
        unstarted: judged tasks that have instances yet to start. peak_cpu, peak_memory: since `reset_peak`.
        limits: (time, True if the pool was full and nothing on its way from then on).
    """

    def __init__(self, load: Load, rooms: Rooms, kind_of: Callable[[str], int], most_nodes: int) -> None:
        self.load = load
        self.rooms = rooms
        self.now = load.start_us
        self.line = WaitingLine(load.shapes, rooms, load.shape, list(load.count))
        self.ready_at = array("q", [-1]) * len(load.shape)
        self.part_task = array("q")
        self.part_node = array("q")
        self.part_count = array("q")
        self.part_start = array("q")
        self.node_ids: list[str] = []
        self.number: dict[str, int] = {}
        self.warming: set[int] = set()
        self.existing: set[int] = set()
        self.limits: list[tuple[int, bool]] = []
        self.unstarted = int(load.judged.sum())
        self.used_cpu = self.used_memory = 0
        self.peak_cpu = self.peak_memory = 0
        self.evicted = 0
        self._awaited: list[bool] = load.judged.tolist()
        self._kind_of = kind_of
        self._most_nodes = most_nodes
        self._parents_left = list(load.parents_left)
        self._undone = list(load.count)
        self._level = [rooms.levels.index(s.cpu) for s in load.shapes]
        self._ends: list[int] = []
        self._next_arrival = 0
        self._full = False
        self._warming_holds = (0, 0, 0)

    # ------------------------------------------------------------------ playing

    def run(self, world: World, until: int, give_up: int) -> None:
        """Play until `until`, and on until every judged instance has started, but not beyond `give_up`."""
        arrivals, ends = self.load.arrivals, self._ends
        while True:
            arrival = arrivals[self._next_arrival][0] if self._next_arrival < len(arrivals) else NEVER
            other = min(arrival, world.next_change(), world.next_tick())
            # The hot path: ends, and what they set free, between two events of any other kind.
            if ends and ends[0] >> _PART_BITS < other:
                if self._run_ends(world, other):
                    self._apply(world.act(self.now))
                continue
            if other > until and (not self.unstarted or other > give_up):
                return
            self._step(world, other)

    def _run_ends(self, world: World, before: int) -> bool:
        """Play ends up to an instant, that one left out; True if the policy must be told of uncovered work."""
        ends, eager = self._ends, world.eager()
        while ends:
            us = ends[0] >> _PART_BITS
            if us >= before:
                return False
            self.now = us
            ready, freed = self._end_all(us)
            if self.line or ready:
                self._place(us, ready, freed)
                if eager and self.line and self.uncovered():
                    world.advance(us)
                    return True
        return False

    def _step(self, world: World, us: int) -> None:
        """Everything that happens at one instant that is not only an end."""
        self.now = us
        ready, freed = self._end_all(us)
        freed |= self._apply_nodes(world.advance(us))
        ready.extend(self._arrive(us))
        self._place(us, ready, freed)
        if world.next_tick() <= us or (world.eager() and self.line and self.uncovered()):
            self._apply(world.act(us))

    def _arrive(self, us: int) -> list[int]:
        arrivals, i = self.load.arrivals, self._next_arrival
        first = i
        while i < len(arrivals) and arrivals[i][0] <= us:
            i += 1
        self._next_arrival = i
        return [task for _, task in arrivals[first:i]]

    def _end_all(self, us: int) -> tuple[list[int], set[int]]:
        """End what ends at that instant: (tasks whose parents have now all ended, nodes with new room)."""
        ends, load = self._ends, self.load
        ready: list[int] = []
        freed: set[int] = set()
        top = (us + 1) << _PART_BITS
        while ends and ends[0] < top:
            part = heappop(ends) & _PART_MASK
            task, node, n = self.part_task[part], self.part_node[part], self.part_count[part]
            if node != NO_NODE:
                shape = load.shapes[load.shape[task]]
                self.rooms.give(node, shape, n, us)
                self.used_cpu -= shape.cpu * n
                self.used_memory -= shape.memory * n
                freed.add(node)
            self._undone[task] -= n
            if not self._undone[task]:
                self._free_children(task, ready)
        return ready, freed

    def _free_children(self, task: int, ready: list[int]) -> None:
        load, left = self.load, self._parents_left
        for i in range(load.child_at[task], load.child_at[task + 1]):
            child = load.children[i]
            left[child] -= 1
            if not left[child]:
                ready.append(child)

    def _place(self, us: int, ready: list[int], freed: set[int]) -> None:
        """Start what can start: first those that waited, then those that have just become ready."""
        if self.line:
            for task in ready:
                self._become_ready(task, us)
            for task, node, n in self.line.serve(freed, ready):
                self._start(task, node, n, us)
        else:
            for task in sorted(ready, key=self._rank) if len(ready) > 1 else ready:
                self._start_or_wait(task, us)
        wanted = self.used_cpu + self.line.cpu
        if wanted > self.peak_cpu:
            self.peak_cpu = wanted
        wanted = self.used_memory + self.line.memory
        if wanted > self.peak_memory:
            self.peak_memory = wanted

    def _rank(self, task: int) -> tuple[int, int]:
        return self.load.priority[task], task

    def _become_ready(self, task: int, us: int) -> None:
        """Note that it is ready, and put it in line unless it takes no room."""
        self.ready_at[task] = us
        if self.load.shape[task] < 0:
            self._start(task, NO_NODE, self.line.left[task], us)
        else:
            self.line.push(task, self.load.priority[task], us)

    def _start_or_wait(self, task: int, us: int) -> None:
        """As `_become_ready` when nobody waits: what fits starts without ever standing in line."""
        s = self.load.shape[task]
        if s < 0 or self.load.shapes[s].ranks:
            self._become_ready(task, us)
            for t, node, n in self.line.serve(set(), [task]):
                self._start(t, node, n, us)
            return
        self.ready_at[task] = us
        rooms, shape, left = self.rooms, self.load.shapes[s], self.line.left
        while left[task]:
            node = rooms.find(shape, self._level[s])
            if node == NO_NODE:
                self.line.push(task, self.load.priority[task], us)
                return
            n = left[task]
            if n > 1:
                n = min(n, rooms.slots(node, shape))
            rooms.take(node, shape, n)
            left[task] -= n
            self._start(task, node, n, us)

    def _start(self, task: int, node: int, n: int, us: int) -> None:
        """Note that n instances began on the node, and when they will end."""
        part = len(self.part_task)
        self.part_task.append(task)
        self.part_node.append(node)
        self.part_count.append(n)
        self.part_start.append(us)
        load = self.load
        heappush(self._ends, ((us + load.runtime_us[task]) << _PART_BITS) | part)
        if node == NO_NODE:
            self.line.left[task] = 0
        else:
            shape = load.shapes[load.shape[task]]
            self.used_cpu += shape.cpu * n
            self.used_memory += shape.memory * n
        if self._awaited[task] and not self.line.left[task]:
            self._awaited[task] = False
            self.unstarted -= 1

    # ------------------------------------------------------------------ nodes

    def uncovered(self) -> bool:
        """True if more waits than what is warming will hold, and the pool is not full."""
        line, (cpu, memory, gpu) = self.line, self._warming_holds
        if not self.warming or line.cpu > cpu or line.memory > memory or line.gpu > gpu:
            return len(self.existing) < self._most_nodes
        return False

    def _apply(self, changes: Sequence[Change]) -> None:
        """Take in what the policy did; nodes that are ready at once serve at once."""
        freed = self._apply_nodes(changes)
        if freed and self.line:
            self._place(self.now, [], freed)

    def _apply_nodes(self, changes: Sequence[Change]) -> set[int]:
        """Take in changes among the nodes; returns those that take work now."""
        opened: set[int] = set()
        for change in changes:
            node = self.number.get(change.node_id)
            if node is None:
                node = self._new_node(change.node_id)
            self.warming.discard(node)
            if change.phase is Phase.READY:
                self.rooms.admit(node, self.now)
                opened.add(node)
                continue
            opened.discard(node)
            self.rooms.close(node)
            if change.phase is Phase.WARMING:
                self.warming.add(node)
            self._exist(node, change.phase)
        if changes:
            kinds = [self.rooms.kinds[self.rooms.kind[n]] for n in self.warming]
            self._warming_holds = (sum(k.cpu for k in kinds), sum(k.memory for k in kinds), sum(k.gpu for k in kinds))
            self._note_limit()
        return opened

    def _new_node(self, node_id: str) -> int:
        node = self.rooms.add(self._kind_of(node_id))
        self.number[node_id] = node
        self.node_ids.append(node_id)
        return node

    def _exist(self, node: int, phase: Phase | None) -> None:
        if phase in (None, Phase.STOPPED, Phase.HIBERNATED):
            self.existing.discard(node)
            if self.rooms.tasks[node]:
                self.evicted += self.rooms.tasks[node]
        else:
            self.existing.add(node)

    def _note_limit(self) -> None:
        full = len(self.existing) >= self._most_nodes and not self.warming
        if full is not self._full:
            self._full = full
            self.limits.append((self.now, full))

    def reset_peak(self) -> None:
        """Begin a new window for `peak_cpu` and `peak_memory`."""
        self.peak_cpu = self.used_cpu + self.line.cpu
        self.peak_memory = self.used_memory + self.line.memory


class Occupied(Mapping[str, tuple[str, ...]]):
    """What runs where, for the cloud's busy check: node id -> one label per running instance."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __getitem__(self, node_id: str) -> tuple[str, ...]:
        n = self._core.rooms.tasks[self._core.number[node_id]]
        if not n:
            raise KeyError(node_id)
        return ("instance",) * n

    def __iter__(self) -> Iterator[str]:
        return (i for i, n in self._core.number.items() if self._core.rooms.tasks[n])

    def __len__(self) -> int:
        return sum(1 for n in self._core.rooms.tasks if n)
