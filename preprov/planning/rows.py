"""What is scarce: rows over courses, and how much of each row a course takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

EPS: Final = 1e-7
UNSERVED: Final = -1
"""Choice of the column that leaves a level to its fate."""


@dataclass(frozen=True)
class Weights:
    """How much of a row one unit of a course of a pool takes; what is None takes nothing.

    Attributes:
        spend: (T,) per dollar. run: (T, G) per running node. launch: (T, G) per launch. levels: (G,) per node.
    """

    spend: Array | None = None
    run: Array | None = None
    launch: Array | None = None
    levels: Array | None = None


@dataclass(frozen=True)
class Row:
    """At most `limit` of something: a hard cap; or, with `least`, at least so much, if the caps leave room for it.

    Attributes:
        parts: index of the pool -> its weights. at: they count at this step alone, without the axis T; None = at all.
    """

    name: str
    limit: float
    parts: Mapping[int, Weights]
    least: bool = False
    at: int | None = None

    @property
    def of_steps(self) -> tuple[str, int, int]:
        """(what, pool, group) of a row of one step, whose name has the step as well."""
        what, pool, group, _ = self.name.split(" ")
        return what, int(pool), int(group)

    def is_broken(self, total: float) -> bool:
        """True if so much of it is not allowed, or not enough."""
        return total < self.limit - EPS if self.least else total > self.limit + EPS


@dataclass(frozen=True)
class Column:
    """A course of one level.

    Attributes:
        size: levels that one node of the choice is. cost: USD, `fines` included: those for what must run and does not.
    """

    pool: int
    band: int
    choice: int
    size: float
    states: Array
    cost: float
    fines: float
    money: Array
    run: Array
    launch: Array


def amounts(rows: Sequence[Row], columns: Sequence[Column]) -> Array:
    """(R, C) how much of each row one level on each course takes."""
    out = np.zeros((len(rows), len(columns)))
    for p in {c.pool for c in columns}:
        at = np.array([j for j, c in enumerate(columns) if c.pool == p and c.choice != UNSERVED], dtype=np.int64)
        if len(at):
            out[:, at] = _of_pool(rows, p, [columns[j] for j in at.tolist()])
    return out


def _of_pool(rows: Sequence[Row], p: int, columns: Sequence[Column]) -> Array:
    money = np.array([c.money for c in columns])
    choice = np.array([c.choice for c in columns])
    nodes = 1.0 / np.array([c.size for c in columns])
    run = np.array([c.run for c in columns]) * nodes[:, None]
    launch = np.array([c.launch for c in columns]) * nodes[:, None]
    out = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        w = row.parts.get(p)
        if w is None:
            continue
        if w.spend is not None:
            out[i] += money @ w.spend if row.at is None else money[:, row.at] * float(w.spend)
        for weight, taken in ((w.run, run), (w.launch, launch)):
            if weight is not None:
                one = (taken * weight[:, choice].T).sum(axis=1) if row.at is None else taken[:, row.at] * weight[choice]
                out[i] += one
        if w.levels is not None:
            out[i] += w.levels[choice] * nodes
    return out
