"""Unlike tasks on unlike nodes: which kinds get nodes of their own, and one plan for all of them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.nodes import Phase
from preprov.model.offerings import Offering
from preprov.model.plans import ActionKind
from preprov.model.pools import Guards
from preprov.model.resources import ZERO, Resources
from preprov.planning.inputs import Lane
from preprov.planning.lanes import lane_of, lanes_of
from preprov.planning.packing import Kind, Mix
from preprov.planning.placement import holds, why_nowhere
from preprov.planning.plan import make_plan
from tests.unit.planning.pools import LADDER, NOW, M, group, inputs, node, pool, steps, wave

GPU = Offering("g", Resources(8, 32, 1), usd_per_hour=1.2)
BIG = Offering("big", Resources(16, 256), usd_per_hour=1.6)
SMALL, WITH_GPU, LARGE = Resources(1, 2), Resources(4, 16, 1), Resources(4, 200)


def parted(p, *kinds):
    return lanes_of(p, [Kind(r, n, labels) for r, n, labels in kinds], lambda o: o.usd_per_hour)


def keys(shape):
    return {key.split("/")[0] for _, key in shape.offerings}


def test_tasks_with_a_gpu_get_nodes_of_their_own_and_the_rest_the_cheap_ones():
    p = pool(group("cpu"), group("gpu", (GPU,)))
    main, special = parted(p, (SMALL, 100, {}), (WITH_GPU, 2, {}))
    assert (keys(main), keys(special)) == ({"m"}, {"g"})
    assert [k.request for k in special.kinds] == [WITH_GPU]
    assert lane_of(p, (main, special), SMALL, {}) == 0
    assert lane_of(p, (main, special), WITH_GPU, {}) == 1
    assert lane_of(p, (main, special), Resources(99), {}) is None


def test_three_kinds_of_need_make_three_lanes():
    p = pool(
        group("cpu"), group("gpu", (GPU, replace(GPU, instance_type="g2", usd_per_hour=1.3))), group("mem", (BIG,))
    )
    shapes = parted(p, (SMALL, 100, {}), (WITH_GPU, 2, {}), (LARGE, 3, {}))
    assert [keys(s) for s in shapes] == [{"m"}, {"big"}, {"g", "g2"}]


def test_nothing_is_parted_where_one_kind_of_node_is_as_good():
    same = replace(BIG, usd_per_hour=M.usd_per_hour)
    assert len(parted(pool(group("cpu"), group("mem", (same,))), (SMALL, 100, {}), (LARGE, 3, {}))) == 1
    assert len(parted(pool(group("cpu"), group("gpu", (GPU,))), (SMALL, 100, {}))) == 1
    assert len(parted(pool(group("cpu"), group("gpu", (GPU,))))) == 1


def test_labels_part_too():
    away = replace(M, zone="b", usd_per_hour=2.0)
    p = pool(group("here", (replace(M, zone="a"),)), group("there", (away,)))
    main, special = parted(p, (SMALL, 100, {}), (SMALL, 10, {"zone": "b"}))
    assert special.offerings == (("there", away.key),)
    assert lane_of(p, (main, special), SMALL, {"zone": "b"}) == 1


def test_features_part_too_though_all_nodes_are_of_one_size():
    p = pool(
        replace(group("plain"), options={"features": ()}),
        replace(group("intel", (replace(M, usd_per_hour=2.0),)), options={"features": ("intel", "ssd")}),
    )
    wants = {"constraint": "intel&(ssd|nvme)"}
    main, special = parted(p, (SMALL, 100, {}), (SMALL, 10, wants))
    assert [g for g, _ in special.offerings] == ["intel"]
    assert [lane_of(p, (main, special), SMALL, labels) for labels in ({}, wants)] == [0, 1]
    assert lane_of(p, (main, special), SMALL, {"constraint": "gpu"}) is None
    assert why_nowhere(p, SMALL, wants) == ""
    why = why_nowhere(p, SMALL, {"constraint": "intel&gpu"})
    assert "constraint=intel&gpu" in why
    assert "group plain without features" in why
    assert "group intel with intel, ssd" in why
    same = pool(*(replace(g, offerings=(M,)) for g in p.groups))
    assert [s.offerings[0][0] for s in parted(same, (SMALL, 100, {}), (SMALL, 10, wants))] == ["plain", "intel"]
    only = parted(same, (SMALL, 10, wants))
    assert [(s.offerings[0][0], len(s.kinds)) for s in only] == [("intel", 1), ("plain", 0)], "none for plain nodes"
    unsaid = pool(group("plain"), group("intel"))
    assert why_nowhere(unsaid, SMALL, wants) == "", "where no group says what it has, nobody knows"


def test_why_a_task_fits_nowhere_is_said():
    p = pool(group("cpu", (replace(M, zone="a"),)), group("gpu", (GPU,)))
    assert why_nowhere(p, SMALL) == ""
    assert "m has 16 cores" in why_nowhere(p, Resources(20, 1))
    assert "wants" in why_nowhere(p, Resources(12, 1, 1)), "each has one of the two, none has both"
    assert "instance_type=x" in why_nowhere(p, SMALL, {"instance_type": "x"})
    assert "g has 0" not in why_nowhere(p, Resources(20, 1), {"group": "cpu"})
    assert why_nowhere(p, SMALL, {"disk": "ssd"}) == "", "a label that only nodes tell may be there"


catalogue = st.lists(
    st.tuples(st.sampled_from([4, 8, 16, 32]), st.sampled_from([16, 64, 256]), st.sampled_from([0, 0, 1, 4])),
    min_size=1,
    max_size=4,
    unique=True,
)
wanted = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 300), st.sampled_from([0, 0, 0, 1, 2]), st.floats(0.1, 50)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=80, deadline=None)
@given(catalogue, wanted)
def test_every_task_that_fits_somewhere_has_a_lane_whose_offerings_hold_it(types, tasks):
    offers = [Offering(f"t{c}-{m}-{g}", Resources(c, m, g), usd_per_hour=0.05 * c + m / 400 + g) for c, m, g in types]
    p = pool(*(group(f"g{i}", (o,)) for i, o in enumerate(offers)))
    kinds = [Kind(Resources(float(c), float(m), float(g)), n) for c, m, g, n in tasks]
    shapes = lanes_of(p, kinds, lambda o: o.usd_per_hour)
    every = [key for s in shapes for key in s.offerings]
    assert sorted(every) == sorted((g.name, o.key) for g in p.groups for o in g.offerings), "each offering in one lane"
    for kind in kinds:
        at = lane_of(p, shapes, kind.request, {})
        fits = [o for o in offers if holds(p, "", o, kind.request, {})]
        assert (at is None) == (not fits)
        if at is not None and len(shapes) > 1:
            group_name, key = shapes[at].offerings[0]
            best = next(o for o in p.group(group_name).offerings if o.key == key)
            assert holds(p, group_name, best, kind.request, {})


# --------------------------------------------------------------------------- plans


def special(cores, *, waiting=ZERO, wave_=()):
    """A lane of GPU tasks, four cores each."""
    demand = steps(cores)
    demand.samples[:, :, 2] = demand.samples[:, :, 0] / 4
    return Lane("g", frozenset({("gpu", GPU.key)}), demand, waiting, wave_, WITH_GPU, Mix.of([Kind(WITH_GPU)]))


def hetero(main=None, lane=None, *nodes, guards=None, **more):
    p = pool(group("cpu", states=LADDER), group("gpu", (GPU,)), guards=guards)
    return inputs(main or steps([0.0] * 72), *nodes, pool_=p, lanes=(lane or special([0.0] * 72),), **more)


def launched(plan):
    out = {}
    for a in plan.due(NOW):
        if a.kind is ActionKind.LAUNCH:
            out[a.group] = out.get(a.group, 0) + a.count
    return out


def test_each_lane_is_launched_on_its_own_offering():
    plan = make_plan(hetero(steps([64.0] * 72), special([8.0] * 72))).plan
    assert launched(plan) == {"cpu": 4, "gpu": 2}
    assert [lane["lane"] for lane in plan.basis["lanes"]] == ["main", "g"]
    assert plan.cost_usd == pytest.approx(
        plan.alternatives[0].cost_usd + sum(a.cost_usd for a in plan.actions), abs=1e-5
    )
    later = make_plan(hetero(steps(wave()), special(wave(8.0, begin=30)))).plan
    kinds = {(a.kind, a.group) for a in later.actions}
    assert {(ActionKind.LAUNCH, "cpu"), (ActionKind.LAUNCH, "gpu")} <= kinds


def test_what_waits_for_a_gpu_launches_a_gpu():
    two = Kind(WITH_GPU, 2)
    plan = make_plan(hetero(lane=special([0.0] * 72, waiting=Resources(8, 32, 2), wave_=(two,)))).plan
    assert launched(plan) == {"gpu": 2}


def test_nodes_are_given_up_by_their_own_lane():
    votes = {n: NOW.replace(year=2024) for n in ("c1", "g1")}
    idle = (node("c1", group="cpu"), node("g1", group="gpu", offering=GPU))
    plan = make_plan(hetero(steps([16.0] * 72), None, *idle, votes=votes)).plan
    ended = [i for a in plan.due(NOW) if a.kind is ActionKind.TERMINATE for i in a.node_ids]
    assert ended == ["g1"]


def test_a_pool_that_has_what_it_needs_holds_and_the_optimum_of_all_lanes_is_held():
    given_inputs = hetero(steps([64.0] * 72), special([8.0] * 72))
    first = make_plan(given_inputs)
    there = [node(f"c{i}", Phase.WARMING, group="cpu", age_s=1, in_phase_s=1) for i in range(4)]
    there += [node(f"g{i}", Phase.WARMING, group="gpu", offering=GPU, age_s=1, in_phase_s=1) for i in range(2)]
    again = make_plan(replace(hetero(steps([64.0] * 72), special([8.0] * 72), *there), held=first.optimum))
    assert launched(again.plan) == {}
    assert again.plan.basis["solved"] is False
    moved = make_plan(replace(hetero(steps([64.0] * 72), special([16.0] * 72), *there), held=first.optimum))
    assert moved.plan.basis["because"] == "demand"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 150), min_size=1, max_size=4),
    st.lists(st.floats(0, 24), min_size=1, max_size=4),
    st.integers(0, 10),
    st.none() | st.floats(0, 8),
    st.none() | st.floats(0, 20),
    st.booleans(),
)
def test_lanes_together_keep_the_guards_of_the_pool(main, gpu, most, per_hour, per_day, optimised):
    guards = Guards(max_nodes=most, max_usd_per_hour=per_hour, max_usd_per_day=per_day)
    demand = steps([x for x in main for _ in range(12)], samples=10)
    lane = special([x for x in gpu for _ in range(12)])
    lane = replace(lane, demand=replace(lane.demand, samples=lane.demand.samples[:10]))
    outcome = make_plan(hetero(demand, lane, guards=guards, optimise=optimised))
    now = launched(outcome.plan)
    assert sum(now.values()) <= most
    usd = now.get("cpu", 0) * 0.8064 + now.get("gpu", 0) * 1.2
    assert per_hour is None or usd <= per_hour + 1e-9
    assert per_day is None or usd * 0.25 <= per_day + 1e-9
