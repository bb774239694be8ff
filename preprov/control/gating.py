"""The gate before a pool's first raise and before its first end: what has been shown, and what is still missing."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import fmean
from typing import Final
from zoneinfo import ZoneInfo

from preprov.control.context import Context
from preprov.control.remembering import remembered
from preprov.model.adoption import Gate
from preprov.model.plans import Action, ActionKind, ActionRecord, CapacityPlan, stable_id
from preprov.model.pools import Mode, Pool

GUARDED: Final = "guarded"
"""Result of the row that says that a guard held something back."""
_GUARDS: Final = ("max_nodes", "max_usd_per_hour", "max_usd_per_day", "max_launches_per_minute", "stale_source")
_FRESH: Final = timedelta(minutes=10)
_HOURS: Final = 12
"""A night, noon to noon, counts if the pool was looked at in so many of its hours."""
_EXTRA: Final = 3
"""Nights that may be missing in between."""


@dataclass(frozen=True)
class Shown:
    """What a pool has shown so far.

    Attributes:
        nights: nights observed lately. coverage: over the last of them, None = no forecast was scored.
        hits: guards that held something back in that time.
        missing: mode -> what it still lacks; empty = it is open.
    """

    nights: int
    coverage: float | None
    hits: tuple[str, ...]
    missing: dict[Mode, tuple[str, ...]]

    @property
    def earned(self) -> Mode:
        """As far as the gate is open."""
        if self.missing[Mode.FLOOR]:
            return Mode.RECOMMEND
        return Mode.FLOOR if self.missing[Mode.FULL] else Mode.FULL


def shown(ctx: Context, pool: Pool) -> Shown:
    """What the pool has shown, looked at anew every ten minutes; one without a gate has nothing to show."""
    if pool.gate is None:
        return Shown(0, None, (), {Mode.FLOOR: (), Mode.FULL: ()})
    gate = pool.gate
    return remembered(ctx, (pool.name, "gate"), _FRESH, lambda: _shown(ctx, pool, gate))


def _shown(ctx: Context, pool: Pool, gate: Gate) -> Shown:
    now = ctx.clock.now()
    most = max(gate.floor_nights, gate.full_nights)
    since = now - timedelta(days=most + _EXTRA)
    nights = observed_nights(ctx.ports.history.instants(pool.name, since=since), pool.zone)
    scores = [s.coverage80 for s in ctx.ports.learning.scores(pool.name, since=since) if s.coverage80 is not None]
    coverage = fmean(scores) if scores else None
    rows = ctx.ports.audit.records(pool.name, since=since)
    hits = tuple(dict.fromkeys(r.detail for r in rows if r.result == GUARDED))
    wanted = {Mode.FLOOR: gate.floor_nights, Mode.FULL: gate.full_nights}
    missing = {m: tuple(_lacks(n, nights, gate.coverage, coverage, hits)) for m, n in wanted.items()}
    return Shown(nights, coverage, hits, missing)


def observed_nights(instants: Iterable[datetime], zone: str) -> int:
    """Nights, noon to noon in that zone, that were looked at in most of their hours."""
    hours: set[tuple[date, int]] = set()
    for at in instants:
        local = at.astimezone(ZoneInfo(zone))
        hours.add(((local - timedelta(hours=12)).date(), local.hour))
    return sum(n >= _HOURS for n in Counter(night for night, _ in hours).values())


def _lacks(wanted: int, nights: int, least: float, coverage: float | None, hits: tuple[str, ...]) -> Iterable[str]:
    if nights < wanted:
        yield f"nights to observe: {nights} of {wanted} so far"
    if wanted and least > 0 and coverage is None:
        yield "a scored forecast: none has met what came yet"
    elif wanted and coverage is not None and coverage < least:
        yield f"coverage of {least:.0%}: the 80 % interval held {coverage:.0%} of what came"
    if wanted and hits:
        yield f"nights without a guard hit: {'; '.join(hits)}"


def note_guards(ctx: Context, pool: Pool, plan: CapacityPlan, held_back: Iterable[str], *, stale: bool) -> None:
    """Put down which guards held a plan back, once an hour each."""
    now = ctx.clock.now()
    names = dict.fromkeys(n for n in (*held_back, *(("stale_source",) if stale else ())) if n.split(" ")[0] in _GUARDS)
    for name in names:
        key = (pool.name, "guarded", name)
        last = ctx.memo.get(key)
        if last is not None and now - last[0] < timedelta(hours=1):
            continue
        ctx.memo[key] = (now, None)
        ctx.ports.audit.record(guard_row(ctx, pool, plan.plan_id, name))


def guard_row(ctx: Context, pool: Pool, plan_id: str, name: str) -> ActionRecord:
    """The row that says so."""
    now = ctx.clock.now()
    action = Action(
        action_id=stable_id(pool.name, "guard", name, now.isoformat()),
        kind=ActionKind.HOLD,
        at=now,
        group=pool.groups[0].name,
        count=0,
        reason="a guard holds back what the plan wants",
    )
    return ActionRecord(action, pool.name, plan_id, ctx.actor, now, GUARDED, name)
