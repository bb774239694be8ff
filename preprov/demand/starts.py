"""Which tasks of runs not yet submitted will start, and when: the test of schedules, recurrences and shapes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.expansion import realisations
from preprov.demand.inputs import DemandInputs
from preprov.demand.known import gather
from preprov.demand.learnt import expected_otherwise
from preprov.demand.runtime_tables import Floats, Ints
from preprov.demand.runtimes import RuntimeModel
from preprov.model.demand import PARTS
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable

NEAR_S: Final = 300.0
_RATE_S: Final = 28 * 86_400.0
_EXPECTED: Final = (PARTS.index("scheduled"), PARTS.index("recurring"))


@dataclass(frozen=True)
class Starts:
    """Starts of tasks: signature, seconds after the instant of knowledge, and how probable; (N,) each."""

    signature: NDArray[np.object_]
    after: Floats
    probability: Floats

    def __len__(self) -> int:
        return len(self.signature)

    def likely(self, least: float = 0.5) -> "Starts":
        """Those at least so probable."""
        keep = self.probability >= least
        return Starts(self.signature[keep], self.after[keep], self.probability[keep])


@dataclass(frozen=True)
class Drawn:
    """Starts in all samples: signature, sample, seconds after the instant of knowledge; (N,) each."""

    signature: NDArray[np.object_]
    sample: Ints
    after: Floats
    samples: int

    def items(self, names: Mapping[str, str] | None = None) -> Starts:
        """What is foretold.

        Tasks of one signature cannot be told apart, so it is the first of them, the second, and so on: over the samples
        each has a distribution in time. An item stands in the middle of the window of twice NEAR_S seconds that holds
        most of it, and is as probable as that window.

        Args:
            names: signature -> name under which tasks are one; signatures by default.
        """
        if not len(self.signature):
            return Starts(np.empty(0, dtype=object), np.empty(0), np.empty(0))
        name, of = np.unique(named(self.signature, names).astype(str), return_inverse=True)
        return _items(name.astype(object), of, self.sample, self.after, self.samples)


def code_of(work: WorkTable) -> dict[str, str]:
    """Signature -> DAG and operator, where the operator is known: tasks that run the same code, whatever their ids."""
    tasks = work.tasks[["signature", "operator", "run"]].drop_duplicates("signature")
    dag = work.runs["dag_id"].to_numpy(dtype=object)[tasks["run"].to_numpy()]
    rows = zip(tasks["signature"], dag, tasks["operator"], strict=True)
    return {str(s): f"{d}/{o}" if o else str(s) for s, d, o in rows}


def named(signature: NDArray[np.object_], names: Mapping[str, str] | None) -> NDArray[np.object_]:
    """(N,) names of signatures; one without a name keeps its own."""
    if names is None:
        return signature
    return np.array([names.get(s, s) for s in signature], dtype=object)


def expected_starts(given: DemandInputs, within_s: float = 3_600.0) -> Drawn:
    """Starts within so many seconds after `given.at` of tasks of runs that were not submitted by then, by sample."""
    seen = given.seen.as_of(given.at)
    runtimes = given.runtimes if given.runtimes is not None else RuntimeModel.learn(seen, given.at)
    until = given.at + timedelta(seconds=within_s)
    _, recurring = expected_otherwise(replace(given, seen=seen), until)
    known = gather(
        seen,
        given.schedules,
        given.at,
        runtimes,
        until,
        given.seed,
        predicted=(*given.predicted, *recurring),
        templates=given.templates,
    )
    rows: list[Ints] = []
    columns: list[Ints] = []
    starts: list[Floats] = []
    for mine, block in realisations(known.units, known.tables, 0.0, given.n_samples):
        column = block.column[mine.run]
        wanted = np.isin(mine.part, _EXPECTED)[:, None] & (column >= 0)
        at, draw = np.nonzero(wanted & (block.end > block.start) & (block.start > 0) & (block.start <= within_s))
        rows.append(mine.task[at])
        columns.append(column[at, draw])
        starts.append(block.start[at, draw])
    return Drawn(
        known.signatures[_all(rows)], _all(columns), np.concatenate(starts) if starts else np.empty(0), given.n_samples
    )


def _all(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _items(signature: NDArray[np.object_], of: Ints, sample: Ints, start: Floats, samples: int) -> Starts:
    order = np.lexsort((start, sample, of))  # by name, then by sample: the first of each, the second, ...
    of, sample, start = of[order], sample[order], start[order]
    group = of * np.int64(samples) + sample
    first = np.flatnonzero(np.diff(group, prepend=-1))
    place = np.arange(len(group)) - np.repeat(first, np.diff(np.append(first, len(group))))
    frame = pd.DataFrame({"of": of, "place": place, "start": start}).sort_values(
        ["of", "place", "start"], kind="stable"
    )
    found = []
    for (kind, _), times in frame.groupby(["of", "place"], sort=True)["start"]:
        value = times.to_numpy()
        count = np.searchsorted(value, value + 2 * NEAR_S, side="right") - np.arange(len(value))
        best = int(np.argmax(count))
        inside = value[best : best + int(count[best])]
        found.append((kind, float(inside[0] + inside[-1]) / 2, len(inside) / samples))
    kinds, after, probability = (np.array(c) for c in zip(*found, strict=True))
    return Starts(signature[kinds.astype(np.int64)], after.astype(np.float64), probability.astype(np.float64))


def actual_starts(
    work: WorkTable, at: datetime, within_s: float = 3_600.0, names: Mapping[str, str] | None = None
) -> Starts:
    """What really started within so many seconds after `at`, of runs submitted after `at`, by signature or name."""
    now = epoch(at)
    start, end = work.spans()
    late = (work.runs["submit"].to_numpy(np.float64) > now)[work.tasks["run"].to_numpy()]
    keep = late & (end > start) & (start > now) & (start <= now + within_s)
    signature = work.tasks["signature"].to_numpy(dtype=object)[keep]
    return Starts(named(signature, names), start[keep] - now, np.ones(int(keep.sum())))


def matched(expected: Starts, actual: Starts, near_s: float = NEAR_S) -> int:
    """How many can be matched one to one, by signature and within so many seconds: the most that is possible."""
    theirs = _by_signature(actual)
    return sum(_pairs(mine, theirs[name], near_s) for name, mine in _by_signature(expected).items() if name in theirs)


def _by_signature(starts: Starts) -> dict[Any, Floats]:
    frame = pd.DataFrame({"signature": starts.signature, "after": starts.after}).sort_values("after", kind="stable")
    return {name: times.to_numpy() for name, times in frame.groupby("signature")["after"]}


def _pairs(mine: Floats, theirs: Floats, near_s: float) -> int:
    """Two sorted lists of instants: taking the earliest pair that fits is best where all windows are equally wide."""
    i = j = found = 0
    while i < len(mine) and j < len(theirs):
        gap = theirs[j] - mine[i]
        if abs(gap) <= near_s:
            found, i, j = found + 1, i + 1, j + 1
        elif gap > 0:
            i += 1
        else:
            j += 1
    return found


def by_chance(expected: Starts, seen: WorkTable, at: datetime, names: Mapping[str, str] | None = None) -> float:
    """How many of the expected starts would meet one, if each signature's tasks started at their usual rate, any time.

    Args:
        seen: work as known at `at`; the rate is that of the last four weeks.
    """
    now = epoch(at)
    start, _ = seen.spans()
    since = max(now - _RATE_S, float(seen.runs["submit"].min())) if len(seen.runs) else now
    recent = (start >= since) & (start <= now)
    count = pd.Series(named(seen.tasks["signature"].to_numpy(dtype=object)[recent], names)).value_counts()
    rate = count.reindex(expected.signature).fillna(0.0).to_numpy() / max(now - since, 3_600.0)
    return float(-np.expm1(-rate * 2 * NEAR_S).sum())
