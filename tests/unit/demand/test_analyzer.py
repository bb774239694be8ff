import json

import numpy as np
import pytest

from preprov.demand.analyzer import QueueAnalysis, analyze
from preprov.model.demand import QUANTILES
from preprov.model.worktable import WorkTable
from tests.unit.demand.test_known import CHAIN, NIGHTLY, garbled, world
from tests.unit.demand.work import AT, HOUR, Run, Task, history, instant, table


def analysis(work: WorkTable, **more: object) -> QueueAnalysis:
    asked: dict[str, object] = {"horizon_s": 24 * 3600, "step_seconds": 300, **more}
    return analyze(work, (NIGHTLY,), AT, **asked)  # type: ignore[arg-type]


def test_running_queued_due_and_their_demand() -> None:
    found = analysis(world())
    assert (found.running.runs, found.running.task_instances, found.running.cores) == (1, 1, 1.0)
    assert (found.queued.runs, found.queued.task_instances) == (2, 2)
    assert (found.ready.runs, found.ready.task_instances) == (1, 1)
    assert [d.dag_id for d in found.due] == ["nightly"]
    assert found.observed is None
    assert found.curve.steps == 288
    assert found.curve.samples[:, 0, 0].min() >= 2  # what runs and what waits for room


def test_features_of_a_run() -> None:
    tasks = [
        Task("a", np.nan, cpu=1.0),
        *(Task(f"m{i}", np.nan, ("a",), cpu=2.0, instances=3) for i in range(4)),
        Task("z", np.nan, tuple(f"m{i}" for i in range(4)), cpu=1.0),
    ]
    usual = [Task(t.task_id, 600.0, t.parents, t.cpu, instances=t.instances) for t in tasks]
    live = Run("live", "d", -1.0, tasks, due=HOUR, more={"priority": 7, "land_by": AT.timestamp() + 9000})
    (run,) = analysis(table([*history("d", usual, spread=0.2), live])).runs
    assert (run.run_id, run.dag_id, run.tenant, run.state, run.priority) == ("live", "d", "team", "queued", 7)
    assert (run.tasks, run.instances, run.width, run.depth) == (6, 14, 12, 3)
    assert run.request["cpu"] == 24.0
    assert run.core_hours_left == pytest.approx((600 + 12 * 2 * 600 + 600) / 3600, rel=0.1)
    assert HOUR + 1500 < run.critical_path_s["p50"] < run.critical_path_s["p95"]
    assert run.expected_end == instant(run.critical_path_s["p50"])
    assert run.land_by == instant(9000.0)


def test_a_run_that_has_begun_says_what_is_left() -> None:
    past = history("d", CHAIN)
    live = Run("live", "d", -900.0, [Task("a", 600.0), Task("b", 1e5, ("a",), 4.0), Task("c", 1.0, ("b",))])
    (run,) = analysis(table([*past, live])).runs
    assert run.state == "running"
    assert (run.tasks, run.depth) == (2, 2)
    assert run.critical_path_s["p50"] == pytest.approx(900 + 300, rel=0.1)
    assert run.core_hours_left == pytest.approx((4 * 900 + 300) / 3600, rel=0.1)


def test_what_really_ran_is_told_beside_the_nominal() -> None:
    jobs = [
        Run("ran", "d", -7200.0, [Task("j", 3600.0, ready=-7200.0, started=-1800.0, ended=1800.0, cpu=8.0)]),
        Run("waits", "d", -600.0, [Task("j", 3600.0, ready=-600.0, started=900.0, ended=4500.0, cpu=2.0)]),
        Run("done", "d", -9000.0, [Task("j", 60.0, ready=-9000.0, started=-8000.0, ended=-7940.0)]),
    ]
    found = analysis(table(jobs))
    assert found.observed is not None
    assert found.observed["running"].cores == 8.0
    assert found.observed["queued"].cores == 2.0
    assert found.running.cores == 2.0  # nominal: the first would have ended, the second would run
    assert found.queued.task_instances == 0


def test_as_json() -> None:
    body = analysis(world(), quantiles=(0.1, 0.5, 0.9)).as_dict()
    again = json.loads(json.dumps(body))
    assert again["quantiles"] == [0.1, 0.5, 0.9]
    assert len(again["points"]) == 288
    assert set(again) >= {"queued", "running", "due", "runs", "step_seconds", "quantiles", "points", "resource", "unit"}
    assert again["running"]["cores"] == 1.0
    assert again["queued"]["ready"]["task_instances"] == 1
    assert set(again["runs"][0]) >= {
        "run_id",
        "dag_id",
        "tenant",
        "state",
        "submitted",
        "tasks",
        "instances",
        "width",
        "depth",
        "critical_path_s",
        "expected_end",
        "priority",
        "core_hours_left",
    }
    memory = analysis(world()).as_dict("memory")
    assert (memory["resource"], memory["unit"]) == ("memory", "GiB")


def test_an_empty_queue() -> None:
    body = analysis(table([])).as_dict()
    assert body["runs"] == []
    assert analysis(table([])).curve.quantiles == QUANTILES


def test_nothing_submitted_later_shows() -> None:
    work = world()
    clean, dirty = analysis(work), analysis(garbled(work, 5))
    assert clean.as_dict() == dirty.as_dict()
    assert not any(r.run_id.startswith("f") for r in clean.runs)
    submitted = set(work.runs["run_id"][work.runs["submit"] <= AT.timestamp()])
    assert {r.run_id for r in clean.runs} <= submitted
