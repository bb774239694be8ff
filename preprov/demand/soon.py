"""The next minutes, finely: how much more than now will be wanted, by what runs are made of and when others are due.

A curve in steps of minutes cannot say when to wake a node that takes twenty seconds. Here a run is its *course*: what
it wants over time if nothing waits and every task takes its median. How far along it is, the tasks that have ended tell
better than the clock; how fast it goes on is drawn. A run that is due follows the course of the last one of its DAG,
from a start drawn from how late such runs came.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
from scipy.special import ndtr, ndtri

from preprov.demand.arrivals import LEVELS, PredictedRun
from preprov.demand.live import Names, amounts
from preprov.demand.runtime_tables import Floats
from preprov.demand.runtimes import RuntimeModel
from preprov.model.resources import KINDS
from preprov.model.worktable import WorkTable, nominal_ready

PACE: Final = 0.3
"""Standard deviation of the logarithm of how fast a run goes on, against its course."""
_FEW: Final = 8
"""Tasks of a short course."""
_LEAST_S: Final = 1.0
_HANGS: Final = 0.05
"""Share of tasks that nobody need wait for: what lasts twice as long as usual is likely one of them."""


@dataclass(frozen=True, eq=False)
class Course:
    """What a run wants over time if nothing waits.

    Attributes:
        starts, ends: (T,) seconds from its beginning, ascending. begun, over: (T + 1, 5) resources of the first k tasks
            to start, and to end.
        tasks: their (T,) beginnings and lengths in seconds and (T, 5) resources, in the order of their run.
    """

    starts: Floats
    ends: Floats
    begun: Floats
    over: Floats
    tasks: tuple[Floats, Floats, Floats]

    @classmethod
    def of(cls, start: Floats, runtime: Floats, amount: Floats) -> "Course":
        """From (T,) seconds and (T, 5) amounts of its tasks."""
        end = start + runtime
        first, last = np.argsort(start, kind="stable"), np.argsort(end, kind="stable")
        return cls(start[first], end[last], _sums(amount[first]), _sums(amount[last]), (start, runtime, amount))

    def wanted(self, offset: Floats) -> Floats:
        """(..., 5) resources wanted so many seconds after the beginning."""
        times, levels = self._levels
        out: Floats = levels.take(times.searchsorted(offset, side="right"), axis=0)
        return out

    @cached_property
    def _levels(self) -> tuple[Floats, Floats]:
        """(2 T,) seconds at which a task starts or ends, ascending, and (2 T + 1, 5) what is wanted around them."""
        times = np.sort(np.concatenate([self.starts, self.ends]))
        begun, over = (at.searchsorted(times, side="right") for at in (self.starts, self.ends))
        after = self.begun[begun] - self.over[over]
        return times, np.concatenate([np.zeros((1, len(KINDS))), after])

    @cached_property
    def changes(self) -> tuple[Floats, Floats]:
        """(2 T,) seconds at which a task starts or ends, ascending, and (2 T, 5) what is wanted more from then on."""
        times = np.concatenate([self.starts, self.ends])
        order = np.argsort(times, kind="stable")
        return times[order], np.concatenate([np.diff(self.begun, axis=0), -np.diff(self.over, axis=0)])[order]

    def position(self, lasted_s: Floats, over: Floats, quiet_s: float) -> "Position":
        """Where a run is that has begun.

        Args:
            lasted_s: (T,) seconds since each of its tasks began, NaN if it has not. over: (T,) share of its instances
                that have ended. quiet_s: seconds since a task ended or the run began. Where none is said to run, the
                next is taken to have begun then.
        """
        begin, length, amount = self.tasks
        end, ended = begin + length, over >= 1.0
        if ended.all():
            return Position(float(self.ends[-1]))
        count = int(np.count_nonzero(ended))
        low = float(self.ends[count - 1]) if count else 0.0
        runs = np.flatnonzero((lasted_s >= 0) & ~ended)
        among = runs if len(runs) else np.flatnonzero(~ended)
        nearest = among[np.argmin(end[among])]
        lasted = float(lasted_s[nearest]) if len(runs) else quiet_s
        usual = float(length[nearest])
        latest = float(np.nextafter(end[~ended].min(), -np.inf))
        at = min(max(low, float(begin[nearest]) + min(lasted, usual)), latest)
        early = np.flatnonzero((over > 0) & (end > at))
        return Position(at, max(lasted - usual, 0.0), usual, end[early], amount[early] * over[early, None])


@dataclass(frozen=True, eq=False)
class Position:
    """How far along its course a run is.

    Attributes:
        at_s: seconds of the course that lie behind it; just before the end of the task that should end next, however
            long that has been due; less than 0 if it is yet to begin, in so many seconds.
        late_s: since when that end has been due, of a task that usually takes usual_s seconds.
        over_at_s, over: (K,) seconds and (K, 5) resources: what has ended already though the course has it end then.
    """

    at_s: float
    late_s: float = 0.0
    usual_s: float = 0.0
    over_at_s: Floats = field(default_factory=lambda: np.empty(0))
    over: Floats = field(default_factory=lambda: np.empty((0, len(KINDS))))


START: Final = Position(0.0)


def _sums(amount: Floats) -> Floats:
    return np.concatenate([np.zeros((1, len(KINDS))), np.cumsum(amount, axis=0)])


def courses(work: WorkTable, runtimes: RuntimeModel) -> list[Course]:
    """The course of each run of a table: whole runs, in its order. Times in the table are not looked at."""
    if not len(work.runs):
        return []
    run = work.tasks["run"].to_numpy()
    runtime = Names.of(work.tasks, run).tables(runtimes).quantile(0.5)
    start = nominal_ready(np.zeros(len(work.runs)), runtime, run, work.parents, work.children)
    amount = amounts(work.tasks)
    edges = np.searchsorted(run, np.arange(len(work.runs) + 1)).tolist()
    return [Course.of(start[a:b], runtime[a:b], amount[a:b]) for a, b in pairwise(edges)]


@dataclass(frozen=True, eq=False)
class Moving:
    """A run that is under way, or due: its course, and what is drawn for it once and for all.

    Attributes:
        courses: one if it is under way; of one that is due the courses it may take, each in its share of the samples.
        name: of the run: what is drawn hangs on it. samples: S.
        due: when it is expected; None = it is under way.
    """

    courses: tuple[Course, ...]
    name: str
    samples: int
    seed: int = 0
    due: PredictedRun | None = field(default=None)

    @cached_property
    def _shuffled(self) -> tuple[Floats, Floats]:
        """Two (S,) shuffles of evenly spaced levels."""
        rng = np.random.default_rng([self.seed, *self.name.encode()])
        levels = (np.arange(self.samples) + 0.5) / self.samples
        return rng.permutation(levels), rng.permutation(levels)

    @cached_property
    def pace(self) -> Floats:
        """(S,) factors on what is left of its course."""
        out: Floats = np.exp(PACE * ndtri(self._shuffled[0]))
        return out

    def starts_s(self, now: float) -> Floats:
        """(S,) seconds from now until a due run starts, inf where it never does; it has not come by now."""
        if self.due is None:
            return np.zeros(self.samples)
        later = np.asarray(self.due.delays) + self.due.turn
        left = later[later > now]
        if not len(left):
            return np.full(self.samples, np.inf)
        stays = self.due.probability * len(left) / LEVELS
        comes = stays / (stays + 1.0 - self.due.probability)
        at = self._shuffled[1] / max(comes, 1e-9)
        place = np.minimum((at * len(left)).astype(np.int64), len(left) - 1)
        return np.where(at < 1.0, left[place] - now, np.inf)

    @property
    def tasks(self) -> int:
        """Of its only course, or of all it may take."""
        return sum(len(c.starts) for c in self.courses)

    @cached_property
    def is_short(self) -> bool:
        """True if it has so few tasks that going through them is quicker than looking up offsets."""
        return self.tasks <= _FEW * len(self.courses)

    def stands_s(self, where: Position) -> Floats:
        """(S,) seconds until a run goes on: until it begins, or the task ends that should have ended.

        How much longer such a task lasts, given how long it has, is drawn; inf where it hangs, or its end was not told.
        """
        if where.late_s <= 0:
            return np.full(self.samples, max(-where.at_s, 0.0))
        usual_s = max(where.usual_s, _LEAST_S)
        lasted_s = usual_s + where.late_s
        longer = float(ndtr(-np.log(lasted_s / usual_s) / PACE))
        ends = (1.0 - _HANGS) * longer / ((1.0 - _HANGS) * longer + _HANGS)
        place = self._shuffled[0] / max(ends, 1e-9)
        whole_s = usual_s * np.exp(-PACE * ndtri(np.clip(1.0 - place, 0.0, 1.0) * longer))
        return np.where(place < 1.0, np.maximum(whole_s - lasted_s, 0.0), np.inf)

    def rises(self, now: float, where: Position, offsets: Floats) -> Floats:
        """(S, W, 5) what it wants `offsets` (W,) seconds from now, less what it wants now.

        All offsets are looked up on the course: for a long one that is quicker than going through its tasks.
        """
        if self.due is None:
            course, since = self.courses[0], offsets[None, :] - self.stands_s(where)[:, None]
            at = np.where(since >= 0, max(where.at_s, 0.0) + since / self.pace[:, None], where.at_s)
            more = course.wanted(at) - course.wanted(np.array(where.at_s))
            return more + (at[..., None] >= where.over_at_s) @ where.over
        since = offsets[None, :] - self.starts_s(now)[:, None]
        at = np.maximum(since, 0.0) / self.pace[:, None]
        wanted = np.empty((*at.shape, len(KINDS)))
        for k, course in enumerate(self.courses):
            wanted[k :: len(self.courses)] = course.wanted(at[k :: len(self.courses)])
        return np.where((since >= 0)[..., None], wanted, 0.0)

    def changes(self, now: float, where: Position, until_s: float) -> Iterator["Changes"]:
        """What changes in what it wants, over the next `until_s` seconds."""
        if self.due is None:
            course, starts = self.courses[0], self.stands_s(where)
            yield Changes.of(course, where.at_s, until_s, starts, self.pace, slice(None))
            if len(where.over):
                when_s = starts + (where.over_at_s[:, None] - where.at_s) * self.pace
                yield Changes(when_s, where.over, slice(None))
            return
        starts, every = self.starts_s(now), len(self.courses)
        for k, course in enumerate(self.courses[: self.samples]):
            mine = slice(k, None, every)
            yield Changes.of(course, -np.inf, until_s, starts[mine], self.pace[mine], mine)


@dataclass(frozen=True, eq=False)
class Changes:
    """Tasks that begin and end.

    Attributes:
        when_s: (E, s) seconds from now in each sample. amount: (E, 5) that is wanted more, or less, from then on.
        mine: which of all samples these are.
    """

    when_s: Floats
    amount: Floats
    mine: slice

    @classmethod
    def of(
        cls, course: Course, position: float, until_s: float, starts: Floats, pace: Floats, mine: slice
    ) -> "Changes":
        """Of a course of which `position` lies behind, that goes on in `starts` (s,) seconds at a pace (s,)."""
        begun = max(position, 0.0)
        last = begun + (until_s - float(starts.min())) / float(pace.min())
        times, amount = course.changes
        first, end = np.searchsorted(times, (position, last), side="right")
        when_s = starts + (times[first:end, None] - begun) * pace
        return cls(when_s, amount[first:end], mine)


def rises(runs: Sequence[tuple[Moving, Position]], now: float, offsets: Floats, samples: int) -> Floats:
    """(S, W, 5) how much more than now all runs want together, so many seconds from now; less is negative.

    Args:
        runs: each with its position on its course (START for one that is due).
        now: epoch seconds. offsets: (W,) seconds from now, ascending. samples: S.
    """
    out = np.zeros((samples, len(offsets), len(KINDS)))
    until_s, wide = float(offsets[-1]), len(offsets) + 1
    found = []
    for run, where in runs:
        if run.is_short:
            found += [c for c in run.changes(now, where, until_s) if c.when_s.size]
        else:
            out += run.rises(now, where, offsets)
    if not found:
        return out
    rows = np.arange(samples) * wide
    place = np.searchsorted(offsets, np.concatenate([c.when_s.ravel() for c in found]))
    place += np.concatenate([np.broadcast_to(rows[c.mine], c.when_s.shape).ravel() for c in found])
    amount = np.concatenate([np.repeat(c.amount, c.when_s.shape[1], axis=0) for c in found])
    for k in np.flatnonzero(amount.any(axis=0)).tolist():
        more = np.bincount(place, amount[:, k], samples * wide).reshape(samples, wide)
        out[:, :, k] += np.cumsum(more[:, :-1], axis=1)
    return out
