"""Clocks for the real world: wall time, and wall time played faster."""

import time
from datetime import UTC, datetime, timedelta

from preprov.contracts import Clock
from preprov.model.errors import ConfigError
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
        text: what `named` makes the same clock from, in any process of this machine.
    """

    def __init__(self, origin: datetime, speed: float, *, began: float | None = None) -> None:
        """Show `origin` at the wall time `began` (epoch seconds); None = now."""
        wall = time.time()
        began = wall if began is None else began
        self._origin = aware(origin)
        self._began = time.monotonic() - (wall - began)
        self.speed = speed
        self.text = f"{self._origin.isoformat()} x{speed:g} since {began:.6f}"

    def now(self) -> datetime:
        """The present instant on this clock."""
        return self._origin + timedelta(seconds=(time.monotonic() - self._began) * self.speed)

    def sleep(self, seconds: float) -> None:
        """Wait that many seconds of this clock."""
        time.sleep(max(seconds, 0.0) / self.speed)


def named(text: str | None) -> Clock:
    """The clock that a `ScaledClock.text` describes; None = wall time.

    Raises:
        ConfigError: it is no such text.
    """
    if text is None:
        return WallClock()
    try:
        origin, speed, since, began = text.split()
        if since != "since" or speed[:1] != "x":
            raise ValueError(text)
        return ScaledClock(datetime.fromisoformat(origin), float(speed[1:]), began=float(began))
    except ValueError:
        raise ConfigError(
            f"{text!r} is no clock", where="PREPROV_CLOCK", hint="2025-10-31T00:55:00+00:00 x20 since 1760000000"
        ) from None
