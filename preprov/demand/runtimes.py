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
from typing import Any

import numpy as np
import pandas as pd

from preprov.demand.draws import Keys
from preprov.demand.runtime_learning import Ended, above, learn_hint, learn_paths
from preprov.demand.runtime_tables import Floats, Ints, RuntimeTables, Singles
from preprov.demand.sizes import CLASSES, size_class
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable


@dataclass(frozen=True, eq=False)
class RuntimeModel:
    """Runtime distributions learnt from what had ended by an instant.

    Attributes:
        paths: names of the paths that have history, "" (the pool) first; position = number of the path.
        log_quantiles: (G, CELLS) log seconds at SCORES, less what `sizes` adds. zero: (G,) share that is skipped.
        sizes: (CLASSES,) what the size of a task adds to the log of its runtime.
        hint: (CELLS,) log of runtime over hint at SCORES.
        places, place_path: (P,) keys of places that have a history of their own, ascending, and their paths' numbers.
        common, common_of: share of variance that the tasks of a run have in common, and by DAG.
        n_tasks: how many ended tasks were learnt from.
    """

    paths: pd.Index
    log_quantiles: Singles
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
            learnt.log_quantiles,
            learnt.zero,
            learnt.sizes,
            learn_hint(ended),
            learnt.places,
            learnt.place_path,
            learnt.common,
            learnt.common_of,
            len(ended.runtime),
        )

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
        kind = path * CLASSES + (0 if sizes is None else sizes)
        used = np.zeros(len(self.paths) * CLASSES, dtype=bool)
        used[kind] = True
        kinds = np.flatnonzero(used)
        row = (np.cumsum(used) - 1)[kind]
        numbers, added = kinds // CLASSES, 0.0 if sizes is None else self.sizes[kinds % CLASSES, None]
        return RuntimeTables(
            row=np.where(hinted, len(kinds), row),
            log_scale=np.where(hinted, np.log(np.where(hinted, hints, 1.0)), 0.0),
            log_quantiles=np.concatenate([self.log_quantiles[numbers] + added, self.hint[None, :]]),
            zero=np.append(self.zero[numbers], 0.0),
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
        node: Ints = self.paths.get_indexer(pd.Index(names, dtype=object)).astype(np.int64)
        exact = node > 0
        todo = np.flatnonzero(node < 0)
        while len(todo):
            names[todo] = [above(s) for s in names[todo]]
            node[todo] = self.paths.get_indexer(pd.Index(names[todo], dtype=object))
            todo = todo[node[todo] < 0]
        return node, exact
