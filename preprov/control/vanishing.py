"""Nodes that went without anybody here ending them: by hand, or taken by the cloud. Said once, in the audit."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import structlog

from preprov.contracts import KeepsNodes
from preprov.control.context import Context
from preprov.control.trust import may_act, writers
from preprov.model.nodes import PoolObservation
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Pool

log = structlog.get_logger(__name__)

_BACK: Final = timedelta(days=1)
"""Launches longer ago are not looked at."""
_GONE: Final = "gone: "
"""How the detail begins of a row that says so."""


def note_vanished(ctx: Context, pool: Pool, observation: PoolObservation, plan_id: str) -> tuple[ActionRecord, ...]:
    """A row for each node that a launch of ours made, that no action of ours ended, and that is not there any more.

    Groups where others end nodes as they please (another writer, the timer of a vendor) are left out.

    Args:
        ctx: the context.
        pool: the pool.
        observation: with what was launched a moment ago; an incomplete one proves nothing.
        plan_id: for the rows.
    """
    if not observation.complete or not may_act(ctx, pool):
        return ()
    key, now, there = (pool.name, "nodes-there"), ctx.clock.now(), frozenset(n.node_id for n in observation.nodes)
    held = ctx.memo.get(key)
    ctx.memo[key] = (now, there)
    if held is not None and isinstance(held[1], frozenset) and held[1] <= there:
        return ()  # none went since the last look, so the audit need not be read
    ours = {g.name for g in pool.groups if _ours_alone(ctx, pool, g.name)}
    out = []
    for node_id, launched in _missing(ctx, pool, observation, now):
        if launched.action.group in ours:
            out.append(_note(ctx, pool, launched, node_id, plan_id))
    return tuple(out)


def _ours_alone(ctx: Context, pool: Pool, group: str) -> bool:
    g = pool.group(group)
    return not isinstance(ctx.providers.get(g.provider), KeepsNodes) and not writers(ctx, pool, g).names


def _missing(
    ctx: Context, pool: Pool, observation: PoolObservation, now: datetime
) -> Iterator[tuple[str, ActionRecord]]:
    """Nodes that are not there, with the launch that made each, since their group was adopted."""
    adopted = {g: a.at for g, a in ctx.ports.adoptions.in_force(pool.name).items()}
    left: dict[str, ActionRecord] = {}
    for r in ctx.ports.audit.records(pool.name, since=now - _BACK):
        if r.result != "done" or r.at >= observation.at:  # what was done since was not looked at yet
            continue
        if r.action.kind is ActionKind.LAUNCH and r.at >= adopted.get(r.action.group, r.at):
            left |= dict.fromkeys(r.node_ids, r)
        elif r.action.kind is ActionKind.TERMINATE or r.detail.startswith(_GONE):
            left = {i: of for i, of in left.items() if i not in r.node_ids}
    there = {n.node_id for n in observation.nodes}
    yield from ((i, of) for i, of in left.items() if i not in there)


def _note(ctx: Context, pool: Pool, launched: ActionRecord, node_id: str, plan_id: str) -> ActionRecord:
    now = ctx.clock.now()
    said = f"{node_id} is not there any more, and nothing here ended it: deleted by hand, or taken by the cloud"
    action = Action(
        action_id=stable_id(pool.name, "gone", node_id, launched.at.isoformat()),
        kind=ActionKind.HOLD,
        at=now,
        group=launched.action.group,
        count=0,
        reason=said,
        offering=launched.action.offering,
        node_ids=(node_id,),
    )
    row = ActionRecord(action, pool.name, plan_id, ctx.actor, now, "done", f"{_GONE}{said}", (node_id,))
    ctx.ports.audit.record(row)
    log.warning("a node is gone", pool=pool.name, node=node_id)
    return row
