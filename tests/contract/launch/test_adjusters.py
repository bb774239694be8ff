"""Local nodes, a Slurm and a Kubernetes that behave, against the suite of everything that adjusts tasks."""

import copy
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from preprov.agent.disk import NodeDir
from preprov.agent.limits import Limits
from preprov.agent.slurmjobs import NoRoomError, NotThereError, SlurmJobs
from preprov.clocks import WallClock
from preprov.launch.agents import AgentScheduler
from preprov.launch.kubernetes_resize import ASKED, KubernetesAdjuster, PodRef, bounds, minor_of
from preprov.launch.slurm import SlurmScheduler
from preprov.model.adjusting import Adjusting
from preprov.model.agent import Bounds, Underway
from preprov.model.errors import ConflictError, NotAuthorisedError, NotFoundError, RefusedError, ThrottledError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.testing.adjuster_contract import CORES, GIB, AdjusterContract
from preprov.testing.fake_kubernetes import FakeKubernetes
from preprov.testing.local_nodes import cleared
from preprov.testing.waiting import REAL_S, wait_until
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
        wait_until(lambda: bool(self._world.connect().jobs()) and began.exists(), what="it to begin", deadline_s=REAL_S)
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
        wait_until(lambda: self._job(claimant).is_over, what="it to end", deadline_s=REAL_S)
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


class JobAgents(AgentScheduler):
    """Agents of machines on which jobs have cgroups, in folders laid out as version 2 lays them out."""

    def __init__(self, folder: Path) -> None:
        super().__init__(WallClock())
        (folder / "n").mkdir()
        self.scope = folder / "cgroup" / "system.slice" / "slurmstepd.scope"
        room = Limits("cgroup2", cpu=4, memory=4)
        self.jobs = SlurmJobs(NodeDir(folder / "n"), room, {"": folder / "cgroup"})

    def confine(self, job: int) -> None:
        """As Slurm does when one begins."""
        for path in (self.scope / f"job_{job}", self.scope / f"job_{job}" / "step_batch"):
            path.mkdir(parents=True)
            (path / "memory.max").write_text(str(int(GIB * 2**30)))
            (path / "memory.high").write_text("max")
            (path / "cpu.max").write_text("max 100000")

    def _ask(self, node: Node, verb: str, **arguments: Any) -> dict[str, Any] | None:
        try:
            if verb == "slurm-jobs":
                return {"ok": True, "jobs": {j: asdict(b) for j, b in self.jobs.read().items()}}
            cpu, memory = arguments.get("cpu"), arguments.get("memory")
            told = self.jobs.limit(arguments["job"], cpu, memory, arguments["lease_s"])
        except NotThereError as e:
            return {"ok": False, "error": "cannot", "detail": str(e)}
        except NoRoomError as e:
            return {"ok": False, "error": "no-room", "detail": str(e)}
        return {"ok": True, "bounds": asdict(told)}


class SlurmMachinesWorld(SlurmAdjusterWorld):
    """The same, and agents on the machines."""

    def __init__(self, home: Path, world: FakeSlurmWorld) -> None:
        pool = replace(world.pool, adjusting=Adjusting())
        self.agents = JobAgents(home)
        world.scheduler = SlurmScheduler(
            {pool.name: pool}, WallClock(), home / "logs", connect=world.connect, agents={"sim": self.agents}.get
        )
        super().__init__(home, world)

    def running(self) -> str:
        claimant = super().running()
        self.agents.confine(self._job(claimant).job_id)
        return claimant

    def has(self, claimant: str) -> Resources | None:
        job = self._job(claimant)
        if job.state != "RUNNING":
            return super().has(claimant)
        told = self.agents.jobs.read()[str(job.job_id)]
        return Resources(cpu=told.cpu if told.cpu is not None else 4.0, memory=told.memory)


class TestSlurmOnMachines(AdjusterContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[SlurmMachinesWorld]:
        world = FakeSlurmWorld(tmp_path)
        try:
            yield SlurmMachinesWorld(tmp_path, world)
        finally:
            world.slurm.stop()

    def test_never_less_than_it_asked_for_nor_more_than_there_is(self, world: SlurmMachinesWorld) -> None:
        claimant = world.running()
        told = world.adjuster.resize(claimant, world.node, Resources(cpu=0.2, memory=0.1), 60)
        assert (told.cpu, told.memory) == (CORES, GIB)
        with pytest.raises(ConflictError, match="the node has 4"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=1, memory=5), 60)
        assert world.has(claimant) == Resources(cpu=CORES, memory=GIB)

    def test_polls_tell_what_is_in_force(self, world: SlurmMachinesWorld) -> None:
        claimant = world.running()
        world.adjuster.resize(claimant, world.node, Resources(cpu=1.5, memory=1), 60)
        (found,) = world.adjuster.poll([world.node])
        assert found.bounds is not None
        assert (found.bounds.cpu, found.bounds.memory, found.bounds.can) == (1.5, 1, ("cpu", "memory"))
        world.adjuster.lift(claimant, world.node)
        (found,) = world.adjuster.poll([world.node])
        assert found.bounds is not None
        assert (found.bounds.memory, found.bounds.free) == (GIB, True)

    def test_a_job_without_cgroups_is_refused_with_the_reason(self, world: SlurmMachinesWorld) -> None:
        claimant = SlurmAdjusterWorld.running(world)
        with pytest.raises(RefusedError, match="has no cgroup here"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=1, memory=1), 60)
        (found,) = world.adjuster.poll([world.node])
        assert found.bounds is not None
        assert found.bounds.can == ()
        world.adjuster.lift(claimant, world.node)


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
        return None if pod is None else PodRef(copy.deepcopy(pod), "main")

    def pod(self, phase: str, **limits: str) -> str:
        name = f"t{len(self._pods)}"
        resources = {"requests": {"cpu": "1", "memory": "512Mi"}, **({"limits": limits} if limits else {})}
        spec = {"containers": [{"name": "main", "image": "etl:1", "resources": resources}]}
        made = self.cluster.add("pods", name, {"spec": spec})
        has = [{"name": "main", "state": {"running": {}}, "resources": resources}]
        made["status"] = {"phase": phase, **({"containerStatuses": has} if phase == "Running" else {})}
        self._pods[f"run/{name}#0"] = made
        return f"run/{name}#0"

    def running(self) -> str:
        return self.pod("Running")

    def pending(self) -> str | None:
        return self.pod("Pending")

    def stated(self, claimant: str) -> dict[str, dict[str, str]]:
        return self._pods[claimant]["spec"]["containers"][0]["resources"]

    def bounds(self, claimant: str) -> Bounds:
        return bounds(PodRef(self._pods[claimant], "main"), self.cluster.minor)

    def has(self, claimant: str) -> Resources | None:
        told = self.bounds(claimant)
        return Resources(cpu=told.cpu, memory=told.memory)

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

    def test_less_memory_of_what_is_guaranteed_is_refused_by_1_33(self, world: KubernetesAdjusterWorld) -> None:
        claimant = world.pod("Running", cpu="1", memory="512Mi")
        with pytest.raises(RefusedError, match="cannot be decreased"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=1, memory=0.25), 60)
        assert world.stated(claimant)["limits"]["memory"] == "512Mi"

    def test_what_its_node_has_not_is_told(self, world: KubernetesAdjusterWorld) -> None:
        """What is put off stands, and what cannot be does not; all is in force that was."""
        claimant, before = world.running(), Resources(cpu=1, memory=0.5)
        world.cluster.node_used["cpu"] = 62.0
        for cpu, why, stands in ((4, "Deferred: ", True), (65, "Infeasible: ", False)):
            most = world.adjuster.resize(claimant, world.node, Resources(cpu=cpu, memory=0.5), 60)
            assert most.cpu == cpu, "it may be in force any moment"
            told = world.bounds(claimant).underway
            assert told is not None
            assert (told.cpu, told.memory, told.stands) == (cpu, 0.5, stands)
            assert told.why.startswith(why)
            assert world.has(claimant) == before
        world.adjuster.resize(claimant, world.node, before, 60)
        assert world.bounds(claimant).underway is None

    def test_less_is_in_force_when_the_kubelet_says_so(self, world: KubernetesAdjusterWorld) -> None:
        """Until then, it has what it had; and what was said of an older wish is of no account."""
        claimant, pod = world.running(), world._pods
        world.adjuster.resize(claimant, world.node, Resources(cpu=2, memory=1), 60)
        has = copy.deepcopy(pod[claimant]["status"])
        most = world.adjuster.resize(claimant, world.node, Resources(cpu=0.5, memory=1), 60)
        assert (most.cpu, most.memory) == (2, 1)
        pod[claimant]["status"] = has
        assert world.bounds(claimant).underway == Underway(0.5, 1)
        said = {"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "no"}
        has["conditions"] = [{**said, "observedGeneration": 3}]
        pod[claimant]["metadata"]["generation"] = 4
        assert world.bounds(claimant).underway == Underway(0.5, 1)
        has["conditions"] = [{**said, "observedGeneration": 4}]
        assert world.bounds(claimant).underway == Underway(0.5, 1, "Infeasible: no", stands=False)

    @pytest.mark.parametrize(("minor", "can"), [(32, ()), (33, ("cpu", "memory"))])
    def test_what_can_be_changed_is_told_by_version(
        self, world: KubernetesAdjusterWorld, minor: int, can: tuple[str, ...]
    ) -> None:
        world.cluster.minor = minor
        assert world.bounds(world.running()).can == can

    def test_memory_is_taken_from_the_request_and_its_limit_stays(self, world: KubernetesAdjusterWorld) -> None:
        """In any version; the limit is raised with a request that is above it."""
        claimant = world.pod("Running", memory="512Mi")
        for memory, limit in ((0.25, "512Mi"), (0.5, "512Mi"), (2, str(2 << 30)), (1, str(2 << 30))):
            world.adjuster.resize(claimant, world.node, Resources(cpu=1, memory=memory), 60)
            assert world.has(claimant) == Resources(cpu=1, memory=memory)
            assert world.stated(claimant)["limits"]["memory"] == limit

    @pytest.mark.parametrize(("text", "minor"), [("v1.33.1", 33), ("v1.29.4-gke.104", 29), ("1.34+", 34), ("new", 0)])
    def test_its_version(self, text: str, minor: int) -> None:
        assert minor_of(text) == minor

    def test_what_was_lowered_is_given_back_and_what_was_raised_stays(self, world: KubernetesAdjusterWorld) -> None:
        """As it was asked for at first, which the pod itself says."""
        claimant = world.running()
        began = {"requests": {"cpu": "1", "memory": "512Mi"}}
        world._pods[claimant]["metadata"]["annotations"] = {ASKED: json.dumps(began)}
        assert world.bounds(claimant).free
        world.adjuster.resize(claimant, world.node, Resources(cpu=0.5, memory=1), 60)
        assert not world.bounds(claimant).free
        world.adjuster.lift(claimant, world.node)
        assert world.has(claimant) == Resources(cpu=1, memory=1)
        assert world.bounds(claimant).free

    def test_an_older_cluster_says_so(self, world: KubernetesAdjusterWorld) -> None:
        world.cluster.minor = 32
        with pytest.raises(RefusedError) as refused:
            world.adjuster.resize(world.running(), world.node, Resources(cpu=2, memory=1), 60)
        assert "1.33" in refused.value.hint

    def test_a_quota_is_no_right_that_is_lacking(self, world: KubernetesAdjusterWorld) -> None:
        """It is said as the server says it, and may be tried again."""
        claimant = world.running()
        said = 'pods "t0" is forbidden: exceeded quota: batch, requested: cpu=1'

        def full(*_: object) -> tuple[int, dict]:
            return 403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": said}

        world.cluster.answer = full  # type: ignore[method-assign]
        with pytest.raises(ConflictError, match="exceeded quota: batch") as e:
            world.adjuster.resize(claimant, world.node, Resources(cpu=2, memory=1), 60)
        assert e.value.retryable

    def test_what_it_may_not_and_what_is_gone(self, world: KubernetesAdjusterWorld) -> None:
        claimant = world.running()
        world.cluster.rights.discard(("", "pods/resize"))
        with pytest.raises(NotAuthorisedError, match="403"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=2, memory=1), 60)
        world.cluster.end(world._pods[claimant])
        with pytest.raises(NotFoundError, match="ended"):
            world.adjuster.resize(claimant, world.node, Resources(cpu=2, memory=1), 60)
        other = world.running()
        world.cluster.objects["pods"].clear()
        with pytest.raises(NotFoundError, match="gone"):
            world.adjuster.resize(other, world.node, Resources(cpu=2, memory=1), 60)
        world.cluster.answers = 0
        with pytest.raises(ThrottledError):
            world.adjuster.resize(other, world.node, Resources(cpu=2, memory=1), 60)
