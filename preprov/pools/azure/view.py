"""From what Azure shows of a virtual machine, and what its agent noted in its tags, to a `Machine`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from preprov.model.notes import CREATED, REPORT, read_report
from preprov.model.offerings import CapacityType
from preprov.pools.azure.clients import Json
from preprov.pools.machines.machine import Machine, State, instant

_POWER: Final[Mapping[str, State]] = {
    "starting": State.STARTING,
    "running": State.RUNNING,
    "stopping": State.SLIPPING,
    "deallocating": State.SLIPPING,
    "stopped": State.STOPPED,
    "deallocated": State.STOPPED,
}
_HIBERNATED: Final = "hibernated"


def machine(vm: Json, now: datetime) -> Machine:
    """One virtual machine, shown with its instance view."""
    properties = vm.get("properties", {})
    notes = {str(k): str(v) for k, v in (vm.get("tags") or {}).items()}
    created = instant(notes.get(CREATED)) or instant(properties.get("timeCreated")) or now
    state, reason = _state(properties)
    return Machine(
        node_id=str(vm["name"]),
        state=state,
        instance_type=str(properties.get("hardwareProfile", {}).get("vmSize", "")),
        zone=next(iter(vm.get("zones") or ()), ""),
        created_at=created,
        started_at=instant(properties.get("timeCreated")) or created,
        since=_since(properties) or created,
        capacity_type=CapacityType.SPOT if properties.get("priority") == "Spot" else CapacityType.ON_DEMAND,
        notes={k: v for k, v in notes.items() if not k.startswith(f"{REPORT}.")},
        report=read_report(notes),
        reason=reason,
    )


def statuses(properties: Json) -> dict[str, Json]:
    """Statuses of the instance view by kind: "PowerState", "ProvisioningState", "HibernationState"."""
    found = properties.get("instanceView", {}).get("statuses") or ()
    return {str(s.get("code", "")).split("/")[0]: s for s in found}


def _state(properties: Json) -> tuple[State, str]:
    told = statuses(properties)
    power = str(told.get("PowerState", {}).get("code", "")).split("/")[-1]
    hibernation = str(told.get("HibernationState", {}).get("code", "")).split("/")[-1].lower()
    provisioning = str(properties.get("provisioningState", "")).lower()
    if provisioning == "deleting":
        return State.ENDING, ""
    if provisioning == "failed" and power not in ("running", "deallocated"):
        why = told.get("ProvisioningState", {})
        return State.BROKEN, f"{str(why.get('code', '')).split('/')[-1]}: {why.get('message', '')}".strip(": ")
    state = _POWER.get(power, State.STARTING)
    if state is State.STOPPED and hibernation == _HIBERNATED:
        state = State.HIBERNATED
    return state, ""


def _since(properties: Json) -> datetime | None:
    return instant(statuses(properties).get("ProvisioningState", {}).get("time"))
