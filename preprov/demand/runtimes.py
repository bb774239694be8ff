"""How long tasks run: distributions learnt from history, per signature, shrunk to coarser signatures.

Everything is in log space. A signature is read as a path (`dag/operator/task`); below it stand the task's places in
runs of a certain shape, for where a DAG's runs differ in what they are made of, runs alike tell most of each other.
Where a path has little history its location leans on the path above it, by the ratio of the spread within to the spread
between (empirical Bayes: Efron and Morris 1975), and its shape leans on the pooled residuals. Old observations weigh
less. A signature never seen takes its nearest path that was seen; if there is none, the hint given with it times what
hints turned out to be worth; else the pool.

Runs of one DAG are larger or smaller as a whole (input size): the share of variance that the tasks of a run have in
common is learnt, so that a run's tasks are drawn together, and ended tasks tell of those to come.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from preprov.demand.draws import Keys
from preprov.demand.runtime_learning import Described, Ended, learn_hint, learn_paths
from preprov.demand.runtime_paths import above
from preprov.demand.runtime_tables import CELLS, Floats, Ints, RuntimeTables, Singles, seconds_at
from preprov.demand.sizes import CLASSES, size_class
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable


class _Drawn:
    """Quantile functions in seconds, one a row, each worked out when it is first asked for.

    A kind is a path and a size class; the class after the last one is a task whose size is not known.
    """

    def __init__(self, described: Described, zero: Floats, sizes: Floats, hint: Floats) -> None:
        self._described, self._zero, self._added = described, zero, np.append(sizes, 0.0)
        self._row = np.full(len(described) * (CLASSES + 1), -1, dtype=np.int32)
        self._seconds = seconds_at(hint[None, :], np.zeros(1))
        self._used = 1
        self._lock = Lock()

    def rows(self, kinds: Ints) -> tuple[Ints, Singles]:
        """((T,) row of each kind, the table)."""
        with self._lock:
            row = self._row[kinds]
            if (row < 0).any():
                self._work_out(np.unique(kinds[row < 0]))
                row = self._row[kinds]
            return row.astype(np.int64), self._seconds[: self._used]

    def _work_out(self, kinds: Ints) -> None:
        numbers, size = kinds // (CLASSES + 1), kinds % (CLASSES + 1)
        more = seconds_at(self._described.log_quantiles(numbers) + self._added[size, None], self._zero[numbers])
        stop = self._used + len(more)
        if stop > len(self._seconds):  # tables that were handed out keep the old one
            self._seconds = np.concatenate([self._seconds[: self._used], np.empty((stop, CELLS), np.float32)])
        self._seconds[self._used : stop] = more
        self._row[kinds] = np.arange(self._used, stop)
        self._used = stop


@dataclass(frozen=True, eq=False)
class RuntimeModel:
    """Runtime distributions learnt from what had ended by an instant.

    Attributes:
        paths: names of the paths that have history but for places, "" (the pool) among them. number: of each of these.
        described: the G distributions, less what `sizes` adds. zero: (G,) share that is skipped.
        sizes: (CLASSES,) what the size of a task adds to the log of its runtime.
        hint: (CELLS,) log of runtime over hint at SCORES.
        places, place_path: (P,) keys of places that have a history of their own, ascending, and their paths' numbers.
        common, common_of: share of variance that the tasks of a run have in common, and by DAG.
        n_tasks: how many ended tasks were learnt from.
    """

    paths: pd.Index
    number: Ints
    described: Described
    zero: Floats
    sizes: Floats
    hint: Floats
    places: Keys
    place_path: Ints
    common: float
    common_of: Mapping[str, float]
    n_tasks: int

    @classmethod
    def learn(cls, seen: WorkTable, at: datetime) -> "RuntimeModel":
        """Learn from the tasks that had ended at `at`; nothing that `seen` says of later is looked at."""
        ended = Ended.of(seen.as_of(at), epoch(at))
        learnt = learn_paths(ended)
        return cls(
            learnt.names,
            learnt.number,
            learnt.described,
            learnt.zero,
            learnt.sizes,
            learn_hint(ended),
            learnt.places,
            learnt.place_path,
            learnt.common,
            learnt.common_of,
            len(ended.runtime),
        )

    @cached_property
    def _drawn(self) -> _Drawn:
        return _Drawn(self.described, self.zero, self.sizes, self.hint)

    def tables(
        self, signatures: Any, hints: Floats, places: Keys | None = None, sizes: Ints | None = None
    ) -> RuntimeTables:
        """Distributions of T tasks.

        Args:
            signatures: (T,) of str. hints: (T,) seconds, NaN where nobody said.
            places: (T,) from `shapes.place_keys`, if the tasks' whole runs are known.
            sizes: (T,) from `sizes.size_class`, if it is known.
        """
        codes, unique = pd.factorize(np.asarray(signatures, dtype=object))
        nearest, exact = self._nearest(unique)
        path, own = nearest[codes], exact[codes]
        if places is not None and len(self.places):
            at = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
            path = np.where(self.places[at] == places, self.place_path[at], path)
        hinted = np.isfinite(hints) & (hints > 0) & (path == 0)
        row, seconds = self._drawn.rows(path * (CLASSES + 1) + (CLASSES if sizes is None else sizes))
        return RuntimeTables(
            row=np.where(hinted, 0, row),
            log_scale=np.where(hinted, np.log(np.where(hinted, hints, 1.0)), 0.0),
            seconds=seconds,
            origin=np.where(hinted, 2, np.where(own, 0, np.where(path > 0, 1, 3))).astype(np.int8),
        )

    def shares(self, dag_ids: Any) -> Floats:
        """(N,) share of the variance of log runtime that the tasks of a run of each DAG have in common."""
        return np.array([self.common_of.get(d, self.common) for d in dag_ids], dtype=np.float64)

    def draw(self, tasks: pd.DataFrame, elapsed: Floats, n_samples: int, rng: np.random.Generator) -> Singles:
        """Total runtimes, each at least what has elapsed already; tasks are independent of each other here.

        Args:
            tasks: T rows with columns signature and hint_s; with cpu and instances too, their size is looked at.
            elapsed: (T,) seconds run so far, NaN or 0 if not begun.

        Returns:
            (T, n_samples) seconds.
        """
        tables = self.tables(
            tasks["signature"].to_numpy(),
            tasks["hint_s"].to_numpy(np.float64),
            sizes=size_class(tasks) if {"cpu", "instances"} <= set(tasks.columns) else None,
        )
        u = 1.0 - rng.random((len(tasks), n_samples))
        return tables.survive(np.arange(len(tasks)), np.nan_to_num(elapsed), u)

    def _nearest(self, signatures: Any) -> tuple[Ints, Any]:
        """Number of the nearest path with history (0 = the pool), and whether it is the signature itself."""
        names = np.array(signatures, dtype=object)
        node = self._numbers(names)
        exact = node > 0
        todo = np.flatnonzero(node < 0)
        while len(todo):
            names[todo] = [above(s) for s in names[todo]]
            node[todo] = self._numbers(names[todo])
            todo = todo[node[todo] < 0]
        return node, exact

    def _numbers(self, names: Any) -> Ints:
        """(N,) numbers of the paths of these names, -1 where there is none."""
        at = self.paths.get_indexer(pd.Index(names, dtype=object))
        return np.where(at >= 0, self.number[at], -1)
