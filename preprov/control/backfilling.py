"""Lead times on day 0: what vendors and schedulers have on record of past warmings, marked as such, each once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from preprov.contracts import LeadObservation, RecallsLeads, Warmed
from preprov.control.context import Context
from preprov.model.errors import PoolError
from preprov.model.offerings import Standby
from preprov.model.pools import Group, Pool
from preprov.planning.leads import KEPT, Telling, once

log = structlog.get_logger(__name__)

NOTHING: Final = "has no record of past warmings"
_OLD: Final = f"older than the newest {KEPT} of its kind, of which alone is learnt"


@dataclass(frozen=True)
class Recalled:
    """What came of a group's record.

    Attributes:
        found: warmings on record. new: of them kept now. known: kept before, or seen by preprov itself.
        oldest: the first of those found. means: what the times are of. left_out: why records tell nothing -> how many.
        error: why it could not be asked; "" = it was.
    """

    group: str
    found: int = 0
    new: int = 0
    known: int = 0
    oldest: datetime | None = None
    means: str = ""
    left_out: tuple[tuple[str, int], ...] = ()
    error: str = ""


def recall(ctx: Context, pool: Pool, since: datetime) -> tuple[Recalled, ...]:
    """Keep what is on record of the pool's groups since then. Again finds the same and keeps nothing twice.

    A group that cannot be asked says why; the others are kept.
    """
    out = tuple(_recall(ctx, pool, group, since) for group in pool.groups)
    if any(r.new for r in out):
        for whose in ("", *ctx.pools):
            ctx.memo.pop((whose, "leads"), None)
    return out


def _recall(ctx: Context, pool: Pool, group: Group, since: datetime) -> Recalled:
    provider: object = ctx.providers.get(group.provider)
    if not isinstance(provider, RecallsLeads):
        return Recalled(group.name, means=f"{group.provider} {NOTHING}")
    try:
        found = provider.recall_leads(pool, group.name, since)
    except PoolError as e:
        log.warning("what is on record could not be asked", pool=pool.name, group=group.name, problem=str(e))
        return Recalled(group.name, error=str(e))
    told = [
        LeadObservation(
            at=w.at,
            pool=pool.name,
            provider=group.provider,
            group=group.name,
            zone=w.zone,
            instance_type=w.instance_type,
            image="",
            came_from=w.came_from,
            seconds=w.seconds,
            node_id=w.node_id,
            stages=w.stages,
            outcome=_outcome(w),
            recorded=group.provider,
        )
        for w in found.warmed
    ]
    before = once(ctx.ports.leads.observations(group.provider))
    known = {_which(o) for o in before}
    fresh = [o for o in once([*before, *told]) if _which(o) not in known]
    wanted = {_which(o) for o in Telling.of([*before, *fresh]).newest}
    new = [o for o in fresh if _which(o) in wanted]
    ctx.ports.leads.add(*new)
    oldest = min((o.at for o in told), default=None)
    old = ((_OLD, len(fresh) - len(new)),) if len(fresh) > len(new) else ()
    left_out = (*found.left_out, *old)
    done = Recalled(group.name, len(told), len(new), len(told) - len(fresh), oldest, found.means, left_out)
    log.info("lead times on record", pool=pool.name, group=group.name, found=done.found, new=done.new)
    return done


def _which(o: LeadObservation) -> tuple[str, Standby, datetime]:
    return o.node_id, o.came_from, o.at


def _outcome(w: Warmed) -> str:
    if w.lacked:
        return "insufficient_capacity"
    if w.failed:
        return "failed"
    return "ready" if w.whole else "partial"
