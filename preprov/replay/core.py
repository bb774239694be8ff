"""The event core: tasks start as soon as ready nodes have room, and end when their runtime is over.

Event-exact on a virtual clock of whole microseconds. At one instant, first what ends frees its room, then nodes become
ready, then what has become ready starts (or waits), then the policy may act. The simulated cloud says when nodes become
ready; nothing here ends a node.

Most instants of most replays are the end of one task and the start of its children while nobody waits: `_run_ends` is
written out for them, everything else goes through `_end_all` and `_place`.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from preprov.model.nodes import Phase
from preprov.replay.books import Books
from preprov.replay.load import Load
from preprov.replay.queue import WaitingLine
from preprov.replay.rooms import NO_NODE, Rooms
from preprov.sim.cloud import Change

NEVER: Final = 1 << 62
_PART_BITS: Final = 32
_PART_MASK: Final = (1 << _PART_BITS) - 1
_GONE: Final = (None, Phase.STOPPED, Phase.HIBERNATED)


class World(Protocol):
    """What the core plays against: the cloud and the policy, on the core's own time."""

    def changes(self) -> list[Change]:
        """What changed among the nodes up to now."""
        ...

    def next_change(self) -> int:
        """When the next node becomes ready, NEVER if none is on its way."""
        ...

    def next_tick(self) -> int:
        """When the policy wants to act next."""
        ...

    def act(self) -> list[Change]:
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
        books: what waits and runs by lane; None = the pool is not parted.
        limits: (time, True if the pool was full and nothing on its way from then on).
        evicted: instances on nodes that a policy ended; the cloud refuses that, so it stays 0.
        interrupted: instances on nodes that the cloud took back; they begin again.
    """

    def __init__(
        self,
        load: Load,
        rooms: Rooms,
        kind_of: Callable[[str], int],
        most_nodes: int,
        books: Books | None = None,
    ) -> None:
        self.load = load
        self.rooms = rooms
        self.now = load.start_us
        self.books = books
        self.line = WaitingLine(load.shapes, rooms, load.shape, list(load.count), books)
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
        self.interrupted = 0
        self._awaited: list[bool] = load.judged.tolist()
        self._kind_of = kind_of
        self._most_nodes = most_nodes
        self._parents_left = list(load.parents_left)
        self._undone = list(load.count)
        self._level = [rooms.levels.index(s.cpu) for s in load.shapes]
        # Where nobody goes before others, those that wait are served before those that have just become ready.
        self._priority = load.priority
        self._in_turn = not any(load.priority)
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
            if ends and ends[0] >> _PART_BITS < other:
                if self._run_ends(other, world.eager()):
                    self._apply(world.act())
                continue
            if other > until and (not self.unstarted or other > give_up):
                return
            self._step(world, other)

    def _run_ends(self, before: int, eager: bool) -> bool:
        """Play ends up to an instant, that one left out; True if the policy must be told of uncovered work."""
        ends, line, give = self._ends, self.line, self.rooms.give
        part_task, part_node, part_count = self.part_task, self.part_node, self.part_count
        shapes, shape_of, children = self.load.shapes, self.load.shape, self.load.children
        undone, parents_left = self._undone, self._parents_left
        ready: list[int] = []
        freed: list[int] = []
        while ends:
            us = ends[0] >> _PART_BITS
            if us >= before:
                break
            self.now = us
            part = heappop(ends) & _PART_MASK
            task, node, n = part_task[part], part_node[part], part_count[part]
            if node >= 0:
                shape = shapes[shape_of[task]]
                give(node, shape, n, us)
                self.used_cpu -= shape.cpu * n
                self.used_memory -= shape.memory * n
                freed.append(node)
            undone[task] -= n
            if not undone[task]:
                for child in children[task]:
                    parents_left[child] -= 1
                    if not parents_left[child]:
                        ready.append(child)
            if ends and ends[0] >> _PART_BITS == us:
                continue  # more ends at this very instant
            if ready or line.waits:
                self._place(us, ready, freed)
                ready = []
                if eager and line.waits and self.uncovered():
                    return True
            freed = []
        return False

    def _step(self, world: World, us: int) -> None:
        """Everything that happens at one instant that is not only an end."""
        self.now = us
        ready: list[int] = []
        freed: list[int] = []
        if self._ends and self._ends[0] >> _PART_BITS <= us:
            self._end_all(us, ready, freed)
        if world.next_change() <= us:
            freed.extend(self._apply_nodes(world.changes()))
        self._arrive(us, ready)
        if ready or (freed and self.line.waits):
            self._place(us, ready, freed)
        if world.next_tick() <= us or (self.line.waits and world.eager() and self.uncovered()):
            self._apply(world.act())

    def _arrive(self, us: int, ready: list[int]) -> None:
        arrivals, i = self.load.arrivals, self._next_arrival
        while i < len(arrivals) and arrivals[i][0] <= us:
            ready.append(arrivals[i][1])
            i += 1
        self._next_arrival = i

    def _end_all(self, us: int, ready: list[int], freed: list[int]) -> None:
        """End what ends at that instant, where something else happens too."""
        ends, load = self._ends, self.load
        while ends and ends[0] >> _PART_BITS <= us:
            part = heappop(ends) & _PART_MASK
            task, node, n = self.part_task[part], self.part_node[part], self.part_count[part]
            if node >= 0:
                shape = load.shapes[load.shape[task]]
                self.rooms.give(node, shape, n, us)
                self.used_cpu -= shape.cpu * n
                self.used_memory -= shape.memory * n
                freed.append(node)
            self._undone[task] -= n
            if not self._undone[task]:
                for child in load.children[task]:
                    self._parents_left[child] -= 1
                    if not self._parents_left[child]:
                        ready.append(child)

    def _place(self, us: int, ready: list[int], freed: list[int]) -> None:
        """Start what can start: by priority, then since when it waits, then in the order of the trace."""
        line = self.line
        if len(ready) > 1:
            ready.sort(key=None if self._in_turn else self._rank)
        if line.waits and not (self._in_turn and line.simple):
            self._place_by_rank(us, ready, freed)
        else:
            if line.waits and freed:
                self._serve_nodes(us, freed)
            for task in ready:
                self._start_or_wait(task, us)
        wanted = self.used_cpu + line.cpu
        if wanted > self.peak_cpu:
            self.peak_cpu = wanted
        wanted = self.used_memory + line.memory
        if wanted > self.peak_memory:
            self.peak_memory = wanted
        if self.books is not None:
            self.books.note_peaks()

    def _place_by_rank(self, us: int, ready: list[int], freed: list[int]) -> None:
        """All join the line; whoever is first in it is tried first."""
        for task in ready:
            self.ready_at[task] = us
            if self.load.shape[task] < 0:
                self._start(task, NO_NODE, self.line.left[task], us)
            else:
                self.line.push(task, self._priority[task], us)
        for task, node, n in self.line.serve(freed, ready):
            self._start(task, node, n, us)

    def _serve_nodes(self, us: int, freed: list[int]) -> None:
        """Those that wait take the new room; they fit nowhere else, or they would not wait."""
        served = self.line.serve_one(freed[0]) if len(freed) == 1 else self.line.serve(freed, ())
        for task, node, n in served:
            self._start(task, node, n, us)

    def _rank(self, task: int) -> tuple[int, int]:
        return self._priority[task], task

    def _start_or_wait(self, task: int, us: int) -> None:
        """Start a task that has just become ready, as far as there is room that nobody before it wants."""
        self.ready_at[task] = us
        load, line, rooms = self.load, self.line, self.rooms
        s = load.shape[task]
        if s < 0:
            self._start(task, NO_NODE, line.left[task], us)
            return
        shape = load.shapes[s]
        if shape.ranks or (line.waits and line.has_kind(s)):
            line.push(task, self._priority[task], us)
            if shape.ranks:
                for t, node, n in line.serve((), (task,)):
                    self._start(t, node, n, us)
            return
        left = line.left[task]
        while left:
            node = rooms.find(shape, self._level[s])
            if node < 0:
                line.push(task, self._priority[task], us)
                return
            n = 1 if left == 1 else min(left, rooms.slots(node, shape))
            rooms.take(node, shape, n)
            left -= n
            line.left[task] = left
            self._start(task, node, n, us)

    def _start(self, task: int, node: int, n: int, us: int) -> None:
        """Note that n instances began on the node, and when they will end."""
        load = self.load
        heappush(self._ends, ((us + load.runtime_us[task]) << _PART_BITS) | len(self.part_task))
        self.part_task.append(task)
        self.part_node.append(node)
        self.part_count.append(n)
        self.part_start.append(us)
        if node < 0:
            self.line.left[task] = 0
        else:
            shape = load.shapes[load.shape[task]]
            self.used_cpu += shape.cpu * n
            self.used_memory += shape.memory * n
        if self._awaited[task] and not self.line.left[task]:
            self._awaited[task] = False
            self.unstarted -= 1

    def reorder(self, priority: list[int]) -> None:
        """From now on tasks go by these, (T,) small = first; those that wait too."""
        self._priority = priority
        self._in_turn = False
        self.line.reorder(priority, self.ready_at)

    # ------------------------------------------------------------------ nodes

    def uncovered(self) -> bool:
        """True if more waits than what is warming will hold, and the pool is not full."""
        line, (cpu, memory, gpu) = self.line, self._warming_holds
        if self.books is not None:
            kinds = [self.rooms.kind[n] for n in self.warming]
            return len(self.existing) < self._most_nodes and self.books.uncovered(kinds)
        if not self.warming or line.cpu > cpu or line.memory > memory or line.gpu > gpu:
            return len(self.existing) < self._most_nodes
        return False

    def _apply(self, changes: Sequence[Change]) -> None:
        """Take in what the policy did; nodes that are ready at once serve at once."""
        freed = self._apply_nodes(changes) if changes else ()
        if freed and self.line.waits:
            self._place(self.now, [], list(freed))

    def _apply_nodes(self, changes: Sequence[Change]) -> set[int]:
        """Take in changes among the nodes; returns those that take work now."""
        opened: set[int] = set()
        again: list[int] = []
        for change in changes:
            node = self.number.get(change.node_id)
            if node is None:
                node = self._new_node(change.node_id)
            if node in self.warming:
                self.warming.remove(node)
                self._expect(node, -1)
            if change.phase is Phase.READY:
                self.rooms.admit(node, self.now)
                opened.add(node)
                continue
            opened.discard(node)
            self.rooms.close(node)
            if change.taken:
                tasks, freed = self._interrupt(node)
                again += tasks
                opened |= freed
            if change.phase is Phase.WARMING:
                self.warming.add(node)
                self._expect(node, 1)
            if change.phase in _GONE:
                self.existing.discard(node)
                self.evicted += self.rooms.tasks[node]
            else:
                self.existing.add(node)
        self._note_limit()
        for task, node, n in self.line.serve(opened, again) if again else ():
            self._start(task, node, n, self.now)
        return opened

    def _interrupt(self, node: int) -> tuple[set[int], set[int]]:
        """What ran on a node that is gone waits again, gangs as a whole; returns the tasks, and nodes with new room."""
        load, of_task, of_node = self.load, self.part_task, self.part_node
        running = [end & _PART_MASK for end in self._ends]
        hit = {of_task[p] for p in running if of_node[p] == node}
        gangs = {t for t in hit if load.shapes[load.shape[t]].ranks}
        lost = {p for p in running if of_node[p] == node or of_task[p] in gangs}
        for part in sorted(lost):
            self._undo(part)
        self._ends[:] = [end for end in self._ends if end & _PART_MASK not in lost]
        heapify(self._ends)
        return hit, {n for n in (of_node[p] for p in lost) if self.rooms.open[n]}

    def _undo(self, part: int) -> None:
        """A part that began has not: its instances wait again."""
        task, n = self.part_task[part], self.part_count[part]
        shape = self.load.shapes[self.load.shape[task]]
        self.rooms.give(self.part_node[part], shape, n, self.now)
        self.used_cpu -= shape.cpu * n
        self.used_memory -= shape.memory * n
        self.part_count[part] = 0
        self.interrupted += n
        self.line.put_back(task, n, self._priority[task], self.now)
        if self.load.judged[task] and not self._awaited[task]:
            self._awaited[task] = True
            self.unstarted += 1

    def _expect(self, node: int, sign: int) -> None:
        """Count a node in or out of what is warming."""
        kind, (cpu, memory, gpu) = self.rooms.kinds[self.rooms.kind[node]], self._warming_holds
        self._warming_holds = (cpu + sign * kind.cpu, memory + sign * kind.memory, gpu + sign * kind.gpu)

    def _new_node(self, node_id: str) -> int:
        node = self.rooms.add(self._kind_of(node_id))
        self.number[node_id] = node
        self.node_ids.append(node_id)
        return node

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
