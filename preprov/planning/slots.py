"""How many runs fit on warm nodes, and what becomes of a limit that follows them."""

import math
from collections.abc import Iterable

from preprov.model.resources import Resources

_EPS = 1e-9


def slots_of(room: Resources, run: Resources) -> int:
    """Runs that fit side by side in the room; a run that takes nothing fits once."""
    fits = [have / want for have, want in zip(room.as_tuple(), run.as_tuple(), strict=True) if want > 0]
    return max(math.floor(min(fits) + _EPS), 0) if fits else 1


def slots(rooms: Iterable[Resources], run: Resources, least: int, most: int) -> int:
    """Runs that fit on all the nodes: what is left over on two nodes is no room for a third run."""
    return max(min(sum(slots_of(r, run) for r in rooms), most), least)


def limit(now: int | None, slots: int, share: float, held: int, *, lowers: bool) -> int | None:
    """What a limit should be.

    Args:
        now: as it is; None = it has no bound.
        slots: of all warm nodes. share: this limit's, of them.
        held: runs that count against it: it is never below them.
        lowers: False: it may only be raised.
    """
    wanted = max(math.ceil(slots * share - _EPS), held)
    if lowers:
        return wanted
    return None if now is None else max(now, wanted)
