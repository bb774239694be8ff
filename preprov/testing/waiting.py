"""Wait for what real processes do, without guessing how long that takes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(look: Callable[[], T], *, what: str = "", deadline_s: float = 10.0, every_s: float = 0.01) -> T:
    """Call `look` until its result is true, and return that.

    Raises:
        AssertionError: it was not true within the deadline; names `what` and the last result.
    """
    until = time.monotonic() + deadline_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"not within {deadline_s:g} s: {what or look}; last: {found!r}")
        time.sleep(every_s)
