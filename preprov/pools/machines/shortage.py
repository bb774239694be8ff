"""Remember for a while that a kind of machine could not be had, so that the next call asks for another."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from preprov.contracts import Clock
from preprov.model.offerings import CapacityType


@dataclass
class Shortages:
    """A time to live per instance type, zone and capacity type. A cache: what a process forgets is asked again."""

    clock: Clock
    _until: dict[tuple[str, str, CapacityType], datetime] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def note(self, instance_type: str, zone: str, kind: CapacityType, ttl_s: float) -> None:
        """There is none now."""
        with self._lock:
            self._until[instance_type, zone, kind] = self.clock.now() + timedelta(seconds=ttl_s)

    def until(self, instance_type: str, zone: str, kind: CapacityType) -> datetime | None:
        """Until when none is expected; None = it may be asked for."""
        with self._lock:
            found = self._until.get((instance_type, zone, kind))
            if found is not None and found <= self.clock.now():
                del self._until[instance_type, zone, kind]
                found = None
            return found
