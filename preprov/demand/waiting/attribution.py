"""Each task's wait, from when it could have started to when it did, taken apart by cause.

Three instants part it: when its orchestrator saw that it could start (`ready_at`), when it had its slot (`slot_at`),
and when it began. Before the first it waits for the scheduler or for its run to be let in; before the second for a
limit, if that was full just then; before the third for its node: for what that went through on its way to ready, if it
came up meanwhile, else for others on it to end. A place that says when it gave the task a node that was up
(`placed_at`) parts this once more: until then there was no room, from then on the node fetched its image.

What is left of a part without any of these is the scheduler's up to `PROMPT_S`, and unknown beyond: nobody has seen
that it was the scheduler. How many tasks a worker takes, or all of them, nobody says either: the most that was ever
seen counts as that only where tasks that waited beside it began as one of these ended (`_shown`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.waiting.nodes import Warming, node_waits
from preprov.demand.waiting.occupancy import NEVER, Floats, Ints, When
from preprov.demand.waiting.past import Past, groups
from preprov.model.waits import Cause, SlotLimit, of_key
from preprov.model.worktable import WorkTable

CAUSES: Final = tuple(Cause)
COLUMN: Final = {cause: i for i, cause in enumerate(CAUSES)}
PROMPT_S: Final = 10.0
"""What a scheduler takes, each time it could do something: longer than that without a reason is unknown."""
_SHORT_S: Final = 0.5
_ENOUGH: Final = 3
_MOST_OF_THEM: Final = 0.8
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

    task: Ints
    could: Floats
    started: Floats
    seconds: Floats
    limit: NDArray[np.object_]

    def of(self, rows: NDArray[np.bool_]) -> "Waits":
        """Some of them."""
        times = (self.could[rows], self.started[rows], self.seconds[rows])
        return Waits(self.task[rows], *times, self.limit[rows])


@dataclass
class _Tasks:
    """The tasks in question, in columns; `seconds` is filled in."""

    at: Ints
    could: Floats
    ready: Floats
    slot: Floats
    started: Floats
    run: Ints
    key: NDArray[np.object_]
    need: Floats
    node: NDArray[np.object_]
    placed: Floats
    root: NDArray[np.bool_]
    seconds: Floats = field(default_factory=lambda: np.empty(0))

    def add(self, cause: Cause, rows: Ints, seconds: Floats) -> None:
        self.seconds[rows, COLUMN[cause]] += seconds

    def rest(self, rows: Ints, seconds: Floats) -> None:
        """To the scheduler, up to what a scheduler takes; beyond that it is unknown."""
        self.add(Cause.SCHEDULER, rows, np.minimum(seconds, PROMPT_S))
        self.add(Cause.UNKNOWN, rows, np.maximum(seconds - PROMPT_S, 0.0))


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
    if not len(t.at):
        return Waits(t.at, t.could, t.started, t.seconds, t.key)
    book = {f.key: f for f in limits}
    past = Past.of(work, float(np.min(t.could)), float(np.max(t.started)) + PROMPT_S)
    _let_in(past, t, book)
    _slots(past, t, book)
    _nodes(past, t, warmings)
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


def _held(t: _Tasks, cause: Cause, rows: Ints, full: When, since: Floats, until: Floats) -> Floats:
    """Seconds that each row waited for a limit; what is short between two such stretches is the scheduler's."""
    waited = full.seconds(since, until)
    between = full.closed(PROMPT_S).seconds(since, until) - waited
    t.add(cause, rows, waited)
    t.add(Cause.SCHEDULER, rows, between)
    return waited + between


# --------------------------------------------------------------------------- until it is ready


def _let_in(past: Past, t: _Tasks, book: Mapping[str, SlotLimit]) -> None:
    """From when it could start until its orchestrator saw that: runs of the DAG that are active, else the scheduler."""
    left = t.ready - t.could
    most = past.limit_of_dags(book, Cause.MAX_ACTIVE_RUNS)
    dag = past.dag_of_run[t.run]
    rows = np.flatnonzero(t.root & (left > 1.0) & np.isfinite(most[dag]))
    if len(rows):
        lanes = past.lanes(len(most))
        full = lanes.over(lanes.taken(past.dag_of_run, *past.run_spans(), np.ones(len(past.dag_of_run))), most - 1)
        asked = (lanes.on_axis(dag[rows], x[rows]) for x in (t.could, t.ready))
        left[rows] -= _held(t, Cause.MAX_ACTIVE_RUNS, rows, full, *asked)
    t.rest(np.arange(len(t.at)), np.maximum(left, 0.0))


# --------------------------------------------------------------------------- until it has its slot


def _slots(past: Past, t: _Tasks, book: Mapping[str, SlotLimit]) -> None:
    """From ready to its slot: its limit if that was full, then its DAG's, then all slots, else the scheduler."""
    gap = t.slot - t.ready
    waiting = np.flatnonzero(gap > _SHORT_S)
    short = np.flatnonzero(gap <= _SHORT_S)
    t.rest(short, np.maximum(gap[short], 0.0))
    left = np.zeros(len(gap))
    alike = groups([(str(t.key[i]), float(t.need[i])) for i in waiting], waiting)
    for (key, need), rows in alike.items():
        cause, _, _ = of_key(key)
        if cause in _WHOLE:
            t.add(cause, rows, gap[rows])
            continue
        left[rows] = gap[rows]
        limit = book.get(key)
        full = NEVER
        if cause is not None and cause in _WITH_SLOTS and limit is not None:
            full = past.taken(key).over(limit.slots - need)
            left[rows] -= _held(t, cause, rows, full, t.ready[rows], t.slot[rows])
        left[rows] -= _dag_tasks(past, t, rows, full.closed(PROMPT_S), book)
    left = np.maximum(left, 0.0)
    _all_slots(past, t, waiting, left)
    t.rest(waiting, left[waiting])


def _dag_tasks(past: Past, t: _Tasks, rows: Ints, full: When, book: Mapping[str, SlotLimit]) -> Floats:
    """Seconds, of each of the rows, in which its DAG (or its run) had as many tasks active as it may; counted, too."""
    out = np.zeros(len(rows))
    most = past.limit_of_dags(book, Cause.MAX_ACTIVE_TASKS)
    dag = past.dag_of_run[t.run[rows]]
    some = np.flatnonzero(np.isfinite(most[dag]))
    if not len(some):
        return out
    scope = past.scopes(book)
    wanted, lane = np.unique(scope[t.run[rows[some]]], return_inverse=True)
    limit = np.zeros(len(wanted))
    limit[lane] = most[dag[some]]
    lanes = past.lanes(len(wanted))
    lane_of_run = np.clip(np.searchsorted(wanted, scope), 0, len(wanted) - 1)
    there = np.flatnonzero((wanted[lane_of_run] == scope)[past.run])
    taken = lanes.taken(lane_of_run[past.run[there]], past.since[there], past.until[there], np.ones(len(there)))
    since, until = (lanes.on_axis(lane, x[rows[some]]) for x in (t.ready, t.slot))
    busy = lanes.over(taken, limit - 1)
    waited = busy.seconds_without(full, since, until, lanes.real)
    between = busy.closed(PROMPT_S).seconds_without(full, since, until, lanes.real) - waited
    t.add(Cause.MAX_ACTIVE_TASKS, rows[some], waited)
    t.add(Cause.SCHEDULER, rows[some], between)
    out[some] = waited + between
    return out


def _all_slots(past: Past, t: _Tasks, waiting: Ints, left: Floats) -> None:
    """Of what no limit explains: all tasks that an orchestrator ever had at once were active. Taken off `left`."""
    for source, rows in groups([of_key(str(t.key[i]))[1] for i in waiting], waiting).items():
        mine = np.array([of_key(k)[0] in _WITH_SLOTS for k in t.key[rows]], dtype=bool)
        rows = rows[mine & (left[rows] > PROMPT_S)]
        if not source or not len(rows):
            continue  # Slurm has no workers that take so many tasks
        everything = past.taken_of(source)
        full = everything.over(max(everything.most - 1, 0.0))
        busy = np.minimum(full.seconds(t.ready[rows], t.slot[rows]), left[rows])
        shown = _shown(busy, full.over_for(t.slot[rows]))
        t.add(Cause.WORKERS, rows[shown], busy[shown])
        left[rows[shown]] -= busy[shown]


def _shown(busy: Floats, after: Floats) -> NDArray[np.bool_]:
    """Which of these waits were for a place to be free, of which nobody says how much it takes.

    The most that was ever seen is a limit where those that waited beside it went on as soon as one ended: some of them
    at least, and nearly all. Otherwise there just never was more.

    Args:
        busy: (K,) seconds that each waited while it was as full as ever.
        after: (K,) how long after the last of that it went on.
    """
    told = busy > PROMPT_S
    prompt = after <= PROMPT_S
    if told.sum() < _ENOUGH or prompt[told].mean() < _MOST_OF_THEM:
        return np.zeros(len(busy), dtype=bool)
    shown: NDArray[np.bool_] = prompt & (busy > 0)
    return shown


# --------------------------------------------------------------------------- until it runs


def _nodes(past: Past, t: _Tasks, warmings: Sequence[Warming]) -> None:
    """From its slot to its start, or to when it was given a node that was up."""
    slot, placed = np.where(np.isnan(t.slot), t.ready, t.slot), np.where(np.isnan(t.placed), t.started, t.placed)
    found = node_waits(past, t.node, slot, placed, warmings)
    causes = {key: of_key(key)[0] for key in set(t.key.tolist())}
    cause = np.array([causes[k] for k in t.key.tolist()], dtype=object)
    whole = np.isin(cause, list(_WHOLE)) & (np.isnan(t.slot) | (cause == Cause.ROOM))
    for before in _WHOLE:
        rows = np.flatnonzero(whole & (cause == before))
        t.add(before, rows, (found.before_s + found.busy_s + found.rest_s)[rows] * ~found.came[rows])
        t.add(before, rows, found.before_s[rows] * found.came[rows])
    other = np.flatnonzero(~whole)
    t.add(Cause.ROOM, other, found.before_s[other])
    for stage, seconds in found.stages.items():
        t.add(stage, np.arange(len(seconds)), seconds)
    came = np.flatnonzero(found.came)
    t.rest(came, (found.busy_s + found.rest_s)[came])  # it came up for this, and whatever is left is the hand-over
    _on_nodes_that_were_up(t, np.flatnonzero(~whole & ~found.came), cause, found.busy_s, found.rest_s, found.after_s)


def _on_nodes_that_were_up(t: _Tasks, rows: Ints, cause: NDArray[np.object_], *found: Floats) -> None:
    busy, rest, after = found
    told = ~np.isnan(t.placed[rows])
    given, rows = rows[told], rows[~told]
    all_of = busy[given] + rest[given]  # a scheduler that finds room gives it within moments
    late = all_of > PROMPT_S
    t.add(Cause.ROOM, given[late], all_of[late])
    t.add(Cause.SCHEDULER, given[~late], all_of[~late])
    for source, some in groups([of_key(str(k))[1] for k in t.key[rows]], rows).items():
        shown = some[_shown(busy[some], after[some])]
        workers = np.isin(cause[shown], list(_WITH_SLOTS)) if source else np.zeros(len(shown), dtype=bool)
        t.add(Cause.WORKERS, shown[workers], busy[shown[workers]])
        t.add(Cause.ROOM, shown[~workers], busy[shown[~workers]])
        other = np.setdiff1d(some, shown)
        t.rest(shown, rest[shown])
        t.rest(other, busy[other] + rest[other])
