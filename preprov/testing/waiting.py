"""Wait for what real processes do, without guessing how long that takes."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

REAL_S: Final = 240.0
"""Patience with real components, on a machine that has other work to do."""
_TURN_S: Final = 2.0
"""The most that one look counts: on a machine that stood still meanwhile, nothing had the time to happen."""


def wait_until(look: Callable[[], T], *, what: str = "", deadline_s: float = 10.0, every_s: float = 0.01) -> T:
    """Call `look` until its result is true, and return that.

    Raises:
        AssertionError: it was not true within the deadline; names `what` and the last result.
    """
    left, before = deadline_s, time.monotonic()
    while True:
        found = look()
        if found:
            return found
        now = time.monotonic()
        left -= min(now - before, _TURN_S)
        if left < 0:
            raise AssertionError(f"not within {deadline_s:g} s: {what or look}; last: {found!r}")
        before = now
        time.sleep(every_s)
