"""A clock that moves only when it is told to."""

from datetime import datetime, timedelta

from preprov.model.errors import ConfigError
from preprov.model.time import aware


class VirtualClock:
    """Virtual time: `sleep` returns at once, and it is then that much later.

    Args:
        start: the present instant to begin with.

    Raises:
        ConfigError: `start` has no time zone.
    """

    def __init__(self, start: datetime) -> None:
        self._now = aware(start, "start")

    def now(self) -> datetime:
        """The present instant in UTC."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on by that many seconds; a negative number counts as 0."""
        self._now += timedelta(seconds=max(seconds, 0.0))

    def advance_to(self, instant: datetime) -> None:
        """Move on to an instant.

        Raises:
            ConfigError: it has passed already, or has no time zone.
        """
        instant = aware(instant, "instant")
        if instant < self._now:
            raise ConfigError(f"time does not run backwards: {instant.isoformat()} < {self._now.isoformat()}")
        self._now = instant
