"""Airflow keeps the contract of places where work lives, by both versions of its API."""

from datetime import datetime

import pytest
import stamina

from preprov.contracts import LiveSource
from preprov.sim.clock import VirtualClock
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import basic, exchanged
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag, FakeRun
from preprov.testing.live_source_contract import LiveSourceContract
from preprov.testing.store_examples import T0

CHAIN = (("extract", ("load",), {}), ("load", (), {}))


@pytest.fixture(autouse=True)
def _no_waiting():
    with stamina.set_testing(True, attempts=2):
        yield


class AirflowPlace:
    """Implements `Place`."""

    def __init__(self, version: str) -> None:
        self.clock = VirtualClock(T0)
        self.airflow = FakeAirflow(self.clock, version=version, page=3)

    def source(self) -> LiveSource:
        credential = (
            exchanged("http://af", "me", lambda: "pw") if self.airflow.version == "v2" else basic("me", lambda: "pw")
        )
        settings = AirflowSettings(
            "prod", "http://af", credential, requests_per_second=1000, history_days=2, patience_s=1e9
        )
        return AirflowSource(settings, self.clock, transport=self.airflow.transport())

    def now(self) -> datetime:
        return self.clock.now()

    def pass_time(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def start(self, count: int, *, names: tuple[str, ...] = ()) -> list[str]:
        made = []
        for i in range(count):
            dag_id = names[i % len(names)] if names else f"dag-{i % 3}"
            if dag_id not in self.airflow.dags:
                self.airflow.add_dag(FakeDag(dag_id, CHAIN))
            run = self.airflow.start_run(dag_id, f"manual__{len(self.airflow.runs)}")
            made.append(f"{dag_id}/{run.run_id}")
        return made

    def _run(self, run_id: str) -> FakeRun:
        return next(r for r in self.airflow.runs.values() if f"{r.dag_id}/{r.run_id}" == run_id)

    def finish(self, run_id: str) -> None:
        run = self._run(run_id)
        for task_id in ("extract", "load"):
            for state in ("scheduled", "queued", "running", "success"):
                self.airflow.set_task(run, task_id, state)
        self.airflow.end_run(run)

    def delete(self, run_id: str) -> None:
        run = self._run(run_id)
        self.airflow.delete_run((run.dag_id, run.run_id))

    def fail_after(self, requests: int | None) -> None:
        self.airflow.answers = requests


class TestAirflow(LiveSourceContract):
    @pytest.fixture(params=["v1", "v2"])
    def place(self, request: pytest.FixtureRequest) -> AirflowPlace:
        return AirflowPlace(request.param)
