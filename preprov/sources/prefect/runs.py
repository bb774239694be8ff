"""Flow runs into columns: the run itself, which holds its cores and its memory, and the tasks that run within it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.contracts import SeenRuns
from preprov.model.resources import KINDS
from preprov.model.signature import TaskTraits, signature_path
from preprov.model.waits import Cause, limit_key
from preprov.model.work import Trigger
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WAIT_COLUMNS, WorkTable
from preprov.sources.instants import NAN
from preprov.sources.prefect.facts import FlowRun, TaskRun

FLOW: Final = "flow run"
"""Id of the task that stands for the run itself: Prefect's tasks run within what was started for their flow run."""
_FAR_S: Final = 3650 * 86_400.0
"""So long after it was meant to start a run is expected that is held: never."""
_COLUMNS: Final = TASK_COLUMNS | WAIT_COLUMNS


@dataclass(frozen=True)
class Shape:
    """What a run of a DAG looks like, as its last one that ended well did.

    Attributes:
        tasks: names. edges: (parent, child), positions among them. version: of its flow, "" = not told.
    """

    tasks: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    version: str = ""

    def dump(self) -> str:
        """As text."""
        return json.dumps([self.tasks, self.edges, self.version], separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def load(cls, text: str) -> "Shape | None":
        """What `dump` wrote; None if it was something else."""
        try:
            tasks, edges, version = json.loads(text)
            return cls(tuple(map(str, tasks)), tuple((int(p), int(c)) for p, c in edges), str(version))
        except (ValueError, TypeError):
            return None

    @classmethod
    def of(cls, tasks: Sequence[TaskRun], version: str = "") -> "Shape":
        """Inferred from the task runs of one run: whose results each took, and what it waited for."""
        ordered = in_order(tasks)
        place = {t.task_run_id: i for i, (_, t) in enumerate(ordered)}
        edges = ((place[p], place[t.task_run_id]) for _, t in ordered for p in t.parents if p in place)
        return cls(tuple(name for name, _ in ordered), tuple(sorted(edges)), version)


def in_order(tasks: Sequence[TaskRun]) -> list[tuple[str, TaskRun]]:
    """Task runs in the order in which they were made, each by a name of its own: `load`, `load[1]`, and so on."""
    count: dict[str, int] = {}
    out = []
    for t in sorted(tasks, key=lambda t: (t.created, t.task_run_id)):
        number = count.get(t.base, 0)
        count[t.base] = number + 1
        out.append((f"{t.base}[{number}]" if number else t.base, t))
    return out


@dataclass(frozen=True)
class Seen:
    """A flow run with everything that decides how it is told.

    Attributes:
        shape: of its DAG, for a run whose tasks have not been made yet. asks: cores, GiB, GPUs, NaN = not stated.
        pending: when it was let in, NaN = nobody asked. limit: `waits.limit_key`.
        traits: what decides how it behaves, and all tasks within it. image: it is started in; "" = nobody says.
        held: its work pool or queue is paused: no node would help it.
    """

    run: FlowRun
    dag: str
    tasks: tuple[TaskRun, ...]
    shape: Shape | None
    asks: tuple[float, float, float]
    cron: str
    zone: str
    tenant: str
    queue: str
    limit: str
    priority: int
    traits: TaskTraits
    pending: float = NAN
    image: str = ""
    held: bool = False

    @property
    def looks(self) -> object:
        """Changes when anything does by which it is told."""
        how = (
            self.asks,
            self.cron,
            self.zone,
            self.tenant,
            self.priority,
            self.pending,
            self.signature(""),
            self.image,
            self.held,
        )
        return self.run, self.tasks, self.shape, how  # no hash: that of -1 is that of -2

    def signature(self, task: str) -> str:
        """Of a task within it."""
        return signature_path(replace(self.traits, task=task))

    @property
    def submit(self) -> float:
        """When it could be known: one of a schedule, when it was due, for the schedule itself is known before."""
        run = self.run
        return max(run.created, run.expected) if run.auto and run.expected == run.expected else run.created

    @property
    def due(self) -> float:
        """Not before this; far off where nobody lets it in."""
        due = max(self.submit, self.run.expected) if self.run.expected == self.run.expected else self.submit
        return due + _FAR_S if self.held else due


def limit_of(source: str, pool: str, queue: str, limited: frozenset[tuple[str, str]]) -> str:
    """What a run's slot is of: its work queue where that is limited, else its work pool."""
    if (pool, queue) in limited:
        return limit_key(Cause.WORK_QUEUE, source, f"{pool}/{queue}")
    return limit_key(Cause.WORK_POOL, source, pool) if pool else ""


def table(seen: Sequence[Seen]) -> SeenRuns:
    """The runs in columns."""
    if not seen:
        return SeenRuns.empty()
    rows: list[dict[str, Any]] = []
    edges: list[tuple[int, int]] = []
    for number, one in enumerate(seen):
        first = len(rows)
        rows.append({"run": number, **_flow_row(one)})
        rows.extend({"run": number, **row} for row in _task_rows(one))
        edges.extend((first + 1 + p, first + 1 + c) for p, c in _edges(one))
        _ready(rows, first, edges, one)
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    work = WorkTable(
        pd.DataFrame([_run_row(one) for one in seen], columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS),
        pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS),
        ends[:, 0].copy(),
        ends[:, 1].copy(),
    )
    queues = np.array([seen[r["run"]].queue for r in rows], dtype=object)
    return SeenRuns(work, np.array([s.run.over for s in seen], dtype=bool), queues)


def _run_row(one: Seen) -> tuple[Any, ...]:
    run = one.run
    return (
        run.run_id,
        one.dag,
        one.tenant,
        one.priority,
        one.cron,
        one.zone,
        str(Trigger.SCHEDULED if run.auto else Trigger.MANUAL),
        run.expected if run.auto else NAN,
        one.submit,
        one.due,
        NAN,
        "observed",
    )


def _row(name: str, signature: str, **more: Any) -> dict[str, Any]:
    plain = {
        "task_id": name,
        "signature": signature,
        "operator": "prefect",
        "instances": 1,
        **dict.fromkeys(KINDS, 0.0),
        "gang": False,
        "hint_s": NAN,
        **dict.fromkeys(("ready_at", "started_at", "ended_at", "runtime_s"), NAN),
        **dict.fromkeys(("slot_at", "placed_at", "freed_at", "priority"), NAN),
        "slot_of": "",
        "slots": 1.0,
        "node": "",
        "attempt": 0,
        "constraint": "",
        "images": "",
        "known_as": "",
    }
    return {**plain, **more}


def _flow_row(one: Seen) -> dict[str, Any]:
    run = one.run
    cpu, memory, gpu = one.asks
    started, ended = _span(run.started, run.ended, run, one)
    return _row(
        FLOW,
        one.signature(FLOW),
        cpu=cpu,
        memory=memory,
        gpu=0.0 if gpu != gpu else gpu,
        ready_at=one.due if run.started == run.started else NAN,
        started_at=started,
        ended_at=ended,
        runtime_s=run.ended - run.started if run.state == "COMPLETED" and run.started == run.started else NAN,
        slot_at=one.pending,
        slot_of=one.limit,
        node=run.host if run.started == run.started else "",
        attempt=max(run.runs, 1),
        images=one.image,
    )


def _task_rows(one: Seen) -> Iterator[dict[str, Any]]:
    """Tasks take nothing: what they need was asked for by their flow run; nor do they wait for a place of their own."""
    if not one.tasks and not one.run.over:
        for name in one.shape.tasks if one.shape else ():
            yield _row(name, one.signature(name.partition("[")[0]))
        return
    for name, t in in_order(one.tasks):
        started, ended = _span(t.started, t.ended, one.run, one)
        done = t.state == "COMPLETED" and t.started == t.started and t.ended == t.ended
        yield _row(
            name,
            one.signature(t.base),
            started_at=started,
            ended_at=ended,
            runtime_s=t.ended - t.started if done else NAN,
        )


def _span(started: float, ended: float, run: FlowRun, one: Seen) -> tuple[float, float]:
    """(start, end); what belongs to a run that is over has both, of no length if it never ran."""
    if not run.over:
        return started, max(ended, started) if ended == ended and started == started else ended
    last = max((x for x in (ended if ended == ended else run.ended, started, one.submit) if x == x), default=one.submit)
    return (started if started == started else last), last


def _edges(one: Seen) -> tuple[tuple[int, int], ...]:
    if not one.tasks and not one.run.over:
        return one.shape.edges if one.shape else ()
    return Shape.of(one.tasks).edges


def _ready(rows: list[dict[str, Any]], first: int, edges: Sequence[tuple[int, int]], one: Seen) -> None:
    """When tasks that have begun could have: as the run began, or the last of their parents ended."""
    latest: dict[int, float] = {}
    for p, c in reversed(edges):
        if c < first:
            break
        latest[c] = max(latest.get(c, one.submit), rows[p]["ended_at"])  # a NaN is never larger
    for i in range(first + 1, len(rows)):
        began = rows[i]["started_at"]
        if began == began:
            since = one.run.started if one.run.started == one.run.started else one.submit
            rows[i]["ready_at"] = min(max(latest.get(i, since), since), began)


def shapes_of(shapes: Mapping[str, Seen]) -> SeenRuns:
    """A run for each DAG, to foresee its next ones by."""
    return table([shapes[d] for d in sorted(shapes)])
