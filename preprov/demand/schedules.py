"""Turns of declared schedules: cron in its own zone, changes of clocks as Debian's cron treats them."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from preprov.model.errors import ConfigError
from preprov.model.series import zone_of
from preprov.model.time import aware, from_epoch
from preprov.model.work import Schedule

_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_EPOCH: Final = from_epoch(0)
_MARGIN: Final = timedelta(hours=3)
_BLOCK: Final = timedelta(days=4)
_SHORTEST_S: Final = 1.0


def turns(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """Instants in [start, end) at which the schedule is due, in UTC, oldest first.

    A fixed time that a change of clocks skips is moved to the end of the gap, one that it repeats comes once; turns of
    every hour or minute follow the clock through both. None before `schedule.since`, none while it is paused.

    Raises:
        ConfigError: the cron or the zone cannot be understood, or turns follow each other closer than a second.
    """
    if schedule.paused:
        return []
    first = aware(start, "start")
    if schedule.since is not None:
        first = max(first, aware(schedule.since, "since"))
    last = aware(end, "end")
    if first >= last:
        return []
    found = {t for t in _by_cron(schedule, first, last) if first <= t < last}
    found.update(t.astimezone(UTC) for t in schedule.turns if first <= t < last)
    if schedule.every_s and schedule.anchor is not None:
        found.update(_evenly(aware(schedule.anchor, "anchor"), schedule.every_s, first, last))
    return sorted(found)


def _evenly(anchor: datetime, every_s: float, first: datetime, last: datetime) -> Iterator[datetime]:
    """Whole distances from the anchor, to both sides of it."""
    if every_s < _SHORTEST_S:
        raise ConfigError(f"a turn every {every_s:g} s is no schedule", hint=f"{_SHORTEST_S:g} s at least")
    number = math.ceil((first - anchor).total_seconds() / every_s)
    while (turn := anchor + timedelta(seconds=number * every_s)) < last:
        yield turn.astimezone(UTC)
        number += 1


def _by_cron(schedule: Schedule, first: datetime, last: datetime) -> Iterator[datetime]:
    """Turns of the cron in whole blocks of days around [first, last): a block that was walked once is not again."""
    if schedule.cron:
        for number in range((first - _EPOCH) // _BLOCK, -((_EPOCH - last) // _BLOCK)):
            yield from _block(schedule.cron, schedule.zone, number)


@lru_cache(maxsize=16_384)
def _block(cron: str, zone: str, number: int) -> tuple[datetime, ...]:
    first = _EPOCH + number * _BLOCK
    expression = _ALIASES.get(cron.strip().lower(), cron.strip())
    local = zone_of(zone, cron)
    try:
        return _walk(expression, local, first, first + _BLOCK)
    except CronSimError as error:
        raise ConfigError(
            f"cron {cron!r} cannot be understood: {error}",
            where=zone,
            hint="five fields: minute hour day month weekday",
        ) from error


def _walk(expression: str, local: ZoneInfo, first: datetime, last: datetime) -> tuple[datetime, ...]:
    out: list[datetime] = []
    # Begun before any change of clocks that `first` may stand in the middle of: from inside it the iterator errs.
    for turn in CronSim(expression, (first - _MARGIN).astimezone(local)):
        when = turn.astimezone(UTC)
        if when >= last:
            break
        if when >= first:
            out.append(when)
    return tuple(out)
