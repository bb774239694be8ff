"""Between whole lists of a cluster only what changed is read: a store then holds what whole lists would put there."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from preprov.contracts import Applied, Ports
from preprov.model.errors import SourceUnavailableError
from preprov.model.time import from_epoch
from preprov.sim.ports import memory_ports
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.holding import QUEUE_LABEL
from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from preprov.testing.fake_kubernetes import FakeKubernetes, Json, pod_spec
from preprov.testing.live_source_contract import POOL, read

NOON = 1_780_000_000.0


class Cluster(FakeKubernetes):
    """Its time goes on only when it is told to; it counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__(page=3)
        self.paths: Counter[str] = Counter()

    def now(self) -> float:
        return NOON + self.offset

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Json) -> tuple[int, Json]:
        self.paths[f"{'watch' if 'watch' in query else 'list'} {path.rsplit('/')[-1]}"] += 1
        return super().answer(method, path, query, body)

    def told(self) -> dict[str, int]:
        """How often Jobs and pods were asked for since the last time."""
        out = {k: n for k, n in sorted(self.paths.items()) if k.split()[-1] in ("jobs", "pods")}
        self.paths.clear()
        return out


class Place:
    """A process that reads it into a store."""

    def __init__(self, cluster: Cluster, kubeconfig: Path, *namespaces: str) -> None:
        self.cluster, self.kubeconfig, self.namespaces = cluster, kubeconfig, namespaces
        self.ports: Ports = memory_ports()
        self.restart()

    def restart(self) -> None:
        budget = RequestBudget(1e6, self)
        client = KubernetesClient(budget, self, kubeconfig=self.kubeconfig, namespaces=self.namespaces, retries=0)
        self.made = KubernetesSource(KubernetesSettings("k"), client)

    def now(self) -> Any:
        return from_epoch(self.cluster.now())

    def sleep(self, _seconds: float) -> None:
        return None

    def source(self) -> KubernetesSource:
        return self.made

    def read(self) -> Applied:
        return read(self, self.ports)  # type: ignore[arg-type]

    def kept(self) -> pd.DataFrame:
        """Every task of every run, with what is known of it."""
        work = self.ports.work.work(POOL)
        runs = work.runs.loc[work.tasks["run"]].reset_index(drop=True)
        return pd.concat([runs, work.tasks.drop(columns="run")], axis=1).sort_values(["run_id", "task_id"])


Make = Callable[..., Place]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[Make]:
    with cluster.served(tmp_path) as kubeconfig:
        yield lambda *namespaces: Place(cluster, kubeconfig, *namespaces)


WHOLE = {"list jobs": 4, "list pods": 4}
CHANGES = {"watch jobs": 1, "watch pods": 1}


def filled(cluster: Cluster, made: Place) -> list[Json]:
    jobs = [cluster.job(f"job{i:02}") for i in range(12)]
    for job in jobs:
        cluster.pod_of(job)
    assert made.read().new == 12
    assert cluster.told() == WHOLE
    return jobs


def test_between_whole_lists_only_what_changed_is_read(cluster: Cluster, place: Make) -> None:
    made = place()
    jobs = filled(cluster, made)
    assert made.read() == Applied()
    assert cluster.told() == CHANGES
    cluster.complete(jobs[0])
    cluster.delete(jobs[1])
    cluster.job("late")
    assert made.read() == Applied(new=1, changed=1, gone=1)
    assert cluster.told() == CHANGES


def test_a_process_goes_on_where_another_one_stopped(cluster: Cluster, place: Make) -> None:
    made = place()
    jobs = filled(cluster, made)
    made.restart()
    assert made.read() == Applied()
    assert cluster.told() == CHANGES
    cluster.complete(jobs[0])
    cluster.delete(jobs[1])
    cluster.job("late")
    made.restart()
    assert made.read() == Applied(new=1, changed=1, gone=1)
    assert cluster.told() == {"list jobs": 2, "list pods": 2, **CHANGES}, "the two Jobs that are there, and their pods"
    assert made.read() == Applied(), "it goes on as any other"
    cluster.complete(jobs[2])
    assert made.read() == Applied(changed=1)
    cluster.offset += 900
    made.restart()
    assert made.read() == Applied(same=12)
    assert cluster.told()["list jobs"] > 3


def test_a_process_for_which_the_server_knows_no_more_lists_everything(cluster: Cluster, place: Make) -> None:
    made = place()
    jobs = filled(cluster, made)
    cluster.complete(jobs[0])
    cluster.delete(jobs[1])
    cluster.journal.look("jobs", cluster.objects["jobs"])
    cluster.journal.forget()
    made.restart()
    assert made.read() == Applied(changed=1, same=10, gone=1)
    assert cluster.told()["list jobs"] == 4
    made.restart()
    made.namespaces = ("default",)  # what was read before was of more than that
    made.restart()
    assert made.read().new == 0
    assert cluster.told() == WHOLE


def test_a_pass_that_broke_off_is_gone_on_with_by_another_process(cluster: Cluster, place: Make) -> None:
    made = place()
    jobs = filled(cluster, made)
    for job in jobs[:6]:
        cluster.complete(job)
    for answers in range(3, 20):
        made.restart()
        cluster.answers = answers
        try:
            made.read()
        except SourceUnavailableError:
            continue
        break
    cluster.answers = None
    assert answers > 3, "no pass broke off: this says nothing"
    assert len(made.ports.sources.state("k").open) == 6


def test_many_that_changed_at_once_are_listed_by_their_namespace(cluster: Cluster, place: Make) -> None:
    made = place()
    jobs = filled(cluster, made)
    other = cluster.job("elsewhere", namespace="other")
    for job in jobs:
        cluster.complete(job)
    made.restart()
    assert made.read() == Applied(new=1, changed=12)
    assert cluster.told() == {"list jobs": 4 + 1, "list pods": 4 + 1, **CHANGES}
    assert other["metadata"]["uid"]


def test_where_kueue_holds_work_a_process_begins_with_a_list(cluster: Cluster, place: Make) -> None:
    made = place()
    cluster.job("queued", spec={"suspend": True}, body={"labels": {QUEUE_LABEL: "gold"}})
    made.read()
    cluster.told()
    made.restart()
    made.read()
    assert cluster.told() == {"list jobs": 1, "list pods": 1}


def test_other_priority_classes_are_a_reason_to_list_everything(cluster: Cluster, place: Make) -> None:
    made = place()
    filled(cluster, made)
    cluster.add("priorityclasses", "night", {"value": 7, "globalDefault": True}, namespace="")
    made.restart()
    assert made.read() == Applied(changed=12)
    assert cluster.told() == WHOLE


def test_another_address_is_a_reason_to_list_everything(cluster: Cluster, place: Make, tmp_path: Path) -> None:
    made = place()
    filled(cluster, made)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with cluster.served(elsewhere) as made.kubeconfig:
        made.restart()
        assert made.read() == Applied(same=12)
        assert cluster.told() == WHOLE


def test_everything_is_listed_again_after_a_quarter_of_an_hour(cluster: Cluster, place: Make) -> None:
    made = place()
    filled(cluster, made)
    cluster.offset += 899
    made.read()
    assert cluster.told() == CHANGES
    cluster.offset += 1
    assert made.read() == Applied()
    assert cluster.told() == WHOLE


def test_what_the_server_forgot_is_listed_again(cluster: Cluster, place: Make) -> None:
    made = place()
    jobs = filled(cluster, made)
    cluster.complete(jobs[0])
    cluster.delete(jobs[1])
    cluster.job("late")
    cluster.journal.look("jobs", cluster.objects["jobs"])
    cluster.journal.forget()
    assert made.read() == Applied(new=1, changed=1, gone=1)
    assert cluster.told() == {**WHOLE, **CHANGES}
    made.read()
    assert cluster.told() == CHANGES


def test_without_the_right_to_watch_everything_is_listed_each_time(cluster: Cluster, place: Make) -> None:
    cluster.watched = False
    made = place()
    jobs = filled(cluster, made)
    cluster.complete(jobs[0])
    assert made.read().changed == 1
    assert cluster.told() == {**WHOLE, "watch jobs": 1}
    assert made.read() == Applied()
    assert cluster.told() == WHOLE
    (found,) = [f for f in made.made.examine() if f.what == "changes"]
    assert (found.state, found.found) == ("ok", "no right to watch jobs and pods: every pass lists everything")


def test_a_watch_that_is_cut_short_goes_on_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    """In the middle of a line; what stands where a line should is an error, and the next pass goes on there, too."""
    spoil: list[Callable[[bytes], bytes]] = []

    def garble(payload: bytes) -> bytes:
        return spoil.pop()(payload) if spoil and b'"type"' in payload else payload

    with cluster.served(tmp_path, garble=garble) as kubeconfig:
        made = Place(cluster, kubeconfig)
        filled(cluster, made)
        for i in range(12):
            cluster.job(f"new{i:02}")
        spoil.append(lambda told: told[: len(told) // 3])
        first = made.read()
        spoil.append(lambda told: told[: len(told) // 2] + b"\nwhat\n")
        with pytest.raises(SourceUnavailableError, match="no JSON"):
            made.read()
        second = made.read()
        assert cluster.told() == {"watch jobs": 3, "watch pods": 2}, "nothing was listed anew"
        assert 0 < first.new < 12
        assert first.new + second.new == 12


def test_a_quota_that_is_set_aside_is_seen_though_nothing_happens_to_the_job(cluster: Cluster, place: Make) -> None:
    job = cluster.job("queued", spec={"suspend": True}, body={"labels": {QUEUE_LABEL: "gold"}})
    owner = {"kind": "Job", "name": "queued", "uid": job["metadata"]["uid"]}
    workload = cluster.add("workloads", "job-queued", {"spec": {}}, owner=owner)
    made = place()
    made.read()
    assert (made.kept()["due"] - made.kept()["submit"] > 1e6).all()
    cluster.offset += 30
    cluster.condition(workload, "QuotaReserved", "True")
    assert made.read() == Applied(changed=1)
    assert (made.kept()["due"] - made.kept()["submit"] < 60).all()


def night(cluster: Cluster, rng: np.random.Generator) -> None:
    """Something happens."""
    jobs, what = list(cluster.objects["jobs"].values()), rng.integers(8)
    job = jobs[rng.integers(len(jobs))] if jobs else None
    pods = [] if job is None else cluster.pods_of(job)
    namespace = str(rng.choice(["red", "blue"]))
    if what <= 1 or job is None:
        cluster.job(f"job{rng.integers(1_000_000)}", spec={"completions": 2, "parallelism": 2}, namespace=namespace)
    elif what == 2:
        pod = cluster.pod_of(job, int(rng.integers(2)), started=False)
        cluster.place(pod) if rng.random() < 0.5 else cluster.stuck(pod, "ErrImagePull")
    elif what == 3 and pods:
        cluster.start(pods[-1])
    elif what == 4 and pods:
        cluster.end(pods[0], "Failed" if rng.random() < 0.3 else "Succeeded")
    elif what == 5:
        cluster.complete(job)
    elif what == 6:
        cluster.delete(job)
    else:
        flow = {"kind": "Workflow", "name": f"flow{rng.integers(3)}", "uid": "abcdefgh-1"}
        gated = {"schedulingGates": [{"name": "hold"}]} if rng.random() < 0.3 else {}
        cluster.add("pods", f"p{rng.integers(1_000_000)}", {"spec": pod_spec(**gated)}, owner=flow, namespace=namespace)
        pod = list(cluster.objects["pods"].values())[rng.integers(len(cluster.objects["pods"]))]
        pod["spec"].pop("schedulingGates", None)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("namespaces", [(), ("red", "blue")], ids=["all namespaces", "two"])
def test_who_follows_holds_what_who_lists_everything_holds(
    cluster: Cluster, place: Make, seed: int, namespaces: tuple[str, ...]
) -> None:
    cluster.page = 50
    rng, follows, lists = np.random.default_rng(seed), place(*namespaces), place(*namespaces)
    resumes = place(*namespaces)
    for i in range(15):
        for _ in range(rng.integers(5)):
            night(cluster, rng)
        cluster.offset += float(rng.integers(1, 60))
        if i % 5 == 4:
            cluster.journal.forget()
        lists.restart()
        lists.made._mirror.followed = False
        resumes.restart()
        lists.read()
        for other in (follows, resumes):
            other.read()
            pd.testing.assert_frame_equal(
                other.kept().reset_index(drop=True), lists.kept().reset_index(drop=True), check_dtype=False
            )
            assert other.ports.sources.state("k").notebook == lists.ports.sources.state("k").notebook
    assert cluster.paths["watch jobs"] > 10
