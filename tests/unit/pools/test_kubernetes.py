"""Room held in a cluster: what is sent, what it needs, how it gives way, and that it is nobody else's."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.contracts import LaunchRequest, SourceState
from preprov.control.adopting import adopt, release
from preprov.control.context import Context
from preprov.control.passes import pool_pass
from preprov.model.errors import ConfigError, ConflictError, NodeBusyError, NotAuthorisedError, ThrottledError
from preprov.model.nodes import Phase
from preprov.model.offerings import Preload
from preprov.model.plans import ActionKind
from preprov.model.pools import Mode, Pool
from preprov.model.resources import Resources
from preprov.planning.prices import TablePriceBook
from preprov.pools.kubernetes.manifests import label, namespace, priority_class, unit
from preprov.pools.kubernetes.options import kubernetes_group
from preprov.pools.kubernetes.placeholder import PlaceholderWay
from preprov.pools.kubernetes.rights import account, roles
from preprov.sim.ports import memory_ports
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes import KubernetesSettings, KubernetesSource
from preprov.sources.kubernetes.client import KubernetesClient
from tests.kubernetesworld import KubernetesWorld, grants, kubernetes_pool, kubernetes_world, used

GRANTED = grants(PlaceholderWay.rules)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[KubernetesWorld]:
    with kubernetes_world(tmp_path) as made:
        yield made


def request(world: KubernetesWorld, count: int = 1, token: str = "t", **more: Any) -> LaunchRequest:
    group = world.pool.groups[0]
    return LaunchRequest(world.pool, group.name, group.offerings[0], count, token, Preload(), **more)


def nodes(world: KubernetesWorld) -> dict[str, Any]:
    return {n.node_id: n for n in world.provider.observe(world.pool).nodes}


def ready(world: KubernetesWorld, count: int = 1, token: str = "t") -> list[Any]:
    ids = world.provider.launch(request(world, count, token))
    world.until(lambda: all(nodes(world)[i].phase is Phase.READY for i in ids), "units")
    world.provider.tend(world.pool)
    return [nodes(world)[i] for i in ids]


def placeholders(world: KubernetesWorld) -> list[Any]:
    return [p for p in world.fake.objects["pods"].values() if p["metadata"]["namespace"] == "preprov"]


# ---- what is sent


@cache
def models() -> Any:
    from kubernetes import client

    return client


def fits(value: Any, kind: str, where: str) -> None:
    """Check a manifest against the classes that the client generates from Kubernetes' published OpenAPI document."""
    listed, mapped = re.fullmatch(r"[Ll]ist\[(.*)\]", kind), re.fullmatch(r"[Dd]ict[\[(]str, (.*)[\])]", kind)
    if listed:
        assert isinstance(value, list), where
        for i, v in enumerate(value):
            fits(v, listed[1], f"{where}[{i}]")
    elif mapped:
        assert isinstance(value, dict), where
        for k, v in value.items():
            fits(v, mapped[1], f"{where}.{k}")
    elif kind in ("str", "int", "bool", "object"):
        wanted = {"str": str, "int": int, "bool": bool, "object": object}[kind]
        assert isinstance(value, wanted), f"{where}: {value!r} is no {kind}"
        assert kind == "bool" or not isinstance(value, bool), where
    else:
        model = getattr(models(), kind)
        names = {json: name for name, json in model.attribute_map.items()}
        unknown = value.keys() - names.keys()
        assert not unknown, f"{where}: {kind} has no {sorted(unknown)}"
        for key, v in value.items():
            fits(v, model.openapi_types[names[key]], f"{where}.{key}")
        made = {names[k]: v for k, v in value.items()}
        model(**made)  # what is required is there


KINDS = {"Job": "V1Job", "RoleBinding": "V1RoleBinding", "ClusterRoleBinding": "V1ClusterRoleBinding"}


def test_everything_that_is_sent_is_as_kubernetes_publishes_it(world: KubernetesWorld) -> None:
    taint = {"key": "batch", "operator": "Exists", "effect": "NoSchedule"}
    pool = kubernetes_pool(Path("x"), tolerations=[taint])
    group = kubernetes_group(pool, "g")
    offering = replace(pool.groups[0].offerings[0], zone="eu-1a", capacity=Resources(cpu=4, memory=16, gpu=2))
    asked = replace(request(world, tags={"purpose": "tëst"}), pool=pool, offering=offering)
    job = unit(group, asked, 0, world.clock.now())
    for thing in [job, namespace(group), priority_class(group), account("n"), *roles(PlaceholderWay.rules, "n", "a")]:
        fits(thing, KINDS.get(thing["kind"], f"V1{thing['kind']}"), thing["kind"])
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"]["topology.kubernetes.io/zone"] == "eu-1a"
    assert pod["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] == "2"
    assert pod["tolerations"] == [taint]
    with pytest.raises(AssertionError, match="has no"):
        fits({**job, "spec": {**job["spec"], "activeDeadline": 1}}, "V1Job", "Job")


@given(st.text(max_size=90), st.text(max_size=90))
def test_a_label_is_one_and_tells_names_apart(one: str, other: str) -> None:
    for text in (one, other):
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", label(text))
    assert (label(one) == label(other)) == (one == other)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"node_selector": {}}, "node_selector"),
        ({"node_selector": {"a b": "c"}}, "no label"),
        ({"node_selector": {"a": 1}}, "no label"),
        ({"namespace": "Big"}, "no name"),
        ({"tolerations": [{"keys": "a"}]}, "tolerations"),
        ({"image": 3}, "image is a string"),
        ({"priorityClass": "x"}, "no option 'priorityClass'"),
    ],
)
def test_a_mistake_in_the_options_is_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what) as e:
        kubernetes_group(kubernetes_pool(Path("x"), **options), "g")
    assert e.value.where == "p/g options"


# ---- rights


def test_the_role_grants_what_is_called_and_nothing_else(world: KubernetesWorld) -> None:
    """A whole life under exactly the rights of the printed role."""
    world.fake.granted = GRANTED
    assert {f.state for f in world.provider.examine(world.pool)} == {"ok"}
    first, second = ready(world, 2)
    world.provider.drain(world.pool, [first.node_id])
    claimant = world.occupy(second)
    assert nodes(world)[second.node_id].running == (claimant,)
    world.free(second)
    world.provider.lease(world.pool, "g", world.clock.now() + timedelta(hours=1))
    world.provider.terminate(world.pool, [first.node_id, second.node_id])
    world.provider.restore(world.pool, "g", {})
    assert used(world.fake) == GRANTED


@pytest.mark.parametrize("lacking", sorted(GRANTED))
def test_a_right_that_is_lacking_is_named_before_anything_is_done(
    world: KubernetesWorld, lacking: tuple[str, ...]
) -> None:
    world.fake.granted = GRANTED - {lacking}
    bad = [f for f in world.provider.examine(world.pool) if f.state == "bad"]
    assert len(bad) == 1
    assert lacking[2].removesuffix("es") in bad[0].what.replace("priority class", "priorityclass")
    if lacking[:3] == ("create", "batch", "jobs"):
        with pytest.raises(NotAuthorisedError, match="jobs"):
            world.provider.launch(request(world))
        assert world.fake.objects["jobs"] == {}


@pytest.mark.parametrize(("value", "state"), [(-10, "ok"), (0, "bad"), (1000, "bad"), (-11, "warn")])
def test_room_that_real_work_could_not_have_is_found_beforehand(world: KubernetesWorld, value: int, state: str) -> None:
    world.fake.objects["priorityclasses"].clear()
    assert world.provider.examine(world.pool)[-1].state == "bad", "there is none"
    world.fake.priority_class("preprov-placeholder", value)
    assert world.provider.examine(world.pool)[-1].state == state


# ---- giving way


def test_real_work_has_the_room_at_once_and_no_other_room_is_asked_for(world: KubernetesWorld) -> None:
    (unit_,) = ready(world)
    pod = world.fake.work("etl")
    assert (pod["status"]["phase"], pod["spec"]["nodeName"]) == ("Running", unit_.address)
    world.clock.sleep(120)
    world.provider.tend(world.pool)
    seen = nodes(world)[unit_.node_id]
    assert (seen.phase, seen.running) == (Phase.READY, ("work/etl",))
    assert placeholders(world) == []
    assert len(world.fake.objects["nodes"]) == 1
    with pytest.raises(NodeBusyError, match="work/etl"):
        world.provider.terminate(world.pool, [unit_.node_id])
    world.fake.finish(pod)
    world.clock.sleep(700)
    assert nodes(world) == {}, "the autoscaler has taken the node away"


def test_a_wave_that_has_taken_its_room_costs_no_call_for_each_node(world: KubernetesWorld) -> None:
    units = ready(world, 8)
    pods = [world.fake.work(f"etl-{i}") for i in range(8)]
    world.fake.asked = 0
    seen = nodes(world)
    assert sorted(seen[u.node_id].running for u in units) == [(f"work/etl-{i}",) for i in range(8)]
    assert world.fake.asked == 4, "jobs, units' pods, nodes, all pods"
    for pod in pods[2:]:
        world.fake.finish(pod)
    assert sum(n.is_busy for n in nodes(world).values()) == 2


def test_work_that_comes_as_a_unit_is_ended_runs_on(world: KubernetesWorld) -> None:
    """What is ended is what was seen: the unit has changed, so the call is refused, and the next pass sees why."""
    (unit_,) = ready(world)
    world.fake.meanwhile = lambda: world.fake.work("etl")
    with pytest.raises(ConflictError) as e:
        world.provider.terminate(world.pool, [unit_.node_id])
    assert e.value.retryable
    assert nodes(world)[unit_.node_id].running == ("work/etl",)
    assert [p["status"]["phase"] for p in world.fake.pods_on(unit_.address)] == ["Running"]


def test_what_nobody_renews_ends_by_itself(world: KubernetesWorld) -> None:
    (unit_,) = ready(world)
    for _ in range(4):
        world.clock.sleep(world.pool.lease_s * 0.6)
        assert world.provider.tend(world.pool)
        assert world.provider.tend(world.pool) == (), "once it is renewed"
    assert set(nodes(world)) == {unit_.node_id}
    world.clock.sleep(world.pool.lease_s + 1)
    assert nodes(world) == {}
    assert placeholders(world) == []
    world.clock.sleep(7200)
    nodes(world)
    assert (world.fake.objects["jobs"], world.fake.objects["nodes"]) == ({}, {})


def test_a_lease_says_when(world: KubernetesWorld) -> None:
    ready(world)
    world.provider.lease(world.pool, "g", world.clock.now() + timedelta(minutes=2))
    world.clock.sleep(119)
    assert len(nodes(world)) == 1
    world.clock.sleep(2)
    assert nodes(world) == {}


# ---- nobody else's


def test_what_is_not_ours_is_never_touched(world: KubernetesWorld) -> None:
    """Not even what carries our labels: a Job that does not say of which launch it is."""
    mine = ready(world)
    lookalike = world.fake.job("lookalike", namespace="preprov")
    lookalike["metadata"]["labels"] |= {"app.kubernetes.io/managed-by": "preprov", "preprov.io/pool": "p"}
    world.fake.node("theirs")
    pod = world.fake.work("theirs", cpu="1", memory="1Gi")
    before = copy.deepcopy([lookalike["spec"], lookalike["metadata"], pod])
    world.provider.drain(world.pool, [mine[0].node_id])
    world.provider.terminate(world.pool, [mine[0].node_id])
    world.provider.restore(world.pool, "g", {})
    world.provider.tend(world.pool)
    assert [lookalike["spec"], lookalike["metadata"], pod] == before
    assert nodes(world) == {}
    assert [p["metadata"]["name"] for p in placeholders(world)] == ["lookalike-x"]


def cordons(world: KubernetesWorld) -> list[bool]:
    return [bool(n["spec"].get("unschedulable")) for n in world.fake.objects["nodes"].values()]


def test_a_cordon_of_ours_goes_with_its_unit_and_anothers_stays(world: KubernetesWorld) -> None:
    first, second = ready(world, 2)
    world.provider.drain(world.pool, [first.node_id, second.node_id])
    assert cordons(world) == [True, True]
    assert {n.phase for n in nodes(world).values()} == {Phase.DRAINING}
    theirs = next(n for n in world.fake.objects["nodes"].values() if n["metadata"]["name"] == second.address)
    fields = {"f:spec": {"f:unschedulable": {}}}
    theirs["metadata"]["managedFields"].append({"manager": "kubectl", "fieldsV1": fields})
    world.provider.terminate(world.pool, [first.node_id, second.node_id])
    assert sorted(cordons(world)) == [False, True]
    (third,) = ready(world, token="u")
    world.provider.drain(world.pool, [third.node_id])
    world.clock.sleep(world.pool.lease_s + 1)
    assert nodes(world) == {}
    world.provider.tend(world.pool)
    assert sum(cordons(world)) <= 1, "its lease ran out while it was drained"


def test_held_room_and_tasks_of_ours_are_not_read_as_work_of_the_same_cluster(world: KubernetesWorld) -> None:
    ready(world, 2)
    world.fake.work("etl", restartPolicy="Never")
    ours = world.fake.job("ours", namespace="preprov")
    ours["metadata"]["labels"] |= {"app.kubernetes.io/managed-by": "preprov", "preprov.io/kind": "task"}
    file = Path(str(world.pool.groups[0].options["kubeconfig"]))
    client = KubernetesClient(RequestBudget(1e6, world.clock), world.clock, kubeconfig=file)
    source = KubernetesSource(KubernetesSettings("k8s"), client)
    found = [i for b in source.changes(SourceState(), world.clock.now()) for i in b.runs.work.runs["dag_id"]]
    assert found == ["work/etl"]


# ---- when the cluster is slow, short or down


def test_it_waits_as_long_as_the_server_says(world: KubernetesWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    world.fake.refuse = [(429, 7)]
    assert len(world.provider.launch(request(world))) == 1
    assert slept == [7]
    world.fake.refuse = [(429, 1)] * 4
    with pytest.raises(ThrottledError) as e:
        world.provider.launch(request(world, token="u"))
    assert e.value.retryable
    assert len(nodes(world)) == 1


def test_a_launch_that_was_cut_short_is_gone_on_with(world: KubernetesWorld) -> None:
    made = world.fake.objects["jobs"]
    whole = world.provider.launch(request(world, 3))
    gone = next(iter(made))
    del made[gone]
    assert world.again().launch(request(world, 3)) == whole
    assert len(made) == 3


def test_no_room_shows_as_a_unit_that_warms_and_says_why(world: KubernetesWorld) -> None:
    world.fake.most = 0
    world.provider.launch(request(world))
    world.clock.sleep(300)
    (seen,) = nodes(world).values()
    assert (seen.phase, seen.reason) == (Phase.WARMING, "0/0 nodes are available")


def test_an_image_that_cannot_be_had_is_a_failure_that_can_be_ended(world: KubernetesWorld) -> None:
    world.fake.pulls = False
    (name,) = world.provider.launch(request(world))
    world.until(lambda: nodes(world)[name].phase is Phase.FAILED, "the pull to fail")
    assert "ImagePullBackOff" in nodes(world)[name].reason
    world.provider.terminate(world.pool, [name])
    assert nodes(world) == {}


def test_a_cluster_that_does_not_answer_proves_nothing(world: KubernetesWorld, tmp_path: Path) -> None:
    config = json.loads(Path(str(world.pool.groups[0].options["kubeconfig"])).read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    (tmp_path / "dead.json").write_text(json.dumps(config))
    pool = kubernetes_pool(tmp_path / "dead.json")
    found = world.provider.observe(pool)
    assert not found.complete
    assert "no answer" in found.problems[0]
    assert world.provider.examine(pool)[0].state == "bad"


# ---- under the real control code


def context(world: KubernetesWorld, pool: Pool) -> Context:
    return Context(
        ports=memory_ports(),
        providers={"kubernetes": world.provider},
        schedulers={},
        prices=TablePriceBook.from_pools([pool]),
        clock=world.clock,
        pools={pool.name: pool},
        n_samples=20,
    )


def passes(ctx: Context, pool: Pool, cores: float, count: int) -> None:
    for _ in range(count):
        pool_pass(ctx, pool, serve=False, waiting=Resources(cpu=cores, memory=cores))
        ctx.clock.sleep(60)


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RECOMMEND])
def test_where_preprov_may_not_act_nothing_is_written(world: KubernetesWorld, mode: Mode) -> None:
    pool = replace(world.pool, mode=mode)
    passes(context(world, pool), pool, 8, 3)
    assert {verb for verb, _, _ in world.fake.called} == {"list"}


def test_a_wave_is_raised_recorded_and_given_back_whole(world: KubernetesWorld) -> None:
    pool, ctx = world.pool, context(world, world.pool)
    stranger = world.fake.job("stranger")
    adopt(ctx, pool)
    passes(ctx, pool, 8, 4)
    held = [n for n in nodes(world).values() if n.phase is Phase.READY]
    assert len(held) == 2
    launched = [r for r in ctx.ports.audit.records("p") if r.action.kind is ActionKind.LAUNCH and r.result == "done"]
    assert {i for r in launched for i in r.node_ids} >= {n.node_id for n in held}
    claimant = world.occupy(held[0])
    for _ in range(5):
        release(ctx, pool)
        world.clock.sleep(60)
    assert nodes(world)[held[0].node_id].running == (claimant,), "who had the room keeps it"
    assert placeholders(world) == []
    world.free(nodes(world)[held[0].node_id])
    for _ in range(20):
        release(ctx, pool)
        world.clock.sleep(120)
    assert nodes(world) == {}
    assert stranger in world.fake.objects["jobs"].values()


def test_a_halt_stops_writes_and_what_was_raised_runs_out(world: KubernetesWorld) -> None:
    pool, ctx = world.pool, context(world, world.pool)
    passes(ctx, pool, 8, 3)
    ctx.ports.intent.set_halt("enough", actor="test", at=world.clock.now())
    world.fake.called.clear()
    passes(ctx, pool, 8, 16)
    assert {verb for verb, _, _ in world.fake.called} == {"list"}
    assert nodes(world) == {}
