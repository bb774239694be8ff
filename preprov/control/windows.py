"""Recurring windows as people ask for them: added, replaced, removed. Their turns are kept by `turns`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from preprov.control.context import Context
from preprov.control.reserving import may_ask_for, must_fit_somewhere
from preprov.model.errors import ConfigError, ReservationError
from preprov.model.resources import Resources
from preprov.model.windows import RecurringWindow, seconds_of, weekday

MOST: Final = 100
"""Windows that a tenant adds in a pool by itself: every pass looks at all of them."""


@dataclass(frozen=True, slots=True)
class AskedWindow:
    """A window as it is asked for.

    Attributes:
        request: of one instance. start, end: HH:MM on the wall clock of the zone, the next day's if not later.
        days: mon, tue, …; none = all. zone: the pool's if None. priority: the tenant's if None.
        since, until: see `RecurringWindow`; a naive one is on the wall clock of the zone.
    """

    name: str
    pool: str
    tenant: str
    request: Resources
    start: str
    end: str
    days: Sequence[str] = ()
    zone: str | None = None
    count: int = 1
    lead_s: float = 0.0
    borrow: bool = False
    reclaim_s: float = 0.0
    priority: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def put(ctx: Context, asked: AskedWindow) -> RecurringWindow:
    """Keep it, in place of an earlier one of that name.

    Raises:
        ConfigError: it is no window, or there is no such pool or zone. OverbookedError: no node could ever hold it.
    """
    made = _window(ctx, asked, trusted=True)
    ctx.ports.windows.put(made)
    return made


def add(ctx: Context, asked: AskedWindow, key: str, *, trusted: bool) -> tuple[RecurringWindow, bool]:
    """Keep a new one; the same key with the same window gives the one that it made. True if it is new.

    Args:
        trusted: it may have any priority, and any number of windows.

    Raises:
        ConfigError: it is no window, or there is no such pool or zone. OverbookedError: no node could ever hold it.
        ReservationError: the name or the key is another window's, or it has a higher priority than its tenant.
    """
    made = replace(_window(ctx, asked, trusted=trusted), key=key)
    own = ctx.ports.windows.windows(tenant=made.tenant)
    if any(w.key == key and w.window_id != made.window_id for w in own):
        raise ReservationError("this key was used for another window", hint="use a new key for a new window")
    known = any(w.window_id == made.window_id for w in own)
    if not (known or trusted) and sum(w.pool == made.pool for w in own) >= MOST:
        raise ReservationError(f"{made.tenant} has {MOST} windows in the pool", where=made.pool, hint="remove some")
    held = ctx.ports.windows.add(made)
    if held != made:
        raise ReservationError(
            f"{made.tenant} has another window {made.name} in the pool", where=made.pool, hint="remove that one first"
        )
    return held, not known


def remove(ctx: Context, pool: str, tenant: str, name: str) -> None:
    """Hold it no more: its turns are given back as the controller next looks.

    Raises:
        ReservationError: there is none.
    """
    if not ctx.ports.windows.remove(pool, tenant, name):
        raise ReservationError(f"{tenant} has no window {name} in pool {pool}", hint="preprov reservation window list")


def _window(ctx: Context, asked: AskedWindow, *, trusted: bool) -> RecurringWindow:
    pool = ctx.pool(asked.pool)
    zone = known_zone(asked.zone or pool.zone)
    made = RecurringWindow(
        name=asked.name,
        pool=pool.name,
        tenant=asked.tenant,
        request=asked.request,
        start_s=seconds_of(asked.start),
        end_s=seconds_of(asked.end),
        zone=zone,
        weekdays=frozenset(weekday(d) for d in asked.days) or frozenset(range(7)),
        count=asked.count,
        lead_s=asked.lead_s,
        borrow=asked.borrow,
        reclaim_s=asked.reclaim_s,
        priority=may_ask_for(ctx, pool.name, asked.tenant, asked.priority, trusted=trusted),
        since=_in_zone(asked.since, zone),
        until=_in_zone(asked.until, zone),
    )
    must_fit_somewhere(pool, made.request)
    return made


def _in_zone(at: datetime | None, zone: str) -> datetime | None:
    return at.replace(tzinfo=ZoneInfo(zone)) if at is not None and at.tzinfo is None else at


def known_zone(zone: str) -> str:
    """The zone of that name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return ZoneInfo(zone).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"unknown time zone {zone!r}", hint="Europe/Berlin, UTC") from None
