"""What the fake Azure is made of: scale sets and standby pools."""

from dataclasses import dataclass, field

from preprov.testing.fake_machines import FakeMachine


@dataclass
class FakeStandbyPool:
    """A standby pool. `state`: "Running", "Deallocated" or "Hibernated"."""

    name: str
    state: str
    most: int = 0
    least: int = 0
    members: dict[str, FakeMachine] = field(default_factory=dict)


@dataclass
class FakeVmss:
    """A flexible scale set. `autoscale`: name of a setting of Azure Monitor that writes its size; "" = none."""

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
