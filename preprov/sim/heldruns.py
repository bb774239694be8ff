"""The runs of one source, in memory: a table a pool, and a print of each run by which a change is seen."""

from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from pandas.util import hash_pandas_object

from preprov.contracts import Applied, PoolRuns, RoutedBatch
from preprov.model.worktable import Array, WorkTable

Print: TypeAlias = tuple[bytes, ...]


@dataclass
class HeldRuns:
    """Runs as they were last seen.

    Attributes:
        parts: pool -> its runs. prints: (run id, pool) -> what was seen of that run.
    """

    parts: dict[str, PoolRuns] = field(default_factory=dict)
    prints: dict[tuple[str, str], Print] = field(default_factory=dict)

    def apply(self, batch: RoutedBatch) -> Applied:
        """Each run that the batch has seen is afterwards as it is there, and in the pools named there."""
        wanted = {(run, pool): seen for pool, part in batch.parts.items() for run, seen in _prints(part).items()}
        seen, gone = set(batch.seen), set(batch.gone) - set(batch.seen)
        before = self.run_ids()
        dropped = {p for p in self.prints if p[0] in gone or (p[0] in seen and p not in wanted)}
        changed = {p for p, seen_as in wanted.items() if self.prints.get(p) != seen_as}
        for pool in {pool for _, pool in dropped | changed}:
            old, new = self.parts.get(pool), batch.parts.get(pool)
            out = {run for run, p in dropped | changed if p == pool}
            kept = [] if old is None else [_only(old, out, there=False)]
            self.parts[pool] = _joined([*kept, *([] if new is None else [_only(new, out, there=True)])])
        for place in dropped:
            del self.prints[place]
        self.prints.update((place, wanted[place]) for place in changed)
        touched = {run for run, _ in dropped | changed}
        return Applied(
            new=len((seen & touched) - before),
            changed=len(seen & touched & before),
            same=len(seen - touched),
            gone=len(gone & before),
        )

    def run_ids(self) -> set[str]:
        """All of them."""
        return {run_id for run_id, _ in self.prints}

    def pools(self) -> set[str]:
        """Those that have runs."""
        return {pool for _, pool in self.prints}


def _only(part: PoolRuns, run_ids: set[str], *, there: bool) -> PoolRuns:
    """The runs among these, or all others."""
    work = part.runs.work
    keep = work.runs["run_id"].isin(run_ids).to_numpy() == there
    mine = keep[work.tasks["run"].to_numpy()]
    runs = replace(part.runs, work=work.select_runs(keep), over=part.runs.over[keep], queues=part.runs.queues[mine])
    return PoolRuns(runs, part.own[mine])


def _joined(parts: list[PoolRuns]) -> PoolRuns:
    runs = replace(
        parts[-1].runs,
        work=WorkTable.concat([p.runs.work for p in parts]),
        over=np.concatenate([p.runs.over for p in parts]),
        queues=np.concatenate([p.runs.queues for p in parts]),
    )
    return PoolRuns(runs, np.concatenate([p.own for p in parts]))


def _prints(part: PoolRuns) -> dict[str, Print]:
    """Run id -> all that is told of it; equal prints, equal runs."""
    work, run = part.runs.work, part.runs.work.tasks["run"].to_numpy()
    of_runs = hash_pandas_object(work.runs, index=False).to_numpy()
    tasks = work.tasks.drop(columns="run").assign(_own=part.own, _queue=part.runs.queues)
    of_tasks = hash_pandas_object(tasks, index=False).to_numpy()
    at = np.arange(len(work.runs) + 1)
    t = np.searchsorted(run, at)
    order = np.argsort(work.parents, kind="stable")  # an edge never leaves its run
    parents, children = work.parents[order], work.children[order]
    e = np.searchsorted(parents, t)
    columns = ",".join(work.tasks.columns).encode()
    return {
        run_id: (
            columns,
            of_runs[i : i + 1].tobytes() + bytes([bool(part.runs.over[i])]),
            of_tasks[t[i] : t[i + 1]].tobytes(),
            _edges(parents[e[i] : e[i + 1]] - t[i], children[e[i] : e[i + 1]] - t[i]),
        )
        for i, run_id in enumerate(work.runs["run_id"])
    }


def _edges(parents: Array, children: Array) -> bytes:
    return parents.tobytes() + b"|" + children.tobytes()
