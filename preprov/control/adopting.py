"""Begin to manage groups with their settings recorded first, and give them back exactly as they were."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from preprov.contracts import Adopts
from preprov.control.context import Context
from preprov.control.observing import committed_by_node
from preprov.control.serving import give_places_back
from preprov.control.trust import forget_writers, writers
from preprov.model.adoption import BOOTS_FROM, Adoption, differences, is_ours
from preprov.model.errors import PoolError
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Group, Mode, Pool

log = structlog.get_logger(__name__)

_RESTORED: Final = "given back"


@dataclass(frozen=True)
class GivenBack:
    """What came of giving a group back.

    Attributes:
        said: a line per setting that was put back. differs: setting -> (as found, as it is now); empty = all is as it
        was. error: why it could not be done; "" = it was.
    """

    group: str
    said: tuple[str, ...] = ()
    differs: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    error: str = ""

    @property
    def whole(self) -> bool:
        """True if every setting is as it was found."""
        return not self.differs and not self.error


def adopt(ctx: Context, pool: Pool, *, ignore: Collection[str] = ()) -> tuple[Adoption, ...]:
    """Record the settings of the pool's groups, as they are now or were recorded before; writes to no cloud.

    Args:
        ctx: the context.
        pool: the pool.
        ignore: other writers that are no concern from now on; none = as they were.

    Raises:
        PoolError: a group could not be read.
    """
    out = []
    for group in pool.groups:
        provider: object = ctx.provider(group.provider)
        if isinstance(provider, Adopts):
            out.append(_adopt(ctx, pool, group, provider))
            if ignore:
                ctx.ports.adoptions.ignore(pool.name, group.name, tuple(ignore))
    forget_writers(ctx, pool)
    held = ctx.ports.adoptions.in_force(pool.name)
    return tuple(held[a.group] for a in out)


def _adopt(ctx: Context, pool: Pool, group: Group, provider: Adopts) -> Adoption:
    found = provider.baseline(pool, group.name)
    others = writers(ctx, pool, group).names
    return ctx.ports.adoptions.adopt(Adoption(pool.name, group.name, dict(found), ctx.clock.now(), ctx.actor, others))


def unrecorded(ctx: Context, pool: Pool) -> Mapping[str, str]:
    """Group -> why it may not be written yet: its settings could not be recorded. Records those that are not."""
    providers: dict[str, object] = {g.name: ctx.providers.get(g.provider) for g in pool.groups}
    if not any(isinstance(p, Adopts) for p in providers.values()):
        return {}
    held = ctx.ports.adoptions.in_force(pool.name)
    out: dict[str, str] = {}
    for group in pool.groups:
        provider = providers[group.name]
        if group.name in held or not isinstance(provider, Adopts):
            continue
        try:
            _adopt(ctx, pool, group, provider)
            log.info("adopted before the first write", pool=pool.name, group=group.name)
        except PoolError as e:
            out[group.name] = f"its settings could not be recorded: {e}"
    return out


def record_image(ctx: Context, pool: Pool, group: Group) -> None:
    """Have what the group boots from recorded before a rollout: as it was adopted, or as its owner chose it since.

    Raises:
        PoolError: its settings could not be read, so that nothing may be written.
    """
    provider: object = ctx.provider(group.provider)
    if not isinstance(provider, Adopts):
        return
    held = ctx.ports.adoptions.in_force(pool.name).get(group.name)
    if held is None:
        _adopt(ctx, pool, group, provider)
        return
    now = provider.baseline(pool, group.name).get(BOOTS_FROM)
    if now is not None and now != held.baseline.get(BOOTS_FROM) and not is_ours(now):
        ctx.ports.adoptions.amend(pool.name, group.name, {BOOTS_FROM: now})


def release(ctx: Context, pool: Pool) -> tuple[GivenBack, ...]:
    """Give the pool's groups back: mode observe, every setting as it was found, idle nodes beyond them ended by name.

    A group of which something could not be put back yet (a node still works) stays adopted: release it again later.
    """
    now = ctx.clock.now()
    ctx.ports.intent.set_mode(pool.name, Mode.OBSERVE, None, actor=ctx.actor, at=now)
    out = give_back(ctx, pool)
    for one in out:
        if one.whole:
            ctx.ports.adoptions.release(pool.name, one.group, ctx.clock.now())
    forget_writers(ctx, pool)
    return out


def give_back(ctx: Context, pool: Pool) -> tuple[GivenBack, ...]:
    """Put the settings of the adopted groups, and of the places that were served, back; they stay adopted."""
    places = tuple(GivenBack(p.name, p.said, p.differs, p.error) for p in give_places_back(ctx, pool))
    held = frozenset(committed_by_node(ctx.ports.ledger.reservations(pool.name)))
    adopted = ctx.ports.adoptions.in_force(pool.name)
    return (*places, *(_give_back(ctx, pool, g, adopted[g.name], held) for g in pool.groups if g.name in adopted))


def _give_back(ctx: Context, pool: Pool, group: Group, adoption: Adoption, held: Collection[str]) -> GivenBack:
    provider: object = ctx.provider(group.provider)
    if not isinstance(provider, Adopts):
        return GivenBack(group.name, error=f"{group.provider} gives nothing back")
    _record(ctx, pool, group, "intended", "")
    try:
        said = provider.restore(pool, group.name, adoption.baseline, held)
        now = provider.baseline(pool, group.name)
    except PoolError as e:
        log.error("not given back", pool=pool.name, group=group.name, problem=str(e))
        _record(ctx, pool, group, "failed", f"{e.kind}: {e}")
        return GivenBack(group.name, error=str(e))
    differs = differences(adoption.baseline, now)
    _record(ctx, pool, group, "done", "; ".join(said))
    return GivenBack(group.name, said, differs)


def _record(ctx: Context, pool: Pool, group: Group, result: str, detail: str) -> None:
    now = ctx.clock.now()
    action = Action(
        action_id=stable_id(pool.name, _RESTORED, group.name, now.isoformat()),
        kind=ActionKind.HOLD,
        at=now,
        group=group.name,
        count=0,
        reason=f"group {group.name} is given back as it was found",
    )
    ctx.ports.audit.record(ActionRecord(action, pool.name, "", ctx.actor, now, result, detail))
