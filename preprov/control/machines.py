"""Runs on one kind of machine as they would have gone on another, wherever tasks are foretold."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from preprov.control.context import Context
from preprov.control.instances import instances
from preprov.control.remembering import remembered
from preprov.model.offerings import Offering
from preprov.model.pools import Pool
from preprov.model.usage import UsageRun
from preprov.model.worktable import WorkTable
from preprov.profiles.machines import Machines, moved

_BACK: Final = timedelta(days=400)
_FRESH: Final = timedelta(minutes=10)
_LATE: Final = timedelta(hours=1)
"""A warming may be written down so long after it began."""


def largest(pool: Pool) -> Offering:
    """The offering that shares and prices are of, and that tasks are foretold for before they have a node."""
    every = [o for g in pool.groups for o in g.offerings]
    return max(every, key=lambda o: (o.allocatable.cpu, o.allocatable.memory))


def kinds_of_nodes(ctx: Context) -> dict[str, str]:
    """Node -> kind of machine, of all nodes that were ever seen to be warmed."""
    now, key = ctx.clock.now(), ("node-kinds",)
    held = ctx.memo.get(key)
    kinds: dict[str, str] = held[1] if held is not None else {}  # type: ignore[assignment]
    since = held[0] - _LATE if held is not None else None
    kinds |= {o.node_id: o.instance_type for o in ctx.ports.leads.observations(since=since)}
    ctx.memo[key] = (now, kinds)
    return kinds


def machines_of(ctx: Context, pool: Pool, until: datetime | None = None) -> Machines:
    """How kinds of machine compare, by what of the pool had ended by then (None = by now); kept for a while."""
    now = ctx.clock.now()
    if until is not None and until != now:
        return _learnt(ctx, pool, until)
    return remembered(ctx, (pool.name, "machines"), _FRESH, lambda: _learnt(ctx, pool, now))


def _learnt(ctx: Context, pool: Pool, until: datetime) -> Machines:
    kinds = kinds_of_nodes(ctx)
    if len(set(kinds.values())) < 2:
        return Machines()
    every = [i for part in instances(ctx, pool, until - _BACK, until, None, None) for i in part]
    return Machines.learn(
        [i.signature for i in every],
        [kinds.get(i.node, "") for i in every],
        np.array([i.seconds for i in every], dtype=np.float64),
        np.log1p(np.array([i.input_bytes for i in every], dtype=np.float64)),
    )


def as_on(
    ctx: Context, pool: Pool, runs: Sequence[UsageRun], kind: str, until: datetime | None = None
) -> list[UsageRun]:
    """Runs as they would have gone on one kind of machine."""
    if all(r.machine in ("", kind) for r in runs):
        return list(runs)
    machines = machines_of(ctx, pool, until)
    return [moved(r, machines.factor(r.machine, kind), kind) if r.machine else r for r in runs]


def work_as_on(ctx: Context, pool: Pool, seen: WorkTable, kind: str) -> WorkTable:
    """The same work with the runtimes that it would have had on one kind of machine; when it ran stays."""
    tasks, kinds = seen.tasks, kinds_of_nodes(ctx)
    if "node" not in tasks or not set(kinds.values()) - {kind}:
        return seen
    machines = machines_of(ctx, pool)
    factor = {node: machines.factor(of, kind) for node, of in kinds.items()}
    scale = np.array([factor.get(n, 1.0) for n in tasks["node"]])
    if (scale == 1.0).all():
        return seen
    return replace(seen, tasks=tasks.assign(runtime_s=tasks["runtime_s"].to_numpy(np.float64) * scale))
