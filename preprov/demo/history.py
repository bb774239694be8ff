"""The company's history as a source of work: whole weeks of runs and the schedules that made them."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from preprov.contracts import Progress, SourceBatch
from preprov.demo.workload import Workload, finished, work_table
from preprov.model.resources import Resources
from preprov.model.work import DagSpec
from preprov.model.worktable import WorkTable

_WEEK = timedelta(weeks=1)


class HistorySource:
    """A WorkSource that reads a workload instead of a file.

    Attributes:
        key, digest, zone, capacity: as in `contracts.WorkSource`; the digest follows from what is drawn.
    """

    def __init__(self, workload: Workload, specs: Mapping[str, DagSpec], until: datetime) -> None:
        """Everything from the workload's origin that had ended by then.

        Args:
            workload: what is drawn. specs: of its DAGs; they decide the task signatures. until: end of the history.
        """
        self.key = "six-weeks-of-a-retailer"
        self.zone = workload.company.zone
        self.capacity: Resources | None = None
        self._workload, self._specs, self._until = workload, specs, until
        self._batches: list[SourceBatch] = []
        parts = (repr(workload), until.isoformat(), *(repr(s) for s in specs.values()))
        self.digest = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

    @property
    def work(self) -> WorkTable:
        """All of it."""
        return WorkTable.concat([b.work for b in self.read()])

    def read(self, progress: Progress | None = None) -> Iterator[SourceBatch]:
        """One batch a week; the schedules come with the first. Drawn once."""
        if self._batches:
            yield from self._batches
            return
        batches = []
        for batch in self._drawn(progress):
            batches.append(batch)
            yield batch
        self._batches = batches

    def _drawn(self, progress: Progress | None) -> Iterator[SourceBatch]:
        start, schedules = self._workload.origin, self._workload.schedules("")
        whole = self._until - self._workload.origin
        while start < self._until:
            end = min(start + _WEEK, self._until)
            runs = self._workload.runs(start, end)
            work = work_table(runs, self._specs, self.zone)
            yield SourceBatch(finished(work, self._until.timestamp()), schedules)
            schedules = ()
            if progress is not None:
                progress((end - self._workload.origin) / whole, f"{end:%Y-%m-%d}")
            start = end
