"""Half-empty nodes that are too many take no new work, and go when what runs on them ends."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.plans import ActionKind
from preprov.model.pools import Mode, Window, Within
from preprov.planning.plan import make_plan
from tests.unit.planning.pools import NOW, claim, group, inputs, node, pool, steps

BUSY = ("x/t#0",)


def spread(*ends_in_minutes, cores=4.0, share=0.1, votes=True, **more):
    """One node for each, all busy; the demand would fit on one."""
    nodes = [node(f"n{i}", running=BUSY) for i in range(len(ends_in_minutes))]
    until = {f"n{i}": NOW + timedelta(minutes=m) for i, m in enumerate(ends_in_minutes)}
    voted = {n.node_id: NOW - timedelta(hours=8) for n in nodes} if votes else {}
    demand = more.pop("demand", None) or steps([cores] * 72)
    claims = tuple(claim(f"x/t#{i}", n.node_id, cpu=share * 16) for i, n in enumerate(nodes))
    return inputs(demand, *nodes, busy_until=until, votes=voted, committed=claims, **more)


def drained(outcome):
    return [n for a in outcome.plan.due(NOW) if a.kind is ActionKind.DRAIN for n in a.node_ids]


def test_those_that_are_free_soonest_are_drained_and_one_stays():
    outcome = make_plan(spread(50, 5, 20))
    assert sorted(drained(outcome)) == ["n1", "n2"]
    (first, *_) = [a for a in outcome.plan.due(NOW) if a.kind is ActionKind.DRAIN]
    assert "should end in" in first.reason
    assert not [a for a in outcome.plan.due(NOW) if a.kind in (ActionKind.TERMINATE, ActionKind.LAUNCH)]


def test_the_others_must_hold_what_runs():
    assert drained(make_plan(spread(50, 5, 20, share=0.6))) == ["n1"], "three times .6 are two nodes"
    assert drained(make_plan(spread(5, cores=0.0))) == [], "the last one stays while something runs"


def test_it_takes_an_unbroken_vote():
    first = make_plan(spread(50, 5, votes=False))
    assert drained(first) == []
    assert set(first.votes) == {"n1"}
    later = replace(spread(50, 5), votes={"n1": NOW - timedelta(seconds=30)})
    assert drained(make_plan(later)) == []


def test_a_node_that_is_wanted_again_when_it_would_be_free_stays():
    wave = steps([4.0] * 3 + [60.0] * 12 + [4.0] * 57)
    assert drained(make_plan(spread(50, 12, 20, demand=wave))) == []
    far = steps([4.0] * 60 + [60.0] * 12)
    assert sorted(drained(make_plan(spread(50, 12, 20, demand=far)))) == ["n1", "n2"]


def test_who_may_not_lower_and_whose_end_nobody_knows_drains_nothing():
    assert drained(make_plan(replace(spread(50, 5), mode=Mode.FLOOR))) == []
    assert drained(make_plan(replace(spread(50, 5), busy_until={}))) == []
    assert drained(make_plan(replace(spread(50, 5), halted="by hand"))) == []
    assert drained(make_plan(spread(50, 5, pool_=pool(group(min_nodes=2))))) == []
    still = pool(disruptions=(Within(0, Window()),))
    assert drained(make_plan(spread(50, 5, pool_=still))) == []


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=6),
    st.lists(st.floats(0, 96), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_what_is_left_still_covers_what_is_wanted_now(ends, levels, least):
    demand = steps([x for x in levels for _ in range(18)])
    p = pool(group(min_nodes=least))
    given_inputs = spread(*ends, demand=demand, pool_=p)
    gone = drained(make_plan(given_inputs))
    left = len(ends) - len(gone)
    wanted = int(max(-(-max(levels[0], 0) // 16), least))
    assert left >= min(wanted, len(ends))
