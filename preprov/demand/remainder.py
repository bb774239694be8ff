"""What nothing announced: past demand of runs that came unannounced, and how much of such demand is new at each lead.

The learnt part of demand is learnt from this, never from the whole, and at a lead only as much of it counts as comes
from runs younger than that lead: older ones are in flight or queued, and counted there. That is the pick-up of bookings
as airlines forecast it (Lee 1990, "Airline reservations forecasting").
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.following import foreseeable
from preprov.demand.keeping import Keeper, digest_of
from preprov.demand.live import amounts
from preprov.demand.occupancy import Grid, Intervals, means, peaks
from preprov.demand.runtime_tables import Floats
from preprov.model.resources import KINDS
from preprov.model.work import Schedule, Trigger
from preprov.model.worktable import WorkTable

HOUR: Final = 3600
_PROFILE_DAYS: Final = 60
_MOST_DAYS: Final = 400
_PROFILES: Final[Keeper[tuple[Floats, Floats, Floats]]] = Keeper(16)


@dataclass(frozen=True)
class Remainder:
    """Past demand of unannounced runs, up to the last full hour.

    Attributes:
        start: of the first hour, seconds since the epoch. hours: (H, 5) mean of each hour.
        step: seconds of the finer steps. mean, peak: (M, HOUR / step, 5) within the steps of the last M hours.
        intervals: the demand itself, seconds since the epoch, by submission. submit: (N,) when its run was submitted.
        runs: how many runs it is made of.
    """

    start: float
    hours: Floats
    step: int
    mean: Floats
    peak: Floats
    intervals: Intervals
    submit: Floats
    runs: int

    @property
    def end(self) -> float:
        """End of the last hour, seconds since the epoch."""
        return self.start + HOUR * len(self.hours)

    def fresh_share(self, leads: Floats, kind: int) -> Floats:
        """(L,) share of this demand that comes from runs submitted less than so many seconds before.

        Args:
            leads: (L,) evenly spaced seconds.

        Returns:
            In [0, 1]; all 1 if there never was such demand.
        """
        length = self.intervals.end - self.intervals.start
        amount = self.intervals.amount[:, [kind]]
        total = float((amount[:, 0] * length).sum())
        if total <= 0:
            return np.ones(len(leads))
        step = max(float(leads[1] - leads[0]) if len(leads) > 1 else 0.0, 60.0)
        grid = Grid(step, int(np.ceil(max(float(leads.max()), step) / step)) + 1)
        age = self.intervals.start - self.submit
        ages = Intervals(age, age + length, np.zeros(len(length), np.int64), amount)
        grown = np.concatenate([[0.0], np.cumsum(means(ages, grid, 1)[0, :, 0]) * step]) / total
        out: Floats = np.interp(np.maximum(leads, 0.0), np.arange(len(grown)) * step, np.minimum(grown, 1.0))
        return out


def announced(seen: WorkTable, schedules: Sequence[Schedule], predicted: Collection[str] = ()) -> NDArray[np.bool_]:
    """(R,) runs that a schedule announced: those with a turn, of DAGs whose runs schedules foretell.

    Where a source does not say which turn a run belongs to, all runs of such a DAG but the manual ones.

    Args:
        predicted: further DAGs whose runs are predicted.
    """
    runs = seen.runs
    told = foreseeable(schedules)
    dags = {s.dag_id for s in schedules if not s.paused and s.dag_id in told} | set(predicted)
    ours = runs["dag_id"].isin(list(dags)).to_numpy()
    manual = runs["trigger"].to_numpy(dtype=object) == Trigger.MANUAL.value
    out: NDArray[np.bool_] = ours & (np.isfinite(runs["scheduled_for"].to_numpy(np.float64)) | ~manual)
    return out


def remainder(seen: WorkTable, covered: NDArray[np.bool_], now: float, step: int) -> Remainder:
    """Past demand of unannounced runs, of work seen at `now`; what still runs counts until now.

    Args:
        covered: (R,) runs that something announced. step: seconds; divides an hour.
    """
    ours = ~covered
    task = np.flatnonzero(ours[seen.tasks["run"].to_numpy()])
    start, end = (x[task] for x in seen.spans())
    end = np.where(np.isfinite(end), np.minimum(end, now), now)
    begun = np.isfinite(start) & (end > start)
    task, start, end = task[begun], start[begun], end[begun]
    submit = seen.runs["submit"].to_numpy(np.float64)
    of_task = submit[seen.tasks["run"].to_numpy()[task]]
    order = np.argsort(of_task, kind="stable")
    task, start, end = task[order], start[order], end[order]
    amount = amounts(seen.tasks, task)
    last = now // HOUR * HOUR
    heard = float(submit.min()) if len(submit) else last
    first = min(max(np.ceil(heard / HOUR) * HOUR, last - _MOST_DAYS * 24 * HOUR), last)
    profiled = max(first, last - _PROFILE_DAYS * 24 * HOUR)
    intervals = Intervals(start, end, np.zeros(len(task), np.int64), amount)
    # Until the next full hour only what runs is added to, which is cut off here: the profile stays the same.
    over = np.flatnonzero((start < last) & (end > first))
    cut = Intervals(start[over], np.minimum(end[over], last), intervals.column[over], amount[over])
    same = digest_of((first, profiled, last, step), cut.start, cut.end, cut.amount)
    hours, mean, peak = _PROFILES.get(same, lambda: _profile(cut, first, profiled, last, step))
    return Remainder(
        start=first,
        hours=hours,
        step=step,
        mean=mean,
        peak=peak,
        intervals=intervals,
        submit=of_task[order],
        runs=int(ours.sum()),
    )


def _profile(past: Intervals, first: float, profiled: float, last: float, step: int) -> tuple[Floats, Floats, Floats]:
    """(H, 5) mean of the hours from `first` to `last`; (M, HOUR / step, 5) mean, peak of steps from `profiled` on."""
    hours = int((last - profiled) // HOUR)
    fine, each = Grid(float(step), hours * (HOUR // step)), (hours, HOUR // step, len(KINDS))
    return (
        means(_from(past, first), Grid(float(HOUR), int((last - first) // HOUR)), 1)[0],
        means(_from(past, profiled), fine, 1)[0].reshape(each),
        peaks(_from(past, profiled), fine, 1)[0].reshape(each),
    )


def _from(intervals: Intervals, instant: float) -> Intervals:
    return Intervals(intervals.start - instant, intervals.end - instant, intervals.column, intervals.amount)
