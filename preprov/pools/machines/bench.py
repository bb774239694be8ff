"""Benches: machines on which images are made. They carry the pool's name with "/bake", so no pass counts them."""

from dataclasses import replace
from typing import Final

from preprov.contracts import Clock
from preprov.model.errors import ConflictError, NotFoundError
from preprov.model.pools import Pool
from preprov.pools.machines.lender import Lender
from preprov.pools.machines.machine import State

BAKE: Final = "/bake"
_STOPS_S: Final = 300.0
_LOOK_S: Final = 5.0


def bench_pool(pool: Pool, group: str) -> Pool:
    """The pool as its bench sees it: that group only, one machine at most."""
    one = replace(pool.group(group), max_nodes=1)
    return replace(pool, name=f"{pool.name}{BAKE}", groups=(one,))


def image_name(pool: Pool, group: str, digest: str) -> str:
    """Name of an image, the same however often it is made; lower-case letters, digits and dashes, 63 at most."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{pool.name}-{group}".lower()).strip("-")
    return f"preprov-{plain[:36].strip('-')}-{digest}"


def put_to_sleep(lender: Lender, clock: Clock, node_id: str) -> None:
    """Stop a bench and wait until it is, so that all that was written is on its disk.

    Raises:
        NotFoundError: there is no such bench.
        ConflictError: it is not stopped in five minutes.
        PoolError: it could not be stopped.
    """
    started = clock.now()
    while True:
        found = lender.machines([node_id]).get(node_id)
        if found is None:
            raise NotFoundError(f"no bench {node_id}", where=lender.where, hint="run `preprov image bake` again")
        if found.state is State.STOPPED:
            return
        if found.state is State.RUNNING:
            lender.stop([found])
        elif (clock.now() - started).total_seconds() > _STOPS_S:
            raise ConflictError(f"{node_id} is still {found.state}", where=lender.where, hint="run it again")
        clock.sleep(_LOOK_S)
