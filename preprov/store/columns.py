"""WorkTable to blocks of Parquet columns and back: half a million tasks in a fraction of a second.

A block holds whole runs, positions counted within the block. Text is dictionary-coded by Parquet; doubles come back
bit for bit, NaN included. Edges keep their order within a block.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.model.errors import WorkError
from preprov.model.worktable import NOT_TOLD, RUN_COLUMNS, TASK_COLUMNS, WAIT_COLUMNS, WorkTable

BLOCK_TASKS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Block:
    """Encoded runs, tasks and edges, with what is needed to find them again."""

    first_submit: float
    last_submit: float
    run_count: int
    task_count: int
    runs: bytes
    tasks: bytes
    edges: bytes


def encode(work: WorkTable, block_tasks: int = BLOCK_TASKS) -> Iterator[Block]:
    """Cut a table into blocks of about `block_tasks` tasks, in its own order."""
    run_of_task = work.tasks["run"].to_numpy()
    first_task = np.searchsorted(run_of_task, np.arange(len(work.runs) + 1))
    run_of_edge = run_of_task[work.children]
    by_run = np.argsort(run_of_edge, kind="stable")
    sorted_runs = run_of_edge[by_run]
    columns = TASK_COLUMNS | WAIT_COLUMNS if work.tells_waits else TASK_COLUMNS
    for lo, hi in _cuts(first_task, block_tasks):
        a, b = int(first_task[lo]), int(first_task[hi])
        runs, tasks = work.runs.iloc[lo:hi], work.tasks.iloc[a:b]
        edges = by_run[np.searchsorted(sorted_runs, lo) : np.searchsorted(sorted_runs, hi)]
        submit = runs["submit"].to_numpy()
        yield Block(
            first_submit=float(submit.min()),
            last_submit=float(submit.max()),
            run_count=hi - lo,
            task_count=b - a,
            runs=_to_parquet({c: runs[c].to_numpy() for c in RUN_COLUMNS}, RUN_COLUMNS),
            tasks=_to_parquet({c: tasks[c].to_numpy() for c in columns} | {"run": run_of_task[a:b] - lo}, columns),
            edges=_to_parquet({"parent": work.parents[edges] - a, "child": work.children[edges] - a}, _EDGES),
        )


_EDGES: Final = {"parent": "int64", "child": "int64"}


def _cuts(first_task: np.ndarray, block_tasks: int) -> Iterator[tuple[int, int]]:
    """Ranges of runs, each with at most `block_tasks` tasks (or runs) unless one run alone has more."""
    n, lo = len(first_task) - 1, 0
    while lo < n:
        hi = int(np.searchsorted(first_task, first_task[lo] + block_tasks, side="right")) - 1
        hi = min(max(hi, lo + 1), lo + block_tasks, n)
        yield lo, hi
        lo = hi


def decode(blocks: Sequence[tuple[bytes, bytes, bytes]]) -> WorkTable:
    """Blocks (runs, tasks, edges) one after the other as one table."""
    if not blocks:
        return WorkTable.empty()
    told = [_tells_waits(tasks) for _, tasks, _ in blocks]
    if any(told) and not all(told):  # blocks of an earlier preprov among later ones
        return WorkTable.concat([decode([b]) for b in blocks])
    of_task = TASK_COLUMNS | WAIT_COLUMNS if told[0] else TASK_COLUMNS
    run_at = task_at = 0
    runs, tasks, edges = [], [], []
    for run_bytes, task_bytes, edge_bytes in blocks:
        r, t, e = (
            _from_parquet(data, columns)
            for data, columns in ((run_bytes, RUN_COLUMNS), (task_bytes, of_task), (edge_bytes, _EDGES))
        )
        t["run"] = t["run"] + run_at
        edges.append({k: v + task_at for k, v in e.items()})
        runs.append(r)
        tasks.append(t)
        run_at += len(r["run_id"])
        task_at += len(t["run"])
    joined = _join(edges)
    return WorkTable(pd.DataFrame(_join(runs)), pd.DataFrame(_join(tasks)), joined["parent"], joined["child"])


def _tells_waits(tasks: bytes) -> bool:
    import pyarrow.parquet as pq

    return "slot_at" in pq.read_schema(io.BytesIO(tasks)).names


def decode_run_ids(data: bytes) -> list[str]:
    """The ids of one block's runs, without reading the rest."""
    import pyarrow.parquet as pq

    column: list[str] = pq.read_table(io.BytesIO(data), columns=["run_id"])["run_id"].to_pylist()
    return column


def without(run_ids: "pd.Series[str]", copies: Mapping[str, int]) -> np.ndarray:
    """(R,) bool: all but the first so many runs of each of these ids."""
    return ~(run_ids.groupby(run_ids).cumcount() < run_ids.map(copies).fillna(0)).to_numpy()


def by_submit(work: WorkTable) -> WorkTable:
    """The same work with its runs in order of submission; what is submitted at once keeps its order."""
    submit = work.runs["submit"].to_numpy()
    if bool((submit[1:] >= submit[:-1]).all()):
        return work
    order = np.argsort(submit, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    new_run = rank[work.tasks["run"].to_numpy()]
    task_order = np.argsort(new_run, kind="stable")
    task_rank = np.empty_like(task_order)
    task_rank[task_order] = np.arange(len(task_order))
    parents, children = task_rank[work.parents], task_rank[work.children]
    edge_order = np.argsort(new_run[work.children], kind="stable")
    tasks = work.tasks.take(task_order).reset_index(drop=True)
    tasks["run"] = new_run[task_order]
    runs = work.runs.take(order).reset_index(drop=True)
    return WorkTable(runs, tasks, parents[edge_order], children[edge_order])


def _join(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _to_parquet(columns: dict[str, np.ndarray], dtypes: dict[str, str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrays = {
            name: pa.array(columns[name], type=pa.string())
            if dtype == "object"
            else pa.array(columns[name].astype(dtype, copy=False), from_pandas=False)
            for name, dtype in dtypes.items()
        }
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise WorkError(f"a column of the work is not of its type: {error}") from error
    out = io.BytesIO()
    pq.write_table(pa.table(arrays), out, compression="zstd", write_statistics=False)
    return out.getvalue()


def _from_parquet(data: bytes, dtypes: dict[str, str]) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    text = [name for name, dtype in dtypes.items() if dtype == "object"]
    there = set(pq.read_schema(io.BytesIO(data)).names)
    names = [n for n in dtypes if n in there or n not in NOT_TOLD]  # an earlier preprov did not write all of these
    table = pq.read_table(io.BytesIO(data), columns=names, read_dictionary=[n for n in text if n in there])
    found = {n: _text(table[n]) if dtypes[n] == "object" else table[n].to_numpy() for n in names}
    return {n: found[n] if n in found else np.full(len(table), NOT_TOLD[n], dtype=dtypes[n]) for n in dtypes}


def _text(column: Any) -> np.ndarray:
    """One Python string for each distinct value, however often it stands there."""
    parts = []
    for chunk in column.chunks:
        words = np.array([*chunk.dictionary.to_pylist(), None], dtype=object)
        parts.append(words[chunk.indices.fill_null(len(words) - 1).to_numpy()])
    return np.concatenate(parts) if parts else np.empty(0, dtype=object)
