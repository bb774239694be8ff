"""How runtime distributions are learnt: paths of signatures, moments shrunk down the paths, quantiles of each."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from preprov.demand.draws import Keys
from preprov.demand.runtime_paths import Leaves, Tree
from preprov.demand.runtime_tables import (
    LEVELS,
    SCORES,
    Floats,
    Ints,
    Singles,
    grouped_quantiles,
    in_order,
    sorted_quantiles,
)
from preprov.demand.shapes import keys_of_places
from preprov.demand.sizes import learn_sizes, size_class
from preprov.model.worktable import WorkTable

_HALF_LIFE_S: Final = 30 * 86_400.0
_SPREAD_PRIOR: Final = 4.0  # observations that the spread of the path above is worth
_SHAPE_PRIOR: Final = 12.0  # observations that the pooled shape is worth
_RUN_PRIOR: Final = 20.0  # runs that the pool's common share is worth against a DAG's own
_MOST_OBSERVATIONS: Final = 4_000  # a path is described by so many of its observations at most, evenly chosen
_FEWEST_FOR_SHAPE: Final = 30
# Nothing at all is known: seconds to an hour, so that what comes after such a task is prepared for as well.
_ASSUMED_RUNTIME_S: Final = 120.0
_ASSUMED_SPREAD: Final = 2.0
_HINT_SPREAD: Final = 0.5
_MOST_COMMON: Final = 0.95
_MOST_LEAN: Final = 20.0
_KNOTS: Final = np.linspace(SCORES[0], SCORES[-1], 29)
_BETWEEN: Final = np.maximum(0.0, 1.0 - np.abs(SCORES[None, :] - _KNOTS[:, None]) / (_KNOTS[1] - _KNOTS[0]))


@dataclass(frozen=True)
class Ended:
    """Ended tasks, one row each: what they were, how long they ran (0 = skipped), how much they count.

    Attributes:
        signature: (N,) number of each one's among `signatures`. dags: (R,) DAG of each run.
    """

    signature: Ints
    signatures: NDArray[np.object_]
    place: Keys
    size: Ints
    runtime: Floats
    hint: Floats
    recency: Floats
    run: Ints
    dags: NDArray[np.object_]

    @classmethod
    def of(cls, seen: WorkTable, now: float) -> "Ended":
        """Tasks that ended well, of work seen at `now`."""
        tasks = seen.tasks
        runtime = tasks["runtime_s"].to_numpy(np.float64)
        keep = np.flatnonzero(np.isfinite(runtime) & (runtime >= 0))
        every, run = tasks["signature"].to_numpy(dtype=object), tasks["run"].to_numpy()
        number, signatures = pd.factorize(every)
        place = keys_of_places(number, signatures, run)[keep]
        signature, ended = pd.factorize(number[keep])
        _, end = seen.spans()
        return cls(
            signature,
            signatures[ended],
            place,
            size_class(tasks)[keep],
            runtime[keep],
            tasks["hint_s"].to_numpy(np.float64)[keep],
            0.5 ** ((now - end[keep]) / _HALF_LIFE_S),
            run[keep],
            seen.runs["dag_id"].to_numpy(dtype=object),
        )


@dataclass(frozen=True)
class Paths:
    """What was learnt of every path, "" (all of them) first.

    Attributes:
        names: of the paths but for places. number: of each of these names. described: what was learnt of the G paths.
        zero: (G,) share skipped. sizes: (CLASSES,) added by size.
        places, place_path: (P,) keys of places with a history of their own, ascending, and their paths' numbers.
        common, common_of: share of variance that the tasks of a run have in common, and by DAG.
    """

    names: pd.Index
    number: Ints
    described: "Described"
    zero: Floats
    sizes: Floats
    places: Keys
    place_path: Ints
    common: float
    common_of: dict[str, float]


@dataclass(frozen=True)
class Described:
    """G distributions, told by little: their own quantiles at a few scores, and a pooled shape about a location.

    Attributes:
        weight, mean, spread: (G,). own: (G, knots) NaN where there is none. shape: (CELLS,).
    """

    weight: Floats
    mean: Floats
    spread: Floats
    own: Floats
    shape: Floats

    def __len__(self) -> int:
        return len(self.weight)

    def log_quantiles(self, numbers: Ints) -> Singles:
        """(K, CELLS): their own quantiles and the pooled shape about their location, by how much each has seen."""
        pooled = self.mean[numbers, None] + self.spread[numbers, None] * self.shape[None, :]
        trust = (self.weight[numbers] / (self.weight[numbers] + _SHAPE_PRIOR))[:, None]
        own = self.own[numbers] @ _BETWEEN
        blended = np.where(np.isfinite(own), trust * own + (1 - trust) * pooled, pooled)
        out: Singles = np.maximum.accumulate(blended, axis=1).astype(np.float32)
        return out


def learn_paths(ended: Ended) -> Paths:
    """Learn all paths."""
    leaves = Leaves.of(ended.signature, ended.signatures, ended.place)
    order = in_order(leaves.of_task, len(leaves))
    leaf, runtime, recency = leaves.of_task[order], ended.runtime[order], ended.recency[order]
    ran = runtime > 0
    leaf_ran, recency_ran = leaf[ran], recency[ran]
    value, size = np.log(runtime[ran]), ended.size[order][ran]
    sizes = learn_sizes(size, value, recency_ran)
    value -= sizes[size]
    stats = _Moments(leaf_ran, value, recency_ran, len(leaves))
    tree = Tree.of(leaves)
    bound = np.searchsorted(leaf_ran, np.arange(len(leaves) + 1))
    residual = stats.residuals(leaf_ran, value)
    common, common_of = _common(residual, ended.run[order][ran], ended.dags)
    own = _own_quantiles(bound[tree.first], bound[tree.last], value, recency_ran)
    mass = np.bincount(leaf, weights=recency, minlength=len(leaves))
    return Paths(
        names=pd.Index(np.array(tree.names, dtype=object)),
        number=tree.number,
        described=Described(*_shrunk(stats, tree), own, _shape(residual, recency_ran)),
        zero=_skipped(tree, mass, stats.mass),
        sizes=sizes,
        places=leaves.places,
        place_path=tree.of_place,
        common=common,
        common_of=common_of,
    )


def learn_hint(ended: Ended) -> Floats:
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


class _Moments:
    """Weighted moments of log runtime per leaf."""

    def __init__(self, leaf: Ints, value: Floats, weight: Floats, leaves: int) -> None:
        self.centre = float(np.average(value, weights=weight)) if len(value) else float(np.log(_ASSUMED_RUNTIME_S))
        x = value - self.centre
        self.mass = np.bincount(leaf, weights=weight, minlength=leaves).astype(np.float64)
        self.mass2 = np.bincount(leaf, weights=weight * weight, minlength=leaves)
        self.sums = np.bincount(leaf, weights=weight * x, minlength=leaves)
        self.squares = np.bincount(leaf, weights=weight * x * x, minlength=leaves)
        positive = np.maximum(self.mass, 1e-300)
        self.mean = self.sums / positive
        self.within = np.maximum(self.squares - self.sums**2 / positive, 0.0)  # sum of squares about the leaf's mean
        self.freedom = np.maximum(self.mass - self.mass2 / positive, 0.0)

    def residuals(self, leaf: Ints, value: Floats) -> Floats:
        """(N,) standardised by the leaf's own moments; NaN where these rest on too little."""
        variance = np.divide(self.within, self.freedom, out=np.zeros(len(self.mass)), where=self.freedom > 0)
        enough = (self.mass**2 / np.maximum(self.mass2, 1e-300) >= 3.0) & (variance > 1e-8)
        spread = np.where(enough, np.sqrt(variance), np.nan)
        out: Floats = (value - self.centre - self.mean[leaf]) / spread[leaf]
        return out


def _shrunk(stats: _Moments, tree: Tree) -> tuple[Floats, Floats, Floats]:
    """Effective weight, location and spread of every path, the coarse ones lending to the fine ones."""
    mass = tree.total(stats.mass)
    positive = np.maximum(mass, 1e-300)
    weight = np.where(mass > 0, mass**2 / np.maximum(tree.total(stats.mass2), 1e-300), 0.0)
    raw = tree.total(stats.sums) / positive
    variance = np.maximum(tree.total(stats.squares) / positive - raw**2, 0.0)
    freedom = tree.total(stats.freedom)
    within = np.where(freedom > 0, tree.total(stats.within) / np.maximum(freedom, 1e-300), 0.5 * variance)
    between = np.maximum(variance - within, 1e-4)
    mean, spread = raw + stats.centre, np.sqrt(np.maximum(variance, 1e-6))
    if mass[0] <= 0 or variance[0] <= 0:
        spread[0] = _ASSUMED_SPREAD
    free = np.maximum(weight - 1.0, 0.0)
    own = variance * np.divide(weight, free, out=np.zeros_like(weight), where=free > 0)
    for depth in range(1, int(tree.depth.max()) + 1):
        g = np.flatnonzero(tree.depth == depth)
        p = tree.above[g]
        prior = np.where(within[p] > 0, within[p], spread[0] ** 2)
        v = (free[g] * own[g] + _SPREAD_PRIOR * prior) / (free[g] + _SPREAD_PRIOR)
        lean = np.minimum(v / between[p], _MOST_LEAN)
        mean[g] = (weight[g] * mean[g] + lean * mean[p]) / (weight[g] + lean)
        spread[g] = np.sqrt(v * (1.0 + 1.0 / (weight[g] + lean)))
    return weight, mean, spread


def _own_quantiles(first: Ints, last: Ints, value: Floats, recency: Floats) -> Floats:
    """(G, knots) weighted quantiles of the observations first..last-1 of each path; NaN where it has none."""
    have = last - first
    count = np.minimum(have, _MOST_OBSERVATIONS)
    group = np.repeat(np.arange(len(first)), count)
    within = np.arange(len(group)) - np.repeat(np.cumsum(count) - count, count)
    at = first[group] + ((within + 0.5) * (have / np.maximum(count, 1))[group]).astype(np.int64)
    by_value = np.argsort(value, kind="stable")
    rank = np.empty(len(value), dtype=np.int64)
    rank[by_value] = np.arange(len(value))
    # Each path's observations by value: one sort of words instead of two of places.
    words = np.sort(group * len(value) + rank[at])
    at = by_value[words - group * len(value)]
    return sorted_quantiles(group, value[at], recency[at], len(first), ndtr(_KNOTS))


def _skipped(tree: Tree, mass: Any, ran: Floats) -> Floats:
    share = (tree.total(mass) - tree.total(ran)) / np.maximum(tree.total(mass), 1e-12)
    return np.where(share > 1e-6, share, 0.0)


def _shape(residual: Floats, weight: Floats) -> Floats:
    """(CELLS,) quantiles of the pooled standardised residuals; normal if there are too few."""
    known = np.flatnonzero(np.isfinite(residual))
    if len(known) < _FEWEST_FOR_SHAPE:
        return SCORES
    picked = known[:: max(1, len(known) // 20_000)]
    value = residual[picked]
    value = (value - np.average(value, weights=weight[picked])) / max(float(np.std(value)), 1e-6)
    out: Floats = grouped_quantiles(np.zeros(len(value), np.int64), value, weight[picked], 1, LEVELS)[0]
    return out


def _common(residual: Floats, run: Ints, dags: NDArray[np.object_]) -> tuple[float, dict[str, float]]:
    """Share of variance that the tasks of a run have in common: mean product of pairs of residuals within runs."""
    known = np.isfinite(residual)
    if known.sum() < _FEWEST_FOR_SHAPE:
        return 0.0, {}
    r = np.clip(residual[known], -4, 4)
    codes, runs = pd.factorize(run[known])
    n = np.bincount(codes).astype(np.float64)
    total, squares = np.bincount(codes, weights=r), np.bincount(codes, weights=r * r)
    several = n >= 2
    pairs = (total**2 - squares)[several] / (n - 1)[several]  # a run counts by its tasks, not by their pairs
    frame = pd.DataFrame({"dag": dags[runs][several], "pairs": pairs, "n": n[several], "runs": 1.0})
    if not len(frame):
        return 0.0, {}
    pool = float(np.clip(frame["pairs"].sum() / frame["n"].sum(), 0.0, _MOST_COMMON))
    sums = frame.groupby("dag", sort=True).sum()
    own = (sums["pairs"] / sums["n"]).clip(0.0, _MOST_COMMON)
    trust = sums["runs"] / (sums["runs"] + _RUN_PRIOR)
    blended = trust * own + (1 - trust) * pool
    return pool, {str(d): float(v) for d, v in blended.items()}
