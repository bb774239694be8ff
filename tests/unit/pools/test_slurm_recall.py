"""Lead times that Slurm has on record: power-ups of the accounting database, and the jobs they were for."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from preprov.contracts import RecallsLeads, Recollection
from preprov.model.errors import PoolError
from preprov.model.offerings import Standby
from preprov.model.time import from_epoch
from preprov.testing.fake_slurm import FakeJob
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world

DAYS = timedelta(days=40)


@pytest.fixture(params=[False, True], ids=["22.05", "24.05"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FakeSlurmWorld]:
    with fake_slurm_world(tmp_path, newer=request.param) as made:
        yield made


class Past:
    """Writes down what a cluster did, an hour ago."""

    def __init__(self, world: FakeSlurmWorld) -> None:
        self.world, self.at = world, float(int(time.time()) - 3600)

    def off(self, node: str, begin: float, end: float | None, state: str = "IDLE~") -> None:
        until = None if end is None else self.at + end
        self.world.slurm.events.append((node, state, self.at + begin, until))

    def job(self, node: str, eligible: float, start: float, **more: object) -> None:
        number = len(self.world.slurm.jobs) + 100
        about = {"submit": self.at + eligible, "start": self.at + start, "end": self.at + start + 10, **more}
        self.world.slurm.jobs[number] = FakeJob(number, state="COMPLETED", node=node, **about)  # type: ignore[arg-type]

    def recalled(self) -> Recollection:
        provider = self.world.provider
        assert isinstance(provider, RecallsLeads)
        return provider.recall_leads(self.world.pool, "g", from_epoch(self.at) - DAYS)


@pytest.fixture
def past(world: FakeSlurmWorld) -> Past:
    return Past(world)


def test_a_power_up_takes_until_the_job_it_was_for_begins(past: Past) -> None:
    past.off("cn1", -500, 0)
    past.job("cn1", -1, 45)
    past.job("cn1", 10, 60)
    past.off("cn1", 400, 500)
    past.job("cn1", 499, 530)
    found = past.recalled()
    assert [(w.node_id, w.seconds, w.came_from) for w in found.warmed] == [
        ("cn1", 45.0, Standby.COLD),
        ("cn1", 30.0, Standby.COLD),
    ]
    assert found.warmed[0].at == from_epoch(past.at + 45)
    assert found.warmed[0].instance_type == "m"
    assert found.left_out == ()
    assert past.recalled() == found


def test_what_tells_nothing_of_a_lead_time_is_counted_and_not_guessed(past: Past) -> None:
    past.off("cn1", -500, 0)
    past.job("cn1", 200, 230)  # it came when the node was up already
    past.off("cn2", -500, 0)
    past.job("cn2", -1, 900)  # after it was powered down again
    past.off("cn2", 800, None)
    past.off("cn3", -500, None)
    past.off("cn4", -500, 0, state="DOWN")
    past.off("elsewhere", -500, 0)
    found = past.recalled()
    assert found.warmed == ()
    assert found.left_out == (("powered up, and nothing tells when it was ready", 2),)


def test_a_record_that_ends_where_the_next_begins_is_no_power_up(past: Past) -> None:
    past.off("cn1", -500, -1)  # the controller started again
    past.off("cn1", -1, 0)
    past.job("cn1", 0, 45)
    past.off("cn2", -500, -100)
    past.off("cn2", -100, None)
    found = past.recalled()
    assert [(w.node_id, w.seconds) for w in found.warmed] == [("cn1", 45.0)]
    assert found.left_out == ()


def test_a_node_that_is_up_tells_by_its_slurmd(past: Past) -> None:
    past.off("cn1", -500, 0)
    node = past.world.slurm.nodes["cn1"]
    node.flags, node.started_at = {"CLOUD"}, past.at + 33
    (one,) = past.recalled().warmed
    assert one.seconds == 33.0


def test_a_job_of_several_nodes_tells_nothing_of_one_of_them(past: Past) -> None:
    past.off("cn1", -500, 0)
    past.job("cn[1-2]", -1, 90, nodes=2)
    assert past.recalled().warmed == ()


def test_where_the_jobs_of_weeks_are_too_much_they_are_asked_for_bit_by_bit(past: Past) -> None:
    for day in range(30):
        past.off("cn1", -day * 86_400.0 - 500, -day * 86_400.0)
        past.job("cn1", -day * 86_400.0 - 1, -day * 86_400.0 + 45)
        past.job("cn2", -day * 86_400.0 - 1, -day * 86_400.0 + 20)
    past.world.slurm.most = 2
    found = past.recalled()
    assert [w.seconds for w in found.warmed] == [45.0] * 30


def test_a_cluster_without_accounting_is_a_pool_error(past: Past) -> None:
    past.world.slurm.answers = 0
    with pytest.raises(PoolError):
        past.recalled()
