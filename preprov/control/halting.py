"""Stop all writes at once; on request, also give back what was raised."""

from preprov.control.context import Context
from preprov.control.observing import committed_by_node, observe
from preprov.model.errors import PoolError
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Mode, Phase, Standby


def halt(ctx: Context, reason: str, *, release: bool = False) -> tuple[str, ...]:
    """Stop all writes. With `release`, end every idle node of the pools preprov may act on.

    Returns:
        ids of the nodes ended.
    """
    now = ctx.clock.now()
    ctx.ports.intent.set_halt(reason or "halted", actor=ctx.actor, at=now)
    if not release:
        return ()
    ended: list[str] = []
    for pool in ctx.pools.values():
        if ctx.mode(pool, now) not in (Mode.FLOOR, Mode.FULL):
            continue
        held = committed_by_node(ctx.ports.ledger.reservations(pool.name))
        for node in observe(ctx, pool).nodes:
            if node.is_busy or node.node_id in held or node.phase is Phase.LOST:
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
            ctx.ports.audit.record(
                ActionRecord(action, pool.name, "", ctx.actor, ctx.clock.now(), result, detail, (node.node_id,))
            )
    return tuple(ended)


def resume(ctx: Context) -> None:
    """Go on writing."""
    ctx.ports.intent.set_halt("", actor=ctx.actor, at=ctx.clock.now())
