"""Give vendors the word they wait for: nodes that were verified go on, those that work are protected, leases go on."""

import structlog

from preprov.contracts import Tended
from preprov.control.context import Context
from preprov.control.observing import committed_by_node
from preprov.model.errors import PoolError
from preprov.model.pools import Mode, Pool

log = structlog.get_logger(__name__)


def tend(ctx: Context, pool: Pool) -> tuple[str, ...]:
    """Tend the pool's groups where its mode allows writes; returns a line per thing done.

    A provider that refuses is told in the log and tended again by the next pass: its time-outs are longer than that.
    """
    may_act = ctx.mode(pool, ctx.clock.now()) in (Mode.FLOOR, Mode.FULL) and not ctx.ports.intent.halted()
    if not ctx.live or not may_act:
        return ()
    held = frozenset(committed_by_node(ctx.ports.ledger.reservations(pool.name)))
    done: list[str] = []
    for name in dict.fromkeys(g.provider for g in pool.groups):
        provider: object = ctx.providers.get(name)
        if isinstance(provider, Tended):
            try:
                done.extend(provider.tend(pool, held))
            except PoolError as e:
                log.warning("a group could not be tended", pool=pool.name, provider=name, problem=str(e))
    if done:
        log.info("tended", pool=pool.name, done=done)
    return tuple(done)
