"""When runs will start and finish under a capacity, with what probability they land in time, and in which order to go.

A run is a fluid: it takes up to its width of cores from when it is ready until its work is done, and lasts at least as
long as its critical path. Runs are served in the order given; what one leaves is the next one's. That is done for all
samples of work and path at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import PlanError
from preprov.model.pools import Pool

Array: TypeAlias = NDArray[Any]

QUANTILES: Final = (0.05, 0.5, 0.95)
SWAPS: Final = 60
"""Exchanges of neighbours that are tried to better the best of the simple orders."""
_EPS: Final = 1e-9


@dataclass(frozen=True)
class RunAhead:
    """A run that is not over.

    Attributes:
        path_s: (S,) seconds of the longest path that is left. work_s: (S,) core-seconds that are left.
        width: cores it can use at once. ready_at: before this it cannot go on.
        late_usd_per_minute: what each minute after `land_by` costs.
    """

    run_id: str
    path_s: Array
    work_s: Array
    width: float
    ready_at: datetime
    priority: int = 0
    land_by: datetime | None = None
    late_usd_per_minute: float = 0.0


@dataclass(frozen=True)
class RunForecast:
    """What is to be expected of one run.

    Attributes:
        start, finish: at QUANTILES; None = not within the horizon. meets: probability to land in time; None = no
        deadline. late_usd: expected price of lateness. finish_s: (S,) seconds from now.
    """

    run_id: str
    start: tuple[datetime | None, ...]
    finish: tuple[datetime | None, ...]
    meets: float | None
    late_usd: float
    finish_s: Array


@dataclass(frozen=True)
class Capacity:
    """Cores there will be. cores: (T,) per step of `step_s` seconds from `now` on; the last one goes on for ever."""

    now: datetime
    step_s: float
    cores: Array

    def __post_init__(self) -> None:
        if self.step_s <= 0 or not len(self.cores):
            raise PlanError("a capacity needs steps", hint="step_s > 0 and at least one step")


def forecast_runs(runs: Sequence[RunAhead], capacity: Capacity) -> tuple[RunForecast, ...]:
    """Starts, finishes and chances of runs that are served in this order.

    Raises:
        PlanError: the runs do not have the same number of samples.
    """
    if not runs:
        return ()
    if len({r.path_s.shape for r in runs} | {r.work_s.shape for r in runs}) != 1:
        raise PlanError("runs differ in their number of samples", hint="draw as many for each")
    free = np.repeat(capacity.cores[None, :].astype(float), len(runs[0].path_s), axis=0)
    return tuple(_serve(r, free, capacity) for r in runs)


def _serve(run: RunAhead, free: Array, capacity: Capacity) -> RunForecast:
    """Take what the run gets out of `free` (S, T)."""
    step, steps = capacity.step_s, free.shape[1]
    ready_s = max((run.ready_at - capacity.now).total_seconds(), 0.0)
    share = np.clip((np.arange(1, steps + 1) * step - ready_s) / step, 0.0, 1.0)
    # It neither needs more cores than its work spread over its path nor can use more than its width.
    gets = np.minimum(free, run.width) * share
    before = np.cumsum(gets, axis=1) * step - gets * step
    left = np.maximum(run.work_s[:, None] - before, 0.0)
    takes = np.minimum(gets, left / step)
    free -= takes
    begun = takes > _EPS
    first = np.where(begun.any(axis=1), begun.argmax(axis=1), steps)
    start_s = np.where(first < steps, np.maximum(first * step, ready_s), np.inf)
    start_s = np.where(run.work_s <= _EPS, ready_s, start_s)
    done = left - takes * step <= _EPS
    last = np.where(done.any(axis=1), done.argmax(axis=1), steps)
    at = np.minimum(last, steps - 1)
    rows = np.arange(len(first))
    rate = np.maximum(gets[rows, at] / np.maximum(share[at], _EPS), _EPS)
    offset = np.maximum(at * step, ready_s * (at == first))
    end_s = offset + left[rows, at] / rate
    tail = left[:, -1] - takes[:, -1] * step
    end_s = np.where(last < steps, end_s, steps * step + tail / max(min(run.width, float(capacity.cores[-1])), _EPS))
    finish_s = np.maximum(end_s, np.where(np.isfinite(start_s), start_s, steps * step) + run.path_s)
    return _forecast(run, start_s, finish_s, capacity)


def _forecast(run: RunAhead, start_s: Array, finish_s: Array, capacity: Capacity) -> RunForecast:
    horizon = len(capacity.cores) * capacity.step_s * 1000

    def instants(seconds: Array) -> tuple[datetime | None, ...]:
        values = np.quantile(np.minimum(seconds, horizon), QUANTILES, method="inverted_cdf").tolist()
        return tuple(None if v >= horizon else capacity.now + timedelta(seconds=v) for v in values)

    meets, late_usd = None, 0.0
    if run.land_by is not None:
        late_s = np.maximum(finish_s - (run.land_by - capacity.now).total_seconds(), 0.0)
        meets = float((late_s <= _EPS).mean())
        late_usd = float(np.minimum(late_s, horizon).mean()) / 60.0 * run.late_usd_per_minute
    return RunForecast(run.run_id, instants(start_s), instants(finish_s), meets, late_usd, finish_s)


def landing(
    pool: Pool, dag: str, tenant: str, due: datetime | None, land_by: datetime | None
) -> tuple[datetime | None, float]:
    """When a run is to have ended, as it says itself or else the pool's deadlines do; and USD per minute after that."""
    rule = next((d for d in pool.deadlines if d.matches(dag, tenant)), None)
    if land_by is None and rule is not None and due is not None:
        land_by = rule.after(due, pool.zone)
    usd = None if rule is None else rule.late_usd_per_minute
    return land_by, pool.objective.late_usd_per_minute if usd is None else usd


def propose_order(runs: Sequence[RunAhead], capacity: Capacity, *, swaps: int = SWAPS) -> tuple[RunAhead, ...]:
    """The order in which runs should get the capacity there is.

    Of several simple orders (as they came, earliest deadline, least slack, shortest first, longest path first) the one
    that misses fewest deadlines by expectation, then costs least lateness, then ends soonest on the whole; bettered by
    exchanging neighbours. A run of higher priority is never put behind one of lower.
    """

    def slack(r: RunAhead) -> float:
        ends = float("inf") if r.land_by is None else (r.land_by - capacity.now).total_seconds()
        return ends - float(np.mean(r.path_s))

    orders: tuple[Callable[[RunAhead], tuple[float | str, ...]], ...] = (
        lambda r: (r.ready_at.timestamp(),),
        lambda r: (r.land_by.timestamp() if r.land_by else float("inf"), r.ready_at.timestamp(), r.run_id),
        lambda r: (slack(r), r.run_id),
        lambda r: (float(np.mean(r.work_s)), r.run_id),
        lambda r: (-float(np.mean(r.path_s)), r.run_id),
    )
    tried = [sorted(sorted(runs, key=key), key=lambda r: -r.priority) for key in orders]
    best = min(tried, key=lambda order: order_score(forecast_runs(order, capacity)))
    return tuple(_exchanged(best, capacity, swaps))


def first_come(runs: Sequence[RunAhead]) -> tuple[RunAhead, ...]:
    """By priority, then as they become ready, else as they are given: what a queue does by itself."""
    return tuple(sorted(runs, key=lambda r: (-r.priority, r.ready_at)))


def _exchanged(order: list[RunAhead], capacity: Capacity, budget: int) -> list[RunAhead]:
    score, better = order_score(forecast_runs(order, capacity)), True
    while better and budget > 0:
        better = False
        for i in range(len(order) - 1):
            if order[i].priority != order[i + 1].priority or budget <= 0:
                continue
            budget -= 1
            other = [*order[:i], order[i + 1], order[i], *order[i + 2 :]]
            if (new := order_score(forecast_runs(other, capacity))) < score:
                order, score, better = other, new, True
    return order


def order_score(got: Sequence[RunForecast]) -> tuple[float, float, float]:
    """Deadlines missed by expectation, USD of lateness, mean seconds to the end of a run: less is better, in turn."""
    missed = sum(1 - f.meets for f in got if f.meets is not None)
    ends = float(np.mean([np.minimum(f.finish_s, 1e9).mean() for f in got])) if got else 0.0
    return (round(missed, 6), round(sum(f.late_usd for f in got), 6), ends)


def urgency(runs: Sequence[RunAhead], capacity: Capacity, lead_s: float) -> Array:
    """(T,) USD per core-hour that waiting costs through lateness, by the step in which a run wants its cores.

    What a run loses if it waits for `lead_s`: the rise of its expected lateness, spread over the core-hours that wait.
    Runs that share a step are averaged by the cores they want.
    """
    steps, step = len(capacity.cores), capacity.step_s
    cost, cores = np.zeros(steps), np.zeros(steps)
    if lead_s <= 0:
        return cost
    plenty = Capacity(capacity.now, step, np.full(steps, 1e9))
    for run, alone in zip(runs, [forecast_runs([r], plenty)[0] for r in runs], strict=True):
        ready_s = max((run.ready_at - capacity.now).total_seconds(), 0.0)
        first, last = int(ready_s // step), int(np.quantile(alone.finish_s, 0.5) // step) + 1
        span = slice(min(first, steps), min(last, steps))
        cores[span] += run.width
        if run.land_by is None or not run.late_usd_per_minute:
            continue
        left_s = (run.land_by - capacity.now).total_seconds()
        now_late = np.maximum(alone.finish_s - left_s, 0.0).mean()
        then_late = np.maximum(alone.finish_s + lead_s - left_s, 0.0).mean()
        usd = float(then_late - now_late) / 60.0 * run.late_usd_per_minute
        cost[span] += usd / (lead_s / 3600.0)
    return np.divide(cost, cores, out=np.zeros(steps), where=cores > 0)
