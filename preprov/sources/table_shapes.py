"""The shapes of DAG tables that are recognised by their columns, each read into the same rows.

`plain` is one task a row in our own words (run_id, dag_id, task, parents, cpu, memory_gib, submit, runtime_s and
more); any table can be mapped onto it. `alibaba` is the batch DAG table of the 2018 cluster trace.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from preprov.model.work import Trigger
from preprov.sources.table_columns import Bools, Coded, Floats, Ints, Objects, coded, instants, listed, numbers

ALIBABA_EPOCH: Final = 1514764800.0  # 2018-01-01T00:00Z is its second 0, by convention
_GIB_PER_SHARE: Final = 5.12  # a machine is 100 units of memory; 1.0 of it is taken as this much
_YES: Final = ("true", "1", "1.0", "yes", "t")
_TRIGGERS: Final = {
    "scheduled": Trigger.SCHEDULED.value,
    "dataset": Trigger.DATASET.value,
    "asset": Trigger.DATASET.value,  # Airflow's word since version 3
}


@dataclass(frozen=True)
class Shape:
    """A recognised shape: the columns it must have and the ones it may have."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    rows: "Callable[[pa.Table, Reading], Rows]"


@dataclass(frozen=True)
class Reading:
    """How to read: `zone` of times that carry none; `zero`, epoch s of second 0, None = the shape's own."""

    zone: str = "UTC"
    zero: float | None = None


@dataclass
class Rows:
    """N rows of a table in our words, nothing thrown away yet.

    Attributes:
        run: run of each row. task: its name. parent_row, child_row: (E,) edges as positions of rows.
        lost_parents: parents named that are no task of the run.
        task_columns: (N,) columns of WorkTable.tasks.
        run_columns: (N,) columns of WorkTable.runs, the same for all rows of a run but `submit`, whose earliest counts.
        reasons: (N,) why a row cannot be used, "" if it can.
        imputed: column -> (N,) where its median had to do.
        ongoing: (N,) started, not seen to end.
    """

    run: Coded
    task: Coded
    parent_row: Ints
    child_row: Ints
    lost_parents: int
    task_columns: dict[str, Any]
    run_columns: dict[str, Any]
    reasons: Objects
    imputed: dict[str, Bools] = field(default_factory=dict)
    ongoing: Bools = field(default_factory=lambda: np.empty(0, dtype=bool))


class _Faults:
    """Collects why rows cannot be used; the first reason given stands."""

    def __init__(self, n: int) -> None:
        self.reasons = np.full(n, "", dtype=object)

    def add(self, where: Bools, reason: str) -> None:
        self.reasons[where & (self.reasons == "")] = reason


# --------------------------------------------------------------------------- our own words


def plain_rows(table: pa.Table, reading: Reading) -> Rows:
    """One task a row, resources of one instance; instants as timestamps, ISO text or seconds."""
    n = table.num_rows
    faults = _Faults(n)
    run, task, dag = (coded(table[c]) for c in ("run_id", "task", "dag_id"))
    for name, column in (("run_id", run), ("task", task), ("dag_id", dag)):
        faults.add(column.codes < 0, f"no {name}")
    faults.add(_repeated(run, task), "task stands twice in its run")
    at = {c: _instant(table, c, reading, faults) for c in ("submit", "scheduled_for", "land_by", "start", "end")}
    faults.add(np.isnan(at["submit"]), "no submit time")
    faults.add(at["end"] < at["start"], "ends before it starts")
    runtime = _number(table, "runtime_s", faults)
    if "runtime_s" not in table.column_names:
        runtime = at["end"] - at["start"]
    faults.add(runtime < 0, "negative runtime")
    amounts, imputed = _amounts(table, faults)
    edges = _edges(table["parents"], run, {"name": task})
    operator = _words(table, "operator")
    parts = (
        [dag.values(), operator, task.values()] if "operator" in table.column_names else [dag.values(), task.values()]
    )
    return Rows(
        run,
        task,
        *edges,
        task_columns={
            **amounts,
            "operator": operator,
            "signature": _joined(parts),
            "gang": np.isin(np.char.lower(_words(table, "gang").astype(str)), _YES),
            "hint_s": _number(table, "hint_s", faults),
            "started_at": at["start"],
            "ended_at": at["end"],
            "runtime_s": runtime,
        },
        run_columns={
            "dag_id": dag.values(),
            "tenant": _words(table, "tenant", "default"),
            "priority": _number(table, "priority", faults, 0.0).astype(np.int64),
            "schedule": _words(table, "schedule"),
            "zone": _words(table, "zone"),
            "trigger": _triggers(table),
            "scheduled_for": at["scheduled_for"],
            "submit": at["submit"],
            "land_by": at["land_by"],
        },
        reasons=faults.reasons,
        imputed=imputed,
        ongoing=np.isnan(runtime),
    )


def _amounts(table: pa.Table, faults: _Faults) -> tuple[dict[str, Any], dict[str, Bools]]:
    out: dict[str, Any] = {}
    imputed = {}
    for ours, theirs, least in (
        ("cpu", "cpu", 0.0),
        ("memory", "memory_gib", 0.0),
        ("instances", "instances", 1.0),
        ("gpu", "gpu", 0.0),
        ("disk_io", "disk_io", 0.0),
        ("network", "network", 0.0),
    ):
        values = _number(table, theirs, faults, least)
        faults.add(values < least, f"{theirs} is below {least:g}")
        out[ours], missing = _with_median(values, least)
        if missing.any():
            imputed[ours] = missing
    out["instances"] = np.rint(out["instances"]).astype(np.int64)
    return out, imputed


def _triggers(table: pa.Table) -> Objects:
    if "trigger" not in table.column_names:
        scheduled = _words(table, "schedule") != ""
        return np.where(scheduled, Trigger.SCHEDULED.value, Trigger.MANUAL.value).astype(object)
    column = coded(table["trigger"])
    words = np.array([_TRIGGERS.get(str(w).lower(), Trigger.MANUAL.value) for w in column.words], dtype=object)
    return Coded(column.codes, words).values(Trigger.MANUAL.value)


# --------------------------------------------------------------------------- the Alibaba table


def alibaba_rows(table: pa.Table, reading: Reading) -> Rows:
    """The batch DAG table of the 2018 Alibaba trace.

    cpu_requested is in hundredths of a core, mem_requested a share of a machine; each instance is placed alone. A
    start_time of 0 means that nobody knows when the row started (rejected); an end_time of 0 that it had not ended
    when the trace was cut (kept, its runtime unknown). Start and end give the runtime and nothing else.

    Jobs have no name that recurs, but nine in ten share the shape of their DAG with others: the shape is the DAG, and
    a task behaves as its name in that shape, its request per instance and the magnitude of its instances say.
    """
    n = table.num_rows
    faults = _Faults(n)
    job, name = coded(table["job_id"]), coded(table["name"])
    faults.add(job.codes < 0, "no job_id")
    faults.add(name.codes < 0, "no name")
    faults.add(_repeated(job, name), "task stands twice in its job")
    start, end = (_number(table, c, faults) for c in ("start_time", "end_time"))
    faults.add(~(start > 0), "start_time is not known")
    ongoing = ~(end > 0)
    faults.add(~ongoing & (end < start), "ends before it starts")
    amounts, imputed = {}, {}
    for ours, theirs, scale in (
        ("instances", "instances", 1.0),
        ("cpu", "cpu_requested", 0.01),
        ("memory", "mem_requested", _GIB_PER_SHARE),
    ):
        values = _number(table, theirs, faults)
        faults.add(values < 0, f"negative {theirs}")
        filled, missing = _with_median(values)
        amounts[ours] = filled * scale
        if missing.any():
            imputed[ours] = missing
    instances = np.maximum(np.rint(amounts["instances"]), 1).astype(np.int64)
    zero = ALIBABA_EPOCH if reading.zero is None else reading.zero
    # A name without a number (task_Nzg3) is drawn by lot: what comes before its first underscore is all it says.
    role = _rewritten(name, r"^([A-Za-z]+)_.*$", r"\1")
    dag = _shapes(job, role)
    request = [
        _formatted("{:g}c", amounts["cpu"].round(4)),
        _formatted("{:g}g", amounts["memory"].round(4)),
        _formatted("x{:g}", 2 ** np.floor(np.log2(instances))),
    ]
    return Rows(
        job,
        name,
        *_edges(table["parents"], job, {"name": name, "number": _task_numbers(name)}),
        task_columns={
            "operator": _rewritten(role, r"\d.*$", "").values(),
            "signature": _joined([dag, role.values(), *request]),
            "instances": instances,
            "cpu": amounts["cpu"],
            "memory": amounts["memory"],
            "runtime_s": np.where(ongoing, np.nan, end - start),
        },
        run_columns={"dag_id": dag, "submit": start + zero},
        reasons=faults.reasons,
        imputed=imputed,
        ongoing=ongoing,
    )


def _rewritten(column: Coded, pattern: str, by: str) -> Coded:
    """The text with what fits the pattern replaced, looked at once per distinct word."""
    words = pc.replace_substring_regex(pa.array(column.words, pa.large_string()), pattern, by)
    again = coded(pa.chunked_array([words]))
    return Coded(np.append(again.codes, -1)[column.codes], again.words)


def _task_numbers(name: Coded) -> Coded:
    """The number a task has in its name (R12_3_7 is task 12), as text."""
    found = pc.extract_regex(pa.array(name.words, pa.large_string()), r"^[A-Za-z]+(?P<n>\d+)").field("n")
    numbered = coded(pa.chunked_array([found]))
    return Coded(np.append(numbered.codes, -1)[name.codes], numbered.words)


def _shapes(job: Coded, name: Coded) -> Objects:
    """(N,) the shape of each row's DAG: how many tasks, and a digest of their sorted names (which hold the parents)."""
    names = pd.Series(name.values()).groupby(job.codes, sort=True).agg(lambda x: "|".join(sorted(x)))
    sizes = names.str.count(r"\|") + 1
    digest = {text: blake2b(text.encode(), digest_size=5).hexdigest() for text in names.unique()}
    words = np.array([f"shape{k}-{digest[t]}" for k, t in zip(sizes, names, strict=True)], dtype=object)
    where = np.searchsorted(names.index.to_numpy(), job.codes)
    return words[where] if len(words) else np.empty(0, dtype=object)


# --------------------------------------------------------------------------- what both need


def _number(table: pa.Table, column: str, faults: _Faults, absent: float = np.nan) -> Floats:
    """(N,) numbers of a column; `absent` everywhere if the table has no such column."""
    if column not in table.column_names:
        return np.full(table.num_rows, absent)
    values, bad = numbers(table[column])
    faults.add(bad, f"{column} is not a number")
    return values


def _instant(table: pa.Table, column: str, reading: Reading, faults: _Faults) -> Floats:
    if column not in table.column_names:
        return np.full(table.num_rows, np.nan)
    values, bad = instants(table[column], zone=reading.zone, zero=reading.zero or 0.0)
    faults.add(bad, f"{column} is not a time")
    return values


def _words(table: pa.Table, column: str, absent: str = "") -> Objects:
    if column not in table.column_names:
        return np.full(table.num_rows, absent, dtype=object)
    return coded(table[column]).values(absent)


def _with_median(values: Floats, least: float = 0.0) -> tuple[Floats, Bools]:
    """The values, the column's median where there is none (`least` if it is empty), and where that was."""
    missing = np.isnan(values)
    median = float(np.nanmedian(values)) if (~missing).any() else least
    return np.where(missing, median, values), missing


def _repeated(run: Coded, task: Coded) -> Bools:
    """(N,) rows whose task stood in the same run before."""
    key = pd.Series(run.codes * (len(task.words) + 1) + task.codes)
    return key.duplicated().to_numpy() & (run.codes >= 0) & (task.codes >= 0)


def _edges(parents: pa.ChunkedArray, run: Coded, names: Mapping[str, Coded]) -> tuple[Ints, Ints, int]:
    """Edges between rows: a parent is the row of the same run with that name, by the first of the `names` that fits.

    Returns:
        (E,) rows of the parents, (E,) rows of the children, each pair once, and how many parents were not found.
    """
    child, wanted = listed(parents)
    parent = np.full(len(child), -1, dtype=np.int64)
    for name in names.values():
        codes = pc.index_in(wanted, value_set=pa.array(name.words, wanted.type))
        code = codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        key = run.codes * (len(name.words) + 1) + name.codes
        usable = np.flatnonzero((run.codes >= 0) & (name.codes >= 0))
        order = usable[np.argsort(key[usable], kind="stable")]
        sought = run.codes[child] * (len(name.words) + 1) + code
        at = np.minimum(np.searchsorted(key[order], sought), max(len(order) - 1, 0))
        if len(order):
            hit = (parent < 0) & (code >= 0) & (run.codes[child] >= 0) & (key[order[at]] == sought)
            parent[hit] = order[at[hit]]
    found = parent >= 0
    n = max(len(run.codes), 1)
    pairs = np.sort(parent[found] * n + child[found])
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    return pairs // n, pairs % n, int((~found).sum())


def _joined(parts: list[Objects]) -> Objects:
    """(N,) the parts joined by slashes, coarse to fine; each distinct combination is joined once."""
    frame = pd.DataFrame({i: pd.Series(p, dtype=object) for i, p in enumerate(parts)})
    group = frame.groupby(list(frame.columns), sort=False, dropna=False).ngroup().to_numpy()
    distinct = frame.loc[~pd.Series(group).duplicated()]
    words = np.empty(len(distinct), dtype=object)
    words[:] = ["/".join(map(str, row)) for row in distinct.itertuples(index=False)]
    return words[group] if len(words) else np.empty(0, dtype=object)


def _formatted(pattern: str, values: Floats) -> Objects:
    codes, distinct = pd.factorize(values)
    words = np.empty(len(distinct) + 1, dtype=object)
    words[:] = [*(pattern.format(v) for v in distinct), ""]
    return words[codes]


PLAIN: Final = Shape(
    "plain",
    ("run_id", "dag_id", "task", "parents", "cpu", "memory_gib", "submit", "runtime_s"),
    (
        *("tenant", "schedule", "zone", "trigger", "scheduled_for", "land_by", "priority", "operator", "instances"),
        *("gpu", "disk_io", "network", "gang", "hint_s", "start", "end"),
    ),
    plain_rows,
)
ALIBABA: Final = Shape(
    "alibaba",
    ("job_id", "name", "parents", "instances", "cpu_requested", "mem_requested", "start_time", "end_time"),
    (),
    alibaba_rows,
)
SHAPES: Final = (PLAIN, ALIBABA)


def shape_of(columns: frozenset[str]) -> tuple[Shape, list[str]]:
    """The shape that most of its required columns speak for, and the required columns that are lacking.

    `start` and `end` together do instead of `runtime_s`.
    """
    if {"start", "end"} <= columns:
        columns = columns | {"runtime_s"}
    shape = max(SHAPES, key=lambda s: len(columns & set(s.required)) / len(s.required))
    return shape, [c for c in shape.required if c not in columns]
