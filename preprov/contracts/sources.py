"""Work and usage read from outside: files that are read once, and places that are read again and again (`live`)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from preprov.contracts.base import Progress
from preprov.model.agent import Usage
from preprov.model.resources import Resources
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was kept aside: where it stood, why, and what it said."""

    line: int
    reason: str
    raw: str = ""


@dataclass(frozen=True)
class SourceBatch:
    """A part of what a source holds. Runs are whole: no run is spread over batches."""

    work: WorkTable
    schedules: tuple[Schedule, ...] = ()
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()
    imputed: Mapping[str, int] = field(default_factory=dict)
    usage: tuple[tuple[str, Usage], ...] = ()
    """(claimant, usage) of the tasks in it."""


@runtime_checkable
class WorkSource(Protocol):
    """Work read from outside: a log, a table, an orchestrator."""

    @property
    def key(self) -> str:
        """Stable name of what is read (for a file its name)."""
        ...

    @property
    def digest(self) -> str:
        """Of its content, "" if it has none. Cheap: content that is known already is recognised by it alone."""
        ...

    @property
    def zone(self) -> str:
        """IANA zone of its wall clock. May have to look into the content, and raise as `read` does."""
        ...

    @property
    def capacity(self) -> Resources | None:
        """Of the whole machine it describes, None if it does not say. As for `zone`."""
        ...

    def read(self, progress: Progress | None = None) -> Iterator[SourceBatch]:
        """Yield batches in any order; reading twice yields the same.

        A broken row becomes a `Reject`. Raises SourceError if the source is unreadable as a whole (a truncated
        archive, a missing column): what was yielded before must then not be kept. SourceUnavailableError is retryable.
        """
        ...
