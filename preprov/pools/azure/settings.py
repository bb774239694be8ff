"""Settings of a scale set and its standby pool, and how to put back what was found."""

from collections.abc import Collection, Mapping
from typing import Final

from preprov.model.adoption import BOOTS_FROM
from preprov.pools.azure import images
from preprov.pools.azure.clients import Clients
from preprov.pools.azure.group import ScaleSet
from preprov.pools.machines.giveback import Ends, end_surplus

_PROFILE: Final = ("maxReadyCapacity", "minReadyCapacity")


def baseline(clients: Clients, group: ScaleSet) -> Mapping[str, object]:
    """The settings that preprov may touch."""
    out: dict[str, object] = {"capacity": int(group.settings()["sku"]["capacity"])}
    if group.standby is not None:
        profile = group.standby.settings()["elasticityProfile"]
        out |= {k: int(profile.get(k, 0)) for k in _PROFILE}
    boots_from = images.boots_from(clients, group)
    return out | ({BOOTS_FROM: boots_from} if boots_from else {})


def restore(
    clients: Clients, group: ScaleSet, ends: Ends, found: Mapping[str, object], held: Collection[str] = ()
) -> tuple[str, ...]:
    """Put the settings back; says what changed. What we noted on the scale set itself is taken away."""
    said: list[str] = []
    try:
        said.extend(images.put_back(clients, group, found.get(BOOTS_FROM)))
    finally:  # counts are paid for: they go back even if the image does not
        said.extend(_restore_counts(group, ends, found, held))
    return tuple(said)


def _restore_counts(group: ScaleSet, ends: Ends, found: Mapping[str, object], held: Collection[str]) -> list[str]:
    said: list[str] = []
    profile = {k: int(str(found[k])) for k in _PROFILE if k in found}
    if group.standby is not None and profile and group.standby.put(profile):
        said.append(f"standby pool {group.options.standby_pool}: {profile}")
    now, wanted = int(group.settings()["sku"]["capacity"]), int(str(found["capacity"]))
    if now < wanted:
        group.resize(wanted)
        said.append(f"capacity {now} -> {wanted}")
    elif now > wanted:
        said.extend(end_surplus(ends, group.pool, group.group.name, now - wanted, held))
    said.extend(group.forget_launches())
    return said
