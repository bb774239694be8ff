"""From plain arrays to WorkTables, and from a big table of runs to batches of whole runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.model.work import Trigger
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable

BATCH_TASKS: Final = 50_000

_RUN_DEFAULTS: Final[Mapping[str, Any]] = {
    "tenant": "default",
    "priority": 0,
    "schedule": "",
    "zone": "UTC",
    "trigger": Trigger.MANUAL.value,
    "scheduled_for": np.nan,
    "land_by": np.nan,
    "timing": "nominal",
}
_TASK_DEFAULTS: Final[Mapping[str, Any]] = {
    "operator": "",
    "instances": 1,
    "gpu": 0.0,
    "disk_io": 0.0,
    "network": 0.0,
    "gang": False,
    "hint_s": np.nan,
    "started_at": np.nan,
    "ended_at": np.nan,
    "runtime_s": np.nan,
}

Columns: TypeAlias = Mapping[str, Any]


def labels(values: Sequence[str]) -> NDArray[np.object_]:
    """(N,) strings as an object array, ready to be taken from by position."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def runs_frame(n: int, columns: Columns) -> pd.DataFrame:
    """(n rows) RUN_COLUMNS; a column not given has its default; `due` is `submit` if nothing else was said."""
    return _frame(n, RUN_COLUMNS, {**_RUN_DEFAULTS, "due": columns["submit"], **columns})


def tasks_frame(n: int, columns: Columns) -> pd.DataFrame:
    """(n rows) TASK_COLUMNS; a column not given has its default."""
    return _frame(n, TASK_COLUMNS, {**_TASK_DEFAULTS, **columns})


def _frame(n: int, dtypes: Mapping[str, str], columns: Columns) -> pd.DataFrame:
    # An explicit dtype each, for pandas from 3.0 on makes its own string type of object arrays.
    data = {}
    for name, dtype in dtypes.items():
        value = columns[name]
        array = value if isinstance(value, np.ndarray) else np.full(n, value, dtype=dtype)
        data[name] = pd.Series(array, dtype=dtype)
    return pd.DataFrame(data, copy=False)


def batches(table: WorkTable, size: int | None = None) -> Iterator[tuple[WorkTable, slice]]:
    """Cut a table into tables of about `size` tasks (else BATCH_TASKS), whole runs each; say which tasks each holds.

    Runs stay in their order. Edges stay inside their run, as WorkTable promises.
    """
    run = table.tasks["run"].to_numpy()
    first = np.searchsorted(run, np.arange(len(table.runs) + 1))
    order = np.argsort(table.children, kind="stable")
    parents, children = table.parents[order], table.children[order]
    low = 0
    while low < len(table.runs):
        high = max(low + 1, int(np.searchsorted(first, first[low] + (size or BATCH_TASKS), side="right")) - 1)
        rows = slice(int(first[low]), int(first[high]))
        edges = slice(*np.searchsorted(children, [rows.start, rows.stop]))
        tasks = table.tasks.iloc[rows].reset_index(drop=True)
        tasks["run"] = tasks["run"] - low
        yield (
            WorkTable(
                table.runs.iloc[low:high].reset_index(drop=True),
                tasks,
                parents[edges] - rows.start,
                children[edges] - rows.start,
            ),
            rows,
        )
        low = high
