"""Instants inside preprov are aware; a naive one is an error, not a guess."""

from datetime import UTC, datetime, timedelta

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
