"""Airflow at the size of a company, and Airflow at its worst: a generated API, the real reader, the real store."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
import stamina

from preprov.contracts import Ports
from preprov.control.context import Context
from preprov.control.forecasting import analyze_queue
from preprov.control.routing import Router
from preprov.control.syncing import SyncResult, sync
from preprov.model.errors import SourceError
from preprov.model.reference import reference_pool
from preprov.planning.prices import TablePriceBook
from preprov.sim.clock import VirtualClock
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import basic, exchanged
from preprov.store.database import open_store
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag
from tests.integration.airflow.busy import BusyAirflow

START = datetime(2025, 3, 4, 18, 0, tzinfo=UTC)
POOL = "batch"
LONG = bool(os.environ.get("PREPROV_LONG"))
HOURS = 6.0 if LONG else 0.5
"""For which an Airflow of that size is followed, after as long a past; six take many minutes."""
WHOLE = 50_000
RUNS = {"v1": WHOLE if LONG else WHOLE // 10, "v2": WHOLE}
"""All of them are about a minute of work for each version of the API."""


@pytest.fixture(autouse=True)
def _no_waiting():
    with stamina.set_testing(True, attempts=4):
        yield


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a figure that was measured."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return write


@pytest.fixture
def ports(tmp_path: Path):
    store = open_store("", tmp_path)
    yield store.ports()
    store.close()


def context(ports: Ports, clock: VirtualClock) -> Context:
    pool = reference_pool(POOL)
    return Context(ports, {}, {}, TablePriceBook.from_pools([pool]), clock, {POOL: pool})


def source(airflow: FakeAirflow, clock: VirtualClock, **more: object) -> AirflowSource:
    tokens = exchanged("http://af", "me", lambda: "pw")
    credential = tokens if airflow.version == "v2" else basic("me", lambda: "pw")
    settings = AirflowSettings("prod", "http://af", credential, **{"history_days": 1.0, **more})
    return AirflowSource(settings, clock, transport=airflow.transport())


def missing_or_wrong(ports: Ports, airflow: FakeAirflow, *, until: float, shift_s: float = 0.0) -> list[str]:
    """Runs that ended by then and are not in the store as they ended."""
    work = ports.work.work(POOL)
    ends = work.tasks.groupby(work.runs["run_id"].to_numpy()[work.tasks["run"]])["ended_at"].max().to_dict()
    over = ((f"{r.dag_id}/{r.run_id}", r.end) for r in airflow.runs.values() if r.end is not None and r.end < until)
    return [name for name, end in over if name not in ends or abs(ends[name] + shift_s - end) > 1.5]


@pytest.mark.timeout(1800)
def test_sixty_thousand_task_runs_a_day_are_followed_for_a_while_within_two_requests_a_second(ports, say):
    clock = VirtualClock(START)
    busy = BusyAirflow(clock)
    clock.sleep(HOURS * 3600)
    busy.advance(clock.now())  # a past to be read
    past = busy.tasks
    ctx, reader, router = context(ports, clock), source(busy.airflow, clock), Router(default=POOL)
    began, passes, took = clock.now(), list[SyncResult](), list[float]()
    wall = time.perf_counter()
    while clock.now() < began + timedelta(hours=HOURS):
        passes.append(sync(ctx, reader, router))
        took.append(passes[-1].seconds)
        clock.sleep(max(30.0 - took[-1], 0.0))
    wall = (time.perf_counter() - wall) / len(passes)
    known = {r.run_id for r in ports.sources.state("prod").open}
    really = {f"{r.dag_id}/{r.run_id}" for r in busy.airflow.runs.values() if r.end is None}

    asked = np.array([t for t, _ in busy.airflow.log])
    second = np.searchsorted(asked, asked + 0.999) - np.arange(len(asked))
    rate = (busy.tasks - past) * 24 / HOURS
    shorter = "" if LONG else " (PREPROV_LONG=1: for six)"
    say(
        f"{rate:.0f} task runs a day, followed for {HOURS:g} h{shorter}: {len(asked) / (HOURS * 3600):.2f} requests/s "
        f"on average, {second.max()} in the busiest second; a pass takes {np.median(took):.0f} s of {30} (p99 "
        f"{np.quantile(took, 0.99):.0f} s) and {wall * 1000:.0f} ms of work"
    )
    assert rate > 55_000
    assert second.max() <= 2
    assert np.quantile(took, 0.99) <= 60
    assert ports.work.work(POOL).runs["run_id"].is_unique
    assert missing_or_wrong(ports, busy.airflow, until=clock.now().timestamp() - 90) == []
    assert len(known ^ really) <= 15, "open runs are known but for those of the last moments"
    queue = analyze_queue(ctx, ctx.pool(POOL)).as_dict("cpu")
    assert queue["running"]["runs"] + queue["queued"]["runs"] > 5


NAMES = ("größe_ночь_夜", "x" * 250, "a.b-c", "ünï" * 60, "plain")


class Trouble:
    """Faults at random in what an Airflow answers, and a DAG that is deleted between two pages."""

    def __init__(self, airflow: FakeAirflow, seed: int) -> None:
        self.airflow, self.rng = airflow, np.random.default_rng(seed)
        self.strikes: Counter[str] = Counter()
        airflow.faults.append(self.strike)

    def strike(self, request: httpx.Request) -> httpx.Response | None:
        if "/list" in request.url.path and self.airflow.asked % 97 == 40 and "doomed" in self.airflow.dags:
            self.strikes["DAG deleted between two pages"] += 1
            self.airflow.delete_dag("doomed")
        name = ("time-out", "500", "truncated", "")[np.searchsorted((0.01, 0.02, 0.03), self.rng.random())]
        if self.airflow.asked % 500 == 60:
            name = "gone for a while"
        self.strikes.update([name] if name else [])
        if name == "time-out":
            raise httpx.ReadTimeout("", request=request)
        if name == "500":
            return httpx.Response(500, text="Internal Server Error")
        if name == "truncated":
            whole = self.airflow._routed(request).content
            return httpx.Response(200, content=whole[: len(whole) // 2])
        if name:
            self.airflow.answers = 0
        return None


def many_runs(airflow: FakeAirflow, total: int) -> None:
    """Runs of four weeks, a few of them still open, of DAGs with awkward names."""
    rng = np.random.default_rng(3)
    load = "lädt " + "y" * 200
    for name in (*NAMES, "doomed"):
        airflow.add_dag(FakeDag(name, (("extract", (load,), {}), (load, (), {}))))
    for i in range(total):
        name = "doomed" if i % 1000 == 0 else NAMES[i % len(NAMES)]
        at = airflow.now() - float(rng.uniform(90, 27 * 86400))
        run = airflow.start_run(name, f"manual__{i}", at=at)
        if i % 500:
            airflow.play(run, at=at + 10, seconds=5.0)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_tens_of_thousands_of_runs_come_through_everything_that_goes_wrong(ports, version, say):
    total = int(os.environ.get("PREPROV_TEST_RUNS") or RUNS[version])
    clock = VirtualClock(START)
    airflow = FakeAirflow(clock, version=version)
    airflow.skew_s = 3600.0
    many_runs(airflow, total)
    trouble = Trouble(airflow, seed=5)
    ctx, router = context(ports, clock), Router(default=POOL)

    def started() -> AirflowSource:
        return source(airflow, clock, requests_per_second=1000, history_days=28.0, patience_s=1e9)

    reader, errors, passes, more = started(), list[SourceError](), 0, True
    while more and passes < 300:
        passes += 1
        try:
            more = sync(ctx, reader, router).more
        except SourceError as error:
            errors.append(error)
            airflow.answers = None
            reader = started() if len(errors) % 3 == 0 else reader  # as when the process was started anew
    airflow.faults.clear()
    clock.sleep(30)
    sync(ctx, reader, router)
    work = ports.work.work(POOL)
    fewer = "" if total >= WHOLE else f" (of a history of {total}, not {WHOLE}: PREPROV_LONG=1)"
    how = f"{passes} passes, {len(errors)} broken off, {airflow.asked} requests"
    say(f"API {version}: {len(work.runs)} runs{fewer} in {how}; {dict(trouble.strikes)}")
    wanted = {f"{r.dag_id}/{r.run_id}": r for r in airflow.runs.values()}
    assert errors
    assert all(e.retryable and e.hint for e in errors)
    assert not more
    assert "doomed" not in airflow.dags
    assert work.runs["run_id"].is_unique
    extra = set(work.runs["run_id"]) - set(wanted)
    assert all(r.startswith("doomed/") for r in extra), "of a deleted DAG what was read before is history"
    assert {r.run_id for r in ports.sources.state("prod").open} == {r for r, run in wanted.items() if run.end is None}
    assert missing_or_wrong(ports, airflow, until=np.inf, shift_s=3600.0) == []
