"""What came of a decision: nodes and what they were used for; the demand that was foretold, and that came."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from preprov.control.context import Context
from preprov.model.demand import DemandCurve
from preprov.model.plans import Action, ActionKind, ActionRecord
from preprov.model.resources import KINDS
from preprov.model.work import TaskRun, task_of

_HOUR: Final = timedelta(hours=1)
_CPU: Final = KINDS.index("cpu")
_ENDS: Final = (ActionKind.HIBERNATE, ActionKind.STOP, ActionKind.TERMINATE)
_UP: Final = (ActionKind.LAUNCH, ActionKind.START)
_SHOWN: Final = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Outcome:
    """What a node came to.

    Attributes:
        ready_after_s: from the decision on; None = not (yet) ready. tasks: instances it ran.
        running_h: hours it ran, by our own actions; used_h: of them with a task on it. usd: of its running hours; None
            if no price is known. gone_at: None = it is still there.
    """

    node_id: str
    ready_after_s: float | None
    tasks: int
    running_h: float
    used_h: float
    usd: float | None
    gone_at: datetime | None

    def words(self) -> str:
        """One line."""
        ready = "never ready" if self.ready_after_s is None else f"ready after {self.ready_after_s:.0f} s"
        cost = "" if self.usd is None else f", {self.usd:.3f} USD"
        share = f"{self.used_h / self.running_h:.0%}" if self.running_h > 0 else "none"
        end = "still there" if self.gone_at is None else "given up"
        return f"{ready}; {self.tasks} tasks, {share} of {self.running_h:.2f} h in use{cost}; {end}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "node_id": self.node_id,
            "ready_after_s": self.ready_after_s,
            "tasks": self.tasks,
            "running_h": self.running_h,
            "used_h": self.used_h,
            "usd": self.usd,
            "gone_at": self.gone_at,
        }


@dataclass(frozen=True)
class Foretold:
    """The demand of an hour, in cores: as the last forecast issued before the decision had it, and as it came.

    Attributes:
        forecast_id: "" if none had been issued. cores: "p5", "p50", "p95". parts: share of the mean by part.
        came: most that ran and waited at once; None if nobody looked.
    """

    forecast_id: str
    issued_at: datetime | None
    since: datetime
    until: datetime
    cores: Mapping[str, float]
    parts: Mapping[str, float]
    came: float | None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "forecast_id": self.forecast_id,
            "issued_at": self.issued_at,
            "since": self.since,
            "until": self.until,
            "cores": dict(self.cores),
            "parts": dict(self.parts),
            "came": self.came,
        }


def outcome(ctx: Context, node_id: str) -> Outcome | None:
    """Of one node; None if nothing was ever done with it."""
    records = [r for r in ctx.ports.audit.records(node_id=node_id) if r.result == "done"]
    ups = [r for r in records if r.action.kind in _UP]
    if not ups:
        return None
    now = ctx.clock.now()
    stretches = _running(records, now)
    leads = [o for o in ctx.ports.leads.observations(since=ups[0].at - _HOUR) if o.node_id == node_id]
    ready = [o.seconds for o in leads if o.outcome == "ready"]
    tasks = tasks_on(ctx, node_id)
    used = _overlap(stretches, [(t.started_at, t.ended_at or now) for t in tasks if t.started_at])
    running_h = sum((b - a) / _HOUR for a, b in stretches)
    usd = _usd(ctx, ups[0], running_h)
    last = records[-1]
    gone = last.at if last.action.kind is ActionKind.TERMINATE else None
    return Outcome(node_id, ready[0] if ready else None, len(tasks), running_h, used, usd, gone)


def tasks_on(ctx: Context, node_id: str) -> tuple[TaskRun, ...]:
    """Instances that ran on a node, by their claims on it."""
    claims = [r.claimant for r in ctx.ports.ledger.reservations(live=False, node_id=node_id)]
    names = [task_of(c) for c in claims]
    of = {(t.run_id, t.task_id): t for t in ctx.ports.work.task_runs(sorted({run_id for run_id, _ in names}))}
    return tuple(of[name] for name in names if name in of)


def _running(records: Sequence[ActionRecord], now: datetime) -> list[tuple[datetime, datetime]]:
    """Stretches in which the node ran, as far as our own actions say."""
    out: list[tuple[datetime, datetime]] = []
    since: datetime | None = None
    for r in records:
        if r.action.kind in _UP and since is None:
            since = r.at
        elif r.action.kind in _ENDS and since is not None:
            out.append((since, r.at))
            since = None
    return [*out, (since, now)] if since is not None else out


def _overlap(stretches: Sequence[tuple[datetime, datetime]], spans: Iterable[tuple[datetime, datetime]]) -> float:
    """Hours of the stretches that at least one of the spans covers."""
    total, edge = 0.0, None
    for a, b in sorted(spans):
        begin = a if edge is None else max(a, edge)
        for lo, hi in stretches:
            total += max((min(b, hi) - max(begin, lo)) / _HOUR, 0.0)
        edge = b if edge is None else max(edge, b)
    return total


def _usd(ctx: Context, launch: ActionRecord, hours: float) -> float | None:
    pool = ctx.pools.get(launch.pool)
    offers = [o for g in pool.groups for o in g.offerings if o.key == launch.action.offering] if pool else []
    price = ctx.prices.usd_per_hour(offers[0], launch.at) if offers else None
    return None if price is None else price * hours


def foretold_of_hour(ctx: Context, pool: str, wanted: datetime, at: datetime) -> Foretold:
    """The hour of an instant, by the last forecast that was issued before `at`."""
    since = wanted.replace(minute=0, second=0, microsecond=0)
    found = ctx.ports.forecasts.latest(pool, at)
    rows = ctx.ports.history.snapshots(pool, since=since, until=since + _HOUR)
    came = max((r.used.cpu + r.waiting.cpu for r in rows), default=None)
    if found is None or not found[1].start <= wanted < found[1].end:
        return Foretold("", None, since, since + _HOUR, {}, {}, came)
    forecast_id, curve = found
    cores = {f"p{q * 100:g}": curve.at(q, wanted).cpu for q in _SHOWN}
    return Foretold(forecast_id, curve.issued_at, since, since + _HOUR, cores, _parts(curve, wanted), came)


def foretold(ctx: Context, pool: str, action: Action, at: datetime) -> Foretold:
    """The hour for which an action was taken."""
    wanted = max(action.at, at) + timedelta(seconds=action.numbers.get("due_in_s", 0.0))
    return foretold_of_hour(ctx, pool, wanted, at)


def _parts(curve: DemandCurve, at: datetime) -> dict[str, float]:
    """Share of the mean that each part has in the step of an instant."""
    i = int((at - curve.start).total_seconds() // curve.step_seconds)
    amounts = {name: float(a[i, _CPU]) for name, a in curve.parts.items()}
    total = sum(amounts.values())
    return {name: v / total for name, v in amounts.items() if v > 0} if total > 0 else {}
