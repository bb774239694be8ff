"""How many runs fit on warm nodes, and what becomes of a limit that follows them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from preprov.model.resources import Resources

_EPS = 1e-9


@dataclass(frozen=True, slots=True)
class Room:
    """Of a warm node. unclaimed: what no task has that preprov has placed. free: less what others run there."""

    unclaimed: Resources
    free: Resources


def slots_of(room: Resources, run: Resources) -> int:
    """Runs that fit side by side in the room; a run that takes nothing fits once."""
    fits = [have / want for have, want in zip(room.as_tuple(), run.as_tuple(), strict=True) if want > 0]
    return max(math.floor(min(fits) + _EPS), 0) if fits else 1


def slots(rooms: Iterable[Room], run: Resources, least: int, most: int, *, among_others: int = 0) -> int:
    """Runs that fit on all the nodes: what is left over on two nodes is no room for a third run.

    Args:
        rooms: of the nodes. run: what one takes.
        least, most: bounds.
        among_others: runs that may be among what others have there: they stay, and so does their room.
    """
    rooms = tuple(rooms)
    fit = sum(slots_of(r.free, run) for r in rooms)
    if among_others:
        fit = min(fit + among_others, sum(slots_of(r.unclaimed, run) for r in rooms))
    return max(min(fit, most), least)


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
