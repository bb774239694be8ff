"""What Azure tells of when its machines were made: their creation, and when their provisioning was over.

A virtual machine keeps `timeCreated`, and its instance view the time of the status it has now
(https://learn.microsoft.com/rest/api/compute/virtual-machines/instance-view). That is the end of its provisioning,
which waits for the agent of its system, until anything changes it: a start, a tag, an extension. Of what came before
the last change, and of machines that are gone, Azure Resource Manager keeps nothing.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from preprov.contracts import Recollection, Warmed
from preprov.model.errors import InsufficientCapacityError, QuotaExceededError
from preprov.model.notes import TOKEN
from preprov.pools.azure.clients import Json
from preprov.pools.azure.errors import typed
from preprov.pools.azure.group import ScaleSet
from preprov.pools.azure.view import statuses
from preprov.pools.machines.machine import instant

MEANS: Final = (
    "from the creation of a machine that still exists to the end of its provisioning, as its system's agent tells; a "
    "change within half an hour of it counts with it, images and data come on top, and starts are on no record"
)
_LONGEST: Final = timedelta(minutes=30)
"""A status that is later than this is of a change, not of the machine's making."""


def recall(group: ScaleSet, since: datetime) -> Recollection:
    """Machines of the scale set that were made since then and have not been changed.

    Raises:
        PoolError: it cannot be asked.
    """
    left: Counter[str] = Counter()
    warmed = []
    for vm in group.listed():
        one = _warmed(vm, group.where)
        if isinstance(one, str):
            left[one] += 1
        elif one.at >= since:
            warmed.append(one)
    return Recollection(tuple(sorted(warmed, key=lambda w: w.at)), MEANS, tuple(sorted(left.items())))


def _warmed(vm: Json, where: str) -> Warmed | str:
    """The warming, or why it tells none."""
    properties = vm.get("properties", {})
    told = statuses(properties).get("ProvisioningState", {})
    state, *more = str(told.get("code", "")).split("/")[1:] or [""]
    created, ended = instant(properties.get("timeCreated")), instant(told.get("time"))
    if TOKEN in (vm.get("tags") or {}):
        return "made by preprov, which has timed it itself"
    if str(properties.get("provisioningState", "")).lower() not in ("succeeded", "failed"):
        return "not over, or ending"
    if created is None or ended is None or not timedelta(0) < ended - created <= _LONGEST:
        return "changed since it was made"
    failed = state.lower() != "succeeded"
    why = typed((more or [state])[-1], str(told.get("message", "")), where) if failed else None
    if isinstance(why, QuotaExceededError):
        return "a quota was full"
    return Warmed(
        node_id=str(vm["name"]),
        at=ended,
        seconds=(ended - created).total_seconds(),
        zone=next(iter(vm.get("zones") or ()), ""),
        instance_type=str(properties.get("hardwareProfile", {}).get("vmSize", "")),
        failed=failed and not isinstance(why, InsufficientCapacityError),
        lacked=isinstance(why, InsufficientCapacityError),
    )
