"""A Kubernetes API over HTTP, read by the real client, against the suite every place where work lives passes."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from preprov.model.time import from_epoch
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from preprov.testing.fake_kubernetes import FakeKubernetes
from preprov.testing.live_source_contract import LiveSourceContract


class KubernetesPlace:
    """A cluster; each run is a Job of two completions, one after the other."""

    def __init__(self, cluster: FakeKubernetes, kubeconfig: Path) -> None:
        self.cluster, self.kubeconfig = cluster, kubeconfig
        self.jobs: dict[str, dict] = {}

    def sleep(self, seconds: float) -> None:
        self.cluster.offset += seconds

    def source(self) -> KubernetesSource:
        client = KubernetesClient(RequestBudget(1000.0, self), self, kubeconfig=self.kubeconfig, retries=0)
        return KubernetesSource(KubernetesSettings("cluster"), client)

    def now(self) -> datetime:
        return from_epoch(self.cluster.now())

    def pass_time(self, seconds: float) -> None:
        self.cluster.offset += seconds

    def start(self, count: int, *, names: tuple[str, ...] = ()) -> list[str]:
        made = []
        for _ in range(count):
            place = f"awkward{'abc'[len(made) % 3]}" if names else f"job{chr(97 + len(self.jobs))}"  # DNS labels only
            job = self.cluster.job(place, spec={"completions": 2, "parallelism": 1})
            self.cluster.pod_of(job)
            run_id = f"default/{place}@{job['metadata']['uid'][:8]}"
            self.jobs[run_id] = job
            made.append(run_id)
        return made

    def finish(self, run_id: str) -> None:
        self.cluster.complete(self.jobs[run_id])

    def delete(self, run_id: str) -> None:
        self.cluster.delete(self.jobs[run_id])

    def fail_after(self, requests: int | None) -> None:
        self.cluster.answers = requests


class ReadOn(KubernetesPlace):
    """Read by one process that goes on: after its first list it is told what changed."""

    reader: KubernetesSource | None = None

    def source(self) -> KubernetesSource:
        self.reader = self.reader or super().source()
        return self.reader


class TestKubernetes(LiveSourceContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[KubernetesPlace]:  # type: ignore[override]
        cluster = FakeKubernetes(page=4)
        with cluster.served(tmp_path) as kubeconfig:
            yield KubernetesPlace(cluster, kubeconfig)


class TestKubernetesReadOn(LiveSourceContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[ReadOn]:  # type: ignore[override]
        cluster = FakeKubernetes(page=4)
        with cluster.served(tmp_path) as kubeconfig:
            yield ReadOn(cluster, kubeconfig)
