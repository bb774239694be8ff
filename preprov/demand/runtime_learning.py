"""How runtime distributions are learnt: paths of signatures, moments shrunk down the paths, quantiles of each."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.special import ndtr

from preprov.demand.draws import Keys
from preprov.demand.runtime_tables import LEVELS, SCORES, Floats, Ints, Singles, grouped_quantiles
from preprov.demand.shapes import place_keys
from preprov.demand.sizes import learn_sizes, size_class
from preprov.model.worktable import WorkTable

_HALF_LIFE_S: Final = 30 * 86_400.0
_SPREAD_PRIOR: Final = 4.0  # observations that the spread of the path above is worth
_SHAPE_PRIOR: Final = 12.0  # observations that the pooled shape is worth
_RUN_PRIOR: Final = 20.0  # runs that the pool's common share is worth against a DAG's own
_MOST_OBSERVATIONS: Final = 4_000  # a path is described by so many of its observations at most, evenly chosen
_MOST_PLACES: Final = 60_000
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
    """Ended tasks, one row each: what they were, how long they ran (0 = skipped), how much they count."""

    signature: Any
    place: Keys
    size: Ints
    runtime: Floats
    hint: Floats
    recency: Floats
    run: Ints
    dag: Any

    @classmethod
    def of(cls, seen: WorkTable, now: float) -> "Ended":
        """Tasks that ended well, of work seen at `now`."""
        tasks = seen.tasks
        runtime = tasks["runtime_s"].to_numpy(np.float64)
        keep = np.flatnonzero(np.isfinite(runtime) & (runtime >= 0))
        signature, run = tasks["signature"].to_numpy(dtype=object), tasks["run"].to_numpy()
        _, end = seen.spans()
        return cls(
            signature[keep],
            place_keys(signature, run)[keep],
            size_class(tasks)[keep],
            runtime[keep],
            tasks["hint_s"].to_numpy(np.float64)[keep],
            0.5 ** ((now - end[keep]) / _HALF_LIFE_S),
            run[keep],
            seen.runs["dag_id"].to_numpy(dtype=object)[run[keep]],
        )


@dataclass(frozen=True)
class Paths:
    """What was learnt of every path, "" (all of them) first.

    Attributes:
        names: of the paths. log_quantiles: (G, CELLS) log seconds at SCORES, less what `sizes` adds. zero: (G,) share
            skipped. sizes: (CLASSES,) added by size.
        places, place_path: (P,) keys of places with a history of their own, ascending, and their paths' numbers.
        common, common_of: share of variance that the tasks of a run have in common, and by DAG.
    """

    names: pd.Index
    log_quantiles: Singles
    zero: Floats
    sizes: Floats
    places: Keys
    place_path: Ints
    common: float
    common_of: dict[str, float]


def learn_paths(ended: Ended) -> Paths:
    """Learn all paths."""
    leaf, names, places, place_leaf = _leaves(ended)
    order = np.argsort(leaf, kind="stable")
    leaf, runtime, recency = leaf[order], ended.runtime[order], ended.recency[order]
    ran = runtime > 0
    value, size = np.log(runtime[ran]), ended.size[order][ran]
    sizes = learn_sizes(size, value, recency[ran])
    value -= sizes[size]
    stats = _Moments(leaf[ran], value, recency[ran], len(names))
    tree = _Tree.of(names)
    bound = np.searchsorted(leaf[ran], np.arange(len(names) + 1))
    residual = stats.residuals(leaf[ran], value)
    common, common_of = _common(residual, ended.run[order][ran], ended.dag[order][ran])
    own = _own_quantiles(bound[tree.first], bound[tree.last], value, recency[ran])
    shape = _shape(residual, recency[ran])
    mass = np.bincount(leaf, weights=recency, minlength=len(names))
    return Paths(
        names=pd.Index(np.array(tree.paths, dtype=object)),
        log_quantiles=_blended(stats, tree, own, shape),
        zero=_skipped(tree, mass, stats.mass),
        sizes=sizes,
        places=places,
        place_path=tree.of_leaf(names)[place_leaf],
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


def above(path: str) -> str:
    """The next coarser path."""
    return path.rpartition("/")[0]


def _depth(path: str) -> int:
    return path.count("/") + 1 if path else 0


def _leaves(ended: Ended) -> tuple[Ints, list[str], Keys, Ints]:
    """Leaf of each task, the leaves' names, the keys of places that are leaves (ascending), and which these are.

    A leaf is a signature; or, where a signature stands in several places, each of them. Leaves are numbered so that all
    under one path are neighbours.
    """
    codes, unique = pd.factorize(ended.signature)
    places, at, seen = np.unique(ended.place, return_inverse=True, return_counts=True)
    signature_of = np.zeros(len(places), dtype=np.int64)
    signature_of[at] = codes
    several = np.bincount(signature_of, minlength=len(unique))[signature_of] > 1
    if several.sum() > _MOST_PLACES:
        several &= seen >= np.sort(seen[several])[-_MOST_PLACES]
    chosen = np.flatnonzero(several)
    number = np.full(len(places), -1)
    number[chosen] = np.arange(len(chosen)) + len(unique)
    names = [str(s) for s in unique] + [f"{unique[signature_of[p]]}/\1{places[p]:x}" for p in chosen.tolist()]
    leaf = np.where(number[at] >= 0, number[at], codes)
    by_path = np.argsort(np.array([n.replace("/", "\0") for n in names], dtype=object), kind="stable")
    rank = np.empty(len(names), dtype=np.int64)
    rank[by_path] = np.arange(len(names))
    return rank[leaf], [names[i] for i in by_path], places[chosen], rank[number[chosen]]


@dataclass(frozen=True)
class _Tree:
    """Paths, coarse before fine; the leaves under each as a range; the number and depth of the path above each."""

    paths: list[str]
    first: Ints
    last: Ints
    above: Ints
    depth: Ints

    @classmethod
    def of(cls, names: list[str]) -> "_Tree":
        reach: dict[str, tuple[int, int]] = {name: (i, i + 1) for i, name in enumerate(names)}
        reach.setdefault("", (0, len(names)))
        by_depth: dict[int, list[str]] = {}
        for path in reach:
            by_depth.setdefault(_depth(path), []).append(path)
        for depth in range(max(by_depth), 0, -1):
            for path in by_depth.get(depth, ()):
                up = above(path)
                if up not in reach:
                    by_depth.setdefault(depth - 1, []).append(up)
                first, last = reach[path]
                held = reach.get(up, (first, last))
                reach[up] = (min(held[0], first), max(held[1], last))
        paths = [p for depth in sorted(by_depth) for p in by_depth[depth]]
        number = {p: i for i, p in enumerate(paths)}
        bounds = np.array([reach[p] for p in paths], dtype=np.int64)
        ups = np.array([number[above(p)] for p in paths], dtype=np.int64)
        return cls(paths, bounds[:, 0], bounds[:, 1], ups, np.array([_depth(p) for p in paths]))

    def of_leaf(self, names: list[str]) -> Ints:
        """(leaves,) number of each leaf's own path."""
        number = {p: i for i, p in enumerate(self.paths)}
        return np.array([number[n] for n in names], dtype=np.int64)

    def total(self, column: Any) -> Floats:
        """(G,) sums of a column of leaves under each path."""
        running = np.concatenate([[0.0], np.cumsum(column)])
        out: Floats = running[self.last] - running[self.first]
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


def _shrunk(stats: _Moments, tree: _Tree) -> tuple[Floats, Floats, Floats]:
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


def _blended(stats: _Moments, tree: _Tree, own: Floats, shape: Floats) -> Singles:
    """(G, CELLS): each path's own quantiles and the pooled shape about its shrunk location, by how much it has seen."""
    weight, mean, spread = _shrunk(stats, tree)
    pooled = mean[:, None] + spread[:, None] * shape[None, :]
    trust = (weight / (weight + _SHAPE_PRIOR))[:, None]
    blended = np.where(np.isfinite(own), trust * own + (1 - trust) * pooled, pooled)
    out: Singles = np.maximum.accumulate(blended, axis=1).astype(np.float32)
    return out


def _own_quantiles(first: Ints, last: Ints, value: Floats, recency: Floats) -> Floats:
    """(G, CELLS) weighted quantiles of the observations first..last-1 of each path; NaN where it has none.

    Taken at some scores, linear between them.
    """
    have = last - first
    count = np.minimum(have, _MOST_OBSERVATIONS)
    group = np.repeat(np.arange(len(first)), count)
    within = np.arange(len(group)) - np.repeat(np.cumsum(count) - count, count)
    at = first[group] + ((within + 0.5) * (have / np.maximum(count, 1))[group]).astype(np.int64)
    knots = grouped_quantiles(group, value[at], recency[at], len(first), ndtr(_KNOTS))
    out: Floats = knots @ _BETWEEN
    return out


def _skipped(tree: _Tree, mass: Any, ran: Floats) -> Floats:
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
