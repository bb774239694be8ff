"""What the last days of a pool would have cost, and how long its tasks would have waited, under each policy."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from preprov.contracts import Progress
from preprov.control.context import Context
from preprov.control.gathering import current_leads
from preprov.model.errors import ConfigError
from preprov.model.plans import stable_id
from preprov.model.pools import Objective, Pool, Standby
from preprov.model.promises import Promise
from preprov.model.time import epoch, from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable, nominal_ready
from preprov.replay.frontier import OURS
from preprov.replay.installation import installed, within_limits
from preprov.replay.pace import Pace, pace_of
from preprov.replay.played import Played, Run
from preprov.replay.sweep import play
from preprov.replay.yardstick import POLICIES, Case

SLOS: Final = (0.95, 0.99)
DAYS: Final = 7.0
WARM_UP_S: Final = 6 * 3600.0
"""Play begins so long before the days, so that no policy starts them from nothing."""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Option:
    """One way to run the pool: a policy, what it is to reach, and what it came to.

    Attributes:
        objective: in words, "" for policies that have none. hit_rate: if that is what was asked for.
    """

    policy: str
    objective: str
    hit_rate: float | None
    played: Played

    @property
    def row(self) -> Mapping[str, Any]:
        """Its figures over all the days."""
        return self.played.row


@dataclass(frozen=True)
class WhatIf:
    """Options side by side.

    Attributes:
        options: the pool's own objective first among ours. bound: the clairvoyant one, rows of its curve.
        promise: what the pool's own objective would have brought. pace: how ours was played, and what that leaves out.
    """

    pool: str
    since: datetime
    until: datetime
    judged: Mapping[str, Any]
    options: Sequence[Option]
    bound: Sequence[Mapping[str, float]]
    pace: Pace
    promise: Promise | None = field(default=None)

    @property
    def days(self) -> float:
        """How long."""
        return (self.until - self.since) / _DAY

    def per_day(self, usd: float | None) -> float | None:
        """A sum over all the days, for one."""
        return None if usd is None else usd / self.days

    def slo_prices(self) -> list[dict[str, Any]]:
        """Each hit rate asked for, and what it costs a day more than the one before."""
        out: list[dict[str, Any]] = []
        asked = [(o.hit_rate, o) for o in self.options if o.hit_rate is not None]
        for rate, o in sorted(asked, key=lambda a: a[0]):
            usd = self.per_day(o.row["cost_usd"])
            before = out[-1]["usd_per_day"] if out else None
            out.append(
                {
                    "hit_rate": rate,
                    "warm_hit_ratio": o.row["warm_hit_ratio"],
                    "usd_per_day": usd,
                    "more_usd_per_day": None if usd is None or before is None else usd - before,
                }
            )
        return out

    def land_by_price(self) -> dict[str, Any] | None:
        """What landing in time costs: ours that lands most at least cost, against ours that costs least.

        None if no run has a time to land by.
        """
        ours = [o for o in self.options if o.policy == OURS and o.row["land_by_runs"] and o.row["cost_usd"] is not None]
        if not ours:
            return None
        best = min(ours, key=lambda o: (-o.row["land_by_met"], o.row["cost_usd"]))
        least = min(ours, key=lambda o: (o.row["cost_usd"], -o.row["land_by_met"]))
        return {
            "runs": best.row["land_by_runs"],
            "met": best.row["land_by_met"],
            "objective": best.objective,
            "usd_per_day": self.per_day(best.row["cost_usd"]),
            "cheapest_met": least.row["land_by_met"],
            "more_usd_per_day": self.per_day(best.row["cost_usd"] - least.row["cost_usd"]),
        }

    def sentences(self) -> list[str]:
        """The prices in words."""
        out = []
        prices = self.slo_prices()
        for before, after in pairwise(prices):
            if after["more_usd_per_day"] is not None:
                out.append(
                    f"{after['hit_rate']:.0%} warm costs {_difference(after['more_usd_per_day'])} than "
                    f"{before['hit_rate']:.0%} (in this replay {after['warm_hit_ratio']:.1%} and "
                    f"{before['warm_hit_ratio']:.1%} were)"
                )
        landing = self.land_by_price()
        if landing is not None:
            n, met, less = landing["runs"], landing["met"], landing["cheapest_met"]
            out.append(
                f"landing {round(met * n)} of {n} runs in time costs {_difference(landing['more_usd_per_day'])} than "
                f"the cheapest, which lands {round(less * n)}"
            )
        return out


def _difference(usd: float) -> str:
    return f"{usd:.2f} USD a day more" if usd >= 0 else f"{-usd:.2f} USD a day less"


def what_if(
    ctx: Context,
    pool: Pool,
    *,
    days: float = DAYS,
    policies: Sequence[str] = POLICIES,
    slos: Sequence[float] = SLOS,
    land_by: Mapping[str, timedelta] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> WhatIf:
    """Replay the pool's own last days, with its nodes, prices and the lead times that were seen.

    Args:
        ctx: the context; its present ends the days. pool: the pool.
        days: how many, at most as many as there is history for.
        policies: names, each with its default knob; preprov with the pool's objective.
        slos: hit rates that preprov is played at beside that.
        land_by: DAG -> time after a run is due within which it is to have ended; "*" = all others. None = as the runs
            themselves say.
        workers: processes.
        progress: told after each replay.

    Raises:
        ConfigError: the pool has no runs in these days.
    """
    case = case_of(ctx, pool, days, land_by or {})
    jobs = list(_jobs(case, pool, policies, slos))
    played: dict[int, Played] = {}
    for i, result in _all_played([(c, r) for c, r, _, _ in jobs], workers):
        played[i] = result
        if progress is not None:
            progress(len(played) / len(jobs), jobs[i][1].policy)
    options = [Option(run.policy, words, rate, played[i]) for i, (_, run, words, rate) in enumerate(jobs)]
    judged = options[0].played.judged if options else {}
    out = WhatIf(pool.name, case.judged_from, case.until, judged, options, case.bound(), pace_of(case))
    own = next((o for o in options if o.policy == OURS), None)
    return out if own is None else replace(out, promise=_promise(ctx, out, own))


def case_of(ctx: Context, pool: Pool, days: float, land_by: Mapping[str, timedelta]) -> Case:
    """The pool's history as a trace.

    Raises:
        ConfigError: there is none.
    """
    now = ctx.clock.now()
    work = as_if_nothing_waited(ctx.ports.work.work(pool.name, until=now), now)
    submit = work.runs["submit"].to_numpy(dtype=np.float64)
    since = now - timedelta(days=days)
    if not (submit >= epoch(since)).any():
        raise ConfigError(
            f"pool {pool.name} has no run submitted in the {days:g} days before {now:%Y-%m-%dT%H:%MZ}",
            where=pool.name,
            hint="--at an instant with history before it, or more --days",
        )
    since = max(since, from_epoch(float(submit.min())))
    schedules: tuple[Schedule, ...] = ctx.ports.work.schedules(pool.name)
    own = installed(ctx, pool)
    seen = within_limits(as_seen(ctx, pool), own.limits, own.account)
    return Case(
        pool.name,
        _landing(work, land_by),
        seen,
        since,
        now,
        schedules,
        most_cores=None,
        warm_up_s=WARM_UP_S,
        seed=ctx.seed,
        installation=own,
    )


def as_seen(ctx: Context, pool: Pool) -> Pool:
    """The pool with the lead times that were learnt, and with the prices in force now."""
    leads, now = current_leads(ctx, pool), ctx.clock.now()
    groups = []
    for g in pool.groups:
        kept = {s for s in g.standby_states if s is not Standby.RUNNING} | {Standby.COLD}
        lead = {s: leads(g.name, g.offerings[0], s) for s in kept}
        offerings = tuple(replace(o, usd_per_hour=ctx.prices.usd_per_hour(o, now)) for o in g.offerings)
        usd = {s: ctx.prices.standby_usd_per_hour(g.offerings[0], s, now) for s in kept - {Standby.COLD}}
        standby = {**{s: u for s, u in usd.items() if u is not None}, **g.standby_usd_per_hour}
        groups.append(
            replace(g, lead=MappingProxyType(lead), offerings=offerings, standby_usd_per_hour=MappingProxyType(standby))
        )
    return replace(pool, groups=tuple(groups))


def as_if_nothing_waited(work: WorkTable, now: datetime) -> WorkTable:
    """Runs that were observed, with the times they would have had: ready at due or when the last parent ended."""
    known = work.as_of(now)
    observed = (known.runs["timing"] != "nominal").to_numpy()
    if not observed.any():
        return known
    t, run = known.tasks, known.tasks["run"].to_numpy()
    took = (t["ended_at"] - t["started_at"]).to_numpy(dtype=np.float64)
    runtime = np.where(observed[run], took, t["runtime_s"].to_numpy(dtype=np.float64))
    due = known.runs["due"].fillna(known.runs["submit"]).to_numpy(dtype=np.float64)
    ready = nominal_ready(due, np.nan_to_num(runtime), run, known.parents, known.children)
    tasks = t.assign(
        runtime_s=runtime, ready_at=np.where(observed[run], ready, t["ready_at"]), started_at=np.nan, ended_at=np.nan
    )
    return WorkTable(known.runs.assign(timing="nominal"), tasks, known.parents, known.children)


def _landing(work: WorkTable, land_by: Mapping[str, timedelta]) -> WorkTable:
    if not land_by:
        return work
    other = land_by.get("*")
    spans = [land_by.get(d, other) for d in work.runs["dag_id"].astype(str)]
    seconds = np.array([np.nan if s is None else s.total_seconds() for s in spans])
    due = work.runs["due"].to_numpy(dtype=np.float64) + seconds
    said = np.where(np.isfinite(seconds), due, work.runs["land_by"].to_numpy(dtype=np.float64))
    return WorkTable(work.runs.assign(land_by=said), work.tasks, work.parents, work.children)


def _jobs(
    case: Case, pool: Pool, policies: Sequence[str], slos: Sequence[float]
) -> Iterator[tuple[Case, Run, str, float | None]]:
    """(case, run, objective in words, hit rate asked for)."""
    own = pool.objective
    for name in policies:
        if name == OURS:
            yield case, Run(1.0, name, own.shortage_usd_per_core_hour), in_words(own), own.hit_rate
        else:
            yield case, Run(1.0, name, float("nan")), "", None
    for rate in slos if OURS in policies else ():
        if rate != own.hit_rate:
            wanted = replace(own, hit_rate=rate)
            yield case.aiming_at(wanted), Run(1.0, OURS, own.shortage_usd_per_core_hour), in_words(wanted), rate


def in_words(objective: Objective) -> str:
    """What is to be reached."""
    if objective.hit_rate is not None:
        return f"hit rate {objective.hit_rate:g}"
    return f"{objective.shortage_usd_per_core_hour:g} USD per core-hour of waiting"


def _all_played(jobs: Sequence[tuple[Case, Run]], workers: int) -> Iterator[tuple[int, Played]]:
    if workers <= 1:
        for i, (case, run) in enumerate(jobs):
            yield i, play(case, run)
        return
    with ProcessPoolExecutor(min(workers, len(jobs))) as pool:
        waiting = {pool.submit(play, case, run): i for i, (case, run) in enumerate(jobs)}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _promise(ctx: Context, found: WhatIf, own: Option) -> Promise:
    row = own.row
    return Promise(
        promise_id=stable_id(found.pool, found.until.isoformat(), own.objective, found.days),
        pool=found.pool,
        at=ctx.clock.now(),
        policy=own.policy,
        objective=own.objective,
        since=found.since,
        until=found.until,
        instances=row["instances"],
        node_hours_per_day=row["node_hours"] / found.days,
        usd_per_day=found.per_day(row["cost_usd"]),
        idle_usd_per_day=found.per_day(row["idle_cost_usd"]),
        warm_hit_ratio=_known(row["warm_hit_ratio"]),
        wait_mean_s=_known(row["wait_mean_s"]),
        wait_p95_s=_known(row["wait_p95_s"]),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
