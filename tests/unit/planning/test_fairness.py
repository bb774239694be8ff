"""Tenants take turns by what each is due, and what covers known demand is not wanted twice."""

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment
from preprov.model.resources import Resources
from preprov.planning.fairness import fair_order
from preprov.planning.held import held_by_node, held_by_tenant, holders_of
from preprov.planning.inputs import Foreseen
from preprov.planning.order import ReadyTask
from preprov.planning.plan import make_plan
from tests.unit.planning.pools import NOW, inputs, steps

WHOLE = Resources(cpu=100, memory=1000)


def ready(key: str, tenant: str, cpu: float = 1, memory: float = 1, priority: int = 0) -> ReadyTask:
    return ReadyTask(key, priority, tenant=tenant, amount=Resources(cpu, memory))


def test_the_scarcer_resource_decides_whose_turn_it_is():
    tasks = [ready(f"a{i}", "cpu-heavy", cpu=10, memory=10) for i in range(6)]
    tasks += [ready(f"b{i}", "memory-heavy", cpu=1, memory=300) for i in range(6)]
    order = [t.tenant for t in fair_order(tasks, {}, WHOLE, {})]
    assert order[:5] == ["cpu-heavy", "memory-heavy", "cpu-heavy", "cpu-heavy", "cpu-heavy"]


def test_what_a_tenant_has_already_counts_and_so_does_its_weight():
    tasks = [ready(f"a{i}", "a") for i in range(4)] + [ready(f"b{i}", "b") for i in range(4)]
    first = [t.tenant for t in fair_order(tasks, {"a": Resources(cpu=3)}, WHOLE, {})]
    assert first == ["b", "b", "b", "a", "b", "a", "a", "a"]
    weighted = [t.tenant for t in fair_order(tasks, {}, WHOLE, {"b": 3.0})]
    assert weighted[:4].count("b") == 3


def test_priority_comes_first():
    tasks = [ready("high", "rich", cpu=50, priority=1), ready("x", "rich"), ready("y", "poor")]
    assert [t.key for t in fair_order(tasks, {}, WHOLE, {})] == ["high", "y", "x"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.floats(0, 9)), max_size=30))
def test_nobody_is_lost_and_each_tenant_keeps_its_own_order(rows):
    tasks = sorted(
        (ready(f"{i:02}", t, cpu, priority=p) for i, (t, p, cpu) in enumerate(rows)), key=lambda t: -t.priority
    )
    order = fair_order(tasks, {}, WHOLE, {"a": 0.5})
    assert sorted(t.key for t in order) == sorted(t.key for t in tasks)
    for tenant in "abc":
        assert [t.key for t in order if t.tenant == tenant] == [t.key for t in tasks if t.tenant == tenant]
    assert [t.priority for t in order] == sorted((t.priority for t in tasks), reverse=True)


def held(name, purpose, cpu, *, node="n1", under="", tenant="red", covers="", begin_s=0.0) -> Reservation:
    start = NOW + timedelta(seconds=begin_s)
    return Reservation(
        name,
        "p",
        name,
        (Segment(start, start + timedelta(hours=1), Resources(cpu)),),
        ReservationState.COMMITTED if node else ReservationState.SOFT,
        node_id=node,
        purpose=purpose,
        under=under,
        tenant=tenant,
        covers=covers,
    )


def test_what_runs_in_a_window_is_held_once():
    rows = [
        held("w", Purpose.WINDOW, 4),
        held("t", Purpose.TASK, 3, under="w"),
        held("elsewhere", Purpose.TASK, 2, under="w", node="n2"),
        held("b", Purpose.BOOKING, 1),
        held("u", Purpose.TASK, 1, under="b"),
    ]
    assert held_by_node(rows, NOW) == {"n1": Resources(cpu=6), "n2": Resources(cpu=2)}
    assert holders_of(rows, NOW)["w"].free == Resources(cpu=1)
    assert held_by_tenant(rows, NOW) == {"red": Resources(cpu=8)}
    grown = [*rows, held("v", Purpose.TASK, 3, under="w")]
    assert held_by_node(grown, NOW)["n1"] == Resources(cpu=8), "six in a window of four, and the booking with its task"


def launched(*committed: Reservation, foreseen: float | None = None, demand: float = 0.0) -> int:
    """Nodes of 16 cores that are launched for claims on top of a flat demand."""
    of = {} if foreseen is None else {"tenant:red": Foreseen(NOW, 300, np.full((72, 5), foreseen))}
    given_ = inputs(steps([demand] * 72), committed=committed, foreseen=of)
    return sum(a.count for a in make_plan(given_).plan.actions if a.kind == "launch")


def test_a_window_wants_only_what_its_tenant_is_not_expected_to_use():
    window = held("w", Purpose.WINDOW, 64, node=None, covers="tenant:red")
    assert launched(demand=48) == 3
    assert launched(window, demand=48) == 7, "nothing is known of the tenant"
    assert launched(window, demand=48, foreseen=48) == 4, "three nodes of its four are in the demand"
    assert launched(window, demand=96, foreseen=80) == 6, "it is expected to use more than it has"
    other = held("b", Purpose.BOOKING, 16, node=None)
    assert launched(window, other, demand=48, foreseen=48) == 5
