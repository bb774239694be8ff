"""A place where work lives that is nothing but a list: the smallest source there can be, and what tests read."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from preprov.contracts import Finding, Progress, Reject, SeenRuns, SourceState, SyncBatch
from preprov.model.errors import SourceUnavailableError
from preprov.model.time import epoch
from preprov.model.work import Schedule, Trigger
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable
from preprov.testing.store_examples import T0

_NAN = float("nan")


@dataclass
class ListedRun:
    """A run of a chain of tasks. Times in epoch seconds.

    Attributes:
        tasks: (name, queue, cpu), first to last; cpu NaN = it does not say.
        changed: when anything last happened to it.
    """

    run_id: str
    dag_id: str
    submit: float
    tasks: tuple[tuple[str, str, float], ...] = (("a", "", _NAN), ("b", "", _NAN))
    tenant: str = "default"
    ended: float | None = None
    changed: float = 0.0


@dataclass
class ListedPlace:
    """Implements `live_source_contract.Place`; reading one run is one request."""

    name: str = "listed"
    runs: dict[str, ListedRun] = field(default_factory=dict)
    schedules: tuple[Schedule, ...] = ()
    at: datetime = T0
    answers: int | None = None
    notes: tuple[str, ...] = ()
    rejects: tuple[Reject, ...] = ()

    def source(self) -> "ListedSource":
        """A reader of it."""
        return ListedSource(self)

    def now(self) -> datetime:
        """What time it is."""
        return self.at

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.at += timedelta(seconds=seconds)

    def start(self, count: int, *, names: tuple[str, ...] = ()) -> list[str]:
        """So many new runs."""
        made = []
        for i in range(count):
            dag_id = names[i % len(names)] if names else f"dag-{i % 3}"
            run = ListedRun(f"{dag_id}/{len(self.runs)}", dag_id, epoch(self.at), changed=epoch(self.at))
            self.runs[run.run_id] = run
            made.append(run.run_id)
        return made

    def add(self, run: ListedRun) -> None:
        """A run as you want it."""
        run.changed = epoch(self.at)
        self.runs[run.run_id] = run

    def finish(self, run_id: str) -> None:
        """It ends well, now."""
        self.runs[run_id].ended = self.runs[run_id].changed = epoch(self.at)

    def delete(self, run_id: str) -> None:
        """It is gone."""
        del self.runs[run_id]

    def fail_after(self, requests: int | None) -> None:
        """Answer so many requests more, then none."""
        self.answers = requests

    def ask(self) -> None:
        """One request."""
        if self.answers is not None:
            if self.answers <= 0:
                raise SourceUnavailableError("the list does not answer", where=self.name, hint="wait")
            self.answers -= 1


@dataclass
class ListedSource:
    """Implements `contracts.LiveSource`."""

    place: ListedPlace
    zone: str = "UTC"

    @property
    def key(self) -> str:
        """Its name."""
        return self.place.name

    def changes(self, state: SourceState, now: datetime, progress: Progress | None = None) -> Iterator[SyncBatch]:
        """Runs that changed since the cursor, one a batch, by when they changed."""
        since = json.loads(state.cursor) if state.cursor else -1.0
        self.place.ask()
        for run in sorted(self.place.runs.values(), key=lambda r: (r.changed, r.run_id)):
            if run.changed >= since:
                self.place.ask()
                yield SyncBatch(runs=seen([run]), cursor=json.dumps(run.changed))
        self.place.ask()
        yield SyncBatch(
            gone=tuple(r.run_id for r in state.open if r.run_id not in self.place.runs),
            schedules=self.place.schedules,
            notes=self.place.notes,
            rejects=self.place.rejects,
            cursor=json.dumps(max([since, *(r.changed for r in self.place.runs.values())])),
        )

    def examine(self) -> tuple[Finding, ...]:
        """Whether it answers."""
        try:
            self.place.ask()
        except SourceUnavailableError as error:
            return (Finding("address", "bad", error.what, error.hint),)
        return (Finding("runs", "ok", f"{len(self.place.runs)} to be seen"),)


def seen(runs: list[ListedRun]) -> SeenRuns:
    """The runs as they are."""
    tasks = [(i, *t) for i, r in enumerate(runs) for t in r.tasks]
    run = np.array([t[0] for t in tasks], dtype=np.int64)
    ended = np.array([_NAN if r.ended is None else r.ended for r in runs])
    submit = np.array([r.submit for r in runs])
    rows = {
        "run_id": [r.run_id for r in runs],
        "dag_id": [r.dag_id for r in runs],
        "tenant": [r.tenant for r in runs],
        "priority": 0,
        "schedule": "",
        "zone": "UTC",
        "trigger": str(Trigger.MANUAL),
        "scheduled_for": _NAN,
        "submit": submit,
        "due": submit,
        "land_by": _NAN,
        "timing": "observed",
    }
    columns = {
        "run": run,
        "task_id": [t[1] for t in tasks],
        "signature": [f"{runs[t[0]].dag_id}/{t[1]}" for t in tasks],
        "operator": "",
        "instances": 1,
        "cpu": [t[3] for t in tasks],
        "memory": _NAN,
        "gpu": 0.0,
        "disk_io": 0.0,
        "network": 0.0,
        "gang": False,
        "hint_s": _NAN,
        "ready_at": submit[run],
        "started_at": np.where(np.isnan(ended[run]), _NAN, submit[run]),
        "ended_at": ended[run],
        "runtime_s": ended[run] - submit[run],
    }
    child = np.flatnonzero(np.diff(run, prepend=-1) == 0)
    work = WorkTable(
        pd.DataFrame(rows, columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS),
        pd.DataFrame(columns, columns=list(TASK_COLUMNS)).astype(TASK_COLUMNS),
        child - 1,
        child,
    )
    return SeenRuns(work, ~np.isnan(ended), np.array([t[2] for t in tasks], dtype=object))
