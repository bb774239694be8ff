"""The optimiser: best by brute force, within every limit, held while nothing moves, and carried out as planned."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.contracts import LaunchRequest
from preprov.model.limits import SharedLimit
from preprov.model.nodes import Phase
from preprov.model.offerings import CapacityType, LeadTime, Preload, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Guards, Objective, Override
from preprov.planning import master
from preprov.planning import plan as planning
from preprov.planning.courses import cheapest, usage
from preprov.planning.inputs import SharedRoom, Use
from preprov.planning.levels import RUN
from preprov.planning.master import SolverError
from preprov.planning.optimise import _part, optimise
from preprov.planning.plan import make_plan, situation
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import SimCloud
from tests.unit.planning.pools import LADDER, NOW, M, group, inputs, node, pool, steps, wave


def solved(given_inputs):
    return optimise([situation(given_inputs)])[0]


def nodes_at(optimum, *states):
    return sum(by_state[s] for by_state in optimum.nodes.values() for s in states)


ALL = (Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED)
objectives = st.sampled_from([Objective(1.0), Objective(hit_rate=0.5), Objective(hit_rate=0.95)])


# --------------------------------------------------------------------------- what is best


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 5.0]))
def test_a_course_is_as_cheap_as_the_cheapest_of_all_there_are(seed, price):
    cores = np.random.default_rng(seed).choice([0.0, 16.0], size=(6, 5))
    demand = steps(np.zeros(5), samples=6)
    demand.samples[:, :, 0] = cores
    p = pool(group(states=LADDER), objective=Objective(shortage_usd_per_core_hour=price))
    part = _part(situation(inputs(demand, node("n1"), pool_=p)), 0)
    terms, levels = part.problem.terms, part.problem.levels
    found = cheapest(terms, levels).cost[0, 0]
    paths = (np.array(path) for path in product(range(4), repeat=5))
    legal = (x for x in paths if not {(1, 2), (2, 1)} & set(zip([RUN, *x], x, strict=False)))
    best = min(usage(terms, levels, 0, 0, x)[3] for x in legal)
    assert found == pytest.approx(best, rel=1e-9)


def test_a_kept_node_instead_of_a_running_one_where_waiting_is_cheap():
    # One future in ten wants a node in each step: too little to run for, enough to keep one stopped.
    demand = steps(np.zeros(72), samples=40)
    for i in range(40):
        demand.samples[i, i % 10 :: 10, 0] = 16.0
    p = pool(group(states=LADDER), objective=Objective(shortage_usd_per_core_hour=0.2))
    cheap = solved(inputs(demand, pool_=p))
    assert cheap.running.max() == 0
    assert nodes_at(cheap, Standby.STOPPED, Standby.HIBERNATED).max() == 1
    dear = replace(p, objective=Objective(shortage_usd_per_core_hour=50.0))
    assert solved(inputs(demand, pool_=dear)).running.max() == 1


def test_what_few_futures_hold_some_time_is_kept_for_now_and_not_put_off():
    demand = steps(np.zeros(72), samples=60)
    demand.samples[7, 40:50, 0] = demand.samples[31, 55:60, 0] = 10 * 16.0
    p = pool(group(states=LADDER), objective=Objective(shortage_usd_per_core_hour=20.0))
    found = solved(inputs(demand, pool_=p))
    assert nodes_at(found, *ALL)[0] == 10
    assert found.running.max() == 0


def test_what_most_futures_hold_is_launched_for_shortly_before_it_comes():
    demand = steps(np.zeros(72), samples=60)
    demand.samples[:40, 40:50, 0] = 10 * 16.0
    p = pool(group(states=LADDER), objective=Objective(shortage_usd_per_core_hour=2.0))
    found = solved(inputs(demand, pool_=p))
    assert nodes_at(found, *ALL)[:35].max() == 0
    assert found.running[40] == 10


def test_steps_in_which_waiting_makes_runs_late_are_worth_a_running_node():
    demand = steps(np.zeros(72), samples=40)
    for i in range(40):
        demand.samples[i, i % 10 :: 10, 0] = 16.0
    p = pool(group(states=LADDER), objective=Objective(shortage_usd_per_core_hour=0.2))
    urgency = [50.0 if 20 <= i < 40 else 0.0 for i in range(72)]
    late = solved(inputs(demand, pool_=p, urgency=urgency))
    assert late.running[20:40].min() == 1
    assert late.running[60:].max() == 0


def test_the_cheaper_of_equal_groups_is_never_passed_over():
    cheap, dear = replace(M, usd_per_hour=0.5), replace(M, usd_per_hour=0.8)
    p = pool(group("dear", (dear,)), group("cheap", (cheap,), max_nodes=3))
    optimum = solved(inputs(steps([80.0] * 72), pool_=p))
    running = {key[0]: by_state[Standby.RUNNING].max() for key, by_state in optimum.nodes.items()}
    assert running == {"cheap": 3, "dear": 2}
    assert optimum.solver == "highs"
    assert optimum.gap < 1e-3


def test_spot_is_taken_while_it_is_seldom_taken_back():
    spot = replace(M, capacity_type=CapacityType.SPOT, usd_per_hour=0.3871)
    p = pool(group("spot", (spot,)), group("firm", (M,)))

    def takes(per_hour):
        optimum = solved(inputs(steps([16.0] * 72), pool_=p, interruptions={spot.key: per_hour}, rework_s=600.0))
        return next(k[0] for k, by_state in optimum.nodes.items() if by_state[Standby.RUNNING].max())

    assert takes(0.001) == "spot"
    assert takes(1.0) == "firm"


@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize(("rework_s", "taken"), [(0.0, "spot"), (7200.0, "firm")])
def test_plans_of_either_kind_launch_where_price_and_interruptions_together_cost_least(optimised, rework_s, taken):
    spot = replace(M, capacity_type=CapacityType.SPOT, usd_per_hour=0.3871)
    p = pool(group("spot", (spot,)), group("firm", (M,)))
    given_inputs = inputs(steps([16.0] * 72), pool_=p, interruptions={spot.key: 0.05}, rework_s=rework_s)
    plan = make_plan(replace(given_inputs, optimise=optimised)).plan
    assert {a.group for a in plan.actions if a.kind is ActionKind.LAUNCH} == {taken}


@pytest.mark.parametrize("hit_rate", [None, 0.9])
def test_what_interruptions_cost_is_no_money_of_a_budget(hit_rate):
    spot = replace(M, capacity_type=CapacityType.SPOT, usd_per_hour=0.4)
    guards = Guards(max_usd_per_hour=2 * 0.4 + 1e-6)
    p = pool(group("spot", (spot,)), guards=guards, objective=Objective(1.0, hit_rate))
    given_inputs = inputs(steps([32.0] * 36), pool_=p, interruptions={spot.key: 0.05}, rework_s=3600.0)
    assert solved(given_inputs).running[1:].tolist() == [2] * 35


# --------------------------------------------------------------------------- limits


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(0, 200), min_size=2, max_size=4),
    st.integers(0, 8),
    st.none() | st.floats(1, 6),
    st.none() | st.floats(2, 30),
    objectives,
    st.integers(0, 3),
)
def test_no_optimum_exceeds_a_quota_or_a_budget(levels, most, per_hour, per_day, objective, least):
    guards = Guards(max_nodes=most, max_usd_per_hour=per_hour, max_usd_per_day=per_day)
    groups = (group("a", states=LADDER, max_nodes=5), group("b", max_nodes=4, min_nodes=least))
    p = pool(*groups, guards=guards, objective=objective)
    optimum = solved(inputs(steps([x for x in levels for _ in range(6)], samples=10), pool_=p))
    assert not optimum.beyond
    running = nodes_at(optimum, Standby.RUNNING)
    assert nodes_at(optimum, *ALL).max() <= most
    for key, by_state in optimum.nodes.items():
        assert sum(by_state.values()).max() <= p.group(key[0]).max_nodes
    if per_hour is not None:
        assert (running * 0.8064 <= per_hour + 1e-6).all()
    if per_day is not None:
        assert running.sum() * 0.8064 / 12 <= per_day + 1e-6


@settings(max_examples=12, deadline=None)
@given(st.lists(st.floats(0, 300), min_size=2, max_size=5), st.floats(0, 0.8), st.floats(0.05, 0.9))
def test_a_higher_hit_rate_never_plans_less(levels, spread, low):
    demand = steps([x for x in levels for _ in range(8)], spread=spread)

    def running(rate):
        return solved(inputs(demand, pool_=pool(group(states=LADDER), objective=Objective(hit_rate=rate)))).running

    assert (running(low + 0.09) >= running(low)).all()


def sharing(name, price, limit, *, others=None, hit_rate=None, **more):
    """A pool that wants four nodes and shares a limit."""
    p = replace(pool(group(states=LADDER), objective=Objective(price, hit_rate)), name=name)
    return situation(inputs(steps([64.0] * 36), pool_=p, shared=(SharedRoom(limit, others or {}),), **more))


BOTH = frozenset({("low", "g"), ("high", "g")})


@pytest.mark.parametrize(
    ("limit", "all_of_it"), [({"max_nodes": 5}, 5), ({"max_cpu": 80.0}, 5), ({"max_cpu": 70.0}, 4)]
)
def test_pools_share_a_quota_and_the_dearer_wait_gets_it(limit, all_of_it):
    account = SharedLimit("account", BOTH, **limit)
    low, high = optimise([sharing("low", 0.5, account), sharing("high", 5.0, account)])
    assert high.running.max() == 4
    assert nodes_at(low, *ALL).max() <= all_of_it - 4
    assert any("account" in name for name in low.binding)
    plenty = SharedLimit("account", BOTH, max_nodes=8)
    free = optimise([sharing("low", 0.5, plenty), sharing("high", 5.0, plenty)])
    assert [x.running.max() for x in free] == [4, 4]


def test_pools_share_a_budget_of_the_day():
    purse = SharedLimit("purse", pools=frozenset({"low", "high"}), max_usd_per_day=12.0)
    found = optimise([sharing("low", 0.5, purse), sharing("high", 5.0, purse)])
    hours = [float(nodes_at(x, Standby.RUNNING).sum()) / 12 for x in found]
    assert 11 < hours[1] <= 12
    assert sum(hours) * 0.8064 <= 12.0 + 1e-6
    assert hours[0] < 6


@pytest.mark.parametrize("hit_rate", [None, 0.9])
def test_what_other_pools_have_is_not_there_for_this_one(hit_rate):
    account = SharedLimit("account", BOTH, max_nodes=5)
    (alone,) = optimise([sharing("low", 5.0, account, others={"high": Use(nodes=4, cpu=64.0)}, hit_rate=hit_rate)])
    assert nodes_at(alone, *ALL).max() == 1
    purse = SharedLimit("purse", pools=frozenset({"low", "high"}), max_usd_per_day=12.0)
    spent = Use(spent_today_usd=8.0, usd_per_hour=1.0)
    (alone,) = optimise([sharing("low", 5.0, purse, others={"high": spent}, hit_rate=hit_rate)])
    assert 0.3 < nodes_at(alone, Standby.RUNNING).sum() / 12 * 0.8064 <= 12.0 - 8.0 - 3.0 + 1e-6


# --------------------------------------------------------------------------- caps over floors over promises over price


def test_pools_with_the_same_promise_share_a_quota_and_say_what_is_short():
    account = SharedLimit("account", BOTH, max_nodes=5)
    found = optimise([sharing("low", 1.0, account, hit_rate=0.9), sharing("high", 1.0, account, hit_rate=0.9)])
    assert sorted(nodes_at(x, *ALL).max() for x in found) == [2, 3]
    assert sorted(x.unserved for x in found) == [1, 2]


def test_a_promise_comes_before_the_price_of_waiting_and_a_floor_before_a_promise():
    account = SharedLimit("account", BOTH, max_nodes=5)
    promised = sharing("low", 1.0, account, hit_rate=0.9)
    found = optimise([promised, sharing("high", 50.0, account)])
    assert [nodes_at(x, *ALL).max() for x in found] == [4, 1]
    asked = (Override("high", 4, NOW, NOW + timedelta(hours=1), "a demonstration"),)
    floor, promise = optimise([sharing("high", 1.0, account, overrides=asked), promised])
    assert floor.running[:12].min() == 4
    assert promise.running[:12].max() == 1


@pytest.mark.parametrize("objective", [Objective(1.0), Objective(hit_rate=0.9)])
def test_a_cap_on_money_comes_before_a_groups_minimum(objective):
    guards = Guards(max_usd_per_hour=2.0)
    cheap, firm = group("a", (replace(M, usd_per_hour=0.5),)), group("b", min_nodes=3)
    optimum = solved(inputs(steps(wave()), pool_=pool(cheap, firm, guards=guards, objective=objective)))
    at = {key[0]: by_state[Standby.RUNNING] for key, by_state in optimum.nodes.items()}
    assert at["b"].min() == 2
    assert (at["a"] * 0.5 + at["b"] * 0.8064).max() <= 2.0


@pytest.mark.parametrize("objective", [Objective(1.0), Objective(hit_rate=0.9)])
def test_money_spent_is_no_money_for_a_promise(objective):
    guards = Guards(max_usd_per_day=6.0)
    optimum = solved(inputs(steps([64.0] * 36), pool_=pool(guards=guards, objective=objective), spent_today_usd=4.0))
    assert 1.5 < nodes_at(optimum, Standby.RUNNING).sum() / 12 * 0.8064 <= 2.0 + 1e-6
    assert optimum.cost_usd < 1e3, "fines are no money"


@pytest.mark.parametrize("objective", [Objective(1.0), Objective(hit_rate=0.9)])
def test_what_a_cap_lets_run_may_also_be_launched(objective):
    """The way to ready is paid before the step that wants the node, not in it."""
    guards = Guards(max_usd_per_hour=4 * 0.8064 + 0.01)
    optimum = solved(inputs(steps(wave()), pool_=pool(guards=guards, objective=objective)))
    assert optimum.running[24:36].tolist() == [4] * 12
    assert not optimum.binding


@pytest.mark.parametrize("objective", [Objective(1.0), Objective(hit_rate=0.9)])
def test_a_cap_holds_in_each_step_of_a_long_horizon(objective):
    guards = Guards(max_usd_per_hour=1.7)
    p = pool(group(states=LADDER), guards=guards, objective=objective, horizon_s=86400)
    optimum = solved(inputs(steps([64.0] * 288), pool_=p))
    assert not optimum.beyond
    assert optimum.running[1:].tolist() == [2] * 287


@pytest.mark.parametrize("objective", [Objective(1.0), Objective(hit_rate=0.9)])
def test_a_ramp_holds_in_each_step_of_a_long_horizon(objective):
    p = pool(group(max_step=1), objective=objective, horizon_s=86400)
    optimum = solved(inputs(steps(np.linspace(0, 32 * 288, 288), samples=4), pool_=p))
    assert not optimum.beyond
    assert np.diff(optimum.running, prepend=0).max() == 1
    assert optimum.running[-1] > 250


def test_a_limit_that_is_not_kept_for_want_of_time_is_named(monkeypatch):
    monkeypatch.setattr(master, "CUTS", 1)
    p = pool(group(max_step=1), horizon_s=86400)
    outcome = make_plan(inputs(steps(np.linspace(0, 32 * 288, 288), samples=4), pool_=p))
    assert any("max_step" in name for name in outcome.optimum.beyond)
    assert outcome.plan.basis["beyond"] == list(outcome.optimum.beyond)
    assert any("goes beyond max_step" in note for note in outcome.plan.notes)


def test_what_comes_later_keeps_to_a_budget_across_pools():
    purse = SharedLimit("purse", pools=frozenset({"p", "other"}), max_usd_per_day=12.0)
    room = SharedRoom(purse, {"other": Use(spent_today_usd=11.0, usd_per_hour=0.25)})
    given_inputs = inputs(steps(wave(begin=12, length=60)), shared=(room,), optimise=False)
    plan = make_plan(given_inputs).plan
    later = [a for a in plan.actions if a.kind is ActionKind.LAUNCH and a.at > NOW]
    assert 0 < sum(a.count for a in later) < 4
    assert any("purse holds back what would be raised later" in note for note in plan.notes)


def test_a_launch_never_goes_beyond_what_others_leave():
    account = SharedLimit("account", BOTH, max_nodes=6, max_cpu=90.0)
    p = replace(pool(group()), name="low")
    for others, left in (({"high": Use(nodes=4, cpu=10.0)}, 2), ({"high": Use(nodes=1, cpu=64.0)}, 1)):
        for more in ({}, {"optimise": False}):
            given_inputs = inputs(steps([64.0] * 36), pool_=p, shared=(SharedRoom(account, others),), **more)
            plan = make_plan(given_inputs)
            launched = sum(a.count for a in plan.plan.due(NOW) if a.kind is ActionKind.LAUNCH)
            assert launched == left
            assert plan.binding
            assert any("account" in note for note in plan.plan.notes)


# --------------------------------------------------------------------------- holding, falling back


def test_an_optimum_is_held_until_something_moves():
    given_inputs = inputs(steps(wave()), pool_=pool(group(states=LADDER)))
    first = make_plan(given_inputs)
    assert first.plan.basis["because"] == "none held"
    again = make_plan(replace(given_inputs, held=first.optimum, now=NOW + timedelta(seconds=60)))
    assert again.optimum is first.optimum
    assert not again.plan.basis["solved"]
    more = make_plan(replace(given_inputs, held=first.optimum, demand=steps(wave(height=96))))
    assert more.plan.basis["because"] == "later demand"
    now = make_plan(replace(given_inputs, held=first.optimum, demand=steps(wave(base=32))))
    assert now.plan.basis["because"] == "demand"
    late = make_plan(replace(given_inputs, held=first.optimum, now=NOW + timedelta(hours=1)))
    assert late.plan.basis["because"] == "time"
    price = replace(given_inputs.pool, objective=Objective(shortage_usd_per_core_hour=3.0))
    assert make_plan(replace(given_inputs, held=first.optimum, pool=price)).plan.basis["because"] == "shortage price"


def test_where_the_solver_fails_the_rule_of_thumb_plans_and_says_so(monkeypatch):
    def fails(*_):
        raise SolverError("out of time")

    given_inputs = inputs(steps([64.0] * 72))
    monkeypatch.setattr(planning, "optimise", fails)
    plan = make_plan(given_inputs).plan
    assert "out of time" in plan.fallback
    thumb = make_plan(replace(given_inputs, optimise=False)).plan
    assert thumb.fallback == ""
    assert [a.as_dict() for a in thumb.actions] == [a.as_dict() for a in plan.actions]


# --------------------------------------------------------------------------- carried out

SURE = {Standby.COLD: LeadTime(180, 180), Standby.STOPPED: LeadTime(45, 45), Standby.HIBERNATED: LeadTime(20, 20)}


def on_sim(*groups):
    return pool(*(replace(g, provider="sim", lead=SURE) for g in groups))


def do(cloud, p, action):
    held = {n.node_id: n for n in cloud.observe(p).nodes if n.group == action.group}
    if action.kind is ActionKind.LAUNCH:
        offering = next(o for o in p.group(action.group).offerings if o.key == action.offering)
        cloud.launch(LaunchRequest(p, action.group, offering, action.count, action.action_id, Preload()))
        return
    kept = {ActionKind.START: (Phase.STOPPED, Phase.HIBERNATED)}.get(action.kind, (Phase.READY, Phase.WARMING))
    ids = action.node_ids or tuple(sorted(i for i, n in held.items() if n.phase in kept))[: action.count]
    if action.kind is ActionKind.START:
        cloud.start(p, ids, Preload())
        return
    call = {ActionKind.STOP: cloud.stop, ActionKind.HIBERNATE: cloud.hibernate, ActionKind.TERMINATE: cloud.terminate}
    call[action.kind](p, ids)


@pytest.mark.parametrize("shape", [[64.0] * 72, wave(), wave(begin=12, length=6, base=16.0)])
def test_the_cost_of_a_plan_is_what_the_cloud_bills(shape):
    p = on_sim(group())
    clock = VirtualClock(NOW)
    cloud = SimCloud(clock)
    given_inputs = inputs(steps(shape, samples=4), pool_=p)
    plan = make_plan(given_inputs).plan
    for action in (a for a in plan.actions if a.kind is not ActionKind.HOLD):
        clock.advance_to(action.at)
        do(cloud, p, action)
    end = NOW + timedelta(hours=6)
    clock.advance_to(end)
    assert cloud.bill(end).usd == pytest.approx(plan.cost_usd, rel=0.01)


def test_two_groups_with_two_tiers_carry_out_what_was_planned():
    """A wave now and one in three hours: a cheap group that is full and a dear one, both able to keep nodes stopped."""
    tiers = frozenset({Standby.RUNNING, Standby.STOPPED})
    cheap = group("cheap", (replace(M, usd_per_hour=0.5),), tiers, max_nodes=3)
    p = on_sim(cheap, group("dear", states=tiers))
    clock = VirtualClock(NOW)
    cloud = SimCloud(clock)
    demand = steps([*[80.0] * 6, *[0.0] * 30, *[80.0] * 12, *[0.0] * 24], samples=4)
    votes, held, ready = {}, None, {}
    for minute in range(0, 300, 5):
        clock.advance_to(NOW + timedelta(minutes=minute))
        seen = cloud.observe(p)
        ready[minute] = {g.name: sum(n.group == g.name for n in seen.in_phase(Phase.READY)) for g in p.groups}
        now = clock.now()
        outcome = make_plan(replace(inputs(demand, pool_=p, now=now, votes=votes, held=held), observation=seen))
        votes, held = dict(outcome.votes), outcome.optimum
        for action in outcome.plan.due(now):
            do(cloud, p, action)
    assert ready[10] == {"cheap": 3, "dear": 2}
    assert sum(ready[120].values()) == 0, "nothing runs between the waves"
    assert ready[185] == {"cheap": 3, "dear": 2}, "all are back when the second wave comes"
    assert sum(ready[295].values()) == 0
    starts = [s for s in cloud.stretches(clock.now()) if s.state is Standby.STOPPED]
    assert starts, "what was between the waves was kept stopped"


def test_the_optimum_counts_on_as_many_launches_as_may_be_made_within_a_minute():
    """Two a minute are ten in a step where nodes wake between plans, and two where a plan a step is all that acts."""
    p = pool(group(max_step=2))
    demand = steps(wave(height=160.0, begin=12), samples=4)
    slow, quick = (solved(inputs(demand, pool_=p, reacts=reacts)) for reacts in (False, True))
    assert slow.running[8] > 0
    assert quick.running[8] == 0
    assert max(np.diff(slow.running[:14])) == 2
