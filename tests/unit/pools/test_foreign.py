"""What adapters tell of work on nodes that preprov has not started."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from preprov.contracts import LaunchRequest
from preprov.control import reserving
from preprov.control.context import Context
from preprov.control.passes import pool_pass
from preprov.control.reserving import Asked
from preprov.model.foreign import Foreign
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.reservations import Segment
from preprov.model.resources import ZERO, Resources, sum_of
from preprov.model.time import from_epoch
from preprov.planning.prices import TablePriceBook
from preprov.pools.kubernetes.units import Work
from preprov.sim.ports import memory_ports
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world
from tests.kubernetesworld import JoinWorld, KubernetesWorld, counted_world, join_world, kubernetes_world


def total(foreign: tuple[Foreign, ...] | None) -> Resources:
    assert foreign is not None
    return sum_of(f.amount for f in foreign)


# ---- Slurm


@pytest.fixture(params=[False, True], ids=["22.05", "24.05"])
def slurm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeSlurmWorld]:
    with fake_slurm_world(tmp_path, newer=request.param) as world:
        yield world


def test_of_jobs_slurm_says_what_each_has_and_since_when(slurm: FakeSlurmWorld) -> None:
    (node,) = slurm.ready()
    job = slurm.slurm.add(wanted=node.node_id, cpus=1, memory=1024)
    (found,) = slurm.look_at(node.node_id).foreign or ()
    assert found.amount == Resources(cpu=1, memory=1)
    assert found.since is not None
    assert abs(found.since - from_epoch(job.start)) <= timedelta(seconds=1)
    slurm.occupy(node)
    assert slurm.look_at(node.node_id).foreign == (found,), "our own job is in the ledger"
    slurm.slurm.end(job, "COMPLETED")
    assert slurm.look_at(node.node_id).foreign == ()


def test_a_job_of_several_nodes_has_its_share_of_each_and_what_it_has_beyond_that(slurm: FakeSlurmWorld) -> None:
    (node,) = slurm.ready()
    slurm.slurm.add(wanted=node.node_id, cpus=2, memory=4096, nodes=2)
    assert total(slurm.look_at(node.node_id).foreign) == Resources(cpu=2, memory=2), "the node says two cores"


def test_a_booking_is_handed_over_beside_no_users_job(slurm: FakeSlurmWorld) -> None:
    full, idle = slurm.ready(2)
    slurm.slurm.add(wanted=full.node_id, cpus=2, memory=1024)
    ctx = Context(
        ports=memory_ports(),
        providers={"slurm": slurm.provider},
        schedulers={"slurm": slurm.scheduler},
        prices=TablePriceBook.from_pools([slurm.pool]),
        clock=slurm.vendor.clock,
        pools={slurm.pool.name: slurm.pool},
        actor="test",
    )
    now = ctx.clock.now()
    segments = (Segment(now, now + timedelta(hours=1), Resources(cpu=2, memory=2)),)
    booked = reserving.book(ctx, Asked(slurm.pool.name, "red", "c", segments, key="c"))
    pool_pass(ctx, slurm.pool, plan=False)
    found = reserving.find(ctx, booked.booking_id, None)
    assert found is not None
    assert [m.node_id for m in found.members] == [idle.node_id]


# ---- Kubernetes


def seen(world: KubernetesWorld) -> dict[str, Node]:
    return {n.node_id: n for n in world.provider.observe(world.pool).nodes}


def ready(world: KubernetesWorld, count: int = 1) -> list[Node]:
    group = world.pool.groups[0]
    ids = world.provider.launch(LaunchRequest(world.pool, group.name, group.offerings[0], count, "t", Preload()))
    for _ in range(50):
        world.clock.sleep(20)
        if isinstance(world, JoinWorld):
            world.joined()
        world.provider.tend(world.pool)
        if all(seen(world)[i].phase is Phase.READY for i in ids):
            break
    return [seen(world)[i] for i in ids]


def test_a_unit_that_gave_way_holds_what_the_pods_ask_for_that_came(tmp_path: Path) -> None:
    with kubernetes_world(tmp_path) as world:
        first, second = ready(world, 2)
        assert (first.foreign, second.foreign) == ((), ()), "its own pod holds the room: nobody else has it"
        pod = world.fake.work("etl", cpu="3", memory="8Gi")
        amounts = {n.address: total(n.foreign) for n in seen(world).values()}
        assert amounts.pop(pod["spec"]["nodeName"]) == Resources(cpu=3, memory=8)
        assert list(amounts.values()) == [ZERO]


@pytest.mark.parametrize("way", ["capacity_buffer", "node_pool"])
def test_a_slot_holds_what_pods_ask_for(tmp_path: Path, way: str) -> None:
    with counted_world(tmp_path, way) as world:
        (one,) = ready(world)
        world.fake.slow = True
        world.fake.work("etl", cpu="500m", memory="1Gi")
        assert total(seen(world)[one.node_id].foreign) == Resources(cpu=0.5, memory=1)


def test_a_node_that_joined_holds_what_pods_ask_for(tmp_path: Path) -> None:
    with join_world(tmp_path) as world:
        (one,) = ready(world)
        world.fake.work("etl", cpu="500m", memory="1Gi")
        found = seen(world)[one.node_id]
        assert found.running == ("work/etl",)
        assert total(found.foreign) == Resources(cpu=0.5, memory=1)


def test_pods_of_preprov_itself_and_of_the_node_are_nobody_elses() -> None:
    def pod(name: str, **meta: object) -> dict[str, object]:
        spec = {"containers": [{"resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}]}
        return {"metadata": {"name": name, "namespace": "n", **meta}, "spec": spec, "status": {"phase": "Running"}}

    plain = {"metadata": {"name": "plain"}, "spec": {"containers": [{}]}, "status": {}}
    found = Work.of(
        [
            pod("ours", annotations={"preprov.io/claimant": "r/t#0"}),
            pod("daemon", ownerReferences=[{"kind": "DaemonSet"}]),
            pod("etl"),
            plain,
        ]
    )
    assert found.names == ("default/plain", "n/etl", "r/t#0")
    assert [f.amount for f in found.foreign] == [ZERO, Resources(cpu=2, memory=1)]
