"""Counts that are the cluster's: what is written, what is put back, what is never ended, and who else may write."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from preprov.control.adopting import adopt, release
from preprov.model.errors import ConfigError, ConflictError, NodeBusyError, NotFoundError, PoolError, QuotaExceededError
from preprov.model.nodes import Phase
from preprov.model.pools import Mode
from preprov.pools.kubernetes.counted import BufferWay, NodePoolWay
from preprov.pools.kubernetes.options import kubernetes_group
from tests.kubernetesworld import KubernetesWorld, counted_world, grants, kubernetes_pool, used
from tests.unit.pools.test_kubernetes import context, nodes, ready, request

THINGS = {"capacity_buffer": "capacitybuffers", "node_pool": "nodepools"}
KARPENTER = "karpenter.sh/nodepool"


@pytest.fixture(params=sorted(THINGS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KubernetesWorld]:
    with counted_world(tmp_path, request.param, replicas=1) as made:
        yield made


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[KubernetesWorld]:
    with counted_world(tmp_path, "capacity_buffer") as made:
        yield made


@pytest.fixture
def node_pool(tmp_path: Path) -> Iterator[KubernetesWorld]:
    with counted_world(tmp_path, "node_pool", replicas=1) as made:
        yield made


def thing(world: KubernetesWorld) -> Any:
    way = str(world.pool.groups[0].options["way"])
    (found,) = world.fake.objects[THINGS[way]].values()
    return found


def replicas(world: KubernetesWorld) -> int:
    return int(thing(world)["spec"]["replicas"])


def end_of(world: KubernetesWorld, name: str) -> None:
    world.provider.terminate(world.pool, [name])


# ---- the count


def test_it_goes_up_by_what_is_launched_and_what_was_there_is_not_ours(world: KubernetesWorld) -> None:
    world.fake.settle()
    world.clock.sleep(100)
    (first, second) = ready(world, 2)
    assert replicas(world) == 3
    theirs = min(world.fake.objects["nodes"].values(), key=lambda n: n["metadata"]["creationTimestamp"])
    assert theirs["metadata"]["name"] not in (first.address, second.address)
    end_of(world, first.node_id)
    assert replicas(world) == 2
    assert set(nodes(world)) == {second.node_id}


def test_who_writes_it_meanwhile_makes_ours_a_conflict_and_nothing_is_lost(world: KubernetesWorld) -> None:
    def by_hand() -> None:
        thing(world)["spec"]["replicas"] += 3
        world.fake.bump(thing(world))

    world.fake.meanwhile = by_hand
    with pytest.raises(ConflictError) as e:
        world.provider.launch(request(world))
    assert e.value.retryable
    assert replicas(world) == 4, "theirs"
    world.provider.launch(request(world))
    assert replicas(world) == 5, "read again: theirs and ours"


def test_it_is_given_back_as_it_was_found(world: KubernetesWorld) -> None:
    ctx, pool = context(world, world.pool), world.pool
    (held,) = adopt(ctx, pool)
    assert held.baseline == {"replicas": 1}
    first, _second = ready(world, 2)
    world.occupy(first)
    world.provider.tend(pool)
    (given,) = release(ctx, pool)
    pods = [p["status"]["phase"] for p in world.fake.pods_on(first.address)]
    assert pods == ["Running"], "who works there works on"
    assert replicas(world) == (2 if "NodePool" in thing(world)["kind"] else 1)
    assert given.whole == ("NodePool" not in thing(world)["kind"]), "it stays adopted until its node is free"
    world.free(first)
    assert all(g.whole for g in release(ctx, pool))
    assert replicas(world) == 1
    assert release(ctx, pool) == (), "there is nothing left to give back"


def test_what_nobody_renewed_is_given_back_by_whoever_comes_next(world: KubernetesWorld) -> None:
    idle, busy = ready(world, 2)
    world.occupy(busy)
    world.clock.sleep(world.pool.lease_s + 60)
    assert set(nodes(world)) == {idle.node_id, busy.node_id}, "nothing in the cluster ends it"
    done = world.again().tend(world.pool)
    assert any("nobody had renewed it" in line for line in done)
    assert set(nodes(world)) == {busy.node_id}
    assert [p["status"]["phase"] for p in world.fake.pods_on(busy.address)] == ["Running"]


def test_that_nothing_ends_it_is_declared(world: KubernetesWorld) -> None:
    can = world.provider.capabilities(world.pool, "g")
    assert (can.leases, can.chooses_offering, can.names_serving) == (False, False, True)
    with pytest.raises(PoolError, match="by itself") as e:
        world.provider.lease(world.pool, "g", world.clock.now() + timedelta(hours=1))
    assert "placeholder" in e.value.hint


def test_the_rights_are_those_that_are_used(world: KubernetesWorld) -> None:
    way = NodePoolWay if "NodePool" in thing(world)["kind"] else BufferWay
    world.fake.granted = grants(way.rules)
    assert {f.what: f.state for f in world.provider.examine(world.pool) if f.state != "ok"} == {"g: lease": "warn"}
    one, two = ready(world, 2)
    world.provider.drain(world.pool, [one.node_id])
    world.provider.terminate(world.pool, [one.node_id, two.node_id])
    assert used(world.fake) == world.fake.granted


@pytest.mark.parametrize(("mode", "warns"), [(Mode.OBSERVE, False), (Mode.FLOOR, True), (Mode.FULL, True)])
def test_doctor_says_where_a_raise_has_no_end(world: KubernetesWorld, mode: Mode, warns: bool) -> None:
    found = world.provider.examine(replace(world.pool, mode=mode))
    assert [f.what for f in found if f.state == "warn"] == ["g: lease"] * warns


def test_a_group_of_another_pool_may_not_write_the_same_count(world: KubernetesWorld) -> None:
    ready(world)
    other = replace(world.pool, name="other")
    assert world.provider.observe(other).nodes == ()
    with pytest.raises(PoolError, match="is p/g's"):
        world.provider.launch(replace(request(world), pool=other))
    assert replicas(world) == 2


def test_what_is_not_there_is_named(world: KubernetesWorld) -> None:
    thing(world)["metadata"]["name"] = "another"
    found = world.provider.observe(world.pool)
    assert not found.complete
    assert "batch" in found.problems[0]
    with pytest.raises(NotFoundError, match="batch"):
        world.provider.launch(request(world))
    assert [f.state for f in world.provider.examine(world.pool)].count("bad") == 1


def test_one_without_a_count_is_refused(world: KubernetesWorld) -> None:
    del thing(world)["spec"]["replicas"]
    with pytest.raises(PoolError, match=r"no spec\.replicas"):
        world.provider.launch(request(world))
    assert world.provider.examine(world.pool)[-1].state == "bad"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"way": "balloon"}, "no way 'balloon'"),
        ({"way": "node_pool"}, "needs `object`"),
        ({"object": "x"}, "writes no count"),
        ({"way": "capacity_buffer", "object": "Big"}, "no name"),
        ({"way": "node_join"}, "vendor"),
        ({"vendor": "aws"}, "vendor"),
        ({"moves": 1}, "true or false"),
    ],
)
def test_a_mistake_in_the_options_is_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        kubernetes_group(kubernetes_pool(Path("x"), **options), "g")


# ---- a CapacityBuffer keeps room free


def test_work_that_takes_its_room_brings_no_other_node(buffer: KubernetesWorld) -> None:
    """It keeps so much free: so what is taken no longer counts, and counts again when it is free."""
    (one,) = ready(buffer)
    buffer.fake.slow = True  # else it would refill before anybody has looked
    pod = buffer.fake.work("etl")
    assert pod["spec"]["nodeName"] == one.address
    buffer.provider.tend(buffer.pool)
    buffer.fake.slow = False
    assert replicas(buffer) == 0
    assert nodes(buffer)[one.node_id].running == ("work/etl",)
    assert len(buffer.fake.objects["nodes"]) == 1
    buffer.fake.finish(pod)
    assert "batch replicas 0 -> 1" in buffer.provider.tend(buffer.pool)
    buffer.clock.sleep(3600)
    assert nodes(buffer)[one.node_id].phase is Phase.READY, "and the autoscaler leaves it"


def test_less_of_it_ends_no_pod(buffer: KubernetesWorld) -> None:
    (one,) = ready(buffer)
    buffer.fake.meanwhile = lambda: buffer.fake.work("etl")
    end_of(buffer, one.node_id)
    buffer.clock.sleep(3600)
    assert nodes(buffer) == {}
    assert [p["status"]["phase"] for p in buffer.fake.pods_on(one.address)] == ["Running"]


# ---- a NodePool ends nodes


def test_the_node_that_is_named_is_the_one_that_goes(node_pool: KubernetesWorld) -> None:
    one, two, three = ready(node_pool, 3)
    end_of(node_pool, two.node_id)
    left = {n["metadata"]["name"] for n in node_pool.fake.objects["nodes"].values()}
    assert {one.address, three.address} < left
    assert two.address not in left
    assert len(left) == 3


def test_work_that_comes_as_it_is_ended_runs_on(node_pool: KubernetesWorld) -> None:
    (one,) = ready(node_pool)
    selector = {"kubernetes.io/hostname": one.address}
    node_pool.fake.meanwhile = lambda: node_pool.fake.work("etl", nodeSelector=selector)
    with pytest.raises(NodeBusyError, match="work/etl"):
        end_of(node_pool, one.node_id)
    assert replicas(node_pool) == 2
    assert [p["status"]["phase"] for p in node_pool.fake.pods_on(one.address)] == ["Running"]
    assert not any(n["spec"].get("unschedulable") for n in node_pool.fake.objects["nodes"].values())


def test_a_node_that_was_spared_takes_pods_again(node_pool: KubernetesWorld) -> None:
    """Karpenter may end another empty one: the cordon does not stay for ever."""
    one, _two = ready(node_pool, 2)
    node_pool.fake.slow = True
    end_of(node_pool, one.node_id)
    thing(node_pool)["spec"]["replicas"] += 1
    node_pool.fake.slow = False
    node_pool.provider.tend(node_pool.pool)
    spared = node_pool.fake._named("nodes", "", one.address)
    assert spared["spec"]["unschedulable"]
    node_pool.clock.sleep(601)
    node_pool.provider.tend(node_pool.pool)
    assert "unschedulable" not in spared["spec"]


def test_its_own_limit_is_a_limit(node_pool: KubernetesWorld) -> None:
    thing(node_pool)["spec"]["limits"] = {"nodes": "2"}
    assert len(node_pool.provider.launch(request(node_pool, 3))) == 1
    with pytest.raises(QuotaExceededError) as e:
        node_pool.provider.launch(request(node_pool, token="u"))
    assert "limits.nodes" in e.value.hint
