"""Limits on how many runs of a DAG are active at once: a run over the limit waits for an earlier one to end."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from preprov.demand.runtime_tables import Ints
from preprov.demand.units import OF_TASKS, Units


def behind_limits(units: Units, dag_of: Sequence[str], limits: Mapping[str, int], nothing: int) -> Units:
    """Make runs wait for the limit of their DAG.

    Runs of a limited DAG are taken in the order in which they may start; the one that is `limit` places behind another
    begins when that one has ended. For a limit of one that is exact; for more, it takes runs to end in that order.
    Between the two stands a task of no length and no resources.

    Args:
        dag_of: (R,) DAG of each run. limits: DAG -> runs active at once.
        nothing: position of the task of no length in the runtime tables.
    """
    pairs = [pair for dag, limit in sorted(limits.items()) for pair in _pairs(units, dag_of, dag, max(limit, 1))]
    if not pairs:
        return units
    ahead, waiting = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    first = np.searchsorted(units.run, waiting)
    order = np.argsort(first, kind="stable")
    ahead, waiting, first = ahead[order], waiting[order], first[order]
    moved = np.arange(len(units)) + np.searchsorted(first, np.arange(len(units)), side="right")
    gate = first + np.arange(len(first))
    parents, children = [moved[units.parents]], [moved[units.children]]
    has_child, has_parent = (np.isin(np.arange(len(units)), e) for e in (units.parents, units.children))
    for g, a, b in zip(gate.tolist(), ahead.tolist(), waiting.tolist(), strict=True):
        sinks = moved[np.flatnonzero((units.run == a) & ~has_child)]
        roots = moved[np.flatnonzero((units.run == b) & ~has_parent)]
        parents += [sinks, np.full(len(roots), g)]
        children += [np.full(len(sinks), g), roots]
    p, c = np.concatenate(parents), np.concatenate(children)
    by_child = np.argsort(c, kind="stable")
    return replace(
        units,
        run=np.insert(units.run, first, waiting),
        parents=p[by_child],
        children=c[by_child],
        **{name: _inserted(units, name, first, nothing) for name in OF_TASKS},
    )


def _pairs(units: Units, dag_of: Sequence[str], dag: str, limit: int) -> list[tuple[int, int]]:
    """(run ahead, run that waits for it): not those that run already."""
    mine = np.array([i for i, d in enumerate(dag_of) if d == dag], dtype=np.int64)
    if len(mine) <= limit:
        return []
    begun = np.zeros(units.runs, dtype=bool)
    begun[units.run[np.isfinite(units.started)]] = True
    line = mine[np.lexsort((mine, units.ready[mine], ~begun[mine]))].tolist()
    return [(a, b) for a, b in zip(line[:-limit], line[limit:], strict=True) if not begun[b]]


def _inserted(units: Units, name: str, at: Ints, nothing: int) -> Any:
    value = {"task": nothing, "amount": 0.0, "started": np.nan}.get(name, 0)
    return np.insert(getattr(units, name), at, value, axis=0)
