"""Local nodes, a Slurm and a Kubernetes that behave, against the suite of everything that adjusts tasks."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from preprov.launch.kubernetes_resize import KubernetesAdjuster, PodRef
from preprov.model.errors import ConflictError, NotAuthorisedError, NotFoundError, RefusedError, ThrottledError
from preprov.model.pools import Node, Offering, Phase
from preprov.model.quantity import quantity
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.testing.adjuster_contract import CORES, GIB, AdjusterContract
from preprov.testing.fake_kubernetes import FakeKubernetes
from preprov.testing.local_nodes import cleared
from preprov.testing.waiting import wait_until
from tests.fakeslurmworld import FakeSlurmWorld
from tests.localnodes import LocalWorld

KEEPS = """
import pathlib, signal, sys, time
def keep(*_):
    pathlib.Path(sys.argv[1]).write_text("so far")
    sys.exit(75)
signal.signal(signal.SIGUSR2, keep)
pathlib.Path(sys.argv[2]).touch()
while True:
    time.sleep(0.01)
"""


class LocalAdjusterWorld:
    """One real node."""

    def __init__(self, home: Path) -> None:
        self._world = LocalWorld(home, sample_s=0.1)
        self.adjuster = self._world.scheduler
        (self.node,) = self._world.ready()

    def running(self) -> str:
        work = self._world.home
        claimant = self._world.run(self.node, [sys.executable, "-c", KEEPS, str(work / "kept"), str(work / "began")])
        wait_until(lambda: (work / "began").exists(), what="it to begin")
        self.adjuster.resize(claimant, self.node, Resources(cpu=CORES, memory=GIB), 600)
        return claimant

    def pending(self) -> str | None:
        return None

    def _report(self, claimant: str):
        return next(r for r in self.adjuster.poll([self.node]) if r.claimant == claimant)

    def has(self, claimant: str) -> Resources | None:
        told = self._report(claimant).bounds
        return None if told.cpu is None else Resources(cpu=told.cpu, memory=told.memory)

    def time_limit_s(self, claimant: str) -> float | None:
        return None

    def kept(self, claimant: str) -> bool:
        wait_until(lambda: self._report(claimant).ended_at is not None, what="it to end")
        return (self._world.home / "kept").exists()


class TestLocal(AdjusterContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[LocalAdjusterWorld]:
        with cleared(tmp_path) as home:
            world = LocalAdjusterWorld(home)
            if "rlimit" in (world._world.folder(world.node) / "limits.json").read_text():
                pytest.skip("cgroups cannot be written here")
            yield world


class SlurmAdjusterWorld:
    """One node, filled by so many jobs of one core."""

    fills = 2

    _names = count()

    def __init__(self, home: Path, world) -> None:
        self._home, self._world = home, world
        self.adjuster = world.scheduler
        self.node = world.ready()[0]

    def _job(self, claimant: str):
        jobs = self._world.connect().jobs()
        return next(j for j in jobs if j.comment == f"preprov:{claimant}")

    def _start(self, cpu: float) -> str:
        name = f"run-{next(self._names)}"
        kept, began = self._home / f"{name}.kept", self._home / f"{name}.began"
        command = (sys.executable, "-c", KEEPS, str(kept), str(began))
        task = TaskRun(
            name, "t", "batch", TaskSpec("t", command=command, request=Resources(cpu=cpu, memory=GIB)), "s", State.READY
        )
        self.adjuster.start(task, 0, self.node)
        return task.claimant(0)

    def running(self) -> str:
        claimant = self._start(CORES)
        began = self._home / f"{claimant.partition('/')[0]}.began"
        wait_until(lambda: bool(self._world.connect().jobs()) and began.exists(), what="it to begin", deadline_s=60)
        return claimant

    def pending(self) -> str | None:
        for _ in range(self.fills):
            self.running()
        claimant = self._start(CORES)
        wait_until(lambda: self._job(claimant).state == "PENDING", what="it to wait")
        return claimant

    def has(self, claimant: str) -> Resources | None:
        job = self._job(claimant)
        return Resources(cpu=job.cpus, memory=job.memory_mib / 1024)

    def time_limit_s(self, claimant: str) -> float | None:
        return self._job(claimant).time_limit_s

    def kept(self, claimant: str) -> bool:
        wait_until(lambda: self._job(claimant).is_over, what="it to end", deadline_s=60)
        return (self._home / f"{claimant.partition('/')[0]}.kept").exists()


class TestSlurm(AdjusterContract):
    @pytest.fixture(params=[False, True], ids=["22.05", "24.05"])
    def world(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SlurmAdjusterWorld]:
        world = FakeSlurmWorld(tmp_path, newer=request.param)
        try:
            yield SlurmAdjusterWorld(tmp_path, world)
        finally:
            world.slurm.stop()

    def test_the_calls_are_exact(self, world: SlurmAdjusterWorld) -> None:
        """And nothing is asked of Slurm that it would refuse."""
        calls = world._world.slurm.calls
        waiting = world.pending()
        assert waiting is not None
        del calls[:]
        world.adjuster.resize(waiting, world.node, Resources(cpu=1.2, memory=1.5), 60)
        job = world._job(waiting).job_id
        update = ("scontrol", "update", f"JobId={job}")
        assert (*update, "NumCPUs=2", "CPUsPerTask=2", "MinMemoryNode=1536") in calls
        world.adjuster.extend(waiting, world.node, 5401)
        assert (*update, "TimeLimit=91") in calls
        runs = next(j for j in world._world.connect().jobs() if j.runs)
        del calls[:]
        with pytest.raises(RefusedError, match="only until it runs"):
            world.adjuster.resize(runs.comment.removeprefix("preprov:"), world.node, Resources(cpu=1, memory=1), 60)
        assert not [c for c in calls if "update" in c]

    def test_one_that_does_not_end_by_itself_is_ended_after_the_grace(self, world: SlurmAdjusterWorld) -> None:
        claimant = world.running()
        world.adjuster.checkpoint(claimant, world.node, "SIGWINCH", 0)
        world.adjuster.checkpoint(claimant, world.node, "SIGWINCH", 0)
        assert not world.kept(claimant)


class KubernetesAdjusterWorld:
    """Pods of a cluster, through the real client."""

    def __init__(self, cluster: FakeKubernetes, kubeconfig: Path) -> None:
        self.cluster = cluster
        self.adjuster = KubernetesAdjuster(lambda: self._api(kubeconfig), self._find)
        now = datetime(2026, 3, 2, tzinfo=UTC)
        self.node = Node("n1", "batch", "g", Offering("m", Resources(cpu=8, memory=32)), Phase.READY, now, now)
        self._pods: dict[str, dict] = {}

    @staticmethod
    def _api(kubeconfig: Path):
        from kubernetes import client, config
        from urllib3.util import Retry

        made = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=made)
        made.retries = Retry(0)
        return client.CoreV1Api(client.ApiClient(made))

    def _find(self, claimant: str, node: Node) -> PodRef | None:
        pod = self._pods.get(claimant)
        return None if pod is None else PodRef("default", pod["metadata"]["name"], "main")

    def pod(self, phase: str, **limits: str) -> str:
        name = f"t{len(self._pods)}"
        resources = {"requests": {"cpu": "1", "memory": "512Mi"}, **({"limits": limits} if limits else {})}
        spec = {"containers": [{"name": "main", "image": "etl:1", "resources": resources}]}
        made = self.cluster.add("pods", name, {"spec": spec})
        made["status"] = {"phase": phase}
        self._pods[f"run/{name}#0"] = made
        return f"run/{name}#0"

    def running(self) -> str:
        return self.pod("Running")

    def pending(self) -> str | None:
        return self.pod("Pending")

    def stated(self, claimant: str) -> dict[str, dict[str, str]]:
        return self._pods[claimant]["spec"]["containers"][0]["resources"]

    def has(self, claimant: str) -> Resources | None:
        told = self.stated(claimant)["requests"]
        return Resources(cpu=quantity(told["cpu"]), memory=quantity(told["memory"]) / 2**30)

    def time_limit_s(self, claimant: str) -> float | None:
        return None

    def kept(self, claimant: str) -> bool:
        return False


class TestKubernetes(AdjusterContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[KubernetesAdjusterWorld]:
        cluster = FakeKubernetes()
        with cluster.served(tmp_path) as kubeconfig:
            yield KubernetesAdjusterWorld(cluster, kubeconfig)

    def test_the_class_of_service_stays(self, world: KubernetesAdjusterWorld) -> None:
        """Limits go with their requests, and none is added."""
        sure = world.pod("Running", cpu="1", memory="512Mi")
        world.adjuster.resize(sure, world.node, Resources(cpu=1.5, memory=1), 60)
        assert world.stated(sure) == {
            "requests": {"cpu": "1500m", "memory": str(1 << 30)},
            "limits": {"cpu": "1500m", "memory": str(1 << 30)},
        }
        burst = world.pod("Running", cpu="2")
        world.adjuster.resize(burst, world.node, Resources(cpu=1.5, memory=1), 60)
        assert world.stated(burst)["limits"] == {"cpu": "3000m"}

    def test_less_memory_than_its_limit_is_refused(self, world: KubernetesAdjusterWorld) -> None:
        claimant = world.pod("Running", cpu="1", memory="512Mi")
        with pytest.raises(RefusedError, match="cannot be decreased"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=1, memory=0.25), 60)
        assert world.stated(claimant)["limits"]["memory"] == "512Mi"

    def test_what_its_node_has_not_is_taken_back(self, world: KubernetesAdjusterWorld) -> None:
        """What is put off too: nobody would reckon with it when it is given at last."""
        claimant, before = world.running(), Resources(cpu=1, memory=0.5)
        world.cluster.node_used["cpu"] = 62.0
        with pytest.raises(ConflictError, match="now"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=4, memory=0.5), 60)
        assert world.has(claimant) == before
        with pytest.raises(RefusedError, match="capacity"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=65, memory=0.5), 60)
        assert world.has(claimant) == before

    def test_an_older_cluster_says_so(self, world: KubernetesAdjusterWorld) -> None:
        world.cluster.minor = 32
        with pytest.raises(RefusedError) as refused:
            world.adjuster.resize(world.running(), world.node, Resources(cpu=2, memory=1), 60)
        assert "1.33" in refused.value.hint

    def test_what_it_may_not_and_what_is_gone(self, world: KubernetesAdjusterWorld) -> None:
        claimant = world.running()
        world.cluster.rights.discard(("", "pods/resize"))
        with pytest.raises(NotAuthorisedError, match="403"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=2, memory=1), 60)
        world.cluster.end(world._pods[claimant])
        with pytest.raises(NotFoundError, match="ended"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=2, memory=1), 60)
        world.cluster.objects["pods"].clear()
        with pytest.raises(NotFoundError, match="gone"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=2, memory=1), 60)
        world.cluster.answers = 0
        with pytest.raises(ThrottledError):
            world.adjuster.resize(claimant, world.node, Resources(cpu=2, memory=1), 60)
