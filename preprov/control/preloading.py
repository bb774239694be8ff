"""What should lie on a pool's nodes before they are ready, from what its queued and recurring DAGs read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Final, TypeAlias

from preprov.control.assets import Readings
from preprov.control.context import Context
from preprov.control.gathering import current_leads
from preprov.model.images import is_unpinned
from preprov.model.offerings import Standby
from preprov.model.plans import Action, ActionKind
from preprov.model.pools import Pool
from preprov.model.work import DatasetRef, ImageRef
from preprov.planning.preload import Advice, Asset, Site, assets_of, plan_preload

DAYS: Final = 7.0
_DAY: Final = timedelta(days=1)
_DISK_GIB: Final = 100.0
_FETCH_GIB_PER_S: Final = 0.1
_LEAST_GIB: Final = 0.1
_NOT_OURS: Final = ("local", "sim")
"""Providers whose nodes start from no image of ours."""

Place: TypeAlias = tuple[str, str]
"""(group, offering key)"""


@dataclass(frozen=True)
class Advised:
    """The advice, and what it rests on.

    Attributes:
        site: what nodes are like. notes: what was assumed because nobody knows it.
    """

    advice: tuple[Advice, ...]
    site: Site
    notes: tuple[str, ...]


def advise(
    ctx: Context,
    pool: Pool,
    *,
    days: float = DAYS,
    disk_gib: float | None = None,
    fetch_gib_per_s: float | None = None,
    bakes: bool | None = None,
) -> Advised:
    """Judge every image and dataset that the pool's tasks read.

    Args:
        days: how far back runs without a schedule are counted.
        disk_gib: room for assets on a node. fetch_gib_per_s: from where they lie. bakes: the group's image is ours to
            make. None = as configured or learnt, else assumed, which is noted.
    """
    now = ctx.clock.now()
    notes: list[str] = []
    site = _site(ctx, pool, now, days, notes)
    if disk_gib is not None:
        site = replace(site, disk_gib=disk_gib)
        notes = [n for n in notes if "room for assets" not in n]
    if fetch_gib_per_s is not None:
        site = replace(site, fetch_gib_per_s=fetch_gib_per_s)
        notes = [n for n in notes if "fetching" not in n]
    if bakes is not None:
        site = replace(site, bakes=bakes)
        notes = [n for n in notes if "no image can be made" not in n]
    tasks = ((r.spec, r.starts) for r in Readings(ctx, pool, now, days))
    assets = _latest(assets_of(tasks), _changes(ctx, pool, now, days))
    unknown = sum(a.size_gib is None for a in assets)
    if unknown:
        notes.append(f"{unknown} assets do not say how large they are: 2 GiB are assumed for each")
    if any(is_unpinned(a.ref) for a in assets):
        notes.append("images of a registry that say no digest cannot be preloaded: name each by its digest")
    return Advised(plan_preload(assets, site), site, tuple(notes))


def _changes(ctx: Context, pool: Pool, now: datetime, days: float) -> Mapping[str, float]:
    """Uri -> versions that were read in the last days beyond the first, per day."""
    since = now - timedelta(days=days)
    runs = [r.run_id for r in ctx.ports.work.runs(pool.name) if r.submitted_at >= since]
    seen: dict[str, set[str]] = {}
    for t in ctx.ports.work.task_runs(runs):
        refs: tuple[ImageRef | DatasetRef, ...] = (*t.spec.images, *t.spec.datasets)
        for ref in refs:
            seen.setdefault(ref.uri, set()).add(ref.version if isinstance(ref, DatasetRef) else ref.digest)
    return {uri: (len(v) - 1) / days for uri, v in seen.items()}


def _latest(assets: Sequence[Asset], changes: Mapping[str, float]) -> tuple[Asset, ...]:
    """One asset per uri: uses of all its versions count for the newest, which comes first."""
    out: dict[str, Asset] = {}
    for a in assets:
        before = out.get(a.ref.uri)
        if before is None:
            out[a.ref.uri] = replace(a, changes_per_day=changes.get(a.ref.uri, 0.0))
            continue
        uses = before.uses_per_day + a.uses_per_day
        cores = (before.uses_per_day * before.cores + a.uses_per_day * a.cores) / uses
        out[a.ref.uri] = replace(before, uses_per_day=uses, cores=cores, size_gib=a.size_gib or before.size_gib)
    return tuple(out.values())


# --------------------------------------------------------------------------- what nodes are like


def _site(ctx: Context, pool: Pool, now: datetime, days: float, notes: list[str]) -> Site:
    disk = pool.preload_gib
    if disk is None:
        notes.append(f"room for assets on a node is not said (disk_gib of pool.preload): {_DISK_GIB:g} GiB assumed")
        disk = _DISK_GIB
    launches = _launches(ctx, pool, now, days, notes)
    return Site(
        launches_per_day=sum(launches.values()),
        disk_gib=disk,
        usd_per_hour=_usd(ctx, pool, now, launches, notes),
        shortage_usd_per_core_hour=pool.objective.shortage_usd_per_core_hour,
        fetch_gib_per_s=_fetching(ctx, pool, notes),
        bakes=_bakes(pool, launches, notes),
    )


def _launches(ctx: Context, pool: Pool, now: datetime, days: float, notes: list[str]) -> Mapping[Place, float]:
    """Cold launches a day by (group, offering key): as they were done, else as the last plan wants them."""
    since = now - timedelta(days=days)
    rows = ctx.ports.audit.records(pool.name, since=since)
    done = _counted(pool, (r.action for r in rows if r.result == "done"))
    if done:
        watched = max((now - rows[0].at) / _DAY, 1.0)
        return {place: count / watched for place, count in done.items()}
    plan = ctx.ports.plans.latest(pool.name)
    planned = _counted(pool, plan.actions if plan else ())
    assumed = planned or {(pool.groups[0].name, pool.groups[0].offerings[0].key): 1.0}
    where = f" in group {pool.groups[0].name}" if not planned and len(pool.groups) > 1 else ""
    notes.append(f"nothing was launched in {days:g} days: {sum(assumed.values()):.0f} launches a day assumed{where}")
    return assumed


def _counted(pool: Pool, actions: Iterable[Action]) -> dict[Place, float]:
    """Nodes launched by (group, offering key); what is not configured any more counts as the group's first, or not."""
    first = {g.name: g.offerings[0].key for g in pool.groups}
    known = {(g.name, o.key) for g in pool.groups for o in g.offerings}
    out: dict[Place, float] = {}
    for a in actions:
        if a.kind is ActionKind.LAUNCH and a.group in first:
            place = (a.group, a.offering) if (a.group, a.offering) in known else (a.group, first[a.group])
            out[place] = out.get(place, 0.0) + a.count
    return out


def _usd(ctx: Context, pool: Pool, now: datetime, launches: Mapping[Place, float], notes: list[str]) -> float:
    """Price of a node-hour, the mean over the nodes that are launched."""
    prices = {(g.name, o.key): ctx.prices.usd_per_hour(o, now) for g in pool.groups for o in g.offerings}
    known = {place: usd for place in launches if (usd := prices[place]) is not None}
    if not known:
        notes.append("no price is known: a node-hour counts as one")
        return 1.0
    usd = sum(known[p] * launches[p] for p in known) / sum(launches[p] for p in known)
    if len(set(known.values())) > 1:
        notes.append(f"offerings differ in price: a node-hour counts as {usd:.4g} USD, the mean over what is launched")
    return usd


def _bakes(pool: Pool, launches: Mapping[Place, float], notes: list[str]) -> bool:
    """True if the images of all groups that nodes are launched in are ours to make: advice is one for all nodes."""
    used = {group for group, _ in launches}
    theirs = [g.name for g in pool.groups if g.name in used and g.provider in _NOT_OURS]
    if theirs and len(theirs) < len(used):
        notes.append(f"no image can be made for group {', '.join(theirs)}: baking is advised for none")
    return not theirs


def _fetching(ctx: Context, pool: Pool, notes: list[str]) -> float:
    """GiB a second, from what staging the pool's own datasets took."""
    staged = sum(d.size_gib or 0.0 for d in pool.preload.datasets)
    leads = current_leads(ctx, pool)
    took = [
        part.median_s
        for g in pool.groups
        for o in g.offerings
        if (part := leads.split(g.name, o, Standby.COLD).get("data")) is not None
    ]
    if staged >= _LEAST_GIB and took and median(took) > 0:
        return staged / median(took)
    notes.append(f"fetching was not measured: {_FETCH_GIB_PER_S:g} GiB/s assumed")
    return _FETCH_GIB_PER_S
