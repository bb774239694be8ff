"""What a DAG is made of: tasks, what follows what, its zone. Kept in the source's notebook: asking costs requests."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from preprov.model.signature import Signature
from preprov.model.signature_sources import airflow
from preprov.sources.airflow.client import AirflowClient
from preprov.sources.instants import seconds
from preprov.sources.text import clean

PREFIX = "dag:"


@dataclass(frozen=True)
class TaskShape:
    """A task of a DAG.

    Attributes:
        children: ids of tasks that follow it. rule: its trigger rule. mapped: how many instances is decided by a run.
        pool, slots: Airflow pool, and how many of its slots; "" = not told.
    """

    task_id: str
    children: tuple[str, ...]
    rule: str
    queue: str
    operator: str
    mapped: bool
    weight: int
    pool: str = ""
    slots: int = 1


@dataclass(frozen=True)
class DagShape:
    """A DAG.

    Attributes:
        version: of its code, as runs name it; "" = API v1, which counts none.
        read_at: when it was asked for, epoch seconds.
        zone: of its timetable. ends: no turns after, NaN = they go on.
        since: the instant from which its timetable holds, NaN = nobody saw it change. timetable: what it was then.
        widths: how many instances its mapped tasks had in the last run that was seen whole.
        asleep: tasks that were seen to wait outside of a worker (deferred).
        code: version of its code as task instances name it, "" = not told.
        ran: task -> digest of what it ran when it last did (`TaskFacts.looks`).
        waits_for: JSON of the condition of assets on which it begins, "" = not told.
        clock: zone its crons are read in, where its next run betrays another than `zone` (`clocks`); "" = none does.
    """

    dag_id: str
    version: str
    read_at: float
    zone: str
    tasks: tuple[TaskShape, ...]
    ends: float = float("nan")
    since: float = float("nan")
    timetable: str = ""
    widths: Mapping[str, int] = field(default_factory=dict)
    asleep: frozenset[str] = frozenset()
    code: str = ""
    ran: Mapping[str, str] = field(default_factory=dict)
    waits_for: str = ""
    clock: str = ""

    def looks(self, task: TaskShape) -> str:
        """Digest of what a task that has not begun is going to run: what it last ran, else what is declared of it."""
        told = {"dag_id": self.dag_id, "task_id": task.task_id, "operator": task.operator, "queue": task.queue}
        version = {"dag_version": {"version_number": self.code}}
        return self.ran.get(task.task_id) or Signature.of(airflow(told | version)).digest

    def dump(self) -> str:
        """As text."""
        tasks = [
            [t.task_id, list(t.children), t.rule, t.queue, t.operator, int(t.mapped), t.weight, t.pool, t.slots]
            for t in self.tasks
        ]
        times = [self.read_at, self.zone, self.ends, self.since, self.timetable]
        head = [self.version, *times, self.code, self.waits_for, self.clock]
        seen = [dict(self.widths), sorted(self.asleep), dict(self.ran)]
        return json.dumps([head, tasks, *seen], separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def load(cls, dag_id: str, text: str) -> "DagShape | None":
        """What `dump` wrote; None if it was something else (of an earlier preprov)."""
        try:
            head, tasks, widths, asleep, ran = json.loads(text)
            version, read_at, zone, ends, since, timetable, code, *more = head
            shapes = tuple(
                TaskShape(task_id, tuple(children), rule, queue, operator, bool(mapped), int(weight), *place)
                for task_id, children, rule, queue, operator, mapped, weight, *place in tasks
            )
        except (ValueError, TypeError):
            return None
        if any(not t.pool for t in shapes):
            version = ""  # of an earlier preprov: it is asked for again within a day
        seen = (widths, frozenset(asleep), code, ran, *more)
        return cls(dag_id, version, read_at, zone, shapes, ends, since, timetable, *seen)


def ask(client: AirflowClient, dag_id: str, now: float, version: str) -> DagShape | None:
    """Ask Airflow for a DAG (two requests); None if it is not there any more."""
    from urllib.parse import quote

    place = f"dags/{quote(dag_id, safe='')}"
    details = client.get(f"{place}/details")
    tasks = client.get(f"{place}/tasks") if details is not None else None
    if details is None or tasks is None:
        return None
    newest = details.get("latest_dag_version") or {}
    latest = newest.get("version_number", "")
    condition = details.get("asset_expression") or details.get("dataset_expression")
    found = tuple(_task(t) for t in tasks.get("tasks") or () if isinstance(t, Mapping) and t.get("task_id"))
    return DagShape(
        dag_id=dag_id,
        version=str(latest) or version,
        read_at=now,
        zone=str(details.get("timezone") or "UTC"),
        tasks=found,
        ends=seconds(details.get("end_date")),
        code=str(newest.get("bundle_version") or latest),
        waits_for=json.dumps(condition) if condition else "",
    )


def _task(t: Mapping[str, Any]) -> TaskShape:
    kind = t.get("class_ref") or {}
    return TaskShape(
        task_id=clean(t["task_id"]),
        children=tuple(clean(c) for c in t.get("downstream_task_ids") or ()),
        rule=str(t.get("trigger_rule") or "all_success"),
        queue=clean(t.get("queue")),
        operator=clean(t.get("operator_name") or kind.get("class_name")),
        mapped=bool(t.get("is_mapped")),
        weight=int(t.get("priority_weight") or 0),
        pool=clean(t.get("pool")),
        slots=int(t.get("pool_slots") or 1),
    )


def from_notebook(notebook: Mapping[str, str]) -> dict[str, DagShape]:
    """All that were kept."""
    found = (DagShape.load(key[len(PREFIX) :], text) for key, text in notebook.items() if key.startswith(PREFIX))
    return {shape.dag_id: shape for shape in found if shape is not None}


def edges(shape: DagShape, task_ids: Sequence[str]) -> Iterable[tuple[str, str]]:
    """(parent, child) among these tasks."""
    known = set(task_ids)
    for task in shape.tasks:
        if task.task_id in known:
            yield from ((task.task_id, child) for child in task.children if child in known)
