"""What orchestrators tell is work before their place is read again, and counts once when it is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.contracts import RoutedBatch
from preprov.control.forecasting import analyze_queue
from preprov.control.passes import pool_pass
from preprov.control.reporting import hear
from preprov.control.routing import Route, Router
from preprov.control.running import Runner
from preprov.control.syncing import sync
from preprov.control.telling import Place, Telling
from preprov.control.told_runs import from_tasks
from preprov.model.errors import StoreUnavailableError
from preprov.model.events import Event, EventKind
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.work import State
from preprov.testing.listed import ListedPlace, ListedRun, seen
from tests.unit.control.world import START, make_world

QUEUED, STARTED, FINISHED = EventKind.QUEUED, EventKind.STARTED, EventKind.FINISHED


@pytest.fixture
def world():
    return make_world()


def event(n, kind=STARTED, task="", at=START, **more):
    made = Event("red", "cron-box", f"e{n}", kind, at, "etl", "r1", task_id=task)
    return replace(made, **{"state": State.SUCCEEDED if kind is FINISHED else None, **more})


def told(world, **places):
    return Telling(world.ctx, places, Router(default="p"))


def work(world, pool="p"):
    return world.ctx.ports.work.work(pool)


def test_a_task_that_is_told_of_waits_in_the_next_pass(world):
    """Of a place that nobody reads: its request is what the plan buys nodes for."""
    hear(world.ctx, [event(1, QUEUED, "load", request=Resources(cpu=6, memory=6))])
    assert told(world).fold() == 1
    analysis = analyze_queue(world.ctx, world.pool).as_dict("cpu")
    assert analysis["queued"]["task_instances"] == 1
    pool_pass(world.ctx, world.pool, serve=False)
    world.clock.sleep(30)
    pool_pass(world.ctx, world.pool, serve=False)
    assert world.nodes() >= 2


def test_a_run_is_put_together_from_all_that_was_told(world):
    telling = told(world)
    later = START + timedelta(seconds=40)
    hear(world.ctx, [event(1), event(2, QUEUED, "a"), event(3, QUEUED, "b", request=Resources(cpu=2), instances=3)])
    telling.fold()
    hear(world.ctx, [event(4, STARTED, "a"), event(5, FINISHED, "a", at=later)])
    assert telling.fold() == 1
    assert telling.fold() == 0, "nothing new"
    (run,) = work(world).runs["run_id"]
    tasks = work(world).tasks.set_index("task_id")
    assert run == "etl/r1"
    assert tasks.loc["a", "runtime_s"] == 40.0
    assert tasks.loc["a", "cpu"] == 1.0, "what nobody said is the usual"
    assert (tasks.loc["b", "cpu"], tasks.loc["b", "instances"]) == (2.0, 3)
    assert [r.run_id for r in world.ctx.ports.sources.state("red/cron-box").open] == ["etl/r1"]
    hear(world.ctx, [event(6, FINISHED, at=later)])
    telling.fold()
    assert world.ctx.ports.sources.state("red/cron-box").open == ()
    assert work(world).tasks["ended_at"].tolist() == [epoch(later)] * 2


def test_another_attempt_runs_again(world):
    hear(world.ctx, [event(1, STARTED, "a"), event(2, FINISHED, "a", state=State.FAILED), event(3, STARTED, "a")])
    told(world).fold()
    (task,) = work(world).tasks.itertuples()
    assert (task.started_at, task.ended_at == task.ended_at) == (epoch(START), False)


def test_what_the_place_says_replaces_what_was_told(world):
    """By its shape until then; afterwards an event only has it read again soon."""
    woken = []
    place = ListedPlace("prod", at=START)
    chain = ListedRun("etl/shape", "etl", epoch(START), (("extract", "", 2.0), ("load", "", 6.0)), "red")
    shape = seen([chain]).work
    shape.tasks["memory"] = 1.0
    world.ctx.ports.sources.apply("prod", RoutedBatch(shapes={"p": shape}), START)
    telling = told(world, prod=Place("red", Router(default="p"), soon=lambda: woken.append(1)))
    hear(world.ctx, [event(1, source="prod", details={"scheduled_for": (START - timedelta(minutes=1)).isoformat()})])
    assert telling.fold() == 1
    seen_now = work(world)
    assert seen_now.tasks["cpu"].tolist() == [2.0, 6.0]
    assert (seen_now.parents.tolist(), seen_now.children.tolist()) == ([0], [1])
    assert seen_now.runs["scheduled_for"].tolist() == [epoch(START) - 60]
    place.add(replace(chain, run_id="etl/r1", tasks=(("extract", "", 3.0),)))
    assert sync(world.ctx, place.source(), Router(default="p")).changed == 1
    assert work(world).tasks["cpu"].tolist() == [3.0], "once, as the place has it"
    hear(world.ctx, [event(2, STARTED, "extract", source="prod")])
    assert telling.fold() == 0
    assert woken == [1]
    assert work(world).tasks["started_at"].isna().all()


def test_somebody_elses_events_are_of_another_place(world):
    """A tenant that names the source of another one neither changes nor makes a run of it."""
    telling = told(world, prod=Place("blue", Router(default="p")))
    place = ListedPlace("prod", at=START)
    place.add(ListedRun("etl/r1", "etl", epoch(START), (("a", "", 1.0),), "blue"))
    sync(world.ctx, place.source(), Router(default="p"))
    hear(world.ctx, [event(1, source="prod"), event(2, FINISHED, source="prod", at=START + timedelta(seconds=1))])
    telling.fold()
    assert [r.run_id for r in world.ctx.ports.sources.state("prod").open] == ["etl/r1"]
    assert sorted(work(world).runs["tenant"]) == ["blue", "red"]


def test_a_place_that_is_being_read_is_come_back_to(world):
    telling = told(world, prod=Place("red", Router(default="p")))
    hear(world.ctx, [event(1, QUEUED, "a", source="prod")])
    with world.ctx.ports.leases.hold("source:prod", "reader", 60, START):
        assert telling.fold() == 0
    assert telling.fold() == 1


def test_events_go_where_they_say_else_by_the_routes(world):
    routes = (Route("big", queue="gpu", default_request={"gpu": 1}),)
    telling = Telling(world.ctx, {}, Router(routes, "p"))
    world.ctx.ports.events.record(
        [
            event(1, QUEUED, "a", run_id="one", details={"queue": "gpu"}),
            event(2, QUEUED, "a", run_id="two"),
            event(3, QUEUED, "a", run_id="three", pool="named"),
        ]
    )
    assert telling.fold() == 3
    assert {p: work(world, p).runs["run_id"].tolist() for p in ("big", "p", "named")} == {
        "big": ["etl/one"],
        "p": ["etl/two"],
        "named": ["etl/three"],
    }
    assert work(world, "big").tasks["gpu"].tolist() == [1.0]


def test_a_run_whose_end_was_never_told_is_forgotten(world):
    hear(world.ctx, [event(1, QUEUED, "a"), event(2, QUEUED, "a", run_id="r2")])
    telling = told(world)
    telling.fold()
    world.clock.sleep(86_400 + 7_200)
    hear(world.ctx, [event(3, STARTED, "a", run_id="r2", at=world.clock.now())])
    told(world).fold()
    assert [r.run_id for r in world.ctx.ports.sources.state("red/cron-box").open] == ["etl/r2"]


def test_a_controller_that_begins_anew_reads_nothing_twice_and_misses_nothing(world, monkeypatch):
    monkeypatch.setattr("preprov.control.telling._PAGE", 20)
    hear(world.ctx, [event(i, QUEUED, "a", run_id=f"r{i}") for i in range(150)])
    assert told(world).fold() == 150
    before = work(world).runs["run_id"].tolist()
    told(world).fold()
    assert work(world).runs["run_id"].tolist() == before


class Late:
    """Events of which the first is kept after the second, though its number is lower."""

    def __init__(self, events):
        self.events_, self.hidden = events, 1

    def events(self, *args, **more):
        return tuple((n, e) for n, e in self.events_.events(*args, **more) if n != self.hidden)

    def __getattr__(self, name):
        return getattr(self.events_, name)


def test_an_event_that_is_kept_later_than_one_with_a_higher_number_is_not_missed(world):
    late = Late(world.ctx.ports.events)
    ctx = replace(world.ctx, ports=replace(world.ctx.ports, events=late))
    telling = Telling(ctx, {}, Router(default="p"))
    hear(ctx, [event(1, QUEUED, "a"), event(2, QUEUED, "a", run_id="r2")])
    assert telling.fold() == 1
    late.hidden = 0
    assert telling.fold() == 1
    assert sorted(work(world).runs["run_id"]) == ["etl/r1", "etl/r2"]


def test_old_events_are_forgotten(world):
    hear(world.ctx, [event(1, QUEUED, "a")])
    world.clock.sleep(timedelta(days=36).total_seconds())
    hear(world.ctx, [event(2, QUEUED, "a", run_id="r2", at=world.clock.now())])
    told(world).fold()
    assert [e.run_id for _, e in world.ctx.ports.events.events()] == ["r2"]


def test_the_loop_hears_before_it_plans_and_goes_on_where_it_cannot(world):
    hear(world.ctx, [event(1, QUEUED, "load", request=Resources(cpu=6, memory=6))])
    waiting, telling = [], told(world)

    def broken():
        telling.fold()
        raise StoreUnavailableError("it is away")

    def seen_once(result):
        waiting.append(result.demand)
        runner.stop()

    runner = Runner(world.ctx, [world.pool], hear=broken, on_pass=seen_once)
    runner.run()
    assert float(waiting[0].table("cpu").max()) >= 6.0


@given(st.permutations([(QUEUED, 0), (STARTED, 5), (FINISHED, 9), (STARTED, 12), (FINISHED, 20)]), st.booleans())
def test_the_order_in_which_things_are_told_does_not_matter(order, over):
    """They are put in the order in which they happened; what has ended began before."""
    events = [event(i, k, "a", at=START + timedelta(seconds=s)) for i, (k, s) in enumerate(order)]
    if over:
        events.append(event(9, FINISHED, at=START + timedelta(seconds=30)))
    run = from_tasks({"etl/r1": sorted(events, key=lambda e: e.at)})
    (task,) = run.work.tasks.itertuples()
    assert (task.started_at, task.ended_at) == (epoch(START) + 12, epoch(START) + 20)
    assert bool(run.over[0]) is over
