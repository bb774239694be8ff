"""Where the waiting comes from, of an Airflow that is read, and of what runs here."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from preprov.contracts import LeadObservation, Service
from preprov.control.routing import Route, Router
from preprov.control.syncing import sync
from preprov.control.waits import Bottleneck, CauseTotal, WaitReport, report
from preprov.model.offerings import Standby
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.waits import Cause
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import basic, exchanged
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag
from tests.unit.control.world import START, World, make_world

AGO = epoch(START) - 3600.0


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def airflow(world: World) -> FakeAirflow:
    made = FakeAirflow(world.clock)
    made.pools = {"default_pool": 128, "dwh": 1}
    slots = {"pool": "dwh", "queue": "sql"}
    tasks = [("extract", ("a", "b"), {}), ("a", (), slots), ("b", (), slots)]
    made.add_dag(FakeDag("etl", tasks, timetable="0 3 * * *", max_active_tasks=4))
    return made


def goes(airflow: FakeAirflow, run: object, task: str, *times: float, host: str = "w1", ago: float = AGO) -> None:
    """A task is scheduled, queued, running, done, so many seconds after the run was made."""
    for state, at in zip(("scheduled", "queued", "running", "success"), times, strict=True):
        airflow.set_task(run, task, state, at=ago + at).hostname = host


def a_night(airflow: FakeAirflow) -> None:
    """`extract` waits 60 s for a node, `a` and `b` share one slot: `b` waits 300 s for it."""
    run = airflow.start_run("etl", "r1", at=AGO)
    goes(airflow, run, "extract", 1, 2, 62, 162, host="node-7.internal")
    goes(airflow, run, "a", 163, 164, 165, 464)
    goes(airflow, run, "b", 163, 464, 465, 500)
    airflow.end_run(run, at=AGO + 500)


def read(world: World, airflow: FakeAirflow, *routes: Route, default: str = "p") -> WaitReport:
    tokens = exchanged("http://af", "me", lambda: "pw")
    credential = tokens if airflow.version == "v2" else basic("me", lambda: "pw")
    settings = AirflowSettings("prod", "http://af", credential, requests_per_second=1e6, history_days=30.0)
    source = AirflowSource(settings, world.clock, transport=airflow.transport())
    sync(world.ctx, source, Router(routes, default=default))
    stages = {"allocate": 10.0, "boot": 20.0, "image": 25.0, "data": 4.0, "join": 1.0}
    ready = START - timedelta(seconds=3600 - 61)
    world.ctx.ports.leads.add(
        LeadObservation(ready, "p", "sim", "g", "", "m", "", Standby.COLD, 60.0, "node-7", stages)
    )
    return report(world.ctx, ["p", "q"], START - timedelta(hours=2))


@pytest.mark.parametrize("routes", [(), (Route("q", queue="sql"),), (Route("q", dag="etl", queue="def*"),)])
def test_slots_node_image_and_data_of_an_airflow_are_told_apart_whatever_pools_its_tasks_go_to(
    world: World, airflow: FakeAirflow, routes: tuple[Route, ...]
) -> None:
    a_night(airflow)
    found = read(world, airflow, *routes)
    assert found.tasks == 3
    hours = {(c.cause, c.name): c.hours * 3600 for c in found.causes}
    assert hours[Cause.AIRFLOW_POOL, "dwh"] == pytest.approx(300.0)
    assert sum(s for (c, _), s in hours.items() if c is Cause.IMAGE) == pytest.approx(25.0)
    assert sum(s for (c, _), s in hours.items() if c is Cause.DATA) == pytest.approx(4.0)
    assert found.of_family("node") * 3600 == pytest.approx(31.0 - 1.0, abs=1.5), "a second of it came before the slot"
    assert found.unknown == 0
    assert found.hours * 3600 == pytest.approx(62 + 3 + 303)
    assert found.timeline.sum() == pytest.approx(found.hours)
    (dag,) = found.dags
    assert (dag.dag_id, dag.tasks, dag.worst.words()) == ("etl", 3, "Airflow pool dwh (1 slots)")


def test_tonights_bottleneck_is_the_airflow_pool_and_nodes_will_not_help(world: World, airflow: FakeAirflow) -> None:
    """Its next run is due at three; it is one now."""
    a_night(airflow)
    found = read(world, airflow)
    said = [b.words() for b in found.tonight]
    assert said[2] == "the bottleneck is Airflow pool dwh (1 slots); nodes will not help"
    assert found.tonight[2].nodes_help is False
    assert found.tonight[2].limit_hours * 3600 == pytest.approx(299.0, abs=60)
    others = {b.words() for b in found.tonight if b is not found.tonight[2]}
    assert others <= {"no bottleneck", "the bottleneck is nodes that are not ready; warm ones help"}


def test_a_partition_of_slurm_is_named_with_its_cores() -> None:
    limit = CauseTotal(Cause.SLURM_PARTITION, "hpc", "batch", 3.0, 0, 64.0)
    said = Bottleneck(START, limit, limit_hours=3.0, node_hours=0.5).words()
    assert said == "the bottleneck is Slurm partition batch (64 cores); nodes will not help"


def test_what_still_waits_is_said(world: World, airflow: FakeAirflow) -> None:
    run = airflow.start_run("etl", "r1", at=AGO)
    airflow.set_task(run, "extract", "scheduled", at=AGO + 600)
    found = read(world, airflow)
    assert (found.tasks, found.waiting, found.waiting_hours) == (0, 1, pytest.approx(3000 / 3600))


def test_with_nothing_known_there_is_nothing_to_say(world: World) -> None:
    found = report(world.ctx, ["p"], START - timedelta(days=1))
    assert (found.tasks, found.hours, found.unknown, found.causes, found.dags) == (0, 0.0, 0.0, (), ())
    assert {b.words() for b in found.tonight} == {"no bottleneck"}


def test_a_limit_that_follows_warm_nodes_is_waiting_for_a_node(world: World, airflow: FakeAirflow) -> None:
    service = Service("af", "p", Resources(cpu=1), {}, limits=frozenset({(Cause.AIRFLOW_POOL, "dwh")}))
    a_night(airflow)
    before = read(world, airflow)
    served = replace(world.ctx, served={"p": (SimpleNamespace(service=service),)})
    after = report(served, ["p"], START - timedelta(hours=2))

    def hours(found: WaitReport, cause: Cause) -> float:
        return sum(c.hours for c in found.causes if c.cause is cause)

    assert hours(before, Cause.AIRFLOW_POOL) > 0.08
    assert hours(after, Cause.AIRFLOW_POOL) == 0
    moved = hours(after, Cause.ROOM) - hours(before, Cause.ROOM)
    assert moved >= hours(before, Cause.AIRFLOW_POOL) - 1e-9
    assert after.hours == pytest.approx(before.hours)


def test_a_try_that_failed_waited_too_and_held_the_slot_that_others_waited_for(
    world: World, airflow: FakeAirflow
) -> None:
    """`a` has the slot until its first try fails, `b` takes it, and `a` waits for it anew."""
    run = airflow.start_run("etl", "r1", at=AGO)
    goes(airflow, run, "extract", 1, 2, 3, 10)
    for state, at in (("scheduled", 11), ("queued", 12), ("running", 13), ("up_for_retry", 113)):
        airflow.set_task(run, "a", state, at=AGO + at)
    goes(airflow, run, "b", 11, 114, 115, 214)
    goes(airflow, run, "a", 150, 215, 216, 250)
    airflow.end_run(run, at=AGO + 250)
    found = read(world, airflow)
    assert found.tasks == 4, "each try has begun once"
    (slots,) = [c for c in found.causes if c.cause is Cause.AIRFLOW_POOL]
    assert slots.hours * 3600 == pytest.approx((113 - 12) + (214 - 150))
    assert found.hours * 3600 == pytest.approx(3 + 3 + 105 + 66)
    assert found.unknown == 0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_tasks_without_parents_wait_for_their_run_and_then_for_a_slot(world: World, version: str) -> None:
    """The run is let in after 5 s; `a` has the only slot from then on for 400 s, `b` after it."""
    airflow = FakeAirflow(world.clock, version=version)
    airflow.pools = {"dwh": 1}
    slots = {"pool": "dwh"}
    airflow.add_dag(FakeDag("etl", [("a", (), slots), ("b", (), slots)]))
    run = airflow.start_run("etl", "r1", at=AGO)
    airflow.begin_run(run, at=AGO + 5)
    goes(airflow, run, "a", 5, 6, 6, 406)
    goes(airflow, run, "b", 5, 407, 407, 450)
    airflow.end_run(run, at=AGO + 450)
    found = read(world, airflow)
    told = {c.cause: c.hours * 3600 for c in found.causes}
    assert told == {Cause.AIRFLOW_POOL: pytest.approx(400.0), Cause.SCHEDULER: pytest.approx(5 + 1 + 5 + 1 + 1)}


SINCE = (timedelta(minutes=30), timedelta(hours=2), timedelta(days=1), timedelta(days=7), timedelta(days=30))


def nights_ahead(world: World) -> list[tuple[Bottleneck, ...]]:
    """What is told of the coming hours, by the period that is asked for."""
    return [report(world.ctx, ["p"], START - back).tonight for back in SINCE]


def rounded(night: tuple[Bottleneck, ...]) -> list[tuple[str, float, float]]:
    return [(b.words(), round(b.node_hours, 6), round(b.limit_hours, 6)) for b in night]


def test_what_the_coming_hours_are_like_does_not_depend_on_the_period_that_is_asked_for(
    world: World, airflow: FakeAirflow
) -> None:
    """On record is one hour of one day, in which tasks waited a minute for a node: it is that much a day."""
    a_night(airflow)
    read(world, airflow)
    first, *others = nights_ahead(world)
    assert all(rounded(night) == rounded(first) for night in others)
    assert first[23].node_hours * 3600 == pytest.approx(60.0 - 1.0)
    assert sum(b.node_hours for b in first) == pytest.approx(first[23].node_hours)


def test_a_week_on_record_is_told_by_the_day(world: World, airflow: FakeAirflow) -> None:
    """Twice within it, and once before, an hour of the day had such a wait."""
    for days in (0, 3, 20):
        begin = AGO - days * 86_400
        run = airflow.start_run("etl", f"r{days}", at=begin)
        goes(airflow, run, "extract", 1, 2, 62, 162, host=f"node-{days}", ago=begin)
        goes(airflow, run, "a", 163, 164, 165, 166, ago=begin)
        goes(airflow, run, "b", 163, 167, 168, 169, ago=begin)
        airflow.end_run(run, at=begin + 169)
        up = START - timedelta(seconds=3600 - 61, days=days)
        world.ctx.ports.leads.add(
            LeadObservation(up, "p", "sim", "g", "", "m", "", Standby.COLD, 60.0, f"node-{days}", {"boot": 60.0})
        )
    read(world, airflow)
    first, *others = nights_ahead(world)
    assert all(rounded(night) == rounded(first) for night in others)
    assert first[23].node_hours * 3600 == pytest.approx(2 * 59.0 / 7, rel=0.02)


def test_a_dag_that_last_ran_a_week_ago_is_played_tonight(world: World, airflow: FakeAirflow) -> None:
    airflow.dags["etl"].timetable = "0 3 * * 1"
    a_week_ago = AGO - 6.9 * 86_400
    run = airflow.start_run("etl", "r1", at=a_week_ago)
    for task, begin, end in (("extract", 1, 100), ("a", 101, 400), ("b", 401, 700)):
        goes(airflow, run, task, begin, begin, begin, end, ago=a_week_ago)
    airflow.end_run(run, at=a_week_ago + 700)
    read(world, airflow)
    for night in nights_ahead(world):
        assert night[2].words() == "the bottleneck is Airflow pool dwh (1 slots); nodes will not help"


def test_a_dag_that_never_ran_is_played_tonight_by_its_shape(world: World, airflow: FakeAirflow) -> None:
    slots = {"pool": "dwh", "pool_slots": 1}
    airflow.add_dag(FakeDag("new", [(t, (), slots) for t in "abc"], timetable="0 5 * * *"))
    read(world, airflow)
    for night in nights_ahead(world):
        assert night[4].words() == "the bottleneck is Airflow pool dwh (1 slots); nodes will not help"
        assert night[4].limit_hours * 3600 == pytest.approx(60 + 120), "at a minute each, as nothing else is known"


def test_a_run_that_has_been_open_for_days_holds_its_slot(world: World, airflow: FakeAirflow) -> None:
    airflow.add_dag(FakeDag("long", [("a", (), {"pool": "dwh"})]))
    run = airflow.start_run("long", "r1", at=AGO - 4 * 86_400)
    for state in ("scheduled", "queued", "running"):
        airflow.set_task(run, "a", state, at=AGO - 4 * 86_400)
    waits = airflow.start_run("long", "r2", at=AGO)
    airflow.begin_run(waits, at=AGO)
    airflow.set_task(waits, "a", "scheduled", at=AGO)
    read(world, airflow)
    airflow.set_task(run, "a", "success", at=AGO + 3000)
    airflow.end_run(run, at=AGO + 3000)
    for state, at in (("queued", 3001), ("running", 3002)):
        airflow.set_task(waits, "a", state, at=AGO + at)
    found = read(world, airflow)
    (pool,) = [c for c in found.causes if c.cause is Cause.AIRFLOW_POOL]
    assert pool.hours * 3600 == pytest.approx(3000)


def test_slots_that_work_without_a_pool_holds_are_seen_now_and_tonight(world: World, airflow: FakeAirflow) -> None:
    """What no route takes has the only slot for 300 s, and will have it again when `etl` wants it."""
    airflow.add_dag(FakeDag("foreign", [("a", (), {"pool": "dwh"})], timetable="0 3 * * *"))
    foreign = airflow.start_run("foreign", "r1", at=AGO)
    goes(airflow, foreign, "a", 0, 1, 1, 1000)
    airflow.end_run(foreign, at=AGO + 1000)
    run = airflow.start_run("etl", "r1", at=AGO + 690)
    goes(airflow, run, "extract", 691, 691, 692, 700)
    goes(airflow, run, "a", 700, 1001, 1001, 1031)
    goes(airflow, run, "b", 700, 1031, 1032, 1062)
    airflow.end_run(run, at=AGO + 1062)
    found = read(world, airflow, Route("p", dag="etl"), default="")
    assert found.tasks == 3
    assert {d.dag_id for d in found.dags} == {"etl"}
    told = {c.cause: c.hours * 3600 for c in found.causes}
    assert told[Cause.AIRFLOW_POOL] == pytest.approx(300 + 330)
    assert Cause.UNKNOWN not in told
    assert found.tonight[2].words() == "the bottleneck is Airflow pool dwh (1 slots); nodes will not help"
    assert found.tonight[2].limit_hours * 3600 > 900
