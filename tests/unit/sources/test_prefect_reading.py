"""Prefect read pass by pass: schedules, late runs, job variables, limits, the DAG that task runs tell of."""

from collections.abc import Mapping
from datetime import timedelta

import httpx
import numpy as np
import pytest

from preprov.contracts import SyncBatch
from preprov.model.errors import SourceError
from preprov.model.waits import Cause, SlotLimit, limit_key
from preprov.sim.clock import VirtualClock
from preprov.sim.ports import memory_ports
from preprov.sources.prefect import PrefectSettings, PrefectSource, Secrets
from preprov.sources.prefect.facts import FlowRun, TaskRun, requests
from preprov.sources.prefect.runs import FLOW, Shape
from preprov.testing.fake_prefect import FakePrefect, FakeTaskRun
from preprov.testing.live_source_contract import POOL, read
from preprov.testing.store_examples import T0

CRON = {"cron": "0 2 * * *", "timezone": "Europe/Zurich"}


class World:
    """A Prefect, a store, a reader."""

    def __init__(self) -> None:
        self.clock = VirtualClock(T0)
        self.prefect = FakePrefect(self.clock)
        self.ports = memory_ports()
        self.reader = self.source()

    def source(self, **more: object) -> PrefectSource:
        how = {"requests_per_second": 1e6, "history_days": 2, "patience_s": 1e9, **more}
        settings = PrefectSettings("prod", "http://pf/api", **how)  # type: ignore[arg-type]
        return PrefectSource(settings, self.clock, transport=self.prefect.transport())

    def now(self):
        return self.clock.now()

    def read(self):
        return read(self, self.ports, self.reader)

    def batches(self) -> list[SyncBatch]:
        return list(self.reader.changes(self.ports.sources.state("prod"), self.now()))

    def tasks(self):
        return self.ports.work.work(POOL).tasks.set_index("task_id")


@pytest.fixture
def world() -> World:
    return World()


def edges(work) -> set[tuple[str, str]]:
    names = work.tasks["task_id"].tolist()
    return {(names[p], names[c]) for p, c in zip(work.parents, work.children, strict=True)}


def test_schedules_of_deployments_are_crons_intervals_or_the_turns_of_their_scheduled_runs(world: World) -> None:
    p = world.prefect
    anchor = "2025-01-01T00:10:00+00:00"
    p.deploy("etl", "nightly", CRON, concurrency_limit=2)
    p.deploy("etl", "even", {"interval": 900.0, "anchor_date": anchor, "timezone": "UTC"})
    odd = p.deploy("etl", "odd", {"rrule": "FREQ=DAILY", "timezone": "UTC"})
    p.deploy("etl", "paused", CRON, paused=True)
    p.deploy("etl", "by hand")
    turns = [T0 + timedelta(hours=h) for h in (5, 29)]
    for t in turns:
        p.start_run("etl", deployment=odd, state="SCHEDULED", start=None, expected=t.timestamp(), auto=True)
    world.read()
    found = {s.dag_id: s for s in world.ports.work.schedules(POOL)}
    assert (found["etl/nightly"].cron, found["etl/nightly"].zone) == ("0 2 * * *", "Europe/Zurich")
    assert found["etl/nightly"].max_active_runs == 2
    assert (found["etl/even"].every_s, found["etl/even"].cron) == (900.0, "")
    assert found["etl/odd"].turns == tuple(turns)
    assert found["etl/paused"].paused
    assert found["etl/by hand"].paused, "a deployment without a schedule has no turns"
    assert len(world.ports.work.work(POOL).runs) == 0, "a run that its schedule made ahead of time is a turn yet"


def test_a_late_run_waits_and_one_that_was_asked_for_ahead_is_due_then(world: World) -> None:
    p = world.prefect
    d = p.deploy("etl", "nightly", CRON)
    late = p.start_run("etl", deployment=d, state="SCHEDULED", start=None, expected=p.now() - 60, auto=True)
    due = p.now() + 600
    ahead = p.start_run("etl", deployment=d, state="SCHEDULED", start=None, expected=due)
    world.read()
    runs = world.ports.work.work(POOL).runs.set_index("run_id")
    assert set(runs.index) == {late.id, ahead.id}
    assert runs["due"][ahead.id] == due
    assert (runs["trigger"][late.id], runs["trigger"][ahead.id]) == ("scheduled", "manual")
    assert runs["scheduled_for"][late.id] == late.expected
    assert world.tasks()["started_at"].isna().all()


def test_what_a_run_asks_for_is_in_its_job_variables_and_its_tasks_take_nothing_besides(world: World) -> None:
    p = world.prefect
    p.pools["k8s"] = {
        "name": "k8s",
        "type": "kubernetes",
        "concurrency_limit": 5,
        "base_job_template": {"variables": {"properties": {"cpu": {"default": "500m"}, "memory": {"default": "1Gi"}}}},
    }
    d = p.deploy("etl", "nightly", pool="k8s", queue="high", job_variables={"memory": "4Gi", "image": "etl:1"})
    p.start_run("etl", "extract", "load", deployment=d, variables={"cpu": 2})
    world.read()
    tasks = world.tasks()
    assert tasks.loc[FLOW, ["cpu", "memory"]].tolist() == [2.0, 4.0]
    assert tasks.loc[["extract", "load"], ["cpu", "memory"]].to_numpy().sum() == 0
    assert tasks.loc[FLOW, "slot_of"] == limit_key(Cause.WORK_POOL, "prod", "k8s")
    assert tasks.loc[FLOW, "node"] == "host-1"
    assert tasks["images"].to_dict() == {FLOW: "etl:1", "extract": "", "load": ""}
    (queue,) = {
        q for b in world.source().changes(memory_ports().sources.state("prod"), world.now()) for q in b.runs.queues
    }
    assert queue == "k8s/high"


@pytest.mark.parametrize(
    ("kind", "variables", "expected"),
    [
        ("ecs", {"cpu": 2048, "memory": 4096}, (2.0, 4.0, np.nan)),
        ("cloud-run", {"cpu": "1000m", "memory": "512Mi"}, (1.0, 0.5, np.nan)),
        ("kubernetes", {"cpu_request": "2", "memory_request": "8Gi", "gpu": 1}, (2.0, 8.0, 1.0)),
        ("process", {"cpu": "many", "memory": None}, (np.nan, np.nan, np.nan)),
        ("process", {}, (np.nan, np.nan, np.nan)),
    ],
)
def test_job_variables_of_every_kind_of_pool(kind: str, variables: Mapping[str, object], expected: object) -> None:
    np.testing.assert_array_equal(requests(kind, variables), expected)


def test_limits_of_pools_queues_and_deployments_are_told(world: World) -> None:
    p = world.prefect
    p.pools["k8s"] = {"name": "k8s", "type": "kubernetes", "concurrency_limit": 5}
    p.pools["free"] = {"name": "free", "type": "process", "concurrency_limit": None}
    p.queues += [
        {"name": "high", "work_pool_name": "k8s", "concurrency_limit": 2, "priority": 1},
        {"name": "default", "work_pool_name": "k8s", "concurrency_limit": None, "priority": 2},
    ]
    d = p.deploy("etl", "nightly", CRON, pool="k8s", queue="high", concurrency_limit=1)
    p.start_run("etl", deployment=d)
    told = next(b.limits for b in world.batches() if b.limits is not None)
    assert set(told) == {
        SlotLimit(Cause.WORK_POOL, "k8s", 5.0),
        SlotLimit(Cause.WORK_QUEUE, "k8s/high", 2.0),
        SlotLimit(Cause.MAX_ACTIVE_RUNS, "etl/nightly", 1.0),
    }
    world.read()
    assert world.tasks()["slot_of"][FLOW] == limit_key(Cause.WORK_QUEUE, "prod", "k8s/high")


def test_the_priority_of_a_run_is_that_of_its_work_queue_and_the_first_goes_first(world: World) -> None:
    p = world.prefect
    p.pools["k8s"] = {"name": "k8s", "type": "kubernetes", "concurrency_limit": None}
    p.queues += [
        {"name": name, "work_pool_name": "k8s", "concurrency_limit": None, "priority": rank}
        for name, rank in (("high", 1), ("low", 3))
    ]
    for name in ("high", "low"):
        p.start_run("etl", deployment=p.deploy("etl", name, CRON, pool="k8s", queue=name))
    p.start_run("etl")
    world.read()
    runs = world.ports.work.work(POOL).runs
    assert dict(zip(runs["dag_id"], runs["priority"], strict=True)) == {"etl/high": 0, "etl/low": -2, "etl": 0}
    assert {s.dag_id: s.priority for s in world.ports.work.schedules(POOL)} == {"etl/high": 0, "etl/low": -2}
    shapes = world.ports.sources.shapes(POOL, ["etl/low"]).runs
    assert shapes["priority"].tolist() == [-2]
    p.queues[1]["priority"] = 2
    (again,) = [b.runs.work.runs for b in world.batches() if len(b.runs)]
    assert dict(zip(again["dag_id"], again["priority"], strict=True)) == {"etl/low": -1}


def diamond(world: World) -> None:
    """a -> b, c -> d, and d for each of two items."""
    p, run = world.prefect, world.prefect.start_run("etl", deployment=world.prefect.deploy("etl", "nightly", CRON))
    parents: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "d[1]": ("b", "c")}
    ids = {name: p.new_id() for name in parents}
    for i, (name, before) in enumerate(parents.items()):
        made = FakeTaskRun(ids[name], name[:1], p.now() + i * 1e-3, tuple(ids[b] for b in before), start=p.now())
        run.tasks.append(made)
    world.clock.sleep(30)
    p.end_run(run)
    world.clock.sleep(30)


DIAMOND = {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("b", "d[1]"), ("c", "d[1]")}


def test_the_dag_is_inferred_from_a_past_run_and_gives_a_waiting_one_its_tasks(world: World) -> None:
    diamond(world)
    world.read()
    assert edges(world.ports.work.work(POOL)) == DIAMOND
    (deployment,) = world.prefect.deployments
    late = world.prefect.start_run(
        "etl", deployment=deployment, state="SCHEDULED", start=None, expected=world.prefect.now() - 1, auto=True
    )
    for reader in (world.reader, world.source()):  # this process, and the next one, from its notebook
        world.reader = reader
        world.read()
        work = world.ports.work.work(POOL)
        waiting = work.select_runs((work.runs["run_id"] == late.id).to_numpy())
        assert edges(waiting) == DIAMOND
        assert waiting.tasks["task_id"].tolist() == [FLOW, "a", "b", "c", "d", "d[1]"]
    shape = world.ports.sources.shapes(POOL, ["etl/nightly"])
    assert edges(shape) == DIAMOND


def test_a_run_within_a_run_is_not_told_twice(world: World) -> None:
    outer = world.prefect.start_run("outer", "a")
    world.prefect.start_run("inner", "b", parent=outer.tasks[0].id)
    world.read()
    assert world.ports.work.work(POOL).runs["dag_id"].tolist() == ["outer"]


def test_a_run_that_a_run_starts_of_a_deployment_has_a_machine_of_its_own(world: World) -> None:
    p = world.prefect
    p.pools["k8s"] = {"name": "k8s", "type": "kubernetes", "concurrency_limit": None}
    inner = p.deploy("inner", "own", pool="k8s", job_variables={"cpu": 4})
    gone = p.deploy("gone", "own", pool="k8s")
    outer = p.start_run("outer", "a", "b", "c")
    first, second, third = (t.id for t in outer.tasks)
    ended = p.start_run("inner", "x", deployment=inner, parent=first)
    left = p.start_run("gone", "x", deployment=gone, parent=second, pool="k8s")
    world.clock.sleep(60)
    p.end_run(ended)
    p.delete_deployment(gone)
    late = p.start_run("inner", deployment=inner, parent=third, state="SCHEDULED", start=None)
    world.clock.sleep(20)
    world.read()
    work = world.ports.work.work(POOL)
    assert set(work.runs["run_id"]) == {outer.id, ended.id, left.id, late.id}
    flows = work.tasks[work.tasks["task_id"] == FLOW]
    assert sorted(flows["cpu"].tolist()) == [1.0, 1.0, 4.0, 4.0]
    assert {q.dag_id for q in world.ports.sources.state("prod").open} == {"outer", "gone", "inner/own"}


def notes(world: World) -> tuple[str, ...]:
    found = world.source().changes(world.ports.sources.state("prod"), world.now())
    return tuple(n for b in found for n in b.notes)


def test_what_a_paused_work_pool_or_queue_holds_is_not_expected(world: World) -> None:
    p = world.prefect
    p.pools |= {n: {"name": n, "type": "process", "concurrency_limit": None} for n in ("off", "on")}
    p.queues += [
        {"name": name, "work_pool_name": "on", "concurrency_limit": None, "is_paused": name == "off"}
        for name in ("default", "off")
    ]
    p.pools["off"]["is_paused"] = True
    where = {"etl/a": ("off", "default"), "etl/b": ("on", "off"), "etl/c": ("on", "default")}
    for dag, (pool, queue) in where.items():
        d = p.deploy("etl", dag[4:], CRON, pool=pool, queue=queue)
        at = p.now() - 60
        p.start_run("etl", deployment=d, state="SCHEDULED", start=None, expected=at, auto=True)
    assert notes(world) == tuple(
        f"Prefect: work {what} is paused: what it holds is not expected" for what in ("pool off", "queue on/off")
    )
    world.read()
    assert {s.dag_id: s.paused for s in world.ports.work.schedules(POOL)} == {
        "etl/a": True,
        "etl/b": True,
        "etl/c": False,
    }
    horizon = p.now() + 28 * 86_400
    due = world.ports.work.work(POOL).runs.set_index("dag_id")["due"]
    assert (due < horizon).to_dict() == {"etl/a": False, "etl/b": False, "etl/c": True}
    del p.pools["off"]["is_paused"]
    p.queues[1]["is_paused"] = False
    assert notes(world) == ()
    world.read()
    assert not any(s.paused for s in world.ports.work.schedules(POOL))
    assert (world.ports.work.work(POOL).runs["due"] < horizon).all()


def test_a_cron_that_names_no_zone_is_utc_wherever_we_are(world: World) -> None:
    world.prefect.deploy("etl", "nightly", {"cron": "0 2 * * *"})
    world.reader = world.source(zone="Europe/Zurich")
    world.read()
    (found,) = world.ports.work.schedules(POOL)
    assert (found.cron, found.zone) == ("0 2 * * *", "UTC")


def test_a_suspended_run_holds_nothing_until_it_goes_on_and_a_paused_one_keeps_what_it_has(world: World) -> None:
    p = world.prefect
    d = p.deploy("etl", "nightly", job_variables={"cpu": 4, "memory": "8Gi"})
    run = p.start_run("etl", "a", deployment=d)
    for state, suspended, held in (("PAUSED", True, 0.0), ("PAUSED", False, 4.0), ("RUNNING", False, 4.0)):
        run.state, run.suspended = state, suspended
        world.read()
        assert world.tasks()["cpu"][FLOW] == held
        assert world.tasks()["memory"][FLOW] == 2 * held
        world.clock.sleep(30)


def test_when_a_late_run_was_let_in_is_asked_for(world: World) -> None:
    world.read()
    p = world.prefect
    run = p.start_run("etl", "a", expected=p.now(), start=p.now() + 100, pending=p.now() + 70)
    world.clock.sleep(200)
    p.end_run(run)
    world.read()
    tasks = world.tasks()
    assert tasks["slot_at"][FLOW] - tasks["ready_at"][FLOW] == pytest.approx(70)
    assert tasks["started_at"][FLOW] - tasks["slot_at"][FLOW] == pytest.approx(30)


@pytest.mark.parametrize("skew", [-3600.0, -600.0, 600.0, 3600.0])
def test_a_clock_that_is_off_loses_no_run_and_is_told_in_ours(world: World, skew: float) -> None:
    p = world.prefect
    p.skew_s = skew
    past = p.start_run("etl", "a")
    world.clock.sleep(50)
    p.end_run(past)
    world.clock.sleep(50)
    world.read()
    world.clock.sleep(60)
    quick = p.start_run("etl", "a")
    world.clock.sleep(20)
    p.end_run(quick)  # nobody looked while it ran
    long = p.start_run("etl", "a")
    world.clock.sleep(40)
    world.read()
    world.clock.sleep(60)
    p.end_run(long)
    world.clock.sleep(30)
    world.reader = world.source()  # the next process knows from the notebook
    world.read()
    work = world.ports.work.work(POOL)
    names = work.runs["run_id"].to_numpy()[work.tasks["run"]]
    flow = (work.tasks["task_id"] == FLOW).to_numpy()
    ended = dict(zip(names[flow], work.tasks["ended_at"].to_numpy()[flow], strict=True))
    begun = dict(zip(names[flow], work.tasks["started_at"].to_numpy()[flow], strict=True))
    true = {past.id: (0, 50), quick.id: (160, 180), long.id: (180, 280)}
    assert set(ended) == set(true)
    for run_id, (first, last) in true.items():
        assert begun[run_id] == pytest.approx(T0.timestamp() + first, abs=1)
        assert ended[run_id] == pytest.approx(T0.timestamp() + last, abs=1)
    for _ in range(3):
        world.clock.sleep(33.3)
        again = world.read()
        assert (again.new, again.changed) == (0, 0), "a clock is not set anew at each pass"


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_what_is_to_come_is_told_in_our_time_too(world: World, skew: float) -> None:
    p = world.prefect
    p.skew_s = skew
    odd = p.deploy("etl", "odd", {"rrule": "FREQ=DAILY", "timezone": "UTC"})
    p.deploy("etl", "even", {"interval": 900.0, "anchor_date": "2025-01-01T00:10:00+00:00"})
    p.start_run("etl", deployment=odd, state="SCHEDULED", start=None, expected=p.now() + 7200, auto=True)
    late = p.start_run("etl", deployment=odd, state="SCHEDULED", start=None, expected=p.now() - 60, auto=True)
    world.read()
    found = {s.dag_id: s for s in world.ports.work.schedules(POOL)}
    near = [t for t in found["etl/odd"].turns if t > world.now()]
    assert [(t - world.now()).total_seconds() for t in near] == [pytest.approx(7200, abs=1)]
    anchor = found["etl/even"].anchor
    assert anchor is not None
    assert anchor.timestamp() + skew == pytest.approx(1735690200, abs=1)
    assert world.ports.work.work(POOL).runs["run_id"].tolist() == [late.id]


def test_a_clock_that_is_put_right_between_two_passes_loses_no_run(world: World) -> None:
    p, runs = world.prefect, []
    for before, after in ((3600.0, 0.0), (0.0, -3600.0), (-3600.0, 3600.0)):
        p.skew_s = before
        world.clock.sleep(300)
        world.read()
        world.clock.sleep(30)
        for skew in (before, after):
            p.skew_s = skew
            runs.append(p.start_run("etl", "a").id)
            world.clock.sleep(10)
            p.end_run(p.runs[runs[-1]])
            world.clock.sleep(20)
        world.read()
        assert sorted(world.ports.work.work(POOL).runs["run_id"]) == sorted(runs)


def test_an_open_run_is_told_again_only_when_it_changed(world: World) -> None:
    p = world.prefect
    p.pools["ecs"] = {"name": "ecs", "type": "ecs"}
    run = p.start_run("etl", "a", deployment=p.deploy("etl", "nightly", CRON, pool="ecs"))
    late = p.start_run("etl", deployment=run.deployment, state="SCHEDULED", start=None, expected=p.now() - 1, auto=True)
    world.read()
    world.clock.sleep(30)
    assert [r for b in world.batches() for r in b.runs.work.runs["run_id"]] == []
    late.state, late.start = "RUNNING", p.now()
    assert [r for b in world.batches() for r in b.runs.work.runs["run_id"]] == [late.id]


@pytest.mark.parametrize("going", [1, 60])
def test_nothing_is_stepped_over_in_a_list_that_shrinks_while_it_is_read(world: World, going: int) -> None:
    p = world.prefect
    ids = [p.deploy("etl", f"d{i}") for i in range(900)]
    asked = 0

    def shrink(request: httpx.Request) -> None:
        nonlocal asked
        if request.url.path.endswith("/deployments/filter"):
            asked += 1
            for gone in ids[asked * going : (asked + 1) * going] if asked in (2, 4) else ():
                p.delete_deployment(gone)

    p.faults.append(shrink)
    world.read()
    found = {s.dag_id for s in world.ports.work.schedules(POOL)}
    assert asked >= 5
    assert {f"etl/{d['name']}" for d in p.deployments.values()} <= found


def test_a_clock_that_is_off_is_said(world: World) -> None:
    for skew, state, said in ((3600.0, "warn", "ahead of"), (-3600.0, "warn", "behind"), (2.0, "ok", "agrees")):
        world.prefect.skew_s = skew
        (clock,) = [f for f in world.source().examine() if f.what == "clock"]
        assert (clock.state, said in clock.found) == (state, True)


@pytest.mark.parametrize(
    ("secret", "wanted"),
    [("auth", "Basic dXNlcjpuZXc="), ("key", "Bearer user:new")],
)
def test_who_asks_is_proved_and_a_secret_that_was_changed_is_looked_up_again(
    world: World, secret: str, wanted: str
) -> None:
    p, now = world.prefect, ["user:new"]
    p.start_run("etl", "a")
    p.authorization = wanted
    world.reader = world.source(secrets=Secrets(**{secret: lambda: now[0]}))
    assert world.read().new == 1
    now[0] = "user:newer"
    p.authorization = wanted.replace("dXNlcjpuZXc=", "dXNlcjpuZXdlcg==").replace("user:new", "user:newer")
    p.start_run("etl", "a")
    assert world.read().new == 1
    p.authorization, asked = "Bearer of another", p.asked
    with pytest.raises(SourceError, match="401"):
        world.read()
    assert p.asked == asked + 1, "with the secret that was refused nothing is asked again"


def test_what_cannot_be_read_is_rejected_and_the_rest_is_read(world: World) -> None:
    bad = world.prefect.start_run("etl", "a")
    world.prefect._run = _blank(world.prefect._run, bad.id)  # type: ignore[method-assign]
    world.prefect.start_run("etl", "a")
    batches = world.batches()
    assert sum(len(b.runs) for b in batches) == 1
    assert any("without an id" in r.reason for b in batches for r in b.rejects)


def _blank(tell, run_id):
    return lambda r: {**tell(r), "created": None} if r.id == run_id else tell(r)


def test_names_of_tasks_are_those_of_the_code() -> None:
    def named(name: str, key: str) -> str:
        return TaskRun.of({"id": "1", "name": name, "task_key": key}).base

    assert named("extract-3f1", "extract-8c1f0d2a") == "extract"
    assert named("anything I like", "my_flow.<locals>.load-8c1f0d2a") == "load"
    assert named("extract-3f1", "") == "extract"
    assert Shape.load("nonsense") is None
    with pytest.raises(ValueError, match="without an id"):
        FlowRun.of({"id": "x"})
