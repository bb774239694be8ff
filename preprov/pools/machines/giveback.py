"""Give a group its size back: too many machines are ended one by one and by name, idle ones of ours only."""

from collections.abc import Collection
from typing import Protocol

from preprov.model.errors import NodeBusyError
from preprov.model.pools import Pool


class Ends(Protocol):
    """Who ends idle nodes by name."""

    def launched(self, pool: Pool, group: str) -> tuple[str, ...]:
        """Idle nodes of ours, those to be ended first in front."""
        ...

    def terminate(self, pool: Pool, node_ids: tuple[str, ...]) -> None:
        """End idle nodes."""
        ...


def end_surplus(ends: Ends, pool: Pool, group: str, surplus: int, held: Collection[str] = ()) -> tuple[str, ...]:
    """End at most so many idle nodes, none of those that work is promised to; says which, and how many had to stay.

    Raises:
        PoolError: one could not be ended for another reason than running a task.
    """
    ended: list[str] = []
    for name in ends.launched(pool, group):
        if len(ended) == surplus:
            break
        if name in held:
            continue
        try:
            ends.terminate(pool, (name,))
        except NodeBusyError:
            continue
        ended.append(name)
    said = [f"ended {', '.join(ended)}"] if ended else []
    left = surplus - len(ended)
    return (*said, f"{left} more than there were are busy or not ours, and stay") if left > 0 else tuple(said)
