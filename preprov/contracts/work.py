"""Runs, tasks and their usage, as the store keeps them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from preprov.contracts.sources import SourceBatch
from preprov.model.agent import Usage
from preprov.model.series import SeriesHistory
from preprov.model.usage import UsageSummary
from preprov.model.work import DagRun, DagSpec, Schedule, State, TaskRun
from preprov.model.worktable import WorkTable


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What an ingest did. `already` = this very content was in the store, nothing changed. `samples`: of usage."""

    key: str
    pool: str
    runs: int
    tasks: int
    rejects: int
    already: bool = False
    notes: tuple[str, ...] = ()
    rejects_file: str = ""
    imputed: Mapping[str, int] = field(default_factory=dict)
    samples: int = 0


class WorkStore(Protocol):
    """Runs and tasks: what was ingested, which never changes, and what is served here; `work` gives both as one."""

    def pools(self) -> Mapping[str, str]:
        """Pools that have history: name -> zone of their wall clock as last ingested."""
        ...

    def ingested(self, pool: str, digest: str) -> IngestResult | None:
        """What an earlier ingest of this very content did (`already` set); None if there was none."""
        ...

    def ingest(
        self, pool: str, key: str, digest: str, batches: Iterable[SourceBatch], *, zone: str = "UTC"
    ) -> IngestResult:
        """Write all batches in one transaction, or nothing.

        Idempotent by (pool, digest) and by run id: a run already there is left as it is. Raises SourceError if no run
        is usable, and lets an error of the batches through; the store is then as it was.
        """
        ...

    def work(self, pool: str, *, since: datetime | None = None, until: datetime | None = None) -> WorkTable:
        """Runs of the pool submitted in [since, until] with their tasks, by submit time. Unknown pool = empty.

        Of UNROUTED those that are under a limit of their place, for some weeks: others wait for what they hold.
        """
        ...

    def schedules(self, pool: str) -> tuple[Schedule, ...]:
        """Declared schedules of the pool; of UNROUTED, of DAGs with tasks that no route takes."""
        ...

    def has_template(self, pool: str, dag_id: str) -> bool:
        """True if a spec with commands is kept for this DAG, so that `materialise` can make runs of it."""
        ...

    def specs(self, pool: str, dag_ids: Sequence[str]) -> tuple[DagSpec, ...]:
        """The last spec of each of these DAGs that was submitted; the others are left out."""
        ...

    def write_series(self, pool: str, key: str, digest: str, series: SeriesHistory) -> IngestResult:
        """Keep a demand series as this pool's history; same idempotency as `ingest`."""
        ...

    def series(self, pool: str) -> SeriesHistory | None:
        """The demand series ingested for this pool; None if its history is runs."""
        ...

    def submit(self, dag: DagSpec, pool: str, at: datetime, run_id: str | None = None) -> DagRun | None:
        """Register a DAG and create a run of it. Idempotent by run_id.

        A DAG with a schedule has the schedule declared and its spec kept; a run of it is then made only if `due` is
        set, else None is returned and `materialise` makes the runs.
        """
        ...

    def materialise(self, schedule: Schedule, scheduled_for: datetime, at: datetime) -> DagRun:
        """Create the run of a declared schedule's turn from the DAG's last spec. Idempotent by (dag, turn)."""
        ...

    def runs(self, pool: str | None = None, *, live: bool = False, limit: int | None = None) -> tuple[DagRun, ...]:
        """Runs served here (not what was ingested), newest first; `live` leaves out final ones."""
        ...

    def run(self, run_id: str) -> DagRun | None:
        """One run by id or unique prefix."""
        ...

    def task_runs(self, run_ids: Sequence[str]) -> tuple[TaskRun, ...]:
        """All tasks of these runs, parents before children."""
        ...

    def started(self, pool: str, *, since: datetime, until: datetime) -> tuple[TaskRun, ...]:
        """Tasks of runs served here that started in [since, until), as they are now, in the order of their start."""
        ...

    def save_tasks(self, tasks: Sequence[TaskRun]) -> None:
        """Write states and times of live tasks (one transaction). A final state is never overwritten."""
        ...

    def save_run(self, run_id: str, state: State, ended_at: datetime | None, reason: str = "") -> None:
        """Write the state of a live run. A final state is never overwritten."""
        ...


class SampleStore(Protocol):
    """Usage samples, many millions."""

    def append(self, pool: str, samples: Iterable[tuple[str, Usage]]) -> int:
        """Keep (claimant, usage); returns how many. A half-written file is never seen."""
        ...

    def samples(self, claimant: str) -> tuple[Usage, ...]:
        """In time order."""
        ...

    def series(self, claimants: Collection[str]) -> Mapping[str, tuple[Usage, ...]]:
        """As `samples`, of many at once; those without any are left out."""
        ...

    def latest(self, claimants: Collection[str], *, since: float) -> Mapping[str, Usage]:
        """The last sample of each that is not before `since` (epoch seconds); those without any are left out."""
        ...

    def summaries(self, claimants: Collection[str]) -> Mapping[str, UsageSummary]:
        """What each used, in short; those without any sample are left out."""
        ...
