"""A sweep over policies, knobs and lead times: resumed, in processes, and what it says when compared."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from preprov.model.pools import Guards, Within
from preprov.model.worktable import WorkTable
from preprov.replay import shelf
from preprov.replay.frontier import beaten_somewhere, cheapest, compared, dominates, frontier
from preprov.replay.installation import Installation
from preprov.replay.played import Played, Run
from preprov.replay.sweep import sweep, wanted_runs
from preprov.replay.yardstick import Case

from .test_yardstick import case
from .traces import T0

SETTINGS = {"reactive": [60.0, 600.0]}


def runs(over: Case, scales: tuple[float, ...] = (0.5, 1.0)) -> list[Run]:
    return wanted_runs(over, ["reactive"], scales, SETTINGS)


def figures(made, scale: float = 1.0):
    return [{k: v for k, v in r.items() if k not in ("seconds", "tick_ms")} for r in made.rows(scale)["reactive"]]


def test_a_sweep_has_every_setting_at_every_lead_scale():
    told: list[str] = []
    over = case()
    made = sweep(over, runs(over), progress=lambda share, what: told.append(what))
    assert told == ["0.5/reactive/60", "0.5/reactive/600", "1/reactive/60", "1/reactive/600"]
    document = json.loads(json.dumps(made.document()))
    rows = document["lead_scale"]["1"]["policies"]["reactive"]
    assert [r["knob"] for r in rows] == [60.0, 600.0]
    assert document["lead_scale"]["0.5"]["policies"]["reactive"][0]["wait_mean_s"] < rows[0]["wait_mean_s"]
    half, whole = (document["lead_scale"][s]["clairvoyant"][0]["cost_usd"] for s in ("0.5", "1"))
    assert half <= whole <= rows[0]["cost_usd"]


def test_a_sweep_is_taken_up_where_it_stopped(tmp_path: Path):
    told: list[str] = []
    over = case()
    first = sweep(over, runs(over)[:3], resume=tmp_path)
    again = sweep(over, runs(over), resume=tmp_path, progress=lambda share, what: told.append(what))
    assert told == ["1/reactive/600"]
    assert figures(again, 0.5) == figures(first, 0.5)
    (tmp_path / next(f.name for f in tmp_path.glob("reactive-60-1-*.json"))).write_text("{")
    told.clear()
    sweep(over, runs(over), resume=tmp_path, progress=lambda share, what: told.append(what))
    assert told == ["1/reactive/60"]
    told.clear()
    other = Case("nightly", over.work, over.pool, T0, over.until, warm_up_s=3600.0)
    sweep(other, runs(other), resume=tmp_path, progress=lambda share, what: told.append(what))
    assert len(told) == 4, "what was judged otherwise is played anew"


def tasks_with(**columns) -> Callable[[Case], Case]:
    def change(over: Case) -> Case:
        w = over.work
        return replace(over, work=WorkTable(w.runs, w.tasks.assign(**columns), w.parents, w.children))

    return change


def runs_with(**columns) -> Callable[[Case], Case]:
    def change(over: Case) -> Case:
        w = over.work
        return replace(over, work=WorkTable(w.runs.assign(**columns), w.tasks, w.parents, w.children))

    return change


def pool_with(**parts) -> Callable[[Case], Case]:
    return lambda over: replace(over, pool=replace(over.pool, **parts))


def without_parents(over: Case) -> Case:
    return replace(
        over, work=WorkTable(over.work.runs, over.work.tasks, over.work.parents[:-1], over.work.children[:-1])
    )


@pytest.mark.parametrize(
    "change",
    [
        *(tasks_with(memory=2.0), tasks_with(gpu=0.5), tasks_with(gang=True), tasks_with(signature="other")),
        *(runs_with(land_by=T0.timestamp()), runs_with(tenant="other"), runs_with(priority=3)),
        *(runs_with(schedule="0 2 * * *"), without_parents),
        *(pool_with(guards=Guards(max_nodes=7)), pool_with(binding=("cpu",)), pool_with(horizon_s=3600)),
        pool_with(floors=(Within(1),)),
        lambda over: replace(over, installation=Installation(look_ahead_s=3600)),
    ],
    ids=lambda c: c.__qualname__.split(".")[0],
)
def test_what_a_replay_hangs_on_is_played_anew(tmp_path: Path, change: Callable[[Case], Case]):
    told: list[str] = []
    over = case()
    asked = runs(over, (1.0,))[:1]
    sweep(over, asked, resume=tmp_path)
    sweep(over, asked, resume=tmp_path, progress=lambda share, what: told.append(what))
    assert not told
    sweep(change(over), asked, resume=tmp_path, progress=lambda share, what: told.append(what))
    assert told == [asked[0].key]


@pytest.mark.parametrize(
    ("name", "value", "lost"),
    [
        ("__version__", "0.2", {"preprov", "reactive"}),
        ("ENGINE", shelf.ENGINE + 1, {"preprov", "reactive"}),
        ("DECISIONS", shelf.DECISIONS + 1, {"preprov"}),
        ("version_of", lambda policy: "theirs 2" if policy == "reactive" else "", {"reactive"}),
    ],
)
def test_what_decides_otherwise_now_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, lost: set[str]
):
    over = case()
    kept = [Run(1.0, policy, 1.0) for policy in ("preprov", "reactive")]
    for run in kept:
        shelf.Shelf(tmp_path, over, False).put(run, Played({"knob": 1.0}, {}))
    assert all(shelf.Shelf(tmp_path, over, False).take(run) for run in kept)
    monkeypatch.setattr(shelf, name, value)
    assert {run.policy for run in kept if shelf.Shelf(tmp_path, over, False).take(run) is None} == lost


@pytest.mark.slow
def test_another_process_takes_what_one_has_kept(tmp_path: Path):
    """Sets have another order in each process."""
    text = "from tests.unit.replay.test_sweep import *; sweep(case(), runs(case())[:1], resume=Path(sys.argv[1]))"
    for seed in "12":
        words = [sys.executable, "-c", text, str(tmp_path)]
        subprocess.run(words, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=Path(__file__).parents[3])
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_tenants_and_nodes_are_kept_with_the_figures(tmp_path: Path):
    over = case()
    for _ in range(2):  # played, then taken from the shelf
        made = sweep(over, runs(over, (1.0,)), resume=tmp_path, capacity=True)
        played = made.played[Run(1.0, "reactive", 600.0)]
        (tenant,) = played.tenants
        assert tenant["tenant"] == "t"
        assert tenant["instances"] == played.row["instances"]
        assert tenant["wait_mean_s"] == pytest.approx(played.row["wait_mean_s"])
        assert max(played.nodes["ready"]) == 1
        assert max(played.nodes["warming"]) == 1
        capacity = made.capacity()
        assert set(capacity["knob"]) == {60.0, 600.0}
        assert set(capacity) >= {"ts", "group", "state", "ready_nodes", "used_cpu", "used_memory"}


@pytest.mark.slow
def test_processes_give_the_same_rows():
    over = case()
    assert figures(sweep(over, runs(over))) == figures(sweep(over, runs(over), workers=2))


def row(knob: float, wait: float, cost: float, **more: float) -> dict[str, float]:
    return {"knob": knob, "wait_mean_s": wait, "cost_usd": cost, "idle_cost_usd": cost - 10, **more}


def at(delay: float, cost: float) -> dict[str, float]:
    return {"mean_wait_s": delay / 2, "mean_delay_s": delay, "cost_usd": cost}


OURS = [row(1, 30, 40), row(2, 10, 50), row(3, 0, 70), row(4, 20, 90)]
REACTIVE = [row(60, 90, 35), row(600, 80, 45), row(3600, 60, 100)]
STATIC = [row(1, 40, 60), row(2, 5, 60), row(3, 0, 200)]


def test_the_frontier_leaves_out_what_another_setting_beats():
    assert [r["knob"] for r in frontier(OURS)] == [3, 2, 1]
    assert cheapest(OURS, 12)["knob"] == 2
    assert cheapest(REACTIVE, 12) is None


def test_who_beats_whom():
    assert not dominates(OURS, STATIC), "at 5 s ours pays 70"
    assert dominates(OURS, REACTIVE[1:])
    assert beaten_somewhere(OURS, [*STATIC, row(9, 8, 45)])
    assert not beaten_somewhere(OURS, REACTIVE)


def test_what_a_comparison_says():
    rival = [row(0, 70, 61, warm_hit_ratio_scheduled=0.5)]
    ours = [{**r, "warm_hit_ratio_scheduled": h} for r, h in zip(OURS, (0.7, 0.9, 1.0, 0.8), strict=True)]
    policies = {"reactive": REACTIVE, "static-running": STATIC, "reactive-max": rival, "preprov": ours}
    said = compared(policies, [at(0.0, 35.0), at(60.0, 20.0)])
    assert said["reactive_wait_s"] == 80
    assert said["overhead_at_quarter_usd"] == {
        "reactive": None,
        "static-running": 50,
        "reactive-max": None,
        "preprov": 40,
    }
    assert said["overhead_ratio"] == pytest.approx(0.8)
    assert said["scheduled_hits"] == 0.9
    assert said["dominates"] == ["reactive-max"]
    assert said["over_bound"] == [pytest.approx(2.0), pytest.approx(2.5)]
    late = {"preprov": [row(1, 0, 40, delay_mean_s=1e6)]}
    assert compared(late, [at(0.0, 35.0), at(60.0, 20.0)])["over_bound"] == [2.0, 2.0], "the last point holds beyond it"
    empty = compared({"preprov": []})
    assert empty["reactive_wait_s"] is empty["over_bound"] is None
