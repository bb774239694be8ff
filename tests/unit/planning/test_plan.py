"""What make_plan decides now: raises, holds, ends, and what it says about them."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.nodes import Phase
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Guards, Mode, Objective, Override, Window, Within
from preprov.model.resources import Resources
from preprov.planning.lately import Lately
from preprov.planning.plan import fingerprint, make_plan
from tests.unit.planning.pools import (
    LADDER,
    NOW,
    M,
    claim,
    group,
    inputs,
    node,
    observed,
    pool,
    steps,
    wave,
)

ENDS = (ActionKind.TERMINATE, ActionKind.STOP, ActionKind.HIBERNATE)


def due(plan, *kinds):
    return [a for a in plan.due(plan.issued_at) if not kinds or a.kind in kinds]


def count(actions):
    return sum(a.count for a in actions)


# --------------------------------------------------------------------------- raising


def test_waiting_work_is_demand_now():
    plan = make_plan(inputs(waiting=Resources(40, 10))).plan
    (launch,) = due(plan)
    assert (launch.kind, launch.count, launch.offering) == (ActionKind.LAUNCH, 3, M.key)
    assert "40 cores wait now" in launch.reason


def test_waiting_work_does_not_count_on_room_it_was_refused():
    full = node("n1", running=("r/t#0",))
    assert count(due(make_plan(inputs(None, full, waiting=Resources(2, 2))).plan)) == 1
    idle = node("n2")
    assert due(make_plan(inputs(None, full, idle, waiting=Resources(2, 2))).plan) == []


def test_a_wave_is_launched_for_one_lead_ahead_and_not_before():
    demand = steps(wave(height=64, begin=24))
    early = make_plan(inputs(demand)).plan
    assert due(early) == []
    (launch,) = [a for a in early.actions if a.kind is ActionKind.LAUNCH]
    needed_at = NOW + timedelta(seconds=24 * 300)
    assert launch.count == 4
    assert needed_at - timedelta(seconds=420 + 300) - timedelta(seconds=300) <= launch.at
    assert launch.at <= needed_at - timedelta(seconds=420)
    late = make_plan(replace(inputs(demand), now=launch.at)).plan
    assert count(due(late, ActionKind.LAUNCH)) == 4


def test_the_maximum_is_taken_inside_each_future():
    # Two futures, each with one wave at another step: together they never want more than one wave's nodes.
    demand = steps([0.0] * 72, samples=2)
    demand.samples[0, 0, 0] = 64
    demand.samples[1, 1, 0] = 64
    assert count(due(make_plan(inputs(demand)).plan)) == 4


def test_warming_nodes_count_and_a_second_pass_orders_nothing():
    demand = steps([64.0] * 72)
    first = make_plan(inputs(demand)).plan
    assert count(due(first)) == 4
    warming = [node(f"n{i}", Phase.WARMING, age_s=30, in_phase_s=30) for i in range(4)]
    assert due(make_plan(inputs(demand, *warming)).plan) == []


def test_a_node_that_warms_for_ever_is_replaced_and_named():
    stuck = node("stuck", Phase.WARMING, age_s=7200, in_phase_s=7200)
    plan = make_plan(inputs(steps([16.0] * 72), stuck)).plan
    assert count(due(plan, ActionKind.LAUNCH)) == 1
    assert any("stuck" in n for n in plan.notes)
    assert not [a for a in due(plan) if a.kind in ENDS]


def test_nodes_that_never_come_are_replaced_once_and_no_more():
    stuck = [node(f"s{i}", Phase.WARMING, age_s=7200, in_phase_s=7200) for i in range(2)]
    lost = [node(f"l{i}", Phase.LOST, running=None) for i in range(2)]
    demand = steps([64.0] * 72)
    assert count(due(make_plan(inputs(demand, *stuck, *lost)).plan)) == 4
    again = [node(f"t{i}", Phase.WARMING, age_s=3600, in_phase_s=3600) for i in range(4)]
    assert due(make_plan(inputs(demand, *stuck, *lost, *again)).plan) == []


def test_a_node_gets_a_minute_whatever_its_lead_time_is_said_to_be():
    at_once = replace(group(), lead={Standby.COLD: LeadTime(0, 0)})
    warming = node("n1", Phase.WARMING, age_s=20, in_phase_s=20)
    assert due(make_plan(inputs(steps([16.0] * 72), warming, pool_=pool(at_once))).plan) == []


def test_a_group_that_chooses_by_itself_is_counted_on_for_its_least():
    small = Offering("small", Resources(4, 16), usd_per_hour=0.3)
    p = pool(group(offerings=(M, small), chooses_offering=False))
    (launch,) = due(make_plan(inputs(steps([16.0] * 72), pool_=p)).plan)
    assert (launch.count, launch.offering) == (4, small.key)


def test_failed_nodes_are_ended_and_replaced_lost_ones_only_replaced():
    failed = node("bad", Phase.FAILED, reason="digest differs")
    lost = node("gone", Phase.LOST, running=None)
    plan = make_plan(inputs(steps([32.0] * 72), failed, lost)).plan
    (end,) = due(plan, *ENDS)
    assert (end.kind, end.node_ids) == (ActionKind.TERMINATE, ("bad",))
    assert "digest differs" in end.reason
    assert count(due(plan, ActionKind.LAUNCH)) == 2
    assert any("gone" in n for n in plan.notes)


def test_a_failed_node_that_may_run_work_is_left_alone():
    plan = make_plan(inputs(None, node("bad", Phase.FAILED, running=None))).plan
    assert due(plan) == []
    assert any("bad" in n for n in plan.notes)


def test_standby_nodes_are_started_before_anything_is_launched():
    p = pool(group(states=LADDER))
    stopped = [node(f"s{i}", Phase.STOPPED) for i in range(3)]
    asleep = [node(f"h{i}", Phase.HIBERNATED) for i in range(2)]
    plan = make_plan(inputs(steps([96.0] * 72), *stopped, *asleep, pool_=p)).plan
    starts = due(plan, ActionKind.START)
    assert {n for a in starts for n in a.node_ids} == {"h0", "h1", "s0", "s1", "s2"}
    assert count(due(plan, ActionKind.LAUNCH)) == 1


def test_each_tier_is_started_for_its_own_lead():
    p = pool(group(states=LADDER))
    far = steps([0, 0, *[16.0] * 70])  # within a launch's window, beyond a resume's
    assert due(make_plan(inputs(far, node("h", Phase.HIBERNATED), pool_=p)).plan, ActionKind.START) == []
    assert count(due(make_plan(inputs(far, pool_=p)).plan, ActionKind.LAUNCH)) == 1


def test_the_largest_task_decides_which_offering_will_do():
    small = Offering("small", Resources(8, 32), usd_per_hour=0.1)
    p = pool(group(offerings=(small, M)))
    assert due(make_plan(inputs(steps([8.0] * 72), pool_=p)).plan)[0].offering == small.key
    big = make_plan(inputs(steps([8.0] * 72), pool_=p, largest=Resources(12, 4))).plan
    assert due(big)[0].offering == M.key
    nowhere = make_plan(inputs(steps([8.0] * 72), pool_=p, largest=Resources(100, 4))).plan
    assert any("fits on no offering" in n and "100 cores" in n for n in nowhere.notes)


def test_whole_tasks_must_fit():
    demand = steps([60.0] * 72)  # five tasks of 12 cores: one a node
    assert count(due(make_plan(inputs(demand)).plan)) == 4
    assert count(due(make_plan(inputs(demand, grain=Resources(12, 1))).plan)) == 5


def test_the_cheaper_of_two_equal_groups_is_taken_and_the_other_when_it_is_full():
    dear, cheap = replace(M, usd_per_hour=1.0), replace(M, usd_per_hour=0.5)
    p = pool(group("dear", (dear,)), group("cheap", (cheap,), max_nodes=3))
    launches = due(make_plan(inputs(steps([80.0] * 72), pool_=p)).plan, ActionKind.LAUNCH)
    assert {a.group: a.count for a in launches} == {"cheap": 3, "dear": 2}


def test_no_price_is_planned_by_node_hours_and_said():
    p = pool(group(offerings=(replace(M, usd_per_hour=None),)))
    plan = make_plan(inputs(steps([64.0] * 72), pool_=p)).plan
    assert plan.cost_usd is None
    assert all(a.cost_usd is None for a in plan.actions)
    assert plan.node_hours > 0
    assert any("no price known" in n for n in plan.notes)
    assert count(due(plan)) == 4


def test_people_can_claim_capacity_and_tasks_claims_do_not_count_twice():
    assert count(due(make_plan(inputs(committed=(claim("the demo", cpu=30),))).plan)) == 2
    assert due(make_plan(inputs(committed=(claim("run/task#0", cpu=30),))).plan) == []


def test_floors_of_groups_and_people():
    p = pool(group(min_nodes=2))
    assert count(due(make_plan(inputs(pool_=p)).plan)) == 2
    tonight = Override("p", 5, NOW - timedelta(hours=1), NOW + timedelta(hours=1), "release night")
    (launch,) = due(make_plan(inputs(overrides=(tonight,))).plan)
    assert launch.count == 5
    assert "release night" in launch.reason
    past = replace(tonight, since=NOW - timedelta(hours=3), until=NOW - timedelta(hours=2))
    assert due(make_plan(inputs(overrides=(past,))).plan) == []


def test_a_groups_minimum_wakes_its_own_nodes_first():
    p = pool(group(states=LADDER, min_nodes=2))
    plan = make_plan(inputs(None, node("s1", Phase.STOPPED), pool_=p)).plan
    assert count(due(plan, ActionKind.START)) == 1
    assert count(due(plan, ActionKind.LAUNCH)) == 1


def test_a_floor_by_schedule_holds_in_its_hours_of_its_zone():
    morning = Within(3, Window(start_s=9 * 3600, end_s=10 * 3600), "Asia/Tokyo")  # midnight UTC
    (launch,) = due(make_plan(inputs(pool_=pool(floors=(morning,)))).plan)
    assert launch.count == 3
    assert due(make_plan(inputs(pool_=pool(floors=(replace(morning, zone="UTC"),)))).plan) == []


def test_a_disruption_budget_limits_what_is_given_up_at_once():
    votes = {n: NOW - timedelta(days=1) for n in "abc"}
    nodes = [node(n) for n in "abc"]
    one = pool(disruptions=(Within(1), Within(0, Window(start_s=12 * 3600, end_s=13 * 3600))))
    assert count(due(make_plan(inputs(None, *nodes, votes=votes, pool_=one)).plan, *ENDS)) == 1
    none = pool(disruptions=(Within(0),))
    kept = make_plan(inputs(None, *nodes, votes=votes, pool_=none))
    assert due(kept.plan) == []
    assert set(kept.votes) == set("abc")
    assert kept.later
    assert any("disruption budget 0" in n for n in kept.plan.notes)
    going = make_plan(inputs(None, *nodes, votes=votes, pool_=one, lately=Lately(given_up=frozenset({"d"}))))
    assert due(going.plan) == []


def test_a_disruption_budget_is_for_nodes_in_standby_too():
    votes = {n: NOW - timedelta(days=1) for n in "abc"}
    kept = [node(n, Phase.STOPPED) for n in "abc"]
    p = pool(group(states=LADDER), disruptions=(Within(1),))
    assert count(due(make_plan(inputs(None, *kept, votes=votes, pool_=p)).plan, *ENDS)) == 1
    assert count(due(make_plan(inputs(None, *kept, votes=votes, pool_=replace(p, disruptions=()))).plan, *ENDS)) == 3


# --------------------------------------------------------------------------- caps


@pytest.mark.parametrize(
    ("guards", "allowed", "name"),
    [
        (Guards(max_nodes=3), 3, "max_nodes"),
        (Guards(max_usd_per_hour=2.5), 3, "max_usd_per_hour"),
        (Guards(max_usd_per_day=1.0), None, "max_usd_per_day"),
        (Guards(max_launches_per_minute=2), 2, "max_launches_per_minute"),
    ],
)
def test_a_guard_caps_a_raise_and_is_named(guards, allowed, name):
    plan = make_plan(inputs(steps([160.0] * 72), pool_=pool(guards=guards))).plan
    assert 0 < count(due(plan)) <= 4 if allowed is None else count(due(plan)) == allowed
    assert any(name in n for n in plan.notes)


def test_the_step_of_a_group_caps_a_raise():
    plan = make_plan(inputs(steps([160.0] * 72), pool_=pool(group(max_step=2)))).plan
    assert count(due(plan)) == 2


def test_what_was_raised_within_the_last_minute_is_part_of_the_step():
    given_ = inputs(steps([160.0] * 72), pool_=pool(group(max_step=3)), lately=Lately({"g": 2}))
    outcome = make_plan(given_)
    assert count(due(outcome.plan)) == 1
    assert outcome.later
    assert not make_plan(replace(given_, pool=pool(group(max_step=50)))).later


def test_a_cap_ends_nothing():
    ready = [node(f"n{i}") for i in range(5)]
    plan = make_plan(inputs(steps([80.0] * 72), *ready, pool_=pool(guards=Guards(max_nodes=2)))).plan
    assert due(plan) == []


@pytest.mark.parametrize(
    ("more", "word"), [({"source_age_s": 3600.0}, "stale_source"), ({"halted": "audit"}, "halted: audit")]
)
def test_stale_or_halted_raises_nothing_and_says_so(more, word):
    plan = make_plan(inputs(steps([160.0] * 72), **more)).plan
    assert due(plan) == []
    assert any(word in n for n in plan.notes)
    assert plan.actions[0].kind is ActionKind.HOLD
    assert word in plan.actions[0].reason


def test_an_incomplete_observation_launches_nothing():
    plan = make_plan(inputs(steps([160.0] * 72), complete=False)).plan
    assert due(plan) == []
    assert any("could not be listed" in n for n in plan.notes)


# --------------------------------------------------------------------------- ending


def settle(given_inputs, minutes, every=5):
    """Plan every few minutes, votes handed on; the first plan that ends something, and when."""
    votes = {}
    for m in range(0, minutes + 1, every):
        now = NOW + timedelta(minutes=m)
        outcome = make_plan(replace(given_inputs, now=now, votes=votes))
        if due(outcome.plan, *ENDS):
            return m, outcome.plan
        votes = dict(outcome.votes)
    return None, None


def test_an_idle_node_is_ended_only_after_an_unbroken_vote():
    one = inputs(None, node("n1"))
    first = make_plan(one)
    assert due(first.plan) == []
    assert first.votes == {"n1": NOW}
    later = NOW + timedelta(minutes=5)
    second = make_plan(replace(one, now=later, votes=first.votes))
    (end,) = due(second.plan)
    assert (end.kind, end.node_ids, end.standby_state) == (ActionKind.TERMINATE, ("n1",), Standby.COLD)
    assert end.cost_usd < 0
    fresh = make_plan(replace(one, now=later, votes={}))
    assert due(fresh.plan) == []


def test_a_need_breaks_the_vote():
    busy_again = make_plan(inputs(steps([16.0] * 72), node("n1"), votes={"n1": NOW - timedelta(hours=1)}))
    assert busy_again.votes == {}
    assert due(busy_again.plan) == []


def test_what_is_kept_between_waves_depends_on_the_gap():
    p = pool(group(states=LADDER), horizon_s=24 * 3600)

    def after(gap_steps):
        demand = steps([*[0.0] * gap_steps, *[16.0] * (288 - gap_steps)])
        return settle(inputs(demand, node("n1"), pool_=p), minutes=30)

    _, plan = after(288)
    assert due(plan)[0].kind is ActionKind.TERMINATE
    _, plan = after(30)
    assert due(plan)[0].kind in (ActionKind.HIBERNATE, ActionKind.STOP)
    when, _ = after(2)  # a launch would be ordered at once
    assert when is None


def test_a_group_that_does_not_mix_keeps_to_one_standby_state():
    p = pool(group(states=LADDER, mixes_states=False), horizon_s=24 * 3600)
    demand = steps([0, 0, 0, 0, 0, 0, *[16.0] * 18, *[32.0] * 264])  # one is back soon, the other late
    votes = {n: NOW - timedelta(days=1) for n in ("a", "b")}
    both = {ActionKind.HIBERNATE, ActionKind.STOP}
    mixing = pool(group(states=LADDER), horizon_s=24 * 3600)
    plan = make_plan(inputs(demand, node("a"), node("b"), pool_=mixing, votes=votes)).plan
    assert {a.kind for a in due(plan, *ENDS)} == both
    plan = make_plan(inputs(demand, node("a"), node("b"), pool_=p, votes=votes)).plan
    assert len({a.kind for a in due(plan, *ENDS)} & both) == 1
    kept = node("c", Phase.STOPPED)
    plan = make_plan(inputs(demand, node("a"), node("b"), kept, pool_=p, votes=votes)).plan
    assert {a.kind for a in due(plan, *ENDS)} <= {ActionKind.STOP, ActionKind.TERMINATE}


def test_standby_that_is_not_wanted_again_is_given_up_late():
    p = pool(group(states=LADDER), horizon_s=24 * 3600)
    when, plan = settle(inputs(steps([0.0] * 288), node("s1", Phase.STOPPED), pool_=p), minutes=240)
    assert due(plan)[0].kind is ActionKind.TERMINATE
    assert when > 30


def test_the_minimum_billing_is_used_up_first():
    hourly = replace(M, minimum_billing_s=3600.0)
    young = node("n1", offering=hourly, age_s=600, in_phase_s=300)
    p = pool(group(offerings=(hourly,)))
    votes = {"n1": NOW - timedelta(hours=5)}
    assert due(make_plan(inputs(None, young, pool_=p, votes=votes)).plan) == []
    old = node("n1", offering=hourly, age_s=7200)
    assert count(due(make_plan(inputs(None, old, pool_=p, votes=votes)).plan)) == 1


def test_busy_unknown_or_committed_nodes_are_never_ended():
    votes = {n: NOW - timedelta(days=1) for n in ("a", "b", "c")}
    nodes = node("a", running=("x/y#0",)), node("b", running=None), node("c")
    plan = make_plan(inputs(None, *nodes, votes=votes, committed=(claim("x/z#0", "c"),))).plan
    assert due(plan) == []


def test_a_group_keeps_its_minimum():
    votes = {n: NOW - timedelta(days=1) for n in ("a", "b", "c")}
    p = pool(group(min_nodes=2))
    plan = make_plan(inputs(None, *(node(n) for n in "abc"), votes=votes, pool_=p)).plan
    assert count(due(plan, *ENDS)) == 1


def test_a_drain_ends_when_the_node_is_idle():
    asked = inputs(None, node("n1", running=("x/y#0",)), drains=frozenset({"n1"}))
    (drain,) = due(make_plan(asked).plan)
    assert (drain.kind, drain.node_ids) == (ActionKind.DRAIN, ("n1",))
    still = inputs(None, node("n1", Phase.DRAINING, running=("x/y#0",)), drains=frozenset({"n1"}))
    assert due(make_plan(still).plan) == []
    idle = inputs(None, node("n1", Phase.DRAINING), drains=frozenset({"*"}))
    (end,) = due(make_plan(idle).plan)
    assert (end.kind, end.node_ids) == (ActionKind.TERMINATE, ("n1",))


def test_a_node_on_its_way_into_standby_is_not_ended():
    asleep_soon = replace(node("n1", Phase.DRAINING), settling=True)
    assert due(make_plan(inputs(None, asleep_soon)).plan) == []


def test_a_node_on_its_way_into_standby_is_counted_as_kept_and_cannot_be_started_yet():
    p = pool(group(states=frozenset({Standby.RUNNING, Standby.HIBERNATED})))
    demand = steps([16.0] * 72)
    falling = replace(node("n1", Phase.DRAINING), settling=True)
    assert count(due(make_plan(inputs(demand, pool_=p)).plan, ActionKind.LAUNCH)) == 1
    assert due(make_plan(inputs(demand, falling, pool_=p)).plan) == []
    (start,) = due(make_plan(inputs(demand, node("n1", Phase.HIBERNATED), pool_=p)).plan)
    assert (start.kind, start.node_ids) == (ActionKind.START, ("n1",))


def test_work_on_a_draining_node_asks_for_no_second_one():
    demand = steps([16.0, 16.0, *[0.0] * 70])
    assert due(make_plan(inputs(demand, node("n1", Phase.DRAINING, running=("x/y#0",)))).plan) == []


def test_nodes_of_an_unknown_group_are_left_alone():
    plan = make_plan(inputs(steps([16.0] * 72), node("old", group="was"))).plan
    assert count(due(plan, ActionKind.LAUNCH)) == 1
    assert any("old" in n for n in plan.notes)


# --------------------------------------------------------------------------- modes


def test_floor_never_lowers_and_raises_within_its_window():
    votes = {"n1": NOW - timedelta(days=1)}
    low = inputs(None, node("n1"), node("bad", Phase.FAILED), mode=Mode.FLOOR, votes=votes, drains=frozenset({"n1"}))
    assert due(make_plan(low).plan) == []
    short = steps([32.0] * 72)
    assert count(due(make_plan(inputs(short, mode=Mode.FLOOR)).plan)) == 2
    closed = pool(window=Window(start_s=6 * 3600, end_s=7 * 3600))
    plan = make_plan(inputs(short, mode=Mode.FLOOR, pool_=closed)).plan
    assert due(plan) == []
    assert any("window" in n for n in plan.notes)


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RECOMMEND])
def test_modes_that_only_watch_plan_the_same(mode):
    full = make_plan(inputs(steps([32.0] * 72))).plan
    watched = make_plan(inputs(steps([32.0] * 72), mode=mode)).plan
    assert watched.mode is mode
    assert [a.as_dict() for a in watched.actions] == [a.as_dict() for a in full.actions]


# --------------------------------------------------------------------------- identity and words


def test_the_same_decision_has_the_same_id_and_a_later_need_a_new_one():
    demand = steps([32.0] * 72)
    one, two = make_plan(inputs(demand)).plan, make_plan(inputs(demand)).plan
    assert one == two
    soon = make_plan(replace(inputs(demand), now=NOW + timedelta(seconds=60))).plan
    assert due(soon)[0].action_id == due(one)[0].action_id  # the nodes have not shown up yet
    more = make_plan(inputs(steps([64.0] * 72))).plan
    assert due(more)[0].action_id == due(one)[0].action_id  # the same launch, grown
    hour = NOW + timedelta(hours=1)
    again = make_plan(replace(inputs(demand), now=hour)).plan
    assert due(again)[0].action_id != due(one)[0].action_id


def test_a_change_of_the_pool_shows_in_the_fingerprint():
    a, b = observed(node("n1")), observed(node("n1", Phase.DRAINING))
    assert fingerprint(a) == fingerprint(observed(node("n1")))
    assert len({fingerprint(a), fingerprint(b), fingerprint(observed(complete=False))}) == 3


def test_reasons_are_sentences_with_local_time_and_figures():
    p = pool(zone="Europe/Berlin")
    demand = steps(wave(height=64, begin=24, base=16))
    plan = make_plan(inputs(demand, node("n1"), pool_=p)).plan
    launch = next(a for a in plan.actions if a.kind is ActionKind.LAUNCH)
    assert launch.reason.startswith("launch 3 x m: 64 cores due 03:00 (p95")
    assert "16 ready, lead 3 min; +" in launch.reason
    assert "core-h of waiting" in launch.reason
    assert launch.numbers["due_cores"] == pytest.approx(64, rel=1e-3)
    hold = plan.actions[0]
    assert hold.kind is ActionKind.HOLD
    assert "1 ready; 1 needed until" in hold.reason


def test_alternatives_say_what_else_it_would_have_cost():
    plan = make_plan(inputs(steps(wave(height=64, begin=24)))).plan
    nothing, static, reactive = plan.alternatives
    assert nothing.cost_usd == 0
    assert nothing.wait_core_hours == pytest.approx(64, rel=1e-6)
    assert static.cost_usd > plan.cost_usd
    assert static.wait_core_hours == pytest.approx(0, abs=1e-9)
    assert reactive.wait_core_hours > plan.expected_wait_core_hours == pytest.approx(0, abs=1e-9)


def test_targets_say_how_many_of_each_group_and_state_from_when():
    plan = make_plan(inputs(steps(wave(height=64, begin=24)))).plan
    assert [(t.count, t.standby_state) for t in plan.targets] == [(0, "running"), (4, "running"), (0, "running")]
    assert plan.targets[0].at == NOW


def test_a_forecast_that_has_ended_or_begins_later_is_no_accident():
    old = steps([160.0] * 12, start=NOW - timedelta(days=1))
    plan = make_plan(inputs(old, waiting=Resources(8))).plan
    assert count(due(plan)) == 1
    assert any("forecast ends before now" in n for n in plan.notes)
    ahead = steps([160.0] * 12, start=NOW + timedelta(hours=2))
    assert due(make_plan(inputs(ahead)).plan) == []


# --------------------------------------------------------------------------- invariants

phases = st.sampled_from([Phase.READY, Phase.READY, Phase.WARMING, Phase.STOPPED, Phase.HIBERNATED, Phase.DRAINING,
                          Phase.FAILED, Phase.LOST])  # fmt: skip


@st.composite
def situations(draw):
    n = draw(st.integers(0, 6))
    nodes, votes, claims = [], {}, []
    for i in range(n):
        phase = draw(phases)
        kept = phase in (Phase.STOPPED, Phase.HIBERNATED)
        running = () if kept else draw(st.sampled_from([(), (), ("x/y#0",), None]))
        age = draw(st.integers(0, 20000))
        nodes.append(node(f"n{i}", phase, age_s=age, in_phase_s=age / 2, running=running))
        if draw(st.booleans()):
            votes[f"n{i}"] = NOW - timedelta(seconds=draw(st.integers(0, 40000)))
        if phase is Phase.READY and draw(st.integers(0, 3)) == 0:
            claims.append(claim(f"x/c{i}#0", f"n{i}"))
    levels = draw(st.lists(st.floats(0, 200), min_size=1, max_size=8))
    guards = Guards(
        max_nodes=draw(st.integers(0, 12)),
        max_usd_per_hour=draw(st.none() | st.floats(0, 8)),
        max_usd_per_day=draw(st.none() | st.floats(0, 20)),
        max_launches_per_minute=draw(st.none() | st.integers(0, 5)),
    )
    p = pool(group(states=LADDER, min_nodes=draw(st.integers(0, 2)), max_step=draw(st.integers(1, 50))), guards=guards)
    return inputs(
        steps([x for x in levels for _ in range(9)], spread=draw(st.floats(0, 0.7)), samples=20),
        *nodes,
        pool_=p,
        mode=draw(st.sampled_from(list(Mode))),
        votes=votes,
        committed=tuple(claims),
        drains=draw(st.sampled_from([frozenset(), frozenset({"n0"}), frozenset({"*"})])),
        waiting=Resources(draw(st.sampled_from([0.0, 0.0, 5.0, 50.0]))),
        launched_last_minute=draw(st.integers(0, 3)),
        spent_today_usd=draw(st.floats(0, 10)),
    )


@settings(max_examples=60, deadline=None)
@given(situations())
def test_no_plan_breaks_the_order_of_precedence(i):
    outcome = make_plan(i)
    plan, nodes = outcome.plan, {n.node_id: n for n in i.observation.nodes}
    now = due(plan)
    guards, g = i.pool.guards, i.pool.groups[0]

    # never end what runs, may run, or is committed
    held = {r.node_id for r in i.committed}
    for a in now:
        if a.kind in ENDS:
            assert a.count == len(a.node_ids) > 0
            assert not any(nodes[x].is_busy or x in held or nodes[x].phase is Phase.LOST for x in a.node_ids)
    ended = [x for a in now if a.kind in ENDS for x in a.node_ids]
    assert len(ended) == len(set(ended))

    # hard caps
    launched = count(a for a in now if a.kind is ActionKind.LAUNCH)
    raised = count(a for a in now if a.kind.raises)
    assert launched == 0 or len(nodes) + launched <= min(guards.max_nodes, g.max_nodes)
    assert raised <= g.max_step
    if guards.max_launches_per_minute is not None:
        assert launched == 0 or launched + i.launched_last_minute <= guards.max_launches_per_minute
    rate = sum(0.8064 if n.standby is Standby.RUNNING else 0.01 for n in nodes.values())
    if guards.max_usd_per_hour is not None:
        assert raised == 0 or rate + launched * 0.8064 <= guards.max_usd_per_hour + 0.01 * len(nodes) + 1e-9
    if guards.max_usd_per_day is not None and raised:
        assert i.spent_today_usd + launched * 0.8064 * 0.25 <= guards.max_usd_per_day + 1e-9

    # floors: what is left running keeps the group's minimum
    if any(a.kind in ENDS and "drained" not in a.reason and "failed" not in a.reason for a in now):
        ready = [
            n for n in nodes.values() if n.phase is Phase.READY and "*" not in i.drains and n.node_id not in i.drains
        ]
        gone = [x for x in ended if nodes[x].phase is Phase.READY]
        assert not gone or len(ready) - len(gone) >= g.min_nodes
    # modes
    if i.mode is Mode.FLOOR:
        assert all(a.kind.raises for a in now)
    assert set(outcome.votes) <= set(nodes)
    assert make_plan(i) == outcome


@settings(max_examples=30, deadline=None)
@given(situations())
def test_what_is_due_now_does_not_depend_on_what_is_foreseen(i):
    with_later, now_only = make_plan(i), make_plan(replace(i, foresee=False))
    assert [a.action_id for a in due(now_only.plan)] == [a.action_id for a in due(with_later.plan)]
    assert now_only.votes == with_later.votes
    assert len(now_only.plan.actions) == max(1, len(due(with_later.plan)))


@settings(max_examples=40, deadline=None)
@given(situations())
def test_the_cost_of_a_plan_is_the_sum_of_its_parts(i):
    plan = make_plan(i).plan
    parts = [a.cost_usd for a in plan.actions]
    assert plan.cost_usd == pytest.approx(plan.alternatives[0].cost_usd + sum(parts), abs=1e-5)
    ids = [a.action_id for a in plan.actions]
    assert len(ids) == len(set(ids))
    assert [a.at for a in plan.actions] == sorted(a.at for a in plan.actions)
    assert all(a.count > 0 for a in plan.actions if a.kind is not ActionKind.HOLD)
    held = dict.fromkeys({(t.group, t.standby_state) for t in plan.targets}, 0)
    for t in plan.targets:
        held[(t.group, t.standby_state)] = t.count
        assert t.count >= 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0, 300), min_size=2, max_size=6), st.floats(0, 0.8), st.floats(0.05, 0.9), st.floats(0.01, 0.09)
)
def test_a_higher_hit_rate_never_lowers_a_target(levels, spread, low, more):
    demand = steps([x for x in levels for _ in range(12)], spread=spread)

    def running(rate):
        plan = make_plan(inputs(demand, pool_=pool(objective=Objective(hit_rate=rate)))).plan
        return count(due(plan, ActionKind.LAUNCH))

    assert running(low + more) >= running(low)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 300), st.floats(0, 0.8))
def test_a_tick_with_nothing_changed_orders_nothing(level, spread):
    demand = steps([level] * 72, spread=spread)
    first = make_plan(inputs(demand)).plan
    nodes = [node(f"n{i}", Phase.WARMING, age_s=1, in_phase_s=1) for i in range(count(due(first)))]
    assert due(make_plan(inputs(demand, *nodes)).plan) == []
    ready = [node(f"n{i}") for i in range(len(nodes))]
    assert due(make_plan(inputs(demand, *ready)).plan) == []


# --------------------------------------------------------------------------- kept by the vendor; without a name


def bursts(nodes=4, futures=40, first=0):
    """Ten minutes of so many nodes' work at some time within the hours, and no two futures agree on when."""
    demand = steps([0.0] * 72, samples=futures)
    for i, begin in enumerate(np.random.default_rng(0).integers(first, 70, futures)):
        demand.samples[i, begin : begin + 2, 0] = 16.0 * nodes
    return demand


def kept_by_vendor(*nodes, demand=None, fills=frozenset({"g"}), **more):
    stopped = pool(group(states=frozenset({Standby.RUNNING, Standby.STOPPED}), **more))
    return make_plan(inputs(demand or bursts(), *nodes, pool_=stopped, fills=fills)).plan


def test_what_is_worth_keeping_is_launched_into_standby_where_the_vendor_can():
    plan = kept_by_vendor()
    (fill,) = due(plan)
    assert (fill.kind, fill.count, fill.standby_state) == (ActionKind.LAUNCH, 4, Standby.STOPPED)
    assert fill.numbers["kept"] == 0
    now = {t.standby_state: t.count for t in plan.targets if t.at <= plan.issued_at}
    assert now == {Standby.RUNNING: 0, Standby.STOPPED: 4}
    (launch,) = due(kept_by_vendor(fills=frozenset()))
    assert launch.standby_state is Standby.RUNNING
    assert launch.action_id != fill.action_id


def test_only_what_is_missing_of_it():
    there = [node(f"n{i}", Phase.STOPPED) for i in range(3)]
    (fill,) = due(kept_by_vendor(*there))
    assert (fill.count, fill.numbers["kept"]) == (1, 3)
    assert due(kept_by_vendor(*there, node("n3", Phase.STOPPED)), ActionKind.LAUNCH) == []
    assert due(kept_by_vendor(*there, node("n3", Phase.WARMING, in_phase_s=10)), ActionKind.LAUNCH) == []


def test_what_runs_within_the_lead_time_is_launched_into_service():
    demand = bursts(first=40)
    demand.samples[:, 0:12, 0] += 32
    actions = due(kept_by_vendor(demand=demand), ActionKind.LAUNCH)
    assert {a.standby_state: a.count for a in actions}[Standby.RUNNING] == 2


def test_guards_hold_for_what_the_vendor_launches():
    (fill,) = due(kept_by_vendor(max_nodes=3))
    assert (fill.count, fill.standby_state) == (3, Standby.STOPPED)


def test_where_no_node_can_be_named_none_is_ended_and_the_reader_is_told():
    nodes = [node(f"n{i}") for i in range(3)]
    failed = node("n3", Phase.FAILED)
    votes = {n.node_id: NOW - timedelta(hours=5) for n in nodes}
    named = inputs(None, *nodes, failed, votes=votes)
    assert count(due(make_plan(named).plan, *ENDS)) == 4
    plan = make_plan(replace(named, nameless=frozenset({"g"}))).plan
    assert due(plan, *ENDS) == []
    assert any("3 idle in g" in n for n in plan.notes)
    assert any("failed nodes of g" in n for n in plan.notes)
