"""/v1/capacity/{pool}/history, /v1/outcomes, /v1/decisions: what was there, what came of it, what was decided."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Annotated, Final

from fastapi import APIRouter, Query

from preprov.contracts import PoolSnapshot
from preprov.control.scorecard import Realised, realised
from preprov.model.plans import ActionRecord
from preprov.model.pools import Pool
from preprov.model.time import epoch
from preprov.web.documents import Instant, Label
from preprov.web.past import DecisionList, DecisionPart, HistoryPart, HistoryPoint, OutcomeList, OutcomePart
from preprov.web.routes.capacity import PoolName, Resource, counts
from preprov.web.security import Caller, Reader

router = APIRouter(prefix="/v1", tags=["past"])

_DAY_S: Final = 86400.0
_MOST: Final = timedelta(days=7)
_LOOKED_BACK: Final = tuple(timedelta(hours=h) for h in (1, 6, 24))
"""For decisions, until there are enough: a pool that a guard holds back may have thousands in a day."""
Hours = Annotated[float, Query(gt=0, le=168, description="So many hours up to now.")]


@router.get("/capacity/{pool}/history", summary="What was there")
def history(
    pool: PoolName,
    caller: Reader,
    hours: Hours = 12.0,
    since: Annotated[Instant | None, Query(description="Instead of hours: only what was seen after this.")] = None,
    resource: Resource = "cpu",
    points: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 240,
) -> HistoryPart:
    """The pool as its passes saw it. Where there were more passes than points, the one with the most demand waiting.

    Of equals it is the last one, and of all the points the last is what was seen last.
    """
    found, now = caller.pool(pool), caller.ctx.clock.now()
    begin = max(since + timedelta(microseconds=1) if since else now - timedelta(hours=hours), now - _MOST)
    rows = caller.ctx.ports.history.snapshots(found.name, since=begin, until=now)
    return HistoryPart(
        pool=found.name,
        resource=resource,
        since=begin,
        until=now,
        points=[_point(r, resource) for r in thinned(rows, begin, now, points)],
    )


def thinned(rows: Sequence[PoolSnapshot], begin: datetime, end: datetime, most: int) -> list[PoolSnapshot]:
    """At most `most` of the rows, which are sorted by time: one of each equal stretch of [begin, end]."""
    if len(rows) <= most:
        return list(rows)
    if most == 1:
        return [rows[-1]]
    width = max((end - begin).total_seconds() / (most - 1), 1e-6)
    stretches = groupby(rows[:-1], key=lambda r: min(int((epoch(r.at) - epoch(begin)) / width), most - 2))
    return [*(_worst(stretch) for _, stretch in stretches), rows[-1]]


def _worst(rows: Iterable[PoolSnapshot]) -> PoolSnapshot:
    return max(rows, key=lambda r: (r.waiting.cpu, r.at))


def _point(row: PoolSnapshot, resource: str) -> HistoryPoint:
    allocatable, used, waiting = (r.as_dict()[resource] for r in (row.allocatable, row.used, row.waiting))
    return HistoryPoint(
        at=row.at,
        nodes=counts(row.nodes),
        target=row.target,
        allocatable=allocatable,
        used=used,
        waiting=waiting,
    )


@router.get("/outcomes", summary="What tasks waited for, and what it cost")
def outcomes(
    caller: Reader, hours: Hours = 12.0, pool: Annotated[Label | None, Query(description="Only this one.")] = None
) -> OutcomeList:
    """Of every pool you may see: the tasks of all tenants that started in these hours, and what nodes cost in them."""
    now = caller.ctx.clock.now()
    since = now - timedelta(hours=hours)
    found = [_outcome(p, realised(caller.ctx, p, since, now)) for p in caller.pools(pool)]
    return OutcomeList(since=since, until=now, pools=found)


def _outcome(pool: Pool, r: Realised) -> OutcomePart:
    def whole(per_day: float | None) -> float | None:
        return None if per_day is None else per_day * r.watched_days

    return OutcomePart(
        pool=pool.name,
        instances=r.instances,
        warm_hit_ratio=r.warm_hit_ratio,
        wait_mean_s=r.wait_mean_s,
        wait_p95_s=r.wait_p95_s,
        watched_s=r.watched_days * _DAY_S,
        node_hours=whole(r.node_hours_per_day),
        usd=whole(r.usd_per_day),
        idle_usd=whole(r.idle_usd_per_day),
    )


@router.get("/decisions/{pool}", summary="What was decided")
def decisions(
    pool: PoolName,
    caller: Reader,
    most: Annotated[int, Query(ge=1, le=200, description="At most so many.")] = 30,
) -> DecisionList:
    """Of the last day, the latest first, each with what is known to have come of it; `/v1/why/action/ID` says why.

    What was done to running tasks tells of their tenants: that is for administrators only.
    """
    found, now = caller.pool(pool), caller.ctx.clock.now()
    of: dict[str, list[ActionRecord]] = {}
    for back in _LOOKED_BACK:
        of = {}
        for r in caller.ctx.ports.audit.records(found.name, since=now - back):
            if caller.token.is_admin or not r.action.task:
                of.setdefault(r.action.action_id, []).append(r)
        if len(of) > most:  # one more, for the first of them may have begun before
            break
    latest = sorted(of.values(), key=lambda rows: rows[0].at, reverse=True)[:most]
    return DecisionList(pool=found.name, decisions=[_decision(caller, rows) for rows in latest])


def _decision(caller: Caller, rows: Sequence[ActionRecord]) -> DecisionPart:
    first, last = rows[0], rows[-1]
    a, told = last.action, caller.token.is_admin
    return DecisionPart(
        action_id=a.action_id,
        plan_id=first.plan_id,
        at=first.at,
        told_at=last.at,
        kind=str(a.kind),
        count=a.count,
        group=a.group,
        offering=a.offering,
        standby_state=str(a.standby_state),
        cost_usd=a.cost_usd,
        result=last.result,
        reason=a.reason if told else None,
        detail=last.detail if told else None,
        actor=last.actor if told else None,
        nodes=list(last.node_ids or a.node_ids) if told else None,
        figures=dict(a.numbers) if told else None,
    )
