"""Runs that follow others: from live and expected runs of those that make way for them."""

from dataclasses import replace

import numpy as np
import pytest

from preprov.demand.following import expected_runs, foreseeable
from preprov.demand.known import Steps, expand_seen
from preprov.demand.learnt import expected_otherwise
from preprov.demand.runtimes import RuntimeModel
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from tests.unit.demand.work import AT, HOUR, NOW, Run, Task, instant, table

DAY = 24 * HOUR
LOAD = Schedule("load", "p", "0 14 * * *", "UTC")
"""Two hours after AT."""
REPORT = Schedule("report", "p", "", "UTC", follows=((("load", "out"),),))


def ran(dag: str, begin: float, *tasks: tuple[str, float, float], trigger: str = "scheduled") -> Run:
    """A run whose tasks (name, start, end) were so many seconds after its begin; NaN = not yet."""
    return Run(
        f"{dag}@{begin:.0f}",
        dag,
        begin,
        [Task(n, b - a, started=begin + a, ended=begin + b) for n, a, b in tasks],
        scheduled_for=begin if trigger == "scheduled" else np.nan,
        trigger=trigger,
        timing="observed",
    )


def past(days: int = 6, lag: float = 600.0, followed: bool = True) -> list[Run]:
    """Each day at 14:00 the first makes its asset after 600 s; it is over 400 s later."""
    out = []
    for day in range(days, 0, -1):
        out.append(ran("load", 2 * HOUR - day * DAY, ("in", 0, 100), ("out[0]", 100, 300), ("out[1]", 100, lag)))
        if followed:
            out.append(ran("report", 2 * HOUR - day * DAY + lag + 5, ("r", 0, 50), trigger="dataset"))
    return out


def starts(runs: list[Run], *schedules: Schedule, hours: float = 24.0) -> dict[str, list[float]]:
    """DAG -> medians of its expected begins, in seconds after AT."""
    seen = table(runs).as_of(AT)
    out: dict[str, list[float]] = {}
    for p in expected_runs(seen, schedules, AT, instant(hours * HOUR)).runs:
        out.setdefault(p.dag_id, []).append(float(np.median(p.turn + p.delays)) - NOW)
    return out


def test_a_run_is_expected_when_the_task_that_makes_its_asset_usually_ends():
    found = starts(past(), LOAD, REPORT, hours=30)
    assert found["load"] == pytest.approx([2 * HOUR, 26 * HOUR], abs=60)
    assert found["report"] == pytest.approx([2 * HOUR + 600, 26 * HOUR + 600], abs=60)


def test_what_runs_now_is_followed_from_where_it_stands_and_only_until_it_was():
    live = ran("load", -200.0, ("in", 0, 100), ("out", 100, np.nan))
    assert starts([*past(), live], REPORT)["report"] == pytest.approx([400.0], abs=5)
    late = ran("load", -900.0, ("in", 0, 100), ("out", 100, np.nan))
    assert starts([*past(), late], REPORT)["report"] == pytest.approx([0.0]), "any moment"
    made = ran("load", -700.0, ("in", 0, 100), ("out", 100, 690), ("more", 0, np.nan))
    assert starts([*past(), made], REPORT)["report"] == pytest.approx([0.0]), "it has not come yet"
    came = ran("report", -5.0, ("r", 0, np.nan), trigger="dataset")
    assert "report" not in starts([*past(), made, came], REPORT)
    long_ago = ran("load", -2 * HOUR, ("in", 0, 100), ("out", 100, 600))
    assert "report" not in starts([*past(), long_ago], REPORT), "it will not come any more"
    bad = ran("load", -700.0, ("in", 0, 100), ("out", 100, 690))
    bad = replace(bad, tasks=[replace(t, runtime=np.nan) for t in bad.tasks])
    assert "report" not in starts([*past(), bad], REPORT), "a task that failed makes nothing"


def test_all_of_an_alternative_must_have_come_and_each_begin_uses_them_up():
    hourly = Schedule("hourly", "p", "0 * * * *", "UTC")
    work = past(followed=False) + [ran("hourly", -h * HOUR, ("h", 0, 60)) for h in range(1, 100)]
    both = replace(REPORT, follows=((("hourly", "h"), ("load", "out")),))
    either = replace(REPORT, follows=((("hourly", "h"),), (("load", "out"),)))
    work.append(ran("report", -30 * 60.0, ("r", 0, 50), trigger="dataset"))
    assert starts(work, LOAD, hourly, both)["report"] == pytest.approx([2 * HOUR + 600], abs=60)
    wanted = [HOUR + 60, 2 * HOUR + 60, 2 * HOUR + 600, 3 * HOUR + 60]
    assert starts(work, LOAD, hourly, either, hours=4)["report"] == pytest.approx(wanted, abs=1)


def test_chains_and_circles_are_followed_once():
    chain = Schedule("chain", "p", "", "UTC", follows=((("report", "r"),),))
    assert starts(past(), chain, REPORT, LOAD)["chain"] == pytest.approx([2 * HOUR + 650], abs=60)
    back = replace(LOAD, follows=((("report", "r"),), (("load", "out"),)))
    assert len(starts(past(), back, REPORT)["report"]) == 1
    assert "report" not in starts(past(), LOAD, replace(REPORT, paused=True))
    assert starts(past(0), LOAD, REPORT).keys() == {"load"}, "nobody knows when that ends"


def test_a_dag_is_left_to_recurrence_unless_what_it_follows_can_be_foretold():
    alone = Schedule("alone", "p", "", "UTC")
    elsewhere = Schedule("other", "p", "", "UTC", follows=((("load", "out"), ("of another pool", "x")),))
    chain = Schedule("chain", "p", "", "UTC", follows=((("report", "r"),), (("alone", "x"),)))
    assert foreseeable((LOAD, REPORT, chain, alone, elsewhere)) == {"load", "report", "chain"}


def test_what_follows_is_in_the_demand_and_not_expected_twice(inputs):
    seen = table(past(20)).as_of(AT)
    steps = Steps.of(AT, AT, int(6 * HOUR), 600, 64, 0)
    model = RuntimeModel.learn(seen, AT)
    alone, beside = (expand_seen(seen, s, AT, model, steps) for s in ((LOAD,), (LOAD, REPORT)))
    assert (beside.mean - alone.mean)[..., 0].sum() > 0
    given = inputs(seen, (LOAD, REPORT))
    assert not expected_otherwise(given, instant(DAY))[1]
    recurring = expected_otherwise(inputs(seen, (LOAD, replace(REPORT, follows=()))), instant(DAY))[1]
    assert {r.dag_id for r in recurring} == {"report"}, "one that nobody foretells is known by how it came back"


@pytest.fixture
def inputs():
    from preprov.demand.inputs import DemandInputs
    from preprov.model.reference import reference_pool

    def made(seen: WorkTable, schedules: tuple[Schedule, ...]) -> DemandInputs:
        return DemandInputs(reference_pool("p"), AT, seen, schedules, None, AT, int(DAY), 600)

    return made
