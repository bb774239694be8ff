"""Recurring windows: a share of a pool that is a tenant's from one wall-clock time to another, on its weekdays."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from preprov.model.errors import ConfigError
from preprov.model.plans import stable_id
from preprov.model.resources import Resources
from preprov.model.time import aware

_DAY_S: Final = 86400
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Turn:
    """One time that a window comes round: [start, end)."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class RecurringWindow:
    """What is held, for whom, and when.

    Attributes:
        name: unique in its pool and tenant.
        request: of one instance. count: instances; each is held on a node of its own choice.
        start_s, end_s: seconds of the day on the wall clock of `zone`; an end at or before the start is the next day's.
        weekdays: 0 = Monday, of the start.
        lead_s: it is warm this long before its start.
        borrow: until its start, others may use the room for what should have ended by then.
        reclaim_s: this long before the start nobody else begins anything in it. What runs there is never ended.
        since, until: no turn starts before the one, nor at or after the other; None = no limit.
        key: of the request that made it, by which it is known again; empty = none.
    """

    name: str
    pool: str
    tenant: str
    request: Resources
    start_s: int
    end_s: int
    zone: str = "UTC"
    weekdays: frozenset[int] = frozenset(range(7))
    count: int = 1
    lead_s: float = 0.0
    borrow: bool = False
    reclaim_s: float = 0.0
    priority: int = 0
    since: datetime | None = None
    until: datetime | None = None
    reason: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.start_s < _DAY_S and 0 <= self.end_s <= _DAY_S):
            raise ConfigError(f"window {self.name}: times of day lie between 00:00 and 24:00")
        if not self.weekdays or not self.weekdays <= frozenset(range(7)):
            raise ConfigError(f"window {self.name}: it comes round on no day of the week", hint="mon … sun")
        if self.count < 1 or self.request.is_zero:
            raise ConfigError(f"window {self.name}: it holds nothing")
        if self.lead_s < 0 or self.reclaim_s < 0:
            raise ConfigError(f"window {self.name}: lead and reclaim are not negative")
        if self.borrow and self.reclaim_s > self.lead_s:
            raise ConfigError(
                f"window {self.name}: it is reclaimed before it is warm",
                hint="reclaim is at most lead: others borrow between the two",
            )
        for name in ("since", "until"):
            at = getattr(self, name)
            if at is not None:
                object.__setattr__(self, name, aware(at, name))
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ConfigError(f"window {self.name}: it is over before it begins", hint="until is after since")

    @property
    def window_id(self) -> str:
        """Says which it is without its tenant's and its own name."""
        return stable_id("window", self.pool, self.tenant, self.name)

    @property
    def held_s(self) -> float:
        """How long before its start the room is the tenant's alone, as far as nobody works in it still."""
        return self.reclaim_s if self.borrow else self.lead_s

    def turns(self, after: datetime, before: datetime) -> tuple[Turn, ...]:
        """Turns that end after `after` and start before `before`.

        A wall-clock time that a change of clocks skips is as much later as they go forward; one that comes twice
        is the first.
        """
        zone = ZoneInfo(self.zone)
        day = (after.astimezone(zone) - timedelta(days=2)).date()
        out = []
        while (turn := self._turn(datetime(day.year, day.month, day.day, tzinfo=zone))).start < before:
            if day.weekday() in self.weekdays and turn.end > after and self._is_due(turn):
                out.append(turn)
            day += timedelta(days=1)
        return tuple(out)

    def as_dict(self) -> dict[str, Any]:
        """In plain values, as people write them: times of day as HH:MM, days by name."""
        return {
            "window_id": self.window_id,
            "name": self.name,
            "pool": self.pool,
            "tenant": self.tenant,
            "request": self.request.as_dict(),
            "count": self.count,
            "start": clock_of(self.start_s),
            "end": clock_of(self.end_s),
            "tz": self.zone,
            "days": [weekday_name(d) for d in sorted(self.weekdays)],
            "lead_s": self.lead_s,
            "borrow": self.borrow,
            "reclaim_s": self.reclaim_s,
            "priority": self.priority,
            "since": self.since,
            "until": self.until,
        }

    def _turn(self, midnight: datetime) -> Turn:
        later = 1 if self.end_s <= self.start_s else 0
        start = aware(midnight + timedelta(seconds=self.start_s))
        end = aware(midnight + timedelta(days=later, seconds=self.end_s))
        return Turn(start, max(end, start + timedelta(minutes=1)))

    def _is_due(self, turn: Turn) -> bool:
        started = self.since is None or turn.start >= self.since
        return started and (self.until is None or turn.start < self.until)


def weekday(name: str) -> int:
    """0 for mon, 6 for sun.

    Raises:
        ConfigError: it is no day.
    """
    try:
        return _DAYS.index(name[:3].lower())
    except ValueError:
        raise ConfigError(f"{name!r} is no day of the week", hint=", ".join(_DAYS)) from None


def weekday_name(day: int) -> str:
    """Mon for 0, sun for 6."""
    return _DAYS[day]


def clock_of(seconds: int) -> str:
    """HH:MM for seconds after midnight."""
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}"


def seconds_of(clock: str) -> int:
    """Seconds after midnight for HH:MM, 24:00 included.

    Raises:
        ConfigError: it is no time of day.
    """
    hours, _, minutes = clock.partition(":")
    if not (hours.isdecimal() and minutes.isdecimal() and int(hours) <= 24 and int(minutes) < 60):
        raise ConfigError(f"{clock!r} is not a time of day", hint="HH:MM")
    return int(hours) * 3600 + int(minutes) * 60
