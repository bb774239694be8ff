"""What every plan keeps, whatever it is asked: through make_plan alone, and carried out on the simulated cloud."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.contracts import LaunchRequest
from preprov.model.limits import SharedLimit
from preprov.model.nodes import Phase
from preprov.model.offerings import LeadTime, Preload, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Group, Guards, Objective, Override
from preprov.planning.inputs import SharedRoom
from preprov.planning.plan import make_plan, optimise_together
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import SimCloud
from tests.unit.planning.pools import LADDER, LEADS, NOW, M, group, inputs, node, pool, steps

STEP = timedelta(seconds=300)
SURE = {Standby.COLD: LeadTime(180, 180), Standby.STOPPED: LeadTime(45, 45), Standby.HIBERNATED: LeadTime(20, 20)}
TIERS = frozenset({Standby.RUNNING, Standby.STOPPED})
UP = (Phase.READY, Phase.WARMING)

nodes_wanted = st.lists(st.integers(0, 5), min_size=2, max_size=6)
"""Nodes wanted for an hour each."""
states = st.sampled_from([frozenset({Standby.RUNNING}), TIERS, LADDER])


def certain(levels, step_count=12):
    """A demand of so many whole nodes, an hour each, known for sure."""
    return steps([16.0 * n for n in levels for _ in range(step_count)], samples=3)


def on_sim(name: str, usd: float, kept, most: int) -> Group:
    made = group(name, (replace(M, usd_per_hour=usd),), kept, max_nodes=most)
    return replace(made, provider="sim", lead=SURE)


def do(cloud, p, action):
    """Carry an action out; one that names no nodes means any that can be meant, those not yet ready last."""
    if action.kind is ActionKind.LAUNCH:
        offering = next(o for o in p.group(action.group).offerings if o.key == action.offering)
        cloud.launch(LaunchRequest(p, action.group, offering, action.count, action.action_id, Preload()))
        return
    meant = (Phase.STOPPED, Phase.HIBERNATED) if action.kind is ActionKind.START else UP
    there = [n for n in cloud.observe(p).nodes if n.group == action.group and n.phase in meant]
    ids = action.node_ids or tuple(n.node_id for n in sorted(there, key=lambda n: n.node_id))[: action.count]
    if action.kind is ActionKind.START:
        cloud.start(p, ids, Preload())
        return
    call = {ActionKind.STOP: cloud.stop, ActionKind.HIBERNATE: cloud.hibernate, ActionKind.TERMINATE: cloud.terminate}
    call[action.kind](p, ids)


def carried_out(p, levels):
    """(the plan, the bill at the end of what was wanted)."""
    clock = VirtualClock(NOW)
    cloud = SimCloud(clock)
    plan = make_plan(inputs(certain(levels), pool_=p)).plan
    for action in (a for a in plan.actions if a.kind is not ActionKind.HOLD):
        clock.advance_to(action.at)
        do(cloud, p, action)
    end = NOW + STEP * 12 * len(levels)
    clock.advance_to(end)
    return plan, cloud.bill(end)


@settings(max_examples=25, deadline=None)
@given(
    nodes_wanted,
    st.floats(0.05, 5.0),
    states,
    st.none() | st.floats(0.3, 1.5),
    st.integers(1, 4),
    st.sampled_from([SURE, LEADS]),
)
def test_the_cost_of_a_plan_is_what_the_cloud_bills_for_carrying_it_out(levels, price, kept, other_usd, room, lead):
    """Launched, kept, started and ended, in one group or two: each dollar of the plan is on the bill, and no other.

    Lead times are sure or drawn: billing begins with the launch either way.
    """
    other = () if other_usd is None else (on_sim("other", other_usd, kept, room),)
    groups = [replace(g, lead=lead) for g in (on_sim("g", 0.8064, kept, 9), *other)]
    p = pool(*groups, objective=Objective(price), horizon_s=86400)
    plan, bill = carried_out(p, levels)
    assert bill.usd == pytest.approx(plan.cost_usd, abs=1e-6)
    assert bill.node_hours == pytest.approx(plan.node_hours, abs=1e-6)


@pytest.mark.parametrize(
    ("state", "call"), [(Standby.STOPPED, ActionKind.STOP), (Standby.HIBERNATED, ActionKind.HIBERNATE)]
)
def test_the_cost_of_a_plan_with_kept_nodes_of_two_groups_is_what_the_cloud_bills(state, call):
    kept = frozenset({Standby.RUNNING, state})
    p = pool(on_sim("g", 0.8064, kept, 9), on_sim("other", 0.7, kept, 2), objective=Objective(5.0), horizon_s=86400)
    plan, bill = carried_out(p, [5, 0, 5, 1])
    assert {a.kind for a in plan.actions} >= {ActionKind.LAUNCH, call, ActionKind.START}
    assert {a.group for a in plan.actions if a.kind is call} == {"g", "other"}
    assert sum(g.standby_usd for g in bill.groups.values()) > 0.01
    assert bill.usd == pytest.approx(plan.cost_usd, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 2.0), st.integers(1, 4)), min_size=2, max_size=4),
    st.floats(0, 12),
    st.floats(0, 0.6),
    states,
    st.booleans(),
)
def test_a_cheaper_group_of_equal_use_is_never_passed_over(groups, wanted, spread, kept, optimised):
    p = pool(*(group(f"g{i}", (replace(M, usd_per_hour=usd),), kept, max_nodes=n) for i, (usd, n) in enumerate(groups)))
    plan = make_plan(inputs(steps([16.0 * wanted] * 72, spread=spread), pool_=p, optimise=optimised)).plan
    launched = dict.fromkeys((g.name for g in p.groups), 0)
    for a in plan.due(NOW):
        if a.kind is ActionKind.LAUNCH:
            launched[a.group] += a.count
    for (usd, most), g in zip(groups, p.groups, strict=True):
        dearer = [launched[o.name] for (x, _), o in zip(groups, p.groups, strict=True) if x > usd + 1e-9]
        assert launched[g.name] == most or not any(dearer), "a dearer one was taken while this one had room"


@settings(max_examples=15, deadline=None)
@given(nodes_wanted, st.floats(0, 0.8), st.floats(0.05, 0.88), st.integers(1, 8), states)
def test_raising_the_slo_never_lowers_planned_capacity(levels, spread, low, most, kept):
    demand = steps([16.0 * n for n in levels for _ in range(8)], spread=spread, samples=20)
    groups = (group("a", states=kept, max_nodes=most), group("b", (replace(M, usd_per_hour=1.1),), kept, max_nodes=4))

    def planned(rate):
        return make_plan(inputs(demand, pool_=pool(*groups, objective=Objective(hit_rate=rate))))

    lower, higher = planned(low), planned(low + 0.1)
    assert (higher.optimum.running >= lower.optimum.running).all()

    def launched(outcome):
        return sum(a.count for a in outcome.plan.due(NOW) if a.kind is ActionKind.LAUNCH)

    assert launched(higher) >= launched(lower)


@settings(max_examples=10, deadline=None)
@given(nodes_wanted, st.integers(1, 3), st.sampled_from([TIERS, LADDER]))
def test_two_groups_with_two_tiers_carry_out_what_was_planned(levels, room, kept):
    """Plans carried out every five minutes: whatever is wanted is there when it is wanted, cheap nodes first."""
    p = pool(on_sim("cheap", 0.5, kept, room), on_sim("dear", 0.8064, kept, 6), objective=Objective(5.0))
    clock = VirtualClock(NOW)
    cloud = SimCloud(clock)
    demand = certain(levels)
    votes, held = {}, None
    for i in range(12 * len(levels)):
        clock.advance_to(NOW + STEP * i)
        seen = cloud.observe(p)
        ready = {g.name: sum(n.group == g.name for n in seen.in_phase(Phase.READY)) for g in p.groups}
        wanted = levels[i // 12]
        if i > 1:
            assert sum(ready.values()) >= wanted
            assert ready["cheap"] >= min(wanted, room)
        now = clock.now()
        outcome = make_plan(replace(inputs(demand, pool_=p, now=now, votes=votes, held=held), observation=seen))
        votes, held = dict(outcome.votes), outcome.optimum
        for action in outcome.plan.due(now):
            do(cloud, p, action)
        after = cloud.observe(p).nodes
        planned = {(t.group, t.standby_state): t.count for t in outcome.plan.targets if t.at <= now}
        there = {key: sum((n.group, n.standby) == key for n in after) for key in planned}
        assert there == planned, "the cloud holds what the plan says of now"


@settings(max_examples=25, deadline=None)
@given(
    nodes_wanted,
    st.integers(0, 8),
    st.none() | st.floats(0, 6),
    st.none() | st.floats(0, 20),
    st.integers(1, 4),
    st.booleans(),
    st.none() | st.floats(0.05, 0.98),
)
def test_no_plan_ever_exceeds_quota_guard_or_budget_now_or_later(
    levels, most, per_hour, per_day, room, optimised, hit_rate
):
    """Of everything a plan means to do until its horizon ends, in a pool that is empty now."""
    guards = Guards(max_nodes=most, max_usd_per_hour=per_hour, max_usd_per_day=per_day)
    groups = (on_sim("a", 0.5, TIERS, room), on_sim("b", 0.8064, TIERS, 6))
    p = pool(*groups, guards=guards, objective=Objective(hit_rate=hit_rate), horizon_s=86400)
    plan = make_plan(inputs(certain(levels), pool_=p, optimise=optimised)).plan
    instants = sorted({t.at for t in plan.targets})
    held: dict[tuple[str, Standby], int] = {}
    usd, since, rate = 0.0, NOW, 0.0
    for at in instants:
        usd += rate * (at - since).total_seconds() / 3600
        held.update({(t.group, t.standby_state): t.count for t in plan.targets if t.at == at})
        nodes = sum(held.values())
        running = {g: held.get((g, Standby.RUNNING), 0) for g in "ab"}
        rate, since = running["a"] * 0.5 + running["b"] * 0.8064, at
        assert nodes <= most
        assert sum(n for (g, _), n in held.items() if g == "a") <= room
        if per_hour is not None:
            assert rate <= per_hour + 1e-6
    if per_day is not None:
        end = NOW + STEP * 12 * len(levels)
        usd += rate * max((end - since).total_seconds(), 0.0) / 3600
        # What runs is never ended for money: the last raise may outlast what it was committed to.
        assert usd <= per_day + np.ceil(max(levels)) * 0.8064 + 1e-6


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(nodes_wanted, nodes_wanted),
    st.tuples(*[st.none() | st.floats(0.05, 0.98)] * 2),
    st.none() | st.integers(0, 6),
    st.none() | st.floats(0, 12),
    st.integers(0, 3),
    st.none() | st.floats(0.5, 4),
)
def test_pools_planned_together_never_exceed_what_they_share(wanted, rates, quota, budget, floor, per_hour):
    """Whatever they promise, and whatever floors they have: these come first, as far as the caps leave room."""
    names = ("low", "high")
    usd = {"low": 0.5, "high": 0.8064}
    groups = frozenset((name, "g") for name in names)
    money = frozenset(names) if budget is not None else frozenset()
    free = quota is None and budget is None
    shared = () if free else (SharedRoom(SharedLimit("account", groups, quota, None, money, budget)),)
    asked = (Override("low", floor, NOW, NOW + timedelta(hours=1), "a demonstration"),)
    given_inputs = []
    for name, levels, rate in zip(names, wanted, rates, strict=True):
        guards = Guards(max_usd_per_hour=per_hour if name == "low" else None)
        p = pool(on_sim("g", usd[name], TIERS, 9), objective=Objective(hit_rate=rate), guards=guards, horizon_s=86400)
        more = {"overrides": asked} if name == "low" else {}
        given_inputs.append(inputs(certain(levels, 6), pool_=replace(p, name=name), shared=shared, **more))
    found = optimise_together(given_inputs)
    assert not isinstance(found, str), found
    assert not any(x.beyond for x in found)
    steps_ = min(len(x.running) for x in found)
    running = [sum(s[Standby.RUNNING] for s in x.nodes.values()) for x in found]
    if quota is not None:
        assert (found[0].kept[:steps_] + found[1].kept[:steps_]).max() <= quota
    if budget is not None:
        assert sum(r.sum() / 12 * usd[name] for name, r in zip(names, running, strict=True)) <= budget + 1e-6
    if per_hour is not None:
        assert running[0].max() * usd["low"] <= per_hour + 1e-6
    room = min(floor, 9 if quota is None else quota, 9 if per_hour is None else int(per_hour / usd["low"] + 1e-9))
    if budget is None:
        assert running[0][1:12].min() >= room


@settings(max_examples=25, deadline=None)
@given(nodes_wanted, st.integers(0, 4), st.integers(0, 4), st.floats(0.05, 0.98), st.floats(0, 6), st.booleans())
def test_a_promise_neither_ends_work_nor_raises_beyond_what_is_left(levels, busy, idle, rate, left_usd, optimised):
    """In a pool that has nodes, with most of its money spent: what runs work stays, and launches keep to the caps."""
    guards = Guards(max_nodes=5, max_usd_per_hour=3.0, max_usd_per_day=20.0)
    p = pool(on_sim("g", 0.8064, TIERS, 6), guards=guards, objective=Objective(hit_rate=rate), horizon_s=86400)
    offering = p.groups[0].offerings[0]
    work = [node(f"b{i}", running=("r/t#0",), offering=offering) for i in range(busy)]
    there = [*work, *(node(f"i{i}", offering=offering) for i in range(idle))]
    more = {"spent_today_usd": 20.0 - left_usd, "optimise": optimised}
    plan = make_plan(inputs(certain(levels), *there, pool_=p, **more)).plan
    raised = sum(a.count for a in plan.due(NOW) if a.kind.raises)
    assert not {n.node_id for n in work} & {i for a in plan.actions for i in a.node_ids if not a.kind.raises}
    if raised:
        assert len(there) + raised <= 5
        assert (len(there) + raised) * 0.8064 <= 3.0
        assert (len(there) + raised) * 0.8064 * p.lease_s / 3600 <= left_usd
