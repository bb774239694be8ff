"""What came of it all since the server began, as counters: waits, warm hits, idle money, coverage of forecasts.

A flow of seconds and a controller that restarts cannot be scraped. So the server reads from the store, at each scrape,
what has happened since the last one.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from preprov.control.challenge import promoted_at
from preprov.control.context import Context
from preprov.control.scorecard import idle_share, watched
from preprov.control.watching import standing
from preprov.model.pools import Pool

BUCKETS: Final = (0.0, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Seconds: a wait of 0 is a warm hit."""


class Outcomes:
    """Counters of all pools of one server, from `since` on. Safe for several threads."""

    def __init__(self, since: datetime) -> None:
        self._registry = CollectorRegistry()
        self._lock = Lock()
        self._since: dict[str, datetime] = {}
        self._paid: dict[str, datetime] = {}
        self._began = since
        self._wait = Histogram(
            "preprov_provision_wait_seconds",
            "Task instances by how long they were ready and no node had room.",
            ["pool"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._hits = Counter(
            "preprov_warm_hits", "Task instances that a ready node took at once.", ["pool"], registry=self._registry
        )
        self._idle = Counter(
            "preprov_idle_cost_dollars", "Of nodes that no work used.", ["pool"], registry=self._registry
        )
        self._cost = Counter("preprov_cost_dollars", "Of all that existed.", ["pool"], registry=self._registry)
        self._coverage = Gauge(
            "preprov_forecast_coverage_ratio",
            "Hours of two weeks in which demand lay in the interval.",
            ["pool", "interval"],
            registry=self._registry,
        )

    def collect(self, ctx: Context, pools: Sequence[Pool]) -> Iterator[Metric]:
        """Catch up, then all families, of these pools only."""
        names = {p.name for p in pools}
        with self._lock:
            for pool in pools:
                self._catch_up(ctx, pool)
            for family in self._registry.collect():
                family.samples = [
                    s for s in family.samples if s.labels.get("pool") in names and not s.name.endswith("_created")
                ]
                yield family

    def _catch_up(self, ctx: Context, pool: Pool) -> None:
        now, since = ctx.clock.now(), self._since.get(pool.name, self._began)
        if now <= since:
            return
        self._since[pool.name] = now
        self._tasks(ctx, pool, since, now)
        self._money(ctx, pool, now)
        for interval, share in standing(ctx, pool, promoted_at(ctx, pool)).coverage.items():
            if share is not None:
                self._coverage.labels(pool.name, f"0.{interval}").set(share)

    def _tasks(self, ctx: Context, pool: Pool, since: datetime, now: datetime) -> None:
        wait, hits = self._wait.labels(pool.name), self._hits.labels(pool.name)
        for task in ctx.ports.work.started(pool.name, since=since, until=now):
            if task.provision_wait_s is not None:
                for _ in range(task.spec.instances):
                    wait.observe(task.provision_wait_s)
                hits.inc(task.spec.instances if task.provision_wait_s <= 0 else 0)

    def _money(self, ctx: Context, pool: Pool, now: datetime) -> None:
        """What a snapshot costs is counted once the next one says for how long it stood."""
        idle, cost = self._idle.labels(pool.name), self._cost.labels(pool.name)
        rows = ctx.ports.history.snapshots(pool.name, since=self._paid.get(pool.name, self._began), until=now)
        for row, length in zip(rows, watched(rows), strict=False):
            if row.usd_per_hour is not None:
                usd = row.usd_per_hour * length.total_seconds() / 3600
                cost.inc(usd)
                idle.inc(usd * idle_share(row, pool))
        if rows:
            self._paid[pool.name] = rows[-1].at
