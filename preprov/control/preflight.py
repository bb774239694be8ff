"""Before a raise: what the vendor has no room for is not asked for, and what cannot fit on a disk is not launched."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from preprov.contracts import Finding, Headroom, Preflights
from preprov.control.accounting import Cap
from preprov.control.context import Context
from preprov.control.remembering import remembered
from preprov.model.errors import PoolError
from preprov.model.offerings import Offering, Preload
from preprov.model.plans import Action, ActionKind
from preprov.model.pools import Group, Pool

log = structlog.get_logger(__name__)

_FRESH: Final = timedelta(minutes=1)
_DISK_FRESH: Final = timedelta(minutes=30)
_SYSTEM_GIB: Final = 5.0
"""Of a disk, for the operating system."""
_FEW: Final = 5
_HUB: Final = ("docker://docker.io/", "docker://index.docker.io/", "docker://registry-1.docker.io/")
_HUB_PULLS: Final = 100
"""Pulls that Docker Hub lets an address make in six hours without a login."""


def preflight_caps(ctx: Context, pool: Pool, action: Action) -> Iterator[Cap]:
    """What the vendor's limits and the nodes' disks let through of a launch; nothing where they cannot be asked."""
    group = pool.group(action.group)
    provider: object = ctx.providers.get(group.provider)
    offering = next((o for o in group.offerings if o.key == action.offering), None)
    if action.kind is not ActionKind.LAUNCH or offering is None or not isinstance(provider, Preflights):
        return
    at, rooms = _rooms(ctx, pool, group, offering, provider)
    since = sum(
        len(r.node_ids)
        for r in ctx.ports.audit.records(pool.name, since=at)
        if r.result == "done" and r.action.kind is ActionKind.LAUNCH and r.action.group == group.name
    )
    for room in rooms:
        yield Cap(room.nodes - since, f"{room.what} leaves {max(room.nodes - since, 0)} nodes")
    lacks = _disk(ctx, pool, group, provider)
    if lacks:
        yield Cap(0, lacks)


def fitting(ctx: Context, pool: Pool, action: Action) -> Action:
    """As many nodes of a launch as the vendor has room for; as it is where there is none, so that it is refused."""
    most = min((c.most for c in preflight_caps(ctx, pool, action)), default=action.count)
    return replace(action, count=most) if 0 < most < action.count else action


def preflight(ctx: Context, pool: Pool) -> list[Finding]:
    """The same for people: limits that are near, disks that are small, and what a registry would refuse a wave."""
    found = list(_registry(pool))
    for group in pool.groups:
        provider: object = ctx.providers.get(group.provider)
        if isinstance(provider, Preflights):
            found.extend(_near(ctx, pool, group, provider))
    return found


def _near(ctx: Context, pool: Pool, group: Group, provider: Preflights) -> Iterator[Finding]:
    what = f"{pool.name}/{group.name}: room"
    wanted = min(group.max_nodes, pool.guards.max_nodes)
    least: Headroom | None = None
    for offering in group.offerings:
        try:
            rooms = provider.headroom(pool, group.name, offering)
            lacks = _too_small(pool.preload, provider.disk_gib(pool, group.name))
        except PoolError as e:
            yield Finding(what, "warn", f"cannot be asked: {e.what}", e.hint)
            return
        if lacks:
            yield Finding(f"{pool.name}/{group.name}: disk", "bad", lacks, "give the template a larger disk")
            return
        for room in rooms:
            least = room if least is None or room.nodes < least.nodes else least
    if least is not None:
        near = least.nodes < min(_FEW, wanted)
        hint = "raises stop there: raise the quota, or use a larger subnet" if near else ""
        yield Finding(what, "warn" if near else "ok", f"{least.what}: {max(least.nodes, 0)} more nodes", hint)


def _registry(pool: Pool) -> Iterator[Finding]:
    images = [i.uri for i in pool.preload.images if i.uri.startswith(_HUB) or _bare(i.uri)]
    wave = min(pool.guards.wave, pool.guards.max_nodes, sum(g.max_nodes for g in pool.groups))
    cloud = any(g.provider != "local" for g in pool.groups)
    if cloud and len(images) * wave > _HUB_PULLS:
        yield Finding(
            f"{pool.name}: registry",
            "warn",
            f"{len(images)} images of Docker Hub on a wave of {wave} nodes are {len(images) * wave} pulls; behind one "
            f"address it allows {_HUB_PULLS} in six hours without a login",
            "use the cloud's own registry or a pull-through cache, log in, or bake them: preprov image bake",
        )


def _bare(uri: str) -> bool:
    """True for docker://name or docker://user/name, which name no registry."""
    name, found = uri.removeprefix("docker://"), uri.startswith("docker://")
    first = name.split("/", 1)[0]
    return found and not ("/" in name and ("." in first or ":" in first or first == "localhost"))


def _rooms(
    ctx: Context, pool: Pool, group: Group, offering: Offering, provider: Preflights
) -> tuple[datetime, tuple[Headroom, ...]]:
    """As asked within the last minute; none if they cannot be: the vendor refuses what is too much."""

    def ask() -> tuple[datetime, tuple[Headroom, ...]]:
        at = ctx.clock.now()
        try:
            return at, provider.headroom(pool, group.name, offering)
        except PoolError as e:
            log.warning("limits could not be asked", pool=pool.name, group=group.name, problem=str(e))
            return at, ()

    return remembered(ctx, (pool.name, f"headroom {group.name} {offering.key}"), _FRESH, ask)


def _disk(ctx: Context, pool: Pool, group: Group, provider: Preflights) -> str:
    """Why what is preloaded cannot fit; "" if it can, or nobody knows."""

    def ask() -> float | None:
        try:
            return provider.disk_gib(pool, group.name)
        except PoolError:
            return None

    if not _size_gib(pool.preload):
        return ""
    return _too_small(pool.preload, remembered(ctx, (pool.name, f"disk {group.name}"), _DISK_FRESH, ask))


def _size_gib(preload: Preload) -> float:
    return sum(d.size_gib or 0.0 for d in preload.datasets)


def _too_small(preload: Preload, disk_gib: float | None) -> str:
    needed = _size_gib(preload) + _SYSTEM_GIB
    if disk_gib is None or not _size_gib(preload) or needed <= disk_gib:
        return ""
    return f"disk of {disk_gib:g} GiB: what is preloaded and the system take {needed:g} GiB"
