"""Runs that come back without a declared schedule: recognised by when they came, expected again, dropped in time.

A recurrence is a slot: a window of the local day in which a DAG started on far more days than chance would have it, and
a rule for the days on which it does. Windows of several widths compete by their likelihood against starts spread evenly
over days and hours; rules (every day, some weekdays, the first or last day of the month, a date) by theirs, the simpler
first. An hourly DAG has 24 slots, one that is fed by another a wide one. How late it comes within its slot, how often
it is missing, and whether it was missing lately make its probability and its delays.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.arrivals import PredictedRun, expected_run
from preprov.demand.dayrules import FEWEST, Kept, Rule, best_rule
from preprov.demand.keeping import Keeper, digest_of
from preprov.demand.runtime_tables import Floats, Ints
from preprov.model.series import wall_ns, zone_of
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable

_DAY_S: Final = 86_400.0
_DAY_NS: Final = 86_400_000_000_000
_LOOK_BACK_DAYS: Final = 100
_WIDTHS_S: Final = (240.0, 600.0, 1_800.0, 5_400.0)
_LATE_S: Final = 7_200.0
_EVIDENCE: Final = 8.0  # log likelihood by which a window must beat chance
_FEW_DAYS: Final = 5.0  # up to which the whole choice of windows counts against one
_OFTEN: Final = 0.5
_PATIENCE: Final = 8  # windows in a row that beat chance and make no slot, before the search ends
_MOST_SLOTS: Final = 320
_CEASES: Final = 2e-3  # of recurrences that end without a word, per turn
_SKIPPED_TOGETHER: Final = 0.15  # of turns that are missed when the one before was, though nothing has ended
_RECENT_DAYS: Final = 2


@dataclass(frozen=True, eq=False)
class Slot:
    """A recurrence of a DAG: it begins so many seconds after local midnight.

    Attributes:
        days: (n,) days on which it came. delays: (n,) seconds after `begins` at which. kept: its rule, and how well.
        silent: turns that all slots of the DAG together missed in a row, until now.
    """

    dag_id: str
    begins: float
    days: Ints
    delays: Floats
    kept: Kept
    silent: int = 0

    @cached_property
    def probability(self) -> float:
        """That it comes on the next of its days."""
        skip = max(1.0 - self.kept.rate, 1e-3)
        missed = skip**self.kept.missed_last
        # Slots of one DAG may miss together without its end: a turn of another slot tells less than one of its own.
        quiet = max(skip, _SKIPPED_TOGETHER) ** self.silent
        return self.kept.rate * min(missed / (missed + _CEASES), quiet / (quiet + _CEASES))

    def days_missing(self, first: int, last: int) -> list[int]:
        """Its days of first..last on which it has not come."""
        held = self._worked_out.get((first, last))
        if held is None:
            days = np.arange(first, last + 1)
            held = days[self.kept.rule.holds(days) & ~np.isin(days, self.days)].tolist()
            self._worked_out[first, last] = held
        return held

    def expected(self, turn: float, now: float) -> PredictedRun | None:
        """Its run of that turn, which has not come by now; None if it is too late."""
        if now - turn >= self.delays[0]:
            return self._expected(turn, now)
        if turn not in self._to_come:  # nothing that its delays say is ruled out yet
            self._to_come[turn] = self._expected(turn, now)
        return self._to_come[turn]

    def _expected(self, turn: float, now: float) -> PredictedRun | None:
        weights = np.full(len(self.delays), 1.0 / len(self.delays))
        return expected_run(self.dag_id, turn, now, self.delays, weights, self.probability, part="recurring")

    @cached_property
    def _worked_out(self) -> dict[tuple[int, int], list[int]]:
        return {}

    @cached_property
    def _to_come(self) -> dict[float, PredictedRun | None]:
        return {}


@dataclass(frozen=True, eq=False)
class Recurrences:
    """runs: expected until the horizon's end. covered: (R,) seen runs that belong to a slot. slots: all of them."""

    runs: tuple[PredictedRun, ...]
    covered: NDArray[np.bool_]
    slots: tuple[Slot, ...]


def recurrences(
    seen: WorkTable, at: datetime, until: datetime, zone: str, scheduled: Collection[str] = ()
) -> Recurrences:
    """Recognise recurrences in work seen `as_of(at)`, and expect their next runs.

    Args:
        zone: IANA zone of the clock that recurrences follow. scheduled: DAGs with a declared schedule, left out.
    """
    wall = at.astimezone(zone_of(zone))
    today, since_midnight = wall.toordinal(), (wall.hour * 60 + wall.minute) * 60.0 + wall.second
    covered = np.zeros(len(seen.runs), dtype=bool)
    slots: list[Slot] = []
    for dag, starts in _starts(seen, zone, scheduled, epoch(at), today):
        for slot, places in _found(dag, starts, today, since_midnight):
            covered[starts.run[places]] = True
            slots.append(slot)
    expected = [run for slot in slots for run in _expected(slot, at, until, wall)]
    return Recurrences(tuple(expected), covered, tuple(slots))


@dataclass(frozen=True)
class _Starts:
    """Starts of one DAG: positions of its runs, their local day, seconds of that day."""

    run: Ints
    day: Ints
    second: Floats


def _starts(
    seen: WorkTable, zone: str, scheduled: Collection[str], now: float, today: int
) -> Iterator[tuple[str, _Starts]]:
    """DAGs that started on several days, by name."""
    runs = seen.runs
    start = np.fmax(runs["submit"].to_numpy(np.float64), runs["due"].to_numpy(np.float64))
    run = np.flatnonzero(start > now - (_LOOK_BACK_DAYS + 1) * _DAY_S)
    wall = wall_ns(start[run], zone)
    day = wall // _DAY_NS + date(1970, 1, 1).toordinal()
    second = wall % _DAY_NS / 1e9
    code, names = pd.factorize(runs["dag_id"].to_numpy(dtype=object)[run], sort=True)
    wanted = np.array([n not in scheduled for n in names], dtype=bool)
    kept = np.flatnonzero((day > today - _LOOK_BACK_DAYS) & wanted[code])
    # A burst counts once: many starts within minutes on one day say no more of the hour than one does.
    slices = pd.DataFrame({"dag": code[kept], "day": day[kept], "bin": second[kept] // _WIDTHS_S[0]})
    kept = kept[~slices.duplicated().to_numpy()]
    order = kept[np.lexsort((second[kept], day[kept], code[kept]))]
    bounds = np.searchsorted(code[order], np.arange(len(names) + 1))
    new_day = np.diff(day[order], prepend=-1) != 0
    new_day[bounds[:-1][np.diff(bounds) > 0]] = True
    days = np.diff(np.concatenate([[0], np.cumsum(new_day)])[bounds])
    for dag in np.flatnonzero(days >= FEWEST).tolist():
        mine = order[bounds[dag] : bounds[dag + 1]]
        yield str(names[dag]), _Starts(run[mine], day[mine], second[mine])


@dataclass
class _Found:
    """What was found in the same starts on the same day: slots and the places of their starts.

    Attributes:
        after, until: it holds while (after, until] contains the seconds since midnight.
    """

    slots: list[tuple[Slot, Ints]]
    after: float
    until: float


def _found(dag: str, starts: _Starts, today: int, since_midnight: float) -> list[tuple[Slot, Ints]]:
    """Slots, and the places among the starts of those that belong to each; found once, as long as nothing is new."""
    held = _FOUND.get(digest_of((dag, today), starts.day, starts.second), lambda: [])
    for found in held:
        if found.after < since_midnight <= found.until:
            return found.slots
    looked = _Day(dag, starts, today, since_midnight)
    slots = list(looked.slots())
    held[:] = [_Found(slots, looked.after, looked.until)]
    return slots


_FOUND: Final[Keeper[list[_Found]]] = Keeper(8192)


class _Day:
    """The day of one DAG, from which slots are taken one after the other."""

    def __init__(self, dag: str, starts: _Starts, today: int, since_midnight: float) -> None:
        self.dag, self.starts = dag, starts
        self.today, self.since_midnight = today, since_midnight
        self.free = np.ones(len(starts.run), dtype=bool)
        self.days = today - int(starts.day.min()) + 1
        self.after, self.until = -np.inf, np.inf

    def _over(self, second: float) -> bool:
        """Whether that second of today is past. What is found stands until one that was asked about passes."""
        past = second < self.since_midnight
        if past:
            self.after = max(self.after, second)
        else:
            self.until = min(self.until, second)
        return past

    def slots(self) -> Iterator[tuple[Slot, Ints]]:
        """Slots, and the places of the starts that belong to each."""
        found: list[tuple[float, Ints, Rule]] = []
        in_vain = 0
        while len(found) < _MOST_SLOTS and in_vain < _PATIENCE:
            window = self._densest()
            if window is None:
                break
            begins, members = window
            self.free[members] = False
            slot = self._slot(begins, members)
            if slot is not None:
                found.append((begins, members, slot.kept.rule))
            in_vain = 0 if slot is not None else in_vain + 1
        late = self._late(found)
        whole = [np.concatenate([members, more]) for (_, members, _), more in zip(found, late, strict=True)]
        kept = [(self._slot(begins, everyone), everyone) for (begins, _, _), everyone in zip(found, whole, strict=True)]
        made = [(slot, everyone) for slot, everyone in kept if slot is not None]
        silent = self._silent([slot for slot, _ in made]) if len(made) > 1 else 0
        for slot, everyone in made:
            yield replace(slot, silent=silent), everyone

    def _silent(self, slots: list[Slot]) -> int:
        """Turns of the last days, of all slots, that were missed in a row until now."""
        recent = np.arange(self.today - _RECENT_DAYS, self.today + 1)
        over: list[tuple[float, bool]] = []
        for slot in slots:
            late = slot.begins + float(np.quantile(slot.delays, 0.95)) + _LATE_S / 4
            for day in recent[slot.kept.rule.holds(recent)].tolist():
                ended = (day - self.today) * _DAY_S + late
                if self._over(ended):
                    over.append((ended, bool((slot.days == day).any())))
        over.sort()
        came = np.array([c for _, c in over], dtype=bool)
        return int(np.argmax(came[::-1])) if came.any() else len(came)

    def _densest(self) -> tuple[float, Ints] | None:
        """Where the window begins that most exceeds chance, and each day's first start in it; None if none does."""
        free = np.flatnonzero(self.free)
        if len(free) < 2:
            return None
        second = np.sort(self.starts.second[free])
        twice = np.concatenate([second, second + _DAY_S])
        best: tuple[float, float, float] | None = None
        for width in _WIDTHS_S:
            count = np.searchsorted(twice, second + width, side="right") - np.arange(len(second))
            evidence = _evidence(np.minimum(count, self.days), self.days, len(second) * width / _DAY_S)
            # Of many windows one is hit each day by chance, the sooner the fewer days there are.
            evidence = evidence - np.log(_DAY_S / width) * min(1.0, _FEW_DAYS / self.days)
            top = int(np.argmax(evidence))
            if best is None or evidence[top] > best[0]:
                best = (float(evidence[top]), float(second[top]), width)
        if best is None or best[0] < _EVIDENCE:
            return None
        _, begins, width = best
        inside = free[(self.starts.second[free] - begins) % _DAY_S <= width]
        day, delay = self._placed(begins, inside)
        order = np.lexsort((delay, day))
        _, first = np.unique(day[order], return_index=True)
        return begins, inside[order[first]]

    def _placed(self, begins: float, starts: Ints) -> tuple[Ints, Floats]:
        """Day of the slot, and seconds after its beginning, of starts that may lie past midnight."""
        second = self.starts.second[starts]
        return self.starts.day[starts] - (second < begins), (second - begins) % _DAY_S

    def _slot(self, begins: float, members: Ints) -> Slot | None:
        """The slot that these starts make; None if they are too few or too irregular."""
        days, delays = self._placed(begins, members)
        # Today counts as a day that could be missed only once it is too late to come.
        over = self._over(begins + float(np.quantile(delays, 0.95)) + _LATE_S / 4)
        kept = best_rule(days, self.today if over else self.today - 1)
        if kept.came < kept.rule.fewest or kept.rate < _OFTEN:
            return None
        return Slot(self.dag, begins, days, np.sort(delays), kept)

    def _late(self, found: list[tuple[float, Ints, Rule]]) -> list[Ints]:
        """Per slot, the starts no window holds that came late on a day of the slot that was missing."""
        late: list[list[int]] = [[] for _ in found]
        held = [set(self._placed(b, m)[0].tolist()) for b, m, _ in found]
        taken = np.zeros(len(self.free), dtype=bool)
        for _, members, _ in found:
            taken[members] = True
        left = np.flatnonzero(~taken)
        options: list[tuple[float, int, int, int]] = []
        for i, (begins, _, rule) in enumerate(found):
            day, delay = self._placed(begins, left)
            fits = (delay <= _LATE_S) & rule.holds(day) & ~np.isin(day, list(held[i]))
            options += [(float(delay[k]), int(left[k]), i, int(day[k])) for k in np.flatnonzero(fits)]
        used: set[int] = set()
        for _, start, i, day_of in sorted(options):
            if start not in used and day_of not in held[i]:
                late[i].append(start)
                held[i].add(day_of)
                used.add(start)
        return [np.array(more, dtype=np.int64) for more in late]


def _evidence(came: Ints, days: int, usual: float) -> Floats:
    """(N,) log likelihood of windows that were hit on so many of the days, against hits by chance, `usual` in all."""
    chance = -np.expm1(-usual / days)
    missed = days - came
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = came * np.log(came / (days * chance))
        miss = np.where(missed > 0, missed * np.log(missed / (days * (1.0 - chance))), 0.0)
    out: Floats = np.where(came > days * chance, hit + miss, -np.inf)
    return out


def _expected(slot: Slot, at: datetime, until: datetime, wall: datetime) -> Iterator[PredictedRun]:
    """Runs of the slot from yesterday's on that have not come, until the horizon's end."""
    local, now = wall.tzinfo, epoch(at)
    first, last = wall.toordinal() - 1, until.astimezone(local).toordinal()
    for day in slot.days_missing(first, last):
        naive = datetime.fromordinal(day) + timedelta(seconds=slot.begins)
        turn = naive.replace(tzinfo=local).timestamp()
        if turn < epoch(until):
            run = slot.expected(turn, now)
            if run is not None:
                yield run
