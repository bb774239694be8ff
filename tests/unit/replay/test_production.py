"""The policy preprov: the production passes on the simulated cloud."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from preprov.model.time import from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from preprov.replay.engine import Binding, replay
from preprov.replay.policies import Reactive
from preprov.replay.production import Preprov
from preprov.replay.result import ReplayResult

from .traces import T0, T, pool_of, work_of

DAY = 86_400.0
DAYS = 10
SCHEDULES = (Schedule("d", "p", "0 2 * * *", "UTC"),)


def nightly(late_s: Sequence[float] = (0.0,), wave: int = 8) -> WorkTable:
    """Every night at 02:00 (or later): one task, then a wave of 20 minutes."""
    members = [T(300.0), *(T(1200.0, parents=(0,)) for _ in range(wave))]
    work = work_of([(d * DAY + 7200 + late_s[d % len(late_s)], members) for d in range(DAYS)], trigger="scheduled")
    turns = np.array([T0.timestamp() + d * DAY + 7200 for d in range(DAYS)])
    return WorkTable(
        work.runs.assign(schedule="0 2 * * *", scheduled_for=turns), work.tasks, work.parents, work.children
    )


class Small(Preprov):
    """With few samples and a short horizon, and no nightly fit: what is tested here is the wiring."""

    def __init__(self, knob: float = 5.0) -> None:
        super().__init__(knob, samples=20)
        self.shown: list[tuple[float, WorkTable]] = []

    def bind(self, binding: Binding) -> None:
        super().bind(binding)
        self.binding = binding

    def _forecast(self, now: float) -> None:
        self.shown.append((now, self.ctx.ports.work.work("p", until=from_epoch(now)).as_of(from_epoch(now))))


def play(work: WorkTable, policy, *, schedules=SCHEDULES, hours: float = 5.0) -> ReplayResult:
    pool = replace(pool_of(lead_s=240.0, sigma=True), horizon_s=4 * 3600)
    first = T0 + timedelta(days=DAYS - 2)
    return replay(
        work,
        pool,
        policy,
        judged_from=first,
        until=first + timedelta(hours=hours),
        schedules=schedules,
        warm_up_s=1800.0,
    )


@pytest.mark.slow
def test_nodes_are_warm_before_scheduled_work_and_gone_after_it():
    policy = Small()
    result = play(nightly(), policy, hours=5.0)
    again = play(nightly(), Reactive(), hours=5.0)
    assert result.evicted == result.unstarted == 0
    assert result.waits.warm > 0.9 > again.waits.warm
    assert result.waits.mean < again.waits.mean / 4
    assert result.ticks == 3961  # one every five seconds
    assert policy.solves == 12  # a plan every half hour, reactions between them
    ready = result.nodes[result.nodes.phase == "ready"]
    first_ready = from_epoch(float(ready.start.min()))
    assert (first_ready.hour, first_ready.minute >= 30) == (1, True)
    assert result.node_hours < 4


@pytest.mark.slow
def test_the_store_shows_the_past_as_played_and_nothing_of_the_future():
    policy = Small(0.05)
    result = play(nightly(), policy, hours=6.0)
    starts = result.per_instance.set_index("task")["start"]
    for now, work in policy.shown:
        assert work.runs["submit"].max() <= now
        times = work.tasks[["ready_at", "started_at", "ended_at"]].to_numpy()
        assert np.nanmax(times) <= now
    last = policy.shown[-1][1]
    played = last.runs.index[last.runs["timing"] == "observed"]
    assert len(played) == 1
    tasks = last.tasks[last.tasks["run"] == played[0]]
    observed = tasks["started_at"].to_numpy()
    assert np.sort(observed) == pytest.approx(np.sort(starts.to_numpy()), abs=1e-3)
    assert (tasks["ended_at"] - tasks["started_at"]).to_numpy() == pytest.approx(
        tasks["runtime_s"].to_numpy(), abs=1e-3
    )
    early = policy.shown[0][1]
    assert (early.runs["timing"] == "nominal").all()
    assert early.runs["submit"].max() < (T0 + timedelta(days=DAYS - 2)).timestamp()


@pytest.mark.slow
def test_hidden_schedules_leave_no_trace():
    policy = Small()
    play(nightly(), policy, schedules=(), hours=1.0)
    shown = policy.shown[-1][1].runs
    assert set(shown["schedule"]) == {""}
    assert shown["scheduled_for"].isna().all()
    assert set(shown["trigger"]) == {"manual"}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_replay():
    a, b = play(nightly([0, 600.0]), Small(), hours=4.0), play(nightly([0, 600.0]), Small(), hours=4.0)
    assert a.nodes.equals(b.nodes)
    assert a.per_instance.equals(b.per_instance)
