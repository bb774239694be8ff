"""The loop over pools: one bad pass ends nothing."""

from datetime import timedelta

import pytest

from preprov.control.running import Runner
from tests.unit.control.world import START, make_pool, make_world


def test_a_fault_in_a_pass_is_logged_and_the_next_tick_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(make_pool())
    looked: list[int] = []
    observe = world.cloud.observe

    def sometimes(pool):
        looked.append(1)
        if len(looked) == 1:
            raise IndexError("a fault of ours")
        return observe(pool)

    monkeypatch.setattr(world.cloud, "observe", sometimes)
    done = []
    runner = Runner(world.ctx, [world.pool], tick_s=0.0, on_pass=lambda r: (done.append(r), runner.stop()))
    world.clock.sleep(1)
    runner.run(START + timedelta(hours=1))
    assert len(done) == 1
    assert len(looked) > 1
