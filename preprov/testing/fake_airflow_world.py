"""What there is in an Airflow that is not there, and how it comes about: DAGs, runs, task instances, assets.

Instants are epoch seconds of the clock it is given; it is ahead of that by `skew_s`.
"""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from preprov.contracts import Clock

Json = dict[str, Any]


@dataclass
class FakeTask:
    """A task instance; `before`: its tries that are over, as they ended; `again`: another one is about to begin."""

    task_id: str
    map_index: int = -1
    state: str | None = None
    scheduled: float | None = None
    queued: float | None = None
    start: float | None = None
    end: float | None = None
    tries: int = 0
    queue: str = "default"
    pool: str = "default_pool"
    pool_slots: int = 1
    priority_weight: int = 1
    hostname: str = ""
    operator: str = "PythonOperator"
    executor_config: str = "{}"
    rendered: Json = field(default_factory=dict)
    slept: float | None = None
    updated: float = 0.0
    number: int = 0
    again: bool = False
    before: list["FakeTask"] = field(default_factory=list)


@dataclass
class FakeRun:
    """A DAG run."""

    dag_id: str
    run_id: str
    number: int
    kind: str = "manual"
    state: str = "queued"
    queued: float = 0.0
    turn: float | None = None
    start: float | None = None
    end: float | None = None
    version: int = 1
    bundle: str | None = None
    tasks: dict[tuple[str, int], FakeTask] = field(default_factory=dict)


@dataclass
class FakeDag:
    """A DAG: tasks as (task id, children, settings); `timetable` as API v2 sums it up, `interval` as v1 tells it."""

    dag_id: str
    tasks: Sequence[tuple[str, Sequence[str], Mapping[str, Any]]]
    timetable: str = "None"
    interval: Json | None = None
    zone: str = "UTC"
    paused: bool = False
    next_run: float | None = None
    max_active_runs: int = 16
    max_active_tasks: int = 16
    owner: str = "airflow"
    version: int = 1
    bundle: str | None = None
    end_date: float | None = None
    condition: Json | None = None


@dataclass
class FakeAsset:
    """An asset: tasks that make it, DAGs that begin because of it."""

    uri: str
    makers: Sequence[tuple[str, str]] = ()
    dags: Sequence[str] = ()
    aliases: Sequence[str] = ()


class AirflowWorld:
    """DAGs and their runs, as somebody writes DAGs and a scheduler runs them."""

    def __init__(self, clock: Clock) -> None:
        """Nothing in it yet."""
        self._clock = clock
        self.dags: dict[str, FakeDag] = {}
        self.runs: dict[tuple[str, str], FakeRun] = {}
        self.variables: dict[str, str] = {}
        self.pools: dict[str, int] = {"default_pool": 128}
        self.deferring: set[str] = set()
        self.assets: list[FakeAsset] = []
        self.skew_s = 0.0
        self._number = 0
        self._ends: list[tuple[float, int, FakeRun]] = []
        self._open: dict[int, FakeRun] = {}
        self._changes: list[tuple[float, int, FakeRun, FakeTask]] = []
        self._in_order = True

    def now(self) -> float:
        """Its own time."""
        return self._clock.now().timestamp() + self.skew_s

    def add_dag(self, dag: FakeDag) -> FakeDag:
        """Deploy a DAG."""
        self.dags[dag.dag_id] = dag
        return dag

    def start_run(
        self, dag_id: str, run_id: str, *, kind: str = "manual", turn: float | None = None, at: float | None = None
    ) -> FakeRun:
        """A run is made, with its tasks."""
        at = self.now() if at is None else at
        dag = self.dags[dag_id]
        run = FakeRun(dag_id, run_id, self._next(), kind, "queued", at, turn, version=dag.version, bundle=dag.bundle)
        for task_id, _, settings in dag.tasks:
            self._add_task(run, FakeTask(task_id, **settings), at)
        self.runs[dag_id, run_id] = run
        self._open[run.number] = run
        return run

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _add_task(self, run: FakeRun, task: FakeTask, at: float) -> None:
        task.number = self._next()
        run.tasks[task.task_id, task.map_index] = task
        self.touch(run, task, at)

    def touch(self, run: FakeRun, task: FakeTask, at: float | None = None) -> None:
        """A task changed."""
        task.updated = self.now() if at is None else at
        self._in_order &= not self._changes or self._changes[-1][0] <= task.updated
        self._changes.append((task.updated, self._next(), run, task))

    def set_task(
        self, run: FakeRun, task_id: str, state: str | None, *, at: float | None = None, index: int = -1
    ) -> FakeTask:
        """A task comes to a state, with the times that go with it."""
        at = self.now() if at is None else at
        task = run.tasks[task_id, index]
        if task.state == "up_for_retry" and state != task.state:
            task.tries, task.again = task.tries + 1, True  # its times are those of the try before until it runs
        task.state = state
        task.slept = at if state == "deferred" else None
        if state == "scheduled":
            task.scheduled = at
        elif state == "queued":
            task.queued = at
            task.tries += task.start is None  # what comes back from where it slept is no further try
        elif state in ("running", "deferred"):
            task.start = at if task.start is None or task.again else task.start
            task.end, task.again = None if task.again else task.end, False
            if run.state == "queued":
                run.state, run.start = "running", at
        elif state in ("success", "failed", "skipped", "upstream_failed"):
            task.start = at if task.start is None and state != "upstream_failed" else task.start
            task.end = at
        elif state == "up_for_retry":
            task.end = at
            self._record(task, "failed")
        self.touch(run, task, at)
        return task

    def _record(self, task: FakeTask, state: str | None) -> None:
        """A try is over, and there will be another."""
        task.before.append(replace(task, state=state, before=[]))

    def begin_run(self, run: FakeRun, at: float | None = None) -> None:
        """A run is let in: its DAG has few enough of them active."""
        run.state, run.start = "running", self.now() if at is None else at

    def expand(self, run: FakeRun, task_id: str, width: int) -> None:
        """A mapped task gets its instances."""
        first = run.tasks.pop((task_id, -1))
        for i in range(width):
            self._add_task(run, replace(first, map_index=i, before=[]), self.now())

    def end_run(self, run: FakeRun, state: str = "success", at: float | None = None) -> None:
        """A run is over."""
        at = self.now() if at is None else at
        run.state, run.end, run.start = state, at, run.start if run.start is not None else at
        self._open.pop(run.number, None)
        insort(self._ends, (at, run.number, run), key=lambda e: e[:2])

    def play(self, run: FakeRun, seconds: float = 10.0, at: float | None = None) -> None:
        """Every task of it in turn, each for so long, from an instant on; it is then over."""
        at = self.now() if at is None else at
        for task_id, index in list(run.tasks):
            for state in ("scheduled", "queued", "running"):
                self.set_task(run, task_id, state, at=at, index=index)
            at += seconds
            self.set_task(run, task_id, "success", at=at, index=index)
        self.end_run(run, at=at)

    def clear(self, run: FakeRun, task_ids: Iterable[str]) -> None:
        """Tasks of it are to run once more."""
        self._ends = [e for e in self._ends if e[2] is not run]
        run.state, run.end, run.start, run.queued = "queued", None, None, self.now()
        self._open[run.number] = run
        for task in run.tasks.values():
            if task.task_id in task_ids:
                if task.start is not None:
                    self._record(task, task.state)
                task.state = task.start = task.end = task.scheduled = task.queued = None
                self.touch(run, task)

    def delete_run(self, key: tuple[str, str]) -> None:
        """A run is deleted."""
        run = self.runs.pop(key)
        self._open.pop(run.number, None)
        self._ends = [e for e in self._ends if e[2] is not run]
        self._changes = [c for c in self._changes if c[2] is not run]

    def delete_dag(self, dag_id: str) -> None:
        """A DAG is deleted with all its runs."""
        self.dags.pop(dag_id, None)
        for key in [k for k in self.runs if k[0] == dag_id]:
            self.delete_run(key)
