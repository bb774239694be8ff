"""Which images and datasets go on a pool's nodes before they are ready: baked in, staged at boot, or left to first use.

An asset that is not there makes the first task on each node that wants it wait while it is fetched. Staging it at boot
moves that time out of the task's way, at the price of a node that is billed while it fetches, wanted or not. Baking it
into the image or a snapshot spares the time too, at the price of storage and of making the image again when the asset
changes. What saves most per GiB gets the disk.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from preprov.model.errors import ConfigError
from preprov.model.offerings import Preload
from preprov.model.work import DatasetRef, ImageRef, TaskSpec

_HOUR: Final = 3600.0
_DAYS: Final = 30.0
UNKNOWN_GIB: Final = 2.0
"""Size of an asset that does not say."""


class Placing(StrEnum):
    """Where an asset comes from when a node starts."""

    BAKE = "bake"
    STAGE = "stage"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Asset:
    """An image or a dataset version that tasks of a pool want.

    Attributes:
        uses_per_day: expected starts of task instances that want it. cores: of such an instance, weighted by use.
        size_gib: on disk; None = not known. changes_per_day: how often there is a new version of it.
    """

    ref: ImageRef | DatasetRef
    uses_per_day: float
    cores: float
    size_gib: float | None = None
    changes_per_day: float = 0.0

    @property
    def key(self) -> str:
        """Digest or uri of an image, key of a dataset."""
        return self.ref.key if isinstance(self.ref, DatasetRef) else self.ref.digest or self.ref.uri


@dataclass(frozen=True, slots=True)
class Site:
    """What nodes of the pool are like.

    Attributes:
        launches_per_day: cold launches. disk_gib: room for assets. usd_per_hour: of a node that runs.
        shortage_usd_per_core_hour: price of waiting. fetch_gib_per_s: from where assets lie to a node's disk.
        bakes: True if the group's image is ours to make. bake_usd: of making it once.
        image_usd_per_gib_month: of keeping it. hydrate_share: share of the fetching time that a baked asset still costs
        when it is read for the first time (snapshots are loaded lazily).
    """

    launches_per_day: float
    disk_gib: float
    usd_per_hour: float
    shortage_usd_per_core_hour: float
    fetch_gib_per_s: float = 0.1
    bakes: bool = True
    bake_usd: float = 0.1
    image_usd_per_gib_month: float = 0.05
    hydrate_share: float = 0.1

    def __post_init__(self) -> None:
        if self.fetch_gib_per_s <= 0:
            raise ConfigError(f"fetch_gib_per_s must be > 0, got {self.fetch_gib_per_s}")


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do with one asset.

    Attributes:
        saves_s_per_day: waiting of tasks that it spares. usd_per_day: net, by placing, against leaving it.
        per_gib: saved seconds a day per GiB, what the disk is given by. why: a sentence.
    """

    asset: Asset
    placing: Placing
    saves_s_per_day: float
    usd_per_day: Mapping[Placing, float]
    per_gib: float
    why: str


def assets_of(tasks: Iterable[tuple[TaskSpec, float]]) -> tuple[Asset, ...]:
    """What tasks want.

    Args:
        tasks: spec and how often it is expected to be started in a day (all of its instances each time): what is queued
            counts once, what recurs as often as it is due.
    """
    found: dict[str, tuple[ImageRef | DatasetRef, float, float]] = {}
    for spec, starts in tasks:
        uses = starts * spec.instances
        refs: tuple[ImageRef | DatasetRef, ...] = (*spec.images, *spec.datasets)
        for ref in dict.fromkeys(refs):
            key = Asset(ref, 0.0, 0.0).key
            _, n, cores = found.get(key, (ref, 0.0, 0.0))
            found[key] = (ref, n + uses, cores + uses * spec.request.cpu)
    return tuple(
        Asset(ref, n, cores / n, ref.size_gib if isinstance(ref, DatasetRef) else None)
        for ref, n, cores in found.values()
        if n > 0
    )


def plan_preload(assets: Sequence[Asset], site: Site) -> tuple[Advice, ...]:
    """Advice for each asset, what saves most per GiB first.

    A node wants an asset in its life with probability 1 - exp(-uses / launches): uses fall on nodes at random.
    """
    ranked = sorted((_judged(a, site) for a in assets), key=lambda x: (-x.per_gib, x.asset.key))
    left, out = site.disk_gib, []
    for advice in ranked:
        size = _gib(advice.asset)
        if advice.placing is not Placing.LEAVE and size > left:
            why = f"{size:.3g} GiB do not fit beside what saves more; {left:.3g} GiB are left"
            advice = Advice(advice.asset, Placing.LEAVE, 0.0, advice.usd_per_day, advice.per_gib, why)
        if advice.placing is not Placing.LEAVE:
            left -= size
        out.append(advice)
    return tuple(out)


def preload_of(advice: Iterable[Advice], *, baked_too: bool = True) -> Preload:
    """What nodes are to have, as a pool says it; `baked_too`: checked even though the image should bring it."""
    wanted = [a.asset.ref for a in advice if a.placing is Placing.STAGE or (baked_too and a.placing is Placing.BAKE)]
    return Preload(
        tuple(r for r in wanted if isinstance(r, ImageRef)), tuple(r for r in wanted if isinstance(r, DatasetRef))
    )


def _gib(asset: Asset) -> float:
    return UNKNOWN_GIB if asset.size_gib is None else asset.size_gib


def _judged(asset: Asset, site: Site) -> Advice:
    size = _gib(asset)
    seconds = size / site.fetch_gib_per_s
    launches = max(site.launches_per_day, 1e-9)
    wanted = -math.expm1(-asset.uses_per_day / launches)
    waits_h = launches * wanted * seconds / _HOUR
    saved = waits_h * (asset.cores * site.shortage_usd_per_core_hour + site.usd_per_hour)
    usd = {Placing.LEAVE: 0.0, Placing.STAGE: saved - launches * seconds / _HOUR * site.usd_per_hour}
    if site.bakes:
        keeping = size * site.image_usd_per_gib_month / _DAYS + asset.changes_per_day * site.bake_usd
        usd[Placing.BAKE] = saved * (1 - site.hydrate_share) - keeping
    best = max(usd, key=lambda p: (usd[p], p is Placing.LEAVE))
    spared = 0.0 if best is Placing.LEAVE else waits_h * _HOUR * (1 - site.hydrate_share * (best is Placing.BAKE))
    others = ", ".join(f"{p} {v:+.3f}" for p, v in sorted(usd.items(), key=lambda kv: -kv[1]))
    why = f"wanted on {wanted:.0%} of {launches:.3g} nodes a day, {seconds:.0f} s each; USD a day: {others}"
    return Advice(asset, best, spared, usd, waits_h * _HOUR / max(size, 1e-9), why)
