"""Stop all writes at once; on request, also give back what was raised."""

from dataclasses import dataclass

import structlog

from preprov.control import adjusting_tasks
from preprov.control.adopting import GivenBack, give_back
from preprov.control.context import Context
from preprov.control.observing import committed_by_node, observe
from preprov.control.workers import hosts_worker
from preprov.model.errors import PoolError
from preprov.model.nodes import Phase
from preprov.model.offerings import Standby
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Mode, Pool

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Halted:
    """What came of a halt: nodes that were ended, and groups that were given back, by pool."""

    ended: tuple[str, ...] = ()
    given_back: tuple[tuple[str, GivenBack], ...] = ()


def halt(ctx: Context, reason: str, *, release: bool = False) -> Halted:
    """Stop all writes. With `release`, give back every adopted group, and end the idle nodes of the other pools.

    Running tasks are not adjusted any more: their limits end by themselves, with `release` at once.

    Adopted groups stay adopted: their settings are as they were found, and nothing is written until somebody goes on.
    """
    now = ctx.clock.now()
    ctx.ports.intent.set_halt(reason or "halted", actor=ctx.actor, at=now)
    if not release:
        return Halted()
    ended: list[str] = []
    back: list[tuple[str, GivenBack]] = []
    for pool in ctx.pools.values():
        adopted = ctx.ports.adoptions.in_force(pool.name)
        if adopted:
            back.extend((pool.name, g) for g in give_back(ctx, pool))
        if ctx.mode(pool, now) in (Mode.FLOOR, Mode.FULL):
            if pool.adjusting is not None:
                adjusting_tasks.give_back(ctx, pool)
            ended.extend(_end_idle(ctx, pool, frozenset(adopted), reason))
    return Halted(tuple(ended), tuple(back))


def _end_idle(ctx: Context, pool: Pool, but_not: frozenset[str], reason: str) -> list[str]:
    """End the pool's idle nodes, but not those of some groups."""
    now, ended = ctx.clock.now(), list[str]()
    held = committed_by_node(ctx.ports.ledger.reservations(pool.name))
    for node in observe(ctx, pool).nodes:
        if node.is_busy or node.node_id in held or node.phase is Phase.LOST or node.group in but_not:
            continue
        if hosts_worker(ctx, pool, node.node_id):
            log.info("a worker leaves first: halt --release again then", pool=pool.name, node=node.node_id)
            continue
        action = Action(
            stable_id(pool.name, "release", node.node_id, now.isoformat()),
            ActionKind.TERMINATE,
            now,
            node.group,
            1,
            f"halt --release: {reason}",
            offering=node.offering.key,
            standby_state=Standby.COLD,
            node_ids=(node.node_id,),
        )
        result, detail = "done", ""
        try:
            ctx.provider(pool.group(node.group).provider).terminate(pool, [node.node_id])
            ended.append(node.node_id)
        except PoolError as e:
            result, detail = "failed", str(e)
            log.error("a node could not be ended and is still paid for", pool=pool.name, node=node.node_id, why=detail)
        ctx.ports.audit.record(
            ActionRecord(action, pool.name, "", ctx.actor, ctx.clock.now(), result, detail, (node.node_id,))
        )
    return ended


def resume(ctx: Context) -> None:
    """Go on writing."""
    ctx.ports.intent.set_halt("", actor=ctx.actor, at=ctx.clock.now())
