"""The role for tasks: a life of theirs under exactly the rights that are printed for a group that adjusts them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov import providing
from preprov.kube.connecting import connect
from preprov.launch.kubernetes import KubernetesScheduler
from preprov.model.adjusting import Adjusting
from preprov.model.errors import NotAuthorisedError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering
from preprov.model.pools import Pool
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.pools.kubernetes.options import WAYS, kubernetes_group
from preprov.pools.kubernetes.provider import KubernetesProvider, opened, rules_of, way_of
from preprov.pools.kubernetes.rights import ADJUSTS, TASKS, Rule, listed, roles, together
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import SimCloud
from preprov.testing.scripted_kubelet import ScriptedKubelet
from tests.kubernetesworld import LABELS, START, grants, kubernetes_pool, used

ROLE = (*TASKS, ADJUSTS)
GRANTED = grants(ROLE)


class TasksWorld:
    """A node, and a scheduler whose account has the role and no other."""

    def __init__(self, fake: ScriptedKubelet, clock: VirtualClock, kubeconfig: Path) -> None:
        self.fake, self.clock = fake, clock
        self.pool = replace(kubernetes_pool(kubeconfig, tasks=True, task_image="etl:1"), adjusting=Adjusting())
        self.scheduler = KubernetesScheduler({"p": self.pool})
        made = fake.node("node-1")
        offering, now = Offering("m", Resources(cpu=4, memory=16)), clock.now()
        self.node = Node("n", "p", "g", offering, Phase.READY, now, now, address=made["metadata"]["name"])

    def task(self, name: str, seconds: float = 3600) -> TaskRun:
        spec = TaskSpec("t", request=Resources(cpu=1, memory=1), runtime_hint_s=seconds)
        return TaskRun(name, "t", "p", spec, "s", State.READY)

    def life(self) -> None:
        """Two tasks: one is adjusted, lifted, read and cancelled, the other ends by itself."""
        long, short = self.task("long"), self.task("short", 60)
        for task in (long, short):
            self.scheduler.start(task, 0, self.node)
        claimant = long.claimant(0)
        self.clock.sleep(20)
        seen = {r.claimant: r for r in self.scheduler.poll([self.node])}
        assert seen[claimant].usage, "the metrics server was asked"
        self.scheduler.resize(claimant, self.node, Resources(cpu=0.5, memory=1), 60)
        self.scheduler.lift(claimant, self.node)
        assert list(self.scheduler.logs(claimant)) == ["so it goes"]
        self.scheduler.cancel(claimant, self.node)
        self.clock.sleep(60)
        seen = {r.claimant: r for r in self.scheduler.poll([self.node])}
        assert {r.exit_code for r in seen.values()} == {0, -15}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TasksWorld]:
    clock = VirtualClock(START)
    fake = ScriptedKubelet(clock=lambda: clock.now().timestamp(), labels=LABELS, idle_s=1e9)
    with fake.served(tmp_path) as kubeconfig:
        yield TasksWorld(fake, clock, kubeconfig)


def test_the_role_grants_what_is_called_and_nothing_else(world: TasksWorld) -> None:
    """Neither more verbs, nor in more namespaces than are used."""
    world.fake.granted = set(GRANTED)
    world.life()
    assert used(world.fake) == GRANTED


@pytest.mark.parametrize("lacking", sorted(GRANTED))
def test_a_right_that_is_lacking_is_refused(world: TasksWorld, lacking: tuple[str, ...]) -> None:
    """Or nothing is observed: a metrics server that may not be asked is as one that is not there."""
    world.fake.granted = GRANTED - {lacking}
    if lacking[1] == "metrics.k8s.io":
        with pytest.raises(AssertionError, match="metrics server"):
            world.life()
        return
    with pytest.raises(NotAuthorisedError) as e:
        world.life()
    assert "preprov kubernetes manifests" in e.value.hint
    assert lacking[:3] != ("create", "batch", "jobs") or world.fake.objects["jobs"] == {}


def test_a_right_in_another_namespace_is_none(world: TasksWorld) -> None:
    """So the test of what is granted is one of where, too."""
    world.fake.granted = grants(ROLE, "other")
    with pytest.raises(NotAuthorisedError):
        world.life()


def pool_of(way: str, *, tasks: bool, adjusts: bool) -> Pool:
    options: dict[str, object] = {"way": way, "tasks": tasks}
    if way in ("capacity_buffer", "node_pool"):
        options["object"] = "batch"
    if way == "node_join":
        options |= {"vendor": "sim", "node_selector": {"preprov.io/pool": "p"}}
    return replace(kubernetes_pool(Path("x"), **options), adjusting=Adjusting() if adjusts else None)


def rules(way: str, *, tasks: bool = True, adjusts: bool = True) -> tuple[Rule, ...]:
    group = kubernetes_group(pool_of(way, tasks=tasks, adjusts=adjusts), "g")
    clock = VirtualClock(START)
    return rules_of(group, way_of(group, partial(opened, group), clock, lambda _: SimCloud(clock, seed=1)))


def allows(granted: set[tuple[str, ...]], right: tuple[str, ...]) -> bool:
    return right in granted or right[:3] in granted


@pytest.mark.parametrize("way", WAYS)
def test_every_way_has_the_role_and_says_nothing_twice(way: str) -> None:
    """What its way may everywhere it need not be granted in its own namespace."""
    granted = grants(rules(way))
    assert all(allows(granted, right) for right in GRANTED)
    assert granted - GRANTED == grants(rules(way, tasks=False)) - GRANTED
    assert not [right for right in granted if len(right) == 4 and right[:3] in granted]
    assert ("patch", "", "pods/resize", "preprov") not in grants(rules(way, adjusts=False))
    named = [(own, api, resource) for own, api, resource, _ in rules(way)]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("lacking", sorted(GRANTED))
def test_it_is_named_before_anything_is_done(tmp_path: Path, lacking: tuple[str, ...]) -> None:
    clock = VirtualClock(START)
    fake = ScriptedKubelet(clock=lambda: clock.now().timestamp(), labels=LABELS)
    fake.priority_class("preprov-placeholder", -10)
    with fake.served(tmp_path) as kubeconfig:
        pool = replace(kubernetes_pool(kubeconfig, tasks=True), adjusting=Adjusting())
        provider = KubernetesProvider(clock)
        whole = grants(rules("placeholder"))
        fake.granted = whole
        assert {f.state for f in provider.examine(pool)} == {"ok"}
        fake.granted = {right for right in whole if right[:3] != lacking[:3]}
        (bad,) = [f for f in provider.examine(pool) if f.state == "bad"]
        assert bad.what == f"g: {lacking[2]}"
        assert lacking[0] in bad.found


RULES = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from(["", "batch"]),
        st.sampled_from(["pods", "jobs"]),
        st.lists(st.sampled_from(["get", "list", "patch"]), min_size=1).map(tuple),
    )
)


@given(RULES)
def test_rules_that_are_put_together_grant_the_same(some: list[Rule]) -> None:
    before, after = grants(some), grants(together(some))
    assert all(allows(after, right) for right in before)
    assert after <= before
    assert together(together(some)) == together(some)


def test_two_groups_of_one_account_have_one_role_that_is_enough_for_both() -> None:
    """Or the second would be applied over the first."""
    one, other = (roles(rules("placeholder", tasks=t), "preprov", "preprov") for t in (True, False))
    apart = roles(rules("node_pool"), "elsewhere", "preprov")
    things = listed([*one, *other, *apart])
    names = [(t["kind"], t["metadata"].get("namespace"), t["metadata"]["name"]) for t in things]
    assert len(names) == len(set(names))
    (role,) = [t for t in things if t["kind"] == "Role" and t["metadata"]["namespace"] == "preprov"]
    assert {"pods/resize", "jobs"} <= {r for rule in role["rules"] for r in rule["resources"]}
    (bound,) = [t for t in things if t["kind"] == "ClusterRoleBinding"]
    assert {s["namespace"] for s in bound["subjects"]} == {"preprov", "elsewhere"}
    assert listed(one) == one


def test_who_has_the_room_and_who_starts_the_tasks_are_connected_once(
    world: TasksWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are opened for a command, and whatever measures them in between."""
    made: list[str] = []

    def counted(kubeconfig: Path, context: str, **more: object) -> object:
        made.append(context)
        return connect(kubeconfig, context, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("preprov.kube.api.connect", counted)
    pools = {"p": world.pool, "q": replace(world.pool, name="q")}
    found = providing.providers(tmp_path, world.clock, 1.0, pools)
    running = providing.schedulers(tmp_path, world.clock, 1.0, pools, found)
    for pool in pools.values():
        assert found["kubernetes"].observe(pool).complete
        running["kubernetes"].poll([replace(world.node, pool=pool.name)])
    assert len(made) == 2, "one that asks again, and one that does not"
