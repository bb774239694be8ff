"""The arithmetic of a warm pool: settings that change nothing now and the right thing with the next desired count.

A warm pool holds `max(prepared - desired, min_size)` nodes. Desired and these two settings are written by different
calls, and between them the group acts on what it sees. So before desired moves, the settings are written such that the
pool's size stays what it is, and becomes what it is to be by the move of desired alone.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmSize:
    """The two settings of a warm pool that decide its size."""

    prepared: int
    min_size: int

    def at(self, desired: int) -> int:
        """Nodes it holds while the group wants so many in service."""
        return max(self.prepared - desired, self.min_size, 0)


def before_move(desired: int, warm: int, step: int, warm_after: int) -> WarmSize:
    """Settings to write before desired moves by `step`.

    With them the pool holds `warm` nodes (or fewer, if fewer are wanted afterwards and desired does not grow) until the
    move, and `warm_after` after it.

    Args:
        desired: count in service that is wanted now. warm: nodes the pool is to hold now.
        step: what is added to desired next, may be negative.
        warm_after: nodes it is to hold after that.
    """
    return WarmSize(min(desired + warm, desired + step + warm_after), min(warm, warm_after))


def at_rest(warm: int) -> WarmSize:
    """Settings of a pool of that size whatever is desired."""
    return WarmSize(warm, warm)
