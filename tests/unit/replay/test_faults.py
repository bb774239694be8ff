"""What goes wrong in the cloud or in the forecast costs money or time within bounds, never running work."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.contracts import Clock
from preprov.control import demanding, reacting
from preprov.control.ingesting import has_read
from preprov.model.demand import DemandCurve
from preprov.model.errors import ForecastError
from preprov.model.offerings import CapacityType
from preprov.model.pools import Pool
from preprov.model.resources import ZERO, Resources
from preprov.model.worktable import WorkTable
from preprov.replay.engine import Binding, replay
from preprov.replay.policies import Reactive, StaticRunning
from preprov.replay.policy import Order, Policy, View
from preprov.replay.result import ReplayResult
from preprov.sim.cloud import Faults, Shortage, Wave
from preprov.sim.workstore import MemoryWorkStore

from .test_engine import play, starts, traces
from .test_production import SCHEDULES, Small, nightly
from .traces import T0, T, pool_of, work_of

DAYS = 10
NIGHT = T0 + timedelta(days=DAYS - 2, hours=2)
LEAD_S = 240.0
LEAD_P95_S = 480.0
PASS_S = 60.0
RECOVERY_S = 2 * LEAD_P95_S + PASS_S
"""Two lead times (95th percentile) and a pass."""


def spot(pool: Pool) -> Pool:
    group = pool.groups[0]
    (offering,) = group.offerings
    return replace(pool, groups=(replace(group, offerings=(replace(offering, capacity_type=CapacityType.SPOT),)),))


# ------------------------------------------------------------------ interruptions, on the engine


def test_what_an_interruption_ends_begins_again():
    work = work_of([(0, [T(600), T(60, parents=(0,))])])
    faults = Faults(waves=(Wave(T0 + timedelta(seconds=300), 1.0),))
    result = play(work, spot(pool_of(lead_s=100)), Reactive(), faults=faults)
    assert starts(result) == {0: [pytest.approx(400)], 1: [pytest.approx(1000)]}
    assert (result.interrupted, result.evicted, result.unstarted) == (1, 0, 0)
    assert result.node_hours == pytest.approx((300 + 1390) / 3600, abs=61 / 3600)
    worth = result.node_hours - result.idle_node_hours
    assert worth == pytest.approx(660 / 4 / 3600), "what was lost is no use"


def test_a_gang_begins_again_as_a_whole_and_on_demand_nodes_stay():
    work = work_of([(0, [T(600, cpu=6, memory=0, gang=True)])])
    faults = Faults(waves=(Wave(T0 + timedelta(seconds=300), 0.5),))
    pool = spot(pool_of(cpu=4, lead_s=100))
    hit = play(work, pool, StaticRunning(2), faults=faults, seed=3, warm_up_s=600)
    assert hit.interrupted == 6
    assert starts(hit) == {0: [pytest.approx(400)]}
    calm = play(work, pool_of(cpu=4, lead_s=100), StaticRunning(2), faults=faults, seed=3, warm_up_s=600)
    assert calm.interrupted == 0


@settings(max_examples=30)
@given(traces(), st.lists(st.integers(0, 6000), max_size=3), st.sampled_from([0.3, 1.0]), st.integers(0, 3))
def test_every_instance_ends_whatever_the_cloud_takes_back(work, waves, share, seed):
    faults = Faults(waves=tuple(Wave(T0 + timedelta(seconds=s), share) for s in dict.fromkeys(waves)))
    result = play(work, spot(pool_of(sigma=True)), Reactive(), faults=faults, seed=seed, hours=8)
    assert result.per_instance["weight"].sum() == work.tasks["instances"].sum()
    assert result.evicted == result.unstarted == 0
    parents, children = work.parents, work.children
    first = result.per_instance.groupby("task")["start"].agg(["min", "max"])
    end = first["max"] + work.tasks["runtime_s"]
    assert all(first["min"][c] >= end[p] - 1e-3 for p, c in zip(parents, children, strict=True))
    # no more is used at any instant than was there
    capacity = result.capacity[result.capacity.state == "running"]
    assert (capacity.used_cpu <= capacity.ready_nodes * 4 + 1e-6).all()


# ------------------------------------------------------------------ the production policy


def night(
    policy: Policy,
    *,
    faults: Faults | None = None,
    hours: float = 5.0,
    max_nodes: int = 100,
    pool: Pool | None = None,
    wave: int = 8,
    seed: int = 0,
) -> ReplayResult:
    """Of one task and then a wave of 20 minutes, at 02:00; nodes hold four cores."""
    over = pool or pool_of(lead_s=LEAD_S, sigma=True, max_nodes=max_nodes)
    first = NIGHT - timedelta(hours=2)
    return replay(
        nightly(wave=wave),
        replace(over, horizon_s=4 * 3600),
        policy,
        judged_from=first,
        until=first + timedelta(hours=hours),
        schedules=SCHEDULES,
        warm_up_s=1800.0,
        faults=faults,
        seed=seed,
    )


@pytest.fixture(scope="module")
def calm() -> ReplayResult:
    return night(Small())


def waited(result: ReplayResult) -> float:
    return float(result.per_instance["provision_wait"].max())


def most_at_once(result: ReplayResult) -> int:
    rows = result.nodes[result.nodes.phase.isin(["warming", "ready"])]
    events = sorted([(t, 1) for t in rows.start] + [(t, -1) for t in rows.end])
    return int(np.cumsum([d for _, d in events]).max())


def launched(result: ReplayResult) -> int:
    return int(result.nodes["node_id"].nunique())


AT = NIGHT - timedelta(minutes=15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "faults", "over_s"),
    [
        # Nothing can be had until an hour after work is due, or five minutes after.
        ("no capacity", Faults(shortages=(Shortage(NIGHT - timedelta(hours=1), NIGHT + timedelta(hours=1)),)), 3600),
        ("outage", Faults(outages=((AT, AT + timedelta(minutes=20)),)), 300),
    ],
)
def test_faults_of_the_cloud(calm: ReplayResult, name: str, faults: Faults, over_s: float):
    policy = Small()
    result = night(policy, faults=faults)
    assert (result.evicted, result.unstarted) == (0, 0)
    assert over_s < waited(result) <= over_s + RECOVERY_S, name
    assert result.cost_usd <= 2 * calm.cost_usd + 1.0, "at most as much again"
    assert most_at_once(result) <= most_at_once(calm) + 2, "nobody orders again what is on its way"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_launches_that_fail_are_replaced_within_two_lead_times():
    """A night of 40 nodes, where one launch in twenty fails: four of them do."""
    calm = night(Small(), wave=160, seed=2)
    result = night(Small(), wave=160, seed=2, faults=Faults(launch_failures=0.05))
    nodes = result.nodes
    failed = nodes.loc[nodes.phase == "failed", "start"]
    assert len(failed) >= 3, "or nothing is tested here"
    asked, ready = nodes.loc[nodes.phase == "warming", "start"], nodes[nodes.phase == "ready"]
    for at in failed:
        assert ((asked >= at) & (asked <= at + PASS_S)).any(), "another is asked for within a pass"
        then = at + 2 * LEAD_P95_S
        assert ((ready.start <= then) & (ready.end > then)).sum() >= 40, "within two lead times none is missing"
    assert (result.evicted, result.unstarted) == (0, 0)
    assert waited(result) <= RECOVERY_S
    assert result.cost_usd <= 1.25 * calm.cost_usd
    assert most_at_once(result) <= most_at_once(calm) + 2, "nobody orders again what is on its way"


@pytest.mark.slow
def test_a_spot_wave_in_the_middle_of_the_night(calm: ReplayResult):
    over = spot(pool_of(lead_s=LEAD_S, sigma=True, max_nodes=100))
    at = NIGHT + timedelta(minutes=15)
    result = night(Small(), faults=Faults(waves=(Wave(at, 1.0),)), pool=over)
    assert result.interrupted > 0
    assert (result.evicted, result.unstarted) == (0, 0)
    last = float(result.per_instance["start"].max())
    assert last <= at.timestamp() + RECOVERY_S, "all run again within two lead times and a pass"
    assert result.cost_usd <= 3 * calm.cost_usd


class Distorted(Small):
    """With a forecast, and a look at the next minutes, that something is done to between two instants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, change, since: datetime, until: datetime) -> None:
        super().__init__()
        curve, soon = demanding.demand_curve, reacting.rises_soon

        def distorted(given):
            return change.curve(curve(given)) if since <= given.at < until else curve(given)

        def distorted_soon(ctx, pool, offsets):
            rises = soon(ctx, pool, offsets)
            return change.rises(rises) if since <= ctx.clock.now() < until else rises

        monkeypatch.setattr(demanding, "demand_curve", distorted)
        monkeypatch.setattr(reacting, "rises_soon", distorted_soon)


@dataclass(frozen=True)
class Times:
    """So many times what is right."""

    factor: float

    def curve(self, curve: DemandCurve) -> DemandCurve:
        mean = None if curve.mean is None else curve.mean * self.factor
        return replace(curve, samples=curve.samples * np.float32(self.factor), mean=mean)

    def rises(self, rises: np.ndarray) -> np.ndarray:
        return rises * self.factor


class Missing:
    """None can be made."""

    def curve(self, curve: DemandCurve) -> DemandCurve:
        raise ForecastError("no forecast can be made")

    def rises(self, rises: np.ndarray) -> np.ndarray:
        raise ForecastError("nothing can be foreseen")


@pytest.mark.slow
@pytest.mark.parametrize("change", [Times(0.0), Missing()], ids=["zero", "missing"])
def test_without_a_forecast_it_is_no_worse_than_reactive(monkeypatch: pytest.MonkeyPatch, calm: ReplayResult, change):
    policy = Distorted(monkeypatch, change, NIGHT - timedelta(days=3), NIGHT + timedelta(days=3))
    result = night(policy)
    assert (result.evicted, result.unstarted) == (0, 0)
    assert LEAD_S / 2 < waited(result) <= RECOVERY_S, "what waits is seen, forecast or not; nothing else is"
    assert result.waits.mean <= 1.1 * night(Reactive()).waits.mean
    assert result.cost_usd <= 2 * calm.cost_usd


@pytest.mark.slow
def test_a_forecast_ten_times_too_high_costs_ten_times_and_no_more(monkeypatch: pytest.MonkeyPatch, calm: ReplayResult):
    until = NIGHT + timedelta(hours=1)
    result = night(Distorted(monkeypatch, Times(10.0), NIGHT - timedelta(hours=3), until))
    assert (result.evicted, result.unstarted) == (0, 0)
    assert most_at_once(result) <= 10 * most_at_once(calm) + 1
    assert launched(result) <= 10 * launched(calm) + 10, "ordered once, not at every pass"
    assert result.cost_usd <= 10 * calm.cost_usd + 10
    late = result.nodes[(result.nodes.phase == "ready") & (result.nodes.end > until.timestamp() + 3600)]
    assert late["node_id"].nunique() <= most_at_once(calm), "once it is right again, what is too much goes"


@pytest.mark.slow
def test_a_guard_holds_against_any_forecast(monkeypatch: pytest.MonkeyPatch):
    result = night(
        Distorted(monkeypatch, Times(10.0), NIGHT - timedelta(hours=3), NIGHT + timedelta(hours=1)), max_nodes=4
    )
    assert most_at_once(result) <= 4
    assert (result.evicted, result.unstarted) == (0, 0)


class Deaf(MemoryWorkStore):
    """Shows nothing of what came within a time, until it is over."""

    def __init__(self, clock: Clock, since: datetime, until: datetime) -> None:
        super().__init__()
        self.clock, self.since, self.until = clock, since, until

    def silent(self) -> bool:
        return self.since <= self.clock.now() < self.until

    def work(self, pool: str, *, since: datetime | None = None, until: datetime | None = None) -> WorkTable:
        last = self.since - timedelta(seconds=1)
        return super().work(pool, since=since, until=min(until or last, last) if self.silent() else until)


class Stale(Small):
    """Within a time it hears nothing: no run, no task's start or end, not what waits and what runs."""

    def __init__(self, since: datetime, until: datetime) -> None:
        super().__init__()
        self.between = since, until
        self.heard = ZERO, ZERO

    def bind(self, binding: Binding) -> None:
        super().bind(binding)
        self._store = self.deaf = Deaf(self._clock, *self.between)

    def tick(self, now: float, view: View) -> list[Order]:
        if not self.deaf.silent():
            self.heard = super()._waiting(), super()._used()
            has_read(self.ctx, self._pool.name, "the source")
        return super().tick(now, view)

    def _tell(self) -> None:
        if not self.deaf.silent():
            super()._tell()

    def _waiting(self) -> Resources:
        return self.heard[0]

    def _used(self) -> Resources:
        return self.heard[1]


@pytest.mark.slow
@pytest.mark.parametrize("after_min", [-30, 0, 4], ids=["before", "as it begins", "once it has begun"])
def test_a_source_that_is_silent_for_an_hour(calm: ReplayResult, after_min: int):
    """What waits is not seen until it speaks again: from then on it is as if it had just begun to wait."""
    since = NIGHT + timedelta(minutes=after_min)
    until = since + timedelta(hours=1)
    policy = Stale(since, until)
    result = night(policy)
    assert (result.evicted, result.unstarted) == (0, 0)
    parts = result.per_instance
    late = parts.start - np.maximum(parts.ready, until.timestamp())
    assert late.max() <= RECOVERY_S
    assert result.cost_usd <= 2 * calm.cost_usd
    assert most_at_once(result) <= most_at_once(calm) + 2, "nobody orders again what is on its way"
    raised = result.nodes.loc[result.nodes.phase == "warming", "start"]
    stale = since.timestamp() + policy.binding.pool.guards.stale_source_s
    assert not ((raised > stale) & (raised < until.timestamp())).any(), "what is known is too old to raise on"
    if after_min < 0:
        assert waited(result) > (until - NIGHT).total_seconds(), "or nothing is tested here"
