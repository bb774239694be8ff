"""What a pool was at each instant of a replay: node timeline, and rows from which anybody can recompute the waits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from preprov.model.nodes import Phase
from preprov.model.offerings import Standby
from preprov.model.worktable import Array
from preprov.replay.core import Core
from preprov.replay.load import UNITS, US, Load
from preprov.sim.machines import FOREVER, Machine

_HOUR: Final = 3600.0
_STATE: Final = {
    Phase.READY: str(Standby.RUNNING),
    Phase.STOPPED: str(Standby.STOPPED),
    Phase.HIBERNATED: str(Standby.HIBERNATED),
}
COLUMNS: Final = ("ts", "group", "state", "ready_nodes", "used_cpu", "used_memory")


@dataclass(frozen=True)
class Timeline:
    """Phases of all nodes.

    Attributes:
        node_id, group, phase: (P,) per phase entered. start, end: (P,) epoch seconds, inf for what lasts.
        until: when play ended.
    """

    node_id: list[str]
    group: list[str]
    phase: list[Phase]
    start: Array
    end: Array
    until: float

    def frame(self) -> pd.DataFrame:
        """One row per phase of a node."""
        return pd.DataFrame(
            {
                "node_id": self.node_id,
                "group": self.group,
                "phase": [str(p) for p in self.phase],
                "start": self.start,
                "end": np.minimum(self.end, self.until),
            }
        )


def timeline(machines: Sequence[Machine], until: float) -> Timeline:
    """Every phase of every machine up to an instant."""
    rows: list[tuple[str, str, Phase, float, float]] = []
    for m in machines:
        starts = [at for at, _ in m.phases]
        for (at, phase), end in zip(m.phases, [*starts[1:], m.ended], strict=True):
            if end > at:
                rows.append((m.node_id, m.group, phase, at, min(end, m.ended)))
    return Timeline(
        [r[0] for r in rows],
        [r[1] for r in rows],
        [r[2] for r in rows],
        np.array([r[3] for r in rows]),
        np.array([r[4] for r in rows]),
        until,
    )


@dataclass(frozen=True)
class Used:
    """What ran on the nodes over time.

    Attributes:
        steps: (group, offering key) -> (times (K,) epoch s, cores (K,), GiB (K,)): amounts from each time on.
    """

    steps: dict[tuple[str, str], tuple[Array, Array, Array]]

    def share_hours(self, place: tuple[str, str], cpu: float, memory: float, first: float, last: float) -> float:
        """Hours x nodes' worth of use within [first, last): the larger of the cpu and memory share."""
        if place not in self.steps or last <= first:
            return 0.0
        times, cores, gib = self.steps[place]
        share = np.maximum(cores / cpu if cpu else 0.0, gib / memory if memory else 0.0)
        ends = np.append(times[1:], np.inf)
        length = np.clip(np.minimum(ends, last) - np.maximum(times, first), 0.0, None)
        return float((share * length).sum() / _HOUR)

    def at(self, group: str, when: Array) -> tuple[Array, Array]:
        """(cores, GiB) in use on a group's nodes just after each instant."""
        cpu, memory = np.zeros(len(when)), np.zeros(len(when))
        for times, cores, gib in (s for (g, _), s in self.steps.items() if g == group):
            i = np.searchsorted(times, when, side="right") - 1
            cpu += np.where(i >= 0, cores[i], 0.0)
            memory += np.where(i >= 0, gib[i], 0.0)
        return cpu, memory

    def rows(self, nodes: Timeline) -> pd.DataFrame:
        """COLUMNS: how many nodes of a group were in a state from `ts` (epoch s) on, and what ran on its ready ones.

        `state` is running (ready for work), stopped or hibernated; warming nodes serve nobody and are left out. A row
        for each change of a count.
        """
        out = []
        group = np.array(nodes.group, dtype=object)
        state = np.array([_STATE.get(p, "") for p in nodes.phase], dtype=object)
        for g in dict.fromkeys(nodes.group):
            for s in dict.fromkeys(_STATE.values()):
                mine = (group == g) & (state == s)
                if mine.any():
                    out.append(self._counted(g, s, nodes.start[mine], nodes.end[mine]))
        if not out:
            return pd.DataFrame({c: [] for c in COLUMNS})
        return pd.concat(out, ignore_index=True).sort_values(["ts", "group", "state"], ignore_index=True)

    def _counted(self, group: str, state: str, start: Array, end: Array) -> pd.DataFrame:
        times, change = np.concatenate([start, end]), np.repeat([1, -1], len(start))
        at, place = np.unique(times, return_inverse=True)
        count = np.cumsum(np.bincount(place, weights=change)).astype(np.int64)
        running = state == str(Standby.RUNNING)
        cpu, memory = self.at(group, at) if running else (np.zeros(len(at)), np.zeros(len(at)))
        frame = pd.DataFrame(
            {"ts": at, "group": group, "state": state, "ready_nodes": count, "used_cpu": cpu, "used_memory": memory}
        )
        return frame[np.append(True, np.diff(count) != 0) & (at < FOREVER)]


def used_over_time(load: Load, core: Core, machines: Sequence[Machine]) -> Used:
    """What ran where, from the parts played."""
    task = np.frombuffer(core.part_task, dtype=np.int64)
    node = np.frombuffer(core.part_node, dtype=np.int64)
    placed = node >= 0
    task, node = task[placed], node[placed]
    start = np.frombuffer(core.part_start, dtype=np.int64)[placed]
    count = np.frombuffer(core.part_count, dtype=np.int64)[placed]
    end = start + np.array(load.runtime_us, dtype=np.int64)[task]
    shape = np.array(load.shape, dtype=np.int64)[task]
    cpu = np.array([s.cpu for s in load.shapes] or [0])[shape] * count / UNITS.cpu
    memory = np.array([s.memory for s in load.shapes] or [0])[shape] * count / UNITS.memory
    place_of = {m.node_id: (m.group, m.offering.key) for m in machines}
    places = [place_of[i] for i in core.node_ids]
    kinds = list(dict.fromkeys(places))
    kind = np.array([kinds.index(p) for p in places] or [0], dtype=np.int64)[node]
    steps = {}
    for i in dict.fromkeys(kind.tolist()):
        mine = kind == i
        steps[kinds[i]] = _steps(start[mine], end[mine], cpu[mine], memory[mine], load.base)
    return Used(steps)


def _steps(start: Array, end: Array, cpu: Array, memory: Array, base: float) -> tuple[Array, Array, Array]:
    at, place = np.unique(np.concatenate([start, end]), return_inverse=True)
    level = [np.cumsum(np.bincount(place, weights=np.concatenate([v, -v]))).clip(0.0) for v in (cpu, memory)]
    return base + at / US, level[0], level[1]
