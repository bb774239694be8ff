"""What a raise would run into on Azure: quotas of the region, and free addresses of the scale set's subnet."""

import re
from collections.abc import Iterator
from typing import Final

from preprov.contracts import Headroom
from preprov.model.errors import NotAuthorisedError
from preprov.model.offerings import CapacityType, Offering
from preprov.pools.azure.clients import Clients, Json
from preprov.pools.azure.group import ScaleSet

_NETWORK_API: Final = "2023-09-01"
_SIZE: Final = re.compile(r"Standard_([A-Z]+)\d+(?:-\d+)?([a-z]*)(?:_(v\d+))?", re.IGNORECASE)


def headroom(clients: Clients, group: ScaleSet, offering: Offering) -> Iterator[Headroom]:
    """Limits that a machine of the offering counts in.

    Raises:
        PoolError: they could not be asked.
    """
    settings = group.settings()
    location, per_node = str(settings.get("location", "")), _counts(offering)
    for usage in group.usages(location):
        each = per_node.get(str(usage["name"]["value"]).lower())
        used, limit = float(usage["currentValue"]), float(usage["limit"])
        if each and limit >= 0:
            name = usage["name"].get("localizedValue") or usage["name"]["value"]
            yield Headroom(f"quota {name} of {location} ({used:g} of {limit:g} in use)", int((limit - used) // each))
    yield from _addresses(clients, group, settings)


def disk_gib(group: ScaleSet) -> float | None:
    """Size of the disk that its model boots from; None if it is that of the image.

    Raises:
        PoolError: it could not be asked.
    """
    profile = group.settings()["properties"].get("virtualMachineProfile", {}).get("storageProfile", {})
    size = float(profile.get("osDisk", {}).get("diskSizeGB") or 0)
    return size or None


def _counts(offering: Offering) -> dict[str, float]:
    """Names of quotas, in lower case -> what one machine takes of each."""
    cpus = max(offering.capacity.cpu, 1.0)
    if offering.capacity_type is CapacityType.SPOT:
        return {"lowprioritycores": cpus, "virtualmachines": 1.0}
    found = _SIZE.fullmatch(offering.instance_type)
    family = "".join(p or "" for p in found.groups()) if found else ""
    mine = {f"standard{family}family".lower(): cpus} if family else {}
    return {"cores": cpus, "virtualmachines": 1.0, **mine}


def _addresses(clients: Clients, group: ScaleSet, settings: Json) -> Iterator[Headroom]:
    """Where its network may be looked at: it is often somebody else's."""
    subnet = _subnet(settings)
    vnet, _, _ = subnet.partition("/subnets/")
    if not subnet:
        return
    try:
        rows = clients.resources(group.options.place, group.where, f"{vnet}/usages", _NETWORK_API)
    except NotAuthorisedError:
        return
    for row in rows:
        if str(row.get("id", "")).lower() == subnet.lower():
            free = int(float(row["limit"]) - float(row["currentValue"]))
            yield Headroom(f"free addresses in {subnet.rsplit('/', 1)[-1]} ({free})", free)


def _subnet(settings: Json) -> str:
    profile = settings["properties"].get("virtualMachineProfile", {}).get("networkProfile", {})
    for card in profile.get("networkInterfaceConfigurations", ()):
        for ip in card.get("properties", {}).get("ipConfigurations", ()):
            return str(ip.get("properties", {}).get("subnet", {}).get("id", ""))
    return ""
