"""Samples that grow coarser with age, without a peak getting lost or a mean moving.

The samples of a task that fall into one stretch of time become one, if they observed the same things: so each mean is
over all that was observed, and stays the same however often it is taken again. Of levels (memory, working set, memory
of GPUs) the largest is kept; of memory the mean too, beside it. The instant is that of the last of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from preprov.model.errors import StoreError
from preprov.model.usage import Thinning

RATES: Final = ("cpu", "disk_io", "network", "gpu", "page_faults", "read_ops", "write_ops", "disk_ops")
LEVELS: Final = ("memory", "gpu_memory", "working_set")
COLUMNS: Final = (
    "claimant", "ts", "cpu", "memory", "disk_io", "network", "gpu", "gpu_memory",
    "working_set", "page_faults", "read_ops", "write_ops", "disk_ops",
)  # fmt: skip
"""What a sample says; ts = epoch seconds. The rest are the fields of `Usage`, in its order."""
STANDING_FOR: Final = ("samples", "width", "memory_mean")
"""How many samples one stands for, in how many seconds (0 = itself), and the mean of their memory."""
_MISSING: Final = {"samples": "1.0", "width": "0.0", "memory_mean": "memory"}


def completed(told: Any) -> Any:
    """A relation with all columns; one that its files are too old, or were never thinned, to have is filled in."""
    there = set(told.columns)
    plain = told.project(
        ", ".join(c if c in there else f"CAST(NULL AS DOUBLE) AS {c}" for c in (*COLUMNS, *STANDING_FOR))
    )
    return plain.project(", ".join((*COLUMNS, *(f"coalesce({c}, {d}) AS {c}" for c, d in _MISSING.items()))))


def thinned(told: Any, steps: Thinning, now: float) -> Any:
    """Completed samples, each once, as coarse as their age wants them; those that are coarse enough stay as they are.

    A stretch of time is taken together only once all of it is old enough.
    """
    wanted = _width("ts", steps, now)
    each = told.distinct().project(f"*, {wanted} AS wanted")
    names = ", ".join((*COLUMNS, *STANDING_FOR))
    rates = [f"sum({c} * samples) / sum(samples) AS {c}" for c in RATES]
    levels = [f"max({c}) AS {c}" for c in LEVELS]
    means = "sum(samples) AS samples, wanted AS width, sum(memory_mean * samples) / sum(samples) AS memory_mean"
    observed = ", ".join(f"{c} IS NULL" for c in (*RATES, *LEVELS))
    coarser = each.filter("width < wanted").aggregate(
        ", ".join(("claimant", "max(ts) AS ts", *rates, *levels, means)),
        f"claimant, wanted, floor(ts / wanted), {observed}",
    )
    return each.filter("width >= wanted").project(names).union(coarser.project(names))


def is_due(file: Path, steps: Thinning, now: float) -> bool:
    """Whether all of a file is old enough to be coarser than some of it is; only its footer is read.

    Raises:
        StoreError: it is damaged.
    """
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(file)
    except ValueError as error:  # what pyarrow's errors of a damaged file are
        told = " ".join(str(error).split())
        raise StoreError(f"{file} cannot be read: {told}", where=str(file), hint="move it elsewhere") from error
    latest = _limit(footer, "ts", max)
    finest = _limit(footer, "width", min)
    if latest is None:
        return False
    wanted = max((w for age, w in steps.steps if latest < _before(now, age, w)), default=0.0)
    return (finest or 0.0) < wanted


def _limit(footer: Any, column: str, pick: Callable[[list[float]], float]) -> float | None:
    """The least or largest value of a column, as the footer has it; None if it does not say."""
    index = footer.schema.names.index(column) if column in footer.schema.names else None
    if index is None:
        return None
    found = []
    for group in range(footer.num_row_groups):
        told = footer.row_group(group).column(index).statistics
        if told is None or not told.has_min_max:
            return None
        found.append(float(pick([told.min, told.max])))
    return pick(found) if found else None


def _width(ts: str, steps: Thinning, now: float) -> str:
    """SQL for how coarse a sample of that instant should be."""
    cases = [f"WHEN {ts} < {_before(now, age, w)!r} THEN {float(w)!r}" for age, w in reversed(steps.steps)]
    return f"CASE {' '.join(cases)} ELSE 0.0 END" if cases else "0.0"


def _before(now: float, age: float, width: float) -> float:
    """Stretches that end by this are old enough."""
    return float((now - age) // width * width)
