"""More, less, or as it is: the decision about one task, on loads that are easy to draw and on any at all."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.adjusting import LEAST, Adjusting
from preprov.model.errors import ConfigError
from preprov.model.resources import Resources
from preprov.planning.adjustment import (
    Change,
    Course,
    Outlook,
    Reading,
    Track,
    Wish,
    changed,
    enough,
    grant,
    look,
)

MANNER = Adjusting(calm_s=60, every_s=10, ahead_s=30)
ASKED = Resources(cpu=4, memory=8)
TICK = 5.0


@dataclass
class Ride:
    """A task under a load, adjusted at each tick with all the room there is."""

    manner: Adjusting = MANNER
    asked: Resources = ASKED
    allocated: Resources = ASKED
    track: Track = field(default_factory=Track)
    at: float = 0.0
    made: list[tuple[float, Change]] = field(default_factory=list)
    wanted: dict[str, float] = field(default_factory=dict)

    def tick(self, cpu: float, memory: float, outlooks: dict[str, Outlook] | None = None) -> tuple[Change, ...]:
        """What it wants of both; it gets what it may have."""
        self.at += TICK
        held = set()
        if cpu > self.allocated.cpu:
            held.add("cpu")
        if memory > self.allocated.memory:
            held.add("memory")
        use = {"cpu": min(cpu, self.allocated.cpu), "memory": min(memory, self.allocated.memory)}
        self.wanted = use
        reading = Reading(self.at, use, frozenset(held))
        self.track, changes = look(self.track, reading, self.allocated, self.asked, outlooks or {}, self.manner)
        for c in changes:
            self.allocated = Resources.of({**self.allocated.as_dict(), c.resource: c.amount})
            self.made.append((self.at, c))
        if changes:
            self.track = changed(self.track, changes, self.at, self.manner)
        return changes

    def of(self, resource: str, course: Course) -> list[tuple[float, Change]]:
        return [(t, c) for t, c in self.made if c.resource == resource and c.course is course]

    def reversals(self, resource: str) -> int:
        courses = [c.course for _, c in self.made if c.resource == resource]
        return sum(a is not b for a, b in pairwise(courses))


def run(load: Callable[[float], float], seconds: float = 3600, **more: object) -> Ride:
    course = Ride(**more)  # type: ignore[arg-type]
    while course.at < seconds:
        use = load(course.at)
        course.tick(use, 2 * use)
    return course


# ---- loads that are easy to draw


def test_a_steady_load_is_followed_once():
    course = run(lambda _: 1.0)
    assert [c.course for _, c in course.made if c.resource == "cpu"] == [Course.DECREASE]
    assert course.allocated.cpu == pytest.approx(1.25)
    assert course.allocated.memory == pytest.approx(4.0), "half of what was asked for stays, for no past run is known"


def test_a_step_up_is_met_within_some_ticks_and_then_left_alone():
    course = run(lambda t: 0.5 if t < 600 else 3.0, 1800)
    raised = course.of("cpu", Course.INCREASE)
    assert raised[-1][0] <= 600 + 6 * 10
    assert course.allocated.cpu >= enough(3.0, MANNER)
    assert course.reversals("cpu") <= 2


def test_a_ramp_is_met_before_it_is_held_back():
    course = Ride(allocated=Resources(cpu=0.7, memory=8))
    while course.at < 1200:
        course.tick(0.5 + course.at / 1200 * 3, 1.0)
        assert course.wanted["cpu"] == pytest.approx(0.5 + (course.at - TICK) / 1200 * 3), "it always had enough"


def test_growing_memory_gets_more_before_it_is_full():
    course = Ride(allocated=Resources(cpu=4, memory=2))
    grown = 0.5
    while course.at < 300:
        course.tick(1.0, grown)
        assert grown <= course.allocated.memory
        grown += 0.06 * TICK
    assert any(c.urgent and "full in" in c.why for _, c in course.of("memory", Course.INCREASE))


@pytest.mark.parametrize("period", [20, 60, 120, 300])
@pytest.mark.parametrize("shape", ["sine", "sawtooth", "square"])
def test_a_load_that_comes_and_goes_is_followed_ever_less(shape, period):
    """Reversals grow with the logarithm of time, not with time."""
    shapes = {
        "sine": lambda t: 2 + 1.5 * math.sin(2 * math.pi * t / period),
        "sawtooth": lambda t: 0.5 + 3 * ((t / period) % 1),
        "square": lambda t: 0.5 if int(t / period) % 2 else 3.0,
    }
    seconds = 4 * 3600
    course = run(shapes[shape], seconds)
    most = 2 * (math.log2(seconds / MANNER.calm_s) + 2)
    for resource in ("cpu", "memory"):
        assert course.reversals(resource) <= most
    late = [t for t, _ in course.made if t > seconds / 2]
    assert len(late) <= 6


def test_a_lull_that_is_worth_it_is_used_each_time():
    """Half an hour of little, half an hour of much: what is given back in between pays for two changes."""
    course = run(lambda t: 0.5 if int(t / 1800) % 2 else 3.0, 4 * 3600)
    assert len(course.of("cpu", Course.DECREASE)) >= 4


def test_what_only_falls_is_followed_all_the_way():
    course = run(lambda t: max(4 * (1 - t / 3600), 0.01), 4000, allocated=Resources(cpu=5, memory=10))
    assert course.allocated.cpu < 0.5
    assert not course.of("cpu", Course.INCREASE)


# ---- each rule


def test_every_resource_is_looked_at_not_the_first_that_deviates():
    course = Ride(allocated=Resources(cpu=1, memory=8))
    while course.at < 60:
        course.tick(0.4, 1.0)
    changes = course.tick(1.0, 1.0)
    assert {c.resource: c.course for c in changes} == {"cpu": Course.INCREASE, "memory": Course.DECREASE}


def test_a_curve_that_rises_soon_raises_before_it_does():
    course = Ride(allocated=Resources(cpu=1, memory=4))
    (change,) = course.tick(0.5, 3.0, {"cpu": Outlook(0.4, 0.6, 3.0, 3.0)})
    assert (change.resource, change.course) == ("cpu", Course.INCREASE)
    assert change.amount >= 3.0
    assert "past runs reach 3 cores" in change.why


def test_memory_that_the_curve_says_is_to_come_is_not_taken():
    known = {"memory": Outlook(0.9, 1.1, 1.0, 5.0)}
    course = Ride()
    while course.at < 600:
        course.tick(4.0, 1.0, known)
    assert course.allocated.memory == pytest.approx(5.0 * 1.125)


def test_a_curve_that_is_wrong_is_not_followed():
    wrong = {"cpu": Outlook(3.9, 4.0, 4.0, 4.0)}
    course = Ride()
    while course.at < 600:
        course.tick(1.0, 8.0, wrong)
    assert course.allocated.cpu == pytest.approx(1.25)


def test_what_is_not_observed_or_was_not_asked_for_is_left_alone():
    track, changes = look(Track(), Reading(0, {"memory": 5.0}), Resources(cpu=1), Resources(cpu=1), {}, MANNER)
    assert not changes
    assert look(track, Reading(5, {}), ASKED, ASKED, {}, MANNER)[1] == ()


def test_a_pool_may_forbid_either_way():
    held = run(lambda _: 1.0, manner=Adjusting(increase=False, decrease=False), allocated=Resources(cpu=1, memory=2))
    assert not held.made
    assert not run(lambda _: 0.2, manner=Adjusting(decrease=False)).made


def test_no_more_than_so_many_times_the_request():
    course = run(lambda _: 100.0, allocated=Resources(cpu=4, memory=8), seconds=600)
    assert course.allocated == Resources(cpu=16, memory=32)


def test_changes_of_one_task_keep_their_distance_unless_memory_is_short():
    course = Ride(allocated=Resources(cpu=0.1, memory=1))
    while course.at < 120:
        course.tick(8.0, 0.1)
    times = [t for t, _ in course.made]
    assert min(b - a for a, b in pairwise(times)) >= MANNER.every_s
    short = Ride(allocated=Resources(cpu=0.1, memory=1))
    short.tick(8.0, 0.1)
    assert short.made
    assert [(c.resource, c.urgent) for c in short.tick(8.0, 9.0)] == [("memory", True)]


def test_a_manner_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError):
        Adjusting(tolerance=1.0)
    with pytest.raises(ConfigError):
        Adjusting(signal="SIGKILL")


# ---- whatever the load


loads = st.lists(st.tuples(st.floats(0, 20), st.floats(0, 40)), min_size=1, max_size=60)


@given(loads=loads, headroom=st.floats(0.05, 1), tolerance=st.floats(0.05, 0.9), calm=st.floats(1, 100))
def test_nothing_is_ever_taken_that_is_in_use_or_was_a_moment_ago(loads, headroom, tolerance, calm):
    manner = Adjusting(headroom=headroom, tolerance=tolerance, calm_s=calm, every_s=10)
    course = Ride(manner)
    recent: list[dict[str, float]] = []
    lowered: dict[str, float] = {}
    for cpu, memory in loads:
        changes = course.tick(cpu, memory)
        recent.append(course.wanted)
        for c in changes:
            span = recent[-(int(calm / TICK) + 1) :]
            if c.course is Course.DECREASE:
                most = max(r[c.resource] for r in span)
                assert c.amount >= most * (1 + headroom) - 1e-9
                assert c.amount >= getattr(LEAST, c.resource) - 1e-9
                assert course.at - lowered.get(c.resource, -math.inf) >= calm - 1e-9
                lowered[c.resource] = course.at
            else:
                assert c.amount <= max(manner.most * getattr(ASKED, c.resource), 1e-9) + 1e-9


@given(loads=loads, level=st.floats(0.1, 10))
def test_a_load_that_settles_is_left_alone(loads, level):
    course = Ride()
    for cpu, memory in loads:
        course.tick(cpu, memory)
    for _ in range(60):
        course.tick(level, 2 * level)
    settled = len(course.made)
    for _ in range(200):
        course.tick(level, 2 * level)
    more = course.made[settled:]
    assert all(c.course is Course.DECREASE for _, c in more), "a late decrease, and nothing that takes it back"
    assert len(more) <= 2


@given(loads=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 40)), min_size=1, max_size=20), times=st.integers(5, 40))
def test_any_load_repeated_is_not_chased(loads, times):
    course = Ride(Adjusting(calm_s=20, every_s=5))
    for _ in range(times):
        for cpu, memory in loads:
            course.tick(cpu, memory)
    # a raise that comes eight calm times after a decrease, or later, takes back no mistake
    most = 2 * (math.log2(max(course.at / 20, 1)) + 2 + course.at / (8 * 20))
    for resource in ("cpu", "memory"):
        assert course.reversals(resource) <= most


# ---- what of it there is room for


wishes = st.lists(
    st.tuples(st.sampled_from("ab"), st.floats(0.1, 4), st.floats(0.1, 8), st.booleans(), st.booleans()), max_size=12
)


@given(wishes=wishes, cpu=st.floats(0, 8), memory=st.floats(0, 16))
def test_no_more_is_given_than_there_is_with_what_is_given_back(wishes, cpu, memory):
    free = {n: Resources(cpu=cpu, memory=memory) for n in "ab"}
    had = Resources(cpu=2, memory=4)
    asked = []
    for i, (node, c, m, urgent, both) in enumerate(wishes):
        changes = [_change("cpu", had.cpu, c, False)] + ([_change("memory", had.memory, m, urgent)] if both else [])
        asked.append(Wish(f"t{i:02}", node, had, tuple(changes)))
    granted = grant(asked, free)
    assert sorted(g.wish.claimant for g in granted) == [w.claimant for w in asked]
    for node in "ab":
        for k in ("cpu", "memory"):
            mine = [g for g in granted if g.wish.node_id == node]
            assert sum(getattr(g.amount, k) - getattr(had, k) for g in mine) <= getattr(free[node], k) + 1e-6
    for g in granted:
        for c in g.wish.changes:
            low, high = sorted((getattr(had, c.resource), c.amount))
            assert low - 1e-9 <= getattr(g.amount, c.resource) <= high + 1e-9


def test_what_is_urgent_goes_first_and_is_told_if_it_falls_short():
    had = Resources(cpu=1, memory=1)
    calm = Wish("a", "n", had, (_change("memory", 1, 1.5, False),))
    urgent = Wish("b", "n", had, (_change("memory", 1, 3, True),))
    first, second = grant([calm, urgent], {"n": Resources(memory=2)})
    assert (first.wish.claimant, first.amount.memory, first.short) == ("b", 3, False)
    assert second.changes == ()
    (short,) = grant([urgent], {"n": Resources(memory=0.2)})
    assert short.short


def _change(resource: str, before: float, after: float, urgent: bool) -> Change:
    course = Course.INCREASE if after > before else Course.DECREASE
    return Change(resource, course, after, "because", urgent and after > before)
