"""What was worked out a moment ago, kept for as long as it is good."""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from preprov.control.context import Context

T = TypeVar("T")


def remembered(ctx: Context, key: tuple[str, ...], fresh: timedelta, make: Callable[[], T]) -> T:
    """A value learnt at most `fresh` ago, else made anew."""
    now = ctx.clock.now()
    held = ctx.memo.get(key)
    if held is not None and timedelta(0) <= now - held[0] < fresh:
        return held[1]  # type: ignore[return-value]
    value = make()
    ctx.memo[key] = (now, value)
    return value
