"""Days kept out of training: recognised and reviewed with every refit, or named and lifted by a person."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import structlog

from preprov.control.context import Context
from preprov.demand.watching.anomalies import AnomalySettings, anomalous_days
from preprov.demand.watching.days import special_days
from preprov.model.errors import ConfigError
from preprov.model.learning import DETECTOR, QuarantinedDay
from preprov.model.pools import Pool
from preprov.model.series import SeriesHistory

log = structlog.get_logger(__name__)

SETTINGS = AnomalySettings()


@dataclass(frozen=True)
class Review:
    """What a look at the history changed. held: the days in force afterwards."""

    added: tuple[QuarantinedDay, ...] = ()
    lifted: tuple[QuarantinedDay, ...] = ()
    held: tuple[QuarantinedDay, ...] = ()


def quarantined_days(ctx: Context, pool: str) -> frozenset[date]:
    """Days, in the pool's zone, that are not learnt from at the context's present."""
    now = ctx.clock.now()
    return frozenset(
        d.day
        for d in ctx.ports.learning.quarantined(pool)
        if d.at <= now and (d.lifted_at is None or d.lifted_at > now)
    )


def review(ctx: Context, pool: Pool, history: SeriesHistory) -> Review:
    """Look for anomalous days, put new ones into quarantine, and lift what looks ordinary by now.

    A day that was strange when it came may be the first of a new level: it is lifted when the level has stayed. What a
    person said holds: a day that a person put there is not lifted, one that a person lifted is not put there again.

    Args:
        ctx: the context; its present is when this happens.
        pool: the pool. history: what is learnt from, until now.
    """
    now = ctx.clock.now()
    found = {
        a.day: a
        for a in anomalous_days(history, holidays=special_days(history, pool.country), settings=SETTINGS, seed=ctx.seed)
    }
    held = {d.day: d for d in ctx.ports.learning.quarantined(pool.name)}
    judged = now.astimezone(ZoneInfo(pool.zone)).date() - timedelta(days=SETTINGS.look_back - 1)
    added = tuple(
        QuarantinedDay(pool.name, day, one.reason, DETECTOR, now)
        for day, one in found.items()
        if day not in held or (not held[day].in_force and held[day].lifted_by == DETECTOR)
    )
    lifted = tuple(
        replace(d, lifted_at=now, lifted_by=DETECTOR, lift_reason="by now it is like the days around it")
        for d in held.values()
        if d.in_force and d.actor == DETECTOR and d.day not in found and d.day >= judged
    )
    for change in (*added, *lifted):
        ctx.ports.learning.quarantine(change)
        held[change.day] = change
        why = change.reason if change.in_force else change.lift_reason
        log.info("quarantine", pool=pool.name, day=change.day.isoformat(), in_force=change.in_force, why=why)
    return Review(added, lifted, tuple(d for _, d in sorted(held.items()) if d.in_force))


def put_in_quarantine(ctx: Context, pool: Pool, day: date, reason: str) -> QuarantinedDay:
    """A person keeps a day out of training.

    Raises:
        ConfigError: the day has not begun.
    """
    now = ctx.clock.now()
    if day > now.astimezone(ZoneInfo(pool.zone)).date():
        raise ConfigError(f"{day} has not come yet", where=pool.name, hint="a day of the past can be kept out")
    made = QuarantinedDay(pool.name, day, reason, ctx.actor, now)
    ctx.ports.learning.quarantine(made)
    return made


def lift(ctx: Context, pool: Pool, day: date, reason: str) -> QuarantinedDay:
    """A person has a day learnt from again; it is not recognised a second time.

    Raises:
        ConfigError: it is not in quarantine.
    """
    held = {d.day: d for d in ctx.ports.learning.quarantined(pool.name) if d.in_force}
    if day not in held:
        known = ", ".join(d.isoformat() for d in held) or "none"
        raise ConfigError(f"{day} is not in quarantine", where=pool.name, hint=f"in quarantine: {known}")
    made = replace(held[day], lifted_at=ctx.clock.now(), lifted_by=ctx.actor, lift_reason=reason)
    ctx.ports.learning.quarantine(made)
    return made
