"""A node is drained within the budgets of the services on it; work on it ends by itself, and nothing is deleted."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from preprov.model.errors import ConflictError, NodeBusyError, ThrottledError
from preprov.model.nodes import Phase
from preprov.pools.kubernetes.placeholder import PlaceholderWay
from preprov.pools.kubernetes.rights import MOVES
from preprov.testing.fake_budgets import budget, service
from tests.kubernetesworld import JoinWorld, grants, join_world

LABELS = {"app": "web"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JoinWorld]:
    """Two nodes that have joined."""
    with join_world(tmp_path, moves=True, move_timeout_s=200) as made:
        ids = made.provider.launch(request(made))
        made.until(lambda: all(n.phase is Phase.READY for n in seen(made).values()), "nodes")
        assert len(ids) == 2
        yield made


def request(world: JoinWorld) -> Any:
    from preprov.contracts import LaunchRequest
    from preprov.model.offerings import Preload

    group = world.pool.groups[0]
    return LaunchRequest(world.pool, "g", group.offerings[0], 2, "t", Preload())


def seen(world: JoinWorld) -> dict[str, Any]:
    return {n.node_id: n for n in world.provider.observe(world.pool).nodes}


def names(world: JoinWorld, node: str) -> list[str]:
    return sorted(p["metadata"]["name"] for p in world.fake.pods_on(node))


def web(world: JoinWorld, count: int, node: str) -> None:
    other = next(n for n in seen(world) if n != node)
    world.fake._named("nodes", "", other)["spec"]["unschedulable"] = True
    for i in range(count):
        service(world.fake, f"web-{i}", LABELS)
    world.fake._named("nodes", "", other)["spec"].pop("unschedulable")
    assert len(names(world, node)) == count


def later(world: JoinWorld, seconds: float) -> tuple[str, ...]:
    world.clock.sleep(seconds)
    return tuple(world.provider.tend(world.pool))


def test_services_move_within_their_budget_and_the_node_can_go(world: JoinWorld) -> None:
    one, two = sorted(seen(world))
    web(world, 2, one)
    budget(world.fake, "web", LABELS, least=1)
    world.provider.drain(world.pool, [one])
    assert seen(world)[one].phase is Phase.DRAINING
    for _ in range(5):
        later(world, 30)
    assert names(world, one) == []
    assert len(names(world, two)) == 2, "their controller has made them again"
    world.provider.terminate(world.pool, [one])
    assert one not in seen(world)


def test_a_budget_that_allows_nothing_is_asked_again_later_each_time_and_then_given_up(world: JoinWorld) -> None:
    one, _ = sorted(seen(world))
    web(world, 1, one)
    budget(world.fake, "web", LABELS, least=1)
    world.fake.called.clear()
    world.provider.drain(world.pool, [one])
    with pytest.raises(NodeBusyError):
        world.provider.terminate(world.pool, [one])
    asked, said = [], ()
    for _ in range(60):
        world.fake.called.discard(("create", "", "pods/eviction"))
        said = later(world, 5)
        if ("create", "", "pods/eviction") in world.fake.called:
            asked.append(world.clock.now())
        if said:
            break
    gaps = [(b - a).total_seconds() for a, b in pairwise(asked)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60
    assert "disruption budget" in said[0]
    assert names(world, one) == ["web-0"], "it was never deleted"
    assert seen(world)[one].phase is Phase.READY, "it takes pods again"
    with pytest.raises(ConflictError, match="refused") as e:
        world.provider.drain(world.pool, [one])
    assert e.value.retryable
    world.fake.objects["poddisruptionbudgets"].clear()
    world.clock.sleep(201)
    world.provider.drain(world.pool, [one])
    assert names(world, one) == []


@pytest.mark.parametrize("kind", ["Job", "DaemonSet", "Node", ""])
def test_work_and_what_belongs_to_the_node_is_left(world: JoinWorld, kind: str) -> None:
    one, _ = sorted(seen(world))
    selector = {"kubernetes.io/hostname": one}
    if kind:
        service(world.fake, "etl-0", {}, kind, nodeSelector=selector)
    else:
        world.fake.work("etl-0", cpu="1", memory="1Gi", nodeSelector=selector)
    world.provider.drain(world.pool, [one])
    later(world, 700)
    assert names(world, one) == ["etl-0"]
    assert seen(world)[one].phase is Phase.DRAINING
    assert ("create", "", "pods/eviction") not in world.fake.called


def test_a_server_that_is_busy_is_no_budget(world: JoinWorld) -> None:
    one, _ = sorted(seen(world))
    web(world, 1, one)
    budget(world.fake, "web", LABELS, least=1)
    world.provider.drain(world.pool, [one])
    world.fake.refuse = [(429, 1)]
    world.clock.sleep(6)
    with pytest.raises(ThrottledError):
        world.provider.tend(world.pool)
    assert names(world, one) == ["web-0"]


def test_the_right_is_asked_for_only_where_it_is_used(world: JoinWorld) -> None:
    world.fake.granted = grants(PlaceholderWay.rules)
    lacking = [f for f in world.provider.examine(world.pool) if f.state == "bad"]
    assert [f.what for f in lacking] == ["g: pods/eviction"]
    assert MOVES[3] == ("create",)


def test_a_node_is_held_back_until_it_is_handed_over(tmp_path: Path) -> None:
    with join_world(tmp_path) as world:
        ids = world.provider.launch(request(world))
        for _ in range(50):
            world.clock.sleep(20)
            world.joined()
            if len(world.fake.objects["nodes"]) == 2:
                break
        assert {n.reason for n in seen(world).values()} == {"is not handed over yet"}
        assert world.fake.work("etl")["status"]["phase"] == "Pending"
        assert len(world.provider.tend(world.pool)) == 2
        assert {n.phase for n in seen(world).values()} == {Phase.READY}
        node = world.fake._named("nodes", "", ids[0])
        assert node["metadata"]["labels"]["preprov.io/pool"] == "p"
        assert not node["spec"].get("taints")
        world.provider.tend(world.pool)
        assert any(n.running == ("work/etl",) for n in seen(world).values()), "and now it is used"


def test_work_that_comes_as_a_machine_is_put_away_stays(world: JoinWorld) -> None:
    one, _ = sorted(seen(world))
    world.fake.meanwhile = lambda: world.fake.work("etl", nodeSelector={"kubernetes.io/hostname": one})
    with pytest.raises((NodeBusyError, ConflictError)):
        world.provider.stop(world.pool, [one])
    world.provider.tend(world.pool)
    assert seen(world)[one].running == ("work/etl",)
    assert seen(world)[one].phase is Phase.READY
