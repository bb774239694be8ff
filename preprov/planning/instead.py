"""What a reaction costs and what it was chosen over, by the prices, chances and ways that it was decided by.

A node that is woken early runs for its window whatever comes; one that is woken when work waits runs only in the
futures that want it, and work waits for it meanwhile. That it pays to be early is the newsvendor's ratio. A node that
is put away has to come back in some futures, a node that is kept on is paid for in all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.offerings import Standby
from preprov.model.plans import Action, Alternative
from preprov.model.pools import Objective
from preprov.planning.reasons import WORDS, duration

Array: TypeAlias = NDArray[Any]

_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Course:
    """What a course costs in expectation: USD (node-hours where no price is known) and core-hours of waiting."""

    usd: float = 0.0
    wait_core_h: float = 0.0

    def __add__(self, other: "Course") -> "Course":
        """Both."""
        return Course(self.usd + other.usd, self.wait_core_h + other.wait_core_h)


@dataclass(frozen=True, slots=True)
class Launch:
    """Of an offering, per node of the reference: seconds to ready and until the next look, USD per hour, least bill."""

    name: str
    window_s: float
    usd_per_hour: float
    minimum_s: float

    def when_pending(self, hours: float, wanted: float, cores: float) -> Course:
        """Launched once work waits, running until the end of the window; the least bill is paid in any case."""
        usd = self.usd_per_hour * max(hours, self.minimum_s / _HOUR) * wanted
        return Course(usd, cores * self.window_s / _HOUR * wanted)


@dataclass(frozen=True)
class Raise:
    """Nodes that are woken or launched now.

    Attributes:
        window_s: that they are raised for. futures: (S,) nodes that each future wants at most within it.
        lo, hi: running nodes, of the reference, before and after. running, kept: USD per hour of all of them.
        by_floor: a floor asks for them, whatever work does.
    """

    action: Action
    window_s: float
    futures: Array
    lo: float
    hi: float
    running: float
    kept: float = 0.0
    by_floor: bool = False

    @property
    def wanted(self) -> float:
        """Of them, how many the futures want on average."""
        return float(np.clip(self.futures - self.lo, 0.0, self.hi - self.lo).mean())

    @property
    def hours(self) -> float:
        """Of its window."""
        return self.window_s / _HOUR

    def now(self) -> Course:
        """They run for the window."""
        return Course(self.running * self.hours)

    def later(self, cores: float) -> Course:
        """By the same way, once work waits."""
        share = self.wanted / max(self.hi - self.lo, 1e-9)
        usd = (self.running * share + self.kept * (1.0 - share)) * self.hours
        return Course(usd, cores * self.hours * self.wanted)

    def cold(self, launch: Launch, cores: float) -> Course:
        """Launched anew once work waits; they themselves stay as they are."""
        return Course(self.kept * self.hours) + launch.when_pending(self.hours, self.wanted, cores)


@dataclass(frozen=True)
class End:
    """Like nodes that are put away now.

    Attributes:
        state: that they end in. courses: state -> what that costs until the end of what is looked at, RUNNING included.
        numbers: the figures of the break-even that said so.
    """

    action: Action
    state: Standby
    courses: Mapping[Standby, Course]
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Explained:
    """The actions with their costs and figures, and what else was considered."""

    actions: tuple[Action, ...]
    alternatives: tuple[Alternative, ...] = ()
    usd: float | None = None
    node_hours: float = 0.0
    wait_core_h: float = 0.0


@dataclass(frozen=True)
class Figures:
    """What sums are told by.

    Attributes:
        cores: of a node of the reference. end_s: seconds that are looked ahead. priced: False = costs are node-hours.
    """

    objective: Objective
    cores: float
    end_s: float
    priced: bool

    @property
    def unit(self) -> str:
        """What costs are in."""
        return "USD" if self.priced else "node-hours"

    def usd(self, amount: float) -> float | None:
        """For a row; None if no price is known."""
        return round(amount, 6) if self.priced else None

    def instead(self, name: str, course: Course, done: Course, note: str = "") -> Alternative:
        """A course not taken, and why not."""
        extra, more = course.usd - done.usd, course.wait_core_h - done.wait_core_h
        why = f"{extra:+.4f} {self.unit} and {more:+.3f} core-h of waiting against this"
        if self.objective.hit_rate is not None:
            why += f"; a hit rate of {self.objective.hit_rate:g} is asked for"
        elif more:
            price = self.objective.shortage_usd_per_core_hour
            why += f"; with {price:g} USD for a core-h of waiting {extra + price * more:+.4f} {self.unit}"
        return Alternative(name, self.usd(course.usd), round(course.wait_core_h, 6), f"{why}{note}")


def explain_raises(f: Figures, raises: Sequence[Raise], reference: Launch, others: Sequence[Launch] = ()) -> Explained:
    """Beside being early: waking (or launching) when work waits; launching cold then; launching something else.

    Args:
        raises: in order, each on top of the one before. reference, others: what can be launched, the cheapest first.
    """
    last = raises[-1]
    # What no course has ready is the same for all of them.
    short = f.cores * last.hours * float(np.maximum(last.futures - last.hi, 0.0).mean())
    rest = Course(0.0, short)
    done = sum((r.now() for r in raises), rest)
    woken = [r for r in raises if r.kept or r.action.node_ids]
    later = sum((r.later(f.cores) for r in raises), rest)
    note = "; a floor asks for it" if any(r.by_floor for r in raises) else ""
    word = "wake" if woken else "launch"
    told = [f.instead(f"leave as it is: {word} when work waits", later, done, note)]
    if woken:
        cold = sum((r.cold(reference, f.cores) for r in raises), rest)
        told.append(f.instead("leave as it is: launch cold when work waits", cold, done, note))
    launched = [r for r in raises if not r.action.node_ids]
    for other in others if launched else ():
        kept = sum((r.now() for r in raises if r.action.node_ids), rest)
        told.append(f.instead(f"launch {other.name}", sum((_of(f, r, other) for r in launched), kept), done))
    return Explained(
        tuple(_raised(f, r) for r in raises),
        tuple(told),
        f.usd(done.usd),
        sum(r.action.count * r.hours for r in raises),
        round(done.wait_core_h, 6),
    )


def _of(f: Figures, r: Raise, other: Launch) -> Course:
    """Launched now as something else, for which work waits as much longer as its way is."""
    late_h = max(other.window_s - r.window_s, 0.0) / _HOUR
    usd = other.usd_per_hour * (r.hi - r.lo) * max(r.hours, other.minimum_s / _HOUR)
    return Course(usd, f.cores * late_h * r.wanted)


def _raised(f: Figures, r: Raise) -> Action:
    usd, saves = (r.running - r.kept) * r.hours, r.later(f.cores).wait_core_h
    numbers = {
        "from_nodes": round(r.lo, 3),
        "to_nodes": round(r.hi, 3),
        "window_s": round(r.window_s, 1),
        "due_in_s": round(r.window_s, 1),
        "wanted_nodes": round(r.wanted, 4),
        "saves_core_hours": round(saves, 4),
    }
    told = f"{r.action.reason}; {usd:+.4f} {f.unit} within {duration(r.window_s)}, saves {saves:.2g} core-h of waiting"
    return replace(r.action, reason=told, cost_usd=f.usd(usd), numbers={**r.action.numbers, **numbers})


def explain_ends(f: Figures, ends: Sequence[End]) -> Explained:
    """Beside what is done: keeping the nodes on, and the other states that their groups have."""
    done = sum((e.courses[e.state] for e in ends), Course())
    told = []
    for state, word in WORDS.items():
        if any(state in e.courses and state is not e.state for e in ends):
            course = sum((e.courses.get(state, e.courses[e.state]) for e in ends), Course())
            name = f"{word} running" if state is Standby.RUNNING else word
            told.append(f.instead(name, course, done))
    return Explained(tuple(_ended(f, e) for e in ends), tuple(told), f.usd(done.usd), 0.0, round(done.wait_core_h, 6))


def _ended(f: Figures, e: End) -> Action:
    usd = e.courses[e.state].usd - e.courses[Standby.RUNNING].usd
    numbers = {f"cost_{WORDS[s]}": round(c.usd, 6) for s, c in e.courses.items()}
    options = ", ".join(f"{WORDS[s]} {c.usd:.4f}" for s, c in sorted(e.courses.items(), key=lambda x: x[1].usd))
    told = f"{e.action.reason}; within {duration(f.end_s)} {options} {f.unit}; {usd:+.4f} {f.unit}"
    return replace(e.action, reason=told, cost_usd=f.usd(usd), numbers={**e.action.numbers, **e.numbers, **numbers})
