"""Airflow read pass by pass: what becomes of mapped tasks, clears, pauses, skips, sensors; budget, tokens, faults."""

import json
from datetime import timedelta

import httpx
import numpy as np
import pytest
import stamina

from preprov.contracts import SourceState
from preprov.model.errors import SourceError, SourceUnavailableError
from preprov.sim.clock import VirtualClock
from preprov.sim.ports import memory_ports
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import basic, exchanged
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeAsset, FakeDag
from preprov.testing.live_source_contract import POOL, read, unrouted
from preprov.testing.store_examples import T0

HOUR = 3600.0


class World:
    """An Airflow, a store, a reader."""

    def __init__(self, version: str = "v2", **settings: object) -> None:
        self.clock = VirtualClock(T0)
        self.airflow = FakeAirflow(self.clock, version=version)
        self.ports = memory_ports()
        self.settings = {"requests_per_second": 1000.0, "history_days": 2.0, "patience_s": 1e9, **settings}
        self.reader = self.source()

    def source(self) -> AirflowSource:
        tokens = exchanged("http://af", "me", lambda: "pw")
        credential = tokens if self.airflow.version == "v2" else basic("me", lambda: "pw")
        settings = AirflowSettings("prod", "http://af", credential, **self.settings)
        return AirflowSource(settings, self.clock, transport=self.airflow.transport())

    def now(self):
        return self.clock.now()

    def read(self):
        return read(self, self.ports, self.reader)

    def tasks(self):
        return self.ports.work.work(POOL).tasks.set_index("task_id")

    def dag(self, *tasks, dag_id="d", **more):
        return self.airflow.add_dag(FakeDag(dag_id, tasks, **more))


@pytest.fixture(autouse=True)
def _no_waiting():
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture(params=["v1", "v2"])
def world(request):
    return World(request.param)


def test_a_running_dag_is_known_task_by_task(world):
    world.dag(
        ("a", ("b",), {"executor_config": "{'KubernetesExecutor': {'request_cpu': '2'}}"}), ("b", (), {"queue": "big"})
    )
    run = world.airflow.start_run("d", "r")
    for state in ("scheduled", "queued", "running"):
        world.airflow.set_task(run, "a", state)
    world.clock.sleep(60)
    world.read()
    tasks = world.tasks()
    assert tasks.loc["a", "started_at"] == T0.timestamp()
    assert tasks.loc["a", "cpu"] == 2.0
    assert np.isnan(tasks.loc["b", ["ready_at", "started_at", "ended_at"]].to_numpy(float)).all()
    world.airflow.set_task(run, "a", "success")
    world.airflow.set_task(run, "b", "scheduled")
    assert world.read().changed == 1
    tasks = world.tasks()
    assert tasks.loc["a", "runtime_s"] == pytest.approx(60, abs=1)
    if world.airflow.version == "v2":
        assert tasks.loc["b", "ready_at"] == pytest.approx(T0.timestamp() + 60, abs=1)


def test_queues_pools_and_weights_are_kept(world):
    world.dag(("a", (), {"queue": "big", "priority_weight": 3}), ("b", (), {"queue": "big"}))
    world.airflow.start_run("d", "r")
    batches = [b for b in world.reader.changes(SourceState(), world.now()) if len(b.runs)]
    assert batches[0].runs.queues.tolist() == ["big", "big"]
    assert batches[0].runs.work.runs["priority"].tolist() == [3]
    assert batches[0].runs.work.tasks["priority"].tolist() == [3, 1]


def test_a_mapped_task_has_as_many_instances_as_it_had_last_time_until_it_is_expanded(world):
    world.dag(("list", ("do",), {}), ("do", ("sum",), {}), ("sum", (), {}))
    first = world.airflow.start_run("d", "r1")
    world.airflow.expand(first, "do", 5)
    world.clock.sleep(10)
    world.airflow.play(first)
    world.clock.sleep(100)
    world.read()
    world.airflow.start_run("d", "r2")
    world.read()
    work = world.ports.work.work(POOL)
    by_run = {r: work.tasks[work.tasks["run"] == i] for i, r in enumerate(work.runs["run_id"])}
    assert sorted(by_run["d/r1"]["task_id"]) == ["do[0]", "do[1]", "do[2]", "do[3]", "do[4]", "list", "sum"]
    assert by_run["d/r2"].set_index("task_id")["instances"].to_dict() == {"list": 1, "do": 5, "sum": 1}
    assert len(work.parents) == 5 + 5 + 2
    assert by_run["d/r1"]["signature"].nunique() == 3, "instances of a mapped task are one kind of task"


def test_a_task_without_parents_could_start_when_its_run_was_let_in(world):
    """Its pool had a slot for it 300 s later; of the others Airflow 2 tells nothing but that."""
    world.dag(("root", ("child",), {}), ("child", (), {}), ("again", (), {}), ("early", (), {}))
    run = world.airflow.start_run("d", "r")
    world.clock.sleep(60)
    world.airflow.begin_run(run)
    world.airflow.set_task(run, "early", "queued", at=T0.timestamp() + 50)  # as of before a clear
    for task_id in ("root", "again"):
        world.airflow.set_task(run, task_id, "scheduled")
    world.clock.sleep(1)
    world.read()
    ready = world.tasks()["ready_at"]
    assert ready["root"] == T0.timestamp() + 60
    world.clock.sleep(299)
    for state in ("queued", "running", "up_for_retry"):
        world.airflow.set_task(run, "again", state)
    for task_id in ("again", "root"):
        for state in ("scheduled", "queued", "running")[task_id == "root" :]:
            world.airflow.set_task(run, task_id, state, at=world.airflow.now() + 40 * (task_id == "again"))
    world.clock.sleep(100)
    world.airflow.set_task(run, "root", "success")
    world.airflow.set_task(run, "child", "scheduled")
    world.clock.sleep(50)
    for state in ("queued", "running"):
        world.airflow.set_task(run, "child", state)
    world.read()
    after = (world.tasks()["ready_at"] - T0.timestamp()).round().to_dict()
    assert (after["root"], after["early"]) == (60, 50)
    assert after["again@1"] == 60
    assert after["again"] == 400
    assert after["child"] == (460 if world.airflow.version == "v2" else 510)


def test_a_wide_mapped_pair_has_a_bounded_number_of_edges():
    world = World()
    world.dag(("a", ("b",), {}), ("b", (), {}))
    run = world.airflow.start_run("d", "r")
    world.airflow.expand(run, "a", 300)
    world.airflow.expand(run, "b", 300)
    world.read()
    work = world.ports.work.work(POOL)
    assert 300 <= len(work.parents) <= 4096
    assert set(work.children) == {i for i, t in enumerate(work.tasks["task_id"]) if t.startswith("b[")}


def test_what_waits_elsewhere_takes_no_cores(world):
    world.dag(
        ("sensor", (), {"operator": "S3KeySensor"}),
        ("deferred", (), {}),
        ("empty", (), {"operator": "EmptyOperator"}),
        ("work", (), {}),
    )
    run = world.airflow.start_run("d", "r")
    for task_id in ("sensor", "deferred", "work"):
        world.airflow.set_task(run, task_id, "running")
    world.airflow.set_task(run, "deferred", "deferred")
    world.read()
    assert world.tasks()["cpu"].to_dict() == {"sensor": 0.0, "deferred": 0.0, "empty": 0.0, "work": 1.0}
    world.airflow.set_task(run, "deferred", "running")
    world.clock.sleep(HOUR)
    world.read()
    assert world.tasks()["cpu"]["deferred"] == 0.0, "what was seen to sleep spends its time asleep"


def test_a_deferred_task_gives_its_slot_back_where_its_pool_says_so(world):
    """Queued after 10 s, 20 s of work, 100 s of sleep, 5 s in the queue, 7 s of work."""
    world.airflow.pools = {"gives back": 4, "keeps": 4}
    world.airflow.deferring = {"keeps"}
    world.dag(("a", (), {"pool": "gives back"}), ("b", (), {"pool": "keeps"}))
    run = world.airflow.start_run("d", "r")
    begun = T0.timestamp()

    def all_to(*states: str) -> None:
        for task_id in ("a", "b"):
            for state in states:
                world.airflow.set_task(run, task_id, state)

    def held(column: str) -> dict[str, float]:
        world.read()
        return {t: round(s - begun) if s == s else None for t, s in world.tasks()[column].items()}

    world.clock.sleep(10)
    all_to("scheduled", "queued", "running")
    world.clock.sleep(20)
    all_to("deferred")
    world.clock.sleep(50)
    assert held("freed_at") == {"a": 30, "b": None}
    assert held("slot_at") == {"a": 10, "b": 10}
    world.clock.sleep(50)
    all_to("scheduled")
    assert held("slot_at") == {"a": None, "b": None}, "it waits for a slot anew"
    all_to("queued")
    world.clock.sleep(5)
    all_to("running")
    world.clock.sleep(7)
    all_to("success")
    world.airflow.end_run(run)
    world.clock.sleep(1)
    assert held("slot_at") == {"a": 130, "b": 10}
    assert held("freed_at") == {"a": None, "b": None}
    assert held("ended_at") == {"a": 142, "b": 142}


def test_failed_and_skipped_tasks_end_without_a_runtime_and_a_trigger_rule_lets_children_run():
    world = World()
    world.dag(("a", ("c",), {}), ("b", ("c", "d"), {}), ("c", (), {}), ("d", (), {}))
    run = world.airflow.start_run("d", "r")
    world.airflow.set_task(run, "a", "skipped")
    world.airflow.set_task(run, "b", "failed")
    definition = FakeAirflow._definition
    world.airflow._definition = lambda *t: {  # type: ignore[method-assign]
        **definition(world.airflow, *t),
        "trigger_rule": "all_done" if t[0] == "c" else "all_success",
    }
    world.clock.sleep(30)
    world.read()
    work = world.ports.work.work(POOL)
    tasks = work.tasks.set_index("task_id")
    assert tasks.loc[["a", "b"], "ended_at"].notna().all()
    assert tasks["runtime_s"].isna().all()
    names = work.tasks["task_id"].tolist()
    assert {(names[p], names[c]) for p, c in zip(work.parents, work.children, strict=True)} == {("b", "d")}
    world.airflow.end_run(run, "failed")
    world.clock.sleep(1)
    world.read()
    assert world.tasks()["ended_at"].notna().all()


def test_tasks_of_a_paused_dag_do_not_ask_for_nodes_until_it_goes_on(world):
    dag = world.dag(("a", ("b",), {}), ("b", (), {}))
    run = world.airflow.start_run("d", "r")
    world.airflow.set_task(run, "a", "running")
    world.read()
    assert world.tasks()["cpu"].to_dict() == {"a": 1.0, "b": 1.0}
    dag.paused = True
    world.clock.sleep(61)
    world.read()
    assert world.tasks()["cpu"].to_dict() == {"a": 1.0, "b": 0.0}
    assert world.ports.work.schedules(POOL)[0].paused
    dag.paused = False
    world.clock.sleep(61)
    world.read()
    assert world.tasks()["cpu"].to_dict() == {"a": 1.0, "b": 1.0}
    assert world.ports.work.schedules(POOL)[0].since == pytest.approx(world.now(), abs=timedelta(seconds=1))


def test_a_cleared_run_is_open_again_with_what_is_to_be_done(world):
    world.dag(("a", ("b",), {}), ("b", (), {}))
    run = world.airflow.start_run("d", "r")
    world.airflow.play(run)
    world.clock.sleep(100)
    world.read()
    assert world.ports.sources.state("prod").open == ()
    world.clock.sleep(HOUR)
    world.airflow.clear(run, ["b"])
    assert world.read().changed == 1
    tasks = world.tasks()
    assert tasks.loc["a", "runtime_s"] == pytest.approx(10)
    assert np.isnan(tasks.loc["b", "started_at"])
    assert len(world.ports.sources.state("prod").open) == 1


def test_triggers_and_turns(world):
    world.dag(("a", (), {}))
    turn = T0.timestamp() - 60
    backfill = "backfill" if world.airflow.version == "v2" else "backfill_job"
    asset = "asset_triggered" if world.airflow.version == "v2" else "dataset_triggered"
    for kind in ("scheduled", "manual", asset, backfill):
        run = world.airflow.start_run(
            "d", f"{kind}__1", kind=kind, turn=turn if kind in ("scheduled", backfill) else None
        )
        world.airflow.set_task(run, "a", "running", at=T0.timestamp())
    world.clock.sleep(5)
    world.read()
    runs = world.ports.work.work(POOL).runs.set_index("run_id")
    assert runs["trigger"].to_dict() == {
        "d/scheduled__1": "scheduled",
        "d/manual__1": "manual",
        f"d/{asset}__1": "dataset",
        f"d/{backfill}__1": "manual",
    }
    assert runs.loc["d/scheduled__1", "scheduled_for"] == turn
    assert runs.drop("d/scheduled__1")["scheduled_for"].isna().all(), "a backfill is nobody's turn of today"
    assert (runs["submit"] <= T0.timestamp()).all()


def test_schedules_come_with_zone_limit_and_next_run(world):
    cron = {"__type": "CronExpression", "value": "0 2 * * *"}
    delta = {"__type": "TimeDelta", "days": 0, "seconds": 21600}
    world.dag(
        ("a", (), {}), dag_id="nightly", timetable="0 2 * * *", interval=cron, zone="Europe/Zurich", max_active_runs=1
    )
    at = T0.timestamp() + HOUR
    world.dag(("a", (), {}), dag_id="even", timetable="6:00:00", interval=delta, next_run=at)
    world.dag(("a", (), {}), dag_id="own", timetable="my own", next_run=at)
    world.airflow.variables["preprov_timetables"] = json.dumps({"turns": {"own": ["2025-03-01T15:00:00+00:00"]}})
    world.read()
    nightly, even, own = sorted(
        world.ports.work.schedules(POOL), key=lambda s: ["nightly", "even", "own"].index(s.dag_id)
    )
    assert (nightly.cron, nightly.zone, nightly.max_active_runs) == ("0 2 * * *", "Europe/Zurich", 1)
    assert even.every_s == 21600
    assert [t.hour for t in own.turns] == [15]
    assert sorted(world.ports.sources.shapes(POOL, ["nightly", "even", "own"]).runs["dag_id"]) == [
        "even",
        "nightly",
        "own",
    ]


def test_a_cron_with_a_zone_of_its_own_is_read_in_that_and_it_is_said_once(world):
    """T0 is noon of the first of March in UTC, 13:00 in Zurich."""
    cron = {"__type": "CronExpression", "value": "0 6 * * *"}
    at_five, no_turn = T0.timestamp() + 17 * HOUR, T0.timestamp() + 17.1 * HOUR
    world.dag(("a", (), {}), dag_id="usual", timetable="0 6 * * *", interval=cron, zone="Europe/Zurich")
    own = world.dag(("a", (), {}), dag_id="own", timetable="0 6 * * *", interval=cron, next_run=at_five)
    world.dag(("a", (), {}), dag_id="odd", timetable="0 6 * * *", interval=cron, next_run=no_turn)
    (told,) = [b for b in world.reader.changes(world.ports.sources.state("prod"), world.now()) if b.schedules]
    assert sorted(n.split(":")[0] for n in told.notes) == ["odd", "own"]
    assert any("read in Europe/Zurich" in n for n in told.notes)
    world.read()
    found = {s.dag_id: s for s in world.ports.work.schedules(POOL)}
    assert (found["own"].cron, found["own"].zone) == ("0 6 * * *", "Europe/Zurich")
    assert [t.timestamp() for t in found["odd"].turns] == [no_turn]
    assert found["odd"].cron == ""
    world.airflow.start_run("own", "r")
    own.next_run = None  # none before a run of it has ended
    world.clock.sleep(61)
    passing = world.reader.changes(world.ports.sources.state("prod"), world.now())
    assert not [n for b in passing for n in b.notes]
    world.reader = world.source()
    world.read()
    found = {s.dag_id: s for s in world.ports.work.schedules(POOL)}
    assert found["own"].zone == "Europe/Zurich", "a new process remembers"
    assert world.ports.work.work(POOL).runs["zone"].tolist() == ["Europe/Zurich"]


def test_a_dag_with_a_zone_that_is_an_offset_has_runs_and_shapes_in_a_zone_there_is(world):
    world.dag(("a", (), {}), zone='FixedTimezone(3600, name="+01:00")', timetable="0 6 * * *")
    world.airflow.start_run("d", "r")
    world.read()
    assert world.ports.work.work(POOL).runs["zone"].tolist() == ["Etc/GMT-1"]
    assert world.ports.sources.shapes(POOL, ["d"]).runs["zone"].tolist() == ["Etc/GMT-1"]


def test_dags_that_assets_trigger_follow_the_tasks_that_make_these(world):
    both, made, outside = (
        FakeAsset("s3://both", (("load", "a"), ("load2", "a")), ("either", "each")),
        FakeAsset("s3://made", (("load", "b"),), ("each", "untold", "alias")),
        FakeAsset("s3://outside", (), ("either", "external")),
    )
    world.airflow.assets = [both, made, outside]
    if world.airflow.version == "v2":
        made.aliases = ("known by",)
        told = lambda a: {"asset": {"uri": a.uri, "name": a.uri}}  # noqa: E731
        alias = {"alias": {"name": "known by", "group": ""}}
    else:
        told = lambda a: a.uri  # noqa: E731
        alias = {"alias": "known by"}
    conditions = {
        "either": {"any": [told(both), told(outside)]},
        "each": {"all": [told(both), {"any": [told(made), told(outside)]}]},
        "external": {"all": [told(outside)]},
        "untold": None,
        "alias": alias,
        "load": None,
    }
    for name, condition in conditions.items():
        world.dag(("a", (), {}), dag_id=name, timetable="Asset", condition=condition)
    world.read()
    found = {s.dag_id: s.follows for s in world.ports.work.schedules(POOL)}
    assert found == {
        "either": ((("load", "a"),), (("load2", "a"),)),
        "each": ((("load", "a"), ("load", "b")), (("load", "b"), ("load2", "a"))),
        "external": (),
        "untold": ((("load", "b"),),),
        "alias": ((("load", "b"),),) if world.airflow.version == "v2" else (),
        "load": (),
    }
    asked = [p for _, p in world.airflow.log if p.endswith(("/assets", "/datasets"))]
    world.clock.sleep(120)
    world.reader.changes(world.ports.sources.state("prod"), world.now())
    world.read()
    assert len(asked) == 1
    assert [p for _, p in world.airflow.log if p.endswith(("/assets", "/datasets"))] == asked, "they change seldom"
    world.reader = world.source()
    world.read()
    assert {s.dag_id: s.follows for s in world.ports.work.schedules(POOL)} == found, "conditions are in the notebook"


def test_rights_that_are_nice_to_have_are_missed_once_and_in_words(world):
    own = world.dag(("a", (), {}), timetable="my own", interval=None, next_run=T0.timestamp() + HOUR)
    world.airflow.forbidden = {"pools", "assets", "datasets", "preprov_timetables"}

    def notes() -> list[str]:
        return [n for b in world.reader.changes(world.ports.sources.state("prod"), world.now()) for n in b.notes]

    told = notes()
    assert len(told) == 3
    assert any("may not read pools" in n for n in told)
    assert any("came back before" in n for n in told)
    assert any("only the next turn" in n and "Op has it" in n for n in told)
    hints = {f.what: f.hint for f in world.reader.examine() if f.state == "warn"}
    assert {what: hint.split(": ")[-1] for what, hint in hints.items()} == {
        "pools": "Viewer has it",
        "assets": "Viewer has it",
        "timetables": "Op has it",
    }
    world.read()
    world.clock.sleep(61)
    assert not notes()
    own.timetable, own.interval = "0 2 * * *", {"__type": "CronExpression", "value": "0 2 * * *"}
    own.next_run = T0.timestamp() + 14 * HOUR
    world.reader = world.source()
    assert len(notes()) == 2, "who has no timetable of their own misses nothing"


def test_the_owner_can_be_the_tenant():
    world = World(tenant="team-{owner}")
    world.dag(("a", (), {}), owner="bi")
    world.airflow.start_run("d", "r")
    world.read()
    assert world.ports.work.work(POOL).runs["tenant"].tolist() == ["team-bi"]


def test_a_clock_an_hour_ahead_is_told_in_ours(world):
    world.airflow.skew_s = HOUR
    world.dag(("a", (), {}), next_run=T0.timestamp() + 2 * HOUR, timetable="my own")
    run = world.airflow.start_run("d", "r")
    world.airflow.set_task(run, "a", "running")
    world.clock.sleep(30)
    world.read()
    begun = world.tasks().loc["a", "started_at"]
    assert begun == pytest.approx(T0.timestamp(), abs=2)
    assert world.ports.work.work(POOL, until=world.now()).as_of(world.now()).tasks["started_at"].notna().all()
    for _ in range(5):
        world.clock.sleep(33.3)
        again = world.read()
        assert (again.new, again.changed) == (0, 0), "a clock is not set anew at each pass"
    world.airflow.set_task(run, "a", "success")
    world.airflow.end_run(run)
    world.clock.sleep(1)
    assert world.read().changed == 1
    assert any(f.what == "clock" and f.state == "warn" for f in world.reader.examine())


def test_the_past_is_read_newest_first_in_portions_and_what_is_live_comes_before():
    world = World(patience_s=2.0, requests_per_second=5.0, history_days=10.0)
    world.dag(("a", (), {}))
    for day in range(9):
        run = world.airflow.start_run("d", f"day{day}", at=T0.timestamp() - day * 86400 - 600)
        world.airflow.play(run, at=T0.timestamp() - day * 86400 - 500)
    live = world.airflow.start_run("d", "live")
    seen = []
    more = True
    passes = 0
    while more:
        more = False
        for batch in world.reader.changes(world.ports.sources.state("prod"), world.now()):
            world.ports.sources.apply("prod", unrouted(batch, "UTC"), world.now())
            seen += batch.runs.work.runs["run_id"].tolist()
            more |= batch.more
        passes += 1
        assert passes < 50
    assert passes > 1
    past = [r for r in dict.fromkeys(seen) if r != f"d/{live.run_id}"]
    assert seen[0] == "d/live"
    assert past == [f"d/day{i}" for i in range(9)]


def test_an_expired_token_is_renewed_once_and_a_wrong_password_is_said():
    world = World()
    world.dag(("a", (), {}))
    world.read()
    assert world.airflow.logins == 1
    world.airflow.token = "secret-1"
    world.read()
    assert world.airflow.logins == 2
    world.airflow.token, world.airflow.password = "secret-2", "other"
    with pytest.raises(SourceError, match="refuses me") as error:
        world.read()
    assert not error.value.retryable
    assert "pw" not in str(error.value)


def test_a_missing_right_is_named(world):
    world.dag(("a", (), {}))
    world.airflow.forbidden = {"taskInstances"}
    world.airflow.start_run("d", "r")
    with pytest.raises(SourceError, match="may not read task instances"):
        world.read()
    bad = [f for f in world.reader.examine() if f.state == "bad"]
    assert [f.what for f in bad] == ["task instances"]
    assert "Viewer" in bad[0].hint
    world.airflow.forbidden = {"pools"}
    assert all(f.state != "bad" for f in world.reader.examine()), "pools are nice to know"


def test_another_server_is_told_from_an_airflow():
    world = World()
    world.airflow.faults.append(lambda r: httpx.Response(404, text="nginx"))
    (found,) = world.source().examine()
    assert found.state == "bad"
    settings = AirflowSettings("prod", "http://af", basic("me", lambda: "pw"), requests_per_second=1000)
    (found,) = AirflowSource(settings, world.clock, transport=world.airflow.transport()).examine()
    assert "not as an Airflow" in found.found


@pytest.mark.parametrize("fault", ["timeout", "500", "truncated", "html", "429", "list"])
def test_a_fault_that_passes_is_survived_and_one_that_stays_is_said(fault):
    def strike(request: httpx.Request) -> httpx.Response:
        if fault == "timeout":
            raise httpx.ReadTimeout("", request=request)
        if fault == "truncated":
            return httpx.Response(200, content=b'{"dag_runs": [{"dag_id": "d", "dag_r')
        if fault == "html":
            return httpx.Response(200, text="<html>Sign in</html>")
        if fault == "list":
            return httpx.Response(200, json=[1, 2])
        return httpx.Response(int(fault), headers={"retry-after": "7"} if fault == "429" else {})

    world = World()
    world.dag(("a", (), {}))
    world.airflow.start_run("d", "r")
    struck = iter([True])
    world.airflow.faults.append(lambda r: strike(r) if "dagRuns" in r.url.path and next(struck, False) else None)
    before = world.now()
    assert world.read().new == 1
    if fault == "429":
        assert (world.now() - before).total_seconds() >= 7
    world.airflow.faults[:] = [strike]
    with pytest.raises(SourceUnavailableError):
        world.source().changes(SourceState(), world.now()).__next__()


def test_the_budget_is_kept_and_a_slow_server_is_asked_half_of_the_time():
    world = World(requests_per_second=2.0)
    world.dag(("a", (), {}))
    for i in range(250):
        world.airflow.start_run("d", f"r{i}")
    world.read()
    at = [t for t, _ in world.airflow.log]
    assert len(at) > 6
    assert min(np.diff(at)) >= 0.499
    world.airflow.latency_s = 3.0
    first = len(world.airflow.log)
    world.read()
    at = [t for t, _ in world.airflow.log[first + 1 :]]
    assert min(np.diff(at)) >= 5.99, "three seconds to answer, three of rest"


def test_a_restarted_process_knows_shapes_from_the_notebook(world):
    world.dag(("a", ("b",), {}), ("b", (), {}))
    world.airflow.start_run("d", "r")
    world.read()
    world.airflow.log.clear()
    world.reader = world.source()
    world.read()
    assert not [p for _, p in world.airflow.log if p.endswith(("/tasks", "/details"))]
    assert len(world.ports.work.work(POOL).parents) == 1


def test_a_dag_whose_code_changed_is_asked_for_again():
    world = World()
    dag = world.dag(("a", (), {}))
    world.airflow.start_run("d", "r1")
    world.read()
    dag.tasks, dag.version = (("a", ("b",), {}), ("b", (), {})), 2
    world.airflow.start_run("d", "r2")
    world.read()
    assert len(world.ports.work.work(POOL).parents) == 1


def test_a_dag_that_is_deleted_takes_its_open_runs_with_it(world):
    world.dag(("a", (), {}))
    world.dag(("a", (), {}), dag_id="other")
    for i in range(30):
        world.airflow.start_run("d", f"r{i}")
    world.airflow.start_run("other", "r")
    world.read()
    world.airflow.delete_dag("d")
    first = world.airflow.asked
    world.clock.sleep(61)
    assert world.read().gone == 30
    assert world.airflow.asked - first < 15, "one question for the DAG, not one for each run"
    assert world.ports.work.work(POOL).runs["run_id"].tolist() == ["other/r"]


def test_a_broken_store_does_not_make_the_reader_believe_it_was_kept():
    world = World()
    world.dag(("a", (), {}))
    world.airflow.start_run("d", "r")
    passing = world.reader.changes(world.ports.sources.state("prod"), world.now())
    assert any(len(batch.runs) for batch in passing)
    passing.close()  # as when the store cannot keep what was yielded last
    assert world.read().new == 1
