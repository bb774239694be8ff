"""A forest on everything known before the run, as weights on the runs it has seen: quantile regression forests.

Meinshausen 2006. Grown by scikit-learn, asked as plain arrays: one task takes tens of microseconds, not milliseconds.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST: Final = 20
"""Runs below which a forest is not grown."""
_TREES: Final = 20
_LEAF: Final = 4
_FEATURES: Final = 0.5
_UNKNOWN: Final = -1.0


@dataclass(frozen=True)
class Forest:
    """Trees end to end.

    Attributes:
        feature, threshold, left, right: (nodes,); left is -1 at a leaf. roots: (trees,).
        leaf: (trees, n) the leaf each run of the history stands in. size: (nodes,) how many stand there.
    """

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    roots: Ints
    leaf: Ints
    size: Floats

    @classmethod
    def grow(cls, known: Floats, target: Floats, seed: int) -> "Forest":
        """On (n, F) of what is known, NaN where nothing is, and (n,) targets."""
        from sklearn.ensemble import RandomForestRegressor

        rows = _filled(known)
        grown = RandomForestRegressor(
            _TREES, min_samples_leaf=_LEAF, max_features=_FEATURES, random_state=seed, n_jobs=1
        ).fit(rows, target)
        trees = [e.tree_ for e in grown.estimators_]
        roots = np.cumsum([0, *(t.node_count for t in trees[:-1])])
        left = np.concatenate(
            [np.where(t.children_left < 0, -1, t.children_left + r) for t, r in zip(trees, roots, strict=True)]
        )
        right = np.concatenate([t.children_right + r for t, r in zip(trees, roots, strict=True)])
        made = cls(
            np.concatenate([np.maximum(t.feature, 0) for t in trees]).astype(np.int64),
            np.concatenate([t.threshold for t in trees]),
            left.astype(np.int64),
            right.astype(np.int64),
            roots.astype(np.int64),
            np.empty((0, 0), dtype=np.int64),
            np.empty(0),
        )
        leaf = made._leaves(rows).T
        size = np.bincount(leaf.ravel(), minlength=len(left)).astype(np.float64)
        return cls(made.feature, made.threshold, made.left, made.right, made.roots, np.ascontiguousarray(leaf), size)

    def weights(self, known: Floats) -> Floats:
        """(Q, F) -> (Q, n) how much each run of the history counts for each task."""
        reached = self._leaves(_filled(known))
        share = 1.0 / self.size[reached] / len(self.roots)
        out = np.empty((len(known), self.leaf.shape[1]))
        for row in range(len(known)):
            out[row] = share[row] @ (self.leaf == reached[row][:, None])
        return out

    def _leaves(self, rows: Floats) -> Ints:
        """(Q, F) -> (Q, trees) nodes."""
        at = np.repeat(self.roots[None, :], len(rows), axis=0)
        row = np.arange(len(rows))[:, None]
        inner = self.left[at] >= 0
        while inner.any():
            goes_left = rows[row, self.feature[at]] <= self.threshold[at]
            at = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), at)
            inner = self.left[at] >= 0
        return at


def _filled(known: Floats) -> Floats:
    return np.where(np.isfinite(known), known, _UNKNOWN).astype(np.float32).astype(np.float64)
