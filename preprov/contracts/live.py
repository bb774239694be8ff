"""Places where work lives (an orchestrator, a scheduler, a cluster), read a little at a time and never to the end.

A pass over a source goes like this. The store says what it knows (`SourceState`); the source yields what changed since,
in batches of whole runs; each batch is routed to pools and kept in one transaction together with its cursor. So a pass
that breaks off loses at most one batch, and the next one goes on where the last cursor stood. A run is known by its id:
what comes again replaces what was there, and the same content again changes nothing. A source therefore looks back a
little further than it strictly has to, instead of missing what was written late.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Final, Protocol, runtime_checkable

import numpy as np

from preprov.contracts.base import Progress
from preprov.contracts.pools import Finding
from preprov.contracts.sources import Reject
from preprov.model.agent import Usage
from preprov.model.waits import SlotLimit
from preprov.model.work import Schedule
from preprov.model.worktable import Array, WorkTable

UNROUTED = ""
"""The pool of work that no route sends anywhere: it is counted, and nothing is planned for it."""


@dataclass(frozen=True)
class SeenRuns:
    """Whole runs as they are at this moment.

    Attributes:
        work: the runs; what has not happened yet is NaN. A request of NaN was not stated (a route may say what is then
            taken), one of 0 takes nothing: a sensor, a task that is deferred. Run ids are unique within the source and
            stay the same for as long as the run exists. Where tasks wait for slots it has WAIT_COLUMNS too.
        over: (R,) bool, runs of which nothing changes any more, unless somebody begins them anew.
        queues: (T,) object, what routes call the queue of each task; "" = none.
    """

    work: WorkTable
    over: Array
    queues: Array

    @staticmethod
    def empty() -> "SeenRuns":
        """None at all. Always the same value: most batches that carry a cursor have it."""
        return _no_runs()

    def __len__(self) -> int:
        return len(self.work.runs)


@cache
def _no_runs() -> SeenRuns:
    return SeenRuns(WorkTable.empty(), np.empty(0, dtype=bool), np.empty(0, dtype=object))


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that the store holds as not over; `submit` in epoch seconds."""

    run_id: str
    dag_id: str
    submit: float


@dataclass(frozen=True)
class SourceState:
    """What is known of a source as a pass begins.

    Attributes:
        cursor: what the source gave with the last batch that was kept; "" = it was never read.
        open: the runs held as not over. The source says of each what has become of it: it changed, it is over, or it is
            gone; one it says nothing of stays as it is.
        notebook: what the source asked to be kept for it (the shape of a DAG, say), by its own keys.
    """

    cursor: str = ""
    open: tuple[OpenRun, ...] = ()
    notebook: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SyncBatch:
    """A part of what changed. It is kept whole or not at all.

    Attributes:
        runs: to be added or replaced, by run id.
        gone: ids of open runs that exist no more (deleted, or their DAG was).
        schedules: every schedule declared there, in place of those declared before; None = as they were. Their `pool`
            is left empty, routes fill it.
        dag_queues: DAG -> queues of its tasks, so that a schedule reaches each pool its tasks go to. For a DAG that is
            not named it is the queues of `shapes`, else "".
        shapes: one run for each DAG, by which a first run can be foreseen, in place of the earlier ones; None = as they
            were.
        limits: every limit that its owner keeps, in place of those told before; None = as they were.
        cursor: where to go on once this batch is kept; None = where it was.
        notebook: keys to keep (None = to drop).
        usage: (claimant, what it used) of task instances, whoever told of their runs.
        notes: what a person should know; rejects: what could not be read.
        more: there is more of the past to be read: the next pass should follow at once. Each pass begins with what is
            live, so that a long past does not make what is known of now old.
    """

    runs: SeenRuns = field(default_factory=SeenRuns.empty)
    gone: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] | None = None
    dag_queues: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shapes: SeenRuns | None = None
    limits: tuple[SlotLimit, ...] | None = None
    cursor: str | None = None
    notebook: Mapping[str, str | None] = field(default_factory=dict)
    usage: tuple[tuple[str, Usage], ...] = ()
    notes: tuple[str, ...] = ()
    rejects: tuple[Reject, ...] = ()
    more: bool = False


@runtime_checkable
class LiveSource(Protocol):
    """A place where work lives.

    A source keeps its own budget of requests, waits when it is told to, and retries in one layer only.
    """

    @property
    def key(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def zone(self) -> str:
        """IANA zone of its wall clock."""
        ...

    def changes(self, state: SourceState, now: datetime, progress: Progress | None = None) -> Iterator[SyncBatch]:
        """What changed since `state`, in batches that can each be kept; the pass is whole when the iterator ends.

        Raises SourceError if it cannot be read as a whole (a wrong address, no right, an answer that makes no sense),
        SourceUnavailableError (retryable) if it does not answer. What was yielded before is kept and is right.
        """
        ...

    def examine(self) -> tuple[Finding, ...]:
        """Address, version, credentials, each right it needs, and how much it can see. Writes nothing there.

        What is wrong is a finding, in words that say what to do, never an exception.
        """
        ...


# --------------------------------------------------------------------------- what the store keeps of it


@dataclass(frozen=True)
class PoolRuns:
    """Runs as one pool sees them.

    Attributes:
        runs: whole runs; tasks that run elsewhere are there for the order of things and take nothing.
        own: (T,) bool, the tasks that belong to this pool.
    """

    runs: SeenRuns
    own: Array


@dataclass(frozen=True)
class RoutedBatch:
    """A batch with its pools, for `SourceStore.apply`. None = as it was, as in `SyncBatch`.

    Attributes:
        seen: ids of all runs of the batch; each is afterwards in the pools named here and in no other.
        parts: pool (or UNROUTED) -> its runs.
        schedules: with their pool. shapes: pool -> a run for each DAG.
        zone: of the source's wall clock.
    """

    seen: tuple[str, ...] = ()
    parts: Mapping[str, PoolRuns] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] | None = None
    shapes: Mapping[str, WorkTable] | None = None
    limits: tuple[SlotLimit, ...] | None = None
    cursor: str | None = None
    notebook: Mapping[str, str | None] = field(default_factory=dict)
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch changed: runs that were new, that changed, that were as before, that were dropped.

    A run that goes to several pools counts once. `notes`: what was not done, and why.
    """

    new: int = 0
    changed: int = 0
    same: int = 0
    gone: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How reading a source goes.

    Attributes:
        read_at: when a pass last came to its end. tried_at: when one last began.
        error: why the last one did not, "" if it did.
        open, over: runs held; pools: where its work goes.
        notes: (when a pass last said so, what a person should know), the newest last; of about a week.
    """

    source: str
    zone: str
    cursor: str
    read_at: datetime | None
    tried_at: datetime | None
    error: str
    open: int
    over: int
    pools: tuple[str, ...]
    notes: tuple[tuple[datetime, str], ...] = ()


_NOTES_KEPT: Final = timedelta(days=7)
_MOST_NOTES: Final = 20


def kept_notes(
    before: Sequence[tuple[datetime, str]], said: Sequence[str], at: datetime
) -> tuple[tuple[datetime, str], ...]:
    """`SourceStatus.notes` after a pass that said this: a source may say a thing once only that stays so."""
    old = [(when, text) for when, text in before if text not in said and at - when < _NOTES_KEPT]
    return (*old, *((at, text) for text in dict.fromkeys(said)))[-_MOST_NOTES:]


@dataclass(frozen=True, slots=True)
class Claimed:
    """Work of a DAG's tasks of one queue: how many that ran, and core hours that they held.

    Attributes:
        pool: where it went; UNROUTED = nowhere.
    """

    source: str
    pool: str
    dag_id: str
    queue: str
    tenant: str
    tasks: int
    core_hours: float


class SourceStore(Protocol):
    """What the store keeps of the places where work lives; `WorkStore.work` and `schedules` give it with the rest."""

    def state(self, source: str) -> SourceState:
        """What is known of it; that of a source which was never read is empty."""
        ...

    def apply(self, source: str, batch: RoutedBatch, at: datetime) -> Applied:
        """Keep a batch, cursor and all, in one transaction. Idempotent: the same batch again changes nothing.

        A schedule whose DAG was declared in its pool by somebody else (submitted here, or another source) is left out,
        with a note.
        """
        ...

    def held(self, source: str, run_ids: Sequence[str]) -> frozenset[str]:
        """Which of these runs the source has spoken of, open or over."""
        ...

    def began(self, source: str, at: datetime) -> None:
        """A pass begins."""
        ...

    def ended(self, source: str, at: datetime, error: str = "", notes: Sequence[str] = ()) -> None:
        """A pass came to its end, or broke off because of `error`; `notes`: what it said for people."""
        ...

    def rewind(self, source: str) -> None:
        """Forget the cursor and the notebook: the next pass reads everything again, and nothing is kept twice."""
        ...

    def count_only(self, names: Collection[str]) -> tuple[str, ...]:
        """Leave aside, in this process, what sources of other names told: it is no work, schedule, limit or shape.

        Returns the names of those that were read and are now aside. What `telling` keeps, under names with a slash or a
        colon, counts always. A schedule of one that is aside may be declared by another.
        """
        ...

    def forget(self, source: str) -> int:
        """Drop all that a source told, its history too; returns how many runs."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give all that a source told another name; it is read again from the beginning, and nothing is kept twice.

        Raises:
            StoreError: something is held under the new name already, or nothing under the old one.
        """
        ...

    def statuses(self) -> tuple[SourceStatus, ...]:
        """Every source that was ever read, by name."""
        ...

    def shapes(self, pool: str, dag_ids: Sequence[str]) -> WorkTable:
        """A run for each of these DAGs that a source described; the others are left out."""
        ...

    def limits(self) -> tuple[SlotLimit, ...]:
        """Limits that all sources told of, each with its source, by key."""
        ...

    def claimed(self, since: datetime) -> tuple[Claimed, ...]:
        """What runs submitted since then held, of all sources, wherever it was routed."""
        ...
