"""Reading where work lives: routes, what nobody stated, what is foreseen of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import structlog

from preprov.contracts import Reject
from preprov.control.demanding import inputs
from preprov.control.forecasting import analyze_queue
from preprov.control.ingesting import source_age_s
from preprov.control.routing import Route, Router
from preprov.control.syncing import Reader, remember_ages, sync
from preprov.model.errors import LeaseHeldError, SourceUnavailableError
from preprov.model.time import epoch
from preprov.model.work import Schedule
from preprov.testing.listed import ListedPlace, ListedRun
from tests.unit.control.world import START, make_pool, make_world

NAN = float("nan")


@pytest.fixture
def world():
    return make_world()


@pytest.fixture
def place():
    return ListedPlace("prod", at=START - timedelta(minutes=5))


def chain(run_id, *tasks, dag="etl", at=START - timedelta(minutes=5), tenant="default"):
    return ListedRun(run_id, dag, epoch(at), tasks, tenant)


def test_what_is_queued_there_shows_in_the_queue_and_in_the_demand(world, place):
    place.add(chain("etl/1", ("extract", "", 2.0), ("load", "", 6.0)))
    sync(world.ctx, place.source(), Router(default="p"))
    analysis = analyze_queue(world.ctx, world.pool).as_dict("cpu")
    (run,) = analysis["runs"]
    assert (run["run_id"], run["tasks"], run["depth"]) == ("etl/1", 2, 2)
    assert analysis["queued"]["task_instances"] == 2
    peak = max(p["demand"][analysis["quantiles"].index(0.5)] for p in analysis["points"])
    assert peak == pytest.approx(6.0)


def test_tasks_of_one_run_go_to_the_pools_of_their_queues(world, place):
    """In each pool the run keeps its shape; what runs elsewhere takes nothing there."""
    place.add(chain("r", ("a", "cpu", 2.0), ("b", "gpu", 8.0), ("c", "cpu", 1.0)))
    routes = (Route("p", queue="cpu"), Route("big", queue="g*"))
    result = sync(world.ctx, place.source(), Router(routes))
    assert (result.new, result.pools, result.unrouted) == (1, ("big", "p"), 0)
    assert world.ctx.ports.work.work("p").tasks["cpu"].tolist() == [2.0, 0.0, 1.0]
    big = world.ctx.ports.work.work("big")
    assert big.tasks["cpu"].tolist() == [0.0, 8.0, 0.0]
    assert (big.parents.tolist(), big.children.tolist()) == ([0, 1], [1, 2])


def test_the_first_route_that_matches_wins_and_the_rest_goes_nowhere(world, place):
    place.add(chain("one", ("a", "x", 1.0), dag="etl_a", tenant="bi"))
    place.add(chain("two", ("a", "x", 1.0), dag="etl_b"))
    place.add(chain("three", ("a", "x", 4.0), dag="other"))
    place.pass_time(3600)
    place.finish("three")
    result = sync(world.ctx, place.source(), Router((Route("p", tenant="bi"), Route("q", dag="etl_*"))))
    assert result.unrouted == 1
    assert world.ctx.ports.work.work("p").runs["run_id"].tolist() == ["one"]
    assert world.ctx.ports.work.work("q").runs["run_id"].tolist() == ["two"]
    (lost,) = [c for c in world.ctx.ports.sources.claimed(START - timedelta(days=1)) if not c.pool]
    assert (lost.dag_id, lost.queue, lost.core_hours) == ("other", "x", pytest.approx(4.0))


def test_a_route_says_what_is_taken_where_a_task_says_nothing(world, place):
    place.add(chain("r", ("says", "", 3.0), ("silent", "", NAN), ("sensor", "", 0.0)))
    sync(world.ctx, place.source(), Router((Route("p", default_request={"cpu": 0.5, "gpu": 1}),)))
    tasks = world.ctx.ports.work.work("p").tasks
    assert tasks["cpu"].tolist() == [3.0, 0.5, 0.0]
    assert tasks["memory"].tolist() == [1.0, 1.0, 1.0]
    place.add(chain("plain", ("silent", "", NAN)))
    sync(world.ctx, place.source(), Router(default="q"))
    assert world.ctx.ports.work.work("q").tasks["cpu"].tolist()[0] == 1.0


def test_a_route_says_when_runs_must_land(world, place):
    place.add(chain("r", ("a", "", 1.0), at=datetime(2025, 3, 3, 0, 30, tzinfo=UTC)))
    place.add(chain("late", ("a", "", 1.0), at=datetime(2025, 3, 3, 8, 0, tzinfo=UTC)))
    sync(world.ctx, place.source(), Router((Route("p", land_by="07:00"),)))
    landing = world.ctx.ports.work.work("p").runs["land_by"].tolist()
    assert landing == [epoch(datetime(2025, 3, d, 7, tzinfo=UTC)) for d in (3, 4)]


def test_a_changed_route_moves_what_is_read_again(world, place):
    place.add(chain("r", ("a", "", 1.0)))
    sync(world.ctx, place.source(), Router(default="p"))
    world.ctx.ports.sources.rewind("prod")
    assert sync(world.ctx, place.source(), Router(default="q")).changed == 1
    assert not len(world.ctx.ports.work.work("p").runs)
    assert len(world.ctx.ports.work.work("q").runs) == 1


def test_schedules_reach_every_pool_of_their_dag(world, place):
    place.schedules = (
        Schedule("etl", "", "0 2 * * *", "UTC"),
        Schedule("even", "", "", "UTC", every_s=900.0, anchor=START),
    )
    sync(world.ctx, place.source(), Router(default="p"))
    assert [s.dag_id for s in world.ctx.ports.work.schedules("p")] == ["etl", "even"]
    due = analyze_queue(world.ctx, world.pool).as_dict("cpu")["due"]
    assert {d["dag_id"] for d in due} == {"even"}, "02:00 is the end of the horizon, and not in it"
    assert len(due) == 4


def test_what_never_ran_is_foreseen_by_the_shape_a_source_tells(world, place):
    from preprov.contracts import RoutedBatch
    from preprov.testing.listed import seen

    shape = seen([chain("shape", ("a", "", 2.0), ("b", "", 5.0), dag="new")]).work
    shape.tasks["memory"] = 1.0
    schedule = Schedule("new", "p", "30 1 * * *", "UTC")
    world.ctx.ports.sources.apply("prod", RoutedBatch(schedules=(schedule,), shapes={"p": shape}), START)
    analysis = analyze_queue(world.ctx, world.pool).as_dict("cpu")
    assert max(p["demand"][-1] for p in analysis["points"]) >= 5.0


def test_a_pass_that_breaks_is_remembered_and_what_came_before_is_kept(world, place):
    place.start(5)
    place.fail_after(3)
    with pytest.raises(SourceUnavailableError):
        sync(world.ctx, place.source(), Router(default="p"))
    (status,) = world.ctx.ports.sources.statuses()
    assert (status.open, status.read_at) == (2, None)
    assert "does not answer" in status.error
    place.fail_after(None)
    reader = Reader(world.ctx, place.source(), Router(default="p"), 30.0)
    assert reader.once().new == 3
    assert world.ctx.ports.sources.statuses()[0].error == ""
    place.fail_after(0)
    assert reader.once() is None


def test_what_a_source_says_is_logged_once_a_day_and_what_could_not_be_read_is_kept(world, place):
    place.notes, kept = ("partition gpu is DOWN",), []
    reader = Reader(world.ctx, place.source(), Router(default="p"), 30.0, lambda r: kept.extend(r) or "there.jsonl")

    def logged():
        with structlog.testing.capture_logs() as logs:
            reader.once()
        return [
            {k: v for k, v in e.items() if k not in ("log_level", "source")}
            for e in logs
            if e["log_level"] == "warning"
        ]

    note = {"event": "source says", "note": "partition gpu is DOWN"}
    assert logged() == [note]
    place.rejects = (Reject(0, "no id", "{}"), Reject(0, "no time", "{}"))
    assert logged() == [{"event": "rows not read", "rows": 2, "why": "no id", "file": "there.jsonl"}]
    assert kept == list(place.rejects)
    (status,) = world.ctx.ports.sources.statuses()
    assert [text for _, text in status.notes] == ["partition gpu is DOWN", "2 rows could not be read"]
    place.rejects = ()
    world.clock.sleep(90_000)
    assert logged() == [note]
    place.rejects = (Reject(0, "no id", "{}"),)
    place.start(1)
    place.notes = ()
    place.fail_after(3)
    assert logged()[0]["rows"] == 1


def test_two_do_not_read_one_source_at_once(world, place):
    place.start(1)
    held = world.ctx.ports.leases.hold("source:prod", "another", 60, world.clock.now())
    with held, pytest.raises(LeaseHeldError, match="source prod"):
        sync(world.ctx, place.source(), Router(default="p"))


def test_the_age_of_what_is_known_counts_from_the_last_whole_pass(world, place):
    assert source_age_s(world.ctx, "p") == 0
    sync(world.ctx, place.source(), Router(default="p"))
    place.start(1)
    sync(world.ctx, place.source(), Router(default="p"))
    world.clock.sleep(100)
    assert source_age_s(world.ctx, "p") == 100
    anew = replace(world.ctx, memo={})
    remember_ages(anew, ["prod"])
    assert source_age_s(anew, "p") == 100


def test_tasks_of_another_pool_take_nothing_from_this_ones_forecast(world, place):
    place.add(chain("r", ("a", "here", 2.0), ("b", "there", 64.0)))
    sync(world.ctx, place.source(), Router((Route("p", queue="here"), Route("q", queue="there"))))
    known = inputs(world.ctx, make_pool(), world.clock.now()).seen
    assert np.nansum(known.tasks["cpu"]) == 2.0
