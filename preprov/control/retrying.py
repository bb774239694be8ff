"""A task that ran out of memory is tried again with more: up a ladder, to the most that a node has or its tenant may.

The larger claim of the next attempt is put on the books while the present one ends, as of a task that goes elsewhere:
a controller that takes over knows of it, and it is placed like any other, with its gang and within its quota.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from preprov.contracts import TaskReport
from preprov.control.context import Context
from preprov.control.lifecycle import Live
from preprov.control.moving import claim_next, is_larger
from preprov.control.observing import of_tasks
from preprov.control.phased import note
from preprov.model.nodes import PoolObservation
from preprov.model.plans import ActionKind
from preprov.model.pools import Pool
from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun
from preprov.planning.placement import why_nowhere
from preprov.profiles.waste import Price

_LADDER: Final = Price().ladder


def climb(
    ctx: Context, pool: Pool, live: Live, observation: PoolObservation, reports: Sequence[TaskReport], now: datetime
) -> None:
    """Claim more for the next attempts of what ran out of memory and has retries left.

    One that had more already and fails for another reason has as much again. What is under a booking keeps to it. Of a
    gang all have as much as the one that had most.
    """
    failed = {r.claimant: r for r in reports if r.ended_at is not None and r.exit_code != 0}
    if not failed:
        return
    held = {
        r.claimant: r
        for r in of_tasks(ctx.ports.ledger.reservations(pool.name))
        if r.claimant in failed and r.state is ReservationState.COMMITTED
    }
    nodes = {n.node_id: n for n in observation.nodes}
    for task in live.tasks.values():
        mine = [held[c] for i in range(task.spec.instances) if (c := task.claimant(i)) in held]
        if not mine or task.state is not State.RUNNING or task.attempt > task.spec.retries or task.spec.under:
            continue
        died = max(mine, key=lambda r: r.most.memory)
        short = any(failed[r.claimant].out_of_memory for r in mine)
        had = max(died.most.memory, task.spec.request.memory)  # a claim by a curve is less, and goes down
        if not short and not is_larger(died):
            continue
        wanted = _more(ctx, pool, task, had, had * _LADDER if short else had)
        if wanted is None:
            continue
        why = f"{died.claimant} ran out of memory: {had:.3g} -> {wanted.memory:.3g} GiB for its next attempt"
        for i in range(task.spec.instances):
            claim_next(ctx, pool, task, task.claimant(i), wanted, now, why if short else "as the attempt before")
        if wanted.memory > had and (node := nodes.get(died.node_id or "")) is not None:
            amounts = {"before": died.most.as_dict(), "after": wanted.as_dict()}
            note(ctx, pool, died.claimant, node, (ActionKind.RESIZE, why), **amounts)


def _more(ctx: Context, pool: Pool, task: TaskRun, had: float, wanted: float) -> Resources | None:
    """What the next attempt gets, no less than this one had; None if it asks for that anyway, or may not have it."""
    request, tenant = task.spec.request, ctx.tenants.get(task.tenant)
    most = float("inf") if tenant is None else tenant.quota.get("memory", float("inf")) / task.spec.instances
    best = 0.0
    for offering in (o for g in pool.groups for o in g.offerings):
        memory = min(wanted, most, pool.claimable(offering).memory)
        if not why_nowhere(pool, replace(request, memory=memory), task.spec.affinity):
            best = max(best, memory)
    return replace(request, memory=best) if best >= had and best > request.memory else None
