"""A task that cannot grow where it runs keeps what it has done and goes on elsewhere.

That it is to is on the books: the claim of its next attempt is there, larger, while this one still runs. So a
controller that takes over knows it, the end of this attempt is no failure, and the next is placed by what it needs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from preprov.contracts import TaskReport
from preprov.control.context import Context
from preprov.control.lifecycle import Live
from preprov.control.observing import of_tasks
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.plans import stable_id
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun
from preprov.planning.placement import labels_of, why_nowhere

_UNKNOWN: Final = timedelta(hours=1)
_KEPT: Final = timedelta(days=1)


def moving_to(task: TaskRun, claim: Reservation, reservations: Iterable[Reservation]) -> Reservation | None:
    """The claim of the next attempt, if this one is to move."""
    name = _next(task, claim.claimant)
    return next((r for r in reservations if r.claimant == name and r.state is ReservationState.SOFT), None)


def where_to(
    pool: Pool,
    observation: PoolObservation,
    free: Mapping[str, Resources],
    task: TaskRun,
    wanted: Resources,
    node: Node,
    *,
    stalled: bool,
) -> str:
    """Where a task that wants so much could go, for people; "" = nowhere, or it is better left where it is.

    One of several instances stays: all of them would have to begin again.
    """
    if task.spec.instances > 1 or why_nowhere(pool, wanted, task.spec.affinity):
        return ""
    for other in observation.in_phase(Phase.READY):
        labels = labels_of(other)
        fits = wanted.fits_in(free.get(other.node_id, Resources()), pool.binding)
        if fits and other.node_id != node.node_id and all(labels.get(k) == v for k, v in task.spec.affinity.items()):
            return f"node {other.node_id} has"
    return "the next node that has is its" if stalled else ""


def claim_elsewhere(
    ctx: Context, pool: Pool, task: TaskRun, claim: Reservation, wanted: Resources, now: datetime
) -> Reservation:
    """Put the claim of the next attempt on the books."""
    return claim_next(ctx, pool, task, claim.claimant, wanted, now, f"{claim.claimant} needs more than its node has")


def claim_next(
    ctx: Context, pool: Pool, task: TaskRun, claimant: str, wanted: Resources, now: datetime, why: str
) -> Reservation:
    """The same of any instance, for any reason."""
    name = _next(task, claimant)
    hint = task.spec.runtime_hint_s
    length = timedelta(seconds=hint) if hint else _UNKNOWN
    return ctx.ports.ledger.reserve(
        Reservation(
            reservation_id=_id(pool.name, name),
            pool=pool.name,
            claimant=name,
            segments=(Segment(now, now + length, wanted),),
            tenant=task.tenant,
            priority=task.priority,
            expires_at=now + _KEPT,
            created_at=now,
            reason=why,
            purpose=Purpose.TASK,
        )
    )


def is_larger(claim: Reservation) -> bool:
    """Whether it was made by `claim_next`."""
    return claim.reservation_id == _id(claim.pool, claim.claimant)


def moved(ctx: Context, pool: Pool, live: Live, reports: Sequence[TaskReport], now: datetime) -> Live:
    """Instances that were to move and have ended are ready again, whatever their retries; what ended well is done."""
    ended = {r.claimant: r for r in reports if r.ended_at is not None}
    over = [t for t in live.tasks.values() if t.state is State.RUNNING and t.claimant(0) in ended]
    if not over:
        return live
    waiting = {r.claimant: r for r in of_tasks(ctx.ports.ledger.reservations(pool.name)) if _is_soft(r)}
    changed = []
    for task in over:
        to = waiting.get(_next(task, task.claimant(0)))
        if to is None:
            continue
        if ended[task.claimant(0)].exit_code == 0:
            ctx.ports.ledger.release(to.reservation_id, "it ended well where it was")
            continue
        reason = f"attempt {task.attempt} went elsewhere for more memory"
        again = replace(task, state=State.READY, attempt=task.attempt + 1, started_at=None, node_id=None, reason=reason)
        changed.append(replace(again, ready_at=now, done=()))
    ctx.ports.work.save_tasks(changed)
    return live.with_tasks(changed)


def at_their_size(live: Live, reservations: Iterable[Reservation]) -> Live:
    """The live work, with what has moved asking for what it is known to need."""
    soft = {r.claimant: r.most for r in of_tasks(reservations) if _is_soft(r)}
    changed = []
    for task in live.tasks.values() if soft else ():
        wanted = soft.get(task.claimant(0))
        if task.state is State.READY and wanted is not None and not wanted.fits_in(task.spec.request):
            changed.append(replace(task, spec=replace(task.spec, request=task.spec.request.maximum(wanted))))
    return live.with_tasks(changed)


def _id(pool: str, claimant: str) -> str:
    return stable_id(pool, claimant, "moved")


def _is_soft(r: Reservation) -> bool:
    return r.state is ReservationState.SOFT


def _next(task: TaskRun, claimant: str) -> str:
    instance = int(claimant.rsplit("#", 1)[1].split("@")[0])
    return replace(task, attempt=task.attempt + 1).claimant(instance)
