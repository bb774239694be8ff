"""Usage over time as files: a table of samples, and one of the task runs that they belong to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.contracts import Reject
from preprov.model.errors import SourceError
from preprov.model.usage import UsageRun
from preprov.sources.table_files import column_names, load_table

_SERIES: Final = ("tid", "metric", "t", "v")
_TASKS: Final = ("tid", "process", "start", "end")
_OPTIONAL: Final = ("workflow", "meta_files_input_total_size", "meta_files_input_num", "meta_max_mem")
_MIB_PER_GIB: Final = 1024.0
_GIB: Final = 2.0**30
_METRICS: Final[Mapping[str, tuple[str, float]]] = {
    "memory": ("memory", 1 / _MIB_PER_GIB),  # MiB
    "cpu": ("cpu", 1 / 100),  # % of a core
}


@dataclass(frozen=True)
class ReadUsage:
    """Runs with their samples, what was kept aside, and what was noticed."""

    runs: tuple[UsageRun, ...]
    rejects: tuple[Reject, ...]
    notes: tuple[str, ...]


def read_usage(series: Path | str, tasks: Path | str) -> ReadUsage:
    """Read samples (tid, metric memory in MB or cpu in %, t in s, v) and task runs (tid, process, start, end...).

    A run without memory samples, or that ends before it starts, is rejected. Samples that are no number, below zero or
    after the end are left out and counted; a clock that jumps back is put in order.

    Raises:
        SourceError: unreadable, a column is lacking, no usable run.
    """
    samples, runs = _table(Path(series), _SERIES, ()), _table(Path(tasks), _TASKS, _OPTIONAL)
    value, at = pd.to_numeric(samples["v"], errors="coerce"), pd.to_numeric(samples["t"], errors="coerce")
    good = (np.isfinite(value) & np.isfinite(at) & (value >= 0) & (at >= 0)).to_numpy()
    samples = samples[good].assign(v=value[good], t=at[good])
    back = int((samples.groupby(["tid", "metric"], observed=True)["t"].diff() < 0).sum())
    samples = samples.sort_values(["tid", "metric", "t"], kind="stable")
    parts: dict[tuple[Any, str], pd.DataFrame] = {
        (tid, str(metric)): part for (tid, metric), part in samples.groupby(["tid", "metric"], observed=True)
    }
    out: list[UsageRun] = []
    rejects: list[Reject] = []
    for line, row in enumerate(runs.to_dict("records"), start=1):
        made = _run(row, parts)
        if isinstance(made, str):
            rejects.append(Reject(line, made))
        else:
            out.append(made)
    if not out:
        raise SourceError("no run has samples", where=str(tasks), hint="tid in both files, metric memory")
    counts = {"samples left out: no number or below zero": int((~good).sum()), "samples out of order": back}
    notes = tuple(f"{n} {text}" for text, n in counts.items() if n)
    return ReadUsage(tuple(out), tuple(rejects), notes)


def _table(path: Path, needed: tuple[str, ...], optional: tuple[str, ...]) -> pd.DataFrame:
    names = column_names(path)
    missing = [c for c in needed if c not in names]
    if missing:
        raise SourceError(
            f"{path.name} lacks column {', '.join(missing)}; it has {', '.join(names)}",
            where=str(path),
            hint="samples: tid, metric, t, v; task runs: tid, process, start, end",
        )
    frame: pd.DataFrame = load_table(path, [c for c in (*needed, *optional) if c in names]).table.to_pandas()
    return frame.assign(tid=frame["tid"].astype(str))


def _run(row: Mapping[Any, Any], parts: Mapping[tuple[Any, str], pd.DataFrame]) -> UsageRun | str:
    start, end = (pd.to_datetime(row[c], utc=True, errors="coerce") for c in ("start", "end"))
    if pd.isna(start) or pd.isna(end):
        return "no start or end"
    memory = parts.get((row["tid"], "memory"))
    if memory is None:
        return "no memory samples"
    at = memory["t"].to_numpy(dtype=np.float64)
    duration = max((end - start).total_seconds(), float(at[-1]))
    if (end - start).total_seconds() < 0 or duration <= 0:
        return "ends before it starts"
    cpu = parts.get((row["tid"], "cpu"))
    return UsageRun(
        workflow=str(row.get("workflow", "")),
        process=str(row["process"]),
        submitted=start.timestamp(),
        duration_s=duration,
        at=at,
        memory=memory["v"].to_numpy(dtype=np.float64) * _METRICS["memory"][1],
        cpu=np.full(len(at), np.nan)
        if cpu is None
        else np.interp(at, cpu["t"].to_numpy(dtype=np.float64), cpu["v"].to_numpy(dtype=np.float64))
        * _METRICS["cpu"][1],
        request_gib=_number(row.get("meta_max_mem")) / _GIB,
        input_bytes=_number(row.get("meta_files_input_total_size")),
        input_files=_number(row.get("meta_files_input_num")),
    )


def _number(value: Any) -> float:
    found = float(pd.to_numeric(value, errors="coerce")) if value is not None else float("nan")
    return found if found >= 0 else float("nan")
