"""What Jobs, pods and jobs of Slurm used, out of a Prometheus: it is theirs, so they are sized by it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from preprov.control.measuring import usage_runs
from preprov.control.rightsizing import of_pool
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.time import epoch
from preprov.model.usage import UsageRun
from preprov.profiles.requests import FEWEST
from preprov.slurm.commands import SlurmCommands
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from preprov.sources.prometheus import PrometheusSettings, PrometheusSource
from preprov.sources.prometheus.queries import preset
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from preprov.testing.fake_kubernetes import FakeKubernetes, Json, pod_spec
from preprov.testing.fake_prometheus import FakePrometheus
from preprov.testing.fake_slurm import FakeSlurm
from tests.unit.control.world import World, make_world

NAMES = (*(f"etl-{29012340 + i}" for i in range(FEWEST)), "train", "sum.by-day-7", "flow-x2v7q", "load-1-bcd45")


class Cluster(FakeKubernetes):
    """On the world's clock."""

    world: World

    def now(self) -> float:
        return epoch(self.world.clock.now())


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def cluster(world: World, tmp_path: Path) -> Iterator[tuple[Cluster, KubernetesSource]]:
    made = Cluster()
    made.world = world
    with made.served(tmp_path) as kubeconfig:
        client = KubernetesClient(RequestBudget(1e6, world.clock), world.clock, kubeconfig=kubeconfig, retries=0)
        yield made, KubernetesSource(KubernetesSettings("k"), client)


def of_job(job: Json) -> dict[str, str]:
    """Labels as kube-state-metrics joins them to what cAdvisor tells."""
    return {
        "namespace": job["metadata"]["namespace"],
        "label_batch_kubernetes_io_job_name": job["metadata"]["name"],
        "label_batch_kubernetes_io_controller_uid": job["metadata"]["uid"],
    }


def of_pod(pod: Json) -> dict[str, str]:
    """Labels as cAdvisor tells them."""
    return {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}


def used(
    world: World, name: str, labels: Sequence[Mapping[str, str]], began: float, ended: float | None = None
) -> PrometheusSource:
    """A Prometheus that has scraped what the preset asks for while they ran."""
    there = FakePrometheus(world.clock)
    queries = preset(name)
    last = ended or world.clock.now().timestamp()
    for query in queries:
        amount = {"cpu": 0.5, "memory": 0.25 * 2**30}.get(query.resource)
        there.series[query.promql] = [
            (each, lambda t, amount=amount: amount if began <= t <= last else None) for each in labels
        ]
    settings = PrometheusSettings("used", "http://pm", queries, requests_per_second=1e6, history_days=0.1, lag_s=0.0)
    return PrometheusSource(settings, world.clock, transport=there.transport())


def test_jobs_are_sized_by_what_a_prometheus_knows_of_them(
    world: World, cluster: tuple[Cluster, KubernetesSource]
) -> None:
    there, source = cluster
    began = there.now()
    jobs = [there.job(name, pod=pod_spec("2", "4Gi")) for name in NAMES]
    for job in jobs:
        there.pod_of(job)
    world.clock.sleep(600)
    for job in jobs:
        there.complete(job)
    sync(world.ctx, source, Router(default="p"))
    read = used(world, "jobs", [of_job(j) for j in jobs], began)
    assert sync(world.ctx, read, Router(default="p")).samples > 0
    found = of_pool(world.ctx, world.pool, since=world.clock.now() - timedelta(days=1))
    told = {n.task: n for n in found.needs}
    assert told.keys() == {"etl", "train", "sum.by-day", "flow", "load"}
    assert all(n.measured == n.runs for n in told.values()), "of each Job it is known what it used"
    assert {n.memory for n in told.values()} == {(0.25, 0.25)}
    etl = told["etl"]
    assert etl.asked_memory == 4.0
    assert 0.25 <= etl.ask_memory < 1.0


@pytest.mark.parametrize("pods_first", [False, True])
def test_pods_are_their_tasks_by_name_in_a_job_of_several_completions_too(
    world: World, cluster: tuple[Cluster, KubernetesSource], pods_first: bool
) -> None:
    there, source = cluster
    began = there.now()
    several = {"completions": 2, "parallelism": 2}
    jobs = [there.job(f"etl-{29012340 + i}", pod=pod_spec("2", "4Gi"), spec=several) for i in range(FEWEST)]
    pods = [there.pod_of(job, index) for job in jobs for index in range(2)]
    world.clock.sleep(600)
    for job in jobs:
        there.complete(job)
    read = [source, used(world, "cadvisor", [of_pod(p) for p in pods], began)]
    for one in reversed(read) if pods_first else read:
        sync(world.ctx, one, Router(default="p"))
    found = of_pool(world.ctx, world.pool, since=world.clock.now() - timedelta(days=1))
    (etl,) = found.needs
    assert (etl.task, etl.runs, etl.measured) == ("etl", 2 * FEWEST, 2 * FEWEST)
    assert etl.memory == (0.25, 0.25)
    now = world.clock.now()
    runs = usage_runs(world.ctx, world.pool, task="etl", since=now - timedelta(days=1), until=now)
    assert len(runs) == 2 * FEWEST
    assert all(len(run.at) > 10 for _, run in runs), "curves, not one figure each"


def test_jobs_of_slurm_are_known_by_their_numbers(world: World, tmp_path: Path) -> None:
    slurm = FakeSlurm(["cn1"], tmp_path)
    now, there = world.clock.now(), slurm.now()
    ran = {"submit": there - 600, "start": there - 600, "end": there, "state": "COMPLETED", "node": "cn1"}
    jobs = [*(slurm.add(name="etl", **ran) for _ in range(FEWEST)), slurm.add(name="wide", nodes=2, **ran)]
    reader = SlurmReader(SlurmCommands(slurm.run), RequestBudget(1e6, world.clock))
    source = SlurmSource(SlurmSettings("hpc", history_s=86_400.0), reader, world.clock, wall=slurm.now)
    world.clock.sleep(5)
    sync(world.ctx, source, Router(default="p"))
    labels = [{"cgroup": f"/slurm/uid_1000/job_{job.job_id}"} for job in jobs]
    began = epoch(now) - 600
    assert sync(world.ctx, used(world, "slurm", labels, began, epoch(now)), Router(default="p")).samples > 0

    def curves(task: str) -> list[UsageRun]:
        until = world.clock.now()
        found = usage_runs(world.ctx, world.pool, task=task, since=until - timedelta(days=1), until=until)
        return [run for _, run in found]

    etl = curves("etl")
    assert len(etl) == FEWEST
    assert all(len(run.at) > 10 for run in etl)
    assert {float(m) for run in etl for m in run.memory} == {0.25}
    assert curves("wide") == [], "what several nodes used together is no single one's"
