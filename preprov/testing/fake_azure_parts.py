"""What the fake Azure is made of: scale sets and standby pools."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from preprov.testing.fake_cloud import ApiError, Call, Json
from preprov.testing.fake_machines import FakeMachine


@dataclass
class FakeStandbyPool:
    """A standby pool. `state`: "Running", "Deallocated" or "Hibernated"."""

    name: str
    state: str
    most: int = 0
    least: int = 0
    members: dict[str, FakeMachine] = field(default_factory=dict)


STOCK: Final = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
"""What a scale set boots from as its owner made it: an image of the marketplace."""


@dataclass
class FakeVmss:
    """A flexible scale set.

    Attributes:
        autoscale: name of a setting of Azure Monitor that writes its size; "" = none.
        image: reference of what new machines boot from. booted: machine -> id of what it was made from.
    """

    name: str
    size: str
    capacity: int = 0
    spot: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    hibernates: bool = True
    flexible: bool = True
    members: dict[str, FakeMachine] = field(default_factory=dict)
    standby: FakeStandbyPool | None = None
    autoscale: str = ""
    serial: int = 0
    image: dict[str, str] = field(default_factory=lambda: dict(STOCK))
    booted: dict[str, str] = field(default_factory=dict)


def model_of(g: FakeVmss, subnet: str) -> Json:
    """What its machines are made of."""
    ip = {"name": "ip", "properties": {"subnet": {"id": subnet}}}
    cards = [{"name": "card", "properties": {"ipConfigurations": [ip]}}]
    disk = {"imageReference": dict(g.image), "osDisk": {"diskSizeGB": 50}}
    return {"storageProfile": disk, "networkProfile": {"networkInterfaceConfigurations": cards}}


def match(call: Call, generation: int) -> None:
    """Refuse a write onto what has changed since it was read."""
    wanted = call.headers.get("if-match")
    if wanted is not None and wanted != f'"{generation}"':
        raise ApiError(412, "PreconditionFailed", "the resource has changed since it was read")


def since(m: FakeMachine, at: datetime) -> datetime:
    """When it entered the state it was in then."""
    return max((t for t, _ in m.timeline if t <= at), default=m.created_at)
