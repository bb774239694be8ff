"""What a reaction cost and was chosen over: the sums are those by which it was decided."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.offerings import Offering, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Objective, Within
from preprov.model.resources import KINDS, Resources
from preprov.planning.prices import TablePriceBook
from preprov.planning.reaction import Soon, react
from tests.unit.planning.test_reaction import (
    NOW,
    OFFERING,
    OFFSETS,
    POOL,
    kinds,
    nodes,
    optimum,
    rising,
    situation,
    two,
)

USD = OFFERING.usd_per_hour


def told(found):
    """What is told of all that is done."""
    return found.explain(found.actions)


def course(explained, name):
    (found,) = [a for a in explained.alternatives if a.name == name]
    return found


def total(usd, wait, price):
    return usd + price * wait


def test_work_that_waits_costs_the_same_whenever_it_is_woken_for_and_waits_the_longer():
    explained = told(react(situation(nodes(hibernated=2), waiting=Resources(cpu=32.0))))
    (start,) = explained.actions
    hours = start.numbers["window_s"] / 3600
    later = course(explained, "leave as it is: wake when work waits")
    cold = course(explained, "leave as it is: launch cold when work waits")
    assert explained.usd == pytest.approx(2 * USD * hours, abs=1e-5)
    assert later.cost_usd == pytest.approx(explained.usd, abs=1e-5)
    assert later.wait_core_hours == pytest.approx(32 * hours, abs=1e-5)
    assert cold.wait_core_hours > 5 * later.wait_core_hours
    assert explained.wait_core_h == 0
    assert start.cost_usd == pytest.approx(explained.usd, rel=0.05), "less what they cost asleep"


def test_a_launch_is_told_beside_what_else_could_be_launched():
    explained = told(react(two(waiting=Resources(cpu=16.0))))
    assert [a.name for a in explained.alternatives] == [
        "leave as it is: launch when work waits",
        f"launch {OFFERING.key} in dear",
    ]
    dear = course(explained, f"launch {OFFERING.key} in dear")
    assert dear.cost_usd == pytest.approx(2 * explained.usd, abs=1e-5)
    assert "dear" not in explained.actions[0].reason


def test_what_a_floor_asks_for_says_so():
    pool = replace(POOL, floors=(Within(2),))
    explained = told(react(situation(nodes(hibernated=2), pool=pool)))
    later = course(explained, "leave as it is: wake when work waits")
    assert later.cost_usd < explained.usd
    assert "a floor asks for it" in later.why_not


def test_an_end_is_told_beside_keeping_on_and_the_other_states():
    there = nodes(ready=2)
    idle = {n.node_id: NOW - timedelta(hours=1) for n in there}
    soon = rising(16.0, at_s=590.0, share=0.2)
    explained = told(react(situation(there, soon, idle=idle)))
    (end,) = explained.actions
    assert end.kind is ActionKind.HIBERNATE
    assert [a.name for a in explained.alternatives] == ["keep running", "stop", "end"]
    on = course(explained, "keep running")
    assert (on.cost_usd, on.wait_core_hours) == (pytest.approx(2 * USD * 600 / 3600, abs=1e-5), 0)
    assert end.numbers["chance"] == 0.2
    back = 0.2 * USD * max(end.numbers["back_s"], OFFERING.minimum_billing_s) / 3600
    assert end.numbers["cost_hibernate"] == pytest.approx(2 * (back + 0.018 * 600 / 3600), rel=0.2)
    assert end.cost_usd == pytest.approx(end.numbers["cost_hibernate"] - end.numbers["cost_keep"], abs=1e-5)
    assert course(explained, "end").wait_core_hours > course(explained, "stop").wait_core_hours > explained.wait_core_h


def test_the_patience_that_is_told_is_the_one_that_decided():
    there = nodes(ready=1)
    soon = rising(16.0, at_s=590.0, share=0.2)

    def after(seconds):
        return react(situation(there, soon, idle={"n000": NOW - timedelta(seconds=seconds)}))

    (end,) = told(after(3600)).actions
    hold = end.numbers["hold_s"]
    assert kinds(after(hold - 0.1)) == {}
    assert kinds(after(hold + 0.1)) == {ActionKind.HIBERNATE: 1}
    # What keeping it on that long costs is half of bringing it back and all of the waiting, where that is needed.
    costs = 0.2 * (0.5 * USD * end.numbers["back_s"] + 16 * after(0).lead_s) / 3600
    assert USD * hold / 3600 == pytest.approx(costs, rel=1e-4)


def test_without_prices_figures_are_node_hours_and_no_cost_is_claimed():
    free = Offering("free", Resources(16.0, 64.0))
    (group,) = POOL.groups
    pool = replace(POOL, groups=(replace(group, offerings=(free,)),))
    prices = TablePriceBook.from_pools([pool])
    explained = told(react(situation((), waiting=Resources(cpu=16.0), pool=pool, prices=prices)))
    assert (explained.usd, explained.actions[0].cost_usd) == (None, None)
    assert all(a.cost_usd is None and "node-hours" in a.why_not for a in explained.alternatives)


def test_of_what_guards_let_through_only_that_is_told():
    found = react(situation(nodes(hibernated=3), waiting=Resources(cpu=48.0)))
    (start,) = found.actions
    part = replace(start, count=1, node_ids=start.node_ids[:1])
    one, all_ = found.explain([part]), told(found)
    assert one.usd == pytest.approx(all_.usd / 3, abs=1e-5)
    assert one.wait_core_h > all_.wait_core_h == 0


@st.composite
def futures(draw) -> Soon:
    """Steps up of their own in each of twenty futures."""
    rises = np.zeros((20, len(OFFSETS), len(KINDS)))
    for s in range(20):
        at = draw(st.integers(0, len(OFFSETS) - 1))
        rises[s, at:, 0] = draw(st.integers(0, 5)) * 16.0
    return Soon(OFFSETS, rises, draw(st.integers(0, 1)))


@given(futures(), st.floats(0.01, 5.0), st.integers(0, 4), st.integers(0, 2))
def test_what_is_raised_is_never_dearer_than_leaving_it_until_work_waits(soon, price, hibernated, ready):
    pool = replace(POOL, objective=Objective(shortage_usd_per_core_hour=price))
    found = react(situation(nodes(ready=ready, hibernated=hibernated), soon, pool=pool))
    raised = [a for a in found.actions if a.kind.raises]
    if not raised:
        return
    explained = told(found)
    done = total(explained.usd, explained.wait_core_h, price)
    for a in explained.alternatives:
        assert done <= total(a.cost_usd, a.wait_core_hours, price) + 1e-5
    assert all(a.numbers["to_nodes"] > a.numbers["from_nodes"] for a in explained.actions)


@given(st.floats(0, 1), st.floats(0.01, 5.0), st.sampled_from([Standby.HIBERNATED, Standby.STOPPED]))
def test_what_is_put_away_is_never_dearer_than_keeping_it_on_for_as_long_as_it_was_held(share, price, state):
    """After an unbroken hold, which is what coming back costs at most: the bound of ski rental."""
    there = nodes(ready=1)
    idle = {"n000": NOW - timedelta(hours=1)}
    pool = replace(POOL, objective=Objective(shortage_usd_per_core_hour=price))
    soon = rising(16.0, at_s=590.0, share=share)
    best = optimum(hibernated=1) if state is Standby.HIBERNATED else optimum(stopped=1)
    found = react(situation(there, soon, idle=idle, pool=pool, optimum=best))
    for a in told(found).actions if found.actions else ():
        held_usd = USD * a.numbers["hold_s"] / 3600
        back = a.numbers["chance"] * USD * a.numbers["back_s"] / 3600
        assert held_usd >= 0.5 * back - 1e-5 or a.numbers["hold_s"] >= 3600
