"""Prefect at its worst: fifty thousand runs, and everything that goes wrong while they are read into a real store."""

import os
import sys
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from preprov.contracts import Ports
from preprov.control.context import Context
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.errors import SourceError
from preprov.model.reference import reference_pool
from preprov.planning.prices import TablePriceBook
from preprov.sim.clock import VirtualClock
from preprov.sources.prefect import PrefectSettings, PrefectSource
from preprov.sources.prefect.runs import FLOW
from preprov.store.database import open_store
from preprov.testing.fake_prefect import FakePrefect
from preprov.testing.store_examples import T0

POOL = "batch"
RUNS = int(os.environ.get("PREPROV_TEST_RUNS", "50000"))
NAMES = ("größe/ночь 夜 🌙", "x" * 1000, "a.b-c", "ü\u202eñ 'x\"; --", "plain")
LOAD = "lädt " + "y" * 500
DAY_S = 86_400.0


class Trouble:
    """Faults at random in what a Prefect answers; a flow, and a deployment, that are deleted between two pages."""

    def __init__(self, prefect: FakePrefect, going: str) -> None:
        self.prefect, self.going = prefect, going
        self.rng = np.random.default_rng(5)
        self.strikes: Counter[str] = Counter()
        prefect.faults.append(self.strike)

    def strike(self, request: httpx.Request) -> httpx.Response | None:
        self._delete(request.url.path)
        name = ("time-out", "500", "503", "truncated", "")[
            np.searchsorted((0.004, 0.008, 0.012, 0.016), self.rng.random())
        ]
        if self.prefect.asked % 700 == 60:
            name = "gone for a while"
            self.prefect.answers = 0
        self.strikes.update([name] if name else [])
        if name == "time-out":
            raise httpx.ReadTimeout("", request=request)
        if name in ("500", "503"):
            return httpx.Response(int(name), text="Internal Server Error")
        if name == "truncated":
            whole = self.prefect.routed(request).content
            return httpx.Response(200, content=whole[: len(whole) // 2])
        return None

    def _delete(self, path: str) -> None:
        asked = self.prefect.asked
        if path.endswith("/task_runs/filter") and asked > 120 and any(r.flow == "doomed" for r in self.runs):
            self.strikes["flow deleted between two pages"] += 1
            self.prefect.delete_flow("doomed")
        if path.endswith("/flow_runs/filter") and asked > 200 and self.going in self.prefect.deployments:
            self.strikes["deployment deleted between two pages"] += 1
            self.prefect.delete_deployment(self.going)

    @property
    def runs(self):
        return self.prefect.runs.values()


def history(prefect: FakePrefect, count: int) -> str:
    """Runs of four weeks, a few of them still open, of flows with awkward names; returns a deployment that will go."""
    rng = np.random.default_rng(3)
    deployments = {name: prefect.deploy(name, f"{name} nightly", {"cron": "0 2 * * *"}) for name in (*NAMES, "doomed")}
    going = prefect.deploy("plain", "going", {"cron": "0 3 * * *"})
    for i in range(count):
        name = "doomed" if i % 1000 == 0 else NAMES[i % len(NAMES)]
        deployment = going if i % 1000 == 4 else deployments[name]
        at = prefect.now() - float(rng.uniform(90, 27 * DAY_S))
        run = prefect.start_run(name, "extract", LOAD, deployment=deployment, created=at, start=at + 5, expected=at)
        if i % 500:
            run.state, run.end = "COMPLETED", at + 20
            for task in run.tasks:
                task.start, task.end, task.state = at + 6, at + 19, "COMPLETED"
    return going


@pytest.mark.timeout(900)
def test_fifty_thousand_runs_come_through_everything_that_goes_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = VirtualClock(T0)
    prefect = FakePrefect(clock)
    prefect.skew_s = -3600.0
    trouble = Trouble(prefect, history(prefect, RUNS))
    store = open_store("", tmp_path)
    ports: Ports = store.ports()
    pool = reference_pool(POOL)
    ctx = Context(ports, {}, {}, TablePriceBook.from_pools([pool]), clock, {POOL: pool})
    router = Router(default=POOL)

    def started() -> PrefectSource:
        settings = PrefectSettings("prod", "http://pf/api", requests_per_second=1e6, patience_s=1e9)
        return PrefectSource(settings, clock, transport=prefect.transport())

    errors: list[SourceError] = []
    told: Counter[str] = Counter()
    reader, passes, more = started(), 0, True
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        while more and passes < 300:
            passes += 1
            try:
                more = sync(ctx, reader, router).more
            except SourceError as error:
                errors.append(error)
                prefect.answers = None
                reader = started() if len(errors) % 3 == 0 else reader  # as when the process was started anew
        prefect.faults.clear()
        clock.sleep(30)
        quick = prefect.start_run("plain", "extract")
        clock.sleep(5)
        prefect.end_run(quick)
        clock.sleep(30)
        sync(ctx, reader, router)
        told.update(
            r for b in reader.changes(ports.sources.state("prod"), clock.now()) for r in b.runs.work.runs["run_id"]
        )
    work = ports.work.work(POOL)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(work.runs)} runs in {passes} passes and {prefect.asked} requests, {len(errors)} broken off; "
            f"{dict(trouble.strikes)}\n"
        )
    assert not more
    assert errors
    assert all(e.retryable and e.hint for e in errors)
    assert set(trouble.strikes) >= {"flow deleted between two pages", "deployment deleted between two pages"}
    assert work.runs["run_id"].is_unique
    assert set(told) <= {quick.id}, "what was read is not read again, but for the last two minutes"
    dags = dict(zip(work.runs["run_id"], work.runs["dag_id"], strict=True))
    extra = set(dags) - set(prefect.runs)
    assert all(dags[r].startswith("doomed") for r in extra), "of a deleted flow what was read before is history"
    assert {r.run_id for r in ports.sources.state("prod").open} == {r.id for r in trouble.runs if r.end is None}
    names = work.runs["run_id"].to_numpy()[work.tasks["run"]]
    flow = (work.tasks["task_id"] == FLOW).to_numpy()
    ends = dict(zip(names[flow], work.tasks["ended_at"].to_numpy()[flow], strict=True))
    over = {r.id: r.end - prefect.skew_s for r in trouble.runs if r.end is not None}
    assert [r for r, end in over.items() if not abs(ends.get(r, np.nan) - end) <= 1.5] == []
    tasks = work.tasks.groupby(names)["task_id"].nunique()
    wanted = {r.id: 1 + len(r.tasks) for r in trouble.runs}
    assert {r: n for r, n in wanted.items() if tasks[r] != n} == {}
    store.close()
