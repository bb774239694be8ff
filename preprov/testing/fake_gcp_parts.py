"""What the fake Compute Engine is made of: managed instance groups, their members' ways, resize requests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from preprov.testing.fake_cloud import Json
from preprov.testing.fake_machines import FakeMachine

GONE: Final = "GONE"
NOTES: Final = "preprov-notes"
"""Metadata entry of the controller's notes."""


@dataclass(frozen=True)
class Verb:
    """What a call on named members does: from which state, through which, and how the group calls it meanwhile."""

    needs: str
    steps: tuple[tuple[float, str], ...]
    action: str


VERBS: Final[Mapping[str, Verb]] = {
    "suspendInstances": Verb("RUNNING", ((2, "SUSPENDING"), (12, "SUSPENDED")), "SUSPENDING"),
    "stopInstances": Verb("RUNNING", ((2, "STOPPING"), (20, "TERMINATED")), "STOPPING"),
    "resumeInstances": Verb("SUSPENDED", ((3, "STAGING"), (10, "RUNNING")), "RESUMING"),
    "startInstances": Verb("TERMINATED", ((3, "STAGING"), (15, "RUNNING")), "STARTING"),
    "deleteInstances": Verb("", ((2, "STOPPING"), (10, GONE)), "DELETING"),
}
MAKING: Final = ((3.0, "PROVISIONING"), (8.0, "STAGING"), (15.0, "RUNNING"))
COUNTED: Final = {"target_size": "RUNNING", "target_suspended_size": "SUSPENDED", "target_stopped_size": "TERMINATED"}


@dataclass
class FakeResize:
    """A resize request. `state`: "ACCEPTED", "CREATING" or "CANCELLED"."""

    instances: list[Json]
    state: str = "ACCEPTED"


@dataclass
class FakeMig:
    """A managed instance group.

    Attributes:
        autoscaler: URL of one that writes its size; "" = none. template: name of its template; "" = its own name.
    """

    name: str
    base: str
    machine_type: str
    spot: bool = False
    autoscaler: str = ""
    guest_attributes: bool = True
    initial_delay_s: int = 0
    standby_mode: str = "MANUAL"
    members: dict[str, FakeMachine] = field(default_factory=dict)
    requests: dict[str, FakeResize] = field(default_factory=dict)
    serial: int = 0
    template: str = ""


def notes_of(instance: Json) -> dict[str, str]:
    """Notes of an instance that is asked for."""
    metadata = instance.get("preservedState", {}).get("metadata", {})
    notes: dict[str, str] = json.loads(metadata.get(NOTES, "{}"))
    return notes


def counts_of(g: FakeMig) -> dict[str, int]:
    """How many members are in each state, or on their way."""
    aims = ["RUNNING" if m.error else m.aim for m in g.members.values()]
    return {name: aims.count(state) for name, state in COUNTED.items()}
