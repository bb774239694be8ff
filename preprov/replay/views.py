"""What policies see of the play: the whole pool, or one lane of it."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from preprov.model.offerings import Standby
from preprov.model.pools import Pool
from preprov.replay.books import Books
from preprov.replay.core import Core
from preprov.replay.lanes import Place
from preprov.replay.load import UNITS, US
from preprov.sim.cloud import SimCloud


@dataclass
class LiveView:
    """The core as policies see it."""

    core: Core
    cloud: SimCloud
    pool: Pool
    base: float

    def __post_init__(self) -> None:
        kind = self.core.rooms.kinds[0]
        self._cpu, self._memory = kind.cpu or math.inf, kind.memory or math.inf
        self._peaks: deque[tuple[float, float]] = deque()
        self._longest = 0.0

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.base + self.core.now / US

    @property
    def ready(self) -> int:
        """Nodes that take work."""
        return len(self.core.existing) - len(self.core.warming)

    @property
    def warming(self) -> int:
        """Nodes on their way."""
        return len(self.core.warming)

    @property
    def waiting(self) -> float:
        """Nodes' worth of demand without room."""
        return max(self.core.line.cpu / self._cpu, self.core.line.memory / self._memory)

    @property
    def used(self) -> float:
        """Nodes' worth of demand that runs."""
        return max(self.core.used_cpu / self._cpu, self.core.used_memory / self._memory)

    def standby(self, state: Standby) -> list[str]:
        """Nodes kept in that state."""
        if state in (Standby.RUNNING, Standby.COLD):
            return []
        return self.cloud.kept(self.pool, state)

    def idle(self) -> list[tuple[str, float]]:
        """(node id, seconds idle)."""
        core = self.core
        return [(core.node_ids[n], (core.now - core.rooms.idle_since[n]) / US) for n in core.rooms.idle_nodes()]

    def warming_nodes(self) -> list[str]:
        """Nodes on their way."""
        return [self.core.node_ids[n] for n in sorted(self.core.warming)]

    def peak(self, window_s: float) -> float:
        """The most that ran and waited at once within the last seconds (to the tick)."""
        self._longest = max(self._longest, window_s)
        since = self.now - window_s
        return max((p for at, p in self._peaks if at >= since), default=self.used + self.waiting)

    def close_window(self) -> None:
        """Keep the peak since the last tick, and begin anew."""
        self._peaks.append((self.now, self._end_window()))
        while self._peaks and self._peaks[0][0] < self.now - self._longest - 86_400:
            self._peaks.popleft()

    def _end_window(self) -> float:
        core = self.core
        most = max(core.peak_cpu / self._cpu, core.peak_memory / self._memory)
        core.reset_peak()
        return most


@dataclass
class LaneView(LiveView):
    """One lane of the core: its nodes, and what waits and runs of its tasks, wherever they run.

    Demand is in nodes' worth of the lane's first offering, the largest of the cpu, memory and gpu share.
    """

    books: Books
    lane: int
    places: tuple[Place, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        room = self.places[0][1].allocatable
        amounts = UNITS.amounts(*(np.array([v]) for v in (room.cpu, room.memory, room.gpu)))
        self._room = [int(v[0]) or math.inf for v in amounts]
        self._keys = {(g, o.key) for g, o in self.places}

    def _worth(self, amounts: Sequence[int]) -> float:
        return max(a / r for a, r in zip(amounts, self._room, strict=True))

    def _mine(self, nodes: Iterable[int]) -> list[int]:
        kinds, lane_of = self.core.rooms.kind, self.books.lane_of_kind
        return [n for n in nodes if lane_of[kinds[n]] == self.lane]

    @property
    def ready(self) -> int:
        """Nodes of the lane that take work."""
        return len(self._mine(self.core.existing)) - self.warming

    @property
    def warming(self) -> int:
        """Nodes of the lane on their way."""
        return len(self._mine(self.core.warming))

    @property
    def waiting(self) -> float:
        """Nodes' worth of the lane's demand without room."""
        return self._worth(self.books.waiting[self.lane])

    @property
    def used(self) -> float:
        """Nodes' worth of the lane's demand that runs."""
        return self._worth(self.books.running[self.lane])

    def standby(self, state: Standby) -> list[str]:
        """Nodes of the lane kept in that state."""
        machines = (self.cloud.machine(i) for i in super().standby(state))
        return [m.node_id for m in machines if (m.group, m.offering.key) in self._keys]

    def idle(self) -> list[tuple[str, float]]:
        """(node id, seconds idle) of the lane."""
        mine = {self.core.node_ids[n] for n in self._mine(self.core.rooms.idle_nodes())}
        return [(i, s) for i, s in super().idle() if i in mine]

    def warming_nodes(self) -> list[str]:
        """Nodes of the lane on their way."""
        return [self.core.node_ids[n] for n in sorted(self._mine(self.core.warming))]

    def _end_window(self) -> float:
        most = self._worth(self.books.peak[self.lane])
        self.books.reset(self.lane)
        return most
