"""A demand curve stands until it is old, or until something is seen that it did not foresee.

Making a curve costs far more than deciding by it, and most minutes bring what the last curve said they would. What it
could not foresee is looked for at every pass: work that nobody announced, and demand outside of all its futures.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from preprov.control.context import Context
from preprov.model.demand import DemandCurve
from preprov.model.pools import Pool
from preprov.model.resources import KINDS
from preprov.model.time import epoch
from preprov.model.work import Schedule, Trigger
from preprov.model.worktable import Array, WorkTable

STANDS: Final = timedelta(minutes=30)
"""No curve is used for longer; it reaches so much beyond the horizon."""
_SHARE: Final = 0.02
_LIVE_FOR: Final = timedelta(days=3)


@dataclass(frozen=True)
class Standing:
    """A curve in use.

    Attributes:
        forecast_id: of the curve. made: when. schedules: declared by then.
    """

    forecast_id: str
    curve: DemandCurve
    made: datetime
    schedules: tuple[Schedule, ...]


def still_stands(ctx: Context, pool: Pool, held: Standing) -> bool:
    """True if the curve is young and nothing has happened since that it did not foresee.

    Demand now must lie inside what its futures hold about now, and what was submitted unannounced must be small, give
    or take a fiftieth of the most that it holds; the declared schedules must be the same.
    """
    now = ctx.clock.now()
    age = now - held.made
    if age == timedelta(0):
        return True
    if not timedelta(0) < age < STANDS or ctx.ports.work.schedules(pool.name) != held.schedules:
        return False
    recent = ctx.ports.work.work(pool.name, since=now - _LIVE_FOR, until=now).as_of(now)
    instances = np.maximum(recent.tasks["instances"].to_numpy(dtype=np.float64), 1.0)
    new, live = _unannounced(recent, held.made), _wanted(recent, now)
    for kind in pool.binding:
        amount = recent.tasks[kind].to_numpy(dtype=np.float64) * instances
        wanted = float(amount[live].sum())
        slack = _SHARE * float(held.curve.samples[:, :, KINDS.index(kind)].max(initial=0.0))
        if amount[new].sum() > slack or not _inside(held.curve, now, kind, wanted, slack):
            return False
    return True


def _unannounced(recent: WorkTable, since: datetime) -> Array:
    """(T,) tasks of runs that came since then by nobody's schedule."""
    runs = recent.runs
    late = runs["submit"].to_numpy(dtype=np.float64) > epoch(since)
    new: Array = late & (runs["trigger"].to_numpy(dtype=object) != Trigger.SCHEDULED.value)
    of_task: Array = new[recent.tasks["run"].to_numpy()]
    return of_task


def _wanted(recent: WorkTable, now: datetime) -> Array:
    """(T,) tasks that are ready or run, of work seen `as_of(now)`."""
    at = epoch(now)
    start, end = recent.spans()
    begun = (recent.tasks["ready_at"].to_numpy(dtype=np.float64) <= at) | (start <= at)
    live: Array = begun & ~(end <= at)
    return live


def _inside(curve: DemandCurve, now: datetime, kind: str, amount: float, slack: float) -> bool:
    """Within what the samples hold in the step of `now` and the one before it, give or take `slack`."""
    step = int((now - curve.start).total_seconds() // curve.step_seconds)
    near, at = slice(max(step - 1, 0), step + 1), KINDS.index(kind)
    peak, mean = curve.samples[:, near, at], (curve.samples if curve.mean is None else curve.mean)[:, near, at]
    if not peak.size:
        return False
    return float(mean.min()) - slack <= amount <= float(peak.max()) + slack
