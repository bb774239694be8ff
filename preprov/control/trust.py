"""How far preprov may go now: the mode that was asked for, less what the gate and other writers leave of it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from preprov.contracts import ANOTHER_PREPROV, Examined, SetsFloor
from preprov.control.context import Context
from preprov.control.gating import shown
from preprov.model.errors import PoolError
from preprov.model.pools import Group, Mode, Pool

ACTS: Final = (Mode.FLOOR, Mode.FULL)
_ORDER: Final = (Mode.OBSERVE, Mode.RECOMMEND, Mode.FLOOR, Mode.FULL)
_FRESH: Final = timedelta(minutes=5)
_GOOD_FOR: Final = timedelta(hours=1)
"""Who else writes is taken to be as it was, for so long, where it cannot be asked."""


@dataclass(frozen=True)
class Writers:
    """Who else writes a group's counts. `unknown`: why nobody can say; "" = it was asked."""

    names: tuple[str, ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class Trust:
    """How far preprov may go on a pool. `why`: what it is less than was asked for; empty = it is not."""

    wanted: Mode
    mode: Mode
    why: tuple[str, ...] = ()


def trust(ctx: Context, pool: Pool) -> Trust:
    """The mode in force, and why it is not the one that was asked for."""
    wanted = ctx.mode(pool, ctx.clock.now())
    if wanted not in ACTS or not ctx.live:
        return Trust(wanted, wanted)
    earned = shown(ctx, pool).earned
    why = [] if _rank(earned) >= _rank(wanted) else [f"the gate: {m}" for m in shown(ctx, pool).missing[_next(earned)]]
    mode = min(wanted, earned, key=_rank)
    if mode not in ACTS:
        return Trust(wanted, mode, tuple(why))
    for group in pool.groups:
        found = writers(ctx, pool, group)
        if found.names or found.unknown:
            mode = min(mode, Mode.FLOOR, key=_rank)
            why.append(f"group {group.name}: {found.unknown or ' and '.join(found.names)}")
    return Trust(wanted, mode, tuple(why))


def in_force(ctx: Context, pool: Pool) -> Mode:
    """The mode in force."""
    return trust(ctx, pool).mode


def may_act(ctx: Context, pool: Pool) -> bool:
    """True if anything at all may be written now."""
    return ctx.live and in_force(ctx, pool) in ACTS and not ctx.ports.intent.halted()


def foreign(ctx: Context, pool: Pool, group: Group) -> str:
    """Why nothing at all may be written to a group; "" if something may, if only its floor."""
    found = writers(ctx, pool, group)
    if found.unknown:
        return found.unknown
    if any(n.startswith(ANOTHER_PREPROV) for n in found.names):
        return f"{' and '.join(found.names)}: nothing is written to it"
    if found.names and not isinstance(ctx.providers.get(group.provider), SetsFloor):
        return f"{' and '.join(found.names)}, and it has no floor that they would keep to: nothing is written to it"
    return ""


def writers(ctx: Context, pool: Pool, group: Group) -> Writers:
    """Who else writes the group's counts, less those that a person said are no concern; asked every five minutes."""
    key, now = (pool.name, "writers", group.name), ctx.clock.now()
    held = ctx.memo.get(key)
    if held is not None and timedelta(0) <= now - held[0] < _FRESH and isinstance(held[1], Writers):
        return held[1]
    provider: object = ctx.providers.get(group.provider)
    if not isinstance(provider, Examined):  # slow to find out
        ctx.memo[key] = (now, Writers())
        return Writers()
    try:
        names = provider.other_writers(pool, group.name)
    except PoolError as e:
        if held is not None and now - held[0] < _GOOD_FOR and isinstance(held[1], Writers):
            return held[1]
        return Writers(unknown=f"who else writes it could not be asked: {e.what}")
    ignored = ignored_writers(ctx, pool, group.name)
    found = Writers(tuple(n for n in names if n not in ignored))
    ctx.memo[key] = (now, found)
    return found


def ignored_writers(ctx: Context, pool: Pool, group: str) -> tuple[str, ...]:
    """Writers that a person said are no concern."""
    adoption = ctx.ports.adoptions.in_force(pool.name).get(group)
    return adoption.ignored if adoption is not None else ()


def forget_writers(ctx: Context, pool: Pool) -> None:
    """Ask anew at the next look."""
    for group in pool.groups:
        ctx.memo.pop((pool.name, "writers", group.name), None)


def _rank(mode: Mode) -> int:
    return _ORDER.index(mode)


def _next(mode: Mode) -> Mode:
    return Mode.FULL if mode is Mode.FLOOR else Mode.FLOOR
