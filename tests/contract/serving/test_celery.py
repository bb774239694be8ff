"""Celery workers of an Airflow keep the contract of places that are served; Airflow says what they have in hand."""

import copy
from collections.abc import Mapping

import httpx
import pytest

from preprov.contracts import Clock, Service
from preprov.launch.celery import CeleryWorkers
from preprov.model.resources import Resources
from preprov.sim.clock import VirtualClock
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import exchanged
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag
from preprov.testing.serves_contract import ServesContract
from preprov.testing.store_examples import T0
from tests.servedway import ServedWay


class CeleryWorld:
    """An Airflow with a DAG; each run of it is one task."""

    changes: Mapping[str, object] = {}
    unknown = "limit"
    secret = "pw"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.airflow = FakeAirflow(clock)
        self.airflow.add_dag(FakeDag("etl", (("t", (), {}),)))
        self.place = self.again()

    def again(self) -> CeleryWorkers:
        credential = exchanged("http://af", "me", lambda: self.secret)
        settings = AirflowSettings("t", "http://af", credential, attempts=1, requests_per_second=1e6)
        source = AirflowSource(settings, self._clock, transport=self.airflow.transport())
        service = Service("af", "p", Resources(cpu=1), {}, workers=True)
        return CeleryWorkers(service, source.running, ("python3", "-m", "preprov_provider.celery"))

    def everything(self) -> object:
        return copy.deepcopy(self.airflow.dags)

    def give(self, worker: str) -> str:
        run = self.airflow.start_run("etl", f"r{len(self.airflow.runs)}")
        self.airflow.set_task(run, "t", "running").hostname = worker
        return f"etl/{run.run_id}/t/-1"

    def finish(self, worker: str) -> None:
        for run in self.airflow.runs.values():
            if run.tasks["t", -1].hostname == worker:
                self.airflow.set_task(run, "t", "success")
                self.airflow.end_run(run)

    def busy(self) -> frozenset[str]:
        tasks = (run.tasks["t", -1] for run in self.airflow.runs.values())
        return frozenset(t.hostname for t in tasks if t.state == "running")

    def away(self, is_away: bool) -> None:
        self.airflow.faults[:] = [lambda _: httpx.Response(503)] if is_away else []


class TestCelery(ServesContract):
    @pytest.fixture
    def world(self) -> CeleryWorld:
        return CeleryWorld(VirtualClock(T0))


class TestTheWholeWay(ServedWay):
    def make(self, clock: Clock) -> CeleryWorld:
        return CeleryWorld(clock)
