"""Execution traces: what tasks used in runs that have ended, from Nextflow trace files and tables like them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from preprov.contracts import Reject
from preprov.model.errors import SourceError
from preprov.model.executions import EXECUTION_COLUMNS, Executions
from preprov.sources.files import stem
from preprov.sources.table_columns import Floats, coded, instants, numbers
from preprov.sources.table_files import LoadedTable, column_names, load_table, renamed

_GIB: Final = 2.0**30
_THEIRS: Final[Mapping[str, tuple[str, ...]]] = {
    "tenant": ("tenant",),
    "workflow": ("workflow", "Workflow"),
    "process": ("process", "Task", "task"),
    "name": ("name",),
    "tag": ("tag", "Label"),
    "code": ("container",),
    "machine": ("Machine", "machine", "cpu_model"),
    "status": ("status",),
    "submitted": ("submit",),
    "started": ("start",),
    "ended": ("complete",),
    "duration": ("duration",),
    "runtime_s": ("realtime", "Realtime"),
    "cpus": ("cpus",),
    "memory": ("memory",),
    "input_bytes": ("input_size", "TaskInputSize"),
    "cpu": ("%cpu",),
    "cpu_p95": ("cpu_p95",),
    "peak": ("peak_rss",),
    "rss": ("rss",),
    "read_bytes": ("rchar",),
    "written_bytes": ("wchar",),
}
"""Our column -> what it is called in the files, the first that is there."""
_TEXTS: Final = ("tenant", "workflow", "process", "tag", "code", "machine")
_SIZES: Final = ("memory", "peak", "rss", "input_bytes", "read_bytes", "written_bytes")
_GOOD: Final = frozenset(("COMPLETED", "CACHED", ""))
_SIZE: Final = re.compile(r"^\s*([\d.]+)\s*([KMGTP]?)i?B?\s*$", re.IGNORECASE)
_UNITS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SPAN: Final = re.compile(r"([\d.]+)\s*(ms|d|h|m|s)")
_SPANS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_MILLISECONDS_FROM: Final = 1e11
"""An instant beyond this is in milliseconds: as seconds it would be in the year 5138."""


@dataclass(frozen=True)
class Trace:
    """A trace as it stands in its file.

    Attributes:
        frame: (N rows) EXECUTION_COLUMNS. reasons: (N,) why a row cannot be used, "" if it can. loaded: the file.
        more: further columns that were asked for and are there.
        only: the file names no workflow: it is taken as one, called as the file is.
    """

    frame: pd.DataFrame
    reasons: Any
    loaded: LoadedTable
    more: Mapping[str, pa.ChunkedArray]
    only: bool = False

    def rejects(self) -> tuple[Reject, ...]:
        """Lines that cannot be used, in order."""
        where = np.flatnonzero(self.reasons != "")
        mine = [Reject(int(self.loaded.lines[i]), str(self.reasons[i])) for i in where]
        return tuple(sorted((*self.loaded.rejects, *mine), key=lambda r: r.line))

    def amounts(self, name: str) -> Floats:
        """(N,) a further column as bare numbers or sizes; NaN where there is none."""
        return _parsed(self.more[name], _bytes) if name in self.more else np.full(len(self.frame), np.nan)

    def texts(self, name: str) -> Any:
        """(N,) a further column as text; "" where there is none, or Nextflow's dash for it."""
        if name not in self.more:
            return np.full(len(self.frame), "", dtype=object)
        values = coded(self.more[name]).values("")
        return np.where(values == "-", "", values)


@dataclass(frozen=True)
class ReadExecutions:
    """What a file holds, what of it was kept aside, and what was noticed."""

    executions: Executions
    rejects: tuple[Reject, ...]
    notes: tuple[str, ...]


def read_executions(path: Path | str, mapping: Mapping[str, str] | None = None) -> ReadExecutions:
    """Read a trace: Parquet, or CSV with a header, commas or tabs.

    Columns go by the names that Nextflow gives them (`process`, `submit`, `realtime`, `peak_rss`, `memory`...), raw
    (bytes, milliseconds) or as it prints them ("1.2 GB", "3m 20s", "98.5%"), or by those of the Lotaru executions. Only
    `process` and a runtime are required. A task that did not end well, or without a process or runtime, is rejected; a
    size of 0 was not measured.

    Args:
        path: the file. mapping: our column -> theirs.

    Raises:
        SourceError: unreadable, a column is lacking, no usable row. ConfigError: the mapping is wrong.
    """
    path = Path(path)
    trace = read_trace(path, mapping)
    kept = trace.frame[trace.reasons == ""]
    if kept.empty:
        raise no_usable_row(path)
    order = np.lexsort((np.arange(len(kept)), kept["submitted"].to_numpy()))
    sorted_ = kept.iloc[order].reset_index(drop=True)
    return ReadExecutions(Executions(sorted_.astype(EXECUTION_COLUMNS)), trace.rejects(), _notes(kept))


def read_trace(
    path: Path, mapping: Mapping[str, str] | None = None, *, zone: str = "UTC", more: Sequence[str] = ()
) -> Trace:
    """As `read_executions`, with what cannot be used still in it.

    Args:
        zone: of times that carry none. more: columns of theirs that are wanted too, where they are there.

    Raises:
        SourceError: unreadable, a column is lacking. ConfigError: the mapping is wrong.
    """
    names = column_names(path)
    theirs = renamed(names, mapping or {}, frozenset(_THEIRS), str(path)) if mapping else {}
    for ours, candidates in _THEIRS.items():
        found = next((c for c in candidates if c in names), None)
        if found is not None:
            theirs.setdefault(ours, found)
    _demand(path, names, theirs)
    extra = [c for c in more if c in names]
    loaded = load_table(path, list(dict.fromkeys((*theirs.values(), *extra))))
    table = {ours: loaded.table[name] for ours, name in theirs.items()}
    frame = _frame(table, loaded.table.num_rows, stem(path), zone)
    return Trace(frame, _reasons(frame, table), loaded, {c: loaded.table[c] for c in extra}, "workflow" not in theirs)


def no_usable_row(path: Path) -> SourceError:
    """What to say of a trace of which nothing is left."""
    return SourceError(f"{path.name} holds no usable row", where=str(path), hint="process, realtime, peak_rss, memory")


def _demand(path: Path, names: list[str], theirs: Mapping[str, str]) -> None:
    missing = [_THEIRS[c][0] for c in ("process",) if c not in theirs and "name" not in theirs]
    if "runtime_s" not in theirs and not {"started", "ended"} <= set(theirs):
        missing.append(_THEIRS["runtime_s"][0])
    if missing:
        raise SourceError(
            f"{path.name} lacks column {', '.join(missing)} of an execution trace; it has {', '.join(names)}",
            where=str(path),
            hint="a Nextflow trace (nextflow run -with-trace) or a table with its columns",
        )


def _frame(table: Mapping[str, Any], n: int, only: str, zone: str) -> pd.DataFrame:
    out: dict[str, Any] = {}
    for name in _TEXTS:
        out[name] = coded(table[name]).values("") if name in table else np.full(n, "", dtype=object)
    if "name" in table:
        bare = coded(table["name"])
        called = np.array([re.sub(r"\s*\([^()]*\)\s*$", "", w) for w in bare.words] + [""], dtype=object)[bare.codes]
        out["process"] = np.where(out["process"] == "", called, out["process"])
    out["workflow"] = np.where(out["workflow"] == "", only, out["workflow"])
    for name in ("submitted", "started", "ended"):
        out[name] = _instants(table[name], zone) if name in table else np.full(n, np.nan)
    for name in _SIZES:
        out[name] = _parsed(table[name], _bytes) if name in table else np.full(n, np.nan)
    out["cpus"] = numbers(table["cpus"])[0] if "cpus" in table else np.full(n, np.nan)
    out["cpu"] = (_parsed(table["cpu"], _percent) if "cpu" in table else np.full(n, np.nan)) / 100
    out["cpu_p95"] = numbers(table["cpu_p95"])[0] if "cpu_p95" in table else np.full(n, np.nan)
    out["runtime_s"] = _runtime(table, out)
    _complete_times(table, out)
    out["submitted"] = np.where(np.isfinite(out["submitted"]), out["submitted"], out["started"])
    measured = np.where(out["peak"] > 0, out["peak"], out.pop("rss"))
    out["peak"] = np.where(measured > 0, measured, np.nan) / _GIB
    out["memory"] = np.where(out["memory"] > 0, out["memory"], np.nan) / _GIB
    out["input_bytes"] = np.where(out["input_bytes"] > 0, out["input_bytes"], np.nan)
    return pd.DataFrame({c: out[c] for c in EXECUTION_COLUMNS})


def _runtime(table: Mapping[str, Any], out: Mapping[str, Any]) -> Floats:
    """Seconds: as said, else from start to end; NaN where the clock ran backwards."""
    between = out["ended"] - out["started"]
    said = _parsed(table["runtime_s"], _milliseconds) / 1e3 if "runtime_s" in table else np.full(len(between), np.nan)
    runtime = np.where(np.isfinite(said), said, between)
    return np.where(runtime >= 0, runtime, np.nan)


def _complete_times(table: Mapping[str, Any], out: dict[str, Any]) -> None:
    """A trace of Nextflow's usual columns says when a task was submitted, how long until its end, how long it ran."""
    lasted = _parsed(table["duration"], _milliseconds) / 1e3 if "duration" in table else np.nan
    out["ended"] = np.where(np.isfinite(out["ended"]), out["ended"], out["submitted"] + lasted)
    out["started"] = np.where(np.isfinite(out["started"]), out["started"], out["ended"] - out["runtime_s"])


def _instants(column: pa.ChunkedArray, zone: str) -> Floats:
    at = instants(column, zone=zone, zero=0.0)[0]
    return np.where(np.abs(at) > _MILLISECONDS_FROM, at / 1e3, at)


def _parsed(column: pa.ChunkedArray, read: Callable[[str], float]) -> Floats:
    """(N,) numbers, as they are or as people write them; NaN where there is none. Below 0 nothing was measured."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = numbers(column)[0]
    else:
        words = coded(column)
        values = np.array([*(read(str(w)) for w in words.words), np.nan])[words.codes]
    return np.where(values >= 0, values, np.nan)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _bytes(text: str) -> float:
    match = _SIZE.match(text)
    return _number(match[1]) * 1024.0 ** _UNITS[match[2].upper()] if match else float("nan")


def _percent(text: str) -> float:
    return _number(text.strip().removesuffix("%"))


def _milliseconds(text: str) -> float:
    """`3m 20s`; a bare number is of milliseconds."""
    parts = _SPAN.findall(text)
    return sum(_number(n) * _SPANS[unit] for n, unit in parts) * 1e3 if parts else _number(text)


def _reasons(frame: pd.DataFrame, table: Mapping[str, Any]) -> Any:
    """(N,) why a row cannot be used, "" if it can."""
    reasons = np.full(len(frame), "", dtype=object)
    reasons[~np.isfinite(frame["runtime_s"].to_numpy())] = "no runtime"
    reasons[(frame["process"] == "").to_numpy()] = "no process"
    if "status" in table:
        status = coded(table["status"]).values("")
        bad = np.array([str(s).upper() not in _GOOD for s in status], dtype=bool)
        reasons[bad] = [f"status {s}" for s in status[bad]]
    return reasons


def _notes(frame: pd.DataFrame) -> tuple[str, ...]:
    unknown = {"peak": "peak memory", "memory": "requested memory", "submitted": "submit time"}
    counts = {text: int((~np.isfinite(frame[name])).sum()) for name, text in unknown.items()}
    return tuple(f"{n} of {len(frame)} rows without {text}" for text, n in counts.items() if n)
