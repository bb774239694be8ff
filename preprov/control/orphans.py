"""Nodes nobody answers for: ended only when that is certain, else reported."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from preprov.contracts import BakesImages
from preprov.control.baking import forgotten_benches
from preprov.control.context import Context
from preprov.control.declared import is_nameless
from preprov.control.observing import committed_by_node
from preprov.control.remembering import remembered
from preprov.control.trust import in_force
from preprov.model.errors import NodeBusyError, PoolError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Standby
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Mode, Pool

log = structlog.get_logger(__name__)

_BENCHES_EVERY: Final = timedelta(minutes=30)
"""Benches are looked for that often: who bakes ends his own."""


def collect_orphans(ctx: Context, pool: Pool, observation: PoolObservation, plan_id: str) -> tuple[ActionRecord, ...]:
    """End nodes that are silent beyond their time to live and that no committed reservation names.

    Anything less certain is only reported. Nothing is ended below mode full, or while halted.
    """
    now = ctx.clock.now()
    held = committed_by_node(ctx.ports.ledger.reservations(pool.name))
    may_end = in_force(ctx, pool) is Mode.FULL and not ctx.ports.intent.halted()
    out = []
    for node in observation.in_phase(Phase.LOST):
        silent = (now - (node.last_seen or node.since)).total_seconds()
        nameless = is_nameless(ctx, pool, pool.group(node.group))
        if node.node_id in held or silent < pool.node_ttl_s or not may_end or nameless:
            log.warning(
                "node does not answer",
                pool=pool.name,
                node=node.node_id,
                silent_s=round(silent),
                held=node.node_id in held,
            )
            continue
        out.append(_end(ctx, pool, node, plan_id, silent))
    return tuple(out)


def collect_benches(ctx: Context, pool: Pool) -> tuple[ActionRecord, ...]:
    """End machines that images were to be made of, hours after whoever makes them went away; none ever took work.

    Below mode full, or while halted, they are only reported.
    """
    now = ctx.clock.now()
    may_end = in_force(ctx, pool) is Mode.FULL and not ctx.ports.intent.halted()
    out = []
    for group in pool.groups:
        provider: object = ctx.providers.get(group.provider)
        if not isinstance(provider, BakesImages):
            continue
        if remembered(ctx, (pool.name, "benches", group.name), _BENCHES_EVERY, lambda: now) != now:
            continue
        try:
            found = forgotten_benches(ctx, pool, group)
        except PoolError as e:
            log.warning("benches could not be looked for", pool=pool.name, group=group.name, problem=str(e))
            continue
        for node in found:
            log.warning("a bench is forgotten and still paid for", pool=pool.name, node=node.node_id)
            if may_end:
                out.append(_end_bench(ctx, pool, provider, node))
    return tuple(out)


def _end_bench(ctx: Context, pool: Pool, provider: BakesImages, node: Node) -> ActionRecord:
    """Recorded under its token, so that the next bench of that preload is another one."""
    hours = (ctx.clock.now() - node.created_at).total_seconds() / 3600
    reason = f"orphan: launched {hours:.0f} h ago to make an image of, and nobody makes one any more"
    close = provider.close_benches
    return _ended(ctx, pool, node, node.token, reason, lambda: close(pool, node.group, [node.node_id]))


def _end(ctx: Context, pool: Pool, node: Node, plan_id: str, silent: float) -> ActionRecord:
    reason = f"orphan: silent for {silent:.0f} s (limit {pool.node_ttl_s:.0f} s), no committed reservation names it"
    terminate = ctx.provider(pool.group(node.group).provider).terminate
    return _ended(ctx, pool, node, plan_id, reason, lambda: terminate(pool, [node.node_id]))


def _ended(ctx: Context, pool: Pool, node: Node, plan_id: str, reason: str, end: Callable[[], None]) -> ActionRecord:
    action = Action(
        action_id=stable_id(pool.name, "orphan", node.node_id),
        kind=ActionKind.TERMINATE,
        at=ctx.clock.now(),
        group=node.group,
        count=1,
        reason=reason,
        offering=node.offering.key,
        standby_state=Standby.COLD,
        node_ids=(node.node_id,),
    )
    result, detail = "done", ""
    try:
        end()
    except NodeBusyError as e:
        result, detail = "skipped", str(e)
    except PoolError as e:
        result, detail = "failed", f"{e.kind}: {e}"
        log.error("an orphan could not be ended and is still paid for", pool=pool.name, node=node.node_id, why=detail)
    record = ActionRecord(action, pool.name, plan_id, ctx.actor, ctx.clock.now(), result, detail, (node.node_id,))
    ctx.ports.audit.record(record)
    return record
