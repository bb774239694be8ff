"""The in-memory cloud: lead times, states, billing, refusals, faults."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.contracts import LaunchRequest, PoolProvider
from preprov.model.errors import (
    InsufficientCapacityError,
    NodeBusyError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
    ThrottledError,
)
from preprov.model.nodes import Phase
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Pool
from preprov.model.reference import LEADS, ON_DEMAND_USD, STANDBY_USD, reference_pool
from preprov.model.work import ImageRef
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import Faults, Shortage, SimCloud

T0 = datetime(2026, 1, 5, 20, 0, tzinfo=UTC)
POOL = reference_pool("p")


def make(faults: Faults | None = None, seed: int = 1) -> tuple[VirtualClock, SimCloud]:
    clock = VirtualClock(T0)
    return clock, SimCloud(clock, seed=seed, faults=faults or Faults())


def launch(cloud: SimCloud, count: int = 1, token: str = "t", pool: Pool = POOL, preload: Preload | None = None):
    group = pool.groups[0]
    return cloud.launch(LaunchRequest(pool, group.name, group.offerings[0], count, token, preload or Preload()))


def phases(cloud: SimCloud, pool: Pool = POOL) -> list[Phase]:
    return [n.phase for n in cloud.observe(pool).nodes]


def test_it_is_a_provider():
    provider: PoolProvider = make()[1]
    caps = provider.capabilities(POOL, POOL.groups[0].name)
    assert caps.standby_states == POOL.groups[0].standby_states
    assert provider.observe(POOL).nodes == ()


def test_a_launch_warms_and_becomes_ready_after_its_lead_time():
    clock, cloud = make()
    (node_id,) = launch(cloud)
    (warming,) = cloud.observe(POOL).nodes
    assert (warming.phase, warming.created_at, warming.ready_at) == (Phase.WARMING, T0, None)
    ready_at = cloud.next_due()
    assert 60 < ready_at - T0.timestamp() < 900
    clock.advance_to(T0 + timedelta(seconds=ready_at - T0.timestamp() - 1))
    assert phases(cloud) == [Phase.WARMING]
    clock.sleep(1)
    (node,) = cloud.observe(POOL).nodes
    assert node.node_id == node_id
    assert node.phase is Phase.READY
    assert node.ready_at is not None
    assert sum(node.stages.values()) == pytest.approx((node.ready_at - T0).total_seconds())


def test_the_same_token_never_makes_more_nodes():
    _, cloud = make()
    first = launch(cloud, 3)
    assert launch(cloud, 3) == first
    cloud.terminate(POOL, first[:1])
    assert launch(cloud, 3) == first
    assert len(cloud.observe(POOL).nodes) == 2
    assert len(launch(cloud, 2, token="other")) == 2


def test_leads_follow_the_configured_distribution():
    _, cloud = make()
    ids = launch(cloud, 2000)
    leads = sorted(cloud.machine(i).lead_s for i in ids)
    assert leads[1000] == pytest.approx(180, rel=0.08)
    assert leads[1900] == pytest.approx(420, rel=0.12)


def test_draws_depend_on_seed_and_token_only():
    def leads(seed: int, token: str) -> list[float]:
        _, cloud = make(seed=seed)
        launch(cloud, 1, token="before" + token)
        return [cloud.machine(i).lead_s for i in launch(cloud, 4, token=token)]

    assert leads(1, "a") == leads(1, "a")
    assert leads(1, "a") != leads(2, "a")
    assert leads(1, "a") != leads(1, "b")


def warm(clock: VirtualClock, cloud: SimCloud, count: int = 1, token: str = "t") -> tuple[str, ...]:
    ids = launch(cloud, count, token)
    clock.sleep(3600)
    assert phases(cloud).count(Phase.WARMING) == 0
    return ids


@pytest.mark.parametrize(("state", "phase"), [("stop", Phase.STOPPED), ("hibernate", Phase.HIBERNATED)])
def test_standby_and_back(state: str, phase: Phase):
    clock, cloud = make()
    ids = warm(clock, cloud)
    getattr(cloud, state)(POOL, ids)
    getattr(cloud, state)(POOL, ids)
    assert phases(cloud) == [phase]
    clock.sleep(600)
    cloud.start(POOL, ids, Preload())
    (node,) = cloud.observe(POOL).nodes
    assert node.phase is Phase.WARMING
    assert node.came_from is Standby(str(phase))
    lead = cloud.next_due() - clock.now().timestamp()
    assert lead < LEADS[Standby(str(phase))].quantile(0.9999)
    clock.sleep(lead)
    assert phases(cloud) == [Phase.READY]
    cloud.start(POOL, ids, Preload())
    assert phases(cloud) == [Phase.READY]


def test_busy_nodes_are_never_taken_and_nothing_else_happens_then():
    clock, cloud = make()
    ids = warm(clock, cloud, 2)
    cloud.running = {ids[1]: ("r/t#0",)}
    for call in (cloud.stop, cloud.hibernate, cloud.terminate):
        with pytest.raises(NodeBusyError):
            call(POOL, ids)
    assert phases(cloud) == [Phase.READY, Phase.READY]
    cloud.drain(POOL, ids)
    cloud.drain(POOL, ids)
    nodes = cloud.observe(POOL).nodes
    assert [n.phase for n in nodes] == [Phase.DRAINING, Phase.DRAINING]
    assert nodes[1].running == ("r/t#0",)
    cloud.running = {}
    cloud.terminate(POOL, [*ids, "never-was"])
    assert phases(cloud) == []


def test_a_warming_node_asked_to_drain_never_becomes_ready():
    clock, cloud = make()
    ids = launch(cloud)
    cloud.drain(POOL, ids)
    clock.sleep(3600)
    assert phases(cloud) == [Phase.DRAINING]


def test_missing_nodes_are_named():
    clock, cloud = make()
    ids = warm(clock, cloud)
    for call in (cloud.stop, cloud.hibernate, cloud.drain):
        with pytest.raises(NotFoundError, match="gone-1"):
            call(POOL, [*ids, "gone-1"])
    cloud.terminate(POOL, ids)
    with pytest.raises(NotFoundError):
        cloud.start(POOL, ids, Preload())


def test_a_group_keeps_only_the_states_it_declares():
    pool = replace(POOL, groups=(replace(POOL.groups[0], standby_states=frozenset({Standby.STOPPED})),))
    clock, cloud = make()
    ids = launch(cloud, pool=pool)
    clock.sleep(3600)
    with pytest.raises(PoolError):
        cloud.hibernate(pool, ids)
    cloud.stop(pool, ids)


def test_preload_is_on_the_disk_only_once_ready():
    clock, cloud = make()
    launch(cloud, preload=Preload(images=(ImageRef("i.tar", "sha256:1"),)))
    assert cloud.observe(POOL).nodes[0].preloaded == frozenset()
    clock.sleep(3600)
    assert cloud.observe(POOL).nodes[0].preloaded == {"sha256:1"}


def test_bill_counts_from_launch_with_a_minimum_and_standby_by_its_price():
    clock, cloud = make()
    ids = launch(cloud, 2)
    clock.sleep(10)
    cloud.terminate(POOL, ids[:1])
    clock.sleep(3590)
    cloud.stop(POOL, ids[1:])
    clock.sleep(7200)
    bill = cloud.bill()
    group = bill.groups["reference"]
    assert group.node_hours == pytest.approx(1 + 60 / 3600)
    assert group.standby_hours == {Standby.STOPPED: pytest.approx(2.0)}
    assert group.standby_usd == pytest.approx(2 * STANDBY_USD[Standby.STOPPED])
    assert bill.usd == pytest.approx((1 + 60 / 3600) * ON_DEMAND_USD + 2 * STANDBY_USD[Standby.STOPPED])
    parts = [cloud.bill(T0 + timedelta(hours=h + 1), since=T0 + timedelta(hours=h)).usd for h in range(3)]
    assert sum(p or 0 for p in parts) == pytest.approx(bill.usd)


def test_a_missing_price_is_said_not_guessed():
    group = POOL.groups[0]
    pool = replace(POOL, groups=(replace(group, offerings=(replace(group.offerings[0], usd_per_hour=None),)),))
    clock, cloud = make()
    launch(cloud, pool=pool)
    clock.sleep(3600)
    assert cloud.bill().usd is None
    assert cloud.bill().node_hours == pytest.approx(1.0)


def test_shortages_and_quota():
    until = T0 + timedelta(hours=2)
    clock, cloud = make(Faults(shortages=(Shortage(T0, until, available=2),)))
    assert len(launch(cloud, 3)) == 2
    assert len(launch(cloud, 3)) == 2
    with pytest.raises(InsufficientCapacityError):
        launch(cloud, 1, token="u")
    clock.advance_to(until)
    assert len(launch(cloud, 3)) == 3
    small = replace(POOL, name="q", groups=(replace(POOL.groups[0], max_nodes=1),))
    assert len(launch(cloud, 2, pool=small)) == 1
    with pytest.raises(QuotaExceededError):
        launch(cloud, 1, token="v", pool=small)


def test_failed_launches_outages_lag_latency_and_lost_nodes():
    clock, cloud = make(Faults(launch_failures=0.3, listing_lag_s=5, api_latency_s=2))
    launch(cloud, 200)
    assert clock.now() == T0 + timedelta(seconds=2)
    assert cloud.observe(POOL).nodes == ()
    clock.sleep(7200)
    failed = phases(cloud).count(Phase.FAILED)
    assert 40 < failed < 80
    cloud.faults = Faults(outages=((clock.now(), clock.now() + timedelta(minutes=1)),))
    with pytest.raises(ThrottledError):
        cloud.observe(POOL)
    clock.sleep(60)
    ready = next(n for n in cloud.observe(POOL).nodes if n.phase is Phase.READY)
    cloud.lose(ready.node_id)
    lost = next(n for n in cloud.observe(POOL).nodes if n.node_id == ready.node_id)
    assert lost.phase is Phase.LOST
    assert lost.is_busy


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["launch", "stop", "hibernate", "start", "drain", "terminate"]),
        st.integers(0, 3),
        st.floats(0, 4000),
    ),
    max_size=15,
)


@given(STEPS)
def test_the_bill_is_the_sum_of_lifetimes(steps: list[tuple[str, int, float]]):
    clock, cloud = make()
    for i, (what, n, wait) in enumerate(steps):
        alive = [x.node_id for x in cloud.observe(POOL).nodes if x.phase is not Phase.FAILED][:n]
        if what == "launch":
            launch(cloud, n, token=str(i))
        elif what == "start":
            cloud.start(POOL, alive, Preload())
        else:
            getattr(cloud, what)(POOL, alive)
        clock.sleep(wait)
    until = clock.now().timestamp()
    billed = cloud.stretches()
    for m in cloud.machines():
        mine = [s for s in billed if s.node_id == m.node_id]
        alive_for = min(m.ended, until) - m.launched
        top_up = sum(max(0.0, 60 - (s.end - s.start)) for s in mine if s.state is Standby.RUNNING)
        total = sum(s.end - s.start for s in mine)
        assert alive_for - 1e-6 <= total <= alive_for + 60 * len(mine) + top_up + 1e-6
        assert all(s.end - s.start >= 60 - 1e-9 for s in mine if s.state is Standby.RUNNING)
    hours = sum(s.hours for s in billed)
    later = clock.now() + timedelta(hours=1)
    bill = cloud.bill(later, since=T0 - timedelta(days=1))
    assert bill.node_hours + bill.standby_hours >= hours - 1e-9


def test_changes_are_told_once_and_in_order():
    clock, cloud = make()
    ids = launch(cloud, 3)
    clock.sleep(3600)
    cloud.terminate(POOL, ids[:1])
    changes = cloud.take_changes()
    assert [c.phase for c in changes] == [Phase.WARMING] * 3 + [Phase.READY] * 3 + [None]
    assert [c.at for c in changes] == sorted(c.at for c in changes)
    assert cloud.take_changes() == []
