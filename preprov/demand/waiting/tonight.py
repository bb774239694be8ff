"""The coming hours played once, at usual runtimes, under the limits as they are: who will wait for which of them.

Nodes are taken to be there: what is left of the waiting then is what no node would help.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.following import followers
from preprov.demand.schedules import turns
from preprov.demand.waiting.occupancy import Floats
from preprov.model.errors import ConfigError
from preprov.model.time import epoch
from preprov.model.waits import Cause, SlotLimit, limit_key, of_key
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable

if TYPE_CHECKING:
    import pandas as pd

_USUAL_S: Final = 60.0
"""Of a task that never ended before."""
_IN_PARTITION: Final = (Cause.ROOM, Cause.SLURM_PRIORITY)


@dataclass
class _Item:
    """A task to come.

    Attributes:
        held: it runs already, and ends after `runtime`.
        has_slot_s: for so much of its runtime it takes its slots; the rest it sleeps. Which comes first does not count.
    """

    run: int
    key: str
    need: float
    runtime: float
    priority: float
    waits_for: int = 0
    children: list[int] = field(default_factory=list)
    held: bool = False
    has_slot_s: float = np.inf


@dataclass
class _Run:
    """A run to come: its tasks that wait for nothing, and how many of its tasks are left."""

    dag: tuple[str, str]
    begins: float
    roots: list[int] = field(default_factory=list)
    left: int = 0


def foresee(
    seen: WorkTable,
    schedules: Sequence[Schedule],
    limits: Sequence[SlotLimit],
    at: datetime,
    hours: int,
    *,
    shapes: WorkTable | None = None,
) -> Mapping[str, Floats]:
    """`waits.limit_key` -> (hours,) seconds that tasks will wait for that limit within each hour from `at` on.

    What runs and waits now goes on; each turn of a schedule, and what follows others, is a run shaped like the last one
    of its DAG that ended.

    Args:
        seen: work as known at `at`.
        shapes: a run of each DAG that never ended any, to play it by; nothing of it has begun.
    """
    book = {f.key: f for f in limits}
    seen = seen.with_waits()
    past = _Past.of(WorkTable.concat([seen, shapes or WorkTable.empty()]).with_waits(), book, len(seen.runs))
    night = _Night(book, epoch(at), hours)
    for number in past.open_runs():
        night.add(past, number, max(float(past.due[number]), night.now), live=True)
    last = past.last_of_dags()
    for s in schedules:
        if s.dag_id in last:
            for turn in _turns(s, at, at + timedelta(hours=hours)):
                night.add(past, last[s.dag_id], epoch(turn), live=False)
    for run in followers(seen, schedules, at, at + timedelta(hours=hours)):
        if run.dag_id in last:
            night.add(past, last[run.dag_id], run.turn + float(np.median(run.delays)), live=False)
    return night.play()


def _turns(schedule: Schedule, at: datetime, until: datetime) -> Sequence[datetime]:
    try:
        return turns(schedule, at, until)
    except ConfigError:  # said where the demand is foreseen
        return ()


@dataclass(frozen=True)
class _Past:
    """Runs as they were, in plain columns: (R,) of runs, (T,) of tasks; `first` is (R + 1,) each run's first task.

    `priority` is of tasks: a place that gives its slots by task says it of each, else it is that of the run.
    """

    first: NDArray[np.int64]
    due: Floats
    dag: list[str]
    priority: Floats
    key: list[str]
    need: Floats
    started: Floats
    ended: Floats
    runtime: Floats
    awake: Floats
    asleep: NDArray[np.bool_]
    edges: Mapping[int, Sequence[tuple[int, int]]]
    real: int

    @classmethod
    def of(cls, work: WorkTable, book: Mapping[str, SlotLimit], real: int) -> "_Past":
        """`runtime`, `awake`: as usual of tasks of the same signature, the latter the share of it that needs slots.

        `book`: limits by key. `real`: so many runs are some, those after them merely shapes.
        """
        import pandas as pd

        t, run = work.tasks, work.tasks["run"].to_numpy()
        kinds = t["signature"].to_numpy(dtype=object)
        middle = t["runtime_s"].groupby(kinds).transform("median").to_numpy()
        awake = _awake(work).groupby(kinds).transform("median").to_numpy()
        edges: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for p, c in zip(work.parents.tolist(), work.children.tolist(), strict=True):
            edges[int(run[c])].append((p, c))
        return cls(
            np.searchsorted(run, np.arange(len(work.runs) + 1)),
            work.runs["due"].to_numpy(),
            work.runs["dag_id"].tolist(),
            np.where(t["priority"].isna(), work.runs["priority"].to_numpy()[run], t["priority"]),
            _keys(t["slot_of"].tolist(), book),
            t["slots"].to_numpy(),
            t["started_at"].to_numpy(),
            t["ended_at"].to_numpy(),
            np.where(pd.isna(middle), t["hint_s"].fillna(_USUAL_S), middle),
            np.where(pd.isna(awake), 1.0, awake),
            np.isfinite(t["freed_at"].to_numpy()),
            edges,
            real,
        )

    def tasks_of(self, run: int) -> range:
        """Positions."""
        return range(int(self.first[run]), int(self.first[run + 1]))

    def open_runs(self) -> list[int]:
        """Runs with anything left to do."""
        run = np.searchsorted(self.first, np.flatnonzero(np.isnan(self.ended)), side="right") - 1
        found: list[int] = np.unique(run[run < self.real]).tolist()
        return found

    def last_of_dags(self) -> Mapping[str, int]:
        """DAG -> the last of its runs that is over, else its shape."""
        still = set(self.open_runs())
        order = [*range(self.real, len(self.due)), *np.argsort(self.due[: self.real], kind="stable").tolist()]
        return {self.dag[r]: r for r in order if r not in still and len(self.tasks_of(r))}


def _awake(work: WorkTable) -> "pd.Series[float]":
    """(T,) share of its runtime for which each task had its slots: since it last got them; NaN = it has not ended."""
    t = work.tasks
    whole = t["ended_at"] - t["started_at"]
    since = np.fmax(t["slot_at"].to_numpy(), t["started_at"].to_numpy())
    share: pd.Series[float] = ((t["ended_at"] - since) / whole.where(whole > 0)).clip(0.0, 1.0)
    return share


def _keys(told: Sequence[str], book: Mapping[str, SlotLimit]) -> list[str]:
    """The limits that tasks are under: a job that Slurm let wait for room or its turn takes its partition's cores."""
    under: dict[str, str] = {}
    for key in set(told):
        cause, source, name = of_key(key)
        of_partition = limit_key(Cause.SLURM_PARTITION, source, name)
        under[key] = of_partition if cause in _IN_PARTITION and of_partition in book else key
    return [under[key] for key in told]


class _Night:
    """Tasks queue for the slots of their limit, the more urgent first; those of a DAG with enough active step aside."""

    def __init__(self, book: Mapping[str, SlotLimit], now: float, hours: int) -> None:
        self.now, self._hours = now, hours
        self.items: list[_Item] = []
        self.runs: list[_Run] = []
        self._book = book
        self._free = {k: f.slots for k, f in book.items() if f.cause is not Cause.MAX_ACTIVE_TASKS}
        self._spans = [(k, *span) for k, f in book.items() if k in self._free for span in f.reserved]
        self._queues: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
        self._aside: dict[tuple[object, ...], list[int]] = defaultdict(list)
        self._active: dict[tuple[object, ...], int] = defaultdict(int)
        self._behind: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._since: dict[int, float] = {}
        self._blamed: dict[int, str] = {}
        self._events: list[tuple[float, int, str, int]] = []
        self._waits: dict[str, Floats] = {}

    def add(self, past: _Past, run: int, begins: float, *, live: bool) -> None:
        """A run like that one is to come; of a live one, what has not ended."""
        rows = past.tasks_of(run)
        source = next((of_key(past.key[i])[1] for i in rows if past.key[i]), "")
        made = _Run((source, past.dag[run]), begins)
        place: dict[int, int] = {}
        for i in rows:
            if live and np.isfinite(past.ended[i]):
                continue
            runs = bool(live and np.isfinite(past.started[i]))
            so_far = self.now - float(past.started[i]) if runs else 0.0
            left = max(float(past.runtime[i]) - so_far, 1.0)
            place[i] = len(self.items)
            item = _Item(len(self.runs), past.key[i], float(past.need[i]), left, float(past.priority[i]), held=runs)
            if not runs:
                item.has_slot_s = left * float(past.awake[i])
            elif past.asleep[i]:
                item.has_slot_s = 0.0
            self.items.append(item)
        for p, c in past.edges.get(run, ()):
            if p in place and c in place:
                self.items[place[p]].children.append(place[c])
                self.items[place[c]].waits_for += 1
        made.roots = [i for i in place.values() if not self.items[i].waits_for]
        made.left = len(place)
        self.runs.append(made)

    def play(self) -> Mapping[str, Floats]:
        """All of it, up to the last hour."""
        self._reserve()
        for number, run in enumerate(self.runs):
            running = [i for i in run.roots if self.items[i].held]
            if running:
                self._take_run(run, -1)
                for i in running:
                    self._start(i, self.now)
                for i in (i for i in run.roots if not self.items[i].held):
                    self._push(self.now, "ready", i)
            else:
                self._push(run.begins, "run", number)
        until = self.now + self._hours * 3600.0
        while self._events and self._events[0][0] < until:
            at, _, what, i = heapq.heappop(self._events)
            getattr(self, f"_on_{what}")(i, at)
        for i, since in self._since.items():
            self._count(self._blamed.get(i, self.items[i].key), since, until)
        for dag, numbers in self._behind.items():
            for number in numbers:
                self._count(limit_key(Cause.MAX_ACTIVE_RUNS, *dag), self.runs[number].begins, until)
        return self._waits

    def _push(self, at: float, what: str, i: int) -> None:
        heapq.heappush(self._events, (at, len(self._events) + i, what, i))

    # ------------------------------------------------------------------ slots that others have for a time

    def _reserve(self) -> None:
        """What runs as such a time begins goes on to its end."""
        for number, (key, since, until, slots) in enumerate(self._spans):
            if until <= self.now:
                continue
            if since <= self.now:
                self._free[key] -= slots
            else:
                self._push(since, "reserved", number)
            self._push(until, "given_back", number)

    def _on_reserved(self, number: int, at: float) -> None:
        key, _, _, slots = self._spans[number]
        self._free[key] -= slots

    def _on_given_back(self, number: int, at: float) -> None:
        key, _, _, slots = self._spans[number]
        self._free[key] += slots
        self._serve(key, at)

    # ------------------------------------------------------------------ runs

    def _take_run(self, run: _Run, by: int) -> None:
        key = limit_key(Cause.MAX_ACTIVE_RUNS, *run.dag)
        if key in self._free:
            self._free[key] += by

    def _on_run(self, number: int, at: float) -> None:
        run = self.runs[number]
        if self._free.get(limit_key(Cause.MAX_ACTIVE_RUNS, *run.dag), 1.0) <= 0:
            self._behind[run.dag].append(number)
            return
        self._take_run(run, -1)
        self._all_ready(run.roots, at)
        if not run.left:
            self._take_run(run, 1)

    def _end_of_run(self, run: _Run, at: float) -> None:
        self._take_run(run, 1)
        if waiting := self._behind[run.dag]:
            number = waiting.pop(0)
            self._count(limit_key(Cause.MAX_ACTIVE_RUNS, *run.dag), self.runs[number].begins, at)
            self._on_run(number, at)

    # ------------------------------------------------------------------ tasks

    def _on_ready(self, i: int, at: float) -> None:
        self._all_ready([i], at)

    def _all_ready(self, numbers: Sequence[int], at: float) -> None:
        """They queue before the first of them is served, so that the most urgent is."""
        for i in numbers:
            self._since[i] = at
            heapq.heappush(self._queues[self.items[i].key], (-self.items[i].priority, at, i))
        for key in dict.fromkeys(self.items[i].key for i in numbers):
            self._serve(key, at)

    def _serve(self, key: str, at: float) -> None:
        queue = self._queues[key]
        while queue and self.items[queue[0][2]].need <= self._free.get(key, np.inf):
            i = heapq.heappop(queue)[2]
            scope, limit = self._scope(i)
            if limit is not None and self._active[scope] >= limit.slots:
                self._blamed[i] = limit.key
                self._aside[scope].append(i)
                continue
            self._count(self._blamed.pop(i, key), self._since.pop(i), at)
            self._start(i, at)

    def _scope(self, i: int) -> tuple[tuple[object, ...], SlotLimit | None]:
        run = self.items[i].run
        dag = self.runs[run].dag
        limit = self._book.get(limit_key(Cause.MAX_ACTIVE_TASKS, *dag))
        return (*dag, run if limit is not None and limit.per_run else -1), limit

    def _start(self, i: int, at: float) -> None:
        item = self.items[i]
        if item.key in self._free:
            self._free[item.key] -= item.need
        self._active[self._scope(i)[0]] += 1
        self._push(at + item.runtime, "end", i)
        if item.has_slot_s < item.runtime:
            self._push(at + item.has_slot_s, "sleep", i)

    def _on_sleep(self, i: int, at: float) -> None:
        for key in sorted(self._give_back(i)):
            self._serve(key, at)

    def _give_back(self, i: int) -> set[str]:
        """It takes no slots any more; returns what others may now have them of."""
        item = self.items[i]
        if item.key in self._free:
            self._free[item.key] += item.need
        scope, _ = self._scope(i)
        self._active[scope] -= 1
        again = {item.key}
        if aside := self._aside[scope]:
            other = aside.pop(0)
            heapq.heappush(
                self._queues[self.items[other].key], (-self.items[other].priority, self._since[other], other)
            )
            again.add(self.items[other].key)
        return again

    def _on_end(self, i: int, at: float) -> None:
        item = self.items[i]
        again = set() if item.has_slot_s < item.runtime else self._give_back(i)
        run = self.runs[item.run]
        run.left -= 1
        for child in item.children:
            self.items[child].waits_for -= 1
        self._all_ready([c for c in item.children if not self.items[c].waits_for], at)
        for key in sorted(again):
            self._serve(key, at)
        if not run.left:
            self._end_of_run(run, at)

    def _count(self, key: str, since: float, until: float) -> None:
        """Add a wait to the hours it falls into; a wait for nothing that limits is none."""
        if until <= since or (key not in self._book):
            return
        per_hour = self._waits.setdefault(key, np.zeros(self._hours))
        edges = self.now + np.arange(self._hours + 1) * 3600.0
        per_hour += np.maximum(np.minimum(edges[1:], until) - np.maximum(edges[:-1], since), 0.0)
