"""Jobs, CronJobs and pods as runs: what they ask for, what follows what, what has become of them."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprov.contracts import Applied, SourceState, SyncBatch
from preprov.kube.quantities import requests
from preprov.model.errors import SourceError, SourceUnavailableError
from preprov.model.quantity import quantity
from preprov.model.time import epoch, from_epoch
from preprov.model.worktable import READY, WorkTable
from preprov.sim.ports import memory_ports
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.holding import QUEUE_LABEL
from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from preprov.testing.fake_kubernetes import FakeKubernetes, pod_spec
from preprov.testing.live_source_contract import POOL, read

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


class Now:
    """The cluster's time; `ahead`: seconds that the cluster goes before whoever reads."""

    def __init__(self, cluster: FakeKubernetes, ahead: float = 0.0) -> None:
        self.cluster, self.ahead = cluster, ahead

    def now(self) -> datetime:
        return from_epoch(self.cluster.now() - self.ahead)

    def sleep(self, _seconds: float) -> None:
        return None


Make = Callable[..., KubernetesSource]


@pytest.fixture
def cluster() -> FakeKubernetes:
    return FakeKubernetes(page=3)


@pytest.fixture
def reader(cluster: FakeKubernetes, tmp_path: Path) -> Iterator[Make]:
    with cluster.served(tmp_path) as kubeconfig:

        def make(*namespaces: str, **settings: Any) -> KubernetesSource:
            return source_of(Now(cluster), kubeconfig, *namespaces, **settings)

        yield make


def source_of(clock: Now, kubeconfig: Path, *namespaces: str, **settings: Any) -> KubernetesSource:
    client = KubernetesClient(RequestBudget(1e6, clock), clock, kubeconfig=kubeconfig, namespaces=namespaces, retries=0)
    return KubernetesSource(KubernetesSettings("k", **settings), client)


def batches(source: KubernetesSource) -> list[SyncBatch]:
    return list(source.changes(SourceState(), NOW))


def work(source: KubernetesSource) -> WorkTable:
    return WorkTable.concat([b.runs.work for b in batches(source)])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5),
        ("2", 2.0),
        ("1.5", 1.5),
        ("4Gi", 2.0**32),
        ("128M", 128e6),
        ("1e3", 1000.0),
        ("1E", 1e18),
        (2, 2.0),
    ],
)
def test_quantities(text: object, value: float) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["", "lots", "4Gb", "1..2", None, "m"])
def test_what_is_no_quantity_is_not_known(text: object) -> None:
    assert math.isnan(quantity(text))


def test_a_pod_asks_for_what_the_scheduler_counts() -> None:
    def holds(cpu: str, memory: str, **more: Any) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu, "memory": memory}}, **more}

    gpu = {"resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "1"}}}
    spec = {
        "containers": [holds("1", "2Gi"), holds("500m", "1Gi"), gpu],
        "initContainers": [holds("4", "512Mi"), holds("250m", "1Gi", restartPolicy="Always")],
        "overhead": {"memory": "1Gi"},
    }
    assert requests(spec) == (4.0, 5.0, 2.0)
    cpu, memory, none = requests({"containers": [{"name": "x"}]})
    assert math.isnan(cpu)
    assert math.isnan(memory)
    assert none == 0.0


def test_completions_beyond_what_may_run_at_once_follow_each_other(cluster: FakeKubernetes, reader: Make) -> None:
    job = cluster.job("train", spec={"completions": 5, "parallelism": 2}, pod=pod_spec("2", "4Gi"))
    done, running = cluster.pod_of(job, 0), cluster.pod_of(job, 1)
    cluster.offset += 30
    cluster.end(done)
    cluster.pod_of(job, 2, started=False)
    found = work(reader())
    assert found.tasks["task_id"].tolist() == [f"train[{i}]" for i in range(5)]
    assert found.tasks["cpu"].tolist() == [2.0] * 5
    assert found.tasks["memory"].tolist() == [4.0] * 5
    assert sorted(zip(found.parents.tolist(), found.children.tolist(), strict=True)) == [(0, 2), (1, 3), (2, 4)]
    ended, begun = found.tasks["ended_at"].to_numpy(), found.tasks["started_at"].to_numpy()
    assert np.isfinite(ended).tolist() == [True, False, False, False, False]
    assert np.isfinite(begun).tolist() == [True, True, False, False, False]
    assert np.isfinite(found.tasks["ready_at"]).tolist() == [True, True, True, False, False]
    assert ended[0] - begun[0] == pytest.approx(30, abs=1)
    assert running["status"]["phase"] == "Running"


def test_a_very_wide_job_is_tasks_of_many_instances(cluster: FakeKubernetes, reader: Make) -> None:
    cluster.job("wide", spec={"completions": 25_001, "parallelism": 25_001})
    found = work(reader())
    assert len(found.tasks) <= 1000
    assert found.tasks["instances"].sum() == 25_001
    assert len(found.parents) == 0


def test_a_job_that_is_over_has_ended_even_where_its_pods_are_gone(cluster: FakeKubernetes, reader: Make) -> None:
    good, bad = cluster.job("good"), cluster.job("bad", spec={"completions": 2, "parallelism": 2})
    for job, kind in ((good, "Complete"), (bad, "Failed")):
        cluster.pod_of(job)
        cluster.offset += 60
        cluster.complete(job, kind)
        for pod in cluster.pods_of(job):
            del cluster.objects["pods"][pod["metadata"]["uid"]]
    (batch,) = [b for b in batches(reader()) if len(b.runs)]
    assert batch.runs.over.all()
    assert batch.runs.work.tasks["ended_at"].notna().all()
    assert batch.runs.work.tasks["runtime_s"].iloc[0] == pytest.approx(60, abs=1)


def test_cron_jobs_are_schedules_with_the_shape_of_their_next_run(cluster: FakeKubernetes, reader: Make) -> None:
    template = {"spec": {"completions": 3, "parallelism": 3, "template": {"spec": pod_spec("3", "6Gi")}}}

    def cron(name: str, schedule: str, **more: Any) -> dict[str, Any]:
        return cluster.add("cronjobs", name, {"spec": {"schedule": schedule, "jobTemplate": template, **more}})

    nightly = cron("nightly", "30 2 * * *", timeZone="Europe/Zurich", concurrencyPolicy="Forbid")
    cron("hourly", "@hourly", suspend=True)
    cron("broken", "every now and then")
    cron("lost", "30 2 * * *", timeZone="Mars/Olympus")
    owner = {"kind": "CronJob", "name": "nightly", "uid": nightly["metadata"]["uid"]}
    cluster.job(
        "nightly-29012345",
        owner=owner,
        spec={"completions": 3, "parallelism": 3},
        pod=pod_spec("3", "6Gi"),
        body={"annotations": {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-05-01T00:30:00Z"}},
    )
    first, *rest = batches(reader())
    assert first.schedules is not None
    told = {s.dag_id: s for s in first.schedules}
    assert (told["default/nightly"].cron, told["default/nightly"].zone) == ("30 2 * * *", "Europe/Zurich")
    assert told["default/nightly"].max_active_runs == 1
    assert (told["default/hourly"].cron, told["default/hourly"].paused) == ("0 * * * *", True)
    assert first.notes == (
        "CronJob default/broken: 'every now and then' is no cron that can be read",
        "CronJob default/lost: there is no time zone 'Mars/Olympus' here: its turns are not foreseen",
    )
    assert first.shapes is not None
    shape = first.shapes.work
    assert shape.tasks.groupby("run").size().tolist() == [3, 3]
    (runs,) = [b.runs.work for b in rest if len(b.runs)]
    assert runs.runs["dag_id"].tolist() == ["default/nightly"]
    assert runs.runs["trigger"].tolist() == ["scheduled"]
    assert from_epoch(float(runs.runs["scheduled_for"].iloc[0])) == datetime(2026, 5, 1, 0, 30, tzinfo=UTC)
    mine = shape.tasks[shape.tasks["run"] == shape.runs["dag_id"].tolist().index("default/nightly")]
    assert runs.tasks["signature"].tolist() == mine["signature"].tolist()  # so that its history foretells it
    assert runs.tasks["task_id"].tolist() == mine["task_id"].tolist()


def test_what_is_suspended_or_waits_for_a_quota_is_not_expected(cluster: FakeKubernetes, reader: Make) -> None:
    cluster.job("paused", spec={"suspend": True})
    for name, reserved in (("queued", "False"), ("admitted", "True")):
        job = cluster.job(name, spec={"suspend": True}, body={"labels": {QUEUE_LABEL: "gold"}})
        owner = {"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        made = cluster.add("workloads", f"job-{name}", {"spec": {}}, owner=owner)
        made["status"] = {"conditions": [{"type": "QuotaReserved", "status": reserved}]}
    cluster.job("plain")
    (batch,) = [b for b in batches(reader()) if len(b.runs)]
    runs = batch.runs.work.runs.set_index("dag_id")
    expected = (runs["due"] - runs["submit"] < 60).to_dict()
    assert expected == {
        "default/paused": False,
        "default/queued": False,
        "default/admitted": True,
        "default/plain": True,
    }
    assert sorted(batch.runs.queues) == ["default", "default", "gold", "gold"]
    cluster.kueue = False
    assert len(work(reader()).runs) == 4


def test_pods_of_other_controllers_are_runs_and_services_are_none(cluster: FakeKubernetes, reader: Make) -> None:
    flow = {"kind": "Workflow", "name": "etl-x2v7q", "uid": "abcdefgh-1"}
    for task in ("extract", "load"):
        pod = cluster.add("pods", f"etl-{task}", {"spec": pod_spec(), "labels": {"task_id": task}}, owner=flow)
        cluster.start(pod)
    airflow = {"dag_id": "sales", "run_id": "r1", "task_id": "sum"}
    done = cluster.add("pods", "sales-sum-x", {"spec": pod_spec(), "labels": airflow})
    cluster.start(done)
    cluster.end(done)
    cluster.add("pods", "web", {"spec": {**pod_spec(), "restartPolicy": "Always"}})
    cluster.add("pods", "db", {"spec": pod_spec()}, owner={"kind": "StatefulSet", "name": "db", "uid": "s"})
    (batch,) = [b for b in batches(reader()) if len(b.runs)]
    found = batch.runs.work
    assert sorted(found.runs["run_id"]) == ["default/etl-x2v7q@abcdefgh", "default/sales@r1"]
    over = dict(zip(found.runs["run_id"], batch.runs.over.tolist(), strict=True))
    assert over == {"default/etl-x2v7q@abcdefgh": False, "default/sales@r1": True}
    assert sorted(found.tasks["task_id"]) == ["extract", "load", "sum"]


def test_namespaces_and_tenants(cluster: FakeKubernetes, reader: Make) -> None:
    for namespace in ("red", "blue", "green"):
        cluster.job("job", namespace=namespace)
    assert sorted(work(reader("red", "blue")).runs["tenant"]) == ["blue", "red"]
    assert work(reader("red", tenant="data")).runs["tenant"].tolist() == ["data"]


def test_a_list_that_the_server_forgot_is_begun_anew_and_tells_nothing_twice(
    cluster: FakeKubernetes, reader: Make
) -> None:
    for i in range(8):
        cluster.job(f"job{i}x")
    cluster.forget = 2
    found = work(reader())
    assert len(found.runs) == 8
    assert found.runs["run_id"].is_unique


def test_a_list_that_is_forgotten_each_time_is_not_asked_for_for_ever(cluster: FakeKubernetes, reader: Make) -> None:
    for i in range(8):
        cluster.job(f"job{i}x")
    cluster.forget = 1000
    with pytest.raises(SourceUnavailableError, match="expired 3 times"):
        batches(reader())
    cluster.forget = 0
    assert len(work(reader()).runs) == 8


def test_what_is_not_allowed_is_said_with_the_rule_that_allows_it(cluster: FakeKubernetes, reader: Make) -> None:
    cluster.rights.discard(("batch", "cronjobs"))
    with pytest.raises(SourceError, match="not allowed"):
        batches(reader())
    (bad,) = [f for f in reader().examine() if f.state == "bad"]
    assert bad.what == "list cronjobs"
    assert 'resources: ["cronjobs"]' in bad.hint


@pytest.mark.parametrize("garble", [lambda b: b[: len(b) // 2], lambda _b: b"<html>", lambda _b: b"[]"])
def test_an_answer_that_is_none_can_be_asked_for_again(
    cluster: FakeKubernetes, tmp_path: Path, garble: Callable[[bytes], bytes]
) -> None:
    cluster.job("a")
    with (
        cluster.served(tmp_path, garble=garble) as kubeconfig,
        pytest.raises(SourceUnavailableError, match="no JSON"),
    ):
        batches(source_of(Now(cluster), kubeconfig))


def test_objects_that_make_no_sense_are_counted(cluster: FakeKubernetes, reader: Make) -> None:
    cluster.job("good")
    bad = cluster.job("bad")
    bad["metadata"]["creationTimestamp"] = "yesterday"
    odd = cluster.job("odd", spec={"completions": "many", "parallelism": -3})
    odd["status"] = {"conditions": ["what", {"type": "Complete"}]}
    odd["spec"]["template"]["spec"]["containers"] = [None, {"resources": None}]
    told = batches(reader())
    assert [r.reason for b in told for r in b.rejects] == ["a Job without name, uid or creation time"]
    assert sorted(WorkTable.concat([b.runs.work for b in told]).runs["dag_id"]) == ["default/good", "default/odd"]


def test_no_configuration_is_an_error_with_what_to_do(tmp_path: Path) -> None:
    (found,) = source_of(Now(FakeKubernetes()), tmp_path / "none").examine()
    assert found.state == "bad"
    assert "kubeconfig" in found.hint


class Still(FakeKubernetes):
    """Its time goes on only when it is told to."""

    def now(self) -> float:
        return epoch(NOW) + self.offset


class Reader:
    """One cluster read into one store by a clock that is not the cluster's."""

    def __init__(self, cluster: FakeKubernetes, kubeconfig: Path, ahead: float) -> None:
        self.clock, self.kubeconfig = Now(cluster, ahead), kubeconfig
        self.ports = memory_ports()
        self.restart()

    def restart(self) -> None:
        self.made = source_of(self.clock, self.kubeconfig)

    def source(self) -> KubernetesSource:
        return self.made

    def now(self) -> datetime:
        return self.clock.now()

    def read(self) -> Applied:
        return read(self, self.ports)  # type: ignore[arg-type]

    def tasks(self) -> Any:
        return self.ports.work.work(POOL).as_of(self.now()).tasks


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_a_clock_that_is_an_hour_off_is_seen_and_set_right(tmp_path: Path, ahead: float) -> None:
    cluster = Still(page=3)
    with cluster.served(tmp_path) as kubeconfig:
        reader = Reader(cluster, kubeconfig, ahead)
        job = cluster.job("late")
        pod = cluster.pod_of(job, started=False)
        assert reader.read().new == 1
        waiting = reader.ports.work.work(POOL).as_of(reader.now())
        assert waiting.runs["submit"].tolist() == pytest.approx([epoch(reader.now())], abs=1.0)
        assert (waiting.states(reader.now()) == READY).all()  # known as demand at once, neither later nor long ago
        cluster.offset += 40
        cluster.start(pod)
        assert reader.read().changed == 1
        cluster.offset += 60
        cluster.complete(job)
        assert reader.read().changed == 1
        times = reader.tasks()[["ready_at", "started_at", "ended_at"]].to_numpy() - epoch(reader.now())
        assert times == pytest.approx(np.array([[-100.0, -60.0, 0.0]]), abs=1.0)
        reader.restart()
        cluster.offset += 900  # everything is listed again
        assert reader.read() == Applied(same=1)
        (found,) = [f for f in reader.made.examine() if f.what == "clock"]
        assert found.state == "warn"
        assert f"3600 s {'ahead of' if ahead > 0 else 'behind'} ours" in found.found.replace("3599", "3600")


def test_a_clock_that_was_set_right_changes_nothing_that_was_told(tmp_path: Path) -> None:
    cluster = Still(page=3)
    with cluster.served(tmp_path) as kubeconfig:
        reader = Reader(cluster, kubeconfig, 3600.0)
        cluster.pod_of(cluster.job("before"))
        reader.read()
        reader.clock.ahead, cluster.offset = 0.0, cluster.offset - 3600.0
        cluster.pod_of(cluster.job("after"))
        assert reader.read() == Applied(new=1)
        submits = reader.ports.work.work(POOL).runs["submit"].to_numpy() - epoch(reader.now())
        assert submits == pytest.approx(np.zeros(2), abs=1.0)
        assert [f.found for f in reader.made.examine() if f.what == "clock"] == ["agrees with ours"]


def test_priority_is_that_of_the_class_until_there_is_a_pod(cluster: FakeKubernetes, reader: Make) -> None:
    for name, value, default in (("urgent", 1000, False), ("idle", -10, False), ("usual", 7, True)):
        cluster.add("priorityclasses", name, {"value": value, "globalDefault": default}, namespace="")
    for name in ("urgent", "idle"):
        cluster.job(name, pod=pod_spec(priorityClassName=name))
    cluster.job("plain")
    told = cluster.job("told", pod=pod_spec(priorityClassName="idle"))
    cluster.pod_of(told)["spec"]["priority"] = 3  # as it was when the pod was made
    template = {"spec": {"template": {"spec": pod_spec(priorityClassName="urgent")}}}
    cluster.add("cronjobs", "nightly", {"spec": {"schedule": "@daily", "jobTemplate": template}})

    def seen() -> dict[str, int]:
        runs = work(reader()).runs
        return dict(zip(runs["dag_id"].str.removeprefix("default/"), runs["priority"].tolist(), strict=True))

    assert seen() == {"urgent": 1000, "idle": -10, "plain": 7, "told": 3}
    shapes = batches(reader())[0].shapes
    assert shapes is not None
    assert shapes.work.runs["priority"].tolist() == [1000]
    cluster.rights.discard(("scheduling.k8s.io", "priorityclasses"))
    assert seen() == {"urgent": 0, "idle": 0, "plain": 0, "told": 3}
    (found,) = [f for f in reader().examine() if f.what == "priority classes"]
    assert (found.state, found.found) == ("ok", "not read: a Job has priority 0 until it has pods")


@pytest.mark.parametrize("versions", [("v1beta1",), ("v1beta2", "v1beta1"), ("v1beta2",), ("v1",)])
def test_kueue_is_read_in_the_version_that_the_cluster_offers(
    cluster: FakeKubernetes, reader: Make, versions: tuple[str, ...]
) -> None:
    cluster.kueue_versions = versions
    job = cluster.job("queued", spec={"suspend": True}, body={"labels": {QUEUE_LABEL: "gold"}})
    owner = {"kind": "Job", "name": "queued", "uid": job["metadata"]["uid"]}
    cluster.condition(cluster.add("workloads", "job-queued", {"spec": {}}, owner=owner), "QuotaReserved", "True")
    for source in (reader(), reader("default")):
        runs = work(source).runs
        assert (runs["due"] - runs["submit"] < 60).all(), "its quota is set aside: it waits for nodes"
    assert [f.found for f in reader().examine() if f.what == "Kueue"] == [f"{versions[0]}: its workloads are read"]
    cluster.kueue = False
    assert [f.found for f in reader().examine() if f.what == "Kueue"] == ["is not installed"]


def test_a_node_selector_can_be_the_queue_that_routes_match(cluster: FakeKubernetes, reader: Make) -> None:
    picked = pod_spec(nodeSelector={"preprov.io/pool": "gpu", "kubernetes.io/os": "linux"})
    cluster.job("train", pod=picked, body={"labels": {QUEUE_LABEL: "gold"}})
    cluster.job("plain")
    template = {"spec": {"template": {"spec": picked}}}
    cluster.add("cronjobs", "nightly", {"spec": {"schedule": "@daily", "jobTemplate": template}})
    pod = cluster.add("pods", "flow-x", {"spec": picked, "labels": {"dag_id": "flow", "run_id": "r"}})
    cluster.start(pod)

    def queues(**settings: str) -> tuple[list[str], dict[str, tuple[str, ...]]]:
        first, *rest = batches(reader(**settings))
        return sorted(q for b in rest for q in b.runs.queues), dict(first.dag_queues)

    assert queues() == (["default", "default", "gold"], {"default/nightly": ("default",)})
    by_node = queues(queue_key="preprov.io/pool")
    assert by_node == (["default", "gpu", "gpu"], {"default/nightly": ("gpu",)})
