"""Time zones of files: old names made new, plain offsets, and the zone that a set of crons betrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

# One name for each common rule, so that an inferred zone carries a name people know.
_WELL_KNOWN: Final = (
    "UTC",
    "Europe/Zurich",
    "Europe/London",
    "Europe/Athens",
    "Europe/Moscow",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Phoenix",
    "America/Los_Angeles",
    "America/Anchorage",
    "America/Halifax",
    "America/Sao_Paulo",
    "Pacific/Honolulu",
    "Asia/Jerusalem",
    "Asia/Dubai",
    "Asia/Karachi",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Dhaka",
    "Asia/Bangkok",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Australia/Brisbane",
    "Australia/Adelaide",
    "Australia/Darwin",
    "Pacific/Auckland",
)
_T = TypeVar("_T")
_PER_CRON: Final = 12
_LOOKS: Final = 240
_FIRST_LOOK: Final = 24


def canonical_zone(name: str) -> str | None:
    """Today's IANA name for a zone of any age (US/Pacific -> America/Los_Angeles); None if there is no such zone."""
    name = name.strip().strip(":\"'")
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
    if name in _country_zones():
        return name
    target = _links().get(name, name)
    return "UTC" if target in ("Etc/UTC", "Etc/GMT") else target


def offset_zone(seconds: int) -> str | None:
    """An IANA zone that is always `seconds` east of Greenwich; None if there is none.

    Whole hours have their Etc zone (whose sign is the other way round); others take a place that never changes clocks.
    """
    if seconds == 0:
        return "UTC"
    hours, rest = divmod(seconds, 3600)
    if not rest:
        name = f"Etc/GMT{-hours:+d}"
        return name if name in available_timezones() else None
    seasons = [datetime(2020, month, 1, tzinfo=UTC) for month in (1, 4, 7, 10)]
    offset = timedelta(seconds=seconds)
    fits = [z for z in _candidates(()) if all(t.astimezone(ZoneInfo(z)).utcoffset() == offset for t in seasons)]
    return fits[0] if fits else None


@cache
def _country_zones() -> frozenset[str]:
    text = files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    return frozenset(line.split("\t")[2].strip() for line in text.splitlines() if line and not line.startswith("#"))


@cache
def _links() -> dict[str, str]:
    text = files("tzdata").joinpath("zoneinfo", "tzdata.zi").read_text(encoding="utf-8")
    return {new: old for kind, old, new in (x.split() for x in text.splitlines() if x.startswith("L ")) if kind}


def _candidates(likely: Sequence[str]) -> list[str]:
    """All zones, the likely and the well-known first."""
    rest = sorted(_country_zones() & available_timezones())
    return list(dict.fromkeys((*likely, *_WELL_KNOWN, *rest)))


@dataclass(frozen=True, slots=True)
class ZoneGuess:
    """The zone in which the crons meant what they did.

    Attributes:
        zone: best zone. share: of the turns looked at that are turns of their cron there.
        alike: how many zones had the very same offsets at these turns; ambiguous: others do as well with other offsets.
    """

    zone: str
    share: float
    alike: int
    ambiguous: bool

    def __str__(self) -> str:
        text = f"zone {self.zone}: {self.share:.0%} of the scheduled turns are turns of their cron there"
        if self.ambiguous:
            return f"{text}, and in other zones too: give --tz to be sure"
        return f"{text} ({self.alike - 1} other zones had the same clock then)" if self.alike > 1 else text


def infer_zone(turns: Iterable[tuple[str, datetime]], likely: Sequence[str] = ()) -> ZoneGuess | None:
    """Find the zone whose wall clock makes each instant a turn of its cron.

    Zones are told apart by their offsets at these instants, so one that changes its clocks between two turns is told
    from one that does not. Among zones with the same clock the likely ones win, then UTC and well-known names.

    Args:
        turns: (cron, the aware instant it meant), any order.
        likely: zones to prefer where the turns cannot tell.

    Returns:
        None if there are no turns.
    """
    pairs = _sample(turns)
    if not pairs:
        return None
    clocks: dict[tuple[timedelta | None, ...], list[str]] = {}
    for zone in _candidates([z for z in map(canonical_zone, likely) if z]):
        tz = ZoneInfo(zone)
        clocks.setdefault(tuple(at.astimezone(tz).utcoffset() for _, at in pairs), []).append(zone)
    some = range(0, len(pairs), max(1, len(pairs) // _FIRST_LOOK))
    first = {offsets: _hits(pairs, offsets, some) for offsets in clocks}
    good = [o for o, hits in first.items() if hits >= max(first.values()) - 1]
    scores = {o: _hits(pairs, o, range(len(pairs))) for o in good}
    best = max(scores.values())
    winners = [o for o, hits in scores.items() if hits == best]
    return ZoneGuess(clocks[winners[0]][0], best / len(pairs), len(clocks[winners[0]]), len(winners) > 1)


def is_turn(cron: str, at: datetime, zone: str) -> bool:
    """True if the instant is a turn of the cron (five fields) in that zone, as its wall clock goes just then."""
    return _is_turn(cron, at.astimezone(UTC) + (at.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()))


def _sample(turns: Iterable[tuple[str, datetime]]) -> list[tuple[str, datetime]]:
    """A few turns of each cron, spread over the whole time, seconds cut off; in order of time."""
    by_cron: dict[str, list[datetime]] = {}
    for cron, at in sorted(set(turns)):
        by_cron.setdefault(cron, []).append(at.replace(second=0, microsecond=0))
    few = [(cron, at) for cron, all_of in by_cron.items() for at in _spread(all_of, _PER_CRON)]
    return _spread(sorted(few, key=lambda p: (p[1], p[0])), _LOOKS)


def _spread(items: Sequence[_T], most: int) -> list[_T]:
    """At most `most` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _hits(pairs: Sequence[tuple[str, datetime]], offsets: Sequence[timedelta | None], which: Iterable[int]) -> int:
    return sum(_is_turn(pairs[i][0], pairs[i][1] + (offsets[i] or timedelta())) for i in which)


@lru_cache(maxsize=1 << 16)
def _is_turn(cron: str, wall: datetime) -> bool:
    """True if the wall clock is a turn of the cron; it is carried as if it were UTC, where no clock ever changes."""
    from cronsim import CronSim, CronSimError

    try:
        return bool(next(CronSim(cron, wall - timedelta(minutes=1))) == wall)
    except (CronSimError, StopIteration):
        return False
