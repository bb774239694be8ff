"""Job logs in the Standard Workload Format, plain or gzipped.

A job is a run of one task. A parallel job starts on all its processors or not at all: that is ONE instance of a task
that wants as many cores as the job has processors, marked as a gang, so that nothing ever counts its processors twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.contracts import Progress, Reject, SourceBatch
from preprov.model.errors import SourceError
from preprov.model.resources import Resources
from preprov.model.worktable import WorkTable
from preprov.sources.building import labels, runs_frame, tasks_frame
from preprov.sources.files import digest_of, line_blocks, stem
from preprov.sources.swf_header import SwfHeader, survey
from preprov.sources.swf_lines import Lines, columns, parse_block

_KIB_PER_GIB: Final = 1024.0**2
_PARTIAL: Final = (2, 3, 4)
_NO_MEMORY: Final = "the log knows no memory: its jobs want none"
_TASK_ID: Final = "job"

Floats = NDArray[np.float64]


class SwfSource:
    """A Standard Workload Format log as runs and tasks.

    Times are nominal: a job is ready when submitted and runs for its runtime. Where the log says how long it really
    waited, `started_at` and `ended_at` say when it really ran. Cores are the allocated processors, or the requested
    ones where the log does not know. Memory is what was requested, else what was used (KB per processor in the log,
    GiB per task here), else the log's median per processor, counted as imputed; 0 if the log knows no memory at all.
    A task's signature is user / executable / processors rounded up to a power of two, its DAG user and executable,
    its tenant the group, or the user where there is none, its hint the requested time.

    Attributes:
        key: the file's name. digest: of its bytes and the options.

    Args:
        path: the log, gzipped or not.
        epoch: instant of second 0, if the header does not say or is wrong. zone: likewise.

    Raises:
        SourceError: it cannot be read, is damaged, or is cut short.
    """

    def __init__(self, path: Path | str, *, epoch: datetime | None = None, zone: str | None = None) -> None:
        self.path = Path(path)
        self.key = self.path.name
        self.digest = digest_of(self.path, epoch and epoch.isoformat(), zone)
        self._given = zone, epoch

    @cached_property
    def header(self) -> SwfHeader:
        """What the header lines say. Looked for, through the whole file, when first asked."""
        return survey(self.path)

    @cached_property
    def zone(self) -> str:
        """IANA zone of the log: as given, else TimeZoneString, else TimeZone, else UTC."""
        return self.header.zone(self._given[0])[0]

    @cached_property
    def capacity(self) -> Resources | None:
        """MaxProcs (else MaxNodes) cores; None if the header does not say."""
        processors = self.header.processors()
        return Resources(cpu=processors) if processors else None

    @cached_property
    def _median_kib(self) -> float:
        return _median_memory(self.path)

    def read(self, progress: Progress | None = None) -> Iterator[SourceBatch]:
        """One batch per block of the file (about 40,000 jobs), in its order. See WorkSource.

        Raises:
            SourceError: damaged, cut short, or without a usable job.
        """
        seen: set[int] = set()
        first, done, jobs, rejects = 1, 0, 0, 0
        start, start_note = self.header.start(self._given[1])
        said = self.header.zone(self._given[0])[1], start_note, "" if self._median_kib else _NO_MEMORY
        notes = tuple(n for n in said if n)
        for block in line_blocks(self.path):
            lines = parse_block(block, first)
            first += len(lines.raw)
            done += len(block)
            batch = self._batch(lines, seen, start, notes)
            jobs += len(batch.work)
            rejects += len(batch.rejects)
            if progress is not None:
                progress(min(1.0, done / max(self.header.size, 1)), f"{jobs:,} jobs")
            if len(batch.work) or batch.rejects:
                notes = ()
                yield batch
        if not jobs:
            raise SourceError(
                f"{self.key} holds no usable job ({rejects} rejected of {first - 1} lines)",
                where=str(self.path),
                hint="a Standard Workload Format line has 18 numbers and a runtime > 0",
            )

    def _batch(self, lines: Lines, seen: set[int], start: float, notes: tuple[str, ...]) -> SourceBatch:
        jobs = lines.fields
        reasons = _unusable(jobs, seen)
        part = reasons == _PART
        bad = np.flatnonzero((reasons != "") & ~part)
        rejects = [
            *lines.rejects,
            *(Reject(int(lines.lines[i]), str(reasons[i]), lines.text(int(lines.lines[i]))) for i in bad),
        ]
        rejects.sort(key=lambda r: r.line)
        if part.any():
            notes = (*notes, "lines that are parts of a job already told as a whole were passed over")
        good = jobs[reasons == ""]
        seen.update(good["job"].astype(np.int64).tolist())
        work, imputed = self._work(good, start)
        return SourceBatch(work, rejects=tuple(rejects), notes=notes, imputed={"memory": imputed} if imputed else {})

    def _work(self, jobs: pd.DataFrame, start: float) -> tuple[WorkTable, int]:
        n = len(jobs)
        if not n:
            return WorkTable.empty(), 0
        column = {name: jobs[name].to_numpy() for name in jobs.columns}
        procs = _processors(column)
        memory, imputed = _memory(column, procs, self._median_kib)
        submit = column["submit"] + start
        started = np.where(column["wait"] >= 0, submit + column["wait"], np.nan)
        who = _identity(column, procs)
        name = stem(self.path)
        runs = runs_frame(
            n,
            {
                "run_id": labels([f"{name}/{j}" for j in column["job"].astype(np.int64).tolist()]),
                "dag_id": who.dag,
                "tenant": who.tenant,
                "zone": self.zone,
                "submit": submit,
            },
        )
        tasks = tasks_frame(
            n,
            {
                "run": np.arange(n),
                "task_id": _TASK_ID,
                "signature": who.signature,
                "operator": who.operator,
                "cpu": procs,
                "memory": memory,
                "gang": True,
                "hint_s": np.where(column["requested_time"] > 0, column["requested_time"], np.nan),
                "ready_at": submit,
                "started_at": started,
                "ended_at": started + column["runtime"],
                "runtime_s": column["runtime"],
            },
        )
        none = np.empty(0, dtype=np.int64)
        return WorkTable(runs, tasks, none, none), imputed


# --------------------------------------------------------------------------- what the columns mean

_PART: Final = "part"


def _unusable(jobs: pd.DataFrame, seen: set[int]) -> NDArray[np.object_]:
    """(N,) why each job cannot be used, "" if it can; `_PART` for a part of a job that stands there as a whole."""
    number = jobs["job"].to_numpy()
    again = jobs["job"].duplicated().to_numpy() | np.fromiter((j in seen for j in number.tolist()), bool, len(jobs))
    part = again & np.isin(jobs["status"].to_numpy(), _PARTIAL)
    out = np.full(len(jobs), "", dtype=object)
    out[(jobs["allocated"] <= 0) & (jobs["requested"] <= 0)] = "neither allocated nor requested processors are known"
    out[jobs["submit"] < 0] = "no submit time"
    out[jobs["runtime"] <= 0] = "runtime <= 0"
    out[again] = "job number used twice"
    out[part] = _PART
    return out


def _processors(column: Mapping[str, Floats]) -> Floats:
    """(N,) allocated processors, requested ones where those are not known."""
    return np.where(column["allocated"] > 0, column["allocated"], column["requested"])


def _memory(column: Mapping[str, Floats], procs: Floats, median_kib: float) -> tuple[Floats, int]:
    """(N,) GiB of the whole task, and for how many the log's median had to do."""
    per_processor = _memory_kib(column["memory_used"], column["requested_memory"])
    missing = np.isnan(per_processor)
    known = np.where(missing, median_kib, per_processor)
    return known * procs / _KIB_PER_GIB, int(missing.sum()) if median_kib else 0


def _memory_kib(used: Floats, requested: Floats) -> Floats:
    return np.where(requested > 0, requested, np.where(used > 0, used, np.nan))


def _median_memory(path: Path) -> float:
    """Median KiB per processor over the jobs of the log that say; 0 if none does."""
    known = []
    for block in line_blocks(path):
        jobs = columns(block, "memory_used", "requested_memory")
        jobs = parse_block(block, 1).fields if jobs is None else jobs
        kib = _memory_kib(jobs["memory_used"].to_numpy(), jobs["requested_memory"].to_numpy())
        known.append(kib[~np.isnan(kib)])
    every = np.concatenate(known) if known else np.empty(0)
    return float(np.median(every)) if len(every) else 0.0


@dataclass(frozen=True)
class _Identity:
    """(N,) strings each."""

    dag: NDArray[np.object_]
    tenant: NDArray[np.object_]
    signature: NDArray[np.object_]
    operator: NDArray[np.object_]


def _identity(column: Mapping[str, Floats], procs: Floats) -> _Identity:
    """Whose job it is and what decides its behaviour; made once per distinct combination, then spread."""
    bucket = 2 ** np.ceil(np.log2(np.maximum(procs, 1))).astype(np.int64)
    keys = pd.DataFrame({k: column[k].astype(np.int64) for k in ("user", "group", "executable")}).assign(size=bucket)
    grouped = keys.groupby(list(keys.columns), sort=False)
    where = grouped.ngroup().to_numpy()
    dag, tenant, signature, operator = [], [], [], []
    for user, group, executable, size in keys.drop_duplicates().to_numpy().tolist():
        who, what = _named("u", user), _named("a", executable)
        dag.append(f"{who}.{what}")
        tenant.append(_named("g", group) if group >= 0 else who)
        signature.append(f"{who}/{what}/p{size}")
        operator.append(what)
    return _Identity(*(labels(x)[where] for x in (dag, tenant, signature, operator)))


def _named(kind: str, number: int) -> str:
    return f"{kind}{number}" if number >= 0 else f"{kind}-"
