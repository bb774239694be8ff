"""Draws of what a run may use, and reservations that are nowhere below them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.curved import CurvePacking
from preprov.model.errors import ConfigError
from preprov.model.usage import UsageRun
from preprov.planning.phasing import DRAWS, INSTANTS, Meeting, at_most, meeting
from preprov.profiles.aligned import features
from preprov.profiles.curves import Scenarios
from preprov.profiles.futures import Future, Learnt
from preprov.profiles.steps import compacted

CORES, ROOM = 8.0, 10.0


class World:
    """Tasks that load on one core and then take eight, and more memory; what each comes to is drawn."""

    def __init__(self, seed: int, spread: float) -> None:
        self.rng, self.spread = np.random.default_rng(seed), spread

    def way(self, longer_than: float = 0.0) -> tuple[float, float]:
        while True:
            loads, works = np.exp(self.rng.normal(0, self.spread, 2)) * (600, 300)
            if loads + works > longer_than:
                return float(loads), float(works)

    @staticmethod
    def use(way: tuple[float, float], at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loads, works = way
        runs = (at >= 0) & (at < loads + works)
        return np.where(runs, np.where(at < loads, 1.0, CORES), 0), np.where(runs, np.where(at < loads, 2.0, 7.0), 0)

    def run(self) -> UsageRun:
        loads, works = self.way()
        at = np.arange(0.0, loads + works, 10.0)
        cpu, memory = self.use((loads, works), at)
        return UsageRun("w", "p", 0.0, loads + works, at, memory, cpu)

    def future(self, runs: int) -> Future:
        past = [self.run() for _ in range(runs)]
        learnt = Learnt.of(past)
        assert learnt.is_trusted
        return learnt.future(features(past[-1]))


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    spread=st.sampled_from((0.05, 0.1, 0.2)),
    runs=st.integers(8, 40),
    bound=st.sampled_from((0.01, 0.05)),
)
def test_peaks_meet_no_more_often_than_the_bound_allows(seed, spread, runs, bound):
    """Placements that the rule allows, each played many times in worlds that are drawn anew."""
    world, packing = World(seed, spread), CurvePacking(meeting=bound)
    future, at = world.future(runs), np.arange(0.0, 2400.0, 10.0)
    times = np.linspace(0.0, future.longest_s * 1.3, INSTANTS)
    played = cores = memory = 0
    for elapsed in np.linspace(30.0, 800.0, 6):
        first = world.way(float(elapsed))
        seen = dict(zip(("cpu", "memory"), (float(a) for a in world.use(first, elapsed)), strict=True))
        drawn = [
            future.draw(times, DRAWS, world.rng, elapsed_s=float(elapsed), seen=seen),
            future.draw(times, DRAWS, world.rng, late_s=packing.late_s),
        ]
        if not meeting(drawn, ROOM, ROOM).within(packing):
            continue
        for _ in range(60):
            other = world.way(float(elapsed))
            while abs(world.use(other, elapsed)[0] - seen["cpu"]) > 0.1:  # as it is seen to be
                other = world.way(float(elapsed))
            (c1, m1), (c2, m2) = world.use(other, at + elapsed), world.use(world.way(), at - world.rng.exponential(5.0))
            played, cores, memory = played + 1, cores + ((c1 + c2) > ROOM).any(), memory + ((m1 + m2) > ROOM).any()
    for exceeded, allowed in ((cores, packing.meeting), (memory, max(packing.meeting_in_memory, at_most(0, DRAWS)))):
        assert exceeded <= played * allowed + 4 * np.sqrt(played * allowed) + 1


def test_those_whose_peaks_must_meet_are_not_put_together():
    world = World(1, 0.05)
    future = world.future(20)
    times = np.linspace(0.0, future.longest_s * 1.3, INSTANTS)
    both = [
        future.draw(times, DRAWS, world.rng, elapsed_s=1.0, seen={"cpu": 1.0}),
        future.draw(times, DRAWS, world.rng),
    ]
    found = meeting(both, ROOM, ROOM)
    assert found.cpu == found.draws
    assert not found.within(CurvePacking(meeting=0.4))
    alone = meeting(both[:1], ROOM, ROOM)
    assert alone.within(CurvePacking())
    assert not alone.within(CurvePacking(meeting=0.0)), "no chance at all is allowed: no curve can show that"


def test_memory_is_held_to_a_tenth_of_what_cores_are():
    packing = CurvePacking(meeting=0.05)
    assert Meeting(100, 0, DRAWS).within(packing)
    assert not Meeting(0, 100, DRAWS).within(packing)
    assert Meeting(0, 10, DRAWS).within(packing)
    assert not Meeting(0, 1, DRAWS).within(CurvePacking(meeting=0.001))
    assert packing.memory_quantile == 0.99
    assert CurvePacking(quantile=0.995).memory_quantile == 0.995


def test_what_is_seen_tells_which_way_a_run_goes():
    world = World(3, 0.2)
    future = world.future(30)
    times = np.array([0.0, 30.0])
    loads, _ = future.draw(times, 500, world.rng, elapsed_s=600.0, seen={"cpu": 1.0, "memory": 2.0})
    works, _ = future.draw(times, 500, world.rng, elapsed_s=600.0, seen={"cpu": 8.0, "memory": 7.0})
    assert np.mean(loads[:, 0] < 2) > 0.9
    assert np.mean(works[:, 0] > 6) > 0.9
    beyond, _ = future.draw(times, 500, world.rng, elapsed_s=9000.0)
    assert (beyond == future.cpu.max()).all(), "of one that runs longer than any did the most is expected"


@settings(max_examples=25, deadline=None)
@given(
    runs=st.lists(st.tuples(st.floats(1, 5000), st.lists(st.floats(0.01, 64), min_size=4, max_size=4)), min_size=3),
    quantile=st.floats(0.5, 0.99),
    steps=st.integers(1, 6),
    margin=st.floats(0, 0.5),
)
def test_a_reservation_is_nowhere_below_the_curve_and_more_steps_never_reserve_more(runs, quantile, steps, margin):
    amount = np.repeat([a for _, a in runs], 16, axis=1)
    duration, weight = np.array([d for d, _ in runs]), np.full(len(runs), 1 / len(runs))
    future = Future(amount, amount[:, ::-1], duration, weight)
    held = future.steps(quantile, 0.99, margin, steps)
    assert 1 <= len(held) <= steps
    assert held[0].start_s == 0
    assert all(a.end_s == pytest.approx(b.start_s) for a, b in pairwise(held))
    for use, level, name in ((future.cpu, quantile, "cpu"), (future.memory, 0.99, "memory")):
        needed, width = Scenarios(use, duration, weight).needed(level)
        at = (np.arange(len(needed)) + 0.5) * width
        given_ = np.array([next(getattr(s, name) for s in held if t < s.end_s + 1e-6) for t in at])
        assert (given_ >= needed * (1 + margin) - 1e-9).all()

    def area(curves: np.ndarray, most: int) -> float:
        return sum(float(curves[:, i : j + 1].max(axis=1).sum()) * (j - i + 1) for i, j in compacted(curves, most))

    curves = np.array([amount[0], amount[-1][::-1]])
    assert area(curves, steps + 1) <= area(curves, steps) + 1e-6
    assert area(curves, 64) == pytest.approx(float(curves.sum()))


def test_a_curve_is_trusted_only_if_what_came_was_foretold_and_both_were_watched():
    world = World(5, 0.05)
    past = [world.run() for _ in range(12)]
    assert Learnt.of(past).is_trusted
    blind = [UsageRun(*(getattr(u, k) for k in u.__slots__[:5]), u.memory * np.nan, u.cpu) for u in past]
    assert not Learnt.of(blind).is_trusted
    grows = [UsageRun("w", "p", 0.0, u.duration_s, u.at, u.memory * 1.3**i, u.cpu) for i, u in enumerate(past)]
    assert not Learnt.of(grows).is_trusted


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"quantile": 0.2}, {"meeting": 0.7}, {"margin": -1}, {"steps": 0}, {"runs": 1}, {"late_s": -1}):
        with pytest.raises(ConfigError):
            CurvePacking(**wrong)
