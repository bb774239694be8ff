"""What a play takes over from where its pool is run: limits, the account, how far plans look and what goes by them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from preprov.control.context import Context
from preprov.control.sharing import limits_of
from preprov.model.limits import Account, SharedLimit
from preprov.model.pools import Group, Pool
from preprov.planning.reaction import reacts_in


@dataclass(frozen=True)
class Installation:
    """What the policy `preprov` takes over from where it is run; other policies know nothing of it.

    Attributes:
        limits: that bind the pool. account: what all pools may have together. Either counts as if nobody else had
            anything of it.
        look_ahead_s: how far plans look. samples: that they are made from. None = as for published comparisons.
        reacts: False where nothing moves between two plans.
    """

    limits: tuple[SharedLimit, ...] = ()
    account: Account | None = None
    look_ahead_s: int | None = None
    samples: int | None = None
    reacts: bool = True


ALONE: Final = Installation()
"""Nothing but the pool."""


def installed(ctx: Context, pool: Pool) -> Installation:
    """As the context has it.

    Plans look as far as they do there where few of them are played: what goes by plans alone needs many.
    """
    providers = [(g, ctx.providers.get(g.provider)) for g in pool.groups]
    reacts = reacts_in(pool) and all(p is None or p.capabilities(pool, g.name).reacts for g, p in providers)
    alone = Installation(limits_of(ctx, pool), ctx.account, reacts=reacts)
    return replace(alone, look_ahead_s=pool.horizon_s, samples=ctx.n_samples) if reacts else alone


def within_limits(pool: Pool, limits: tuple[SharedLimit, ...], account: Account | None) -> Pool:
    """The pool with no more nodes than all of these leave it, so that every policy keeps to them.

    What is said in cores counts as nodes of the smallest offering. Money is not in it.
    """
    groups = tuple(_within(pool, g, limits) for g in pool.groups)
    mine = frozenset((pool.name, g.name) for g in pool.groups)
    caps = [pool.guards.max_nodes, *(n for limit in limits if mine <= limit.groups for n in _nodes(limit, pool.groups))]
    if account is not None and account.max_nodes is not None:
        caps.append(account.max_nodes)
    return replace(pool, groups=groups, guards=replace(pool.guards, max_nodes=min(caps)))


def _within(pool: Pool, group: Group, limits: tuple[SharedLimit, ...]) -> Group:
    binding = [limit for limit in limits if (pool.name, group.name) in limit.groups]
    most = min([group.max_nodes, *(n for limit in binding for n in _nodes(limit, (group,)))])
    return replace(group, max_nodes=most, min_nodes=min(group.min_nodes, most))


def _nodes(limit: SharedLimit, groups: tuple[Group, ...]) -> Iterator[int]:
    if limit.max_nodes is not None:
        yield limit.max_nodes
    cpu = min(o.capacity.cpu for g in groups for o in g.offerings)
    if limit.max_cpu is not None and cpu > 0:
        yield int(limit.max_cpu // cpu)
