"""Clocks for the real world: wall time, and wall time played faster."""

import time
from datetime import UTC, datetime, timedelta

from preprov.model.time import aware


class WallClock:
    """The time it is."""

    speed = 1.0

    def now(self) -> datetime:
        """The present instant in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""
        time.sleep(max(seconds, 0.0))


class ScaledClock:
    """A clock that begins at `origin` and runs `speed` times as fast as the wall: real nodes, a shorter night.

    Attributes:
        speed: seconds of this clock per wall second.
    """

    def __init__(self, origin: datetime, speed: float) -> None:
        self._origin = aware(origin)
        self._began = time.monotonic()
        self.speed = speed

    def now(self) -> datetime:
        """The present instant on this clock."""
        return self._origin + timedelta(seconds=(time.monotonic() - self._began) * self.speed)

    def sleep(self, seconds: float) -> None:
        """Wait that many seconds of this clock."""
        time.sleep(max(seconds, 0.0) / self.speed)
