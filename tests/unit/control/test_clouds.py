"""Each cloud under the real control code: adopted, played, given back; a dead controller; a second autoscaler."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.control.adopting import adopt, release
from preprov.control.trust import trust
from preprov.model.nodes import Phase
from preprov.model.plans import ActionKind
from preprov.model.pools import Mode
from tests.clouds import CLOUDS, Cloud, cloud_of, launches

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with cloud_of(request.param, monkeypatch) as made:
        yield made


def cores(cloud: Cloud) -> float:
    return cloud.pool.groups[0].offerings[0].capacity.cpu


def test_adopted_played_and_given_back_every_setting_is_as_it_was_found(cloud: Cloud) -> None:
    before, ctx = cloud.settings(), cloud.context()
    adopt(ctx, cloud.pool)
    assert cloud.settings() == before, "adopting writes nothing"
    wave = 3 * cores(cloud)
    cloud.until(ctx, wave, lambda: len(cloud.ready()) == 3, "three nodes for the wave")
    assert cloud.settings() != before
    busy = cloud.ready()[0]
    claimant = cloud.world.occupy(busy)
    cloud.passes(ctx, minutes=20)
    assert cloud.nodes()[busy.node_id].running == (claimant,), "it outlived the end of the wave"
    (early,) = release(ctx, cloud.pool)
    assert cloud.nodes()[busy.node_id].running == (claimant,), "giving back ends no running work"
    assert not early.whole
    cloud.world.free(cloud.nodes()[busy.node_id])
    for _ in range(10):
        (back,) = release(ctx, cloud.pool) or (early,)
        cloud.clock.sleep(120)
        if back.whole:
            break
    assert back.whole, back
    cloud.clock.sleep(600)
    assert cloud.nodes() == {}
    assert cloud.machines() == 0
    assert cloud.settings() == before
    assert trust(ctx, cloud.pool).mode is Mode.OBSERVE


def test_a_second_autoscaler_is_found_named_and_not_fought(cloud: Cloud) -> None:
    name = cloud.stranger()
    before, ctx = cloud.settings(), cloud.context()
    found = trust(ctx, cloud.pool)
    assert found.mode is Mode.FLOOR
    assert any(name in why for why in found.why)
    records = launches(cloud.passes(ctx, 2 * cores(cloud), minutes=5))
    assert records
    assert all(name in r.detail for r in records if r.result != "intended")
    if {r.result for r in records} == {"intended", "done"}:  # where there is a floor that they keep to, it is set
        assert cloud.settings()["MinSize"] == 2
        cloud.passes(ctx, minutes=30)
        assert cloud.settings()["MinSize"] == 0
    else:
        assert {r.result for r in records} == {"skipped"}
        assert cloud.settings() == before
        assert cloud.machines() == 0
    ends = (ActionKind.TERMINATE, ActionKind.STOP, ActionKind.HIBERNATE)
    assert not [r for r in cloud.ports.audit.records() if r.action.kind in ends and r.result == "done"]


_DYING = """
import os, signal, sys
sys.path.insert(0, {root!r})
from preprov.sim.clock import VirtualClock
from tests.awsworld import T0, _CLIENTS
from tests.clouds import Aws, planned
from preprov.pools.aws.provider import AwsProvider
from preprov.model.offerings import Offering, Standby
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources

class World:
    clock = VirtualClock(T0)
    def again(self):
        return AwsProvider(self.clock, _CLIENTS)

options = {options!r}
offering = Offering("m5.large", Resources(cpu=2, memory=8), "us-east-1a", usd_per_hour=0.1)
group = Group("g", "aws", (offering,), frozenset({{Standby.STOPPED}}), max_nodes=8, options=options)
cloud = Aws(World(), planned(Pool("batch", (group,))))
cloud.one_pass(cloud.context(), 6.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_right_after_a_raise_the_cloud_itself_puts_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only AWS can: the others choose which machine ends, and may choose one that works."""
    with cloud_of("aws", monkeypatch) as cloud:
        before = cloud.settings()
        root = str(Path(__file__).resolve().parents[3])
        script = _DYING.format(root=root, options=dict(cloud.pool.groups[0].options))
        child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert child.returncode == -9, child.stderr
        assert cloud.settings()["DesiredCapacity"] == 3
        busy = _first_ready(cloud)
        claimant = cloud.world.occupy(busy)
        cloud.world.provider.tend(cloud.pool)  # its last word: one of them works
        for _ in range(int(cloud.pool.lease_s + 300) // 60):
            cloud.clock.sleep(60)
            cloud.nodes()  # somebody looks; nobody writes
        assert [n.running for n in cloud.nodes().values()] == [(claimant,)]
        counts = ("MinSize", "MaxSize", "DesiredCapacity", "WarmPoolConfiguration")
        assert {k: cloud.settings().get(k) for k in counts} == {k: before.get(k) for k in counts}


def _first_ready(cloud: Cloud) -> object:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        cloud.world.provider.tend(cloud.pool)
        ready = [n for n in cloud.nodes().values() if n.phase is Phase.READY]
        if ready:
            return ready[0]
        cloud.clock.sleep(30)
    raise AssertionError("no node became ready")
