"""Scale sets and standby pools: sizes are raised under an etag and lowered by name; faults are told apart."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from preprov.contracts import Adopts, Examined, GivesNotice, LaunchRequest, SetsTargets
from preprov.model.adoption import BOOTS_FROM
from preprov.model.errors import (
    ConfigError,
    ConflictError,
    InsufficientCapacityError,
    NotAuthorisedError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
    ThrottledError,
    UnfinishedError,
)
from preprov.model.nodes import Phase
from preprov.model.notes import NOTICE
from preprov.model.offerings import CapacityType, Preload, Standby
from preprov.model.pools import Mode, Pool
from preprov.model.resources import Resources
from preprov.pools.azure.options import azure_group
from preprov.pools.rights import AZURE
from preprov.testing.fake_cloud import ApiError
from tests.azureworld import ALL, SIZE, AzureWorld, azure_world
from tests.clouds import pauses_on

pytestmark = pytest.mark.slow


@pytest.fixture
def world() -> Iterator[AzureWorld]:
    with azure_world() as made:
        yield made


@pytest.fixture
def pooled() -> Iterator[AzureWorld]:
    with azure_world("Deallocated") as made:
        yield made


def ask(world: AzureWorld, n: int = 1, token: str = "t1", pool: Pool | None = None) -> LaunchRequest:
    pool = pool or world.pool
    return LaunchRequest(pool, "vms", pool.groups[0].offerings[0], n, token, Preload(), {"purpose": "test"})


def ready(world: AzureWorld, n: int = 1, token: str = "t1") -> tuple[str, ...]:
    ids = world.provider.launch(ask(world, n, token))
    world.until(lambda: all(i in world.nodes() and world.nodes()[i].phase is Phase.READY for i in ids), "nodes")
    return ids


def writes(world: AzureWorld, end: str) -> int:
    return sum(m == "PATCH" and p.endswith(end) for m, p in world.fake.calls)


# ---- launches


def test_size_and_launch_are_one_write(world: AzureWorld) -> None:
    ready(world, 2)
    assert world.vmss.capacity == 2
    assert writes(world, "/virtualMachineScaleSets/nodes") == 1
    assert any(k.startswith("preprov:launch.") for k in world.vmss.tags)


def test_a_lost_answer_makes_no_second_node(world: AzureWorld) -> None:
    world.fake.faults.lose.append("/virtualMachineScaleSets/nodes")
    with pytest.raises(UnfinishedError, match="is being created"):
        world.provider.launch(ask(world, 2))
    assert world.vmss.capacity == 2
    world.clock.sleep(30)
    ids = world.again().launch(ask(world, 2))
    assert {world.nodes()[i].token for i in ids} == {"t1"}
    assert len(ids) == 2
    assert world.vmss.capacity == 2


def test_machines_that_were_there_are_no_launchs(world: AzureWorld) -> None:
    world.provider._lender(world.pool, "vms").resize(1)
    world.clock.sleep(120)
    (old,) = world.nodes()
    (new,) = ready(world)
    assert old != new
    assert world.nodes()[old].token == ""
    assert world.nodes()[new].token == "t1"


def test_somebody_else_who_writes_the_size_is_a_conflict(world: AzureWorld) -> None:
    world.fake.faults.next.extend([None, None, None, ApiError(412, "PreconditionFailed", "changed")])
    with pytest.raises(ConflictError) as e:
        world.provider.launch(ask(world))
    assert e.value.retryable
    assert world.vmss.capacity == 0
    assert len(world.provider.launch(ask(world))) == 1


def test_no_capacity_is_found_out_given_back_and_remembered(world: AzureWorld) -> None:
    world.fake.faults.short.add(SIZE)
    with pytest.raises(InsufficientCapacityError) as e:
        world.provider.launch(ask(world, 2))
    assert "AllocationFailed" in str(e.value)
    world.until(lambda: world.nodes() == {} and world.vmss.capacity == 0, "what failed to come to be taken out")
    seen = len(world.fake.calls)
    with pytest.raises(InsufficientCapacityError):
        world.provider.launch(ask(world, 1, "t2"))
    assert not any(m == "PATCH" for m, _ in world.fake.calls[seen:])
    world.fake.faults.short.clear()
    world.clock.sleep(200)
    assert len(world.provider.launch(ask(world, 1, "t3"))) == 1


def test_a_full_quota_is_not_a_lack_of_machines(world: AzureWorld) -> None:
    world.fake.faults.quota = 1
    with pytest.raises(QuotaExceededError) as e:
        world.provider.launch(ask(world, 2))
    assert not e.value.retryable
    assert world.vmss.capacity == 0


def test_a_start_that_finds_no_machine_says_so(world: AzureWorld) -> None:
    (node,) = ready(world)
    world.provider.stop(world.pool, [node])
    world.until(lambda: world.nodes()[node].phase is Phase.STOPPED, "the node to stop")
    world.fake.faults.short.add(SIZE)
    with pytest.raises(InsufficientCapacityError):
        world.provider.start(world.pool, [node], Preload())


# ---- faults


def test_throttling_is_left_to_the_sdk(world: AzureWorld) -> None:
    world.fake.faults.next.append(ApiError(429, "TooManyRequests", "slow down", retry_after_s=0))
    assert world.nodes() == {}


def test_throttled_beyond_the_sdks_patience(world: AzureWorld) -> None:
    world.fake.faults.next.extend([ApiError(429, "TooManyRequests", "slow down", retry_after_s=0)] * 5)
    seen = world.provider.observe(world.pool)
    assert not seen.complete
    assert "TooManyRequests" in seen.problems[0]


def test_expired_credentials_are_named(world: AzureWorld) -> None:
    world.fake.faults.expired = True
    with pytest.raises(NotAuthorisedError, match="authError"):
        world.provider.launch(ask(world))
    assert not world.provider.observe(world.pool).complete


def test_tags_that_changed_meanwhile_are_kept(world: AzureWorld) -> None:
    (node,) = ready(world)
    world.fake.machine(node).notes["team"] = "risk"
    world.fake.faults.next.extend([None, None, ApiError(412, "PreconditionFailed", "changed")])
    world.provider.drain(world.pool, [node])
    assert world.fake.machine(node).notes["team"] == "risk"
    assert world.nodes()[node].phase is Phase.DRAINING


def test_a_listing_that_lags_ends_no_node_twice_and_loses_none(world: AzureWorld) -> None:
    world.fake.faults.lag_s = 30
    ids = ready(world, 2)
    world.provider.terminate(world.pool, ids[:1])
    world.provider.terminate(world.pool, ids[:1])
    world.until(lambda: list(world.nodes()) == [ids[1]], "one node to be gone")
    assert world.vmss.capacity == 1


def test_a_silent_agent_keeps_its_node(world: AzureWorld) -> None:
    (node,) = ready(world)
    world.fake.machine(node).sleeps(world.clock.now())
    with pytest.raises(ConflictError, match=node):
        world.provider.terminate(world.pool, [node])
    assert world.vmss.capacity == 1


def test_an_endpoint_elsewhere_is_refused() -> None:
    with azure_world() as world, pytest.raises(ConfigError, match="not on this machine"):
        azure_group(world.with_options(endpoint_url="http://arm.example.com"), "vms")


def test_a_wrong_option_is_named() -> None:
    with azure_world() as world, pytest.raises(ConfigError, match="scaleset"):
        azure_group(world.with_options(scaleset="x"), "vms")


# ---- standby pool


def test_a_standby_pool_fills_hands_over_and_shrinks(pooled: AzureWorld) -> None:
    assert isinstance(pooled.provider, SetsTargets)
    pooled.provider.set_targets(pooled.pool, "vms", {Standby.STOPPED: 3})
    pooled.provider.set_targets(pooled.pool, "vms", {Standby.STOPPED: 3})
    assert writes(pooled, "/nodes-standby") == 1
    pooled.until(lambda: [n.phase for n in pooled.nodes().values()] == [Phase.STOPPED] * 3, "the pool to fill")
    pooled.clock.sleep(120)
    pooled.provider.start(pooled.pool, list(pooled.nodes())[:1], Preload())
    assert pooled.vmss.capacity == 1
    pooled.until(lambda: Phase.READY in {n.phase for n in pooled.nodes().values()}, "one to be ready")
    (out,) = [n for n in pooled.nodes().values() if n.phase is Phase.READY]
    assert out.came_from is Standby.STOPPED
    kept = [i for i, n in pooled.nodes().items() if n.phase is Phase.STOPPED]
    pooled.provider.terminate(pooled.pool, kept[:1])
    pooled.until(lambda: len(pooled.nodes()) == 3, "one fewer to be kept")


def test_a_state_the_standby_pool_does_not_keep_is_refused(pooled: AzureWorld) -> None:
    with pytest.raises(PoolError, match="Deallocated"):
        pooled.provider.set_targets(pooled.pool, "vms", {Standby.HIBERNATED: 1})


def test_without_a_standby_pool_there_are_no_targets(world: AzureWorld) -> None:
    with pytest.raises(PoolError, match="standby pool"):
        world.provider.set_targets(world.pool, "vms", {Standby.STOPPED: 1})


# ---- notices, adoption, examination


def test_an_eviction_is_told_once_settled(world: AzureWorld) -> None:
    assert isinstance(world.provider, GivesNotice)
    (node,) = ready(world)
    world.fake.machine(node).notes[NOTICE] = f"interruption@{world.clock.now().timestamp() + 30:.0f}"
    world.clock.sleep(3)
    (notice,) = world.provider.notices(world.pool)
    assert (notice.node_id, notice.kind) == (node, "interruption")
    world.provider.settle_notices(world.pool, [notice])
    assert world.provider.notices(world.pool) == ()
    world.fake.evict(node)
    world.until(lambda: world.nodes() == {}, "the node to be gone")


def test_a_node_is_what_its_cloud_says_whatever_was_asked_for(world: AzureWorld) -> None:
    group = world.pool.groups[0]
    (small,) = group.offerings
    large = replace(small, instance_type="Standard_D16s_v5", capacity=Resources(cpu=16, memory=64))
    world.pool = replace(world.pool, groups=(replace(group, offerings=(large, small)),))
    (node,) = ready(world)
    assert world.nodes()[node].offering == small, "its template decides, not the request for the first of them"


def test_release_gives_everything_back(pooled: AzureWorld) -> None:
    assert isinstance(pooled.provider, Adopts)
    before = pooled.provider.baseline(pooled.pool, "vms")
    boots_from = {"imageReference": pooled.vmss.image, "image": "", "by": "owner"}
    assert before == {"capacity": 0, "maxReadyCapacity": 0, "minReadyCapacity": 0, BOOTS_FROM: boots_from}
    pooled.provider.set_targets(pooled.pool, "vms", {Standby.STOPPED: 2})
    busy, _idle = ready(pooled, 2)
    pooled.occupy(pooled.nodes()[busy])
    said = pooled.provider.restore(pooled.pool, "vms", before)
    assert any("stay" in line for line in said)
    pooled.until(lambda: list(pooled.nodes()) == [busy], "all but the busy node to be gone")
    pooled.free(pooled.nodes()[busy])
    pooled.provider.restore(pooled.pool, "vms", before)
    pooled.until(lambda: pooled.provider.baseline(pooled.pool, "vms") == before, "all to be as it was")
    assert pooled.provider.restore(pooled.pool, "vms", before) == ()


def test_examination_reads_only_and_names_what_is_wrong(pooled: AzureWorld) -> None:
    assert isinstance(pooled.provider, Examined)
    assert all(f.state == "ok" for f in pooled.provider.examine(pooled.pool))
    group = replace(pooled.pool.groups[0], standby_states=ALL)
    pooled.pool = replace(pooled.pool, groups=(group,))
    pooled.vmss.flexible = pooled.vmss.hibernates = False
    pooled.vmss.tags["aks-managed-poolName"] = "batch"
    pooled.fake.faults.quota = 0
    found = {f.found for f in pooled.provider.examine(pooled.pool) if f.state == "bad"}
    assert len(found) == 3
    assert pooled.provider.other_writers(pooled.pool, "vms") == ("Kubernetes node pool batch",)
    assert all(m == "GET" for m, _ in pooled.fake.calls)
    pooled.fake.faults.expired = True
    assert [f.state for f in pooled.provider.examine(pooled.pool)] == ["bad", "warn"]


def test_missing_rights_are_printed_as_a_role(pooled: AzureWorld) -> None:
    pooled.fake.faults.denied = {"Microsoft.StandbyPool/standbyVirtualMachinePools/write"}
    assert {f.state for f in pooled.provider.examine(pooled.pool)} == {"ok"}, "who only looks needs no write"
    acting = replace(pooled.pool, mode=Mode.FULL)
    (bad,) = [f for f in pooled.provider.examine(acting) if f.state == "bad"]
    made = json.loads(bad.hint.split("\n", 1)[1])
    assert made["Actions"] == ["Microsoft.StandbyPool/standbyVirtualMachinePools/write"]
    assert made["AssignableScopes"] == ["/subscriptions/sub-1/resourceGroups/night"]


def test_the_rights_are_those_that_are_used(pooled: AzureWorld) -> None:
    pooled.provider.examine(pooled.pool)
    pooled.provider.headroom(pooled.pool, "vms", pooled.pool.groups[0].offerings[0])
    pooled.provider.set_targets(pooled.pool, "vms", {Standby.STOPPED: 1})
    (node,) = ready(pooled)
    pooled.provider.stop(pooled.pool, [node])
    pooled.until(lambda: pooled.nodes()[node].phase is Phase.STOPPED, "the node to stop")
    pooled.provider.start(pooled.pool, [node], Preload())
    pooled.provider.terminate(pooled.pool, [node])
    an_image(pooled)
    used, granted = set(pooled.fake.log), {*AZURE.observe, *AZURE.writes()}
    assert used - granted <= {"Microsoft.Compute/locations/operations/read"}  # of one's own operations
    assert all(right.endswith(("/join/action", "/assign/action")) for right in granted - used)


def an_image(world: AzureWorld) -> None:
    """From its bench to its end."""
    world.provider.set_targets(world.pool, "vms", {Standby.STOPPED: 0})
    world.pool = world.with_options(gallery_image="night/nodes")
    (bench,) = world.provider.open_bench(ask(world))
    world.until(lambda: world.provider.benches(world.pool, "vms")[0].ready_at is not None, "the bench")
    world.provider.make_image(world.pool, "vms", bench, "d1")
    world.provider.close_benches(world.pool, "vms", [bench])
    world.clock.sleep(900)
    (image,) = world.provider.images(world.pool, "vms")
    assert world.provider.roll_out(world.pool, "vms", image.image_id)
    with pytest.raises(ConflictError, match="used by scale set"):
        world.provider.delete_image(world.pool, "vms", image.image_id)
    world.vmss.image = {}
    world.provider.delete_image(world.pool, "vms", image.image_id)
    assert world.provider.images(world.pool, "vms") == ()


def test_images_need_a_gallery(world: AzureWorld) -> None:
    with pytest.raises(ConfigError, match="names no gallery"):
        world.provider.images(world.pool, "vms")


# ---- what a night can bring


def test_throttled_at_two_calls_a_second_nothing_is_doubled(world: AzureWorld) -> None:
    world.fake.faults.calls_per_s = 2
    with pauses_on(world.clock):
        for _ in range(6):
            with suppress(ThrottledError, ConflictError, UnfinishedError):
                if len(world.provider.launch(ask(world, 2))) == 2:
                    break
            world.clock.sleep(1)
    world.fake.faults.calls_per_s = None
    world.clock.sleep(120)  # what was begun is made by now, and can be written to
    assert len(world.provider.launch(ask(world, 2))) == 2
    assert world.vmss.capacity == 2


def test_a_node_deleted_by_hand_is_gone_and_named(world: AzureWorld) -> None:
    ids = ready(world, 2)
    del world.vmss.members[ids[0]]
    world.vmss.capacity -= 1
    assert list(world.nodes()) == [ids[1]]
    with pytest.raises(NotFoundError, match=ids[0]):
        world.provider.start(world.pool, list(ids), Preload())
    world.provider.terminate(world.pool, ids)
    world.until(lambda: world.nodes() == {}, "the other to be gone")


def test_a_node_that_never_becomes_ready_is_lost_and_can_be_ended(world: AzureWorld) -> None:
    (node,) = world.provider.launch(ask(world))
    world.fake.machine(node).agent = None
    world.until(lambda: world.nodes()[node].phase is Phase.LOST, "the node to be lost")
    assert "agent" in world.nodes()[node].reason
    world.provider.terminate(world.pool, [node])
    world.until(lambda: world.nodes() == {}, "the node to be gone")


def test_credentials_that_expire_leave_running_work_alone(world: AzureWorld) -> None:
    (node,) = ready(world)
    claimant = world.occupy(world.nodes()[node])
    world.fake.faults.expired = True
    with pytest.raises(NotAuthorisedError):
        world.provider.terminate(world.pool, [node])
    world.fake.faults.expired = False
    assert world.nodes()[node].running == (claimant,)


def test_a_node_of_another_pool_is_left_alone(world: AzureWorld) -> None:
    (node,) = ready(world)
    world.occupy(world.nodes()[node])
    world.provider.terminate(replace(world.pool, name="other"), [node])
    assert world.nodes()[node].is_busy
    assert world.nodes()[node].phase is Phase.READY


# ---- prices


def test_list_and_spot_prices_are_read_from_the_public_list(world: AzureWorld) -> None:
    world.fake.account.prices = {SIZE: 0.23, "Standard_D8s_v5": 0.46}
    (offering,) = world.pool.groups[0].offerings
    spot = replace(offering, capacity_type=CapacityType.SPOT)
    pool = replace(world.pool, groups=(replace(world.pool.groups[0], offerings=(offering, spot)),))
    since = datetime(2026, 9, 1, tzinfo=UTC)
    found = world.provider.quotes(pool, "vms", since)
    assert {(q.offering, q.usd_per_hour, q.source) for q in found} == {(offering, 0.23, "list"), (spot, 0.046, "spot")}
    assert {q.since for q in found} == {since}, "a price from before holds from then on"
    (early, _) = world.provider.quotes(pool, "vms", datetime(2026, 1, 1, tzinfo=UTC))
    assert early.since == datetime(2026, 7, 1, tzinfo=UTC), "and a later one from when Azure says"


def test_a_size_that_the_list_does_not_have_is_left_out_and_a_broken_list_is_named(world: AzureWorld) -> None:
    since = datetime(2026, 9, 1, tzinfo=UTC)
    assert world.provider.quotes(world.pool, "vms", since) == ()
    world.fake.faults.next.extend([None, ApiError(503, "ServerBusy", "later")])
    with pytest.raises(PoolError, match="list of prices"):
        world.provider.quotes(world.pool, "vms", since)
