"""What is learnt of signatures is bounded in memory and in every round, and knows at once of a run that ended."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from preprov.contracts import TaskReport
from preprov.control import lifecycle, outlooks, phased, probing
from preprov.control.learnt import LOOKS_A_ROUND, MOST, RUNS_A_ROUND, Key, Signatures, signatures_of
from preprov.control.outlooks import curves_of
from preprov.control.phased import Curves
from preprov.model.agent import Usage
from preprov.model.curved import CurvePacking
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.work import DagRun, State, TaskRun, TaskSpec
from preprov.profiles.curve_sizer import CurveSizer
from tests.unit.control.world import START, World, dag, make_pool, make_world

TASK = TaskSpec("greedy", ("true",), request=Resources(cpu=2, memory=12), runtime_hint_s=60)


def begun(world: World, spec: TaskSpec = TASK) -> tuple[DagRun, TaskRun]:
    """A run that has gone on for a minute."""
    (run,) = world.submit(dag("etl", spec))
    (task,) = world.ctx.ports.work.task_runs([run.run_id])
    task = replace(task, state=State.RUNNING, started_at=world.clock.now())
    world.ctx.ports.work.save_tasks([task])
    world.clock.sleep(61)
    return run, task


def usage(task: TaskRun, peak: float) -> list[Usage]:
    assert task.started_at is not None
    at = epoch(task.started_at)
    return [Usage(at + s, cpu=peak / 4, memory=peak * min(s, 30) / 30) for s in range(0, 61, 10)]


def ended(world: World, task: TaskRun, peak: float) -> None:
    """Said by the scheduler, and taken in as it is in a round of dispatch."""
    assert task.started_at is not None
    end = task.started_at + timedelta(seconds=60)
    told = TaskReport(task.claimant(0), "n", task.started_at, end, 0, usage=tuple(usage(task, peak)))
    lifecycle.absorb(world.ctx, world.pool, lifecycle.load(world.ctx, world.pool), [told], world.clock.now())


def past(world: World, runs: int) -> tuple[DagRun, TaskRun]:
    """That many that ended, and one that runs."""
    rng = np.random.default_rng(0)
    for _ in range(runs):
        ended(world, begun(world)[1], 3.0 * float(rng.lognormal(0, 0.1)))
    return begun(world)


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Peaks of runs that models learn, in their order."""
    out: list[float] = []
    learn = CurveSizer.learn

    def noted(self: CurveSizer, run: object) -> None:
        out.append(float(run.memory.max()))  # type: ignore[attr-defined]
        learn(self, run)  # type: ignore[arg-type]

    monkeypatch.setattr(CurveSizer, "learn", noted)
    return out


def test_a_signature_of_many_runs_is_learnt_over_several_rounds(taught: list[float]) -> None:
    world = make_world()
    run, task = past(world, 2 * RUNS_A_ROUND + 2)
    known = signatures_of(world.ctx)
    for learnt in (RUNS_A_ROUND, 2 * RUNS_A_ROUND):
        known.new_round("p")
        assert curves_of(world.ctx, world.pool, run, task) is None, "not its turn yet, which is not: nothing is known"
        assert curves_of(world.ctx, world.pool, run, task) is None
        assert len(taught) == learnt
    known.new_round("p")
    curves = curves_of(world.ctx, world.pool, run, task)
    assert curves is not None
    assert set(curves) == {"cpu", "memory"}
    assert len(taught) == 2 * RUNS_A_ROUND + 2
    assert curves["memory"].runs == 2 * RUNS_A_ROUND + 2


def test_a_run_that_ends_is_known_to_the_very_next_that_asks_and_nothing_is_learnt_twice(taught: list[float]) -> None:
    world = make_world()
    run, task = past(world, 4)
    known = signatures_of(world.ctx)
    known.new_round("p")
    before = curves_of(world.ctx, world.pool, run, task)
    assert before is not None
    assert before["memory"].runs == 4
    ended(world, task, 3.7)
    known.new_round("p")
    after = curves_of(world.ctx, world.pool, *begun(world))
    assert after is not None
    assert after["memory"].runs == 5
    assert after["memory"].peak[-1] > before["memory"].peak[-1]
    assert len(taught) == 5
    assert taught[-1] == pytest.approx(3.7)
    world.clock.sleep(601)
    known.new_round("p")
    assert curves_of(world.ctx, world.pool, run, task) is not None
    assert len(taught) == 5, "it is read again, and has nothing new to learn"


def test_packing_and_probing_know_of_a_run_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(make_pool(packing=CurvePacking(runs=4)))
    _, task = past(world, 3)
    live = lifecycle.load(world.ctx, world.pool)
    assert Curves(world.ctx, world.pool, live).future(task) is None
    assert len(probing._past(world.ctx, world.pool, live, task).peaks) == 3  # type: ignore[union-attr]
    ended(world, task, 3.1)
    run, task = begun(world)
    live = lifecycle.load(world.ctx, world.pool)
    known = phased.usual_runs(world.ctx, world.pool, run.dag_id, task)
    assert len(known) == 4
    asked = []
    monkeypatch.setattr(phased, "usual_runs", lambda *_: asked.append(1) or known)
    Curves(world.ctx, world.pool, live).future(task)
    assert asked == [1], "what was known is not taken for true any more"
    assert len(probing._past(world.ctx, world.pool, live, task).peaks) == 4  # type: ignore[union-attr]


def test_ten_thousand_new_signatures_cost_a_round_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(make_pool(packing=CurvePacking()))
    run, task = past(world, 1)
    live = lifecycle.load(world.ctx, world.pool)
    looks = {m: 0 for m in (outlooks, phased, probing)}
    for module in looks:
        usual = module.usual_runs

        def counted(*args: object, of: object = module, usual: object = usual) -> object:
            looks[of] += 1  # type: ignore[index]
            return usual(*args)  # type: ignore[operator]

        monkeypatch.setattr(module, "usual_runs", counted)
    new = [replace(task, signature=f"{task.signature}-{i}") for i in range(10_000)]
    known = signatures_of(world.ctx)
    keys = len(world.ctx.memo)
    known.new_round("p")
    curves = Curves(world.ctx, world.pool, live)
    for one in new:
        curves_of(world.ctx, world.pool, run, one)
        curves.future(one)
        probing._past(world.ctx, world.pool, live, one)
    assert set(looks.values()) == {LOOKS_A_ROUND}
    assert len(known) == 0
    assert known.unknown == 3 * LOOKS_A_ROUND
    assert len(world.ctx.memo) <= keys + 2, "they are not kept one by one"


def test_of_ten_thousand_that_are_known_the_last_are_kept() -> None:
    known = Signatures()
    for i in range(10_000):
        known.new_round("p")
        assert known.ask(Key("p", "curves", "d", f"s{i}"), START, lambda _, i=i: i) == (i, True)
        known.ask(Key("p", "curves", "d", "s0"), START, lambda _: pytest.fail("it was asked for all the time"))
        known.ask(Key("p", "curves", "d", f"none{i}"), START, lambda _: None)
    assert len(known) == MOST
    assert known.unknown == 10_000
    for i in range(10_000, 20_001):
        known.new_round("p")
        known.ask(Key("p", "curves", "d", f"none{i}"), START, lambda _: None)
    assert known.unknown == 20_000
    known.new_round("p")
    assert known.ask(Key("p", "curves", "d", "s5"), START, lambda before: before) == (None, True)
