"""The tasks to expand, in columns: live ones, and the copies that predicted runs are made of."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.draws import Keys
from preprov.demand.runtime_tables import Floats, Ints


@dataclass(frozen=True)
class Units:
    """T tasks in R runs. Instants are seconds after the instant of knowledge.

    Attributes:
        run: (T,) position of its run, ascending. parents, children: (E,) edges, by child.
        task: (T,) its position in the runtime tables. key: (T,) what its random numbers belong to.
        amount: (T, 5) resources of all its instances together. part: (T,) position in PARTS.
        started: (T,) when it began (<= 0); NaN if it did not.
        run_key: (R,) as key; alternatives of one predicted run share it.
        ready: (R,) when its roots can start if it is not late.
        share: (R,) of its runtimes' variance that its tasks have in common; size, size_spread: (R,) normal score of
            that common factor: what its ended tasks say of it (0, 1 = nothing).
        probability: (R,) that it comes at all. late: (R,) row of `delays`, -1 = never late.
        delays: (D, L) seconds late at evenly spaced levels.
        copies, copy: (R,) it is one of so many alternatives for the same run, and which.
    """

    run: Ints
    parents: Ints
    children: Ints
    task: Ints
    key: Keys
    amount: Floats
    part: NDArray[np.int8]
    started: Floats
    run_key: Keys
    ready: Floats
    share: Floats
    size: Floats
    size_spread: Floats
    probability: Floats
    late: Ints
    copies: Ints
    copy: Ints
    delays: Floats

    @property
    def runs(self) -> int:
        """R."""
        return len(self.run_key)

    def __len__(self) -> int:
        return len(self.run)

    @classmethod
    def concat(cls, parts: "list[Units]") -> "Units":
        """All of them, one after the other; at least one."""
        tasks = np.cumsum([0, *(len(p) for p in parts)])
        runs = np.cumsum([0, *(p.runs for p in parts)])
        rows = np.cumsum([0, *(len(p.delays) for p in parts)])
        shifted = {
            "run": [p.run + o for p, o in zip(parts, runs, strict=False)],
            "parents": [p.parents + o for p, o in zip(parts, tasks, strict=False)],
            "children": [p.children + o for p, o in zip(parts, tasks, strict=False)],
            "late": [np.where(p.late < 0, -1, p.late + o) for p, o in zip(parts, rows, strict=False)],
        }
        return cls(
            **{f.name: np.concatenate(shifted.get(f.name) or [getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )

    def arranged(self, runs: Ints) -> "Units":
        """These runs in this order, with their tasks and the edges among them."""
        first = np.searchsorted(self.run, np.arange(self.runs + 1))
        count = np.diff(first)[runs]
        begin = np.cumsum(count) - count
        total = int(count.sum())
        tasks = np.repeat(first[:-1][runs] - begin, count) + np.arange(total)
        new = np.full(len(self), -1, dtype=np.int64)
        new[tasks] = np.arange(total)
        parents, children = new[self.parents], new[self.children]
        keep = (parents >= 0) & (children >= 0)
        parents, children = parents[keep], children[keep]
        order = np.argsort(children, kind="stable")
        return Units(
            run=np.repeat(np.arange(len(runs)), count),
            parents=parents[order],
            children=children[order],
            delays=self.delays,
            **{name: getattr(self, name)[tasks] for name in OF_TASKS},
            **{name: getattr(self, name)[runs] for name in OF_RUNS},
        )

    def windows(self, rows: int) -> Iterator["Units"]:
        """Consecutive parts of about so many tasks; runs that wait for one another stay together."""
        first = np.searchsorted(self.run, np.arange(self.runs + 1))
        cuts = self._cuts()
        low = 0
        while low < self.runs:
            wanted = int(np.searchsorted(first, first[low] + rows, side="right")) - 1
            after = cuts[cuts > low]
            fitting = after[after <= wanted]
            high = int(fitting[-1]) if len(fitting) else int(after[0])
            yield self.between(low, high)
            low = high

    def linked(self) -> NDArray[np.bool_]:
        """(R,) runs that wait for another run, or another for them."""
        a, b = self.run[self.parents], self.run[self.children]
        out = np.zeros(self.runs, dtype=bool)
        out[a[a != b]] = out[b[a != b]] = True
        return out

    def linked_together(self) -> "Units":
        """Runs that wait for one another moved next to each other."""
        a, b = self.run[self.parents], self.run[self.children]
        if (a == b).all():
            return self
        from scipy.sparse import coo_matrix  # rarely needed, slow to import
        from scipy.sparse.csgraph import connected_components

        graph = coo_matrix((np.ones(len(a)), (a, b)), shape=(self.runs, self.runs))
        _, label = connected_components(graph, directed=False)
        return self.arranged(np.argsort(label, kind="stable"))

    def _cuts(self) -> Ints:
        """Run positions 1..R before which the table may be cut: no edge passes over them."""
        over = np.zeros(self.runs + 1, dtype=np.int64)
        a, b = self.run[self.parents], self.run[self.children]
        crossing = a != b
        np.add.at(over, np.minimum(a, b)[crossing] + 1, 1)
        np.add.at(over, np.maximum(a, b)[crossing] + 1, -1)
        return np.flatnonzero(np.cumsum(over) == 0)

    def between(self, low: int, high: int) -> "Units":
        """Runs low..high-1; no edge may pass over the bounds."""
        if (low, high) == (0, self.runs):
            return self
        first, last = np.searchsorted(self.run, [low, high]).tolist()
        edges = slice(*np.searchsorted(self.children, [first, last]))
        return Units(
            run=self.run[first:last] - low,
            parents=self.parents[edges] - first,
            children=self.children[edges] - first,
            delays=self.delays,
            **{name: getattr(self, name)[first:last] for name in OF_TASKS},
            **{name: getattr(self, name)[low:high] for name in OF_RUNS},
        )


OF_TASKS: Final = ("task", "key", "amount", "part", "started")
OF_RUNS: Final = (
    "run_key",
    "ready",
    "share",
    "size",
    "size_spread",
    "probability",
    "late",
    "copies",
    "copy",
)
