"""What orchestrators tell of runs: kept once, however often it is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from preprov.control.context import Context
from preprov.model.events import Event


@dataclass(frozen=True)
class Heard:
    """What became of events that were told."""

    accepted: int
    duplicates: int


def hear(ctx: Context, events: Sequence[Event]) -> Heard:
    """Keep events, all or none; one that was told before changes nothing.

    Raises:
        ConfigError: one names a pool that is not there.
    """
    for pool in {e.pool for e in events if e.pool}:
        ctx.pool(pool)
    new = ctx.ports.events.record(events)
    return Heard(sum(new), len(new) - sum(new))
