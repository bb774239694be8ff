"""Each task's wait, from when it could have started to when it did, taken apart by cause.

Three instants part it: when its orchestrator saw that it could start (`ready_at`), when it had its slot (`slot_at`),
and when it began. Before the first it waits for the scheduler or for its run to be let in; before the second for a
limit, if that was full just then, else for the scheduler; before the third for its node: for what that went through on
its way to ready, if it came up meanwhile, else for others on it to end. A place that says when it gave the task a node
that was up (`placed_at`) parts this once more: until then there was no room, from then on the node fetched its image.
What none of this explains is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from preprov.demand.waiting.nodes import NodeWait, Warming, node_waits
from preprov.demand.waiting.occupancy import NEVER, Floats, Taken, When
from preprov.model.waits import Cause, SlotLimit, limit_key, of_key
from preprov.model.worktable import WorkTable

K = TypeVar("K")

CAUSES: Final = tuple(Cause)
COLUMN: Final = {cause: i for i, cause in enumerate(CAUSES)}
_SLOW_S: Final = 300.0
"""A scheduler takes so long at most: beyond that, nobody knows."""
_PROMPT_S: Final = 10.0
"""What a scheduler takes in any case, where nothing is known of limits."""
_HAND_OVER_S: Final = 30.0
"""From its slot to its start, on a worker that is known and not full: twice that, if its node had to come up first."""
_SHORT_S: Final = 0.5
_WITH_SLOTS: Final = frozenset({Cause.AIRFLOW_POOL, Cause.WORK_POOL, Cause.WORK_QUEUE})
_WHOLE: Final = frozenset({Cause.QUOTA, Cause.HELD, Cause.SLURM_PRIORITY, Cause.SLURM_LIMIT, Cause.ROOM})


@dataclass(frozen=True)
class Waits:
    """What tasks waited on.

    Attributes:
        task: (N,) their positions in the work. could, started: (N,) epoch seconds.
        seconds: (N, C) by cause, in the order of CAUSES; a row adds up to started - could.
        limit: (N,) `waits.limit_key` of the limit they were under, "" = none that is known.
    """

    task: NDArray[np.int64]
    could: Floats
    started: Floats
    seconds: Floats
    limit: NDArray[np.object_]


@dataclass
class _Tasks:
    """The tasks in question, in columns; `seconds` is filled in."""

    at: NDArray[np.int64]
    could: Floats
    ready: Floats
    slot: Floats
    started: Floats
    run: NDArray[np.int64]
    key: NDArray[np.object_]
    need: Floats
    node: NDArray[np.object_]
    placed: Floats
    root: NDArray[np.bool_]
    seconds: Floats = field(default_factory=lambda: np.empty(0))

    def add(self, cause: Cause, rows: NDArray[np.int64], seconds: Floats) -> None:
        self.seconds[rows, COLUMN[cause]] += seconds

    def rest(self, rows: NDArray[np.int64], seconds: Floats, most_s: float) -> None:
        """To the scheduler, up to what a scheduler takes; beyond that it is unknown."""
        self.add(Cause.SCHEDULER, rows, np.minimum(seconds, most_s))
        self.add(Cause.UNKNOWN, rows, np.maximum(seconds - most_s, 0.0))


def attribute(
    work: WorkTable, limits: Sequence[SlotLimit], warmings: Sequence[Warming], since: float, until: float
) -> Waits:
    """Take apart the waits of tasks that started in [since, until] (epoch seconds).

    Args:
        work: runs as they happened, those that merely held slots too; a task with attempt 0 that asks for nothing is
            not looked at itself.
        limits: as they are now. warmings: of nodes, in any order.
    """
    work = work.with_waits()
    t = _chosen(work, since, until)
    t.seconds = np.zeros((len(t.at), len(CAUSES)))
    book = {f.key: f for f in limits}
    _let_in(work, t, book)
    _slots(work, t, book)
    slot, placed = np.where(np.isnan(t.slot), t.ready, t.slot), np.where(np.isnan(t.placed), t.started, t.placed)
    for row, found in node_waits(work, t.node, t.key, slot, placed, warmings):
        _node(t, row, found)
    told = np.flatnonzero(~np.isnan(t.placed))
    t.add(Cause.IMAGE, told, (t.started - t.placed)[told])
    return Waits(t.at, t.could, t.started, t.seconds, t.key)


def _chosen(work: WorkTable, since: float, until: float) -> _Tasks:
    """Tasks that started, and belong here; and their instants, each no earlier than the one before."""
    tasks, run = work.tasks, work.tasks["run"].to_numpy()
    started, ended = tasks["started_at"].to_numpy(), tasks["ended_at"].to_numpy()
    asks = (tasks["cpu"].to_numpy() > 0) | (tasks["memory"].to_numpy() > 0)
    never_ran = (ended == started) & np.isnan(tasks["runtime_s"].to_numpy())
    observed = (work.runs["timing"].to_numpy(dtype=object) == "observed")[run]
    mine = (tasks["attempt"].to_numpy() > 0) | asks
    at = np.flatnonzero(mine & observed & ~never_ran & (started >= since) & (started <= until))
    latest = np.full(len(tasks), -np.inf)
    np.maximum.at(latest, work.children, np.nan_to_num(ended[work.parents], nan=-np.inf))
    could = np.maximum(work.runs["due"].to_numpy()[run], latest)[at]
    begun = started[at]
    ready = tasks["ready_at"].to_numpy()[at]
    again = tasks["attempt"].to_numpy()[at] > 1  # what came before is not waiting
    could = np.where(again & np.isfinite(ready), ready, could)
    ready = np.fmin(np.where(np.isnan(ready), could, ready), begun)
    could = np.fmin(could, ready)
    slot = np.clip(tasks["slot_at"].to_numpy()[at], ready, begun)
    root = np.isinf(latest[at])  # these may have waited for their run to be let in
    ready = np.where((ready == slot) & ~root, could, ready)  # an orchestrator that only says when it had its slot
    placed = np.clip(tasks["placed_at"].to_numpy()[at], np.fmax(slot, ready), begun)
    columns = [tasks[c].to_numpy(dtype=object)[at] for c in ("slot_of", "node")]
    needs = tasks["slots"].to_numpy()[at]
    return _Tasks(at, could, ready, slot, begun, run[at], columns[0], needs, columns[1], placed, root)


# --------------------------------------------------------------------------- until it is ready


def _let_in(work: WorkTable, t: _Tasks, book: Mapping[str, SlotLimit]) -> None:
    """From when it could start until its orchestrator saw that: runs of the DAG that are active, else the scheduler."""
    gap = t.ready - t.could
    left = gap.copy()
    dags = work.runs["dag_id"].to_numpy(dtype=object)
    late = np.flatnonzero(t.root & (gap > 1.0))
    if len(late):
        first, last = _run_spans(work)
        for dag, rows in _groups([(_source(t.key[i]), dags[t.run[i]]) for i in late], late).items():
            limit = book.get(limit_key(Cause.MAX_ACTIVE_RUNS, *dag))
            if limit is not None:
                same = dags == dag[1]
                full = Taken.of(first[same], last[same], np.ones(int(same.sum()))).over(limit.slots - 1)
                waited = full.seconds(t.could[rows], t.ready[rows])
                t.add(Cause.MAX_ACTIVE_RUNS, rows, waited)
                left[rows] -= waited
    t.rest(np.arange(len(t.at)), np.maximum(left, 0.0), _SLOW_S)


def _run_spans(work: WorkTable) -> tuple[Floats, Floats]:
    """(R,) each run's first task that was ready, and its last end."""
    run = work.tasks["run"].to_numpy()
    first, last = np.full(len(work.runs), np.inf), np.full(len(work.runs), -np.inf)
    np.fmin.at(first, run, np.fmin(work.tasks["ready_at"].to_numpy(), work.tasks["started_at"].to_numpy()))
    ended = work.tasks["ended_at"].to_numpy()
    np.maximum.at(last, run, np.where(np.isnan(ended), np.inf, ended))
    return np.where(np.isinf(first), np.nan, first), last


# --------------------------------------------------------------------------- until it has its slot


def _slots(work: WorkTable, t: _Tasks, book: Mapping[str, SlotLimit]) -> None:
    """From ready to its slot: its limit if that was full, then its DAG's, then all slots, else the scheduler."""
    gap = t.slot - t.ready
    waiting = np.flatnonzero(gap > _SHORT_S)
    short = np.flatnonzero(gap <= _SHORT_S)
    t.rest(short, np.maximum(gap[short], 0.0), _PROMPT_S)
    pool_full = _Fullness(work)
    for (key, need), rows in _groups([(t.key[i], float(t.need[i])) for i in waiting], waiting).items():
        cause, source, _ = of_key(key)
        if cause in _WHOLE:
            t.add(cause, rows, gap[rows])
            continue
        limit = book.get(key)
        known = cause in _WITH_SLOTS and limit is not None
        full = pool_full.of(key).over(limit.slots - need) if known and limit is not None and cause else NEVER
        waited = full.seconds(t.ready[rows], t.slot[rows])
        if cause is not None:
            t.add(cause, rows, waited)
        waited = waited + _dag_tasks(work, t, rows, source, full, book)
        left = np.maximum(gap[rows] - waited, 0.0)
        if source and cause is not Cause.SLURM_PARTITION:  # Slurm has no workers that take so many tasks
            everything = pool_full.of_source(source)
            busy = everything.over(max(everything.most - 1, 0.0)).without(full).seconds(t.ready[rows], t.slot[rows])
            busy = np.where(left > _PROMPT_S, np.minimum(busy, left), 0.0)
            t.add(Cause.WORKERS, rows, busy)
            left = left - busy
        t.rest(rows, left, _SLOW_S if known else _PROMPT_S)


class _Fullness:
    """Slots taken of each limit, worked out when it is asked for."""

    def __init__(self, work: WorkTable) -> None:
        tasks = work.tasks
        self._key = tasks["slot_of"].to_numpy(dtype=object)
        self._since = tasks["slot_at"].to_numpy()
        self._until, self._slots = _until(work), tasks["slots"].to_numpy()
        self._made: dict[str, Taken] = {}

    def of(self, key: str) -> Taken:
        if key not in self._made:
            same = self._key == key
            self._made[key] = Taken.of(self._since[same], self._until[same], self._slots[same])
        return self._made[key]

    def of_source(self, source: str) -> Taken:
        name = f"*/{source}"
        if name not in self._made:
            keys = {k for k in set(self._key.tolist()) if _source(k) == source}
            same = np.array([k in keys for k in self._key], dtype=bool)
            self._made[name] = Taken.of(self._since[same], self._until[same], np.ones(int(same.sum())))
        return self._made[name]


def _until(work: WorkTable) -> Floats:
    """(T,) until when each task had its slot: to its end, unless it gave it back before."""
    out: Floats = np.fmin(work.tasks["freed_at"].to_numpy(), work.tasks["ended_at"].to_numpy())
    return out


def _dag_tasks(
    work: WorkTable, t: _Tasks, rows: NDArray[np.int64], source: str, full: When, book: Mapping[str, SlotLimit]
) -> Floats:
    """Seconds, of each of the rows, in which its DAG (or its run) had as many tasks active as it may; counted, too."""
    out = np.zeros(len(rows))
    dags = work.runs["dag_id"].to_numpy(dtype=object)
    run_of = work.tasks["run"].to_numpy()
    since, until = work.tasks["slot_at"].to_numpy(), _until(work)
    for dag, places in _groups([dags[t.run[i]] for i in rows], np.arange(len(rows))).items():
        limit = book.get(limit_key(Cause.MAX_ACTIVE_TASKS, source, dag))
        if limit is None:
            continue
        scopes = _groups([int(t.run[rows[p]]) if limit.per_run else -1 for p in places], places)
        for scope, some in scopes.items():
            same = run_of == scope if scope >= 0 else (dags == dag)[run_of]
            if same.sum() <= limit.slots:
                continue
            taken = Taken.of(since[same], until[same], np.ones(int(same.sum()))).over(limit.slots - 1)
            waited = taken.without(full).seconds(t.ready[rows[some]], t.slot[rows[some]])
            out[some] = waited
            t.add(Cause.MAX_ACTIVE_TASKS, rows[some], waited)
    return out


# --------------------------------------------------------------------------- until it runs


def _node(t: _Tasks, row: int, found: NodeWait) -> None:
    """From its slot to its start, or to when it was given a node that was up."""
    here = np.array([row])
    cause, _, _ = of_key(t.key[row])
    untimed = np.isnan(t.slot[row])
    before = cause if cause in _WHOLE and (untimed or cause is Cause.ROOM) else None
    for stage, seconds in found.stages.items():
        t.add(stage, here, np.array([seconds]))
    t.add(before or Cause.ROOM, here, np.array([found.before_s]))
    if found.stages:  # it came up for this, and whatever is left is the hand-over
        t.rest(here, np.array([found.busy_s + found.rest_s]), 2 * _HAND_OVER_S)
        return
    if before is not None:
        t.add(before, here, np.array([found.busy_s + found.rest_s]))
        return
    if not np.isnan(t.placed[row]):  # a scheduler that finds room gives it within moments
        whole = found.busy_s + found.rest_s
        t.add(Cause.ROOM if whole > _PROMPT_S else Cause.SCHEDULER, here, np.array([whole]))
        return
    t.add(Cause.WORKERS if cause in _WITH_SLOTS else Cause.ROOM, here, np.array([found.busy_s]))
    t.rest(here, np.array([found.rest_s]), _HAND_OVER_S if t.node[row] else _PROMPT_S)


def _source(key: str) -> str:
    return of_key(key)[1]


def _groups(keys: Sequence[K], rows: NDArray[np.int64]) -> dict[K, NDArray[np.int64]]:
    """Rows by key."""
    out: dict[K, list[int]] = {}
    for key, row in zip(keys, rows.tolist(), strict=True):
        out.setdefault(key, []).append(row)
    return {key: np.array(found, dtype=np.int64) for key, found in out.items()}
