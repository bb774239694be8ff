"""A run in columns, from what was told of it: by the shape of its DAG where one is known, else by the tasks told of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.contracts import PoolRuns, SeenRuns
from preprov.model.events import Event, EventKind
from preprov.model.resources import KINDS, Resources
from preprov.model.signature_sources import task_signature
from preprov.model.time import epoch
from preprov.model.work import TaskSpec, Trigger
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable

_NAN: Final = float("nan")
QUEUE: Final = "queue"
"""Detail of an event: what routes call the queue of the task."""
SCHEDULED_FOR: Final = "scheduled_for"
"""Detail of an event: the instant that the schedule meant."""


@dataclass(slots=True)
class _Step:
    """A task as told; times in epoch seconds."""

    ready: float = _NAN
    started: float = _NAN
    ended: float = _NAN
    request: Resources | None = None
    instances: int = 1
    queue: str = ""

    def take(self, event: Event) -> None:
        """What happened to it next: a start after an end is a further attempt."""
        at = epoch(event.at)
        self.request = event.request or self.request
        self.instances = max(self.instances, event.instances)
        self.queue = event.details.get(QUEUE, "") or self.queue
        if event.kind is EventKind.FINISHED:
            self.started = self.started if self.started == self.started else at
            self.ended = max(at, self.started)
            return
        self.ended = _NAN
        self.started = at if event.kind is EventKind.STARTED else _NAN
        if self.ready != self.ready or event.kind is EventKind.QUEUED:
            self.ready = at


def from_tasks(told: Mapping[str, Sequence[Event]]) -> SeenRuns:
    """The runs with the tasks that were told of; what follows what is not known.

    Args:
        told: run id, as it is kept -> its events in the order in which they happened, at least one.
    """
    runs, rows, queues, overs = [], [], [], []
    for number, (run_id, events) in enumerate(told.items()):
        first, over = events[0], _ended(events)
        runs.append(_run_row(run_id, events, schedule="", zone="UTC"))
        overs.append(over is not None)
        for task_id, step in _steps(events).items():
            rows.append({"run": number, **_task_row(task_id, step, first, over)})
            queues.append(step.queue)
    none = np.empty(0, dtype=np.int64)
    work = WorkTable(
        pd.DataFrame(runs, columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS),
        pd.DataFrame(rows, columns=list(TASK_COLUMNS)).astype(TASK_COLUMNS),
        none,
        none,
    )
    return SeenRuns(work, np.array(overs), _objects(queues))


def _task_row(task_id: str, step: _Step, first: Event, over: float | None) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "signature": task_signature(TaskSpec(task_id), first.dag_id, first.tenant),
        "operator": "",
        "instances": step.instances,
        **(step.request.as_dict() if step.request else dict.fromkeys(KINDS, _NAN)),
        "gang": False,
        "hint_s": _NAN,
        **_times(step, over),
    }


def from_shape(run_id: str, shape: WorkTable, events: Sequence[Event]) -> PoolRuns:
    """The run as its DAG is described in one pool, with what was told of its tasks.

    Args:
        run_id: as it is kept. shape: one run of the DAG. events: as for `from_tasks`.
    """
    shape = shape.runs_between(0, 1)
    told, over = _steps(events), _ended(events)
    row = shape.runs.iloc[0]
    run = _run_row(run_id, events, schedule=str(row["schedule"]), zone=str(row["zone"]))
    run["priority"] = int(row["priority"])
    followers = set(shape.children.tolist())
    begun = float(run["submit"])
    times = [
        _times(told.get(task_id) or _Step(ready=_NAN if i in followers else begun), over)
        for i, task_id in enumerate(shape.tasks["task_id"])
    ]
    more = {name: np.array([t[name] for t in times], dtype=np.float64) for name in _times(_Step(), None)}
    work = replace(
        shape,
        runs=pd.DataFrame([run], columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS),
        tasks=shape.tasks[list(TASK_COLUMNS)].assign(run=0, **more),
    )
    queues = _objects([(told.get(t) or _Step()).queue for t in shape.tasks["task_id"]])
    own = np.asarray(shape.tasks[list(KINDS)].to_numpy(np.float64).any(axis=1))
    return PoolRuns(SeenRuns(work, np.array([over is not None]), queues), own)


def _steps(events: Iterable[Event]) -> dict[str, _Step]:
    out: dict[str, _Step] = {}
    for e in events:
        if e.task_id:
            out.setdefault(e.task_id, _Step()).take(e)
    return out


def _ended(events: Sequence[Event]) -> float | None:
    """When the run ended, None if it goes on: one that was begun again after its end does."""
    of_run = [e for e in events if not e.task_id]
    last = of_run[-1] if of_run else None
    return epoch(last.at) if last is not None and last.kind is EventKind.FINISHED else None


def _times(step: _Step, over: float | None) -> dict[str, float]:
    """What never ran in a run that is over has an end, and no runtime."""
    started, ended = step.started, step.ended
    if over is not None and ended != ended:
        ended = max(over, started) if started == started else over
        started = started if started == started else ended
        return {"ready_at": step.ready, "started_at": started, "ended_at": ended, "runtime_s": _NAN}
    return {"ready_at": step.ready, "started_at": started, "ended_at": ended, "runtime_s": ended - started}


def _run_row(run_id: str, events: Sequence[Event], *, schedule: str, zone: str) -> dict[str, Any]:
    first = events[0]
    turn = next((t for e in events if (t := _turn(e.details)) is not None), None)
    submit = epoch(first.at)
    return {
        "run_id": run_id,
        "dag_id": first.dag_id,
        "tenant": first.tenant,
        "priority": 0,
        "schedule": schedule,
        "zone": zone,
        "trigger": str(Trigger.MANUAL if turn is None else Trigger.SCHEDULED),
        "scheduled_for": _NAN if turn is None else turn,
        "submit": submit,
        "due": submit,
        "land_by": _NAN,
        "timing": "observed",
    }


def _turn(details: Mapping[str, str]) -> float | None:
    try:
        turn = datetime.fromisoformat(details.get(SCHEDULED_FOR, ""))
    except ValueError:
        return None
    return epoch(turn) if turn.tzinfo is not None else None


def _objects(values: Sequence[str]) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out
