"""What the providers of a pool's groups declare, as far as plans go by it."""

from preprov.contracts import SetsTargets
from preprov.control.context import Context
from preprov.control.trust import writers
from preprov.model.pools import Group, Pool


def fills(ctx: Context, pool: Pool, group: Group) -> bool:
    """True if its vendor keeps nodes in standby by itself, and nobody else moves its counts."""
    provider = ctx.providers.get(group.provider) if ctx.live else None
    if provider is None or group.quickest_kept is None or not isinstance(provider, SetsTargets):
        return False
    return provider.capabilities(pool, group.name).sets_targets and not writers(ctx, pool, group).names


def is_nameless(ctx: Context, pool: Pool, group: Group) -> bool:
    """True if none of its nodes in service can be ended or kept by name: whoever owns the count lowers it."""
    provider = ctx.providers.get(group.provider) if ctx.live else None
    return provider is not None and not provider.capabilities(pool, group.name).names_serving
