"""What the last days of a pool would have cost, and how long its tasks would have waited, under each policy."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count, pairwise
from typing import Any, Final

import numpy as np

from preprov.contracts import Progress
from preprov.control.context import Context
from preprov.model.plans import stable_id
from preprov.model.pools import Objective, Pool
from preprov.model.promises import Promise
from preprov.replay.frontier import OURS
from preprov.replay.pace import Pace, pace_of
from preprov.replay.past import case_of
from preprov.replay.played import Played, Run
from preprov.replay.sweep import play
from preprov.replay.yardstick import POLICIES, Case

SLOS: Final = (0.95, 0.99)
DAYS: Final = 7.0
LATE_USD: Final = (1.0, 10.0, 100.0)
"""Prices of a minute's lateness that are tried, until all runs land or two in a row land no more."""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Option:
    """One way to run the pool: a policy, what it is to reach, and what it came to.

    Attributes:
        objective: in words, "" for policies that have none. hit_rate: if that is what was asked for.
        late_usd_per_minute: if lateness was given a price that the pool does not give it.
    """

    policy: str
    objective: str
    hit_rate: float | None
    played: Played
    late_usd_per_minute: float | None = None

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
        """What landing in time costs: ours that lands most at least cost, against the pool's own objective.

        Tried are that one, and the same with a price on lateness. None if no run has a time to land by.
        """
        own = next((o for o in self.options if o.policy == OURS), None)
        if own is None or not own.row["land_by_runs"] or own.row["cost_usd"] is None:
            return None
        tried = [own, *(o for o in self.options if o.late_usd_per_minute is not None)]
        best = min(tried, key=lambda o: (-o.row["land_by_met"], o.row["cost_usd"]))
        return {
            "runs": best.row["land_by_runs"],
            "met": best.row["land_by_met"],
            "objective": best.objective,
            "late_usd_per_minute": best.late_usd_per_minute,
            "usd_per_day": self.per_day(best.row["cost_usd"]),
            "own_met": own.row["land_by_met"],
            "more_usd_per_day": self.per_day(best.row["cost_usd"] - own.row["cost_usd"]),
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
            n, met, own = landing["runs"], landing["met"], landing["own_met"]
            more = "; no price of lateness that was tried lands more" if met < 1 else ""
            if met == own:
                out.append(f"{round(own * n)} of {n} runs land in time as it is{more}")
            else:
                out.append(
                    f"landing {round(met * n)} of {n} runs in time costs {_difference(landing['more_usd_per_day'])} "
                    f"than as it is, which lands {round(own * n)}: {landing['late_usd_per_minute']:g} USD for each "
                    f"minute late{more}"
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
    told, most = count(1), len(jobs) + (len(LATE_USD) if OURS in policies else 0)

    def tell(policy: str) -> None:
        if progress is not None:
            progress(next(told) / most, policy)

    played: dict[int, Played] = {}
    for i, result in _all_played([(c, r) for c, r, _, _ in jobs], workers):
        played[i] = result
        tell(jobs[i][1].policy)
    options = [Option(run.policy, words, rate, played[i]) for i, (_, run, words, rate) in enumerate(jobs)]
    judged = options[0].played.judged if options else {}
    for option in _landing_options(case, pool, options):
        options.append(option)
        tell(option.policy)
    if progress is not None:
        progress(1.0, "done")
    out = WhatIf(pool.name, case.judged_from, case.until, judged, options, case.bound(), pace_of(case))
    own = next((o for o in options if o.policy == OURS), None)
    return out if own is None else replace(out, promise=_promise(ctx, out, own))


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


def _landing_options(case: Case, pool: Pool, options: Sequence[Option]) -> Iterator[Option]:
    """Ours with a rising price of lateness, until all runs land or two prices in a row land no more."""
    own = next((o for o in options if o.policy == OURS), None)
    if own is None or not own.row["land_by_runs"]:
        return
    objective, met, in_vain = pool.objective, own.row["land_by_met"], 0
    said = max(objective.late_usd_per_minute, *(d.late_usd_per_minute or 0.0 for d in pool.deadlines), 0.0)
    for usd in (p for p in LATE_USD if p > said):
        if met == 1 or in_vain == 2:
            return
        wanted = replace(objective, late_usd_per_minute=usd)
        rules = tuple(replace(d, late_usd_per_minute=None) for d in pool.deadlines)
        run = Run(1.0, OURS, objective.shortage_usd_per_core_hour)
        played = play(case.aiming_at(wanted, rules), run)
        yield Option(OURS, in_words(wanted), None, played, usd)
        in_vain = 0 if played.row["land_by_met"] > met else in_vain + 1
        met = max(met, played.row["land_by_met"])


def in_words(objective: Objective) -> str:
    """What is to be reached."""
    late = f", {objective.late_usd_per_minute:g} per minute late" if objective.late_usd_per_minute else ""
    if objective.hit_rate is not None:
        return f"hit rate {objective.hit_rate:g}{late}"
    return f"{objective.shortage_usd_per_core_hour:g} USD per core-hour of waiting{late}"


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
        land_by_met=row["land_by_met"],
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
