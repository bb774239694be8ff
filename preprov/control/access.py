"""Tokens: made, looked up, revoked."""

from collections.abc import Sequence
from datetime import timedelta

from preprov.control.context import Context
from preprov.model import access
from preprov.model.access import Scope, Token
from preprov.model.errors import AccessError, ConfigError


def create_token(
    ctx: Context,
    tenant: str,
    scopes: Sequence[Scope],
    *,
    pools: Sequence[str] = (),
    ttl: timedelta | None = None,
    note: str = "",
) -> tuple[Token, str]:
    """A new token, and how it is written: the only time that anybody sees it whole.

    Raises:
        ConfigError: there is no such pool. AccessError: no scope, or one that only nodes have.
    """
    if Scope.NODE in scopes:
        raise AccessError("a token of scope node is made for a node as it is launched", hint="choose another scope")
    if not tenant:
        raise ConfigError("a token needs a tenant", hint="--tenant NAME")
    for pool in pools:
        ctx.pool(pool)
    return _create(ctx, tenant, frozenset(scopes), tuple(pools), ttl, note)


def create_node_token(ctx: Context, node_id: str, pool: str, ttl: timedelta) -> tuple[Token, str]:
    """A token with which the agent on that node may say once that it is ready."""
    return _create(ctx, "", frozenset({Scope.NODE}), (pool,), ttl, "", node_id)


def _create(
    ctx: Context,
    tenant: str,
    scopes: frozenset[Scope],
    pools: tuple[str, ...],
    ttl: timedelta | None,
    note: str,
    node_id: str = "",
) -> tuple[Token, str]:
    now = ctx.clock.now()
    token_id, secret = access.new_secret()
    token = Token(
        token_id,
        access.digest_of(secret),
        tenant,
        scopes,
        created_at=now,
        expires_at=None if ttl is None else now + ttl,
        pools=pools,
        node_id=node_id,
        note=note,
    )
    ctx.ports.tokens.add(token)
    return token, access.written(token_id, secret)


def authenticate(ctx: Context, text: str) -> Token:
    """The token that was shown.

    Raises:
        AccessError: it is none of ours, or no longer good. The message does not say which.
    """
    token_id, secret = access.read(text)
    token = ctx.ports.tokens.get(token_id)
    if token is None or not token.opens_with(secret) or not token.is_good(ctx.clock.now()):
        raise AccessError("this token is not known, or is no longer good", hint="preprov token create")
    return token


def revoke_token(ctx: Context, token_id: str) -> Token:
    """It is good for nothing from now on.

    Raises:
        AccessError: there is no such token.
    """
    revoked = ctx.ports.tokens.revoke(token_id, ctx.clock.now())
    if revoked is None:
        raise AccessError(f"there is no token {token_id}", hint="preprov token list")
    return revoked
