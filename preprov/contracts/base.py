"""What every boundary needs: the clock, and how progress is told."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeAlias

Progress: TypeAlias = Callable[[float, str], None]
"""Called with a share in [0, 1] (or NaN if the total is unknown) and a short text."""


class Clock(Protocol):
    """The only way to ask what time it is."""

    def now(self) -> datetime:
        """The present instant, aware, never going backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock (a virtual clock moves on at once)."""
        ...
