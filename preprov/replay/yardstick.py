"""The published comparison: reference nodes, judged window, knobs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from preprov.model.errors import SourceError
from preprov.model.limits import Deadline
from preprov.model.pools import Mode, Objective, Pool
from preprov.model.reference import reference_pool
from preprov.model.time import aware, from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from preprov.replay.bound import lower_bound
from preprov.replay.engine import WARM_UP_S, history_of, replay, scaled
from preprov.replay.installation import ALONE, Installation
from preprov.replay.policy import DemandHistory
from preprov.replay.registry import make_policy
from preprov.replay.result import ReplayResult
from preprov.sim.workstore import by_submit

HISTORY_SHARE: Final = 0.6
JUDGED_DAYS: Final = 14.0
MOST_CORES: Final = 2000.0
"""Rows that want more in all are left out of the headline."""
LEAD_SCALES: Final = (0.5, 1.0, 2.0)
POLICIES: Final = (
    "reactive",
    "reactive-max",
    "reactive-max-1h",
    "reactive-max-3h",
    "static-running",
    "static-stopped",
    "schedule",
    "aws-predictive",
    "pooling-quantile",
    "preprov",
    "clairvoyant",
)
DEMO_POLICIES: Final = ("preprov", "reactive", "always-on", "clairvoyant")

_QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_SHARES: Final = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0)
_KNOBS: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        "reactive": (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0),
        "schedule": _QUANTILES,
        "pooling-quantile": _QUANTILES,
        "aws-predictive": (1.5, 1.2, 1.0, 0.8, 0.7, 0.6, 0.45, 0.3),
        "preprov": (0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
        "clairvoyant": (0.05, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99),
    }
)
_FROM_ZERO: Final = ("reactive-max", "reactive-max-1h", "reactive-max-3h")
_OF_PEAK: Final = (*_FROM_ZERO, "static-running", "always-on", "static-stopped")


def yardstick_pool(name: str, *, zone: str = "UTC", max_nodes: int = 100_000) -> Pool:
    """The pool of reference nodes, in mode full."""
    return reference_pool(name, mode=Mode.FULL, zone=zone, max_nodes=max_nodes)


def knobs(policy: str, peak_nodes: float) -> tuple[float, ...]:
    """At least eight settings of a policy's knob; counts of nodes are shares of the most that history wanted.

    A policy that is not known here is played as it comes (NaN = its default).
    """
    if policy in _KNOBS:
        return _KNOBS[policy]
    if policy not in _OF_PEAK:
        return (math.nan,)
    counts = [0.0] if policy in _FROM_ZERO else []
    for share in _SHARES:
        least = counts[-1] + 1 if counts else 1.0
        counts.append(max(math.ceil(peak_nodes * share), least))
    return tuple(counts)


def judged_window(
    work: WorkTable,
    *,
    zone: str = "UTC",
    days: float | None = 14.0,
    last_days: bool = False,
    until: datetime | None = None,
) -> tuple[datetime, datetime]:
    """(from, until): the first 60 % of the log is history, the next days are judged, from a midnight if that can be.

    Args:
        work: the log.
        zone: whose midnight.
        days: how many days are judged; None = all the rest.
        last_days: judge the last `days` instead.
        until: an end that somebody chose.

    Raises:
        SourceError: the log holds no run.
    """
    submit = work.runs["submit"].to_numpy(dtype=np.float64)
    if not len(submit):
        raise SourceError("the trace holds no run")
    _, ends = work.spans()
    first, last = float(submit.min()), float(np.nanmax(np.append(ends, submit.max())))
    end = aware(until) if until else from_epoch(last)
    if last_days and days is not None:
        end = min(end, _next_midnight(from_epoch(float(submit.max())), zone))
        return max(end - timedelta(days=days), from_epoch(first)), end
    begin = from_epoch(first + HISTORY_SHARE * (float(submit.max()) - first))
    begin = min(_next_midnight(begin, zone), end)
    if begin >= end - timedelta(hours=1):
        begin = from_epoch(first + HISTORY_SHARE * (last - first))
    return begin, end if days is None else min(end, begin + timedelta(days=days))


def _next_midnight(at: datetime, zone: str) -> datetime:
    local = at.astimezone(ZoneInfo(zone))
    day = local.replace(hour=0, minute=0, second=0, microsecond=0)
    return aware(day if day == local else day + timedelta(days=1))


@dataclass(frozen=True)
class Case:
    """A trace and how it is judged.

    Attributes:
        work: by submit. schedules: declared ones a policy may know; none = recurrence is hidden.
        most_cores: rows that want more are left out; None = all are in.
        installation: what else binds ours.
        memo: what replays of this case need not work out again.
    """

    name: str
    work: WorkTable
    pool: Pool
    judged_from: datetime
    until: datetime
    schedules: tuple[Schedule, ...] = ()
    most_cores: float | None = MOST_CORES
    warm_up_s: float = WARM_UP_S
    seed: int = 0
    installation: Installation = ALONE
    history: DemandHistory = field(init=False)
    memo: dict[tuple[object, ...], object] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "work", by_submit(self.work))
        object.__setattr__(self, "history", history_of(self.work, self.pool, self.most_cores))

    def aiming_at(self, objective: Objective, deadlines: tuple[Deadline, ...] | None = None) -> "Case":
        """The same for a pool that is to reach something else; deadlines None = as they are."""
        rules = self.pool.deadlines if deadlines is None else deadlines
        other = replace(self, pool=replace(self.pool, objective=objective, deadlines=rules))
        object.__setattr__(other, "memo", self.memo)  # nothing in it hangs on what is to be reached
        return other

    @property
    def peak_nodes(self) -> float:
        """The most nodes that history wanted at once."""
        return float(self.history.until(self.judged_from.timestamp()).max(initial=0.0))

    def play(self, policy: str, knob: float | None = None, lead_scale: float = 1.0) -> ReplayResult:
        """One replay."""
        return replay(
            self.work,
            self.pool,
            make_policy(policy, None if knob is None or math.isnan(knob) else knob),
            judged_from=self.judged_from,
            until=self.until,
            schedules=self.schedules,
            lead_scale=lead_scale,
            seed=self.seed,
            warm_up_s=self.warm_up_s,
            most_cores=self.most_cores,
            history=self.history,
            memo=self.memo,
            installation=self.installation,
        )

    def bound(self, lead_scale: float = 1.0) -> list[dict[str, float]]:
        """The clairvoyant bound, rows mean_wait_s, mean_delay_s, cost_usd."""
        made = lower_bound(
            self.work,
            scaled(self.pool, lead_scale),
            judged_from=self.judged_from,
            until=self.until,
            most_cores=self.most_cores,
        )
        return made.curve()


def compare(case: Case, policies: Sequence[str] = DEMO_POLICIES, *, lead_scale: float = 1.0) -> dict[str, Any]:
    """Each policy with its default knob, over one slice.

    Returns:
        judged (from, to, instances, left_out), policies (name -> figures), clairvoyant (the bound), results
        (name -> ReplayResult, for pictures; leave it out of JSON).
    """
    results = {name: case.play(name, lead_scale=lead_scale) for name in policies}
    return {
        "judged": judged_of(case, next(iter(results.values()), None)),
        "policies": {name: r.row() for name, r in results.items()},
        "clairvoyant": case.bound(lead_scale),
        "results": results,
    }


def judged_of(case: Case, result: ReplayResult | None) -> dict[str, Any]:
    """What was judged: from, to, instances, left_out by reason."""
    return {
        "from": case.judged_from.isoformat(),
        "to": case.until.isoformat(),
        "instances": result.waits.instances if result else 0,
        "left_out": dict(result.left_out) if result else {},
    }
