"""Nodes nobody answers for: ended only when that is certain, else reported."""

import structlog

from preprov.control.context import Context
from preprov.control.observing import committed_by_node
from preprov.control.trust import in_force
from preprov.model.errors import NodeBusyError, PoolError
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Mode, Node, Phase, Pool, PoolObservation, Standby

log = structlog.get_logger(__name__)


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
        if node.node_id in held or silent < pool.node_ttl_s or not may_end:
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


def _end(ctx: Context, pool: Pool, node: Node, plan_id: str, silent: float) -> ActionRecord:
    action = Action(
        action_id=stable_id(pool.name, "orphan", node.node_id),
        kind=ActionKind.TERMINATE,
        at=ctx.clock.now(),
        group=node.group,
        count=1,
        reason=f"orphan: silent for {silent:.0f} s (limit {pool.node_ttl_s:.0f} s), no committed reservation names it",
        offering=node.offering.key,
        standby_state=Standby.COLD,
        node_ids=(node.node_id,),
    )
    result, detail = "done", ""
    try:
        ctx.provider(pool.group(node.group).provider).terminate(pool, [node.node_id])
    except NodeBusyError as e:
        result, detail = "skipped", str(e)
    except PoolError as e:
        result, detail = "failed", f"{e.kind}: {e}"
        log.error("an orphan could not be ended and is still paid for", pool=pool.name, node=node.node_id, why=detail)
    record = ActionRecord(action, pool.name, plan_id, ctx.actor, ctx.clock.now(), result, detail, (node.node_id,))
    ctx.ports.audit.record(record)
    return record
