"""Should one running task have more, or less, of each resource? A value in, a value out; nothing is done here.

For each resource there is a band: an allocation between what is in use plus half the headroom, and what is in use plus
the headroom and the tolerance, is left alone. Below it, or if the task's curve or the growth of its memory says that it
soon will be, the task gets more, at once. Above it the task gets less, after it has been there without a break for some
time, and then no less than the most it used meanwhile and the most its curve says is to come, plus headroom. A decrease
that had to be taken back doubles that time, so that a load that comes and goes is followed ever less (the number of
reversals grows with the logarithm of time); one that only falls is followed all the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from preprov.model.adjusting import LEAST, Adjusting
from preprov.model.resources import Resources

ADJUSTED: Final = ("cpu", "memory")
_GROWTH: Final = 2.0
"""What is held back gets so many times what it has: what it wants cannot be seen."""
_STEEP: Final = 6
"""Readings that growth is told from."""
_FEWEST: Final = 3
_REGRET: Final = 8.0
"""A raise so many calm times after a decrease, or sooner, takes it back."""
_NEWS: Final = 0.2
_DISTRUST: Final = 0.5
_DUST: Final = 1e-9
_WORTH: Final = 0.01
"""A smaller share of an allocation is not worth a change."""


class Course(StrEnum):
    """What to do about one resource of one task."""

    INCREASE = "increase"
    DECREASE = "decrease"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a task was seen to use.

    Attributes:
        at: seconds. use: by resource; what was not observed is not there. Memory: the working set.
        held_back: of what it wanted more than it got.
    """

    at: float
    use: Mapping[str, float]
    held_back: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outlook:
    """What its curve says of one resource. low, high: between what it should be now. soon, rest: the most to come."""

    low: float
    high: float
    soon: float
    rest: float


@dataclass(frozen=True, slots=True)
class Change:
    """What should become of one resource. amount: as it should be. urgent: its memory is full, or about to be."""

    resource: str
    course: Course
    amount: float
    why: str = ""
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered of one resource of one task.

    Attributes:
        low_since: since when it has had too much; None = it has not. low_top: the most in use since.
        lowered_at: its last decrease. regrets: decreases that were taken back.
        strange: how wrong its curve is, 0 to 1. recent: (at, use) of the last readings.
    """

    low_since: float | None = None
    low_top: float = 0.0
    lowered_at: float | None = None
    regrets: int = 0
    strange: float = 0.0
    recent: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Track:
    """What is remembered of one task."""

    watches: Mapping[str, Watch] = field(default_factory=lambda: MappingProxyType({}))
    changed_at: float | None = None


def look(
    track: Track,
    reading: Reading,
    allocated: Resources,
    asked: Resources,
    outlooks: Mapping[str, Outlook],
    manner: Adjusting,
) -> tuple[Track, tuple[Change, ...]]:
    """One more reading of a task: what is remembered now, and what should change of each resource.

    Args:
        track: what was remembered. reading: what it uses.
        allocated: what it has. asked: what it asked for.
        outlooks: of the resources that it has a curve of.
        manner: how far and how fast.
    """
    watches, changes = dict(track.watches), []
    for resource in ADJUSTED:
        use = reading.use.get(resource)
        if use is None or getattr(asked, resource) <= 0:
            continue  # it is not observed, or was never limited
        case = _Case(resource, use, reading, getattr(allocated, resource), getattr(asked, resource), manner)
        watch = case.noted(watches.get(resource, Watch()), outlooks.get(resource))
        watches[resource], change = case.judged(watch, outlooks.get(resource))
        changes.append(change)
    if track.changed_at is not None and reading.at - track.changed_at < manner.every_s:
        changes = [c if c.urgent else replace(c, course=Course.HOLD) for c in changes]
    return replace(track, watches=watches), tuple(c for c in changes if c.course is not Course.HOLD)


def changed(track: Track, changes: Sequence[Change], at: float, manner: Adjusting) -> Track:
    """What is remembered once changes were made."""
    watches = dict(track.watches)
    for c in changes:
        w = watches.get(c.resource, Watch())
        if c.course is Course.DECREASE:
            watches[c.resource] = replace(w, lowered_at=at, low_since=None, low_top=0.0)
        elif w.lowered_at is not None:
            regretted = at - w.lowered_at <= _REGRET * calm_s(w, manner)
            watches[c.resource] = replace(w, lowered_at=None, regrets=w.regrets + regretted)
    return replace(track, watches=watches, changed_at=at)


def calm_s(watch: Watch, manner: Adjusting) -> float:
    """How long too much is looked at before it is taken away."""
    return manner.calm_s * 2.0 ** min(watch.regrets, 30)


def enough(use: float, manner: Adjusting) -> float:
    """The least allocation that leaves a task room: no change ever goes below."""
    return use * (1 + manner.headroom / 2)


@dataclass(frozen=True, slots=True)
class _Case:
    """One resource at one reading."""

    resource: str
    use: float
    reading: Reading
    allocated: float
    asked: float
    manner: Adjusting

    def noted(self, watch: Watch, outlook: Outlook | None) -> Watch:
        recent = (*watch.recent, (self.reading.at, self.use))[-_STEEP:]
        strange = watch.strange
        if outlook is not None:
            slack = self.manner.tolerance
            off = not outlook.low * (1 - slack) - _DUST <= self.use <= outlook.high * (1 + slack) + _DUST
            strange += _NEWS * (off - strange)
        return replace(watch, recent=recent, strange=strange)

    def judged(self, watch: Watch, outlook: Outlook | None) -> tuple[Watch, Change]:
        if watch.strange > _DISTRUST:
            outlook = None
        wanted, why, urgent = self._wanted(watch, outlook)
        if wanted > self.allocated + _DUST:
            amount = min(wanted, self._most())
            course = Course.INCREASE if self.manner.increase and amount > self.allocated + _DUST else Course.HOLD
            return replace(watch, low_since=None, low_top=0.0), Change(self.resource, course, amount, why, urgent)
        return self._lower(watch, outlook)

    def _wanted(self, watch: Watch, outlook: Outlook | None) -> tuple[float, str, bool]:
        """What it should have at least, why, and whether that is urgent; 0 if it has that."""
        goal, memory = self.use * (1 + self.manner.headroom), self.resource == "memory"
        found: list[tuple[float, str, bool]] = [(0.0, "", False)]
        if self.resource in self.reading.held_back:
            grown = max(goal, self.allocated * _GROWTH)
            found.append((grown, f"{self._told(self.use)} in use, and it is held back", memory))
        elif enough(self.use, self.manner) > self.allocated:
            found.append((goal, f"{self._told(self.use)} in use of {self._told(self.allocated)}", False))
        if outlook is not None and outlook.soon > self.allocated:
            why = f"past runs reach {self._told(outlook.soon)} within {self.manner.ahead_s:g} s"
            found.append((outlook.soon * (1 + self.manner.headroom / 2), why, False))
        if memory and (slope := slope_of(watch.recent)) > 0:
            reached_s = max(self.allocated - self.use, 0.0) / slope
            if reached_s <= self.manner.ahead_s:
                then = self.use + slope * self.manner.ahead_s
                why = f"grows by {slope * 1024:.3g} MiB/s: {self._told(self.allocated)} are full in {reached_s:.0f} s"
                found.append((then * (1 + self.manner.headroom / 2), why, True))
        wanted, why, _ = max(found, key=lambda f: f[0])
        return wanted, why, any(urgent for *_, urgent in found)

    def _lower(self, watch: Watch, outlook: Outlook | None) -> tuple[Watch, Change]:
        hold = Change(self.resource, Course.HOLD, self.allocated)
        goal = self._least(max(self.use, watch.low_top), outlook)
        if not self.manner.decrease or goal > self.allocated * (1 - self.manner.tolerance):
            return replace(watch, low_since=None, low_top=0.0), hold
        since = self.reading.at if watch.low_since is None else watch.low_since
        watch = replace(watch, low_since=since, low_top=max(self.use, watch.low_top))
        if self.reading.at - since < calm_s(watch, self.manner):
            return watch, hold
        held = f"{self._told(watch.low_top)} in use of {self._told(self.allocated)}"
        why = f"at most {held} for {self.reading.at - since:.0f} s"
        return watch, Change(self.resource, Course.DECREASE, goal, why)

    def _least(self, use: float, outlook: Outlook | None) -> float:
        """What it may be lowered to."""
        goal = max(use * (1 + self.manner.headroom), float(getattr(LEAST, self.resource)))
        if self.resource != "memory":
            return goal if outlook is None else max(goal, outlook.soon * (1 + self.manner.headroom / 2))
        to_come = self.manner.unseen * self.asked if outlook is None else outlook.rest * (1 + self.manner.headroom / 2)
        return max(goal, to_come)

    def _most(self) -> float:
        return max(self.manner.most * self.asked, self.allocated)

    def _told(self, amount: float) -> str:
        return f"{amount:.3g} cores" if self.resource == "cpu" else f"{amount:.3g} GiB"


def slope_of(recent: Sequence[tuple[float, float]]) -> float:
    """By how much (at, use) grows per second: least squares, or the last step if that is less; 0 from too few.

    So neither a start that is over nor a single jump is taken for growth that goes on.
    """
    n = len(recent)
    if n < _FEWEST or recent[-1][0] <= recent[-2][0]:
        return 0.0
    mean_at, mean_use = sum(t for t, _ in recent) / n, sum(u for _, u in recent) / n
    spread = sum((t - mean_at) ** 2 for t, _ in recent)
    slope = sum((t - mean_at) * (u - mean_use) for t, u in recent) / spread
    return min(slope, (recent[-1][1] - recent[-2][1]) / (recent[-1][0] - recent[-2][0]))


# ---- what of it there is room for


@dataclass(frozen=True, slots=True)
class Wish:
    """What one task should have. node_id: where it runs. allocated: what it has. changes: of it."""

    claimant: str
    node_id: str
    allocated: Resources
    changes: tuple[Change, ...]

    @property
    def urgent(self) -> bool:
        """True if it is about to run out of memory."""
        return any(c.urgent for c in self.changes)


@dataclass(frozen=True, slots=True)
class Granted:
    """What a task gets. changes: that are made. short: it needs memory at once, and there is none for it here."""

    wish: Wish
    amount: Resources
    changes: tuple[Change, ...] = ()
    short: bool = False


def grant(wishes: Sequence[Wish], free: Mapping[str, Resources]) -> tuple[Granted, ...]:
    """Decreases as they are; increases as far as the node has room, the urgent first, then the smallest; in that order.

    Args:
        free: of each node, before anything changes.
    """
    left, out = dict(free), []
    for wish in sorted(wishes, key=_order):
        amounts, made, short = wish.allocated.as_dict(), [], False
        room = left.get(wish.node_id, Resources()).as_dict()
        for c in wish.changes:
            more = c.amount - amounts[c.resource]
            given = min(more, room[c.resource])
            short = short or (c.urgent and given < more * 0.5 - _DUST)
            if abs(given) > _WORTH * amounts[c.resource]:
                made.append(replace(c, amount=amounts[c.resource] + given))
                amounts[c.resource] += given
                room[c.resource] -= given
        left[wish.node_id] = Resources.of({k: max(v, 0.0) for k, v in room.items()})
        out.append(Granted(wish, Resources.of(amounts), tuple(made), short))
    return tuple(out)


def _order(wish: Wish) -> tuple[int, float, str]:
    raised = [c for c in wish.changes if c.course is Course.INCREASE]
    more = max((c.amount - getattr(wish.allocated, c.resource) for c in raised), default=0.0)
    return (2 - wish.urgent if raised else 0, more, wish.claimant)
