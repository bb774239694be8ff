"""Signatures as paths, and the tree they make: what is learnt of a path is learnt from all leaves under it."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.draws import Keys
from preprov.demand.runtime_tables import Floats, Ints

_MOST_PLACES: Final = 60_000


def above(path: str) -> str:
    """The next coarser path."""
    return path.rpartition("/")[0]


def _depth(path: str) -> int:
    return path.count("/") + 1 if path else 0


@dataclass(frozen=True)
class Leaves:
    """Leaves of the tree of paths: signatures; and where one stands in several places, each of them.

    Leaves are numbered so that all under one path are neighbours.

    Attributes:
        of_task: (N,) leaf of each task. names: (U,) signatures, by leaf. at: (U,) their leaves.
        places: (P,) keys of the places that are leaves, ascending. place_at: (P,) their leaves; place_of: (P,) position
            in `names` of the signature that stands there.
    """

    of_task: Ints
    names: list[str]
    at: Ints
    places: Keys
    place_at: Ints
    place_of: Ints

    def __len__(self) -> int:
        return len(self.names) + len(self.places)

    @classmethod
    def of(cls, signature: Ints, signatures: NDArray[np.object_], place: Keys) -> "Leaves":
        """Of N tasks: the number of each one's signature among `signatures`, and the key of its place."""
        names = [str(s) for s in signatures]
        by_path = sorted(range(len(names)), key=lambda i: names[i].replace("/", "\0"))
        rank = np.empty(len(names), dtype=np.int64)
        rank[by_path] = np.arange(len(names))
        at, found = pd.factorize(place)
        seen = np.bincount(at, minlength=len(found))
        signature_of = np.zeros(len(found), dtype=np.int64)
        signature_of[at] = signature
        several = np.bincount(signature_of, minlength=len(names))[signature_of] > 1
        if several.sum() > _MOST_PLACES:
            several &= seen >= np.sort(seen[several])[-_MOST_PLACES]
        chosen = np.flatnonzero(several)
        chosen = chosen[np.argsort(found[chosen])]
        place_of = rank[signature_of[chosen]]
        # After each signature its places, in the order of their keys written in hex.
        digits, written = _as_written(found[chosen])
        order = np.lexsort((digits, written, place_of))
        before = np.bincount(place_of, minlength=len(names))
        first = np.arange(len(names)) + np.cumsum(before) - before
        place_at = np.empty(len(chosen), dtype=np.int64)
        place_at[order] = place_of[order] + 1 + np.arange(len(chosen))
        leaf = np.full(len(found), -1)
        leaf[chosen] = place_at
        of_task = np.where(leaf[at] >= 0, leaf[at], first[rank][signature])
        return cls(of_task, [names[i] for i in by_path], first, found[chosen], place_at, place_of)


def _as_written(keys: Keys) -> tuple[Ints, Keys]:
    """How many hex digits keys have, and these moved to the left end: what sorts as the written keys do."""
    digits = np.ones(len(keys), dtype=np.int64)
    for n in range(1, 16):
        digits += keys >= np.uint64(16**n)
    return digits, keys << (4 * (16 - digits)).astype(np.uint64)


@dataclass(frozen=True)
class Tree:
    """Paths, coarse before fine; the leaves under each as a range; the number and depth of the path above each.

    Attributes:
        first, last, above, depth: (G,). names: of the paths but for places, number: (names,) of each.
        of_place: (P,) number of each place's path.
    """

    first: Ints
    last: Ints
    above: Ints
    depth: Ints
    names: list[str]
    number: Ints
    of_place: Ints

    @classmethod
    def of(cls, leaves: Leaves) -> "Tree":
        """The tree above these leaves."""
        counts = np.bincount(leaves.place_of, minlength=len(leaves.names))
        ends = (leaves.at + 1 + counts).tolist()
        reach = dict(zip(leaves.names, zip(leaves.at.tolist(), ends, strict=True), strict=True))
        reach.setdefault("", (0, len(leaves)))
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
        return cls._numbered(leaves, reach, [p for depth in sorted(by_depth) for p in by_depth[depth]])

    @classmethod
    def _numbered(cls, leaves: Leaves, reach: dict[str, tuple[int, int]], names: list[str]) -> "Tree":
        """Places take their numbers among the leaves of their depth, before the paths that are no leaves."""
        leaf = dict(zip(leaves.names, leaves.at.tolist(), strict=True))
        depth = np.array([_depth(n) for n in names], dtype=np.int64)
        position = np.array([leaf.get(n, len(leaves)) for n in names], dtype=np.int64)
        bounds = np.array([reach[n] for n in names], dtype=np.int64)
        place_depth = np.array([_depth(n) for n in leaves.names], dtype=np.int64)[leaves.place_of] + 1
        all_depths = np.concatenate([depth, place_depth])
        order = np.lexsort((np.concatenate([position, leaves.place_at]), all_depths))
        number = np.empty(len(order), dtype=np.int64)
        number[order] = np.arange(len(order))
        of_name, of_place = number[: len(names)], number[len(names) :]
        at = dict(zip(names, of_name.tolist(), strict=True))
        ups = np.array([at[above(n)] for n in names], dtype=np.int64)
        own = np.array([at[n] for n in leaves.names], dtype=np.int64)
        return cls(
            first=np.concatenate([bounds[:, 0], leaves.place_at])[order],
            last=np.concatenate([bounds[:, 1], leaves.place_at + 1])[order],
            above=np.concatenate([ups, own[leaves.place_of]])[order],
            depth=all_depths[order],
            names=names,
            number=of_name,
            of_place=of_place,
        )

    def total(self, column: Any) -> Floats:
        """(G,) sums of a column of leaves under each path."""
        running = np.concatenate([[0.0], np.cumsum(column)])
        out: Floats = running[self.last] - running[self.first]
        return out
