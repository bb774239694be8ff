"""Reservations that have been over for long are forgotten, a little at a time."""

from datetime import timedelta
from typing import Final

import structlog

from preprov.control.context import Context

log = structlog.get_logger(__name__)

_EVERY: Final = timedelta(minutes=1)
_AT_ONCE: Final = 500
"""In one transaction: others who write wait for it."""
_TURNS: Final = 10
"""Transactions in a row, where there is much."""


def forget_reservations(ctx: Context) -> int:
    """Drop some of those that were over `ctx.keep_reservations` ago, once a minute; returns how many.

    Whoever is stopped in between goes on where he was: each transaction drops what it drops whole.
    """
    key, now = ("reservations forgotten",), ctx.clock.now()
    held = ctx.memo.get(key)
    if ctx.keep_reservations is None or (held is not None and now - held[0] < _EVERY):
        return 0
    ctx.memo[key] = (now, None)
    count = 0
    for _ in range(_TURNS):
        count += (done := ctx.ports.ledger.forget(now - ctx.keep_reservations, _AT_ONCE))
        if done < _AT_ONCE:
            break
    if count:
        log.info("reservations forgotten", count=count, days=ctx.keep_reservations.days)
    return count
