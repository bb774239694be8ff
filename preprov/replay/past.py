"""A pool's own past as a trace, and the pool as it is now: what `whatif` plays."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import numpy as np

from preprov.control.context import Context
from preprov.control.gathering import current_leads
from preprov.control.landing import landing_by
from preprov.model.errors import ConfigError
from preprov.model.offerings import Standby
from preprov.model.pools import Pool
from preprov.model.time import epoch, from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable, nominal_ready
from preprov.replay.installation import installed, within_limits
from preprov.replay.yardstick import Case

WARM_UP_S: Final = 6 * 3600.0
"""Play begins so long before the days, so that no policy starts them from nothing."""


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
        landing_by(work, seen, land_by),
        seen,
        since,
        now,
        _lands(schedules, land_by),
        most_cores=None,
        warm_up_s=WARM_UP_S,
        seed=ctx.seed,
        installation=own,
    )


def as_seen(ctx: Context, pool: Pool) -> Pool:
    """The pool with the lead times that were learnt, and with the prices in force now.

    The simulated cloud knows one lead time and one standby price a group and state: those of its first offering.
    """
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


def _lands(schedules: tuple[Schedule, ...], spans: Mapping[str, timedelta]) -> tuple[Schedule, ...]:
    """Schedules whose turns are to land so long after they are due."""
    named = [(s, spans.get(s.dag_id, spans.get("*"))) for s in schedules]
    return tuple(s if span is None else replace(s, land_by_s=span.total_seconds()) for s, span in named)
