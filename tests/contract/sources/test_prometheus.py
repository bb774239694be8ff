"""A Prometheus, against the suite that every place which tells what tasks use passes."""

from datetime import UTC, datetime

import pytest

from preprov.sim.clock import VirtualClock
from preprov.sources.prometheus import PrometheusSettings, PrometheusSource, UsageQuery
from preprov.testing.fake_prometheus import FakePrometheus
from preprov.testing.usage_source_contract import UsageSourceContract

NAMED = "{run}/{task}#0"
QUERIES = (UsageQuery("cpu", "cpu", "cores", NAMED), UsageQuery("memory", "memory", "bytes", NAMED))


class PrometheusPlace:
    """Each task has two series, named by its run and task, from its beginning to its end."""

    def __init__(self) -> None:
        self.clock = VirtualClock(datetime(2026, 3, 2, 12, 0, 7, tzinfo=UTC))
        self.there = FakePrometheus(self.clock)
        self.there.series = {"cpu": [], "memory": []}
        self.ended: dict[str, float] = {}

    def source(self) -> PrometheusSource:
        settings = PrometheusSettings(
            "usage", "http://pm:9090", QUERIES, requests_per_second=1e6, chunk_s=600.0, history_days=0.5, patience_s=1e9
        )
        return PrometheusSource(settings, self.clock, transport=self.there.transport())

    def now(self) -> datetime:
        return self.clock.now()

    def pass_time(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def begin(self, count: int, *, names: tuple[str, ...] = ()) -> list[str]:
        began, made = self.now().timestamp(), []
        for i in range(count):
            run = names[i] if names else "etl"
            task = str(len(self.there.series["cpu"]))
            claimant = f"{run}/{task}#0"
            for resource, amount in (("cpu", 0.5), ("memory", 2.0**30)):
                self.there.series[resource].append(
                    (
                        {"run": run, "task": task},
                        lambda t, c=claimant, amount=amount: amount if began <= t < self.ended.get(c, t + 1) else None,
                    )
                )
            made.append(claimant)
        return made

    def end(self, claimant: str) -> None:
        self.ended[claimant] = self.now().timestamp()

    def fail_after(self, requests: int | None) -> None:
        self.there.answers = requests


class TestPrometheus(UsageSourceContract):
    @pytest.fixture
    def place(self) -> PrometheusPlace:  # type: ignore[override]
        return PrometheusPlace()
