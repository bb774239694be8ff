"""What a running task has reserved and will not use is given back to those that wait.

A claim that follows a curve holds the peak for as long as nine in ten runs may have it. Where what the task uses now
says that its peak is over, or will not come, its claim becomes what it still needs.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import structlog

from preprov.contracts import TaskReport
from preprov.control.context import Context
from preprov.control.observing import of_tasks
from preprov.control.phased import Curves, note, seen_in
from preprov.model.curved import CurvePacking
from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.reservations import Reservation, ReservationState
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.work import TaskRun
from preprov.profiles.futures import Future

log = structlog.get_logger(__name__)

_EVERY: Final = timedelta(seconds=30)
_LOOKS_A_ROUND: Final = 64
_WORTH: Final = 0.1
"""Share of what is held from now on that must come free."""
_BINDS: Final = ("cpu", "memory")


def reclaim(
    curves: Curves, observation: PoolObservation, reports: Sequence[TaskReport], now: datetime
) -> tuple[ActionRecord, ...]:
    """Look at what runs, each task now and then; returns what was given back.

    Where running tasks are adjusted, that does it.
    """
    p, pool, ctx = curves.packing, curves.pool, curves.ctx
    if p is None or pool.adjusting is not None:
        return ()
    nodes = {n.node_id: n for n in observation.in_phase(Phase.READY, Phase.DRAINING)}
    tasks = curves.live.by_claimant()
    running = {r.claimant: r for r in reports if r.ended_at is None}
    looked = _looked(ctx, pool.name, running.keys(), now)
    out: list[ActionRecord] = []
    due = [r for r in of_tasks(ctx.ports.ledger.reservations(pool.name)) if _is_due(r, looked, now)]
    for claim in due[:_LOOKS_A_ROUND]:
        report, task, node = running.get(claim.claimant), tasks.get(claim.claimant), nodes.get(claim.node_id or "")
        if report is None or task is None or node is None:
            continue
        looked[claim.claimant] = now
        future = curves.future(task)
        if future is not None and len(seen_in(report)) == len(_BINDS):
            amount = _needed(ctx, future, task, claim, report, p, now)
            if _frees(claim, amount, now):
                out.extend(_given_back(ctx, curves, claim, amount, node, now))
    return tuple(out)


def _looked(ctx: Context, pool: str, running: object, now: datetime) -> dict[str, datetime]:
    held = ctx.memo.get((pool, "reclaimed"))
    before: dict[str, datetime] = held[1] if held else {}  # type: ignore[assignment]
    kept = {c: at for c, at in before.items() if c in running}  # type: ignore[operator]
    ctx.memo[(pool, "reclaimed")] = (now, kept)
    return kept


def _is_due(r: Reservation, looked: dict[str, datetime], now: datetime) -> bool:
    last = looked.get(r.claimant)
    return r.state is ReservationState.COMMITTED and not r.under and (last is None or now - last >= _EVERY)


def _needed(
    ctx: Context,
    future: Future,
    task: TaskRun,
    claim: Reservation,
    report: TaskReport,
    p: CurvePacking,
    now: datetime,
) -> Resources:
    """From now on: so much that less is as seldom as the bound of the pool allows."""
    seen, elapsed = seen_in(report), (now - report.started_at).total_seconds()
    rng = np.random.default_rng([ctx.seed, int(epoch(now))])
    levels = (1 - p.meeting, max(p.memory_quantile, 1 - p.meeting_in_memory))
    cpu, memory = future.rest(levels, elapsed, seen, rng)
    need = {k: max(v, seen[k]) * (1 + p.margin) for k, v in (("cpu", cpu), ("memory", memory))}
    held = claim.most
    told = {k: min(v, getattr(held, k)) for k, v in need.items()}
    return Resources.of(task.spec.request.as_dict() | told)


def _frees(claim: Reservation, amount: Resources, now: datetime) -> bool:
    """True if holding that from now on frees enough, all in all, or a peak that is over.

    Where peaks are added up a task's past one counts, too, for it may run late. Where one resource is held for longer
    than it was before, the ledger has the last word.
    """
    spans = [(max(s.start, now), s.end, s.amount) for s in claim.segments if s.end > now]
    spans = spans or [(now, now + _EVERY, claim.segments[-1].amount)]
    seconds = sum((end - start).total_seconds() for start, end, _ in spans)
    saved = 0.0
    for k in _BINDS:
        held = sum((end - start).total_seconds() * getattr(a, k) for start, end, a in spans)
        saved += 1 - seconds * getattr(amount, k) / held if held > 0 else 0.0
    lower = max(1 - getattr(amount, k) / getattr(claim.most, k) for k in _BINDS if getattr(claim.most, k) > 0)
    return saved > _WORTH or (lower > _WORTH and saved > -_WORTH)


def _given_back(
    ctx: Context, curves: Curves, claim: Reservation, amount: Resources, node: Node, now: datetime
) -> list[ActionRecord]:
    pool, before = curves.pool, claim.most
    try:
        ctx.ports.ledger.resize(claim.reservation_id, amount, pool.claimable(node.offering), now)
    except (OverbookedError, ReservationError) as e:
        log.info("not given back", claimant=claim.claimant, why=str(e))
        return []
    units = {"cpu": "cores", "memory": "GiB"}
    told = (f"{k} {getattr(before, k):.3g} -> {getattr(amount, k):.3g} {units[k]}" for k in _BINDS)
    why = f"reserved {'; '.join(told)}: what it uses now says that it needs no more from here on"
    row = note(
        ctx, pool, claim.claimant, node, (ActionKind.RESIZE, why), before=before.as_dict(), after=amount.as_dict()
    )
    return [row]
