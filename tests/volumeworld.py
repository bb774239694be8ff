"""A pool's volumes as control sees them: any provider, the books in memory."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from preprov.contracts import Clock
from preprov.control.context import Context
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, Segment, WantedVolume
from preprov.model.resources import ZERO
from preprov.planning.prices import TablePriceBook
from preprov.sim.ports import memory_ports


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
