"""Prefect keeps the contract of places where work lives, read by its own client."""

from datetime import datetime

import pytest

from preprov.contracts import LiveSource
from preprov.sim.clock import VirtualClock
from preprov.sources.prefect import PrefectSettings, PrefectSource
from preprov.testing.fake_prefect import FakePrefect
from preprov.testing.live_source_contract import LiveSourceContract
from preprov.testing.store_examples import T0


class PrefectPlace:
    """Implements `Place`."""

    def __init__(self) -> None:
        self.clock = VirtualClock(T0)
        self.prefect = FakePrefect(self.clock)

    def source(self) -> LiveSource:
        settings = PrefectSettings("prod", "http://pf/api", requests_per_second=1000, history_days=2.0, patience_s=1e9)
        return PrefectSource(settings, self.clock, transport=self.prefect.transport())

    def now(self) -> datetime:
        return self.clock.now()

    def pass_time(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def start(self, count: int, *, names: tuple[str, ...] = ()) -> list[str]:
        flows = [names[i % len(names)] if names else f"flow-{i % 3}" for i in range(count)]
        return [self.prefect.start_run(flow, "extract", "load").id for flow in flows]

    def finish(self, run_id: str) -> None:
        self.prefect.end_run(self.prefect.runs[run_id])

    def delete(self, run_id: str) -> None:
        del self.prefect.runs[run_id]

    def fail_after(self, requests: int | None) -> None:
        self.prefect.answers = requests


class TestPrefect(LiveSourceContract):
    @pytest.fixture
    def place(self) -> PrefectPlace:
        return PrefectPlace()
