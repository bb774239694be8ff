"""What is particular to the local scheduler."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from preprov.clocks import ScaledClock, WallClock
from preprov.launch.local import LocalScheduler
from preprov.model.agent import Usage
from preprov.model.errors import ConflictError, NotFoundError
from preprov.model.offerings import Preload
from preprov.testing.local_nodes import cleared
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld


def test_samples_are_handed_on_once_even_over_a_restart(world: LocalWorld) -> None:
    """Each poll says which samples have arrived; a restarted controller gets those that no poll confirmed."""
    (node,) = world.ready()
    world.run(node, ["sleep", "1"])
    seen: list[Usage] = []

    def over() -> bool:
        (report,) = world.scheduler.poll([node])
        seen.extend(report.usage)
        return report.ended_at is not None

    wait_until(over)
    world.scheduler.poll([node])  # confirms the last
    other = LocalScheduler(world.home, WallClock())
    again = [u for r in other.poll([node]) for u in r.usage]
    assert not again
    assert len({u.at for u in seen}) == len(seen) >= 3


def test_unconfirmed_samples_come_again(world: LocalWorld) -> None:
    (node,) = world.ready()
    world.run(node, ["true"])
    wait_until(lambda: world.node(node.node_id).running == ())
    first = [u for r in LocalScheduler(world.home, WallClock()).poll([node]) for u in r.usage]
    second = [u for r in LocalScheduler(world.home, WallClock()).poll([node]) for u in r.usage]
    assert first == second
    assert first


def test_a_node_that_does_not_answer_is_left_out_and_refuses_with_a_retryable_error(world: LocalWorld) -> None:
    silent, other = world.ready(2)
    world.run(other, ["true"])
    for pid in world.pids(silent).values():
        psutil.Process(pid).kill()
    reports = world.scheduler.poll([silent, other])
    assert {r.node_id for r in reports} == {other.node_id}
    with pytest.raises(ConflictError) as e:
        world.run(silent, ["true"])
    assert e.value.retryable


@pytest.mark.parametrize("address", ["", "ssh:host", "unix:/does/not/exist/agent.sock"])
def test_a_node_without_a_local_address_is_not_found(world: LocalWorld, address: str) -> None:
    (node,) = world.ready()
    with pytest.raises(NotFoundError):
        world.run(replace(node, address=address), ["true"])


def test_logs_are_those_of_the_last_node_it_ran_on(world: LocalWorld) -> None:
    first, second = world.ready(2)
    for node, text in ((first, "one"), (second, "two")):
        world.run(node, ["echo", text])
        wait_until(lambda n=node: all(r.ended_at for r in world.scheduler.poll([n])))
    assert list(world.scheduler.logs("run-1/t#0")) == ["two"]


def test_logs_that_are_no_text_can_be_read(world: LocalWorld) -> None:
    (node,) = world.ready()
    world.run(node, ["printf", r"a\377b\n\nlast"])
    wait_until(lambda: all(r.ended_at for r in world.scheduler.poll([node])))
    assert list(world.scheduler.logs("run-1/t#0")) == ["a\ufffdb", "", "last"]


def test_logs_outlive_the_agent_and_can_be_followed(world: LocalWorld) -> None:
    (node,) = world.ready()
    world.run(node, ["sh", "-c", "echo begun; sleep 60"])
    wait_until(lambda: list(world.scheduler.logs("run-1/t#0")) == ["begun"])
    world.kill_agent(node)
    assert list(world.scheduler.logs("run-1/t#0")) == ["begun"]
    world.provider.start(world.pool, [node.node_id], Preload())


def test_instants_are_on_the_clock_and_amounts_are_not_scaled(tmp_path: Path) -> None:
    origin = datetime(2025, 3, 1, 2, 0, tzinfo=UTC)
    clock = ScaledClock(origin, 30.0)
    with cleared(tmp_path) as home:
        world = LocalWorld(home, clock=clock, speed=30.0, sample_s=0.1)
        (node,) = world.ready()
        before = clock.now()
        world.run(node, ["python3", "-S", "-c", "import time\nwhile time.process_time() < 0.4: pass"])
        usage: list[Usage] = []

        def over() -> bool:
            (report,) = world.scheduler.poll([node])
            usage.extend(report.usage)
            return report.ended_at is not None

        wait_until(over)
        (report,) = world.scheduler.poll([node])
        assert report.ended_at is not None
        slack = timedelta(seconds=30)
        assert before - slack <= report.started_at < report.ended_at <= clock.now() + slack
        assert (report.ended_at - report.started_at).total_seconds() >= 0.4 * 30
        assert all(report.started_at.timestamp() <= u.at <= report.ended_at.timestamp() + 1 for u in usage)
        assert max(u.cpu or 0.0 for u in usage) < 1.6, "cores, not cores times speed"
