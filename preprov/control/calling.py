"""Nodes that call as soon as they are ready, so that a pass looks at once.

A call proves nothing: what the provider shows of the node is the truth, and the pass that follows asks for it. Each
warming of a node has a token of its own, good for one call about that node, kept here as a digest only. It travels by
the notes by which a controller tells a node everything, is taken off them once it is of no more use, and expires.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from preprov.contracts import LeavesNotes
from preprov.control.access import create_node_token
from preprov.control.context import Context
from preprov.control.observing import UNLISTED
from preprov.control.trust import may_act
from preprov.model.access import Scope, Token
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.notes import CALLBACK, spread
from preprov.model.pools import Pool

log = structlog.get_logger(__name__)

GOOD_FOR: Final = timedelta(minutes=20)
"""A node that takes longer gets another token."""
_LISTED_WITHIN: Final = timedelta(minutes=2)
"""A node that has called and still seems to warm is not asked again for so long: listings lag behind."""
_KEPT: Final = timedelta(days=1)
"""Spent tokens are forgotten after this long."""


def invite(ctx: Context, pool: Pool, observation: PoolObservation) -> None:
    """Give nodes that warm a token to call with, and take it from those that warm no more.

    Nothing is done where nodes cannot be left notes, no address is configured, or the mode allows no writes. A provider
    that refuses is asked again in the next pass; the node is seen in any case.
    """
    if not ctx.callback or not may_act(ctx, pool):
        return
    ctx.ports.tokens.forget(Scope.NODE, ctx.clock.now() - _KEPT)
    known: dict[str, list[Token]] = {}
    for t in _tokens(ctx):
        if t.sees_pool(pool.name):
            known.setdefault(t.node_id, []).append(t)
    for n in observation.nodes:
        provider: object = ctx.providers.get(pool.group(n.group).provider)
        if not isinstance(provider, LeavesNotes) or n.reason == UNLISTED:
            continue
        try:
            _attend(ctx, pool, provider, n, known.pop(n.node_id, []))
        except PoolError as e:
            log.info("a node was not asked to call", pool=pool.name, node=n.node_id, problem=str(e))
    if observation.complete:
        for gone in known.values():
            _withdraw(ctx, gone)


def _attend(ctx: Context, pool: Pool, provider: LeavesNotes, node: Node, mine: Sequence[Token]) -> None:
    now = ctx.clock.now()
    if node.phase is not Phase.WARMING:
        if any(t.is_good(now) or (t.used_at is not None and t.revoked_at is None) for t in mine):
            provider.leave_notes(pool, [node.node_id], spread(CALLBACK, {}))
            _withdraw(ctx, mine)
        return
    if any(t.is_good(now) or (t.used_at is not None and now - t.used_at < _LISTED_WITHIN) for t in mine):
        return
    token, written = create_node_token(ctx, node.node_id, pool.name, GOOD_FOR)
    try:
        notes = spread(CALLBACK, {"url": ctx.callback, "pool": pool.name, "token": written})
        provider.leave_notes(pool, [node.node_id], notes)
    except Exception:
        ctx.ports.tokens.revoke(token.token_id, now)  # nobody has it
        raise


def _withdraw(ctx: Context, tokens: Sequence[Token]) -> None:
    for t in tokens:
        if t.revoked_at is None:
            ctx.ports.tokens.revoke(t.token_id, ctx.clock.now())


def node_says(ctx: Context, token: Token, phase: str, reason: str = "") -> bool:
    """A node called with this token, which is used up by it; False if it was already."""
    if not ctx.ports.tokens.use_up(token.token_id, ctx.clock.now()):
        return False
    log.info("a node called", node=token.node_id, pool=",".join(token.pools), phase=phase, reason=reason)
    return True


def _tokens(ctx: Context) -> tuple[Token, ...]:
    return tuple(t for t in ctx.ports.tokens.tokens("") if Scope.NODE in t.scopes)


@dataclass
class Calls:
    """Which pools have a node that called since the last time this was asked."""

    ctx: Context
    _heard: set[str] | None = field(default=None)

    def pools(self) -> frozenset[str]:
        """Their names. The first answer is empty: who has just begun looks at everything anyway."""
        used = {t.token_id: t.pools for t in _tokens(self.ctx) if t.used_at is not None}
        new = used.keys() - self._heard if self._heard is not None else set()
        self._heard = set(used)
        return frozenset(p for token_id in new for p in used[token_id])
