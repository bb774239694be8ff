"""Tasks as Jobs of a cluster that behaves and really runs them, through the real client: the suite of schedulers.

And its pods against the suite of what adjusts tasks, as they are found by their labels.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from preprov.clocks import WallClock
from preprov.contracts import LaunchRequest
from preprov.kube.place import place_of
from preprov.launch.kubernetes import KubernetesScheduler
from preprov.launch.kubernetes_job import image_of, job_of
from preprov.model.errors import ConflictError, NodeBusyError, PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.quantity import quantity
from preprov.model.resources import Resources
from preprov.model.work import ImageRef, State, TaskRun, TaskSpec
from preprov.pools.kubernetes.provider import KubernetesProvider
from preprov.testing.adjuster_contract import CORES, GIB, AdjusterContract
from preprov.testing.fake_kubelet import FakeKubelet
from preprov.testing.scheduler_contract import SchedulerContract
from preprov.testing.waiting import REAL_S, wait_until
from tests.kubernetesworld import LABELS, kubernetes_pool
from tests.reservedway import ReservedWay, Surroundings


class KubernetesSchedulerWorld:
    """One unit of room that is ready."""

    writes_logs = True
    observes = True

    def __init__(self, fake: FakeKubelet, kubeconfig: Path, home: Path) -> None:
        self.fake, self.home = fake, home
        self.pool = kubernetes_pool(kubeconfig, tasks=True, task_image="registry/etl:1", namespace="preprov")
        self.provider = KubernetesProvider(WallClock())
        group = self.pool.groups[0]
        self.provider.launch(LaunchRequest(self.pool, "g", group.offerings[0], 1, "t", Preload()))
        self.provider.tend(self.pool)
        self.node = self.seen()
        assert self.node.phase is Phase.READY
        self.scheduler = self.again()

    def seen(self) -> Node:
        (node,) = self.provider.observe(self.pool).nodes
        return node

    def again(self) -> KubernetesScheduler:
        return KubernetesScheduler({self.pool.name: self.pool})

    def spec(self, task_id: str, *, seconds: float, exit_code: int = 0, says: str = "") -> TaskSpec:
        said = f"echo '{says}';" if says else ""
        begun = f'echo x >> "{self.home}/$PREPROV_RUN_ID-$PREPROV_INSTANCE"'
        request = Resources(cpu=1, memory=1)
        script = f"{begun}; {said} sleep {seconds}; exit {exit_code}"
        return TaskSpec(task_id, command=("sh", "-c", script), request=request)

    def until(self, look: Callable[[], bool], what: str) -> None:
        wait_until(look, what=what, deadline_s=REAL_S)

    def begun(self, claimant: str) -> int:
        run, _, instance = claimant.replace("/only#", " ").partition(" ")
        return len((self.home / f"{run}-{instance}").read_text().split())

    def end_node(self) -> None:
        self.provider.terminate(self.pool, [self.node.node_id])
        self.fake.objects["nodes"].clear()


@contextmanager
def kubelet(folder: Path) -> Iterator[tuple[FakeKubelet, Path]]:
    """A cluster, and the file that leads to it; nothing runs on afterwards."""
    fake = FakeKubelet(labels=LABELS, boot_s=0.0, folder=folder)
    fake.priority_class("preprov-placeholder", -10)
    with fake.served(folder) as kubeconfig:
        try:
            yield fake, kubeconfig
        finally:
            fake.stop()


@contextmanager
def scheduler_world(folder: Path) -> Iterator[KubernetesSchedulerWorld]:
    with kubelet(folder) as (fake, kubeconfig):
        yield KubernetesSchedulerWorld(fake, kubeconfig, folder)


class TestKubernetes(SchedulerContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[KubernetesSchedulerWorld]:
        with scheduler_world(tmp_path) as world:
            yield world

    def test_room_that_was_held_is_handed_over_and_never_pulled_away(self, world: KubernetesSchedulerWorld) -> None:
        """The placeholder gives way; the unit is busy with the claimant, and cannot be ended."""
        task = self.task(world, seconds=3600)
        world.scheduler.start(task, 0, world.node)
        world.until(lambda: world.seen().running == (task.claimant(0),), "its room to be the task's")
        with pytest.raises(NodeBusyError, match="run-"):
            world.provider.terminate(world.pool, [world.node.node_id])
        world.provider.drain(world.pool, [world.node.node_id])
        report = self.report(world, task)
        assert report is not None
        assert report.ended_at is None, "it runs on while its node is drained"
        assert report.bounds is not None
        assert (report.bounds.cpu, report.bounds.memory, report.bounds.can) == (1, 1, ("cpu", "memory"))
        with pytest.raises(ConflictError, match="cordoned"):
            world.scheduler.start(self.task(world), 0, world.node)

    def test_what_is_sent(self, world: KubernetesSchedulerWorld) -> None:
        """On that node, of that size, and marked so that no autoscaler moves it."""
        task = self.task(world)
        job = job_of(task, 0, world.node, place_of(world.pool.groups[0].options, "p/g"), 1.0)
        pod = job["spec"]["template"]["spec"]
        (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert term["matchFields"][0]["values"] == [world.node.address]
        assert pod["containers"][0]["resources"] == {
            "requests": {"cpu": "1000m", "memory": str(1 << 30)},
            "limits": {"memory": str(1 << 30)},
        }
        assert job["spec"]["template"]["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
        assert "preprov.io/pool" not in job["metadata"]["labels"], "it is work, and holds no room"

    def test_its_image(self, world: KubernetesSchedulerWorld) -> None:
        """Its own where a registry has it, else the group's, else it is refused."""
        place = place_of(world.pool.groups[0].options, "p/g")
        task = self.task(world)
        own = replace(task, spec=replace(task.spec, images=(ImageRef("docker://r:5000/a:2", "sha256:1"),)))
        assert (image_of(task, place), image_of(own, place)) == ("registry/etl:1", "r:5000/a@sha256:1")
        with pytest.raises(PoolError, match="no image"):
            image_of(task, replace(place, task_image=""))

    def test_a_group_that_starts_no_tasks_says_so(self, world: KubernetesSchedulerWorld) -> None:
        """The rights for it are not asked for either."""
        options = {k: v for k, v in world.pool.groups[0].options.items() if k != "tasks"}
        pool = replace(world.pool, groups=(replace(world.pool.groups[0], options=options),))
        scheduler = KubernetesScheduler({pool.name: pool})
        with pytest.raises(PoolError, match="starts no tasks") as e:
            scheduler.start(self.task(world), 0, world.node)
        assert "tasks = true" in e.value.hint
        assert scheduler.poll([world.node]) == ()

    def test_without_a_metrics_server_nothing_is_observed(self, world: KubernetesSchedulerWorld) -> None:
        """The rest goes on."""
        world.fake.metered = False
        task = self.task(world, seconds=3600)
        world.scheduler.start(task, 0, world.node)
        report = self.report(world, task)
        assert report is not None
        assert report.usage == ()


class AdjusterWorld:
    """Tasks that the scheduler itself has started."""

    _names = count()

    def __init__(self, world: KubernetesSchedulerWorld) -> None:
        self._world = world
        self.adjuster, self.node = world.scheduler, world.node

    def running(self) -> str:
        command = (sys.executable, "-c", "import time; time.sleep(3600)")
        spec = TaskSpec("t", command=command, request=Resources(cpu=CORES, memory=GIB))
        task = TaskRun(f"run-{next(self._names)}", "t", "p", spec, "s", State.READY)
        self._world.scheduler.start(task, 0, self.node)
        self._world.until(lambda: self.has(task.claimant(0)) is not None, "it to begin")
        return task.claimant(0)

    def pending(self) -> str | None:
        return None

    def has(self, claimant: str) -> Resources | None:
        (report,) = [r for r in self._world.scheduler.poll([self.node]) if r.claimant == claimant]
        bounds = report.bounds
        return None if bounds is None else Resources(cpu=quantity(bounds.cpu), memory=quantity(bounds.memory))

    def time_limit_s(self, claimant: str) -> float | None:
        return None

    def kept(self, claimant: str) -> bool:
        return False


class TestAdjusting(AdjusterContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[AdjusterWorld]:
        with scheduler_world(tmp_path) as world:
            yield AdjusterWorld(world)


class TestTheWholeWay(ReservedWay):
    @contextmanager
    def surroundings(self, folder: Path) -> Iterator[Surroundings]:
        with kubelet(folder) as (_, kubeconfig):
            pool = kubernetes_pool(kubeconfig, tasks=True, task_image="registry/etl:1")
            yield Surroundings(pool, KubernetesProvider(WallClock()), KubernetesScheduler({pool.name: pool}))
