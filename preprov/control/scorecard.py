"""Promised against realised: what the last promise said of a day, and what the days since came to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import numpy as np

from preprov.contracts import PoolSnapshot
from preprov.control.context import Context
from preprov.control.landing import landed_share
from preprov.control.waits import for_nodes
from preprov.model.errors import ConfigError
from preprov.model.nodes import Phase
from preprov.model.pools import Pool
from preprov.model.promises import Promise

_DAY: Final = timedelta(days=1)
_SILENT: Final = timedelta(minutes=15)
"""A longer gap between two snapshots is time in which nobody looked: it counts for nothing."""
_NO_WAIT_S: Final = 1e-3
"""What is taken apart is so exact."""
_RUNNING: Final = frozenset(map(str, (Phase.WARMING, Phase.READY, Phase.DRAINING, Phase.FAILED, Phase.LOST)))


@dataclass(frozen=True)
class Realised:
    """What came of the days.

    Attributes:
        watched_days: how much of the time was watched; all "per day" figures are per watched day.
        instances: task instances that started. attributed: those of them that somebody else than preprov started, whose
            wait is taken apart afterwards.
        land_by_met: share of the runs with a time to land by that had ended; None = there were none.
        usd_per_day, idle_usd_per_day: None if a price is not known.
    """

    watched_days: float
    instances: int
    attributed: int
    node_hours_per_day: float | None
    usd_per_day: float | None
    idle_usd_per_day: float | None
    warm_hit_ratio: float | None
    wait_mean_s: float | None
    wait_p95_s: float | None
    land_by_met: float | None


@dataclass(frozen=True)
class Scorecard:
    """Both, side by side."""

    pool: str
    since: datetime
    until: datetime
    promise: Promise | None
    realised: Realised

    def rows(self) -> list[dict[str, float | str | None]]:
        """measure, promised, realised, difference."""
        names = (
            *("usd_per_day", "idle_usd_per_day", "node_hours_per_day"),
            *("warm_hit_ratio", "wait_mean_s", "wait_p95_s", "land_by_met"),
        )
        out: list[dict[str, float | str | None]] = []
        for name in names:
            said: float | None = getattr(self.promise, name) if self.promise else None
            came: float | None = getattr(self.realised, name)
            less = None if said is None or came is None else came - said
            out.append({"measure": name, "promised": said, "realised": came, "difference": less})
        return out


def scorecard(ctx: Context, pool: Pool, since: datetime) -> Scorecard:
    """Hold the days from `since` on against the last promise made before them, else the first made in them.

    Raises:
        ConfigError: `since` is not in the past.
    """
    now = ctx.clock.now()
    if since >= now:
        raise ConfigError(f"{since.isoformat()} is not in the past", hint="--last 7d")
    promises = ctx.ports.promises.promises(pool.name, until=now)
    before = [p for p in promises if p.at <= since]
    promise = before[0] if before else promises[-1] if promises else None
    return Scorecard(pool.name, since, now, promise, realised(ctx, pool, since, now))


def realised(ctx: Context, pool: Pool, since: datetime, until: datetime) -> Realised:
    """From the snapshots of each pass, and from the tasks that started."""
    rows = ctx.ports.history.snapshots(pool.name, since=since, until=until)
    lengths = watched(rows)
    hours = np.array([s.total_seconds() / 3600 for s in lengths])
    days = float(hours.sum()) / 24
    rates = np.array([np.nan if r.usd_per_hour is None else r.usd_per_hour for r in rows[: len(hours)]])
    shares = np.array([idle_share(r, pool) for r in rows[: len(hours)]])
    nodes = np.array([_nodes(r) for r in rows[: len(hours)]])
    waits, weights, attributed = _waits(ctx, pool, since, until)
    count = float(weights.sum())
    order = np.argsort(waits)
    at = np.searchsorted(np.cumsum(weights[order]), 0.95 * count * (1 - 1e-12)) if count else 0
    return Realised(
        watched_days=days,
        instances=int(count),
        attributed=attributed,
        node_hours_per_day=_per_day(hours * nodes, days),
        usd_per_day=_per_day(hours * rates, days),
        idle_usd_per_day=_per_day(hours * rates * shares, days),
        warm_hit_ratio=float(weights[waits <= 0].sum() / count) if count else None,
        wait_mean_s=float((waits * weights).sum() / count) if count else None,
        wait_p95_s=float(waits[order[at]]) if count else None,
        land_by_met=landed_share(ctx, pool, since, until),
    )


def watched(rows: Sequence[PoolSnapshot]) -> list[timedelta]:
    """(N - 1,) for how long each snapshot stands; not at all where nobody looked for long."""
    gaps = [b.at - a.at for a, b in pairwise(rows)]
    return [g if g <= _SILENT else timedelta(0) for g in gaps]


def _nodes(row: PoolSnapshot) -> int:
    """Nodes billed as running."""
    return sum(n for phases in row.nodes.values() for phase, n in phases.items() if phase in _RUNNING)


def idle_share(row: PoolSnapshot, pool: Pool) -> float:
    """Share of what exists that no task used: one less the larger of the used shares of cpu and memory.

    Of ready nodes only a share may be ready: what warms or is kept serves nobody and is idle as well.
    """
    used, room = row.used.as_dict(), row.allocatable.as_dict()
    share = max((used[k] / room[k] for k in ("cpu", "memory") if k in pool.binding and room.get(k)), default=0.0)
    ready = sum(phases.get(str(p), 0) for phases in row.nodes.values() for p in (Phase.READY, Phase.DRAINING))
    total = _nodes(row)
    return 1.0 - min(share, 1.0) * (ready / total if total else 0.0)


def _waits(ctx: Context, pool: Pool, since: datetime, until: datetime) -> tuple[np.ndarray, np.ndarray, int]:
    """(provision wait, instances) of the tasks that started in [since, until); instances that others started.

    Who starts a task itself knows whether it waited for a node. Of others' the wait is taken apart, as `preprov waits`
    does it.
    """
    started = ctx.ports.work.started(pool.name, since=since, until=until)
    ours = {(t.run_id, t.task_id): t for t in started if t.provision_wait_s is not None}
    theirs = [w for name, w in for_nodes(ctx, pool.name, since, until).items() if name not in ours]
    waits = [t.provision_wait_s for t in ours.values()] + [s if s > _NO_WAIT_S else 0.0 for s, _ in theirs]
    weights = [t.spec.instances for t in ours.values()] + [n for _, n in theirs]
    attributed = sum(n for _, n in theirs)
    return np.array(waits, dtype=np.float64), np.array(weights, dtype=np.float64), attributed


def _per_day(amounts: np.ndarray, days: float) -> float | None:
    total = float(amounts.sum())
    return None if days <= 0 or np.isnan(total) else total / days
