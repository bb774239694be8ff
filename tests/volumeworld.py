"""A pool's volumes as control sees them: any provider, the books in memory."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from preprov.contracts import Clock, LaunchRequest
from preprov.control.context import Context
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, Segment, WantedVolume
from preprov.model.resources import ZERO
from preprov.planning.prices import TablePriceBook
from preprov.sim.ports import memory_ports
from preprov.testing.waiting import wait_until


def context(pool: Pool, provider: Any, clock: Clock, schedulers: Mapping[str, Any] | None = None) -> Context:
    """One pool of one provider."""
    return Context(
        ports=memory_ports(),
        providers={pool.groups[0].provider: provider},
        schedulers=schedulers or {},
        prices=TablePriceBook.from_pools([pool]),
        clock=clock,
        pools={pool.name: pool},
    )


def wants(ctx: Context, pool: Pool, claim_id: str, volume: WantedVolume, **more: Any) -> Reservation:
    """A claim on a volume for an hour from now on, by a claimant of the claim's name."""
    now = ctx.clock.now()
    until = now + timedelta(hours=1)
    about = {"claimant": claim_id, "expires_at": until, "created_at": now, **more}
    segments = (Segment(now, until, ZERO),)
    return Reservation(
        reservation_id=claim_id, pool=pool.name, segments=segments, purpose=Purpose.VOLUME, volume=volume, **about
    )


def node_of(provider: Any, pool: Pool) -> Node:
    """One that is ready, launched for the purpose."""
    group = pool.groups[0]
    offering = group.offerings[0]
    (node_id,) = provider.launch(LaunchRequest(pool, group.name, offering, 1, "a-volumes-node", Preload()))

    def look() -> Node | None:
        return next((n for n in provider.observe(pool).nodes if n.node_id == node_id and n.phase is Phase.READY), None)

    node = wait_until(look, what=f"{node_id} to be ready")
    assert node is not None
    return node
