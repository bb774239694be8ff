"""What vendors announce: a node that will be taken away takes no new task from then on, and the audit says why."""

import structlog

from preprov.contracts import GivesNotice, Notice
from preprov.control.context import Context
from preprov.control.trust import may_act
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, PoolObservation
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Pool

log = structlog.get_logger(__name__)


def heed(ctx: Context, pool: Pool, observation: PoolObservation) -> tuple[ActionRecord, ...]:
    """Drain nodes whose interruption was announced, where the pool's mode allows writes; returns the audit rows.

    A recommendation to rebalance is only logged: whether a likelier interruption is worth moving work is the plan's to
    say. A provider that refuses leaves its notices where they are, for the next pass.
    """
    if not may_act(ctx, pool):
        return ()
    nodes = {n.node_id: n for n in observation.nodes}
    out: list[ActionRecord] = []
    for name in dict.fromkeys(g.provider for g in pool.groups):
        heard: object = ctx.providers.get(name)
        if not isinstance(heard, GivesNotice):
            continue
        try:
            notices = heard.notices(pool)
            taken = [n for n in notices if n.kind == "interruption" and n.node_id in nodes]
            for n in notices:
                if n.kind == "rebalance":
                    log.info("likelier to be interrupted", pool=pool.name, node=n.node_id)
            out.extend(_drain(ctx, pool, nodes[n.node_id], n) for n in taken)
            heard.settle_notices(pool, notices)
        except PoolError as e:
            log.warning("notices could not be read", pool=pool.name, provider=name, problem=str(e))
    return tuple(out)


def _drain(ctx: Context, pool: Pool, node: Node, notice: Notice) -> ActionRecord:
    until = f" at {notice.deadline:%H:%M:%S}Z" if notice.deadline else ""
    action = Action(
        action_id=stable_id(pool.name, "interruption", node.node_id, notice.at.isoformat()),
        kind=ActionKind.DRAIN,
        at=ctx.clock.now(),
        group=node.group,
        count=1,
        reason=f"the vendor takes it away{until}",
        offering=node.offering.key,
        node_ids=(node.node_id,),
    )
    result, detail = "done", notice.detail
    try:
        ctx.provider(pool.group(node.group).provider).drain(pool, [node.node_id])
    except PoolError as e:
        result, detail = "failed", f"{e.kind}: {e}"
    record = ActionRecord(action, pool.name, "", ctx.actor, ctx.clock.now(), result, detail, (node.node_id,))
    ctx.ports.audit.record(record)
    log.info("interruption announced", pool=pool.name, node=node.node_id, result=result)
    return record
