"""What Jobs and pods waited for, with delays that are known; read through the real client into a store."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from preprov.control.context import Context
from preprov.control.waits import report
from preprov.demand.waiting.attribution import CAUSES, attribute
from preprov.demand.waiting.nodes import Warming
from preprov.model.reference import reference_pool
from preprov.model.time import from_epoch
from preprov.model.waits import Cause
from preprov.planning.prices import TablePriceBook
from preprov.sim.ports import memory_ports
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.holding import QUEUE_LABEL
from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from preprov.testing.fake_kubernetes import FakeKubernetes, Json, pod_spec, stamp
from preprov.testing.live_source_contract import POOL, read

NOON = 1_780_000_000.0


class Night(FakeKubernetes):
    """A cluster on a clock of its own, and what its Jobs and pods really waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.at = NOON
        self.truth: dict[Cause, float] = defaultdict(float)
        self.warmings: list[Warming] = []

    def now(self) -> float:
        return self.at

    def wait(self, cause: Cause | None, seconds: float) -> None:
        self.at += seconds
        if cause is not None:
            self.truth[cause] += seconds

    def let_in(self, pod: Json, rng: np.random.Generator, node: str) -> None:
        """From when nothing holds it back to its end: perhaps there is no room, then its image is fetched."""
        if rng.random() < 0.5:
            self.hold(pod)
            self.wait(Cause.ROOM, float(rng.integers(20, 200)))
        else:
            self.wait(Cause.SCHEDULER, float(rng.integers(0, 4)))
        self.place(pod, node)
        self.wait(Cause.IMAGE, float(rng.integers(2, 60)))
        self.start(pod)
        self.wait(None, 60.0)


class Place:
    """One reader of it, with a store."""

    def __init__(self, night: Night, kubeconfig: Path) -> None:
        self.night, self.kubeconfig = night, kubeconfig
        self.ports = memory_ports()
        self.restart()

    def restart(self) -> None:
        client = KubernetesClient(RequestBudget(1e6, self), self, kubeconfig=self.kubeconfig, retries=0)
        self.made = KubernetesSource(KubernetesSettings("k"), client)

    def source(self) -> KubernetesSource:
        return self.made

    def now(self) -> datetime:
        return from_epoch(self.night.now())

    def sleep(self, _seconds: float) -> None:
        return None

    def read(self) -> object:
        return read(self, self.ports)  # type: ignore[arg-type]

    def found(self) -> dict[Cause, float]:
        work = self.ports.work.work(POOL).as_of(self.now())
        seconds = attribute(work, (), self.night.warmings, NOON - 1, self.night.now()).seconds.sum(axis=0)
        return {c: float(s) for c, s in zip(CAUSES, seconds, strict=True) if s > 0}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    night = Night()
    with night.served(tmp_path) as kubeconfig:
        yield Place(night, kubeconfig)


def plain(night: Night, name: str, rng: np.random.Generator) -> None:
    job = night.job(name)
    night.wait(Cause.SCHEDULER, 1.0)
    night.let_in(night.pod_of(job, started=False), rng, "n1")
    night.complete(job)


def queued(night: Night, name: str, rng: np.random.Generator) -> None:
    """Kueue sets a quota aside after a while; it tells when, whether anybody looked or not."""
    job = night.job(name, spec={"suspend": True}, body={"labels": {QUEUE_LABEL: "gold"}})
    owner = {"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
    workload = night.add("workloads", f"job-{name}", {"spec": {}}, owner=owner)
    night.condition(workload, "QuotaReserved", "False", "Pending")
    night.wait(Cause.QUOTA, float(rng.integers(30, 300)))
    night.condition(workload, "QuotaReserved", "True", "QuotaReserved")
    night.resume(job)
    night.let_in(night.pod_of(job, started=False), rng, "n2")
    night.complete(job)


def paused(night: Night, name: str, rng: np.random.Generator) -> None:
    job = night.job(name, spec={"suspend": True})
    night.wait(Cause.HELD, float(rng.integers(30, 300)))
    night.resume(job)
    night.let_in(night.pod_of(job, started=False), rng, "n3")
    night.complete(job)


def one_by_one(night: Night, name: str, rng: np.random.Generator) -> None:
    """Three completions, two abreast: the third begins as the second ends, which is the first to do so."""
    job = night.job(name, spec={"completions": 3, "parallelism": 2})
    first, second = (night.pod_of(job, i, started=False) for i in (0, 1))
    for pod in (first, second):
        night.place(pod, "n1")
    for _ in (first, second):
        night.truth[Cause.IMAGE] += 7
    night.wait(None, 7.0)
    night.start(first)
    night.start(second)
    night.wait(None, 50.0)
    night.end(second)
    night.wait(Cause.SCHEDULER, 1.0)
    night.let_in(night.pod_of(job, 2, started=False), rng, "n1")
    night.complete(job)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("looks", ["all the time", "once, afterwards"])
def test_each_delay_is_found_within_a_tenth_and_hardly_anything_is_unknown(place: Place, seed: int, looks: str) -> None:
    rng, night = np.random.default_rng(seed), place.night
    kinds: tuple[Callable[[Night, str, np.random.Generator], None], ...] = (plain, queued, paused, one_by_one)
    for i in range(24):
        kinds[i % len(kinds)](night, f"job{chr(97 + i)}", rng)
        if looks == "all the time":
            place.read()
    place.read()
    found = place.found()
    for cause in (Cause.QUOTA, Cause.HELD, Cause.ROOM, Cause.IMAGE):
        assert night.truth[cause] > 100, f"{cause} is hardly there: this shows nothing of it"
        assert found[cause] == pytest.approx(night.truth[cause], rel=0.1), cause
    assert found.get(Cause.SCHEDULER, 0.0) == pytest.approx(night.truth[Cause.SCHEDULER], abs=24)
    assert found.get(Cause.UNKNOWN, 0.0) <= 0.05 * sum(found.values())


def test_a_gate_is_seen_to_open_by_a_pass_and_remembered(place: Place) -> None:
    night = place.night
    pod = night.add("pods", "gated", {"spec": {**pod_spec(), "schedulingGates": [{"name": "example.com/data"}]}})
    pod["status"] = {"phase": "Pending"}
    night.hold(pod, "SchedulingGated")
    place.read()
    assert (place.ports.work.work(POOL).runs["due"] > NOON + 86_400).all()  # no node would help it
    for _ in range(4):
        night.wait(Cause.HELD, 30.0)
        place.read()
    pod["spec"]["schedulingGates"] = []
    night.hold(pod)
    place.restart()  # what was noted is kept by the store
    place.read()
    night.wait(Cause.ROOM, 90.0)
    place.read()
    night.place(pod, "n1")
    night.wait(Cause.IMAGE, 20.0)
    night.start(pod)
    night.wait(None, 60.0)
    night.end(pod)
    place.restart()
    place.read()
    assert place.found() == pytest.approx(dict(night.truth), abs=1.0)
    assert any(k.startswith("gate:") for k in place.ports.sources.state("k").notebook)
    night.objects["pods"].clear()
    place.read()
    assert not any(k.startswith("gate:") for k in place.ports.sources.state("k").notebook)


def test_a_pod_that_kueue_holds_by_its_gate_waits_for_a_quota(place: Place) -> None:
    night = place.night
    spec = {**pod_spec(), "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}
    pod = night.add("pods", "etl", {"spec": spec, "labels": {QUEUE_LABEL: "gold"}})
    pod["status"] = {"phase": "Pending"}
    owner = {"kind": "Pod", "name": "etl", "uid": pod["metadata"]["uid"]}
    workload = night.add("workloads", "pod-etl", {"spec": {}}, owner=owner)
    night.wait(Cause.QUOTA, 120.0)
    night.condition(workload, "QuotaReserved", "True")
    place.read()
    assert (place.ports.work.work(POOL).runs["due"] < NOON + 86_400).all()  # it waits for nodes by now
    night.wait(Cause.ROOM, 40.0)
    pod["spec"]["schedulingGates"] = []
    night.place(pod, "n1")
    night.wait(Cause.IMAGE, 15.0)
    night.start(pod)
    night.wait(None, 10.0)
    night.end(pod)
    place.read()
    assert place.found() == pytest.approx(dict(night.truth), abs=1.0)


def test_a_node_that_came_up_for_it_tells_the_stages(place: Place) -> None:
    night = place.night
    job = night.job("cold")
    pod = night.pod_of(job, started=False)
    night.hold(pod)
    night.wait(Cause.ROOM, 15.0)
    stages = {"allocate": 20.0, "boot": 60.0, "join": 10.0}
    for stage, seconds in stages.items():
        night.wait(Cause(stage), seconds)
    night.warmings.append(Warming("warm-1", night.at - 90, night.at, stages))
    night.place(pod, "warm-1")
    night.wait(Cause.IMAGE, 25.0)
    night.start(pod)
    night.wait(None, 30.0)
    night.complete(job)
    place.read()
    assert place.found() == pytest.approx(dict(night.truth), abs=1.0)


@pytest.mark.parametrize("which", ["containerStatuses", "initContainerStatuses"])
@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_cannot_be_pulled_is_the_cause_and_is_named(place: Place, reason: str, which: str) -> None:
    night = place.night
    job = night.job("etl")
    pod = night.pod_of(job, started=False)
    night.place(pod, "n1")
    night.wait(Cause.IMAGE, 10.0)
    night.stuck(pod, reason, which)
    place.read()
    assert place.ports.work.work(POOL).tasks["slot_of"].tolist() == ["image/k/registry/etl:1"]
    assert place.ports.work.work(POOL).tasks["images"].tolist() == ["registry/etl:1"]
    night.wait(Cause.IMAGE, 300.0)
    pod["status"].pop(which)
    night.start(pod)
    place.restart()  # what was seen is kept by the store
    night.wait(None, 30.0)
    night.complete(job)
    place.read()
    assert place.found() == pytest.approx(dict(night.truth), abs=1.0)
    pool = reference_pool(POOL)
    ctx = Context(place.ports, {}, {}, TablePriceBook.from_pools([pool]), place, {POOL: pool})
    (cause,) = report(ctx, [POOL], from_epoch(NOON - 1)).causes
    assert (cause.cause, cause.source, cause.name, cause.family) == (Cause.IMAGE, "k", "registry/etl:1", "image")
    assert cause.words() == "image registry/etl:1"
    night.objects["pods"].clear()
    place.read()
    assert not any(k.startswith("image:") for k in place.ports.sources.state("k").notebook)


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_a_container_that_is_just_being_made_names_no_image(place: Place, reason: str) -> None:
    night = place.night
    pod = night.pod_of(night.job("etl"), started=False)
    night.place(pod, "n1")
    night.stuck(pod, reason)
    place.read()
    assert place.ports.work.work(POOL).tasks["slot_of"].tolist() == [""]


def test_the_pod_before_it_failed_and_that_was_no_waiting(place: Place) -> None:
    night = place.night
    job = night.job("again")
    first = night.pod_of(job)
    del first["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
    night.wait(None, 300.0)
    night.end(first, "Failed")
    night.wait(None, 10.0)  # the back-off
    second = night.pod_of(job, started=False)
    del second["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
    night.place(second, "n1")
    night.wait(Cause.IMAGE, 5.0)
    night.start(second)
    night.wait(None, 30.0)
    night.complete(job)
    place.read()
    assert place.found() == {Cause.IMAGE: 5.0}
    assert place.ports.work.work(POOL).tasks["attempt"].tolist() == [2]


def test_what_an_init_container_does_is_work_and_not_waiting(place: Place) -> None:
    night = place.night
    job = night.job("init")
    pod = night.pod_of(job, started=False)
    night.place(pod, "n1")
    night.wait(Cause.IMAGE, 12.0)
    told = {"startedAt": stamp(night.at), "finishedAt": stamp(night.at + 199)}
    pod["status"]["initContainerStatuses"] = [{"state": {"terminated": told}}]
    night.wait(None, 200.0)
    night.start(pod)
    night.wait(None, 10.0)
    night.complete(job)
    place.read()
    assert place.found() == {Cause.IMAGE: 12.0}
