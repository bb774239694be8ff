"""A Prometheus at its worst: fifty thousand pods, and all that goes wrong while what they use is read into a store."""

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from preprov.control.context import Context
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.errors import SourceError
from preprov.model.pools import Pool
from preprov.planning.prices import TablePriceBook
from preprov.sim.clock import VirtualClock
from preprov.sources.prometheus import PrometheusSettings, PrometheusSource, UsageQuery
from preprov.store.database import open_store
from preprov.testing.fake_prometheus import FakePrometheus, refused

PODS = int(os.environ.get("PREPROV_TEST_PODS", "50000"))
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
STEP_S, CHUNK_S, CHUNKS = 300.0, 600.0, 2
QUERIES = (
    UsageQuery("cpu", "cpu", "millicores", "{namespace}/{pod}#0"),
    UsageQuery("memory", "memory", "bytes", "{namespace}/{pod}#0"),
)
NAMES = ("plain", "größe-ночь-夜", "x" * 250, "a'b\"c;-- %s \\", "etl.b-c")
KINDS = ("500", "time-out", "cut off", "429", "a part did not answer", "too much at once")


class Hostile(FakePrometheus):
    """Pods some of which end, or begin, between two chunks; seven of its first ten answers, at random, are faults."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.doomed = set(np.random.default_rng(7).choice(10, 7, replace=False).tolist())
        self.strikes: Counter[str] = Counter()
        newest = (NOW.timestamp() - 60.0) // STEP_S * STEP_S
        self.instants = [newest - i * STEP_S for i in range(2 * CHUNKS)][::-1]
        self.lives: dict[str, tuple[float, float]] = {}
        for i in range(PODS):
            first = self.instants[2] if i % 500 == 1 else 0.0
            last = self.instants[1] if i % 500 == 2 else self.instants[0] if i == 3 else 1e12
            pod = f"{NAMES[i % len(NAMES)] if i % 50 < 5 else NAMES[0]}-{i}"
            self.lives[f"ns/{pod}#0"] = first, last
            labels = {"namespace": "ns", "pod": pod}
            for query, amount in (("cpu", i % 4000), ("memory", i * 2**20)):
                self.series.setdefault(query, []).append(
                    (labels, lambda t, a=amount, f=first, z=last: a if f <= t <= z else None)
                )

    def expected(self, claimant: str) -> list[float]:
        first, last = self.lives[claimant]
        return [t for t in self.instants if first <= t <= last]

    def range(self, form: Mapping[str, str]) -> httpx.Response:
        kind = KINDS[self.strikes.total() % len(KINDS)] if len(self.asked) - 1 in self.doomed else ""
        if kind:
            self.strikes[kind] += 1
        answer = None
        if kind == "500":
            answer = httpx.Response(500, text="<html>oops")
        elif kind == "429":
            answer = httpx.Response(429)
        elif kind == "time-out":
            raise httpx.ReadTimeout("timed out")
        elif kind == "too much at once" and form["start"] != form["end"]:
            answer = refused("execution", "query processing would load too many samples into memory", 422)
        answer = answer or super().range(form)
        if kind == "cut off":
            return httpx.Response(200, content=answer.content[: len(answer.content) // 2])
        if kind == "a part did not answer":
            content = answer.content[:-1] + b',"warnings":["No StoreAPIs matched for this query"]}'
            return httpx.Response(200, content=content)
        return answer


@pytest.mark.timeout(600)
def test_fifty_thousand_pods_come_through_everything_that_goes_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = VirtualClock(NOW)
    there = Hostile(clock)
    store = open_store("", tmp_path)
    ports = store.ports()
    ctx = Context(ports, {}, {}, TablePriceBook.from_pools(list[Pool]()), clock, {})
    settings = PrometheusSettings(
        name="used",
        url="http://pm:9090",
        queries=QUERIES,
        requests_per_second=1e6,
        step_s=STEP_S,
        chunk_s=CHUNK_S,
        history_days=(len(there.instants) - 1) * STEP_S / 86_400,
    )
    errors: list[SourceError] = []
    began, samples, passes, cursors = time.perf_counter(), 0, 0, [""]

    def started() -> PrometheusSource:
        return PrometheusSource(settings, clock, transport=there.transport())

    reader, done = started(), False
    while not done:
        passes += 1
        assert passes < 100, "no pass came through"
        try:
            result = sync(ctx, reader, Router(default="batch"))
        except SourceError as e:
            errors.append(e)
            reader = started() if len(errors) % 3 == 0 else reader  # as when the process was started anew
        else:
            samples, done = samples + result.samples, not result.more
        cursors.append(ports.sources.state("used").cursor)
    kept = ports.samples.summaries(there.lives)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{PODS} pods in {passes} passes, {len(errors)} broken off, {len(there.asked)} requests, "
            f"{time.perf_counter() - began:.0f} s; {dict(there.strikes)}\n"
        )
    assert set(KINDS) <= set(there.strikes), "a fault that never came shows nothing"
    assert errors
    assert all(e.retryable and e.hint and "http://pm:9090" in e.where for e in errors)
    assert sorted(cursors) == cursors, "each pass went on where the one before had come to"
    assert len(set(cursors)) > 2
    wrong = {c: (s.samples, there.expected(c)) for c, s in kept.items() if s.samples != len(there.expected(c))}
    assert not wrong, "nothing lost, nothing twice"
    assert kept.keys() == there.lives.keys()
    some = [c for c, (first, last) in there.lives.items() if first or last < 1e12][:200]
    for claimant, told in ports.samples.series(some).items():
        assert [u.at for u in told] == there.expected(claimant), "a series that ended is absent from then on"
        assert all(u.cpu is not None and u.memory is not None for u in told)
    assert sync(ctx, started(), Router(default="batch")).samples == 0
    store.close()
