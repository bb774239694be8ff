"""First fit, gangs, labels, preload, node counts and why something fits nowhere."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.nodes import Phase
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.planning.placement import (
    NodeRoom,
    PlacementRequest,
    first_fit,
    fit_count,
    misfit,
    nodes_for,
    rooms_of,
    usable_capacity,
)
from tests.unit.planning.pools import M, claim, node, observed

BINDING = ("cpu", "memory")


def room(name, cpu=16.0, memory=64.0, **more):
    return NodeRoom(name, Resources(cpu, memory), Resources(16, 64), **more)


def ask(name, cpu=4.0, memory=1.0, **more):
    return PlacementRequest(name, Resources(cpu, memory), **more)


def test_requests_fill_the_first_room_that_fits_in_the_order_given():
    got = first_fit([ask("a", 10), ask("b", 10), ask("c", 6)], [room("n1"), room("n2")], BINDING)
    assert got.placed == {"a": "n1", "b": "n2", "c": "n1"}
    assert not got.unplaced


def test_what_does_not_fit_is_passed_over_and_says_why():
    got = first_fit([ask("a", 12), ask("big", 40), ask("later", 12), ask("b", 4)], [room("n1")], BINDING)
    assert got.placed == {"a": "n1", "b": "n1"}
    assert "largest ready node has 16 cores" in got.unplaced["big"]
    assert "no room for 12 cores" in got.unplaced["later"]
    assert first_fit([ask("a")], [], BINDING).unplaced == {"a": "no node is ready"}


def test_a_gang_is_placed_whole_or_not_at_all():
    gang = [ask(f"g{i}", 10, gang="g") for i in range(3)]
    got = first_fit([*gang, ask("solo", 16)], [room("n1"), room("n2")], BINDING)
    assert got.placed == {"solo": "n1"}
    assert "needs room for 3 at once; 2 fit" in got.unplaced["g0"]
    assert len(first_fit(gang, [room(f"n{i}") for i in range(3)], BINDING).placed) == 3


def test_a_gang_of_unlike_members_gives_back_all_it_took():
    gang = [ask("g0", 16, gang="g"), ask("g1", 12, gang="g"), ask("g2", 8, gang="g")]
    got = first_fit([*gang, ask("a", 16), ask("b", 16)], [room("n1"), room("n2")], BINDING)
    assert got.placed == {"a": "n1", "b": "n2"}


def test_labels_bind_and_preload_is_preferred():
    rooms = [room("n1"), room("n2", labels={"disk": "ssd"}), room("n3", preloaded=frozenset({"img"}))]
    got = first_fit(
        [
            ask("a", affinity={"disk": "ssd"}),
            ask("b", preload=frozenset({"img"})),
            ask("c", affinity={"disk": "tape"}),
            ask("d"),
        ],
        rooms,
        BINDING,
    )
    assert got.placed == {"a": "n2", "b": "n3", "d": "n1"}
    assert got.unplaced["c"] == "no ready node has the labels disk=tape"


def test_only_what_binds_limits():
    assert first_fit([ask("a", 4, 1000)], [room("n1")], ("cpu",)).placed == {"a": "n1"}


def test_rooms_come_fullest_first_less_what_is_committed():
    nodes = node("n1"), node("n2", running=("r/t#0",)), node("n3", Phase.WARMING)
    rooms = rooms_of(observed(*nodes), [claim("r/t#0", "n2", cpu=10), claim("r/u#0", cpu=16)])
    assert [r.node_id for r in rooms] == ["n2", "n1"]
    assert rooms[0].free == Resources(6, 64)
    assert rooms[0].labels["instance_type"] == "m"


@given(
    st.lists(st.tuples(st.sampled_from([1.0, 3.0, 5.0, 11.0]), st.sampled_from(["", "", "g1", "g2"])), max_size=40),
    st.integers(0, 6),
)
def test_nothing_is_overbooked_and_nothing_lost(wanted, n):
    requests = [ask(f"r{i}", cpu, cpu * 2, gang=g) for i, (cpu, g) in enumerate(wanted)]
    got = first_fit(requests, [room(f"n{i}") for i in range(n)], BINDING)
    assert set(got.placed) | set(got.unplaced) == {r.claimant for r in requests}
    assert not set(got.placed) & set(got.unplaced)
    for name in {*got.placed.values()}:
        assert sum(r.amount.cpu for r in requests if got.placed.get(r.claimant) == name) <= 16 + 1e-6
    for g in ("g1", "g2"):
        members = [r.claimant for r in requests if r.gang == g]
        assert sum(m in got.placed for m in members) in (0, len(members))


@given(st.lists(st.sampled_from([2.0, 5.0, 7.0]), max_size=30))
def test_placing_many_alike_is_placing_one_by_one(sizes):
    rooms = [room(f"n{i}") for i in range(4)]
    together = first_fit([ask(f"r{i}", c) for i, c in enumerate(sizes)], rooms, BINDING)
    # affinity to nothing in particular, unlike each other, so that no two are a batch
    unlike = [ask(f"r{i}", c, preload=frozenset({f"k{i}"})) for i, c in enumerate(sizes)]
    assert first_fit(unlike, rooms, BINDING).placed == together.placed


def test_thousands_of_requests_are_quick():
    rooms = [room(f"n{i}") for i in range(500)]
    requests = [ask(f"r{i}", 1 + i % 7) for i in range(5000)]
    began = time.process_time()
    got = first_fit(requests, rooms, BINDING)
    assert time.process_time() - began < 1.0
    assert len(got.placed) > 1900


def test_node_counts_by_the_resource_that_binds():
    demand = np.array([[[0, 0, 0, 0, 0], [16, 64, 0, 0, 0], [17, 10, 0, 0, 0], [1, 200, 0, 0, 0]]], dtype=float)
    assert nodes_for(demand, M, BINDING).tolist() == [[0, 1, 2, 4]]
    assert nodes_for(demand, M, ("cpu",)).tolist() == [[0, 1, 2, 1]]


def test_node_counts_with_whole_tasks():
    demand = np.array([60.0, 10, 0, 0, 0])
    assert int(nodes_for(demand, M, BINDING, Resources(12, 1))) == 5
    assert int(nodes_for(demand, M, BINDING, Resources(5, 1))) == 4
    assert int(nodes_for(demand, M, BINDING, Resources(100, 1))) == 4  # fits nowhere: for `misfit` to say
    assert usable_capacity(M, BINDING, Resources(12, 1))[1] == 64  # memory still serves other tasks


def test_a_resource_the_offering_lacks_cannot_be_met():
    assert int(nodes_for(np.array([0, 0, 1.0, 0, 0]), M, ("cpu", "gpu"))) >= 10**6


@given(st.floats(0, 5000), st.floats(0, 5000))
def test_node_counts_hold_the_demand_and_are_not_one_too_many(cpu, memory):
    n = int(nodes_for(np.array([cpu, memory, 0, 0, 0]), M, BINDING))
    assert n * 16 >= cpu - 1e-3
    assert n * 64 >= memory - 1e-3
    assert n == 0 or (n - 1) * 16 < cpu or (n - 1) * 64 < memory


def test_why_something_fits_nowhere():
    gpu = Offering("gpu", Resources(8, 32, 1))
    assert misfit(Resources(16), [M, gpu], BINDING) == ""
    said = misfit(Resources(20, 8), [M, gpu], BINDING)
    assert said == "wants 20 cores, 8 GiB of memory; m has 16 cores; gpu has 8 cores"
    assert "no offering" in misfit(Resources(1), [], BINDING)


@pytest.mark.parametrize(("want", "n"), [((4, 4), 4), ((4, 40), 1), ((17, 1), 0)])
def test_how_often_a_request_fits(want, n):
    assert fit_count(Resources(*want), Resources(16, 64), BINDING) == n
