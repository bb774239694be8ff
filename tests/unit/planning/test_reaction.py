"""Between plans: what waits is woken for at once, what is due is woken for in time, idle nodes go to sleep."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import LeadTime, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Guards, Mode, Objective, Override, Pool, Within
from preprov.model.reference import reference_offering, reference_pool
from preprov.model.resources import KINDS, ZERO, Resources
from preprov.model.time import from_epoch
from preprov.planning.leads import Leads
from preprov.planning.optimum import Optimum, Signals
from preprov.planning.prices import TablePriceBook
from preprov.planning.reaction import Reaction, ReactionInputs, Soon, react

NOW = from_epoch(1_770_000_000.0)
POOL = reference_pool("p", mode=Mode.FULL, max_nodes=50)
OFFERING = reference_offering()
KEY = ("reference", OFFERING.key)
OFFSETS = np.arange(1, 61) * 10.0


def node(number: int, phase: Phase, *, busy: bool = False, age_s: float = 3600.0) -> Node:
    since = NOW - timedelta(seconds=age_s)
    running = ("r/t#0",) if busy else ()
    return Node(f"n{number:03d}", "p", "reference", OFFERING, phase, since, since, since, running)


def nodes(ready: int = 0, busy: int = 0, hibernated: int = 0, stopped: int = 0) -> tuple[Node, ...]:
    phases = [Phase.READY] * (ready + busy) + [Phase.HIBERNATED] * hibernated + [Phase.STOPPED] * stopped
    return tuple(node(i, phase, busy=i < busy) for i, phase in enumerate(phases))


def rising(cores: float, at_s: float, share: float = 1.0) -> Soon:
    """So many cores more from an instant on, in a share of 20 futures."""
    rises = np.zeros((20, len(OFFSETS), len(KINDS)))
    rises[: round(20 * share), at_s <= OFFSETS, 0] = cores
    return Soon(OFFSETS, rises)


CALM = rising(0.0, 0.0)


def optimum(running: int = 0, hibernated: int = 0, stopped: int = 0) -> Optimum:
    steps = np.ones(72, dtype=np.int64)
    counts = {Standby.RUNNING: running, Standby.HIBERNATED: hibernated, Standby.STOPPED: stopped}
    signals = Signals(NOW, 300, np.zeros((2, 72)))
    total = running + hibernated + stopped
    nodes = {KEY: {s: steps * n for s, n in counts.items()}}
    return Optimum(signals, steps * running, steps * total, nodes, "", 0, 0, 0)


def situation(there: tuple[Node, ...], soon: Soon = CALM, **more: object) -> ReactionInputs:
    busy = sum(n.is_busy for n in there)
    given = ReactionInputs(
        pool=POOL,
        mode=Mode.FULL,
        now=NOW,
        observation=PoolObservation("p", NOW, there),
        soon=soon,
        leads=Leads(POOL),
        prices=TablePriceBook.from_pools([POOL]),
        used=Resources(cpu=16.0 * busy),
        optimum=optimum(hibernated=50),
    )
    return replace(given, **more)  # type: ignore[arg-type]


def kinds(found) -> dict[ActionKind, int]:
    out: dict[ActionKind, int] = {}
    for a in found.actions:
        out[a.kind] = out.get(a.kind, 0) + a.count
    return out


def test_waiting_work_wakes_the_quickest_nodes_first_and_launches_only_what_is_missing():
    waits = Resources(cpu=40.0)
    found = react(situation(nodes(hibernated=2, stopped=3), waiting=waits))
    assert kinds(found) == {ActionKind.START: 3}
    assert {a.reason.split("(")[1].split(")")[0]: a.count for a in found.actions} == {"hibernated": 2, "stopped": 1}
    assert kinds(react(situation(nodes(hibernated=1), waiting=waits))) == {ActionKind.START: 1, ActionKind.LAUNCH: 2}


def test_a_node_is_woken_when_its_way_to_ready_is_as_long_as_the_time_that_is_left():
    there = nodes(hibernated=2)
    assert kinds(react(situation(there, rising(16.0, at_s=120.0)))) == {}
    assert kinds(react(situation(there, rising(16.0, at_s=30.0)))) == {ActionKind.START: 1}


@pytest.mark.parametrize(("due_s", "woken"), [(36.0, {ActionKind.START: 1}), (55.0, {})])
def test_what_is_due_between_two_instants_that_are_looked_at_is_not_seen_too_late(due_s, woken):
    (group,) = POOL.groups
    lead = {**group.lead, Standby.HIBERNATED: LeadTime(33.0, 33.0)}
    pool = replace(POOL, groups=(replace(group, lead=lead),))
    there = situation(nodes(hibernated=2), rising(16.0, at_s=due_s), pool=pool, leads=Leads(pool), tick_s=5.0)
    assert kinds(react(there)) == woken


def test_a_launch_from_cold_is_ordered_for_its_own_longer_window():
    assert kinds(react(situation((), rising(16.0, at_s=300.0)))) == {ActionKind.LAUNCH: 1}
    assert kinds(react(situation((), rising(16.0, at_s=590.0)))) == {}


def test_room_on_busy_nodes_is_used_first():
    there = nodes(busy=1, hibernated=1)
    half = situation(there, rising(8.0, at_s=10.0), used=Resources(cpu=8.0))
    assert kinds(react(half)) == {}
    assert kinds(react(replace(half, used=Resources(cpu=12.0)))) == {ActionKind.START: 1}


@pytest.mark.parametrize(("price", "woken"), [(0.01, {}), (1.0, {ActionKind.START: 1})])
def test_how_unlikely_a_need_may_be_hangs_on_the_price_of_waiting(price: float, woken: dict[ActionKind, int]):
    pool = replace(POOL, objective=Objective(shortage_usd_per_core_hour=price))
    assert kinds(react(situation(nodes(hibernated=1), rising(16.0, 20.0, share=0.3), pool=pool))) == woken


def test_idle_nodes_sleep_once_nothing_wants_them_for_as_long_as_waking_them_costs():
    there = nodes(ready=2, busy=1)
    first = react(situation(there))
    assert kinds(first) == {}
    assert set(first.idle) == {"n001", "n002"}
    later = NOW + timedelta(seconds=10)
    second = react(situation(there, idle=first.idle, now=later))
    assert kinds(second) == {ActionKind.HIBERNATE: 2}
    wanted = react(situation(there, rising(32.0, at_s=40.0), idle=first.idle, now=later))
    assert kinds(wanted) == {}


def test_a_node_beyond_what_the_plan_lets_exist_is_ended_and_without_a_plan_nothing_is():
    there = nodes(ready=3)
    idle = {n.node_id: NOW - timedelta(hours=1) for n in there}
    assert kinds(react(situation(there, idle=idle, optimum=optimum(hibernated=2)))) == {
        ActionKind.TERMINATE: 1,
        ActionKind.HIBERNATE: 2,
    }
    assert kinds(react(situation(there, idle=idle, optimum=None))) == {}


def test_nothing_is_launched_for_what_a_node_that_falls_asleep_can_be_woken_for():
    soon = rising(16.0, at_s=150.0)
    assert kinds(react(situation((), soon))) == {ActionKind.LAUNCH: 1}
    falling = replace(node(0, Phase.DRAINING), settling=True)
    assert kinds(react(situation((falling,), soon))) == {}


def test_a_disruption_budget_is_for_all_that_is_given_up_together():
    there = nodes(ready=3)
    idle = {n.node_id: NOW - timedelta(hours=1) for n in there}
    pool = replace(POOL, disruptions=(Within(1),))
    found = react(situation(there, idle=idle, optimum=optimum(hibernated=2), pool=pool))
    assert sum(kinds(found).values()) == 1


(ONLY,) = POOL.groups
DEAR = replace(
    ONLY, name="dear", standby_states=frozenset({Standby.RUNNING}), lead={Standby.COLD: LeadTime(400.0, 400.0)}
)
CHEAP = replace(
    ONLY, name="cheap", offerings=(replace(OFFERING, instance_type="cheap", usd_per_hour=OFFERING.usd_per_hour / 2),)
)
TWO = replace(POOL, groups=(DEAR, CHEAP))


def two(there: tuple[Node, ...] = (), soon: Soon = CALM, pool: Pool = TWO, **more: object) -> ReactionInputs:
    """Of two groups: the dear one named first has no standby states and is slow."""
    more = {"leads": Leads(pool), **more}
    return situation(there, soon, pool=pool, prices=TablePriceBook.from_pools([pool]), **more)


def launched(found: Reaction) -> dict[str, int]:
    return {a.group: a.count for a in found.actions if a.kind is ActionKind.LAUNCH}


def test_the_way_that_counts_is_that_of_the_group_in_which_the_reference_is():
    key = ("cheap", CHEAP.offerings[0].key, Standby.COLD)
    learnt = Leads(TWO, {key: LeadTime(77.0, 77.0)})
    assert react(two(leads=learnt)).lead_s == 77.0


def test_where_one_group_is_full_the_next_dearer_one_is_launched_in():
    full = replace(TWO, groups=(DEAR, replace(CHEAP, max_nodes=2)))
    waits = Resources(cpu=16.0 * 5)
    assert launched(react(two(waiting=waits))) == {"cheap": 5}
    assert launched(react(two(waiting=waits, pool=full))) == {"cheap": 2, "dear": 3}
    step = replace(TWO, groups=(replace(DEAR, max_step=2), replace(CHEAP, max_step=1)))
    assert launched(react(two(waiting=waits, pool=step))) == {"cheap": 1, "dear": 2}
    assert launched(react(two(waiting=waits, pool=replace(full, guards=Guards(max_nodes=4))))) == {
        "cheap": 2,
        "dear": 2,
    }


def test_the_next_group_is_launched_in_for_its_own_way_and_in_its_own_size():
    half = replace(OFFERING, instance_type="half", usd_per_hour=OFFERING.usd_per_hour, capacity=Resources(8.0, 32.0))
    small = replace(DEAR, name="small", offerings=(half,), lead={Standby.COLD: LeadTime(100.0, 100.0)})
    pool = replace(TWO, groups=(small, replace(CHEAP, max_nodes=1, lead={Standby.COLD: LeadTime(300.0, 300.0)})))
    assert launched(react(two(waiting=Resources(cpu=48.0), pool=pool))) == {"cheap": 1, "small": 4}
    assert launched(react(two(soon=rising(48.0, at_s=250.0), pool=pool))) == {"cheap": 1}, "the quicker one has time"


def test_what_could_be_had_lately_comes_first():
    key = ("cheap", CHEAP.offerings[0].key)
    none = Leads(TWO, insufficient={key: NOW + timedelta(minutes=5)})
    assert launched(react(two(waiting=Resources(cpu=16.0), leads=none))) == {"dear": 1}


def test_an_idle_node_is_put_away_by_the_way_back_in_its_own_group():
    there = tuple(replace(n, group="cheap", offering=CHEAP.offerings[0]) for n in nodes(ready=1))
    idle = {n.node_id: NOW - timedelta(hours=1) for n in there}
    best = replace(optimum(), nodes={("cheap", CHEAP.offerings[0].key): optimum(hibernated=1).nodes[KEY]})
    soon = rising(16.0, at_s=200.0)
    assert kinds(react(two(there, soon, idle=idle, optimum=best))) == {ActionKind.HIBERNATE: 1}
    only = replace(TWO, groups=(CHEAP, DEAR))
    assert kinds(react(two(there, soon, idle=idle, optimum=best, pool=only))) == {ActionKind.HIBERNATE: 1}


def test_what_was_foreseen_is_told_without_what_was_added_for_surprises():
    soon = replace(rising(16.0, at_s=10.0), surprise=2)
    found = react(situation(nodes(busy=1, hibernated=5), soon))
    assert (found.needed, found.foreseen, found.wanted) == (1, 2, 4)


def test_a_young_node_has_its_minimum_billing_used_up():
    young = (node(0, Phase.READY, age_s=30.0),)
    idle = {"n000": NOW - timedelta(seconds=20)}
    assert kinds(react(situation(young, idle=idle))) == {}


def test_mode_floor_never_lowers_and_a_block_never_raises():
    there = nodes(ready=2)
    idle = {n.node_id: NOW - timedelta(hours=1) for n in there}
    assert kinds(react(situation(there, idle=idle, mode=Mode.FLOOR))) == {}
    assert kinds(react(situation(nodes(hibernated=1), waiting=Resources(cpu=4.0), blocked="halted: no"))) == {}


def test_a_floor_that_somebody_asked_for_is_kept():
    asked = (Override("p", 2, NOW + timedelta(seconds=30), NOW + timedelta(hours=1), "a test"),)
    assert kinds(react(situation(nodes(hibernated=3), overrides=asked))) == {ActionKind.START: 2}
    idle = {n.node_id: NOW - timedelta(hours=1) for n in nodes(ready=3)}
    assert kinds(react(situation(nodes(ready=3), overrides=asked, idle=idle))) == {ActionKind.HIBERNATE: 1}


counts = st.integers(0, 6)


@given(ready=counts, busy=counts, hibernated=counts, stopped=counts, cores=st.floats(0, 2000), at_s=st.floats(0, 700))
def test_nothing_busy_is_touched_and_no_cap_is_exceeded(ready, busy, hibernated, stopped, cores, at_s):
    there = nodes(ready, busy, hibernated, stopped)
    idle = {n.node_id: NOW - timedelta(hours=1) for n in there}
    waits = Resources(cpu=cores / 2) if cores > 100 else ZERO
    found = react(situation(there, rising(cores, at_s), idle=idle, waiting=waits, optimum=optimum(hibernated=4)))
    named = [i for a in found.actions for i in a.node_ids]
    assert len(named) == len(set(named))
    assert not set(named) & {n.node_id for n in there if n.is_busy}
    assert len(there) + kinds(found).get(ActionKind.LAUNCH, 0) <= POOL.guards.max_nodes


@given(cores=st.floats(0, 500), at_s=st.floats(0, 600), share=st.floats(0, 1), low=st.floats(0.02, 0.97))
def test_a_higher_hit_rate_never_wants_fewer(cores, at_s, share, low):
    def wanted(rate: float) -> int:
        pool = replace(POOL, objective=Objective(hit_rate=rate))
        return react(situation(nodes(hibernated=3), rising(cores, at_s, share), pool=pool)).wanted

    assert wanted(low) <= wanted(low + 0.02)


@given(ready=counts, hibernated=counts, cores=st.floats(0, 300))
def test_once_done_nothing_more_is_ordered(ready, hibernated, cores):
    there = nodes(ready, 0, hibernated)
    given_ = situation(there, rising(cores, 20.0))
    found = react(given_)
    started = {i for a in found.actions if a.kind is ActionKind.START for i in a.node_ids}
    after = [replace(n, phase=Phase.WARMING, since=NOW) if n.node_id in started else n for n in there]
    launched = kinds(found).get(ActionKind.LAUNCH, 0)
    after += [replace(node(900 + i, Phase.WARMING), since=NOW, ready_at=None) for i in range(launched)]
    again = react(replace(given_, observation=PoolObservation("p", NOW, tuple(after))))
    assert kinds(again) == {}
