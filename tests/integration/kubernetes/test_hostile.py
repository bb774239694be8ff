"""Kubernetes at its worst: fifty thousand Jobs, and all that goes wrong while they are read into a real store."""

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import stamina

from preprov.control.context import Context
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.errors import SourceError
from preprov.model.reference import reference_pool
from preprov.model.time import from_epoch
from preprov.planning.prices import TablePriceBook
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes import client as kubernetes_client
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.mirror import WHOLE_S
from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from preprov.sources.text import clean
from preprov.store.database import open_store
from preprov.testing.fake_kubernetes import FakeKubernetes, Json, status

POOL = "batch"
JOBS = int(os.environ.get("PREPROV_TEST_RUNS", "50000"))
NAMES = ("größe_ночь_夜", "x" * 1000, "a.b-c", "ü\u202eñ 'x\"; --", "plain")
AHEAD_S = 3600.0
NOON = 1_780_000_000.0
TIMEOUT_S = 2.0
ROUNDS = 6
"""Of changes after everything was listed."""
GONE = "410 in the middle of a list"
DELETED = "Job deleted between two pages"
FORGOTTEN = "410 of a watch"
KINDS = ("500", "429", "time-out", "truncated", "gone for a while", GONE, DELETED, FORGOTTEN)


class Hostile(FakeKubernetes):
    """A cluster with faults at random in what it answers, on a clock that only goes on when it is told to."""

    def __init__(self) -> None:
        super().__init__(page=max(JOBS // 100, 1))
        self.rng = np.random.default_rng(5)
        self.strikes: Counter[str] = Counter()
        self.quiet = False
        self.doomed: list[Json] = []
        self.down = self.watches = 0

    def now(self) -> float:
        return NOON + self.offset

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Json) -> tuple[int, Json]:
        if self.quiet:
            return super().answer(method, path, query, body)
        if self.asked % 70 == 45 and self.doomed:
            self.strikes[DELETED] += 1
            self.delete(self.doomed.pop())
        if self.asked in (60, 90) and "continue" in query:
            self.strikes[GONE] += 1
            self.forget = 1
        if "watch" in query and not self.strikes[FORGOTTEN] and self.watches == 7:
            self.strikes[FORGOTTEN] += 1
            self.journal.forget()
        self.watches += "watch" in query
        if self.asked % 250 == 30:
            self.strikes["gone for a while"] += 1
            self.down = 6
        at = self.rng.random()
        if self.down or at < 0.02:
            self.down = max(self.down - 1, 0)
            self.asked += 1
            self.strikes["500"] += 1
            return 500, status(500, "InternalError")
        if at < 0.05:
            self.strikes["429"] += 1
            return 429, status(429, "TooManyRequests")
        if at < 0.07 and self.strikes["time-out"] < 3:
            self.strikes["time-out"] += 1
            time.sleep(1.5 * TIMEOUT_S)
        return super().answer(method, path, query, body)

    def garble(self, payload: bytes) -> bytes:
        if not self.quiet and self.rng.random() < 0.02:
            self.strikes["truncated"] += 1
            return payload[: len(payload) // 2]
        return payload


class Now:
    """The clock of whoever reads: the cluster's is an hour before it."""

    def __init__(self, cluster: FakeKubernetes) -> None:
        self.cluster = cluster

    def now(self) -> datetime:
        return from_epoch(self.cluster.now() - AHEAD_S)

    def sleep(self, seconds: float) -> None:
        del seconds


def run_id(job: Json) -> str:
    meta = job["metadata"]
    return clean(f"{meta['namespace']}/{meta['name']}@{meta['uid'][:8]}")


def fill(cluster: Hostile, count: int) -> None:
    """Jobs of the last hours, every fifth with its pod; one in fifty goes on, and some of those will vanish."""
    for i in range(count):
        cluster.offset += 1.0
        body = {"labels": {"team": NAMES[i % len(NAMES)]}}
        job = cluster.job(f"{NAMES[i % len(NAMES)]}-{i}", body=body, namespace="größe" if i % 7 == 0 else "default")
        pod = cluster.pod_of(job, started=False) if i % 5 == 0 else None
        if pod is not None:
            cluster.place(pod, "n" * 250)
            cluster.start(pod)
        if i % 50:
            at = job["metadata"]["creationTimestamp"]
            over = {"type": "Complete", "status": "True", "lastTransitionTime": at}
            job["status"] = {"startTime": at, "completionTime": at, "conditions": [over]}
            if pod is not None:
                cluster.end(pod)
        elif i % max(JOBS // 50, 50) == 0:
            cluster.doomed.append(job)


@pytest.mark.timeout(1800)
def test_fifty_thousand_jobs_come_through_everything_that_goes_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_client, "_TIMEOUT_S", (TIMEOUT_S, TIMEOUT_S))
    cluster = Hostile()
    fill(cluster, JOBS)
    clock = Now(cluster)
    store = open_store("", tmp_path)
    ports = store.ports()
    pool = reference_pool(POOL)
    ctx = Context(ports, {}, {}, TablePriceBook.from_pools([pool]), clock, {POOL: pool})
    router = Router(default=POOL)
    errors: list[SourceError] = []
    passes, began = 0, time.perf_counter()
    with cluster.served(tmp_path, garble=cluster.garble) as kubeconfig, stamina.set_testing(True, attempts=4):

        def started() -> KubernetesSource:
            client = KubernetesClient(RequestBudget(1e6, clock), clock, kubeconfig=kubeconfig)
            return KubernetesSource(KubernetesSettings("cluster"), client)

        def until_done(reader: KubernetesSource) -> KubernetesSource:
            nonlocal passes
            for _ in range(100):
                passes += 1
                try:
                    sync(ctx, reader, router)
                except SourceError as e:
                    errors.append(e)
                    reader = started() if len(errors) % 3 == 0 else reader  # as when the process was started anew
                else:
                    return reader
            raise AssertionError("no pass came through")

        reader = until_done(started())
        still = [j for j in cluster.objects["jobs"].values() if not j["status"].get("completionTime")]
        cluster.offset += 60.0
        cluster.doomed = [j for j in cluster.doomed if j in still[1::2]]  # what has ended is history, deleted or not
        for i in range(ROUNDS):
            for job in still[2 * i :: 2 * ROUNDS]:
                cluster.complete(job)
            for k in range(40):
                cluster.job(f"new-{i}-{k}")
            reader = until_done(reader)
            cluster.offset += 30.0
        cluster.quiet = True
        sync(ctx, reader, router)
        asked = cluster.asked
        goes_on = sync(ctx, started(), router)
        asked = cluster.asked - asked
        cluster.offset += WHOLE_S
        again = sync(ctx, started(), router)
    work = ports.work.work(POOL)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{JOBS} Jobs, {len(work.runs)} runs in {passes} passes, {len(errors)} broken off, {cluster.asked} "
            f"requests, {time.perf_counter() - began:.0f} s; {dict(cluster.strikes)}\n"
        )
    jobs = {run_id(j): j for j in cluster.objects["jobs"].values()}
    assert set(KINDS) <= set(cluster.strikes), "a fault that never came shows nothing"
    assert errors
    assert all(e.retryable and e.hint for e in errors)
    assert work.runs["run_id"].is_unique
    assert set(work.runs["run_id"]) == set(jobs), "nothing lost, nothing twice; what was deleted while it ran is gone"
    assert (goes_on.new, goes_on.changed, goes_on.gone) == (0, 0, 0)
    assert asked < 10, "a process that goes on where another one stopped lists nothing"
    assert (again.new, again.changed, again.gone) == (0, 0, 0)
    over = {r for r, j in jobs.items() if j["status"].get("completionTime")}
    assert {r.run_id for r in ports.sources.state("cluster").open} == set(jobs) - over
    assert (work.runs["submit"] <= clock.now().timestamp() + 1).all(), "an hour of wrong clock is set right"
    store.close()
