"""What happened and what was decided, in memory: forecasts, plans, audit rows, lead times, snapshots, samples."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import numpy as np

from preprov.contracts import LeadObservation, PoolSnapshot
from preprov.model.agent import Usage
from preprov.model.demand import DemandCurve
from preprov.model.offerings import Standby
from preprov.model.plans import ActionRecord, CapacityPlan, stable_id
from preprov.model.usage import UsageSummary


class MemoryForecasts:
    """ForecastStore in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, DemandCurve] = {}

    def save(self, curve: DemandCurve) -> str:
        """Keep it; the same (pool, issued_at, step) replaces the earlier one."""
        kind = curve.basis.get("kind", curve.step_seconds)
        forecast_id = stable_id(curve.pool, curve.issued_at.isoformat(), kind)
        self._rows[forecast_id] = curve
        return forecast_id

    def latest(self, pool: str, at: datetime | None = None) -> tuple[str, DemandCurve] | None:
        """The last one issued at or before `at`."""
        of_pool = [(i, c) for i, c in self._rows.items() if c.pool == pool and (at is None or c.issued_at <= at)]
        return max(of_pool, key=lambda row: row[1].issued_at, default=None)

    def get(self, forecast_id: str) -> DemandCurve | None:
        """One by id."""
        return self._rows.get(forecast_id)

    def issued(self, pool: str, since: datetime, until: datetime) -> tuple[tuple[str, datetime], ...]:
        """(id, issued at) of those issued in [since, until], in time order."""
        rows = [(i, c.issued_at) for i, c in self._rows.items() if c.pool == pool and since <= c.issued_at <= until]
        return tuple(sorted(rows, key=lambda row: row[1]))


class MemoryPlans:
    """PlanStore in memory.

    Args:
        keep: how many plans to keep, the oldest go first; None = all. A replay makes many thousands.
    """

    def __init__(self, keep: int | None = None) -> None:
        self._rows: dict[str, CapacityPlan] = {}
        self._latest: dict[str, CapacityPlan] = {}
        self._ahead: dict[str, CapacityPlan] = {}
        self._keep = keep

    def save(self, plan: CapacityPlan) -> None:
        """Keep it."""
        self._rows[plan.plan_id] = plan
        for of in (self._latest, self._ahead) if plan.targets else (self._latest,):
            last = of.get(plan.pool)
            if last is None or plan.issued_at >= last.issued_at:
                of[plan.pool] = plan
        if self._keep is not None and len(self._rows) > self._keep:
            del self._rows[next(iter(self._rows))]

    def get(self, plan_id: str) -> CapacityPlan | None:
        """One by id or unique prefix."""
        if plan_id in self._rows:
            return self._rows[plan_id]
        near = [p for name, p in self._rows.items() if name.startswith(plan_id)] if plan_id else []
        return near[0] if len(near) == 1 else None

    def latest(self, pool: str, *, ahead: bool = False) -> CapacityPlan | None:
        """The last one made, or the last with targets."""
        return (self._ahead if ahead else self._latest).get(pool)


class MemoryAudit:
    """AuditLog in memory."""

    def __init__(self) -> None:
        self._rows: list[ActionRecord] = []
        self._of: dict[str, list[ActionRecord]] = {}

    def record(self, record: ActionRecord) -> None:
        """Add a row."""
        for rows in (self._rows, self._of.setdefault(record.pool, [])):
            if rows and record.at < rows[-1].at:
                insort(rows, record, key=lambda r: r.at)
            else:
                rows.append(record)

    def records(
        self,
        pool: str | None = None,
        *,
        since: datetime | None = None,
        node_id: str | None = None,
        action_id: str | None = None,
    ) -> tuple[ActionRecord, ...]:
        """Rows in time order."""
        rows = self._rows if pool is None else self._of.get(pool, [])
        first = 0 if since is None else bisect_left(rows, since, key=lambda r: r.at)
        return tuple(
            r
            for r in rows[first:]
            if (node_id is None or node_id in r.node_ids or node_id in r.action.node_ids)
            and action_id in (None, r.action.action_id)
        )


class MemoryLeads:
    """LeadTimeStore in memory."""

    def __init__(self) -> None:
        self._rows: list[LeadObservation] = []
        self._known: set[tuple[str, Standby, datetime]] = set()

    def add(self, *observations: LeadObservation) -> None:
        """Keep each once."""
        for observation in observations:
            key = (observation.node_id, observation.came_from, observation.at)
            if key not in self._known:
                self._known.add(key)
                insort(self._rows, observation, key=lambda o: o.at)

    def observations(
        self, provider: str | None = None, *, since: datetime | None = None
    ) -> tuple[LeadObservation, ...]:
        """In time order."""
        first = 0 if since is None else bisect_left(self._rows, since, key=lambda o: o.at)
        return tuple(o for o in self._rows[first:] if provider in (None, o.provider))


class MemoryHistory:
    """HistoryStore in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, list[PoolSnapshot]] = {}

    def instants(self, pool: str, *, since: datetime) -> tuple[datetime, ...]:
        """When the pool was looked at."""
        return tuple(s.at for s in self.snapshots(pool, since=since))

    def record(self, snapshot: PoolSnapshot) -> None:
        """Keep it, once per (pool, at)."""
        rows = self._rows.setdefault(snapshot.pool, [])
        i = bisect_left(rows, snapshot.at, key=lambda s: s.at)
        if i < len(rows) and rows[i].at == snapshot.at:
            rows[i] = snapshot
        else:
            rows.insert(i, snapshot)

    def snapshots(
        self, pool: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[PoolSnapshot, ...]:
        """In time order."""
        rows = self._rows.get(pool, [])
        first = 0 if since is None else bisect_left(rows, since, key=lambda s: s.at)
        last = len(rows) if until is None else bisect_right(rows, until, key=lambda s: s.at)
        return tuple(rows[first:last])


class MemorySamples:
    """SampleStore in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Usage]] = {}

    def append(self, pool: str, samples: Iterable[tuple[str, Usage]]) -> int:
        """Keep them; returns how many."""
        new = list(samples)
        for claimant, usage in new:
            self._rows.setdefault(claimant, []).append(usage)
        return len(new)

    def samples(self, claimant: str) -> tuple[Usage, ...]:
        """In time order; one that was kept twice counts once."""
        return tuple(sorted(dict.fromkeys(self._rows.get(claimant, ())), key=lambda u: u.at))

    def series(self, claimants: Collection[str]) -> Mapping[str, tuple[Usage, ...]]:
        """Of many at once."""
        return {c: self.samples(c) for c in claimants if c in self._rows}

    def latest(self, claimants: Collection[str], *, since: float) -> Mapping[str, Usage]:
        """The last of each."""
        return {c: rows[-1] for c, rows in self.series(claimants).items() if rows[-1].at >= since}

    def summaries(self, claimants: Collection[str]) -> Mapping[str, UsageSummary]:
        """In short."""
        return {c: _summary(rows) for c, rows in self.series(claimants).items()}


def _summary(rows: Sequence[Usage]) -> UsageSummary:
    cpu = [u.cpu for u in rows if u.cpu is not None]
    memory = [u.memory for u in rows if u.memory is not None]
    return UsageSummary(
        len(rows),
        float(np.mean(cpu)) if cpu else math.nan,
        float(np.quantile(cpu, 0.95)) if cpu else math.nan,
        max(memory, default=math.nan),
        float(np.mean(memory)) if memory else math.nan,
    )
