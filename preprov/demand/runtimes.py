"""How long tasks run: distributions learnt from history, per signature, shrunk to coarser signatures.

Everything is in log space. A signature is read as a path (`dag/operator/variant`): where a path has little history its
location leans on the path above it, by the ratio of the spread within to the spread between (empirical Bayes: Efron
and Morris 1975), and its shape leans on the pooled residuals. Old observations weigh less. A signature never seen takes
its nearest path that was seen; if there is none, the hint given with it times what hints turned out to be worth; else
the pool.

Runs of one DAG are larger or smaller as a whole (input size): the share of variance that the tasks of a run have in
common is learnt, so that a run's tasks are drawn together, and ended tasks tell of those to come.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.demand.runtime_tables import (
    LEVELS,
    SCORES,
    Floats,
    Ints,
    RuntimeTables,
    Singles,
    grouped_quantiles,
)
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable

_HALF_LIFE_S: Final = 30 * 86_400.0
_SPREAD_PRIOR: Final = 4.0  # observations that the spread of the path above is worth
_SHAPE_PRIOR: Final = 12.0  # observations that the pooled shape is worth
_RUN_PRIOR: Final = 20.0  # runs that the pool's common share is worth against a DAG's own
_MOST_OBSERVATIONS: Final = 4_000  # a path is described by so many of its observations at most, evenly chosen
_FEWEST_FOR_SHAPE: Final = 30
# nothing at all is known: seconds to an hour, so that what comes after such a task is prepared for as well
_ASSUMED_RUNTIME_S: Final = 120.0
_ASSUMED_SPREAD: Final = 2.0
_HINT_SPREAD: Final = 0.5
_MOST_COMMON: Final = 0.95


@dataclass(frozen=True)
class RuntimeModel:
    """Runtime distributions learnt from what had ended by an instant.

    Attributes:
        paths: paths that have history, "" (the pool) first; position = number of the path.
        weight: (G,) effective observations. mean, spread: (G,) of log seconds, shrunk. zero: (G,) share skipped.
        first, last: (G,) where its observations stand in `log_runtime`.
        log_runtime, recency: (N,) observations and their weights, in the order of paths.
        shape: (CELLS,) pooled standardised residuals at SCORES. hint: (CELLS,) log of runtime over hint at SCORES.
        common: share of variance that the tasks of a run have in common; common_of: by DAG.
        n_tasks: how many ended tasks were learnt from.
    """

    paths: pd.Index
    weight: Floats
    mean: Floats
    spread: Floats
    zero: Floats
    first: Ints
    last: Ints
    log_runtime: Floats
    recency: Floats
    shape: Floats
    hint: Floats
    common: float
    common_of: Mapping[str, float]
    n_tasks: int

    @classmethod
    def learn(cls, seen: WorkTable, at: datetime) -> "RuntimeModel":
        """Learn from the tasks that had ended at `at`; nothing that `seen` says of later is looked at."""
        return _learn(seen.as_of(at), epoch(at))

    def tables(self, signatures: Any, hints: Floats) -> RuntimeTables:
        """Distributions of T tasks.

        Args:
            signatures: (T,) of str. hints: (T,) seconds, NaN where nobody said.
        """
        codes, unique = pd.factorize(np.asarray(signatures, dtype=object))
        node, exact = self._nearest(unique)
        hinted = np.isfinite(hints) & (hints > 0) & (node[codes] == 0)
        numbers, row = np.unique(node, return_inverse=True)
        origin = np.where(exact, 0, np.where(node > 0, 1, 3))[codes]
        return RuntimeTables(
            row=np.where(hinted, len(numbers), row[codes]),
            log_scale=np.where(hinted, np.log(np.where(hinted, hints, 1.0)), 0.0),
            log_quantiles=np.concatenate([self._log_quantiles(numbers), self.hint[None, :]]),
            zero=np.append(self.zero[numbers], 0.0),
            origin=np.where(hinted, 2, origin).astype(np.int8),
        )

    def shares(self, dag_ids: Any) -> Floats:
        """(N,) share of the variance of log runtime that the tasks of a run of each DAG have in common."""
        return np.array([self.common_of.get(d, self.common) for d in dag_ids], dtype=np.float64)

    def draw(self, tasks: pd.DataFrame, elapsed: Floats, n_samples: int, rng: np.random.Generator) -> Singles:
        """Total runtimes, each at least what has elapsed already; tasks are independent of each other here.

        Args:
            tasks: T rows with columns signature and hint_s. elapsed: (T,) seconds run so far, NaN or 0 if not begun.

        Returns:
            (T, n_samples) seconds.
        """
        tables = self.tables(tasks["signature"].to_numpy(), tasks["hint_s"].to_numpy(np.float64))
        u = 1.0 - rng.random((len(tasks), n_samples))
        return tables.survive(np.arange(len(tasks)), np.nan_to_num(elapsed), u)

    def _nearest(self, signatures: Any) -> tuple[Ints, Any]:
        """Number of the nearest path with history (0 = the pool), and whether it is the signature itself."""
        names = np.array(signatures, dtype=object)
        node: Ints = self.paths.get_indexer(pd.Index(names, dtype=object)).astype(np.int64)
        exact = node > 0
        todo = np.flatnonzero(node < 0)
        while len(todo):
            names[todo] = [_above(s) for s in names[todo]]
            node[todo] = self.paths.get_indexer(pd.Index(names[todo], dtype=object))
            todo = todo[node[todo] < 0]
        return node, exact

    def _log_quantiles(self, numbers: Ints) -> Floats:
        """(U, CELLS): own quantiles of each path blended with the pooled shape about its shrunk location."""
        weight, mean, spread = self.weight[numbers], self.mean[numbers], self.spread[numbers]
        pooled = mean[:, None] + spread[:, None] * self.shape[None, :]
        own = self._own_quantiles(numbers)
        trust = (weight / (weight + _SHAPE_PRIOR))[:, None]
        blended = np.where(np.isfinite(own), trust * own + (1 - trust) * pooled, pooled)
        out: Floats = np.maximum.accumulate(blended, axis=1)
        return out

    def _own_quantiles(self, numbers: Ints) -> Floats:
        """(U, CELLS) weighted quantiles of the observations of each path; NaN where it has none."""
        have = self.last[numbers] - self.first[numbers]
        count = np.minimum(have, _MOST_OBSERVATIONS)
        group = np.repeat(np.arange(len(numbers)), count)
        within = np.arange(len(group)) - np.repeat(np.cumsum(count) - count, count)
        at = self.first[numbers][group] + ((within + 0.5) * (have / np.maximum(count, 1))[group]).astype(np.int64)
        return grouped_quantiles(group, self.log_runtime[at], self.recency[at], len(numbers), LEVELS)


@dataclass(frozen=True)
class _Ended:
    """Ended tasks, one row each."""

    signature: Any
    runtime: Floats
    hint: Floats
    recency: Floats
    run: Ints
    dag: Any


def _learn(seen: WorkTable, now: float) -> RuntimeModel:
    ended = _ended(seen, now)
    codes, unique = pd.factorize(ended.signature)
    # Sorted so that everything under a path stands together, each signature's own in the order of the table.
    by_path = np.argsort(np.array([str(s).replace("/", "\0") for s in unique], dtype=object), kind="stable")
    rank = np.empty(len(unique), dtype=np.int64)
    rank[by_path] = np.arange(len(unique))
    order = np.argsort(rank[codes], kind="stable")
    leaf, names = rank[codes][order], [str(s) for s in np.asarray(unique, dtype=object)[by_path]]
    runtime, recency = ended.runtime[order], ended.recency[order]
    ran = runtime > 0
    value = np.log(runtime[ran])
    stats = _Stats(leaf[ran], value, recency[ran], len(names))
    paths, first_leaf, last_leaf, above = _tree(names)
    bound = np.searchsorted(leaf[ran], np.arange(len(names) + 1))
    weight, mean, spread = _shrunk(stats, first_leaf, last_leaf, above)
    residual = stats.residuals(leaf[ran], value)
    common, common_of = _common(residual, ended.run[order][ran], ended.dag[order][ran])
    all_mass = np.concatenate([[0.0], np.cumsum(np.bincount(leaf, weights=recency, minlength=len(names)))])
    ran_mass = np.concatenate([[0.0], np.cumsum(stats.mass)])
    skipped = (all_mass[last_leaf] - all_mass[first_leaf]) - (ran_mass[last_leaf] - ran_mass[first_leaf])
    total = np.maximum(all_mass[last_leaf] - all_mass[first_leaf], 1e-12)
    return RuntimeModel(
        paths=pd.Index(np.array(paths, dtype=object)),
        weight=weight,
        mean=mean,
        spread=spread,
        zero=np.where(skipped / total > 1e-6, skipped / total, 0.0),
        first=bound[first_leaf],
        last=bound[last_leaf],
        log_runtime=value,
        recency=recency[ran],
        shape=_shape(residual, recency[ran]),
        hint=_worth(ended),
        common=common,
        common_of=common_of,
        n_tasks=len(runtime),
    )


def _ended(seen: WorkTable, now: float) -> _Ended:
    tasks = seen.tasks
    runtime = tasks["runtime_s"].to_numpy(np.float64)
    keep = np.flatnonzero(np.isfinite(runtime) & (runtime >= 0))
    _, end = seen.spans()
    run = tasks["run"].to_numpy()[keep]
    return _Ended(
        tasks["signature"].to_numpy(dtype=object)[keep],
        runtime[keep],
        tasks["hint_s"].to_numpy(np.float64)[keep],
        0.5 ** ((now - end[keep]) / _HALF_LIFE_S),
        run,
        seen.runs["dag_id"].to_numpy(dtype=object)[run],
    )


class _Stats:
    """Weighted moments of log runtime per signature, in the order of paths; `total` sums them over ranges."""

    def __init__(self, leaf: Ints, value: Floats, weight: Floats, leaves: int) -> None:
        self.centre = float(np.average(value, weights=weight)) if len(value) else np.log(_ASSUMED_RUNTIME_S)
        x = value - self.centre
        self.mass = np.bincount(leaf, weights=weight, minlength=leaves)
        self.sums = np.bincount(leaf, weights=weight * x, minlength=leaves)
        squares = np.bincount(leaf, weights=weight * x * x, minlength=leaves)
        self.mass2 = np.bincount(leaf, weights=weight * weight, minlength=leaves)
        positive = np.maximum(self.mass, 1e-300)
        self.mean = self.sums / positive
        self.within = np.maximum(squares - self.sums**2 / positive, 0.0)  # weighted sum of squares about the mean
        self.freedom = np.maximum(self.mass - self.mass2 / positive, 0.0)
        self.squares = squares

    def total(self, column: Any, first: Ints, last: Ints) -> Floats:
        """(G,) sums of a column over leaves first..last-1."""
        running = np.concatenate([[0.0], np.cumsum(column)])
        out: Floats = running[last] - running[first]
        return out

    def residuals(self, leaf: Ints, value: Floats) -> Floats:
        """(N,) standardised by the signature's own moments; NaN where these rest on too little."""
        variance = np.divide(self.within, self.freedom, out=np.zeros(len(self.mass)), where=self.freedom > 0)
        enough = (self.mass**2 / np.maximum(self.mass2, 1e-300) >= 3.0) & (variance > 1e-8)
        spread = np.where(enough, np.sqrt(variance), np.nan)
        out: Floats = (value - self.centre - self.mean[leaf]) / spread[leaf]
        return out


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _tree(names: list[str]) -> tuple[list[str], Ints, Ints, Ints]:
    """Paths ("" first, coarse before fine), the leaves under each as a range, and the number of the path above each."""
    reach: dict[str, list[int]] = {"": [0, len(names)]}
    for i, name in enumerate(names):
        path = name
        while path:
            held = reach.setdefault(path, [i, i + 1])
            held[1] = i + 1
            path = _above(path)
    paths = sorted(reach, key=lambda p: (p.count("/") + 1 if p else 0, p))
    number = {p: i for i, p in enumerate(paths)}
    bounds = np.array([reach[p] for p in paths], dtype=np.int64)
    return paths, bounds[:, 0], bounds[:, 1], np.array([number[_above(p)] for p in paths], dtype=np.int64)


def _shrunk(stats: _Stats, first: Ints, last: Ints, above: Ints) -> tuple[Floats, Floats, Floats]:
    """Effective weight, location and spread of every path, the coarse ones first and lending to the fine ones."""
    mass, mass2 = stats.total(stats.mass, first, last), stats.total(stats.mass2, first, last)
    positive = np.maximum(mass, 1e-300)
    weight = np.where(mass > 0, mass**2 / np.maximum(mass2, 1e-300), 0.0)
    raw = stats.total(stats.sums, first, last) / positive
    variance = np.maximum(stats.total(stats.squares, first, last) / positive - raw**2, 0.0)
    freedom = stats.total(stats.freedom, first, last)
    pooled = stats.total(stats.within, first, last)
    within = np.where(freedom > 0, pooled / np.maximum(freedom, 1e-300), 0.5 * variance)
    between = np.maximum(variance - within, 1e-4)
    mean, spread = raw + stats.centre, np.sqrt(np.maximum(variance, 1e-6))
    if mass[0] <= 0 or variance[0] <= 0:
        spread[0] = _ASSUMED_SPREAD
    free = np.maximum(weight - 1.0, 0.0)
    own = variance * np.divide(weight, free, out=np.zeros_like(weight), where=free > 0)
    for g in range(1, len(mean)):
        p = above[g]
        prior = within[p] if within[p] > 0 else spread[0] ** 2
        v = (free[g] * own[g] + _SPREAD_PRIOR * prior) / (free[g] + _SPREAD_PRIOR)
        lean = min(v / between[p], 20.0)
        mean[g] = (weight[g] * mean[g] + lean * mean[p]) / (weight[g] + lean)
        spread[g] = np.sqrt(v * (1.0 + 1.0 / (weight[g] + lean)))
    return weight, mean, spread


def _shape(residual: Floats, weight: Floats) -> Floats:
    known = np.isfinite(residual)
    if known.sum() < _FEWEST_FOR_SHAPE:
        return SCORES
    picked = np.flatnonzero(known)[:: max(1, int(known.sum()) // 20_000)]
    value = residual[picked]
    value = (value - np.average(value, weights=weight[picked])) / max(float(np.std(value)), 1e-6)
    out: Floats = grouped_quantiles(np.zeros(len(value), np.int64), value, weight[picked], 1, LEVELS)[0]
    return out


def _worth(ended: _Ended) -> Floats:
    """(CELLS,) log of runtime over hint: what hints turned out to be worth."""
    known = np.flatnonzero((ended.runtime > 0) & (ended.hint > 0))
    assumed = SCORES * _HINT_SPREAD
    if not len(known):
        return assumed
    picked = known[:: max(1, len(known) // 20_000)]
    ratio = np.log(ended.runtime[picked] / ended.hint[picked])
    seen = grouped_quantiles(np.zeros(len(ratio), np.int64), ratio, ended.recency[picked], 1, LEVELS)[0]
    trust = len(known) / (len(known) + _SPREAD_PRIOR)
    out: Floats = trust * seen + (1 - trust) * assumed
    return out


def _common(residual: Floats, run: Ints, dag: Any) -> tuple[float, dict[str, float]]:
    """Share of variance that the tasks of a run have in common: mean product of pairs of residuals within runs."""
    known = np.isfinite(residual)
    if known.sum() < _FEWEST_FOR_SHAPE:
        return 0.0, {}
    r, run, dag = np.clip(residual[known], -4, 4), run[known], dag[known]
    codes, _ = pd.factorize(run)
    first = np.unique(codes, return_index=True)[1]
    n = np.bincount(codes).astype(np.float64)
    total, squares = np.bincount(codes, weights=r), np.bincount(codes, weights=r * r)
    several = n >= 2
    pairs = (total**2 - squares)[several] / (n - 1)[several]  # a run counts by its tasks, not by their pairs
    frame = pd.DataFrame({"dag": dag[first][several], "pairs": pairs, "n": n[several], "runs": 1.0})
    if not len(frame):
        return 0.0, {}
    pool = float(np.clip(frame["pairs"].sum() / frame["n"].sum(), 0.0, _MOST_COMMON))
    sums = frame.groupby("dag", sort=True).sum()
    own = (sums["pairs"] / sums["n"]).clip(0.0, _MOST_COMMON)
    trust = sums["runs"] / (sums["runs"] + _RUN_PRIOR)
    blended = trust * own + (1 - trust) * pool
    return pool, {str(d): float(v) for d, v in blended.items()}
