"""WorkTable: many DAG runs and their tasks in columns, and the one place where the future is hidden.

Times are seconds since the epoch (UTC) as float64, NaN where not known; that is an aware instant by construction.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import WorkError
from preprov.model.resources import KINDS
from preprov.model.time import epoch

if TYPE_CHECKING:
    import pandas as pd

Array: TypeAlias = NDArray[Any]

RUN_COLUMNS: Final = {
    "run_id": "object",  # unique within a pool
    "dag_id": "object",
    "tenant": "object",
    "priority": "int64",
    "schedule": "object",  # cron as declared, "" if none
    "zone": "object",  # zone of the cron
    "trigger": "object",  # model.work.Trigger
    "scheduled_for": "float64",  # the instant the cron meant
    "submit": "float64",  # when the system could first know of this run
    "due": "float64",  # roots start not before this; = submit if nothing else was said
    "land_by": "float64",
    "timing": "object",  # "nominal": times are as if nothing waited; "observed": times happened
}
TASK_COLUMNS: Final = {
    "run": "int64",  # position of its run in `runs`
    "task_id": "object",  # unique within its run
    "signature": "object",  # what decides its behaviour; history is grouped by it
    "operator": "object",
    "instances": "int64",
    **{k: "float64" for k in KINDS},  # of ONE instance
    "gang": "bool",
    "hint_s": "float64",  # runtime as requested or believed at submit
    "ready_at": "float64",  # all parents ended (nominal: computed as if nothing waited)
    "started_at": "float64",  # observed start; NaN if it was never seen
    "ended_at": "float64",  # observed end; NaN if it was never seen
    "runtime_s": "float64",  # true runtime; known to the system only once the task ended
}
WAIT_COLUMNS: Final = {
    "slot_at": "float64",  # when it had passed every limit; NaN = nobody says
    "slot_of": "object",  # `waits.limit_key` of what its slot is of, or of what it was last said to wait for; "" = none
    "slots": "float64",  # how many of them it takes
    "node": "object",  # where it ran, as its place calls that; "" = nobody says
    "placed_at": "float64",  # when a node that was up was given to it, where its place says so; NaN = nobody says
    "attempt": "int64",  # which of its attempts the times are of; 0 = nobody says, or it belongs to another pool
    "constraint": "object",  # of the features of its node, as `planning.features` reads it; "" = none
    "freed_at": "float64",  # when it gave its slot back before its end, to go on elsewhere; NaN = it has it to its end
    "priority": "float64",  # among tasks that want the same slots, where these are given by task; NaN = as its run
    "images": "object",  # container images it runs in, as its place names them, a space between; "" = nobody says
    "known_as": "object",  # what samples of its use may be named by, besides RUN/TASK#0, a space between; "" = nothing
}
"""Further columns of tasks, all of them or none: what a task waits on, told by places that have their own limits."""
NOT_TOLD: Final = {
    "slot_at": np.nan,
    "slot_of": "",
    "slots": 1.0,
    "node": "",
    "placed_at": np.nan,
    "attempt": 0,
    "constraint": "",
    "freed_at": np.nan,
    "priority": np.nan,
    "images": "",
    "known_as": "",
}
DONE, RUNNING, READY, PENDING = 3, 2, 1, 0


@dataclass(frozen=True)
class WorkTable:
    """Runs, tasks, and the edges between tasks.

    Attributes:
        runs: (R rows) columns RUN_COLUMNS, default index.
        tasks: (T rows) columns TASK_COLUMNS, perhaps WAIT_COLUMNS, default index, grouped by run in ascending order.
        parents: (E,) int64, position of the parent task.
        children: (E,) int64, position of the child task.
        known_at: epoch seconds; nothing here is of later than this (see `as_of`). None = nobody cut it.

    Raises:
        WorkError: a column is missing or an edge or run position is out of range.
    """

    runs: "pd.DataFrame"
    tasks: "pd.DataFrame"
    parents: Array
    children: Array
    known_at: float | None = None

    def __post_init__(self) -> None:
        for frame, columns, name in ((self.runs, RUN_COLUMNS, "runs"), (self.tasks, TASK_COLUMNS, "tasks")):
            missing = [c for c in columns if c not in frame.columns]
            if missing:
                raise WorkError(f"{name} lacks column {', '.join(missing)}")
        if len(self.parents) != len(self.children):
            raise WorkError("edges: parents and children differ in length")
        for ends in (self.parents, self.children):
            if len(ends) and (ends.min() < 0 or ends.max() >= len(self.tasks)):
                raise WorkError("edges: a position is out of range")
        run = self.tasks["run"].to_numpy()
        if len(run) and not 0 <= run.min() <= run.max() < len(self.runs):
            raise WorkError("tasks: a run position is out of range")

    @classmethod
    @cache
    def empty(cls) -> "WorkTable":
        """No work."""
        import pandas as pd

        runs = pd.DataFrame({c: pd.Series(dtype=t) for c, t in RUN_COLUMNS.items()})
        tasks = pd.DataFrame({c: pd.Series(dtype=t) for c, t in TASK_COLUMNS.items()})
        none = np.empty(0, dtype=np.int64)
        return cls(runs, tasks, none, none)

    @classmethod
    def concat(cls, tables: "list[WorkTable]") -> "WorkTable":
        """The tables one after the other, positions shifted."""
        import pandas as pd

        tables = [t for t in tables if len(t.runs)]
        if not tables:
            return cls.empty()
        if len(tables) == 1:
            return tables[0]
        if len({t.tells_waits for t in tables}) > 1:
            tables = [t.with_waits() for t in tables]
        run_at = np.cumsum([0, *(len(t.runs) for t in tables)])
        task_at = np.cumsum([0, *(len(t.tasks) for t in tables)])
        return cls(
            pd.concat([t.runs for t in tables], ignore_index=True),
            pd.concat(
                [t.tasks.assign(run=t.tasks["run"] + o) for t, o in zip(tables, run_at, strict=False)],
                ignore_index=True,
            ),
            np.concatenate([t.parents + o for t, o in zip(tables, task_at, strict=False)]),
            np.concatenate([t.children + o for t, o in zip(tables, task_at, strict=False)]),
        )

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def tells_waits(self) -> bool:
        """True if its tasks have WAIT_COLUMNS."""
        return "slot_at" in self.tasks.columns

    def with_waits(self) -> "WorkTable":
        """With WAIT_COLUMNS: what nobody told stands there as such."""
        if self.tells_waits:
            return self
        blank = {c: np.full(len(self.tasks), NOT_TOLD[c], dtype=kind) for c, kind in WAIT_COLUMNS.items()}
        return replace(self, tasks=self.tasks.assign(**blank))

    def select_runs(self, keep: Array) -> "WorkTable":
        """The runs where `keep` (R,) bool is true, with their tasks and edges."""
        if keep.all():
            return self
        chosen = np.flatnonzero(keep)
        if len(chosen) and chosen[-1] - chosen[0] == len(chosen) - 1:
            return self.runs_between(int(chosen[0]), int(chosen[-1]) + 1)
        task_keep = keep[self.tasks["run"].to_numpy()]
        new_run = np.cumsum(keep) - 1
        new_task = np.cumsum(task_keep) - 1
        tasks = self.tasks[task_keep].reset_index(drop=True)
        tasks["run"] = new_run[tasks["run"].to_numpy()]
        edge = task_keep[self.parents]  # an edge never leaves its run
        return WorkTable(
            self.runs[keep].reset_index(drop=True),
            tasks,
            new_task[self.parents[edge]],
            new_task[self.children[edge]],
            self.known_at,
        )

    def runs_between(self, first: int, last: int) -> "WorkTable":
        """Runs first..last-1 with their tasks and edges; the frames are views of this table's."""
        import pandas as pd

        t0, t1 = np.searchsorted(self.tasks["run"].to_numpy(), [first, last]).tolist()
        runs, tasks = self.runs.iloc[first:last], self.tasks.iloc[t0:t1]
        if first:
            runs.index, tasks.index = pd.RangeIndex(len(runs)), pd.RangeIndex(len(tasks))
            tasks = tasks.copy(deep=False)
            tasks["run"] = tasks["run"].to_numpy() - first
        inside = (self.children >= t0) & (self.children < t1)  # an edge never leaves its run
        return WorkTable(runs, tasks, self.parents[inside] - t0, self.children[inside] - t0, self.known_at)

    def spans(self) -> tuple[Array, Array]:
        """(start, end) of each task on its run's own timing, NaN where not known.

        Nominal timing: start = ready_at, end = ready_at + runtime_s. Observed: started_at, ended_at.
        Not to be written to: they are worked out once.
        """
        return self._spans

    @cached_property
    def _spans(self) -> tuple[Array, Array]:
        t, nominal = self.tasks, self._nominal
        ready = t["ready_at"].to_numpy()
        start = np.where(nominal, ready, t["started_at"].to_numpy())
        end = np.where(nominal, ready + t["runtime_s"].to_numpy(), t["ended_at"].to_numpy())
        return start, end

    @cached_property
    def _nominal(self) -> Array:
        """(T,) bool: tasks of runs with nominal timing."""
        of_run = self.runs["timing"].to_numpy(dtype=object) == "nominal"
        of_task: Array = of_run[self.tasks["run"].to_numpy()]
        return of_task

    def as_of(self, at: datetime) -> "WorkTable":
        """What could be known at `at`: the only way history reaches a forecast.

        Runs submitted after `at` are gone. Of the rest, a start, an end or a ready time after `at` becomes NaN, and
        the runtime of a task that had not ended by `at` becomes NaN, whatever the trace says of it.
        """
        now = epoch(at)
        if self.known_at is not None and self.known_at <= now:
            return self
        known = self.select_runs((self.runs["submit"] <= now).to_numpy())
        _, end = known.spans()
        tasks = known.tasks.copy(deep=False)  # columns that say nothing of times are shared: history is long
        tasks["runtime_s"] = np.where(end <= now, tasks["runtime_s"].to_numpy(), np.nan)
        of_waits = ("slot_at", "placed_at", "freed_at") if known.tells_waits else ()
        for column in ("ready_at", "started_at", "ended_at", *of_waits):
            times = tasks[column].to_numpy()
            tasks[column] = np.where(times <= now, times, np.nan)
        if known.tells_waits:
            tasks["node"] = np.where(np.isnan(tasks["started_at"].to_numpy()), "", tasks["node"].to_numpy(object))
        out = WorkTable(known.runs, tasks, known.parents, known.children, now)
        out.__dict__["_nominal"] = known._nominal
        return out

    def states(self, at: datetime) -> Array:
        """(T,) int8: DONE, RUNNING, READY (could run, does not) or PENDING at `at`, of a table seen `as_of(at)`."""
        now = epoch(at)
        start, end = self.spans()
        out = np.full(len(self.tasks), PENDING, dtype=np.int8)
        out[self.tasks["ready_at"].to_numpy() <= now] = READY
        out[start <= now] = RUNNING
        out[end <= now] = DONE
        return out


def nominal_ready(due: Array, runtime: Array, run: Array, parents: Array, children: Array) -> Array:
    """Ready time of each task if nothing waited: due of its run, or the latest end of its parents.

    Vectorised over tasks, one pass per level of the DAG (Kahn by generations).

    Args:
        due: (R,) epoch s.
        runtime: (T,) or (T, S) s.
        run: (T,) run of each task.
        parents: (E,) position of the parent of each edge.
        children: (E,) position of the child of each edge.

    Returns:
        (T,) or (T, S) epoch s.

    Raises:
        WorkError: the edges contain a cycle.
    """
    shape = runtime.shape
    ready = np.broadcast_to(due[run].reshape(-1, *([1] * (runtime.ndim - 1))), shape).astype(np.float64)
    for edges in edge_levels(len(run), parents, children):
        p, c = parents[edges], children[edges]
        np.maximum.at(ready, c, ready[p] + runtime[p])
    return ready


def edge_levels(n_tasks: int, parents: Array, children: Array) -> list[Array]:
    """Edges grouped so that all edges INTO a task come before any edge OUT of it.

    Returns:
        list of (k,) positions into the edge arrays, by depth of the parent.

    Raises:
        WorkError: the edges contain a cycle.
    """
    if not len(parents):
        return []
    order = np.argsort(parents, kind="stable")
    start = np.searchsorted(parents[order], np.arange(n_tasks + 1))
    waiting = np.bincount(children, minlength=n_tasks)
    frontier = np.flatnonzero(waiting == 0)
    levels, seen = [], 0
    while len(frontier):
        lo, hi = start[frontier], start[frontier + 1]
        counts = hi - lo
        total = int(counts.sum())
        if total == 0:
            break
        flat = np.repeat(lo - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(total)
        edges = order[flat]
        levels.append(edges)
        seen += total
        c = children[edges]
        np.subtract.at(waiting, c, 1)
        c = np.sort(c[waiting[c] == 0])  # sorted and compared by hand: np.unique takes five times as long here
        frontier = c[np.diff(c, prepend=-1) != 0]
    if seen != len(parents):
        stuck = np.flatnonzero(waiting > 0)
        raise WorkError(f"the edges contain a cycle among {len(stuck)} tasks", where=f"task position {stuck[0]}")
    return levels
