"""The zone a DAG's crons are read in: Airflow tells the DAG's own, and a timetable may have another.

`CronTriggerTimetable("0 6 * * *", timezone="Europe/Zurich")` in a DAG that begins in UTC is told as `0 6 * * *` and
UTC. Only the next run, which Airflow works out itself, betrays the zone.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from preprov.model.time import from_epoch
from preprov.sources.airflow.shapes import DagShape
from preprov.sources.zones import infer_zone, is_turn, offset_zone

NOWHERE: Final = "?"
"""Clock of crons of which the next run is no turn in any zone."""
_OFFSET: Final = re.compile(r"(?:UTC|GMT)?([+-])(\d\d):?(\d\d)")
_FIXED: Final = re.compile(r"FixedTimezone\((-?\d+)\b.*\)")
_NEAR: Final = timedelta(hours=3)
_NAMED: Final = 5
_PUBLISH: Final = "the provider's DAG preprov_publish_timetables tells them all"


@lru_cache(maxsize=256)
def known_zone(name: str) -> str:
    """The IANA zone of one that Airflow names, a plain offset too; "" where there is none."""
    if name in available_timezones():
        return name
    if fixed := _FIXED.fullmatch(name):
        return offset_zone(int(fixed[1])) or ""
    if offset := _OFFSET.fullmatch(name):
        seconds = int(offset[2]) * 3600 + int(offset[3]) * 60
        return offset_zone(-seconds if offset[1] == "-" else seconds) or ""
    return ""


def reads_in(shape: DagShape | None) -> str:
    """The zone of the DAG's crons, "" = none that is known."""
    if shape is None or shape.clock == NOWHERE:
        return ""
    return shape.clock or known_zone(shape.zone)


def settled(crons: Sequence[str], next_run: float, shape: DagShape, likely: Sequence[str]) -> str:
    """What `shape.clock` is to be, now that the next run (epoch seconds, NaN = none is told) is seen.

    The zone it was, the DAG's own, UTC, then the likely ones come first; one alone of all others follows from an
    instant only as far as their clocks agree just then, so it may be taken anew when they change.

    Args:
        crons: five fields each.
    """
    if not crons or next_run != next_run:
        return shape.clock
    own = known_zone(shape.zone)
    known = [z for z in (reads_in(shape), own, "UTC", *likely) if z]
    found = _zone(tuple(crons), next_run, tuple(dict.fromkeys(known)))
    return "" if found and found == own else found or NOWHERE


@lru_cache(maxsize=16_384)
def _zone(crons: tuple[str, ...], turn: float, known: tuple[str, ...]) -> str:
    for zone in known:
        if _clocks_change(turn, zone) or any(is_turn(c, from_epoch(turn), zone) for c in crons):
            return zone
    if turn % 60.0:
        return ""
    guesses = (infer_zone([(c, from_epoch(turn))], known) for c in crons)
    return next((g.zone for g in guesses if g is not None and g.share >= 1.0), "")


def _clocks_change(turn: float, zone: str) -> bool:
    """Near the turn: which one a cron then has is decided by rules that differ, so it tells nothing."""
    at, local = from_epoch(turn), ZoneInfo(zone)
    return (at - _NEAR).astimezone(local).utcoffset() != (at + _NEAR).astimezone(local).utcoffset()


def notes(clocks: Mapping[str, str]) -> tuple[str, ...]:
    """What is said of DAGs (id -> `shape.clock`) whose crons are not read in their own zone."""
    by_clock: dict[str, list[str]] = {}
    for dag_id, clock in sorted(clocks.items()):
        by_clock.setdefault(clock, []).append(dag_id)
    return tuple(_note(clock, dags) for clock, dags in sorted(by_clock.items()))


def _note(clock: str, dags: Sequence[str]) -> str:
    more = f" and {len(dags) - _NAMED} more" if len(dags) > _NAMED else ""
    named = ", ".join(dags[:_NAMED]) + more
    if clock == NOWHERE:
        return f"{named}: the next run is no turn of the cron in any zone, so no further one is foreseen ({_PUBLISH})"
    return f"{named}: the cron is read in {clock}, for the next run is a turn of it there and not in the DAG's zone"
