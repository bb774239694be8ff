"""Reservations follow curves, peaks that do not meet share a node, and what is held and not used is given back."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from preprov.control.why import why_run
from preprov.model.curved import CurvePacking
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Group, Guards, Within
from preprov.model.reservations import Reservation, ReservationState
from preprov.model.resources import Resources
from preprov.model.room import claim_of, fits, micros
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.sim.adjustable import AdjustableSim
from tests.unit.control.world import World, dag, make_pool, make_world

ROOM = Resources(cpu=10, memory=32)
LOADS = 240.0
LATE, EARLY, OTHER = "late", "early", "other"
DEFAULT = CurvePacking()


@dataclass
class Stage:
    """One node of ten cores; tasks that load on one core for four minutes and take eight for two, or early: first."""

    world: World
    turns: dict[str, float]

    def submit(self, turn: float = LOADS, dag_id: str = LATE, **more: object) -> str:
        spec = TaskSpec("t", command=("x",), request=Resources(cpu=8, memory=8), runtime_hint_s=360)
        (run,) = self.world.submit(dag(dag_id, replace(spec, **more)))  # type: ignore[arg-type]
        self.turns[run.run_id] = turn
        return run.run_id

    def learn(self, turns: tuple[float, ...] = (LOADS, LOADS + 3, LOADS + 6) * 3, dag_id: str = LATE) -> None:
        for turn in turns:
            self.submit(turn, dag_id)
        while any(not r.state.is_final for r in self.world.ctx.ports.work.runs("p")):
            self.world.run_for(360, every=30, plan_every=1800)

    def run(self, seconds: float) -> None:
        self.world.run_for(seconds, every=10, plan_every=1800, each=lambda _: self.within_the_node())

    def claims(self, state: ReservationState = ReservationState.COMMITTED) -> dict[str, Reservation]:
        live = self.world.ctx.ports.ledger.reservations("p")
        return {r.claimant.split("/")[0]: r for r in live if r.state is state}

    def within_the_node(self) -> None:
        now = micros(self.world.clock.now())
        claims = [claim_of(r).late(now) for r in self.claims().values()]
        assert fits(claims, now, now + 10**12, ROOM) is None


def stage(packing: CurvePacking | None = DEFAULT, **more: object) -> Stage:
    turns: dict[str, float] = {}
    node = Offering("m", ROOM, usd_per_hour=0.4)
    group = Group(
        "g", "sim", (node,), standby_states=frozenset({Standby.RUNNING}), max_nodes=1,
        lead={Standby.COLD: LeadTime(60, 90)},
    )  # fmt: skip
    guards, floors = Guards(max_nodes=1), (Within(1),)
    world = make_world(make_pool(groups=(group,), packing=packing, guards=guards, floors=floors, **more))

    def load(t: TaskRun, seconds: float) -> Resources:
        early = world.ctx.ports.work.run(t.run_id).dag_id == EARLY  # type: ignore[union-attr]
        works = (seconds >= turns[t.run_id]) is not early
        return Resources(cpu=8, memory=6) if works else Resources(cpu=1, memory=2)

    sim = AdjustableSim(world.clock, world.cloud, load=load, seconds=lambda _: 360.0)
    return Stage(replace(world, ctx=replace(world.ctx, schedulers={"sim": sim}), scheduler=sim), turns)


def test_reservations_follow_the_curve_and_tasks_whose_peaks_do_not_meet_share_a_node():
    s = stage()
    s.learn()
    first = s.submit()
    s.run(10)
    held = s.claims()[first]
    assert 2 <= len(held.segments) <= 4
    assert held.segments[0].amount.cpu < 2 < 8 <= held.most.cpu < 10
    second = s.submit()
    s.run(60)
    assert second not in s.claims(), "their peaks would meet"
    waiting = s.claims(ReservationState.SOFT)[second]
    assert len(waiting.segments) >= 2, "the whole curve is reserved softly while it waits"
    s.run(120)
    assert {first, second} <= s.claims().keys(), "one is to begin loading when the other ends its peak"
    told = why_run(s.world.ctx, second)
    shared = [e for e in told.events if e.what.startswith("share ")]
    assert f"{first}/t#0" in shared[0].why
    assert "cores" in shared[0].why
    s.run(900)
    assert s.claims() == {}


@pytest.mark.parametrize("packing", [None, CurvePacking(meeting=0.0), CurvePacking(runs=50)])
def test_with_no_chance_allowed_or_no_curve_peaks_are_added_up_as_ever(packing):
    s = stage(packing)
    s.learn()
    first, second = s.submit(), s.submit()
    for _ in range(20):
        s.run(30)
        assert not {first, second} <= s.claims().keys()
        assert all(len(r.segments) == 1 and r.most == Resources(cpu=8, memory=8) for r in s.claims().values())


@pytest.mark.parametrize("packing", [CurvePacking(), None])
def test_a_claim_whose_peak_is_over_is_given_to_one_that_waits(packing):
    """Nine in ten work for three minutes; this one has done after one, and what asks for eight cores need not wait."""
    s = stage(packing)
    s.learn((60.0, 120.0, 180.0) * 4, EARLY)
    first, other = s.submit(60.0, EARLY), s.submit(dag_id=OTHER)
    s.run(50)
    assert first in s.claims()
    assert other not in s.claims()
    s.run(60)
    rows = [r for r in s.world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.RESIZE]
    if packing is None:
        assert not rows
        assert other not in s.claims()
        return
    assert {first, other} <= s.claims().keys()
    assert s.claims()[first].most.cpu < 2
    assert rows[-1].action.task == f"{first}/t#0"
    assert "cpu 8" in rows[-1].action.reason


def test_less_than_was_asked_for_is_given_to_others_only_where_the_chance_was_worked_out():
    """They ask for eight cores and take one: the second and third go beside the first, and it is said why."""
    s = stage()
    s.learn((1000.0,) * 9)
    runs = [s.submit(1000.0) for _ in range(3)]
    s.run(30)
    assert set(runs) <= s.claims().keys()
    assert sum(r.most.cpu for r in s.claims().values()) < 4
    shared = [r for r in s.world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.SHARE]
    assert len({r.action.task for r in shared} & {f"{run}/t#0" for run in runs}) == 2


def test_what_lies_before_a_task_is_not_taken():
    s = stage()
    s.learn()
    run = s.submit()
    s.run(230)
    assert not [r for r in s.world.ctx.ports.audit.records("p") if r.action.task.startswith(run)]
    assert s.claims()[run].most.cpu >= 8


def test_a_soft_claim_whose_task_does_not_come_is_void_soon():
    s = stage()
    s.learn()
    s.submit()
    s.run(10)
    other = s.submit()
    s.run(20)
    soft = s.claims(ReservationState.SOFT)[other]
    assert soft.expires_at is not None
    assert (soft.expires_at - soft.start).total_seconds() == 900
    assert s.world.ctx.ports.ledger.expire("p", soft.expires_at) == 1


def test_work_in_instances_shares_too_and_gangs_do_not():
    s = stage()
    s.learn()
    first = s.submit()
    s.run(150)
    gang = s.submit(gang=True, instances=2)
    s.run(30)
    assert gang not in s.claims()
    assert first in s.claims()
    assert np.isfinite(s.claims()[first].most.cpu)


def test_what_ran_out_of_memory_goes_by_its_curve_no_more():
    s = stage()
    s.learn()
    s.world.scheduler.out_of_memory = lambda t: t.spec.request.memory < 16
    run = s.submit(retries=3)
    had: list[float] = []
    while not s.world.ctx.ports.work.run(run).state.is_final:  # type: ignore[union-attr]
        s.run(10)
        claim = s.claims().get(run)
        if claim is not None and claim.most.memory not in had:
            had.append(claim.most.memory)
    (task,) = s.world.ctx.ports.work.task_runs([run])
    assert task.state is State.SUCCEEDED
    assert had[0] < 8
    assert had[-1] == 16, "twice what it asked for, not what past runs used"
