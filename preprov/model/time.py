"""Instants inside preprov are aware; a naive one is an error, not a guess."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from preprov.model.errors import ConfigError


def aware(ts: datetime, what: str = "time") -> datetime:
    """Return `ts` in UTC.

    Raises:
        ConfigError: `ts` has no time zone.
    """
    if ts.tzinfo is None:
        raise ConfigError(f"{what} {ts.isoformat()} has no time zone", hint="give an offset or a zone")
    return ts.astimezone(UTC)


def epoch(ts: datetime) -> float:
    """Seconds since 1970-01-01T00:00Z."""
    return aware(ts).timestamp()


def from_epoch(seconds: float) -> datetime:
    """The instant `seconds` after 1970-01-01T00:00Z."""
    return datetime.fromtimestamp(seconds, UTC)


def floor_to(ts: datetime, step_seconds: int) -> datetime:
    """The last instant at or before `ts` that is a multiple of the step since the epoch."""
    return from_epoch(epoch(ts) // step_seconds * step_seconds)


def seconds(delta: timedelta) -> float:
    """Length of an interval in seconds."""
    return delta.total_seconds()


@dataclass(frozen=True, slots=True)
class Timescale:
    """Wall time as a clock shows it that runs `speed` times as fast.

    Attributes:
        wall: epoch seconds at which the clock showed `shown`. speed: seconds of the clock per wall second.
    """

    wall: float
    shown: datetime
    speed: float = 1.0

    @classmethod
    def between(cls, wall: float, shown: datetime, speed: float) -> Self:
        """Tie the two together; a clock that shows wall time but for reading it a moment later is wall time."""
        if speed == 1.0 and abs(epoch(shown) - wall) < 1.0:
            return cls(0.0, from_epoch(0.0))  # whoever ties them anew gets the same instants to the microsecond
        return cls(wall, shown, speed)

    def instant(self, wall: float) -> datetime:
        """What the clock showed, or will show, at that wall time (epoch seconds)."""
        return self.shown + timedelta(seconds=(wall - self.wall) * self.speed)
