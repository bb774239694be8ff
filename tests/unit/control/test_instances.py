"""Tasks that ended well elsewhere, instance by instance."""

from datetime import timedelta

import pytest

from preprov.control.instances import Instance, instances
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import exchanged
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag
from tests.unit.control.world import START, World, make_world

AGO = START.timestamp() - 3600


@pytest.fixture
def world() -> World:
    return make_world()


def found(world: World, task: str | None = None) -> list[Instance]:
    parts = instances(world.ctx, world.pool, START - timedelta(days=1), world.clock.now(), None, task)
    return [i for part in parts for i in part]


def test_a_try_that_failed_did_not_end_well_and_one_that_was_cleared_is_its_task_again(world: World) -> None:
    airflow = FakeAirflow(world.clock)
    airflow.add_dag(FakeDag("etl", [("a", (), {}), ("b", (), {})]))
    run = airflow.start_run("etl", "r", at=AGO)

    def goes(task: str, *times: float, states: tuple[str, ...]) -> None:
        for state, at in zip(states, times, strict=True):
            airflow.set_task(run, task, state, at=AGO + at)

    goes("a", 0, 1, 2, 60, states=("scheduled", "queued", "running", "up_for_retry"))
    goes("a", 100, 101, 102, 150, states=("scheduled", "queued", "running", "success"))
    goes("b", 0, 1, 2, 30, states=("scheduled", "queued", "running", "success"))
    airflow.clear(run, ["b"])
    goes("b", 200, 201, 202, 240, states=("scheduled", "queued", "running", "success"))
    airflow.end_run(run, at=AGO + 240)
    settings = AirflowSettings(
        "prod", "http://af", exchanged("http://af", "me", lambda: "pw"), requests_per_second=1e6, history_days=2.0
    )
    sync(world.ctx, AirflowSource(settings, world.clock, transport=airflow.transport()), Router(default="p"))
    assert sorted((i.task_id, round(i.seconds)) for i in found(world)) == [("a", 48), ("b", 28), ("b", 38)]
    assert len({i.claimant for i in found(world)}) == 3
    assert [round(i.seconds) for i in found(world, "b")] == [28, 38]
