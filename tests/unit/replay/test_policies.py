"""The simple policies do what their names say; the registry finds them and those of others."""

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from preprov.model.errors import ConfigError
from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind
from preprov.replay import registry
from preprov.replay.clairvoyant import Clairvoyant
from preprov.replay.engine import history_of, replay
from preprov.replay.forecasters import AwsPredictive, HourOfWeek, PoolingQuantile
from preprov.replay.policies import Reactive, ReactiveMax, StaticRunning, StaticStopped
from preprov.replay.policy import DemandHistory, Policy, Setting
from preprov.replay.yardstick import POLICIES

from .traces import E0, T0, T, pool_of, work_of


@dataclass
class FakeView:
    """A view with whatever a test says."""

    now: float = E0
    ready: int = 0
    warming: int = 0
    waiting: float = 0.0
    used: float = 0.0
    kept: dict[Standby, list[str]] = field(default_factory=dict)
    resting: list[tuple[str, float]] = field(default_factory=list)
    most: float = 0.0

    def standby(self, state: Standby) -> list[str]:
        return self.kept.get(state, [])

    def idle(self) -> list[tuple[str, float]]:
        return self.resting

    def warming_nodes(self) -> list[str]:
        return []

    def peak(self, window_s: float) -> float:
        return self.most


def prepared(policy, peak=(), start=E0, step_s: float = 300.0, zone: str = "UTC"):
    history = DemandHistory(start - len(peak) * step_s, step_s, np.array(peak, dtype=float))
    pool = pool_of()
    policy.prepare(Setting(pool, start, start, start + 86_400, history))
    return policy


def kinds(orders) -> dict[ActionKind, int]:
    return {o.kind: o.count for o in orders}


def test_reactive_launches_what_waits_less_what_warms():
    policy = prepared(Reactive())
    assert kinds(policy.tick(E0, FakeView(waiting=2.3))) == {ActionKind.LAUNCH: 3}
    assert kinds(policy.tick(E0, FakeView(waiting=2.3, warming=2))) == {ActionKind.LAUNCH: 1}
    assert policy.tick(E0, FakeView(waiting=2.3, warming=3)) == []
    assert kinds(policy.tick(E0, FakeView(waiting=2.0, kept={Standby.STOPPED: ["a"]}))) == {
        ActionKind.START: 1,
        ActionKind.LAUNCH: 1,
    }


def test_reactive_ends_only_what_has_idled_long_enough():
    policy = prepared(Reactive(600))
    view = FakeView(ready=3, resting=[("a", 700.0), ("b", 100.0), ("c", 650.0)])
    (order,) = policy.tick(E0, view)
    assert (order.kind, set(order.node_ids)) == (ActionKind.TERMINATE, {"a", "c"})
    assert policy.tick(E0, FakeView(ready=3, waiting=0.1, warming=1, resting=view.resting)) == []


def test_floors():
    assert kinds(prepared(ReactiveMax(2)).tick(E0, FakeView(most=3.2))) == {ActionKind.LAUNCH: 6}
    assert kinds(prepared(StaticRunning(4)).tick(E0, FakeView(ready=1))) == {ActionKind.LAUNCH: 3}
    keeps = prepared(StaticRunning(2)).tick(E0, FakeView(ready=3, resting=[(i, 900.0) for i in "abc"]))
    assert [o.count for o in keeps] == [1]
    assert prepared(StaticRunning(), peak=[1, 4.5, 2]).knob == 5


def test_the_warm_pool_is_filled_and_refilled():
    policy = prepared(StaticStopped(3))
    assert kinds(policy.tick(E0, FakeView())) == {ActionKind.LAUNCH: 3}
    idle = [("a", 900.0), ("b", 900.0)]
    orders = policy.tick(E0, FakeView(ready=2, resting=idle, kept={Standby.STOPPED: ["c"]}))
    assert kinds(orders) == {ActionKind.STOP: 2}
    over = policy.tick(E0, FakeView(ready=2, resting=idle, kept={Standby.STOPPED: ["c", "d"]}))
    assert kinds(over) == {ActionKind.STOP: 1, ActionKind.TERMINATE: 1}


def weeks(n: int) -> np.ndarray:
    """n weeks of five-minute steps: 10 nodes between 02:00 and 03:00, else 1; Saturdays nothing."""
    at = np.arange(n * 7 * 288) * 300 + E0 - n * 7 * 86_400
    hour = (at % 86_400) // 3600
    day = ((at // 86_400) + 3) % 7
    return np.where(day == 5, 0.0, np.where(hour == 2, 10.0, 1.0))


@pytest.mark.parametrize(("policy", "night", "noon"), [(HourOfWeek(0.9), 10, 1), (PoolingQuantile(0.9), 10, 1)])
def test_forecasters_know_the_night(policy, night: int, noon: int):
    prepared(policy, weeks(4))
    at = T0 + timedelta(days=1)
    assert policy.floor((at + timedelta(hours=2, minutes=10)).timestamp(), FakeView()) == night
    policy._made = -math.inf
    assert policy.floor((at + timedelta(hours=12)).timestamp(), FakeView()) == noon


def test_the_schedule_follows_the_local_clock():
    policy = prepared(HourOfWeek(0.5), weeks(4), zone="UTC")
    assert policy.floor(E0 + 86_400 + 2 * 3600 + 60, FakeView()) == 10
    assert policy.floor((T0 + timedelta(days=5, hours=2)).timestamp(), FakeView()) == 0


def test_aws_raises_before_the_hour_and_keeps_a_warm_pool():
    policy = prepared(AwsPredictive(1.0), weeks(5))
    before = (T0 + timedelta(hours=1, minutes=56)).timestamp()
    assert policy.floor(before, FakeView()) == pytest.approx(10, abs=1)
    assert kinds(policy.stock(FakeView(ready=4, kept={Standby.STOPPED: ["a"]}))) == {ActionKind.LAUNCH: 5}
    assert policy.floor((T0 + timedelta(hours=1, minutes=30)).timestamp(), FakeView()) == pytest.approx(1, abs=0.5)


def test_history_is_the_peak_within_each_step_and_hides_the_future():
    work = work_of([(0, [T(400, cpu=4)] * 2), (650, [T(10, cpu=2)])])
    history = history_of(work, pool_of(cpu=4))
    assert list(history.peak) == [2, 2, 0.5]
    assert list(history.until(E0 + 599)) == [2]


def test_the_clairvoyant_is_ready_in_time_and_ends_what_it_needs_no_more():
    work = work_of([(3600.0 * h + 600, [T(300)] * 8) for h in range(1, 5)])
    pool, until = pool_of(lead_s=200, sigma=True), T0 + timedelta(hours=6)
    careful = replay(work, pool, Clairvoyant(0.99), judged_from=T0, until=until, warm_up_s=600)
    assert careful.waits.warm == 1.0
    bold = replay(work, pool, Clairvoyant(0.05), judged_from=T0, until=until, warm_up_s=600)
    reactive = replay(work, pool, Reactive(), judged_from=T0, until=until, warm_up_s=600)
    assert careful.cost_usd < reactive.cost_usd
    assert bold.cost_usd <= careful.cost_usd
    assert reactive.waits.mean > bold.waits.mean > 0
    assert set(careful.nodes.phase) >= {"hibernated"}


def test_every_published_policy_is_there_by_name():
    assert set(POLICIES) | {"always-on"} <= set(registry.names())
    for name in registry.BUILT_IN:
        policy = registry.make_policy(name)
        assert policy.name == name
        assert policy.tick_s > 0
    assert registry.make_policy("reactive", 30.0).knob == 30.0
    with pytest.raises(ConfigError, match="no policy 'best'"):
        registry.make_policy("best")


def nothing(knob: float | None) -> Policy:
    return Reactive(1e9)


def test_others_bring_theirs(monkeypatch: pytest.MonkeyPatch):
    found = [
        EntryPoint("theirs", f"{__name__}:nothing", registry.ENTRY_POINTS),
        EntryPoint("broken", "no.such.module:thing", registry.ENTRY_POINTS),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group, name=None: [e for e in found if name in (None, e.name)])
    monkeypatch.setattr(EntryPoint, "load", lambda self: nothing if self.name == "theirs" else 1 / 0)
    assert registry.make_policy("theirs").knob == 1e9
    with pytest.raises(ConfigError, match="broken"):
        registry.make_policy("broken")
    assert {"theirs", "broken"} <= set(registry.names())


def test_time_zones_of_the_calendar():
    policy = PoolingQuantile(0.5)
    pool = pool_of()
    history = DemandHistory(E0 - 14 * 86_400, 300.0, weeks(2))
    policy.prepare(Setting(replace(pool, zone="Asia/Tokyo"), E0, E0, E0, history))
    assert policy.calendar.when(datetime(2026, 1, 5, 20, tzinfo=UTC).timestamp()) == (1, 5 * 3600)


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_hours_of_history_are_enough_for_every_simple_policy(name: str):
    if name == "preprov":
        return
    work = work_of([(0.0, [T(300)]), (4000.0, [T(300)] * 5), (9000.0, [T(600)])])
    first = T0 + timedelta(hours=1)
    result = replay(
        work, pool_of(), registry.make_policy(name), judged_from=first, until=T0 + timedelta(hours=4), warm_up_s=600
    )
    assert result.unstarted == 0
    assert result.waits.instances == 6
