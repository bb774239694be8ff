"""A night of an Airflow, played with delays that are known: what each task really waited for, second by second."""

import heapq
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from preprov.demand.waiting.nodes import Warming
from preprov.model.waits import Cause, SlotLimit, limit_key
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WAIT_COLUMNS, WorkTable

NOON = 1_750_000_000.0
SOURCE = "prod"
POOLS = {"dwh": 2, "default_pool": 64}
STAGES = (Cause.ALLOCATE, Cause.BOOT, Cause.IMAGE, Cause.DATA, Cause.JOIN)
LIMITS = (
    *(SlotLimit(Cause.AIRFLOW_POOL, name, slots, source=SOURCE) for name, slots in POOLS.items()),
    SlotLimit(Cause.MAX_ACTIVE_TASKS, "wide", 2, per_run=True, source=SOURCE),
    SlotLimit(Cause.MAX_ACTIVE_RUNS, "often", 1, source=SOURCE),
)


@dataclass
class Task:
    """A task and what became of it; `on` is a worker, or "new" for a node of its own."""

    run: int
    name: str
    pool: str
    on: str
    runtime: float
    parents: list[int]
    times: dict[str, float] = field(default_factory=dict)
    node: str = ""


@dataclass
class Night:
    """What was seen of it, and the truth: seconds by cause."""

    work: WorkTable
    warmings: list[Warming]
    truth: Mapping[Cause, float]


class _Play:
    def __init__(self, seed: int, runs: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tasks: list[Task] = []
        self.runs: list[tuple[str, float]] = []
        self.truth: dict[Cause, float] = defaultdict(float)
        self.warmings: list[Warming] = []
        self.events: list[tuple[float, int, str, int]] = []
        self.queue: list[int] = []
        self.behind: list[int] = []
        self.taken: dict[str, int] = defaultdict(int)
        self.active: dict[int, int] = defaultdict(int)
        self.lines: dict[str, list[int]] = defaultdict(list)
        self.working: dict[str, int] = defaultdict(int)
        self.at = 0.0
        for _ in range(runs):
            self._make_run(float(self.rng.uniform(0, 7200)))

    def _make_run(self, begin: float) -> None:
        dag = str(self.rng.choice(["wide", "often", "etl", "load"]))
        number = len(self.runs)
        self.runs.append((dag, begin))
        count = 6 if dag in ("wide", "load") else int(self.rng.integers(2, 5))
        first = len(self.tasks)
        for k in range(count):
            parents = [] if k == 0 else [first if dag in ("wide", "load") else first + k - 1]
            pool = "dwh" if dag == "load" else "default_pool"
            on = "new" if dag == "etl" else f"w{int(self.rng.integers(3))}"
            runtime = float(self.rng.lognormal(np.log(90), 0.5))
            self.tasks.append(Task(number, f"t{k}", pool, on, runtime, parents))
        self.push(begin, "run", number)

    def push(self, at: float, what: str, i: int) -> None:
        heapq.heappush(self.events, (at, len(self.events) + i, what, i))

    def play(self) -> None:
        while self.events:
            at, _, what, i = heapq.heappop(self.events)
            self._pass(at)
            getattr(self, f"on_{what}")(i, at)
            self._give_slots(at)

    def _pass(self, at: float) -> None:
        """Time goes by for what waits, each for what holds it just now."""
        spent, self.at = at - self.at, at
        for i in self.queue:
            self.truth[Cause.AIRFLOW_POOL if self._pool_full(i) else Cause.MAX_ACTIVE_TASKS] += spent
        self.truth[Cause.MAX_ACTIVE_RUNS] += spent * len(self.behind)
        self.truth[Cause.WORKERS] += spent * sum(len(line) for line in self.lines.values())

    def _pool_full(self, i: int) -> bool:
        return self.taken[self.tasks[i].pool] >= POOLS[self.tasks[i].pool]

    def _give_slots(self, at: float) -> None:
        for i in list(self.queue):
            t = self.tasks[i]
            wide = self.runs[t.run][0] == "wide"
            if self._pool_full(i) or (wide and self.active[t.run] >= 2):
                continue
            self.queue.remove(i)
            self.taken[t.pool] += 1
            self.active[t.run] += 1
            t.times["slot"] = at
            self._to_node(i, at)

    def on_run(self, number: int, at: float) -> None:
        if self.runs[number][0] == "often" and any(
            self._is_active(n) for n, (dag, _) in enumerate(self.runs) if dag == "often" and n != number
        ):
            self.behind.append(number)
            return
        for i, t in enumerate(self.tasks):
            if t.run == number and not t.parents:
                self._could(i, at)

    def _is_active(self, number: int) -> bool:
        mine = [t for t in self.tasks if t.run == number]
        return any("ready" in t.times for t in mine) and not all("end" in t.times for t in mine)

    def _could(self, i: int, at: float) -> None:
        wait = float(self.rng.uniform(0.2, 2.0)) if self.runs[self.tasks[i].run][0] != "often" else 0.0
        self.truth[Cause.SCHEDULER] += wait
        self.tasks[i].times["ready"] = at + wait
        self.push(at + wait, "ready", i)

    def on_ready(self, i: int, _: float) -> None:
        self.queue.append(i)

    def _to_node(self, i: int, at: float) -> None:
        t = self.tasks[i]
        if t.on != "new":
            t.node = t.on
            if self.working[t.on] >= 2:
                self.lines[t.on].append(i)
            else:
                self._start(i, at)
            return
        t.node = f"node-{i}"
        room = float(self.rng.uniform(0, 20))
        stages = {s: float(self.rng.lognormal(np.log(15), 0.6)) for s in STAGES}
        ready = at + room + sum(stages.values())
        hand_over = float(self.rng.uniform(0, 2))
        self.warmings.append(Warming(t.node, NOON + at + room, NOON + ready, {str(s): v for s, v in stages.items()}))
        self.truth[Cause.ROOM] += room
        self.truth[Cause.SCHEDULER] += hand_over
        for stage, seconds in stages.items():
            self.truth[stage] += seconds
        self.push(ready + hand_over, "start", i)

    def on_start(self, i: int, at: float) -> None:
        self._start(i, at)

    def _start(self, i: int, at: float) -> None:
        t = self.tasks[i]
        self.working[t.node] += 1
        t.times["start"] = at
        self.push(at + t.runtime, "end", i)

    def on_end(self, i: int, at: float) -> None:
        t = self.tasks[i]
        t.times["end"] = at
        self.taken[t.pool] -= 1
        self.active[t.run] -= 1
        self.working[t.node] -= 1
        if self.lines[t.node]:
            self._start(self.lines[t.node].pop(0), at)
        for child, c in enumerate(self.tasks):
            if i in c.parents and all("end" in self.tasks[p].times for p in c.parents):
                self._could(child, at)
        if self.behind and not any(self._is_active(n) for n, (dag, _) in enumerate(self.runs) if dag == "often"):
            self.on_run(self.behind.pop(0), at)


def play(seed: int, runs: int = 60) -> Night:
    """A night."""
    world = _Play(seed, runs)
    world.play()
    return Night(_table(world), world.warmings, dict(world.truth))


def _table(world: _Play) -> WorkTable:
    rows: list[dict[str, Any]] = []
    for t in world.tasks:
        dag = world.runs[t.run][0]
        at = {k: NOON + v for k, v in t.times.items()}
        rows.append(
            {
                **dict.fromkeys(TASK_COLUMNS, 0.0),
                **{"run": t.run, "task_id": t.name, "signature": f"{dag}/{t.name}", "operator": "x", "instances": 1},
                **{"cpu": 1.0, "memory": 1.0, "gang": False, "hint_s": np.nan, "runtime_s": t.runtime},
                **{"ready_at": at["ready"], "started_at": at["start"], "ended_at": at["end"], "slot_at": at["slot"]},
                **{"slot_of": limit_key(Cause.AIRFLOW_POOL, SOURCE, t.pool), "slots": 1.0},
                **{"node": t.node, "placed_at": np.nan, "attempt": 1, "constraint": "", "freed_at": np.nan},
                **{"priority": np.nan, "images": "", "known_as": ""},
            }
        )
    runs = [
        {
            **{"run_id": f"{dag}/{i}", "dag_id": dag, "tenant": "default", "priority": 0, "schedule": ""},
            **{"zone": "UTC", "trigger": "manual", "scheduled_for": np.nan, "submit": NOON + begin},
            **{"due": NOON + begin, "land_by": np.nan, "timing": "observed"},
        }
        for i, (dag, begin) in enumerate(world.runs)
    ]
    edges = [(p, c) for c, t in enumerate(world.tasks) for p in t.parents]
    kinds = TASK_COLUMNS | WAIT_COLUMNS
    return WorkTable(
        pd.DataFrame(runs)[list(RUN_COLUMNS)].astype(RUN_COLUMNS),
        pd.DataFrame(rows)[list(kinds)].astype(kinds),
        np.array([p for p, _ in edges], dtype=np.int64),
        np.array([c for _, c in edges], dtype=np.int64),
    )
