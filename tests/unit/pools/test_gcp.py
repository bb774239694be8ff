"""Managed instance groups: machines come and go by name, requests are done once, faults are told apart."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from preprov.contracts import Adopts, Examined, GivesNotice, LaunchRequest, SetsTargets
from preprov.model.errors import (
    ConfigError,
    ConflictError,
    InsufficientCapacityError,
    NotAuthorisedError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
    ThrottledError,
)
from preprov.model.nodes import Phase
from preprov.model.notes import NOTICE
from preprov.model.offerings import CapacityType, Preload, Standby
from preprov.model.pools import Mode
from preprov.model.resources import Resources
from preprov.pools.gcp.errors import typed
from preprov.pools.gcp.options import gcp_group
from preprov.pools.rights import GCP
from preprov.testing.fake_cloud import ApiError
from tests.clouds import pauses_on
from tests.gcpworld import GcpWorld, gcp_world

pytestmark = pytest.mark.slow


@pytest.fixture
def world() -> Iterator[GcpWorld]:
    with gcp_world() as made:
        yield made


def ask(world: GcpWorld, n: int = 1, token: str = "t1") -> LaunchRequest:
    return LaunchRequest(world.pool, "vms", world.pool.groups[0].offerings[0], n, token, Preload(), {"purpose": "test"})


def ready(world: GcpWorld, n: int = 1, token: str = "t1") -> tuple[str, ...]:
    ids = world.provider.launch(ask(world, n, token))
    world.until(lambda: all(i in world.nodes() and world.nodes()[i].phase is Phase.READY for i in ids), "nodes")
    return ids


def posted(world: GcpWorld, end: str) -> int:
    return sum(m == "POST" and p.endswith(end) for m, p in world.fake.calls)


# ---- launches


def test_a_lost_answer_is_asked_for_again_and_makes_no_second_node(world: GcpWorld) -> None:
    world.fake.faults.lose.append("/createInstances")
    assert len(world.provider.launch(ask(world, 2))) == 2
    assert posted(world, "/createInstances") == 2
    assert len(world.mig.members) == 2


def test_a_controller_that_died_in_the_call_finds_its_nodes(world: GcpWorld) -> None:
    ids = world.provider.launch(ask(world, 2))
    assert sorted(world.again().launch(ask(world, 2))) == sorted(ids)
    assert len(world.mig.members) == 2


def test_no_capacity_is_found_out_given_back_and_remembered(world: GcpWorld) -> None:
    world.fake.faults.short.add("n2-standard-4")
    with pytest.raises(InsufficientCapacityError, match="ZONE_RESOURCE_POOL_EXHAUSTED"):
        world.provider.launch(ask(world, 2))
    assert world.mig.members == {}
    made = posted(world, "/createInstances")
    with pytest.raises(InsufficientCapacityError):
        world.provider.launch(ask(world, 1, "t2"))
    assert posted(world, "/createInstances") == made
    world.fake.faults.short.clear()
    world.clock.sleep(200)
    assert len(world.provider.launch(ask(world, 1, "t3"))) == 1


def test_a_quota_that_is_nearly_full_gives_what_it_can(world: GcpWorld) -> None:
    world.fake.faults.quota = 1
    assert len(world.provider.launch(ask(world, 2))) == 1
    with pytest.raises(QuotaExceededError) as e:
        world.provider.launch(ask(world, 1, "t2"))
    assert not e.value.retryable
    assert len(world.mig.members) == 1


def test_all_or_none_come_by_a_resize_request(world: GcpWorld) -> None:
    world.pool = world.with_options(all_or_none=True, settle=20)
    ids = ready(world, 2)
    assert posted(world, "/resizeRequests") == 1
    assert posted(world, "/createInstances") == 0
    assert sorted(world.again().launch(ask(world, 2))) == sorted(ids)
    world.provider.terminate(world.pool, ids)
    world.until(lambda: world.nodes() == {}, "the nodes to be gone")
    assert world.again().launch(ask(world, 2)) == ()
    assert world.nodes() == {}


def test_a_resize_request_that_is_not_granted_is_cancelled(world: GcpWorld) -> None:
    world.pool = world.with_options(all_or_none=True, settle=20)
    world.fake.faults.short.add("n2-standard-4")
    with pytest.raises(InsufficientCapacityError, match="ZONE_RESOURCE_POOL_EXHAUSTED"):
        world.provider.launch(ask(world, 2))
    assert [r.state for r in world.mig.requests.values()] == ["CANCELLED"]
    world.fake.faults.short.clear()
    world.clock.sleep(600)
    assert world.nodes() == {}


def test_a_start_that_finds_no_machine_says_so(world: GcpWorld) -> None:
    (node,) = ready(world)
    world.provider.stop(world.pool, [node])
    world.until(lambda: world.nodes()[node].phase is Phase.STOPPED, "the node to stop")
    world.fake.faults.short.add("n2-standard-4")
    with pytest.raises(InsufficientCapacityError, match=node):
        world.provider.start(world.pool, [node], Preload())
    seen = world.nodes()[node]
    assert (seen.phase, seen.is_busy) == (Phase.WARMING, False)
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in seen.reason
    world.provider.terminate(world.pool, [node])
    world.until(lambda: world.nodes() == {}, "the node to be gone")


# ---- faults


def test_throttling_is_left_to_the_sdk(world: GcpWorld) -> None:
    world.fake.faults.next.append(ApiError(503, "backendError", "try again", retry_after_s=0))
    assert world.nodes() == {}


def test_expired_credentials_are_named(world: GcpWorld) -> None:
    world.fake.faults.expired = True
    with pytest.raises(NotAuthorisedError):
        world.provider.launch(ask(world))
    seen = world.provider.observe(world.pool)
    assert not seen.complete
    assert "vms" in seen.problems[0]


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("QUOTA_EXCEEDED", 403, QuotaExceededError),
        ("", 412, ConflictError),
        ("accessNotConfigured", 403, NotAuthorisedError),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", 0, InsufficientCapacityError),
        ("somethingNew", 400, PoolError),
    ],
)
def test_codes_are_told_apart(code: str, status: int, kind: type[PoolError]) -> None:
    assert type(typed(code, "m", "w", status)) is kind


def test_metadata_that_changed_meanwhile_is_read_again(world: GcpWorld) -> None:
    (node,) = ready(world)
    world.fake.machine(node).notes["team"] = "risk"
    looks = [None] * 4  # members, instance, guest attributes, the instance again
    world.fake.faults.next.extend([*looks, ApiError(412, "conditionNotMet", "changed")])
    world.provider.drain(world.pool, [node])
    assert world.fake.machine(node).notes["team"] == "risk"
    assert world.nodes()[node].phase is Phase.DRAINING
    assert posted(world, "/setMetadata") == 2


def test_a_listing_that_lags_loses_no_node(world: GcpWorld) -> None:
    world.fake.faults.lag_s = 30
    group = world.pool.groups[0]
    ids = ready(world, 6)
    assert group.max_nodes == 6
    more = world.provider.launch(ask(world, 6))
    assert sorted(more) == sorted(ids)
    world.provider.terminate(world.pool, ids[:1])
    world.until(lambda: set(world.nodes()) == set(ids[1:]), "one node to be gone")


def test_a_silent_agent_keeps_its_node_until_it_is_lost(world: GcpWorld) -> None:
    (node,) = ready(world)
    world.fake.machine(node).sleeps(world.clock.now())
    with pytest.raises(ConflictError, match=node):
        world.provider.terminate(world.pool, [node])
    assert world.nodes()[node].phase is Phase.READY
    world.until(lambda: world.nodes()[node].phase is Phase.LOST, "the node to be lost")
    world.provider.terminate(world.pool, [node])
    world.until(lambda: world.nodes() == {}, "the node to be gone")


def test_a_wrong_clock_on_a_node_makes_it_busy_not_lost(world: GcpWorld) -> None:
    (node,) = ready(world)
    agent = world.fake.machine(node).agent
    assert agent is not None
    agent.skew_s = 7200.0
    for _ in range(5):
        world.clock.sleep(300)
        seen = world.nodes()[node]
        assert seen.phase is Phase.READY
        assert seen.is_busy


def test_a_resumed_node_is_not_ready_by_what_it_said_before(world: GcpWorld) -> None:
    (node,) = ready(world)
    world.provider.hibernate(world.pool, [node])
    world.until(lambda: world.nodes()[node].phase is Phase.HIBERNATED, "the node to sleep")
    world.provider.start(world.pool, [node], Preload())
    world.clock.sleep(11)  # it runs, and its agent has said nothing yet
    assert world.nodes()[node].phase is Phase.WARMING


def test_an_endpoint_elsewhere_and_unknown_options_are_refused(world: GcpWorld) -> None:
    with pytest.raises(ConfigError, match="not on this machine"):
        gcp_group(world.with_options(endpoint_url="http://compute.example.com"), "vms")
    with pytest.raises(ConfigError, match="zome"):
        gcp_group(world.with_options(zome="x"), "vms")


# ---- standby policy


def test_targets_fill_are_named_and_shrink(world: GcpWorld) -> None:
    assert isinstance(world.provider, SetsTargets)
    targets = {Standby.STOPPED: 2, Standby.HIBERNATED: 1}
    world.provider.set_targets(world.pool, "vms", targets)
    world.provider.set_targets(world.pool, "vms", targets)
    assert sum(m == "PATCH" for m, _ in world.fake.calls) == 1
    kept = [Phase.HIBERNATED, Phase.STOPPED, Phase.STOPPED]
    world.until(lambda: sorted(n.phase for n in world.nodes().values()) == kept, "three to be kept")
    stopped = next(i for i, n in world.nodes().items() if n.phase is Phase.STOPPED)
    world.provider.start(world.pool, [stopped], Preload())
    world.until(lambda: world.nodes()[stopped].phase is Phase.READY, "the node to be ready")
    assert world.nodes()[stopped].came_from is Standby.STOPPED
    world.provider.set_targets(world.pool, "vms", {Standby.STOPPED: 0, Standby.HIBERNATED: 0})
    world.until(lambda: list(world.nodes()) == [stopped], "the kept ones to be gone")


def test_targets_that_make_no_sense_are_refused(world: GcpWorld) -> None:
    for bad in ({Standby.RUNNING: 1}, {Standby.STOPPED: -1}):
        with pytest.raises(PoolError):
            world.provider.set_targets(world.pool, "vms", bad)


# ---- notices, adoption, examination


def test_preemptions_are_told_until_settled(world: GcpWorld) -> None:
    assert isinstance(world.provider, GivesNotice)
    (node,) = ready(world)
    world.fake.preempt(node)
    (notice,) = world.provider.notices(world.pool)
    assert (notice.node_id, notice.kind) == (node, "interruption")
    assert world.again().notices(world.pool) == (notice,)
    world.provider.settle_notices(world.pool, [notice])
    assert world.provider.notices(world.pool) == ()
    world.until(lambda: world.nodes() == {}, "the node to be gone")


def test_what_an_agent_was_told_is_a_notice(world: GcpWorld) -> None:
    (node,) = ready(world)
    world.fake.machine(node).notes[NOTICE] = f"interruption@{world.clock.now().timestamp() + 30:.0f}"
    world.clock.sleep(3)
    assert [n.node_id for n in world.provider.notices(world.pool)] == [node]


def test_a_node_is_what_its_cloud_says_whatever_was_asked_for(world: GcpWorld) -> None:
    group = world.pool.groups[0]
    (small,) = group.offerings
    large = replace(small, instance_type="n2-standard-16", capacity=Resources(cpu=16, memory=64))
    world.pool = replace(world.pool, groups=(replace(group, offerings=(large, small)),))
    (node,) = ready(world)
    assert world.nodes()[node].offering == small, "its template decides, not the request for the first of them"


def test_release_gives_everything_back(world: GcpWorld) -> None:
    assert isinstance(world.provider, Adopts)
    before = world.provider.baseline(world.pool, "vms")
    world.provider.set_targets(world.pool, "vms", {Standby.STOPPED: 1})
    busy, _idle = ready(world, 2)
    claimant = world.occupy(world.nodes()[busy])
    said = world.provider.restore(world.pool, "vms", before)
    assert any("stay" in line for line in said)
    world.until(lambda: list(world.nodes()) == [busy], "all but the busy node to be gone")
    assert world.nodes()[busy].running == (claimant,)
    world.free(world.nodes()[busy])
    world.provider.restore(world.pool, "vms", before)
    world.until(lambda: world.provider.baseline(world.pool, "vms") == before, "all to be as it was")
    assert world.provider.restore(world.pool, "vms", before) == ()


def test_examination_reads_only_and_names_what_is_wrong(world: GcpWorld) -> None:
    assert isinstance(world.provider, Examined)
    assert all(f.state == "ok" for f in world.provider.examine(world.pool))
    world.mig.guest_attributes = False
    world.mig.autoscaler = "https://compute/projects/acme/zones/z/autoscalers/cpu"
    world.mig.initial_delay_s = 300
    assert {f.state for f in world.provider.examine(world.pool)} == {"ok", "bad", "warn"}
    assert world.provider.other_writers(world.pool, "vms") == ("autoscaler cpu",)
    reads = ("listManagedInstances", ":testIamPermissions")
    assert all(m == "GET" or p.endswith(reads) for m, p in world.fake.calls)
    world.fake.faults.expired = True
    assert [f.state for f in world.provider.examine(world.pool)] == ["bad", "warn"]


def test_missing_rights_are_printed_as_a_role(world: GcpWorld) -> None:
    world.fake.faults.denied = {"compute.instances.getGuestAttributes"}
    (bad,) = [f for f in world.provider.examine(world.pool) if f.state == "bad"]
    assert bad.found == "missing on the project: compute.instances.getGuestAttributes"
    assert bad.hint.endswith("includedPermissions:\n- compute.instances.getGuestAttributes")
    world.fake.faults.denied = {"compute.instances.setMetadata"}
    assert [f for f in world.provider.examine(world.pool) if f.state != "ok"] == [], "who only looks needs no write"
    acting = replace(world.pool, mode=Mode.FLOOR)
    (lack,) = [f for f in world.provider.examine(acting) if f.state != "ok"]
    assert "compute.instances.setMetadata" in lack.found


def test_the_rights_are_those_that_are_used(world: GcpWorld) -> None:
    world.pool = replace(world.pool, groups=(replace(world.pool.groups[0], max_nodes=12),))
    world.provider.examine(world.pool)
    world.provider.notices(world.pool)
    world.provider.headroom(world.pool, "vms", world.pool.groups[0].offerings[0])
    world.provider.terminate(world.pool, ready(world, 9))
    an_image(world)
    implied = {"compute.disks.useReadOnly", "compute.images.useReadOnly"}
    assert set(world.fake.log) == {*GCP.observe, *GCP.writes()} - implied


def an_image(world: GcpWorld) -> None:
    """From its bench to its end."""
    (bench,) = world.provider.open_bench(ask(world))
    world.until(lambda: world.provider.benches(world.pool, "vms")[0].ready_at is not None, "the bench")
    world.provider.make_image(world.pool, "vms", bench, "d1")
    world.provider.close_benches(world.pool, "vms", [bench])
    world.clock.sleep(300)
    (image,) = world.provider.images(world.pool, "vms")
    assert world.provider.roll_out(world.pool, "vms", image.image_id)
    with pytest.raises(ConflictError, match="that of template"):
        world.provider.delete_image(world.pool, "vms", image.image_id)
    world.mig.template = ""
    world.provider.delete_image(world.pool, "vms", image.image_id)
    assert world.provider.images(world.pool, "vms") == ()
    assert world.fake.images.templates == {}


# ---- what a night can bring


def test_throttled_at_two_calls_a_second_nothing_is_doubled(world: GcpWorld) -> None:
    world.fake.faults.calls_per_s = 2
    with pauses_on(world.clock):
        for _ in range(10):
            with suppress(ThrottledError):
                if len(world.provider.launch(ask(world, 2))) == 2:
                    break
            world.clock.sleep(1)
    world.fake.faults.calls_per_s = None
    assert len(world.provider.launch(ask(world, 2))) == 2
    assert len(world.mig.members) == 2


def test_a_node_deleted_by_hand_is_gone_and_named(world: GcpWorld) -> None:
    ids = ready(world, 2)
    del world.mig.members[ids[0]]
    assert list(world.nodes()) == [ids[1]]
    with pytest.raises(NotFoundError, match=ids[0]):
        world.provider.start(world.pool, list(ids), Preload())
    world.provider.terminate(world.pool, ids)
    world.until(lambda: world.nodes() == {}, "the other to be gone")


def test_credentials_that_expire_leave_running_work_alone(world: GcpWorld) -> None:
    (node,) = ready(world)
    claimant = world.occupy(world.nodes()[node])
    world.fake.faults.expired = True
    with pytest.raises(NotAuthorisedError):
        world.provider.terminate(world.pool, [node])
    world.fake.faults.expired = False
    assert world.nodes()[node].running == (claimant,)


def test_a_node_of_another_pool_is_left_alone(world: GcpWorld) -> None:
    (node,) = ready(world)
    world.occupy(world.nodes()[node])
    world.provider.terminate(replace(world.pool, name="other"), [node])
    assert world.nodes()[node].is_busy
    assert world.nodes()[node].phase is Phase.READY


# ---- prices


def test_a_machine_costs_its_cores_and_its_memory_by_the_catalogue(world: GcpWorld) -> None:
    world.fake.account.prices = {"E2": (0.02, 0.003), "N2": (0.03, 0.004)}
    (offering,) = world.pool.groups[0].offerings
    spot = replace(offering, capacity_type=CapacityType.SPOT)
    other = replace(offering, instance_type="t2a-standard-4")
    pool = replace(world.pool, groups=(replace(world.pool.groups[0], offerings=(offering, spot, other)),))
    found = world.provider.quotes(pool, "vms", datetime(2026, 9, 1, tzinfo=UTC))
    assert {(q.offering, round(q.usd_per_hour, 4), q.source) for q in found} == {
        (offering, 4 * 0.03 + 16 * 0.004, "list"),
        (spot, round((4 * 0.03 + 16 * 0.004) / 3, 4), "spot"),
    }
