"""A work pool of Prefect keeps the contract of places that are served, asked over HTTP by its own client."""

import copy
from collections.abc import Mapping

import httpx
import pytest

from preprov.contracts import Clock, Service
from preprov.launch.prefect import PrefectWorkPool, WorkerProgram, job_variable, limit_of_pool, limit_of_queue
from preprov.model.resources import Resources
from preprov.sim.clock import VirtualClock
from preprov.testing.fake_prefect import FakePrefect
from preprov.testing.serves_contract import ServesContract
from preprov.testing.store_examples import T0
from tests.servedway import ServedWay

POOL, HIGH, IMAGE = limit_of_pool("workers"), limit_of_queue("workers", "high"), job_variable("image")
TEMPLATE = {"variables": {"properties": {"image": {"type": "string", "default": "old"}, "cpu": {"type": "string"}}}}


class PrefectWorld:
    """A Prefect with two work pools, of which one is served."""

    changes: Mapping[str, object] = {POOL: 8, HIGH: 4, IMAGE: "new"}
    unknown = job_variable("nodes")
    secret = "s3cret"

    def __init__(self, clock: Clock) -> None:
        self.prefect = FakePrefect(clock)
        for name in ("workers", "others"):
            self.prefect.pools[name] = {
                "name": name,
                "type": "process",
                "concurrency_limit": 5,
                "base_job_template": copy.deepcopy(TEMPLATE),
            }
            for queue in ("default", "high"):
                self.prefect.queues.append({"name": queue, "work_pool_name": name, "concurrency_limit": None})
        self._deployment = self.prefect.deploy("etl", "nightly", pool="workers")
        self.place = self.again()

    def again(self) -> PrefectWorkPool:
        shares, program = {POOL: 1.0, HIGH: 0.5}, WorkerProgram(("python3", "-m", "prefect_preprov.worker"))
        service = Service("pf", "p", Resources(cpu=1), shares, fills={IMAGE: "new"}, workers=True)
        transport = self.prefect.transport()
        return PrefectWorkPool(
            service, "http://pf/api", lambda: self.secret, "workers", ("high",), program, transport=transport
        )

    def everything(self) -> object:
        return copy.deepcopy((self.prefect.pools, self.prefect.queues))

    def give(self, worker: str) -> str:
        return self.prefect.start_run("etl", deployment=self._deployment, worker=worker).id

    def finish(self, worker: str) -> None:
        for run in self.prefect.runs.values():
            if run.worker == worker:
                self.prefect.end_run(run)

    def busy(self) -> frozenset[str]:
        return frozenset(r.worker for r in self.prefect.runs.values() if r.state == "RUNNING")

    def away(self, is_away: bool) -> None:
        self.prefect.faults[:] = [lambda _: httpx.Response(503)] if is_away else []


class TestPrefect(ServesContract):
    @pytest.fixture
    def world(self) -> PrefectWorld:
        return PrefectWorld(VirtualClock(T0))

    def test_of_a_run_it_is_told_when_it_began(self, world: PrefectWorld) -> None:
        run = world.give(world.place.worker_name("n1", "1"))
        (began,) = world.place.look().began.items()
        assert began == (run, T0)


class TestTheWholeWay(ServedWay):
    def make(self, clock: Clock) -> PrefectWorld:
        return PrefectWorld(clock)
