"""Executions: finished runs of tasks and what each was measured to use, in columns.

Times are seconds since the epoch (UTC), amounts GiB, cores and bytes; NaN is not known and never 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.model.errors import WorkError

EXECUTION_COLUMNS: Final = {
    "tenant": "object",  # whose it is, "" if not said
    "workflow": "object",  # what the task is a part of
    "process": "object",  # which of its tasks
    "tag": "object",  # which sample or slice it works on, "" if not said
    "code": "object",  # container, image or version, "" if not said
    "machine": "object",  # class of machine, "" if not said
    "submitted": "float64",
    "started": "float64",
    "ended": "float64",
    "runtime_s": "float64",
    "cpus": "float64",  # asked for
    "memory": "float64",  # asked for, GiB
    "input_bytes": "float64",  # known before it starts
    "cpu": "float64",  # mean cores in use; from here on what only the run itself can tell
    "cpu_p95": "float64",  # cores that it did not exceed for 95 % of its time
    "peak": "float64",  # highest resident memory, GiB
    "read_bytes": "float64",
    "written_bytes": "float64",
}
AFTER_THE_RUN: Final = ("runtime_s", "ended", "cpu", "cpu_p95", "peak", "read_bytes", "written_bytes")
"""Columns that nobody knows before the run has ended: never features of the run itself."""


@dataclass(frozen=True)
class Executions:
    """Finished task runs.

    Attributes:
        frame: (N rows) columns EXECUTION_COLUMNS, default index, in the order of submission.

    Raises:
        WorkError: a column is missing.
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [c for c in EXECUTION_COLUMNS if c not in self.frame.columns]
        if missing:
            raise WorkError(f"executions lack column {', '.join(missing)}")

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> NDArray[Any]:
        """(N,) one column."""
        return np.asarray(self.frame[name].to_numpy())

    def workflows(self) -> Iterator[tuple[str, "Executions"]]:
        """Each workflow's, by name."""
        for name, rows in self.frame.groupby("workflow", sort=True):
            yield str(name), Executions(rows.reset_index(drop=True))

    def where(self, keep: NDArray[np.bool_]) -> "Executions":
        """Those where `keep` (N,) is true."""
        return self if keep.all() else Executions(self.frame[keep].reset_index(drop=True))
