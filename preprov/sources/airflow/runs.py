"""Runs as Airflow tells them, into columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.contracts import SeenRuns
from preprov.model.resources import KINDS
from preprov.model.signature import Signature
from preprov.model.waits import Cause, limit_key
from preprov.model.work import Trigger
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WAIT_COLUMNS, WorkTable
from preprov.sources.airflow.clocks import reads_in
from preprov.sources.airflow.facts import RunFacts, TaskFacts
from preprov.sources.airflow.shapes import DagShape, TaskShape, edges
from preprov.sources.instants import NAN

_TASKS: Final = TASK_COLUMNS | WAIT_COLUMNS
_TRIGGERS: Final = {
    "scheduled": Trigger.SCHEDULED,
    "asset_triggered": Trigger.DATASET,
    "dataset_triggered": Trigger.DATASET,
}
_WAITING: Final = frozenset({"none", "scheduled", "queued", "up_for_retry"})
_STARTED: Final = frozenset({"running", "restarting", "deferred", "up_for_reschedule"})
_ELSEWHERE: Final = frozenset({"deferred", "up_for_reschedule"})
_WITHOUT_SLOT: Final = frozenset({"none", "scheduled", "up_for_retry"})
"""When these were queued is of an earlier attempt, or of before they slept."""
_NOTHING: Final = frozenset({"EmptyOperator", "DummyOperator"})
_MOST_EDGES: Final = 4_096
"""Between two mapped tasks. Of wider ones each instance is tied to as many of the parent's as there is room for."""
_PROMPT_S: Final = 900.0
_DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Seen:
    """A run with everything that decides how it is told.

    Attributes:
        paused: its DAG is: what has not started does not start.
        submit: when it was first seen, for API v1, which does not say when a run was made; NaN = only now.
        keeping: Airflow pools in which a deferred task keeps its slots.
        earlier: tries of its tasks before the present ones, as far as they are known.
    """

    run: RunFacts
    tasks: tuple[TaskFacts, ...]
    shape: DagShape | None
    paused: bool
    cron: str
    zone: str
    tenant: str
    submit: float
    keeping: frozenset[str] = frozenset()
    earlier: tuple[TaskFacts, ...] = ()

    @property
    def looks(self) -> int:
        """Changes when anything does by which it is told."""
        shape = self.shape
        dag = None
        if shape is not None:
            seen = (tuple(sorted(shape.widths.items())), shape.asleep, tuple(sorted(shape.ran.items())))
            dag = (shape.read_at, *seen)
        rest = (self.paused, self.cron, self.zone, self.tenant, self.keeping)
        return hash((self.run, self.tasks, self.earlier, dag, *rest))


@dataclass(frozen=True)
class Telling:
    """How times and names are told.

    Attributes:
        source: key of the source: two Airflows may have a DAG of the same name that does something else.
        shift_s: added to their times, where their clock is wrong. now: ours.
    """

    source: str
    shift_s: float
    now: float


def run_name(run: RunFacts) -> str:
    """A run's id here: unique among all DAGs."""
    return f"{run.dag_id}/{run.run_id}"


def table(seen: Sequence[Seen], how: Telling) -> SeenRuns:
    """The runs in columns."""
    runs: list[tuple[Any, ...]] = []
    tasks: list[dict[str, Any]] = []
    queues: list[str] = []
    parents: list[int] = []
    children: list[int] = []
    for number, one in enumerate(seen):
        submit = _submit(one, how)
        rows = _instances(one)
        first = len(tasks)
        let_in = _let_in(one)
        for t in rows:
            tasks.append({"run": number, **_task(one, t, submit, let_in.get(t.task_id, NAN), how)})
            queues.append(t.queue)
        for p, c in _edges(one, rows):
            parents.append(first + p)
            children.append(first + c)
        _ready(tasks, first, parents, children, submit)
        runs.append(_run(one, submit, how))
    work = WorkTable(
        pd.DataFrame(runs, columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS),
        pd.DataFrame(tasks, columns=list(_TASKS)).astype(_TASKS),
        np.array(parents, dtype=np.int64),
        np.array(children, dtype=np.int64),
    )
    return SeenRuns(work, np.array([s.run.over for s in seen], dtype=bool), np.array(queues, dtype=object))


# --------------------------------------------------------------------------- runs


def _submit(one: Seen, how: Telling) -> float:
    """When the run was first there to be known, by our clock."""
    run, began = one.run, [t.started for t in one.tasks]
    waited = [x for t in one.earlier for x in (t.scheduled, t.queued, t.started)]
    first = min([x for x in (run.started, *began, *waited) if x == x], default=NAN)
    if run.queued == run.queued:
        told = min(run.queued, first) if first == first else run.queued
        return told + how.shift_s
    if 0 <= first - run.turn < _PROMPT_S:
        return run.turn + how.shift_s
    if run.logical + how.shift_s <= how.now and not (first < run.logical or first > run.logical + _DAY_S):
        return run.logical + how.shift_s
    if one.submit == one.submit:
        return min(one.submit, first + how.shift_s) if first == first else one.submit
    return first + how.shift_s if first == first else how.now


def _run(one: Seen, submit: float, how: Telling) -> tuple[Any, ...]:
    run = one.run
    return (
        run_name(run),
        run.dag_id,
        one.tenant,
        max((t.weight for t in one.tasks), default=0),
        one.cron,
        one.zone,
        str(_TRIGGERS.get(run.kind, Trigger.MANUAL)),
        run.turn + how.shift_s,
        submit,
        submit,
        NAN,
        "observed",
    )


# --------------------------------------------------------------------------- tasks


def _instances(one: Seen) -> list[TaskFacts]:
    """The task instances of a run, each after its earlier tries; those of its DAG where none were made yet."""
    mapped = {t.task_id for t in one.tasks if t.map_index >= 0}
    found = [t for t in one.tasks if t.state != "removed" and (t.map_index >= 0 or t.task_id not in mapped)]
    if found or one.shape is None or one.run.over:
        tries = (t for t in one.earlier if t.map_index >= 0 or t.task_id not in mapped)
        return sorted((*tries, *found), key=lambda t: (t.task_id, t.map_index, not t.earlier, t.tries))
    return [_planned(one.shape, t) for t in one.shape.tasks]


def _planned(shape: DagShape, t: TaskShape) -> TaskFacts:
    times = (NAN, NAN, NAN, NAN)
    asks = (NAN, NAN, NAN)
    return TaskFacts(
        t.task_id, -1, "none", *times, 0, t.pool, t.slots, t.queue, t.weight, t.operator, *asks, looks=shape.looks(t)
    )


def _let_in(one: Seen) -> dict[str, float]:
    """Task without parents -> when it could start at the earliest: as its run was let in."""
    if one.shape is None:
        return {}
    follow = {c for t in one.shape.tasks for c in t.children}
    return {t.task_id: one.run.started for t in one.shape.tasks if t.task_id not in follow}


def _ready_at(t: TaskFacts, submit: float, let_in: float, how: Telling) -> float:
    """When its scheduler saw that it could start; API v1 does not say, so that of a first try its run has to."""
    if t.state in ("none", "up_for_retry"):
        return NAN
    told = (t.scheduled, let_in, t.queued) if t.scheduled != t.scheduled and t.tries <= 1 else (t.scheduled, t.queued)
    ready = min((x for x in told if x == x), default=NAN) + how.shift_s
    return max(ready, submit) if ready == ready else NAN


def _task(one: Seen, t: TaskFacts, submit: float, let_in: float, how: Telling) -> dict[str, Any]:
    started, ended, runtime = _times(one, t, submit, how)
    cpu, memory, gpu = (0.0, 0.0, 0.0) if _takes_nothing(one, t) else (t.cpu, t.memory, t.gpu)
    width = one.shape.widths.get(t.task_id, 1) if one.shape and t.map_index < 0 and t.state in _WAITING else 1
    return {
        "task_id": t.name,
        "signature": _signature(one, t, how.source),
        "operator": t.operator,
        "instances": width,
        **dict.fromkeys(KINDS, 0.0),
        "cpu": cpu,
        "memory": memory,
        "gpu": 0.0 if gpu != gpu else gpu,
        "gang": False,
        "hint_s": NAN,
        "ready_at": _ready_at(t, submit, let_in, how),
        "started_at": started,
        "ended_at": ended,
        "runtime_s": runtime,
        **_waits(t, started, how, keeps=t.pool in one.keeping and t.state != "up_for_reschedule"),
    }


def _waits(t: TaskFacts, started: float, how: Telling, *, keeps: bool) -> dict[str, Any]:
    """On what it waits: an Airflow pool until it is queued, from then on a worker.

    A task that comes back from where it waited outside of a worker is queued anew, long after it began: one that did
    not keep its slot has it from then on, and for how long it had one before nobody says.
    """
    slot = NAN if t.state in _WITHOUT_SLOT else t.queued + how.shift_s
    ran = t.started == t.started
    return {
        "slot_at": min(slot, started) if ran and slot == slot and keeps else slot,
        "slot_of": limit_key(Cause.AIRFLOW_POOL, how.source, t.pool) if t.pool else "",
        "slots": float(t.slots),
        "node": t.host if ran else "",
        "placed_at": NAN,
        "attempt": max(t.tries, 1),
        "constraint": "",
        "priority": float(t.weight),
        "freed_at": NAN if keeps or t.state not in _ELSEWHERE else _slept(t, started, how),
        "images": "",
        "known_as": "",
    }


def _slept(t: TaskFacts, started: float, how: Telling) -> float:
    """When a task that sleeps went to sleep; where nobody says, as soon as it had its slot."""
    times = (t.slept if t.slept == t.slept else t.ended, t.queued)
    return max([started, *(x + how.shift_s for x in times if x == x)])


def _signature(one: Seen, t: TaskFacts, source: str) -> str:
    """Path of what it runs; before it has begun, of what it last ran."""
    last = one.shape.ran.get(t.task_id) if one.shape is not None and t.started != t.started else None
    return _path(one.tenant, one.run.dag_id, t.task_id, source, last or t.looks)


@lru_cache(maxsize=65_536)
def _path(*told: str) -> str:
    """Of `Signature.within`: the same tasks come again and again."""
    return Signature.within(*told).path


def _times(one: Seen, t: TaskFacts, submit: float, how: Telling) -> tuple[float, float, float]:
    """(started, ended, runtime): a task that will never run has an end, and no runtime."""
    started, ended = max(t.started + how.shift_s, submit) if t.started == t.started else NAN, t.ended + how.shift_s
    if t.state in _STARTED:
        began = started if started == started else submit
        return began, _cut(one, NAN, began, how), NAN
    if t.state in _WAITING:
        end = _cut(one, NAN, submit, how)
        return end, end, NAN
    end = ended if ended == ended else one.run.ended + how.shift_s
    end = max(x for x in (end, started, submit) if x == x)
    began = started if started == started else end
    return began, end, end - began if t.state == "success" else NAN


def _cut(one: Seen, end: float, begun: float, how: Telling) -> float:
    """A run that is over has nothing that still waits or runs, whatever its tasks say."""
    if not one.run.over:
        return end
    over = one.run.ended + how.shift_s
    return max((x for x in (over, begun) if x == x), default=how.now)


def _takes_nothing(one: Seen, t: TaskFacts) -> bool:
    """Sensors, tasks that wait outside of a worker, tasks without work, tasks that do not start because of a pause."""
    if "Sensor" in t.operator or t.operator in _NOTHING or t.state in _ELSEWHERE:
        return True
    if one.shape is not None and t.task_id in one.shape.asleep:
        return True
    return one.paused and t.state in _WAITING and not one.run.over


def shape_of(shape: DagShape, how: Telling, tenant: str, cron: str) -> Seen:
    """A run of a DAG that never ran, to foresee its first one by."""
    run = RunFacts(shape.dag_id, "as declared", "scheduled", "queued", how.now, NAN, NAN, NAN, NAN, shape.version)
    return Seen(run, (), shape, False, cron, reads_in(shape) or "UTC", tenant, how.now)


# --------------------------------------------------------------------------- edges


def _edges(one: Seen, rows: Sequence[TaskFacts]) -> Iterator[tuple[int, int]]:
    """(parent, child) by position in the run.

    An edge from a task that ended badly to one that may run all the same (its trigger rule says so) is left out. The
    tries of a task follow one another, and the first of them what the task follows.
    """
    first = _first_tries(rows)
    place: dict[str, list[int]] = {}
    for i, t in enumerate(rows):
        if not t.earlier:
            place.setdefault(t.task_id, []).append(i)
        if first[i] != i and t.state not in _WAITING | _STARTED:
            yield i - 1, i
    if one.shape is None:
        return
    rules = {t.task_id: t.rule for t in one.shape.tasks}
    for p, c in edges(one.shape, list(place)):
        for a, b in _pairs(place[p], place[c]):
            bad = rows[a].state in ("failed", "skipped", "upstream_failed")
            if first[b] != b:
                yield a, first[b]
            if not (bad and rules.get(c, "") != "all_success" and rows[b].state in _WAITING | _STARTED):
                yield a, b


def _first_tries(rows: Sequence[TaskFacts]) -> list[int]:
    """(T,) where the first try of each row's task stands."""
    out: list[int] = []
    for i, t in enumerate(rows):
        before = rows[i - 1] if i else t
        again = before.earlier and i > 0 and (before.task_id, before.map_index) == (t.task_id, t.map_index)
        out.append(out[-1] if again else i)
    return out


def _pairs(parents: Sequence[int], children: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Every parent with every child, up to a number of edges."""
    if len(parents) * len(children) <= _MOST_EDGES:
        yield from ((p, c) for c in children for p in parents)
        return
    each = max(_MOST_EDGES // len(children), 1)
    for i, c in enumerate(children):
        yield from ((parents[(i + k) % len(parents)], c) for k in range(min(each, len(parents))))


def _ready(
    tasks: list[dict[str, Any]], first: int, parents: Sequence[int], children: Sequence[int], submit: float
) -> None:
    """Fill in when tasks that have begun could have: when the last of their parents ended, where Airflow is silent."""
    latest: dict[int, float] = {}
    for p, c in zip(reversed(parents), reversed(children), strict=True):
        if c < first:
            break
        latest[c] = max(latest.get(c, submit), tasks[p]["ended_at"])  # a NaN is never larger
    for i in range(first, len(tasks)):
        task = tasks[i]
        if task["ready_at"] != task["ready_at"] and task["started_at"] == task["started_at"]:
            task["ready_at"] = min(latest.get(i, submit), task["started_at"])


def widths(tasks: Mapping[tuple[str, int], TaskFacts]) -> dict[str, int]:
    """How many instances each mapped task has."""
    out: dict[str, int] = {}
    for task_id, index in tasks:
        if index >= 0:
            out[task_id] = out.get(task_id, 0) + 1
    return out
