"""What a raise would run into on Google Cloud: quotas of the region, and free addresses of the template's subnet."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from preprov.contracts import Headroom
from preprov.model.offerings import CapacityType, Offering
from preprov.pools.gcp.group import ManagedGroup
from preprov.pools.gcp.view import name_of

_SHARED_CORE: Final = ("e2", "f1", "g1", "n1")
"""Families whose cores count in CPUS only."""


def headroom(group: ManagedGroup, offering: Offering) -> Iterator[Headroom]:
    """Limits that a machine of the offering counts in.

    Raises:
        PoolError: they could not be asked.
    """
    region = group.ask("Regions", "get", region=group.options.place.region)
    per_node = _counts(offering)
    for quota in region.quotas:
        each = per_node.get(quota.metric)
        if each and quota.limit >= 0:
            what = f"quota {quota.metric} of {region.name} ({quota.usage:g} of {quota.limit:g} in use)"
            yield Headroom(what, int((quota.limit - quota.usage) // each))
    yield from _addresses(group)


def disk_gib(group: ManagedGroup) -> float | None:
    """Size of the boot disk of the group's template.

    Raises:
        PoolError: it could not be asked.
    """
    boot = next((d for d in _template(group).properties.disks if d.boot), None)
    size = float(boot.initialize_params.disk_size_gb or boot.disk_size_gb or 0) if boot is not None else 0.0
    return size or None


def _counts(offering: Offering) -> Mapping[str, float]:
    family = offering.instance_type.split("-")[0]
    cpus = max(offering.capacity.cpu, 1.0)
    spot = offering.capacity_type is CapacityType.SPOT
    cores = {"PREEMPTIBLE_CPUS": cpus} if spot else {"CPUS": cpus}
    mine = {} if family in _SHARED_CORE or spot else {f"{family.upper()}_CPUS": cpus}
    return {"INSTANCES": 1.0, **cores, **mine}


def _template(group: ManagedGroup) -> Any:
    return group.ask("InstanceTemplates", "get", instance_template=name_of(group.settings().instance_template))


def _addresses(group: ManagedGroup) -> Iterator[Headroom]:
    """Where the template names a subnet, and Compute Engine tells how full that is."""
    nets = _template(group).properties.network_interfaces
    subnet = nets[0].subnetwork if nets else ""
    if not subnet:
        return
    parts = subnet.split("/")
    where = {"region": parts[parts.index("regions") + 1]} if "regions" in parts else {}
    project = {"project": parts[parts.index("projects") + 1]} if "projects" in parts else {}
    found = group.ask("Subnetworks", "get", subnetwork=name_of(subnet), views="WITH_UTILIZATION", **where, **project)
    rows = found.utilization_details.ipv4_utilizations
    own = [r for r in rows if not r.range_name] or list(rows)[:1]
    for row in own:
        yield Headroom(f"free addresses in {found.name} ({row.total_free_ip})", int(row.total_free_ip))
