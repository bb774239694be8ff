"""Reactions as the long-lived loop makes them: what comes unforeseen is learnt, and nodes are kept ready for it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from preprov.contracts import Capabilities
from preprov.control.gathering import current_leads, reacts
from preprov.control.observing import observe
from preprov.control.reacting import Surprises, reaction
from preprov.model.offerings import LeadTime, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Mode, Objective, Pool, Window
from preprov.sim.cloud import Faults, SimCloud
from tests.unit.control.world import START, dag, make_pool, make_world, task


def noted(hours: float, *, nodes: int, share: float) -> Surprises:
    """Looks every 15 s: in that share of them, evenly spread, so many nodes come above the one that was foreseen."""
    seen, came = Surprises(), 0.0
    for number in range(int(hours * 240)):
        came += share
        above = nodes if came >= 1.0 else 0
        came -= came >= 1.0
        seen.note(START + timedelta(seconds=15 * number), 1 + above, 1, lead_s=30.0)
    return seen


def test_nodes_are_kept_for_what_keeps_coming_and_no_more_than_the_service_level_asks():
    often = noted(48, nodes=3, share=0.05)
    assert (often.at(0.5), often.at(0.9), often.at(0.99)) == (0, 0, 3)


def test_a_young_pool_is_not_moved_by_its_first_bursts():
    assert noted(0.5, nodes=3, share=0.1).at(0.99) == 0
    assert Surprises().at(0.999) == 0


def test_what_was_more_than_a_week_ago_no_longer_counts():
    seen = noted(10, nodes=3, share=0.5)
    assert seen.at(0.9) == 3
    for number in range(8 * 24 * 4):
        seen.note(START + timedelta(hours=10, minutes=15 * number), 1, 1, lead_s=30.0)
    assert seen.at(0.9) == 0


def test_surprises_are_kept_ready_for_at_the_level_of_what_would_be_launched():
    (group,) = make_pool().groups
    (one,) = group.offerings
    cheap = replace(group, name="cheap", offerings=(replace(one, instance_type="cheap", usd_per_hour=0.02),))
    dear = replace(group, name="dear", offerings=(replace(one, usd_per_hour=0.8),))
    for groups, kept in (((dear, cheap), 3), ((dear,), 0)):
        world = make_world(make_pool(groups=groups))
        world.ctx.memo["p", "surprises"] = (world.clock.now(), noted(48, nodes=3, share=0.05))
        ctx, pool = world.ctx, world.pool
        assert reaction(ctx, pool, observe(ctx, pool), current_leads(ctx, pool), tick_s=5).wanted == kept


def test_reactions_note_what_came_as_they_go():
    world = make_world(make_pool(objective=Objective(hit_rate=0.9)))
    for number in range(4):
        world.submit(dag(f"burst-{number}", task("t", seconds=30, cpu=4)))
        world.run_for(120)
    seen = world.ctx.memo["p", "surprises"][1]
    assert isinstance(seen, Surprises)
    assert len(seen.seen) >= 10
    assert seen.counts[1] >= 3, "each burst came above what was foreseen a lead time before"
    kinds = {r.action.kind for r in world.ctx.ports.audit.records("p")}
    assert kinds >= {ActionKind.LAUNCH, ActionKind.TERMINATE}


def test_a_wave_that_has_come_is_not_foreseen_any_more():
    world = make_world()
    world.clock.sleep(10)
    world.submit(dag("wave", *(task(f"t{i}", seconds=900, cpu=4) for i in range(5)), schedule="3 1 * * *"))
    world.run_for(300, every=5, plan_every=60)
    launched = [r for r in world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.LAUNCH]
    assert sum(len(r.node_ids) for r in launched if r.result == "done") == 5


@pytest.mark.parametrize(("mode", "launched"), [(Mode.FLOOR, 0), (Mode.FULL, 1)])
def test_outside_its_window_a_pool_in_mode_floor_raises_nothing_between_plans_either(mode: Mode, launched: int):
    """It is one o'clock in UTC, two in Berlin."""
    world = make_world(make_pool(mode=mode, zone="Europe/Berlin", window=Window(start_s=0, end_s=7200)))
    world.submit(dag("d", task("t", seconds=600, cpu=4)))
    world.run_for(60, every=5)
    rows = [r for r in world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.LAUNCH and r.result == "done"]
    assert len(rows) == launched


class Slow(SimCloud):
    """One that says that it goes by plans."""

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        return replace(super().capabilities(pool, group), reacts=False)


class Shared(SimCloud):
    """One whose counts somebody else writes too."""

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        return ("autoscaler cpu",)

    def examine(self, pool: Pool) -> tuple[()]:
        return ()


@pytest.mark.parametrize(("kind", "expected"), [(SimCloud, True), (Slow, False), (Shared, False)])
def test_a_pool_reacts_where_its_provider_declares_it_and_nobody_else_writes(kind: type[SimCloud], expected: bool):
    world = make_world()
    ctx = replace(world.ctx, providers={"sim": kind(world.clock)})
    assert reacts(ctx, world.pool) is expected


@pytest.mark.parametrize("lag_s", [5.0, 40.0, 90.0])
def test_what_is_launched_and_not_listed_yet_is_not_launched_again(lag_s: float):
    world = make_world()
    world.cloud.faults = Faults(listing_lag_s=lag_s)
    world.submit(dag("d", task("t", seconds=600, cpu=4), task("u", seconds=600, cpu=4)))
    world.run_for(180, every=5)
    launched = [r for r in world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.LAUNCH]
    assert sum(len(r.node_ids) for r in launched if r.result == "done") == 2
    assert world.nodes() == 2


def test_what_was_launched_and_is_never_listed_is_given_up():
    world = make_world()
    world.cloud.faults = Faults(listing_lag_s=1e6)
    world.submit(dag("d", task("t", seconds=60, cpu=4)))
    world.run_for(300, every=10)
    launched = [r for r in world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.LAUNCH]
    assert len([r for r in launched if r.result == "done"]) > 1, "two minutes without a sign of it are enough"


@pytest.mark.parametrize("every", [5.0, 25.0])
def test_nodes_are_ready_in_time_though_the_controller_looks_seldom(every: float):
    """What is needed before the next look is begun at this one, however long looks take."""
    (group,) = make_pool().groups
    world = make_world(make_pool(groups=(replace(group, lead={Standby.COLD: LeadTime(60, 60)}),)))
    world.clock.sleep(10)
    world.submit(dag("wave", task("t", seconds=300, cpu=4), schedule="3 1 * * *"))
    world.run_for(400, every=every, plan_every=1e9)
    (launched,) = (r for r in world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.LAUNCH and r.node_ids)
    due = START + timedelta(minutes=3)
    assert due - timedelta(seconds=60 + 30 + every) <= launched.at <= due - timedelta(seconds=60)
