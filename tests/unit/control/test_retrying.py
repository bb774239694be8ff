"""What ran out of memory is tried again with more, as far as a node has it and the tenant may; the rest as ever."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

from preprov.control.context import Tenant
from preprov.control.why import why_run
from preprov.model.curved import CurvePacking
from preprov.model.plans import ActionKind
from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.sim.scheduler import SimScheduler
from tests.unit.control.world import World, dag, make_pool, make_world


@pytest.fixture
def world_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    return partial(_world_of, monkeypatch)


def _world_of(monkeypatch: pytest.MonkeyPatch, needs: float, tenants: dict[str, Tenant] | None = None) -> World:
    """Tasks that need so many GiB, and are killed if they have less."""
    world = make_world(make_pool(packing=CurvePacking()))
    sim = SimScheduler(world.clock, world.cloud, out_of_memory=lambda t: t.spec.request.memory < needs)
    ctx = replace(world.ctx, schedulers={"sim": sim}, tenants=tenants or {})
    work = ctx.ports.work
    save = work.save_tasks

    def saved(tasks: Sequence[TaskRun]) -> None:  # as a database does: what was submitted is never overwritten
        kept = {(t.run_id, t.task_id): t.spec for t in work.task_runs([t.run_id for t in tasks])}
        save([replace(t, spec=kept[t.run_id, t.task_id]) for t in tasks])

    monkeypatch.setattr(work, "save_tasks", saved)
    return replace(world, ctx=ctx, scheduler=sim)


def tried(world: World, *, memory: float = 2.0, retries: int = 9, **more: object) -> tuple[TaskRun, list[float]]:
    """The task when it is over, and the GiB that each attempt had."""
    spec = TaskSpec("t", ("x",), request=Resources(1, memory), runtime_hint_s=30, retries=retries)
    (run,) = world.submit(dag("d", replace(spec, **more)))  # type: ignore[arg-type]
    had: dict[str, float] = {}

    def look(_: object) -> None:
        for r in world.ctx.ports.ledger.reservations("p"):
            if r.state is ReservationState.COMMITTED:
                had[r.claimant] = r.most.memory

    for _ in range(10):
        world.run_for(120, each=look)
        (task,) = world.ctx.ports.work.task_runs([run.run_id])
        if task.state.is_final:
            break
    return task, list(had.values())


def test_each_attempt_has_twice_as_much_and_it_is_said_why(world_of: Callable[..., World]) -> None:
    world = world_of(7.0)
    task, had = tried(world)
    assert (task.state, had) == (State.SUCCEEDED, [2.0, 4.0, 8.0])
    rows = [r for r in world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.RESIZE]
    assert [(r.action.numbers["memory_before"], r.action.numbers["memory_after"]) for r in rows] == [(2, 4), (4, 8)]
    assert any("ran out of memory: 2 -> 4 GiB" in e.why for e in why_run(world.ctx, task.run_id).events)
    assert not [r for r in world.ctx.ports.ledger.reservations("p") if r.claimant.startswith(task.run_id)]


def test_no_attempt_has_more_than_a_node_and_the_last_says_what_was_wrong(
    world_of: Callable[..., World],
) -> None:
    task, had = tried(world_of(99.0), memory=6.0, retries=3)
    assert task.state is State.FAILED
    assert had == [6.0, 12.0, 16.0, 16.0]
    assert task.reason == "ended with exit code -9, out of memory"


def test_one_that_fails_for_another_reason_has_as_much_again(world_of: Callable[..., World]) -> None:
    world = world_of(3.0)
    world.scheduler.exit_code = lambda t: 3 if t.attempt == 2 else 0
    task, had = tried(world)
    assert (task.state, had) == (State.SUCCEEDED, [2.0, 4.0, 4.0])


def test_a_quota_bounds_it(world_of: Callable[..., World]) -> None:
    task, had = tried(world_of(99.0, {"default": Tenant(quota={"memory": 5.0})}), retries=3)
    assert task.state is State.FAILED
    assert had == [2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize("gang", [True, False])
def test_all_instances_have_as_much(world_of: Callable[..., World], gang: bool) -> None:
    task, had = tried(world_of(3.0), instances=2, gang=gang)
    assert task.state is State.SUCCEEDED
    assert sorted(had) == [2.0, 2.0, 4.0, 4.0]


def test_without_retries_or_for_another_reason_nothing_is_raised(world_of: Callable[..., World]) -> None:
    task, had = tried(world_of(7.0), retries=0)
    assert (task.state, had) == (State.FAILED, [2.0])
    world = make_world()
    world.scheduler.exit_code = lambda _: 3
    task, had = tried(world, retries=1)
    assert (task.state, had) == (State.FAILED, [2.0, 2.0])
