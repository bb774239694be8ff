"""The clairvoyant bound against every schedule there is, on tiny cases."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import combinations_with_replacement, product
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.figures import frontiers
from preprov.model.offerings import LeadTime, Standby
from preprov.model.pools import Pool
from preprov.replay.bound import LowerBound, least_expected_s, lower_bound
from preprov.replay.engine import replay
from preprov.replay.policies import Reactive, StaticRunning, StaticStopped

from .traces import T0, T, pool_of, work_of

UNIT = 60.0
STEPS = 9
COLD, BACK = 2, 1  # lead times in units
RUN_USD, KEEP_USD = 0.06, 0.01  # per unit


def tiny_pool(keeps: bool) -> Pool:
    """Nodes of two cores; a unit of running costs RUN_USD, of being stopped KEEP_USD."""
    pool = pool_of(cpu=2, memory=100, usd=RUN_USD * 3600 / UNIT)
    group = pool.groups[0]
    lead = {Standby.COLD: LeadTime(COLD * UNIT, COLD * UNIT), Standby.STOPPED: LeadTime(BACK * UNIT, BACK * UNIT)}
    states = {Standby.RUNNING, Standby.STOPPED} if keeps else {Standby.RUNNING}
    group = replace(
        group,
        lead=MappingProxyType(lead),
        standby_states=frozenset(states),
        standby_usd_per_hour={Standby.STOPPED: KEEP_USD * 3600 / UNIT},
    )
    return replace(pool, groups=(group,))


# A node in one unit of time: absent, ready, stopped, or warming with so many units to go after this one.
ABSENT, READY, STOPPED = "absent", "ready", "stopped"
STATES = [ABSENT, READY, STOPPED, *range(COLD)]
COST = {ABSENT: 0.0, STOPPED: KEEP_USD}


def after(state: object, keeps: bool) -> list[object]:
    """What a node may be in the next unit."""
    if state == ABSENT:
        return [ABSENT, COLD - 1]
    if state == READY:
        return [READY, ABSENT, *([STOPPED] if keeps else [])]
    if state == STOPPED:
        return [STOPPED, ABSENT, BACK - 1]
    return [READY if state == 0 else state - 1]


@cache
def moves(nodes: tuple, keeps: bool) -> tuple:
    """All that a set of nodes may be in the next unit, order aside."""
    return tuple({tuple(sorted(c, key=str)) for c in product(*(after(s, keeps) for s in nodes))})


@cache
def least_cost(wanted: tuple[int, ...], keeps: bool) -> float:
    """Least cost of having so many nodes ready in each unit, over all sequences of states of all nodes."""
    most = max(wanted, default=0)
    states = [s for s in STATES if keeps or s != STOPPED]
    best = dict.fromkeys((tuple(sorted(c, key=str)) for c in combinations_with_replacement(states, most)), 0.0)
    for n in wanted:
        after_unit: dict[tuple, float] = {}
        for nodes, usd in best.items():
            if nodes.count(READY) < n:
                continue
            usd += sum(COST.get(s, RUN_USD) for s in nodes)
            for new in moves(nodes, keeps):
                after_unit[new] = min(after_unit.get(new, np.inf), usd)
        best = after_unit
    return min(best.values())


JOBS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3)


def wanted(jobs: list[tuple[int, int, int]], delays: tuple[int, ...]) -> tuple[int, ...]:
    """Nodes that (start, length, cores) fill in each unit, cut to fit, if delayed so much."""
    level = np.zeros(STEPS)
    for (start, length, cores), d in zip(jobs, delays, strict=True):
        level[start + d : start + d + length] += cores / 2
    return tuple(np.ceil(level - 1e-9).astype(int).tolist())


def bound_of(runs: list, pool: Pool) -> LowerBound:
    return lower_bound(work_of(runs), pool, judged_from=T0, until=T0 + timedelta(seconds=STEPS * UNIT))


@pytest.mark.slow
@settings(max_examples=60)
@given(JOBS, st.booleans())
def test_no_schedule_of_independent_tasks_is_cheaper(jobs: list[tuple[int, int, int]], keeps: bool):
    runs = [(start * UNIT, [T(length * UNIT, memory=0, instances=cores)]) for start, length, cores in jobs]
    bound = bound_of(runs, tiny_pool(keeps))
    count = [cores for _, _, cores in jobs]
    assert bound.instances == sum(count)
    assert bound.cost(0) == pytest.approx(least_cost(wanted(jobs, (0,) * len(jobs)), keeps))
    for delays in product(range(5), repeat=len(jobs)):
        mean = UNIT * np.dot(delays, count) / sum(count)
        assert bound.cost(mean) <= least_cost(wanted(jobs, delays), keeps) + 1e-9
        assert bound.cost_of_wait(mean) == pytest.approx(bound.cost(mean)), "nothing comes after another"


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(0, 3), st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1, 2])), min_size=2, max_size=3))
def test_no_schedule_of_a_dag_is_cheaper(start: int, tasks: list[tuple[int, int]]):
    """A fan: the first task is the parent of the others."""
    members = [
        T(length * UNIT, cpu=float(cores), memory=0, parents=(0,) if i else ())
        for i, (length, cores) in enumerate(tasks)
    ]
    bound = bound_of([(start * UNIT, members)], tiny_pool(True))
    begin = start + tasks[0][0]
    jobs = [(start if i == 0 else begin, length, cores) for i, (length, cores) in enumerate(tasks)]
    judged = [i for i, (s, _, _) in enumerate(jobs) if s < STEPS]
    for own in product(range(4), repeat=len(jobs)):
        delays = (own[0], *(own[0] + d for d in own[1:]))
        mean = UNIT * sum(delays[i] for i in judged) / len(judged)
        assert bound.cost(mean) <= least_cost(wanted(jobs, delays), True) + 1e-9
        waits = UNIT * sum(own[i] for i in judged) / len(judged)
        assert bound.cost_of_wait(waits) <= least_cost(wanted(jobs, delays), True) + 1e-9


@pytest.mark.slow
@settings(max_examples=30)
@given(
    st.integers(0, 2),
    st.lists(st.tuples(st.integers(1, 2), st.sampled_from([1, 2]), st.integers(0, 3)), min_size=2, max_size=3),
)
def test_no_schedule_of_any_dag_is_cheaper_than_the_bound_in_waits(start: int, tasks: list[tuple[int, int, int]]):
    """Each task's parents are those before it whose bit is set: chains, joins, and several roots."""
    parents = [tuple(p for p in range(i) if mask >> p & 1) for i, (_, _, mask) in enumerate(tasks)]
    members = [T(n * UNIT, cpu=float(c), memory=0, parents=p) for (n, c, _), p in zip(tasks, parents, strict=True)]
    bound = bound_of([(start * UNIT, members)], tiny_pool(True))

    def begins(own: Sequence[int]) -> list[int]:
        at: list[int] = []
        for i, wait in enumerate(own):
            at.append(max([start, *(at[p] + tasks[p][0] for p in parents[i])]) + wait)
        return at

    nominal = begins([0] * len(tasks))
    judged = [i for i, at in enumerate(nominal) if at < STEPS]
    for own in product(range(3), repeat=len(tasks)):
        delays = tuple(a - n for a, n in zip(begins(own), nominal, strict=True))
        jobs = [(n, length, cores) for n, (length, cores, _) in zip(nominal, tasks, strict=True)]
        least = least_cost(wanted(jobs, delays), True)
        assert bound.cost(UNIT * sum(delays[i] for i in judged) / len(judged)) <= least + 1e-9
        assert bound.cost_of_wait(UNIT * sum(own[i] for i in judged) / len(judged)) <= least + 1e-9


def test_one_that_waits_delays_all_that_come_after_it():
    """A task, then three that fill a node each; as these begin, two more do. If the first waits, three nodes do."""
    fan = [T(UNIT, memory=0), T(UNIT, cpu=2.0, memory=0, parents=(0,), instances=3)]
    bound = bound_of([(3 * UNIT, fan), (4 * UNIT, [T(UNIT, cpu=2.0, memory=0, instances=2)])], tiny_pool(False))
    assert bound.cost(0) == pytest.approx(RUN_USD * (5 * (COLD + 1) + 1))
    pays = RUN_USD * 3 * (COLD + 2)
    wait, delay = UNIT / 6, 4 * UNIT / 6
    assert bound.cost(delay) <= pays < bound.cost(wait), "what is true of delays is not of waits"
    assert bound.cost_of_wait(wait) <= pays


def test_what_was_delayed_before_the_window_holds_up_the_rest_for_nothing():
    """The parent is not judged: its waiting is in no mean."""
    runs = [
        (-UNIT, [T(2 * UNIT, memory=0), T(UNIT, cpu=2.0, memory=0, parents=(0,))]),
        (UNIT, [T(UNIT, cpu=2.0, memory=0)]),
    ]
    bound = bound_of(runs, tiny_pool(False))
    both = [(1, 1, 2), (1, 1, 2)]
    assert bound.cost(0) == pytest.approx(least_cost(wanted(both, (0, 0)), False))
    assert bound.cost_of_wait(0) <= least_cost(wanted(both, (1, 0)), False) < bound.cost(0)


def test_the_curve_holds_in_waits_and_in_delays():
    fan = [T(UNIT, memory=0), *(T(UNIT, cpu=2.0, memory=0, parents=(0,)) for _ in range(2))]
    bound = bound_of([(UNIT, fan), (UNIT, fan)], tiny_pool(True))
    rows = bound.curve()
    for key in ("mean_wait_s", "mean_delay_s"):
        assert [r[key] for r in rows] == sorted(r[key] for r in rows)
    assert all(r["mean_wait_s"] <= r["mean_delay_s"] for r in rows)
    costs = [r["cost_usd"] for r in rows]
    assert costs == sorted(costs, reverse=True)
    for r in rows:
        assert bound.cost_of_wait(r["mean_wait_s"]) >= r["cost_usd"] - 1e-9
        assert bound.cost(r["mean_delay_s"]) >= r["cost_usd"] - 1e-9
    assert costs[0] == bound.cost(0)
    assert costs[-1] == pytest.approx(bound.cost(1e9)), "beyond the last row nothing more is saved"
    assert costs[-1] == pytest.approx(bound.cost_of_wait(1e9))


@pytest.mark.parametrize("make", [Reactive, lambda: Reactive(30.0), lambda: StaticRunning(2), lambda: StaticStopped(2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_policy_is_cheaper_at_its_delay(make, seed: int):
    rng = np.random.default_rng(seed)
    runs = [
        (float(s), [T(float(r), cpu=float(c)), T(300.0, parents=(0,))])
        for s, r, c in zip(rng.uniform(0, 20_000, 60), rng.uniform(60, 900, 60), rng.integers(1, 4, 60), strict=True)
    ]
    pool, until = pool_of(), T0 + timedelta(hours=6)
    result = replay(work_of(runs), pool, make(), judged_from=T0, until=until, warm_up_s=600)
    bound = lower_bound(work_of(runs), pool, judged_from=T0, until=until)
    assert result.cost_usd is not None
    assert bound.cost(result.waits.delay_mean) <= result.cost_usd
    assert bound.cost_of_wait(result.waits.mean + result.waits.limit_mean) <= result.cost_usd
    assert bound.cost(0) > bound.cost(60) > 0
    costs = [r["cost_usd"] for r in bound.curve()]
    assert costs == sorted(costs, reverse=True)


def test_the_least_expected_lead_is_never_more_than_the_mean():
    lead = LeadTime(180.0, 420.0)
    assert 0 < least_expected_s(lead) <= lead.mean_s
    assert least_expected_s(LeadTime(60.0, 60.0)) == 60.0
    assert least_expected_s(LeadTime(0.0, 0.0)) == 0.0
    wild = LeadTime(10.0, 1000.0)
    assert least_expected_s(wild) < wild.mean_s / 2


def test_no_work_costs_nothing():
    bound = bound_of([(0.0, [T(float("nan"))])], tiny_pool(True))
    assert bound.instances == 0
    assert bound.curve([0.0]) == [{"mean_wait_s": 0.0, "mean_delay_s": 0.0, "cost_usd": 0.0}]


def test_the_grey_area_is_true_for_all_that_are_drawn(monkeypatch: pytest.MonkeyPatch):
    """Waits for limits are in the bound's waits, and not in provision waits; between two points the later one holds."""
    import matplotlib.axes

    filled = {}
    monkeypatch.setattr(
        matplotlib.axes.Axes, "fill_between", lambda self, x, low, y, **more: filled.update(x=x, y=y, step=more["step"])
    )
    bound = [{"mean_wait_s": float(w), "cost_usd": c} for w, c in ((0, 9.0), (10, 6.0), (30, 2.0))]
    rows = {"a": [{"wait_mean_s": 5.0, "cost_usd": 8.0, "queue_wait_mean_s": 0.0}]}
    frontiers(rows, bound, fmt="svg")
    assert filled == {"x": [0, 0, 10, 30, 1e9], "y": [9, 9, 6, 2, 2], "step": "pre"}
    rows["b"] = [{"wait_mean_s": 5.0, "cost_usd": 3.0, "queue_wait_mean_s": 4.0}]
    frontiers(rows, bound, fmt="svg")
    assert filled == {"x": [0, 6, 26, 1e9], "y": [6, 6, 2, 2], "step": "pre"}
