"""What was done to a pool within the last minute, by the audit log: so it survives a restart, whoever did it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from preprov.control.context import Context
from preprov.model.errors import GuardError
from preprov.model.nodes import Phase, PoolObservation
from preprov.model.plans import Action, ActionKind, ActionRecord
from preprov.model.pools import Pool
from preprov.planning.lately import SPAN_S, Lately, disruption_budget

_SPAN: Final = timedelta(seconds=SPAN_S)
_LOWERS: Final = (ActionKind.HIBERNATE, ActionKind.STOP, ActionKind.TERMINATE, ActionKind.DRAIN)
_ORDERS: Final = (ActionKind.LAUNCH, ActionKind.START, *_LOWERS)
_BEGUN: Final = ("done", "intended")
_OURS: Final = (Phase.READY, Phase.WARMING, Phase.HIBERNATED, Phase.STOPPED)


def lately(ctx: Context, pool: Pool, observation: PoolObservation) -> Lately:
    """What counts against ramps and disruption budgets now. An order counts from when it was sent."""
    named: dict[str, set[str]] = {}
    unnamed: dict[str, int] = {}
    gone: set[str] = set()
    begun = _begun(ctx, pool)
    for _, r in begun:
        group = r.action.group
        if not r.action.kind.raises:
            gone.update(r.node_ids)
        elif r.node_ids:
            named.setdefault(group, set()).update(r.node_ids)
        else:
            unnamed[group] = unnamed.get(group, 0) + r.action.count
    raised = {g: len(named.get(g, ())) + unnamed.get(g, 0) for g in (*named, *unnamed)}
    until = min((sent + _SPAN for sent, _ in begun), default=None)
    return Lately(raised, frozenset(gone).union(_on_their_way(ctx, pool, observation, gone)), until)


def _begun(ctx: Context, pool: Pool) -> list[tuple[datetime, ActionRecord]]:
    """When each order of the last minute that did not fail was sent, and its last row."""
    now = ctx.clock.now()
    since = now - _SPAN
    sent: dict[str, ActionRecord] = {}
    last: dict[str, ActionRecord] = {}
    for r in ctx.ports.audit.records(pool.name, since=since - _SPAN):
        if r.result in _BEGUN or r.action.action_id in sent:
            sent.setdefault(r.action.action_id, r)
            last[r.action.action_id] = r
    return [
        (first.at, last[name])
        for name, first in sent.items()
        if since < first.at <= now and last[name].result in _BEGUN and first.action.kind in _ORDERS
    ]


def _on_their_way(ctx: Context, pool: Pool, observation: PoolObservation, known: set[str]) -> Iterable[str]:
    """Nodes that fall asleep or are drained because of an order of ours, however long ago it was given."""
    if not pool.disruptions:
        return
    for n in observation.nodes:
        if n.phase is Phase.DRAINING and n.node_id not in known and _lowered(ctx, pool, n.node_id):
            yield n.node_id


def _lowered(ctx: Context, pool: Pool, node_id: str) -> bool:
    """True if that was the last that was done to it: vendors prepare nodes for standby too, and people drain some."""
    rows = ctx.ports.audit.records(pool.name, node_id=node_id)
    done = [r.action.kind for r in rows if r.result == "done" and r.action.kind in _ORDERS]
    return bool(done) and done[-1] in _LOWERS


def check_disruptions(ctx: Context, pool: Pool, action: Action, observation: PoolObservation) -> None:
    """Refuse to give up more than the budgets of this hour leave; what failed, or is drained already, goes in any case.

    Raises:
        GuardError: naming the budget.
    """
    budget = disruption_budget(pool, ctx.clock.now())
    if budget == float("inf") or action.kind not in _LOWERS:
        return
    asked = ctx.ports.intent.drains(pool.name)
    drained = asked if "*" not in asked else {n.node_id for n in observation.nodes}
    ours = {n.node_id for n in observation.nodes if n.phase in _OURS} - drained
    new = ours.intersection(action.node_ids)
    gone = lately(ctx, pool, observation).given_up
    if new - gone and len(new | gone) > budget:
        raise GuardError(
            f"disruption budget {budget:g}: {len(gone)} are given up, {len(new - gone)} more asked", where=pool.name
        )
