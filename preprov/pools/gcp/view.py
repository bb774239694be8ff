"""From what Compute Engine shows of an instance and of its place in a managed instance group, to a `Machine`."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from preprov.model.notes import CREATED, NOTICE, PREFIX, Report, read_report
from preprov.model.offerings import CapacityType
from preprov.pools.machines.machine import Machine, State, instant

NOTES: Final = "preprov-notes"
"""The metadata entry that holds the controller's notes, as JSON; a node waits for its change."""
NAMESPACE: Final = PREFIX.rstrip(":")
"""Guest attributes of the agent are in this namespace, by the rest of the note's key."""
_STATES: Final[Mapping[str, State]] = {
    "PROVISIONING": State.STARTING,
    "STAGING": State.STARTING,
    "RUNNING": State.RUNNING,
    "REPAIRING": State.STARTING,
    "SUSPENDING": State.SLIPPING,
    "STOPPING": State.SLIPPING,
    "PENDING_STOP": State.SLIPPING,
    "SUSPENDED": State.HIBERNATED,
    "STOPPED": State.STOPPED,
    "TERMINATED": State.STOPPED,
}
_ACTIONS: Final[Mapping[str, State]] = {
    "DELETING": State.ENDING,
    "ABANDONING": State.ENDING,
    "CREATING": State.STARTING,
    "CREATING_WITHOUT_RETRIES": State.STARTING,
    "RECREATING": State.STARTING,
    "RESTARTING": State.STARTING,
    "RESUMING": State.STARTING,
    "STARTING": State.STARTING,
    "SUSPENDING": State.SLIPPING,
    "STOPPING": State.SLIPPING,
}


def machine(managed: Any, instance: Any, guest: Mapping[str, str], now: datetime) -> Machine:
    """One member of a managed instance group.

    Args:
        managed: as the group lists it. instance: as the zone lists it; None = it is not there (yet).
        guest: its agent's guest attributes, as notes.
        now: the instant of the look.
    """
    notes = read_notes(instance.metadata) if instance is not None else _planned(managed)
    notes |= {k: v for k, v in guest.items() if k == NOTICE}
    created = (
        (_when(instance.creation_timestamp) if instance is not None else None) or instant(notes.get(CREATED)) or now
    )
    state = _ACTIONS.get(managed.current_action) or _STATES.get(managed.instance_status, State.STARTING)
    errors = list(managed.last_attempt.errors.errors)
    return Machine(
        node_id=name_of(managed.instance),
        state=state,
        instance_type=name_of(instance.machine_type) if instance is not None else "",
        zone=name_of(instance.zone) if instance is not None else "",
        created_at=created,
        started_at=(_when(instance.last_start_timestamp) if instance is not None else None) or created,
        since=_since(instance, state) or created,
        capacity_type=_capacity_type(instance),
        notes=notes,
        report=_report(guest),
        address=instance.network_interfaces[0].network_i_p
        if instance is not None and instance.network_interfaces
        else "",
        reason=f"{errors[0].code}: {errors[0].message}" if errors and state is State.STARTING else "",
    )


def read_notes(metadata: Any) -> dict[str, str]:
    """The controller's notes in an instance's metadata; none if they cannot be read."""
    text = next((i.value for i in metadata.items if i.key == NOTES), "")
    return _notes(text)


def as_guest(items: Iterable[Any]) -> dict[str, str]:
    """An agent's guest attributes as notes."""
    return {f"{PREFIX}{i.key}": i.value for i in items if i.namespace == NAMESPACE}


def name_of(url: str) -> str:
    """The last part of a resource's URL."""
    return url.rsplit("/", 1)[-1]


def _planned(managed: Any) -> dict[str, str]:
    """Notes of a machine that is still to be made."""
    return _notes(dict(managed.preserved_state_from_config.metadata).get(NOTES, ""))


def _notes(text: str) -> dict[str, str]:
    try:
        raw = json.loads(text) if text else {}
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in raw.items()} if isinstance(raw, dict) else {}


def _report(guest: Mapping[str, str]) -> Report | None:
    return read_report(guest)


def _when(text: str) -> datetime | None:
    found = instant(text)
    return found.astimezone(UTC) if found else None


def _since(instance: Any, state: State) -> datetime | None:
    if instance is None:
        return None
    if state is State.HIBERNATED:
        return _when(instance.last_suspended_timestamp)
    if state is State.STOPPED:
        return _when(instance.last_stop_timestamp)
    return _when(instance.last_start_timestamp)


def _capacity_type(instance: Any) -> CapacityType:
    if instance is not None and instance.scheduling.provisioning_model == "SPOT":
        return CapacityType.SPOT
    return CapacityType.ON_DEMAND
