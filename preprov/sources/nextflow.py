"""Traces of Nextflow: what the tasks of a workflow ran for and used."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.contracts import Progress, SourceBatch
from preprov.model.agent import Usage
from preprov.model.errors import ConfigError
from preprov.model.resources import Resources
from preprov.model.signature import signature_path
from preprov.model.signature_sources import nextflow
from preprov.model.worktable import WorkTable
from preprov.sources.building import batches, labels, runs_frame, tasks_frame
from preprov.sources.executions import Trace, no_usable_row, read_trace
from preprov.sources.files import digest_of
from preprov.sources.table_columns import Floats, Objects
from preprov.sources.zones import canonical_zone

_DECIDING: Final = ("module", "script", "queue")
_TOTALS: Final = ("read_bytes", "write_bytes", "syscr", "syscw")
_MB: Final = 1e6


class NextflowSource:
    """A trace as runs, tasks with their signatures, and a sample of usage for each task: its means and its peak.

    All rows of a workflow are one run, called by its name and the instant of its first task: the trace of a run that
    went on is known again, and changes nothing. Tasks that did not end well are rejected, and so are cached ones: they
    ran in an earlier run. What a task read, wrote and used is never part of its signature.

    Attributes:
        key: the file's name. digest: of its bytes and the options. zone: of times that carry none.
        capacity: None.

    Args:
        path: trace.txt as Nextflow writes it, raw or readable, or a table with its columns (Parquet, CSV).
        dag: what the workflow is called where the file does not say; None = by the file's name.
        tenant: whose it is, where the file does not say. zone: None = UTC.

    Raises:
        ConfigError: there is no such zone.
    """

    def __init__(self, path: Path | str, *, dag: str | None = None, tenant: str = "default", zone: str | None = None):
        self.path = Path(path)
        self.key = self.path.name
        self.capacity: Resources | None = None
        named = canonical_zone(zone or "UTC")
        if named is None:
            raise ConfigError(f"unknown time zone {zone!r}", where="--tz", hint="an IANA name such as Europe/Zurich")
        self.zone = named
        self._dag, self._tenant = dag, tenant
        self.digest = digest_of(self.path, "nextflow", dag, tenant, self.zone)

    def read(self, progress: Progress | None = None) -> Iterator[SourceBatch]:
        """Batches of whole runs by submit time; rejects and notes come with the first.

        Raises:
            SourceError: unreadable, a column is lacking, no usable row.
        """
        tell = progress or (lambda share, text: None)
        trace = _only_own(read_trace(self.path, zone=self.zone, more=("task_id", "status", *_DECIDING, *_TOTALS)))
        tell(0.3, f"{len(trace.frame):,} rows")
        kept = np.flatnonzero(trace.reasons == "")
        if not len(kept):
            raise no_usable_row(self.path)
        rows = self._rows(trace).iloc[kept]
        rows = rows.sort_values(["first", "workflow", "submitted"], kind="stable").reset_index(drop=True)
        tell(0.6, "rows understood")
        work = self._work(rows)
        usage = _usage(rows)
        rejects, notes = trace.rejects(), _notes(rows)
        for part, which in batches(work):
            tell(0.6 + 0.4 * which.stop / len(work), f"{which.stop:,} tasks")
            yield SourceBatch(part, rejects=rejects, notes=notes, imputed=_imputed(rows[which]), usage=usage[which])
            rejects, notes = (), ()

    def _rows(self, trace: Trace) -> pd.DataFrame:
        """(N rows) the frame, and what becomes of it here: claimants, signatures, totals."""
        rows = trace.frame.copy()
        if trace.only:
            rows["workflow"] = self._dag or self.path.name.partition(".")[0]
        rows["tenant"] = np.where(rows["tenant"] == "", self._tenant, rows["tenant"])
        numbers = trace.texts("task_id")
        lines = trace.loaded.lines.astype(str).astype(object)
        which = np.where(numbers == "", lines, numbers)
        rows["task_id"] = [f"{p}[{n}]" for p, n in zip(rows["process"], which, strict=True)]
        usable = rows["submitted"].where(trace.reasons == "")
        rows["first"] = usable.groupby(rows["workflow"]).transform("min")
        rows["run_id"] = [_run_id(w, at) for w, at in zip(rows["workflow"], rows["first"], strict=True)]
        rows["signature"] = self._signatures(rows, {c: trace.texts(c) for c in _DECIDING})
        return rows.assign(**{c: trace.amounts(c) for c in _TOTALS})

    def _signatures(self, rows: pd.DataFrame, deciding: dict[str, Objects]) -> Objects:
        cpus = ["" if np.isnan(c) else f"{c:g}" for c in rows["cpus"]]
        columns = (rows["tenant"], rows["workflow"], rows["process"], rows["code"], cpus, *deciding.values())
        names = ("tenant", "workflow", "process", "container", "cpus", *deciding)
        known: dict[tuple[str, ...], str] = {}
        out = []
        for values in zip(*columns, strict=True):
            if values not in known:
                row = dict(zip(names, values, strict=True))
                known[values] = signature_path(nextflow(row, tenant=row.pop("tenant")))
            out.append(known[values])
        return labels(out)

    def _work(self, rows: pd.DataFrame) -> WorkTable:
        run, _ = pd.factorize(rows["run_id"])
        first = rows.drop_duplicates("run_id")
        runs = {
            "run_id": _objects(first["run_id"]),
            "dag_id": _objects(first["workflow"]),
            "tenant": _objects(first["tenant"]),
            "submit": first["first"].to_numpy(),
            "zone": self.zone,
            "timing": "observed",
        }
        tasks = {
            "run": run.astype(np.int64),
            "task_id": _objects(rows["task_id"]),
            "signature": _objects(rows["signature"]),
            "operator": "nextflow",
            "cpu": np.where(rows["cpus"] > 0, rows["cpus"], 1.0),
            "memory": np.nan_to_num(rows["memory"].to_numpy()),
            "ready_at": rows["submitted"].to_numpy(),
            "started_at": rows["started"].to_numpy(),
            "ended_at": rows["ended"].to_numpy(),
            "runtime_s": rows["runtime_s"].to_numpy(),
        }
        none = np.empty(0, dtype=np.int64)
        return WorkTable(runs_frame(len(first), runs), tasks_frame(len(rows), tasks), none, none)


def _only_own(trace: Trace) -> Trace:
    """Without rows of which it is not known when they ran, or that ran in another run, or stand there twice."""
    reasons, frame = trace.reasons.copy(), trace.frame
    cached = np.array([s.upper() == "CACHED" for s in trace.texts("status")], dtype=bool)
    numbers = trace.texts("task_id")
    named = pd.DataFrame({"w": frame["workflow"], "p": frame["process"], "n": numbers})
    again = named.mask(pd.Series(reasons != "")).duplicated().to_numpy() & (numbers != "")
    for bad, reason in (
        (cached, "status CACHED: it ran in an earlier run"),
        (~np.isfinite(frame["submitted"].to_numpy()), "no submit time"),
        (~np.isfinite(frame["ended"].to_numpy()), "no time of its end: neither complete nor duration"),
        (again, "the same task stands in a line before"),
    ):
        reasons[(reasons == "") & bad] = reason
    return replace(trace, reasons=reasons)


def _run_id(workflow: str, first: float) -> str:
    """A name without a slash, which would end the name of the run in those of its tasks."""
    at = f"{datetime.fromtimestamp(first, UTC):%Y-%m-%dT%H:%M:%SZ}" if np.isfinite(first) else ""
    return f"{workflow.replace('/', '.')}@{at}"


def _usage(rows: pd.DataFrame) -> tuple[tuple[str, Usage], ...]:
    """One sample a task, at its end; what was not observed is None."""
    length = rows["runtime_s"].to_numpy()

    def rate(total: Any) -> list[float | None]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return _told(np.asarray(total, dtype=np.float64) / np.where(length > 0, length, np.nan))

    columns = (
        rows["run_id"],
        rows["task_id"],
        rows["ended"],
        _told(rows["cpu"].to_numpy()),
        _told(rows["peak"].to_numpy()),
        rate((rows["read_bytes"] + rows["write_bytes"]) / _MB),
        rate(rows["syscr"]),
        rate(rows["syscw"]),
    )
    return tuple(
        (f"{run}/{task}#0", Usage(float(at), cpu, memory, disk_io=disk, read_ops=reads, write_ops=writes))
        for run, task, at, cpu, memory, disk, reads, writes in zip(*columns, strict=True)
    )


def _told(values: Floats) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]


def _objects(column: "pd.Series[Any]") -> Objects:
    return labels([str(v) for v in column])


def _notes(rows: pd.DataFrame) -> tuple[str, ...]:
    counts: Sequence[tuple[int, str]] = (
        (int(rows["memory"].isna().sum()), "tasks asked for no memory: they count as wanting none"),
        (int(rows["peak"].isna().sum()), "tasks whose peak of memory was not measured"),
    )
    return tuple(f"{n:,} {text}" for n, text in counts if n)


def _imputed(rows: pd.DataFrame) -> dict[str, int]:
    """Cores that were not stated: Nextflow gives one then."""
    missing = int((~(rows["cpus"] > 0)).sum())
    return {"cpu": missing} if missing else {}
