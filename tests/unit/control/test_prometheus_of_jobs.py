"""What Jobs of a cluster used, out of a Prometheus: it is theirs, so they are sized by it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from preprov.control.rightsizing import of_pool
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.time import epoch
from preprov.profiles.requests import FEWEST
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from preprov.sources.prometheus import PrometheusSettings, PrometheusSource
from preprov.sources.prometheus.queries import preset
from preprov.testing.fake_kubernetes import FakeKubernetes, Json, pod_spec
from preprov.testing.fake_prometheus import FakePrometheus
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


def used(world: World, jobs: list[Json], began: float) -> PrometheusSource:
    """A Prometheus that has scraped cAdvisor and kube-state-metrics while they ran."""
    there = FakePrometheus(world.clock)
    queries = preset("jobs")
    ended = world.clock.now().timestamp()
    for query in queries:
        amount = {"cpu": 0.5, "memory": 0.25 * 2**30}.get(query.resource)
        there.series[query.promql] = [
            (
                {
                    "namespace": j["metadata"]["namespace"],
                    "label_batch_kubernetes_io_job_name": j["metadata"]["name"],
                    "label_batch_kubernetes_io_controller_uid": j["metadata"]["uid"],
                },
                lambda t, amount=amount: amount if began <= t <= ended else None,
            )
            for j in jobs
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
    assert sync(world.ctx, used(world, jobs, began), Router(default="p")).samples > 0
    found = of_pool(world.ctx, world.pool, since=world.clock.now() - timedelta(days=1))
    told = {n.task: n for n in found.needs}
    assert told.keys() == {"etl", "train", "sum.by-day", "flow", "load"}
    assert all(n.measured == n.runs for n in told.values()), "of each Job it is known what it used"
    assert {n.memory for n in told.values()} == {(0.25, 0.25)}
    etl = told["etl"]
    assert etl.asked_memory == 4.0
    assert 0.25 <= etl.ask_memory < 1.0
