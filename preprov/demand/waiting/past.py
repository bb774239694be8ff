"""Who held what slots when, worked out when it is asked for: of each limit, of each place, of each DAG."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from preprov.demand.waiting.occupancy import Floats, Ints, Lanes, Taken
from preprov.model.waits import Cause, SlotLimit, limit_key, of_key
from preprov.model.worktable import WorkTable

K = TypeVar("K", bound=Hashable)


def groups(keys: Sequence[K], rows: Ints) -> dict[K, Ints]:
    """Rows by key."""
    out: dict[K, list[int]] = {}
    for key, row in zip(keys, rows.tolist(), strict=True):
        out.setdefault(key, []).append(row)
    return {key: np.array(found, dtype=np.int64) for key, found in out.items()}


@dataclass(frozen=True)
class Past:
    """Runs and tasks as they were; (T,) of tasks, (R,) of runs.

    Attributes:
        begin, end: of what is asked for, epoch seconds.
        run: (T,). since, until: (T,) from when to when each had its slots, NaN as in Taken.of. slots: (T,) how many.
        ready, started, ended: (T,) epoch seconds. node: (T,).
        key, source: (T,) positions in `keys` and in `sources`.
        dag_of_run: (R,) position in `dags`, which are (source, DAG).
    """

    begin: float
    end: float
    run: Ints
    since: Floats
    until: Floats
    slots: Floats
    ready: Floats
    started: Floats
    ended: Floats
    node: NDArray[np.object_]
    key: Ints
    keys: Sequence[str]
    source: Ints
    sources: Sequence[str]
    dag_of_run: Ints
    dags: Sequence[tuple[str, str]]
    _made: dict[tuple[str, str], Taken] = field(default_factory=dict)

    @classmethod
    def of(cls, work: WorkTable, begin: float, end: float) -> "Past":
        """Of work that tells waits."""
        t = work.tasks
        keys, key = _numbered(t["slot_of"].tolist())
        names, of_name = _numbered([of_key(k)[1] for k in keys])
        source = of_name[key] if len(keys) else np.empty(0, dtype=np.int64)
        run = t["run"].to_numpy()
        ended = t["ended_at"].to_numpy()
        told = np.full(len(work.runs), "", dtype=object)
        if len(names):
            told_by = np.array(names, dtype=object)[source]
            known = np.flatnonzero(told_by != "")
            told[run[known]] = told_by[known]
        dags, dag_of_run = _numbered(list(zip(told.tolist(), work.runs["dag_id"].tolist(), strict=True)))
        until = np.fmin(t["freed_at"].to_numpy(), ended)
        held = (t["slot_at"].to_numpy(), until, t["slots"].to_numpy())
        times = (t["ready_at"].to_numpy(), t["started_at"].to_numpy(), ended)
        node = t["node"].to_numpy(dtype=object)
        return cls(begin, end, run, *held, *times, node, key, keys, source, names, dag_of_run, dags)

    def lanes(self, count: int) -> Lanes:
        """For so many places."""
        return Lanes(self.begin, self.end, count)

    # ------------------------------------------------------------------ limits and places

    def taken(self, key: str) -> Taken:
        """Slots of a limit."""
        return self._taken("key", key, lambda: self.key == _place(self.keys, key), self.slots)

    def taken_of(self, source: str) -> Taken:
        """Tasks that a place where work lives had active."""
        return self._taken(
            "source", source, lambda: self.source == _place(self.sources, source), np.ones(len(self.run))
        )

    def _taken(self, kind: str, name: str, which: Callable[[], NDArray[np.bool_]], slots: Floats) -> Taken:
        if (kind, name) not in self._made:
            same = which()
            self._made[kind, name] = Taken.of(self.since[same], self.until[same], slots[same])
        return self._made[kind, name]

    # ------------------------------------------------------------------ DAGs

    def limit_of_dags(self, book: Mapping[str, SlotLimit], cause: Cause) -> Floats:
        """(D,) that limit of each DAG, inf = it has none."""
        found = (book.get(limit_key(cause, *dag)) for dag in self.dags)
        return np.array([np.inf if f is None else f.slots for f in found], dtype=np.float64)

    def scopes(self, book: Mapping[str, SlotLimit]) -> Ints:
        """(R,) runs of the same number share what tasks they may have active: a DAG's, or each run has its own."""
        found = (book.get(limit_key(Cause.MAX_ACTIVE_TASKS, *dag)) for dag in self.dags)
        alone = np.array([f is not None and f.per_run for f in found], dtype=bool)[self.dag_of_run]
        return np.where(alone, np.arange(len(self.dag_of_run)), len(self.dag_of_run) + self.dag_of_run)

    def run_spans(self) -> tuple[Floats, Floats]:
        """(R,) each run's first task that was ready, and its last end."""
        n = len(self.dag_of_run)
        first, last = np.full(n, np.inf), np.full(n, -np.inf)
        np.fmin.at(first, self.run, np.fmin(self.ready, self.started))
        np.maximum.at(last, self.run, np.where(np.isnan(self.ended), np.inf, self.ended))
        return np.where(np.isinf(first), np.nan, first), last


def _numbered(names: Sequence[K]) -> tuple[list[K], Ints]:
    """Each of them once, and where each one is in that list."""
    place: dict[K, int] = {}
    number = np.array([place.setdefault(n, len(place)) for n in names], dtype=np.int64)
    return list(place), number


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else -1
