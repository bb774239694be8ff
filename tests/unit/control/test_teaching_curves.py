"""The sequence model of a pool: kept and read safely, given to what foretells tasks, taught where torch is."""

import numpy as np
import pytest

from preprov.control import teaching_curves
from preprov.control.measuring import watched_runs
from preprov.control.rightsizing import show_task
from preprov.control.teaching_curves import KIND, teach_curves, vintages_of
from preprov.model.agent import Usage
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.work import TaskSpec
from preprov.profiles import sequence_teacher
from preprov.profiles.curve_sizer import CurveSizer
from preprov.profiles.sequence import FORMAT, Vintage, Vintages
from tests.unit.control.test_adjusting_tasks import flat, stage
from tests.unit.control.world import World, dag, make_world, task
from tests.unit.profiles.test_sequence import network

TASK = TaskSpec("greedy", ("true",), request=Resources(cpu=2, memory=12), runtime_hint_s=60)


def watched(world: World, runs: int) -> None:
    """Runs one after the other: a rise to a peak that varies, then half of it."""
    rng = np.random.default_rng(0)
    for _ in range(runs):
        (run,) = world.submit(dag("etl", TASK))
        world.run_for(200)
        (served,) = world.ctx.ports.work.task_runs([run.run_id])
        assert served.started_at is not None
        begun, height = epoch(served.started_at), 3.0 * float(rng.lognormal(0, 0.1))
        usage = [
            Usage(begun + s, cpu=height / 4, memory=height * min(s, 30) / 30 if s <= 30 else height / 2)
            for s in range(0, 61, 10)
        ]
        world.ctx.ports.samples.append("p", [(served.claimant(0), u) for u in usage])


def keep(world: World, blob: bytes) -> str:
    return world.ctx.ports.models.save("p", KIND, FORMAT, blob, at=world.clock.now(), metrics={}).version


def test_without_torch_nothing_is_taught_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching_curves, "available", lambda: False)
    world = make_world()
    assert teach_curves(world.ctx, world.pool) is None
    assert vintages_of(world.ctx, world.pool) is None
    assert world.ctx.ports.models.versions("p") == ()


def test_what_is_kept_is_given_and_what_cannot_be_read_is_left_out() -> None:
    world = make_world()
    keep(world, Vintage(1.0, network(1)).to_bytes())
    world.run_for(60)
    keep(world, b'{"not": "weights"}')
    world.run_for(60)
    keep(world, Vintage(3.0, network(3)).to_bytes())
    found = vintages_of(world.ctx, world.pool)
    assert found is not None
    assert [v.until for v in found.kept] == [1.0, 3.0]


def test_a_task_is_shown_with_the_model_among_those_that_foretell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    watched(world, 7)
    keep(world, Vintage(-np.inf, network()).to_bytes())
    asked = []
    before = Vintages.before

    def noted(self: Vintages, at: float) -> object:
        asked.append(at)
        return before(self, at)

    monkeypatch.setattr(Vintages, "before", noted)
    shown = show_task(world.ctx, world.pool, "etl/greedy")
    assert set(shown.curves) == {"cpu", "memory"}
    assert asked
    assert max(asked) < epoch(world.clock.now())


def test_once_a_tenth_of_its_time_is_over_what_a_running_task_uses_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s = stage(flat(0.5, 0.6))
    for _ in range(4):
        (run,) = s.world.submit(dag("etl", task("a", seconds=300)))
        s.run(500)
        (served,) = s.world.ctx.ports.work.task_runs([run.run_id])
        assert served.started_at is not None
        begun = epoch(served.started_at)
        usage = [Usage(begun + at, cpu=0.5, memory=0.6) for at in range(0, 300, 10)]
        s.world.ctx.ports.samples.append("p", [(served.claimant(0), u) for u in usage])
    asked: list[tuple[str, tuple[float, float] | None]] = []
    curve = CurveSizer.curve

    def noted(self: CurveSizer, known: object, resource: str, seen: tuple[float, float] | None = None) -> object:
        asked.append((resource, seen))
        return curve(self, known, resource, seen)  # type: ignore[arg-type]

    monkeypatch.setattr(CurveSizer, "curve", noted)
    s.world.submit(dag("etl", task("a", seconds=300)))
    s.run(250)
    assert [told for _, told in asked] == [None, None]  # no sequence model, no second look
    s.run(300)
    keep(s.world, Vintage(-np.inf, network()).to_bytes())
    s.world.ctx.memo.clear()
    asked.clear()
    s.world.submit(dag("etl", task("a", seconds=300)))
    s.run(250)
    told = {resource: seen for resource, seen in asked if seen is not None}
    assert len(asked) == 4
    assert {r: seen[1] for r, seen in told.items()} == pytest.approx({"cpu": 0.5, "memory": 0.6})
    assert all(30 <= seen[0] <= 120 for seen in told.values())


def test_a_vintage_is_taught_from_all_that_ended_kept_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    monkeypatch.setattr(sequence_teacher, "_STEPS", (20, 20))
    world = make_world()
    watched(world, 20)
    assert teach_curves(world.ctx, world.pool) is None  # too little
    watched(world, 25)
    assert [len(runs) for runs in watched_runs(world.ctx, world.pool, until=world.clock.now()).values()] == [45]
    first = teach_curves(world.ctx, world.pool)
    assert first is not None
    assert first.champion
    world.run_for(60)
    second = teach_curves(world.ctx, world.pool)
    assert second is not None
    assert [(v.version, v.champion) for v in world.ctx.ports.models.versions("p")] == [
        (second.version, True),
        (first.version, False),
    ]
    found = vintages_of(world.ctx, world.pool)
    assert found is not None
    assert [v.until for v in found.kept] == [epoch(first.created_at), epoch(second.created_at)]
    assert found.kept[0].lessons == int(first.metrics["lessons"]) >= 64
