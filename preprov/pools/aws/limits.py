"""What a raise would run into on AWS: the region's vCPU quotas, and free addresses of the group's subnets."""

import re
from collections.abc import Iterator
from typing import Any, Final

from preprov.contracts import Headroom
from preprov.model.errors import NotFoundError
from preprov.model.offerings import CapacityType, Offering
from preprov.pools.aws.clients import Json
from preprov.pools.aws.errors import calling
from preprov.pools.aws.images import launched_from, version
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.writes import Tools

_STANDARD: Final = "ACDHIMRTZ"
_QUOTAS: Final = {"standard": ("L-1216C47A", "L-34B43A08"), "g": ("L-DB2E81BA", "L-3819A6DF")}
"""Families of instance types -> quota of vCPUs on demand, quota of spot vCPUs. Other families are not looked at."""
_APART: Final = frozenset({"dl", "hpc", "inf", "mac", "trn"})
_OURS: Final = "our own machines use"


def headroom(tools: Tools, group: AwsGroup, offering: Offering) -> Iterator[Headroom]:
    """Of the quota only the use of machines with a pool's tag is known: there may be less room, never more.

    Raises:
        PoolError: it could not be asked.
    """
    yield from _quota(tools, group, offering)
    yield from _addresses(tools, group, offering)


def disk_gib(tools: Tools, group: AwsGroup) -> float | None:
    """Size of the largest disk that the launch template makes; None if it names none.

    Raises:
        PoolError: it could not be asked.
    """
    spec, _ = launched_from(tools, group)
    data = version(tools, group, spec)["LaunchTemplateData"]
    sizes = [float((b.get("Ebs") or {}).get("VolumeSize") or 0) for b in data.get("BlockDeviceMappings") or ()]
    return max(sizes, default=0.0) or None


def _family(instance_type: str) -> str:
    letters = re.match(r"[a-z]*", instance_type)
    name = letters[0] if letters else ""
    if name in _APART or not name:
        return ""
    return "standard" if name[0].upper() in _STANDARD else "g" if name[0] in "gv" else ""


def _quota(tools: Tools, group: AwsGroup, offering: Offering) -> Iterator[Headroom]:
    codes = _QUOTAS.get(_family(offering.instance_type))
    if codes is None:
        return
    spot = offering.capacity_type is CapacityType.SPOT
    try:
        with calling(group.where):
            found = tools.clients.get("service-quotas", group.place).get_service_quota(
                ServiceCode="ec2", QuotaCode=codes[spot]
            )["Quota"]
    except NotFoundError:  # never asked for in this account: the vendor's default, which is not told here
        return
    cpus = max(offering.capacity.cpu, 1.0)
    used = sum(_vcpus(i, offering) for i in tools.listing.alive(group.place) if _counts(i, offering, spot=spot))
    what = f"quota {found.get('QuotaName', codes[spot])} of {found['Value']:g} vCPUs, of which {_OURS} {used:g},"
    yield Headroom(what, int((float(found["Value"]) - used) // cpus))


def _counts(instance: Json, offering: Offering, *, spot: bool) -> bool:
    running = str(instance["State"]["Name"]) in ("pending", "running")
    same = _family(str(instance["InstanceType"])) == _family(offering.instance_type)
    return running and same and (str(instance.get("InstanceLifecycle", "")) == "spot") == spot


def _vcpus(instance: Json, offering: Offering) -> float:
    if str(instance["InstanceType"]) == offering.instance_type:
        return max(offering.capacity.cpu, 1.0)
    about: Any = instance.get("CpuOptions") or {}
    return float(about.get("CoreCount") or 1) * float(about.get("ThreadsPerCore") or 1)


def _addresses(tools: Tools, group: AwsGroup, offering: Offering) -> Iterator[Headroom]:
    named = {s for z, s in group.subnets.items() if offering.zone in ("", z)} or set(launched_from(tools, group)[1])
    if not named:
        return
    with calling(group.where):
        found = tools.clients.get("ec2", group.place).describe_subnets(SubnetIds=sorted(named))["Subnets"]
    mine = [s for s in found if offering.zone in ("", s["AvailabilityZone"])] or found
    free = sum(int(s["AvailableIpAddressCount"]) for s in mine)
    yield Headroom(f"free addresses in {', '.join(sorted(str(s['SubnetId']) for s in mine))} ({free})", free)
