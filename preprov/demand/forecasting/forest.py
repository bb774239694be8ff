"""Quantile forest members: grown by quantile-forest, kept and asked as plain numpy arrays.

Why arrays: skops has no safe form for quantile-forest's compiled leaf table, and a forest of 100 trees is a few flat
arrays anyway. They load without running code, survive library upgrades, and answer a day ahead in milliseconds.
Quantile regression forests: Meinshausen 2006. Extremely randomised trees: Geurts et al. 2006; they take a sixth of the
time of bootstrap forests, which is what lets a year of hours be refitted within seconds on one thread.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.member import Member, learnable_rows, on_grid
from preprov.demand.forecasting.view import Floats, Ints, View
from preprov.model.errors import UnsafeModelError

_KINDS: Final = {
    "feature": "i",
    "threshold": "f",
    "left": "i",
    "right": "i",
    "roots": "i",
    "means": "f",
    "leaves": "u",
    "targets": "f",
    "change": "b",
    "importances": "f",
}
_PER_NODE: Final = ("feature", "threshold", "left", "right", "means", "leaves")


@dataclass(frozen=True)
class Trees:
    """All trees end to end.

    Attributes:
        feature, threshold, left, right, means: (nodes,); left is -1 at a leaf, means are of the targets in a node.
        roots: (trees,) first node of each. leaves: (nodes, K) numbers of targets in a leaf. targets: (N,).
    """

    feature: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    roots: NDArray[np.int32]
    means: NDArray[np.float32]
    leaves: NDArray[np.unsignedinteger[Any]]
    targets: NDArray[np.float32]

    def samples(self, rows: NDArray[np.float32]) -> Floats:
        """(N, F) -> (N, trees * K) targets of the leaves that each row falls into."""
        at = deque(self._descent(rows), maxlen=1).pop()
        out: Floats = self.targets[self.leaves[at].reshape(len(rows), -1)].astype(np.float64)
        return out

    def effects(self, rows: NDArray[np.float32]) -> Floats:
        """(N, F) -> (N, F) how far each feature moved the forest's mean along the rows' paths."""
        out = np.zeros(rows.shape)
        row = np.broadcast_to(np.arange(len(rows))[:, None], (len(rows), len(self.roots)))
        before = np.repeat(self.roots[None, :], len(rows), axis=0)
        for at in self._descent(rows):
            np.add.at(out, (row, self.feature[before]), (self.means[at] - self.means[before]) / len(self.roots))
            before = at
        return out

    def _descent(self, rows: NDArray[np.float32]) -> Iterator[NDArray[np.int32]]:
        """(N, trees) node that each row has reached in each tree, one level deeper each time, until all are leaves."""
        at = np.repeat(self.roots[None, :], len(rows), axis=0)
        row = np.arange(len(rows))[:, None]
        yield at
        while (inner := self.left[at] >= 0).any():
            goes_left = rows[row, self.feature[at]] <= self.threshold[at]
            at = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), at)
            yield at


@dataclass(frozen=True)
class FittedForest:
    """A forest on the level of demand, or on its change since the last known step."""

    trees: Trees
    change: bool
    importances: Floats

    def predict_at(self, view: View, origins: Ints, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(O, H, Q) for the `horizon` steps after each origin."""
        out = np.empty((len(origins), horizon, len(quantiles)))
        ahead = np.arange(1, horizon + 1)
        for i, origin in enumerate(origins):
            rows = view.rows(np.full(horizon, origin), ahead)
            out[i] = on_grid(self.trees.samples(rows), quantiles)
            if self.change:
                out[i] += view.filled[origin]
        return out

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Plain arrays to store."""
        parts = {name: getattr(self.trees, name) for name in Trees.__dataclass_fields__}
        return {**parts, "change": np.array(self.change), "importances": self.importances}


@dataclass(frozen=True)
class Forest(Member):
    """Quantile forest over View.rows.

    Attributes:
        change: learn demand less the last known value (better on persistent series) instead of demand itself.
        trees, leaf, features: number of trees, least rows in a leaf, share of features tried at a split.
        rows: training rows drawn at most; keeps time and memory flat however long the history.
        days: known days below which it does not speak.
    """

    change: bool = True
    trees: int = 100
    rows: int = 16_000
    leaf: int = 10
    features: float = 0.4
    days: float = 10.0

    @property
    def name(self) -> str:
        """Name of the member."""
        return "forest_change" if self.change else "forest_level"

    def min_days(self) -> float:
        """Days of known steps it needs."""
        return self.days

    def fit_view(self, view: View, horizon: int, seed: int) -> FittedForest:
        """Grow the forest on one thread."""
        from quantile_forest import ExtraTreesQuantileRegressor

        origins, ahead = learnable_rows(view, horizon, self.rows, seed)
        target = view.filled[origins + ahead]
        if self.change:
            target = target - view.filled[origins]
        # max_samples_leaf stays at `leaf`: None pads every leaf of every tree to the largest (24 GB on 131 k rows).
        grown = ExtraTreesQuantileRegressor(
            n_estimators=self.trees,
            min_samples_leaf=self.leaf,
            max_samples_leaf=self.leaf,
            max_features=self.features,
            n_jobs=1,
            random_state=seed,
        ).fit(view.rows(origins, ahead), target)
        return FittedForest(flatten(grown, np.sort(target)), self.change, grown.feature_importances_.astype(np.float64))

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedForest:
        """From `state()`, its shapes and bounds checked so that a damaged forest cannot loop or read astray."""
        for name, kind in _KINDS.items():
            if name not in state or state[name].dtype.kind != kind:
                raise UnsafeModelError(f"a stored forest has no valid {name!r}", hint="retrain the model")
        trees = Trees(**{name: state[name] for name in Trees.__dataclass_fields__})
        if not _sound(trees):
            raise UnsafeModelError("a stored forest is damaged", hint="retrain the model")
        return FittedForest(trees, bool(state["change"]), state["importances"])


def _sound(trees: Trees) -> bool:
    """Children come after their parent and everything points inside: no loop, no reading astray."""
    number = np.arange(len(trees.left))
    inner = trees.left >= 0
    same = {len(number)} == {len(getattr(trees, name)) for name in _PER_NODE}
    if not (same and len(number) and len(trees.roots) and len(trees.targets)):
        return False
    forward = (trees.left > number)[inner].all() and (trees.right > number)[inner].all()
    highest = max(trees.left.max(), trees.right.max(), trees.roots.max())
    inside = highest < len(number) and trees.roots.min() >= 0
    return bool(forward and inside and trees.leaves.max() < len(trees.targets))


def flatten(grown: Any, targets: Floats) -> Trees:
    """The library's trees and leaf table end to end; row 0 of its table means none, so targets are numbered from 1."""
    parts = [estimator.tree_ for estimator in grown.estimators_]
    counts = np.array([tree.node_count for tree in parts])
    roots = np.concatenate([[0], np.cumsum(counts)[:-1]])
    table = np.asarray(grown.forest_.y_train_leaves)[:, :, 0, :]
    numbers = np.concatenate([table[i, :count] for i, count in enumerate(counts)])
    shift = np.repeat(roots, counts)
    left = np.concatenate([tree.children_left for tree in parts])
    right = np.concatenate([tree.children_right for tree in parts])
    return Trees(
        feature=np.concatenate([np.maximum(tree.feature, 0) for tree in parts]).astype(np.int32),
        threshold=np.concatenate([tree.threshold for tree in parts]),
        left=np.where(left >= 0, left + shift, -1).astype(np.int32),
        right=np.where(right >= 0, right + shift, -1).astype(np.int32),
        roots=roots.astype(np.int32),
        means=np.concatenate([tree.value[:, 0, 0] for tree in parts]).astype(np.float32),
        leaves=np.maximum(numbers - 1, 0).astype(np.uint16 if len(targets) <= 2**16 else np.uint32),
        targets=targets.astype(np.float32),
    )
