"""Give vendors the word they wait for: nodes that were verified go on, those that work are protected, leases go on."""

from collections.abc import Collection
from datetime import timedelta

import structlog

from preprov.contracts import KeepsNodes, Tended
from preprov.control.context import Context
from preprov.control.observing import committed_by_node
from preprov.control.trust import foreign, in_force, may_act
from preprov.model.errors import PoolError
from preprov.model.nodes import Phase, PoolObservation
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Mode, Pool

log = structlog.get_logger(__name__)


def keep(
    ctx: Context,
    pool: Pool,
    observation: PoolObservation,
    given_up: Collection[str],
    superfluous: Collection[str],
) -> tuple[str, ...]:
    """Spare the nodes that are wanted from the idle timers of their vendors; returns those that had to be.

    In full mode preprov says when a node goes, so all are wanted that it has not given up; in mode floor the vendor
    does, so that what was found superfluous is left to its timer.

    Args:
        ctx: the context.
        pool: the pool.
        observation: what exists.
        given_up: nodes that this pass has ended or put away.
        superfluous: nodes that the plan does not want now.
    """
    if not may_act(ctx, pool):
        return ()
    floor = in_force(ctx, pool) is Mode.FLOOR
    left = {*given_up, *(superfluous if floor else ())}
    wanted = [n for n in observation.in_phase(Phase.READY) if n.node_id not in left]
    until = ctx.clock.now() + timedelta(seconds=pool.lease_s)
    done: list[str] = []
    for name in dict.fromkeys(g.provider for g in pool.groups):
        provider: object = ctx.providers.get(name)
        mine = [n.node_id for n in wanted if pool.group(n.group).provider == name]
        if isinstance(provider, KeepsNodes) and mine:
            try:
                done.extend(provider.keep(pool, mine, until))
            except PoolError as e:
                log.warning("nodes could not be kept", pool=pool.name, provider=name, problem=str(e))
    return tuple(done)


def tend(ctx: Context, pool: Pool) -> tuple[str, ...]:
    """Tend the pool's groups where its mode allows writes; returns a line per thing done (audited).

    A provider that refuses is told in the log and tended again by the next pass: its time-outs are longer than that.
    Where another preprov writes too, nothing is.
    """
    if not may_act(ctx, pool):
        return ()
    held = frozenset(committed_by_node(ctx.ports.ledger.reservations(pool.name)))
    done: list[str] = []
    for name in dict.fromkeys(g.provider for g in pool.groups):
        provider: object = ctx.providers.get(name)
        if not isinstance(provider, Tended):
            continue
        left_alone = [why for g in pool.groups if g.provider == name and (why := foreign(ctx, pool, g))]
        if left_alone:
            log.warning("groups are not tended", pool=pool.name, provider=name, why=left_alone)
            continue
        try:
            said = provider.tend(pool, held)
        except PoolError as e:
            log.warning("a group could not be tended", pool=pool.name, provider=name, problem=str(e))
            continue
        done.extend(said)
        for line in said:
            _record(ctx, pool, name, line)
    if done:
        log.info("tended", pool=pool.name, done=done)
    return tuple(done)


def _record(ctx: Context, pool: Pool, provider: str, line: str) -> None:
    now = ctx.clock.now()
    group = next(g.name for g in pool.groups if g.provider == provider)
    action = Action(
        action_id=stable_id(pool.name, "tend", line, now.isoformat()),
        kind=ActionKind.HOLD,
        at=now,
        group=group,
        count=0,
        reason="the vendor waits for our word",
    )
    ctx.ports.audit.record(ActionRecord(action, pool.name, "", ctx.actor, now, "done", line))
