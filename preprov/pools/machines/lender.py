"""What a cloud has to be able to do with one group, for `MachineProvider` to do the rest."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from preprov.contracts import Capabilities, LaunchRequest
from preprov.model.pools import Group, Pool
from preprov.pools.machines.machine import Machine


class Lender(Protocol):
    """One group of a pool in its cloud; each method asks or tells the cloud now, and raises PoolError if it fails."""

    @property
    def pool(self) -> Pool:
        """The pool it is of."""
        ...

    @property
    def group(self) -> Group:
        """The group it is."""
        ...

    @property
    def fence_s(self) -> float:
        """How long an agent is waited for to confirm that it begins no more tasks."""
        ...

    @property
    def where(self) -> str:
        """For messages."""
        ...

    def capabilities(self) -> Capabilities:
        """As the contract of pool providers says."""
        ...

    def machines(self, ids: Sequence[str] | None = None) -> Mapping[str, Machine]:
        """Machines of the group that exist, by id; `ids` = only those of them."""
        ...

    def noted(self) -> Mapping[str, Mapping[str, str]]:
        """Controllers' notes on the group's machines, by id, without what their agents say."""
        ...

    def create(self, request: LaunchRequest, count: int, notes: Mapping[str, str]) -> tuple[str, ...]:
        """New machines with these notes; the same token never makes more than the first time.

        InsufficientCapacityError or QuotaExceededError if none could be had.
        """
        ...

    def finish(self, request: LaunchRequest, made: Sequence[str], notes: Mapping[str, str]) -> tuple[str, ...]:
        """Go on with a launch that a crash cut short after it had made these; returns all of its machines."""
        ...

    def start(self, machines: Sequence[Machine]) -> None:
        """Start machines that are kept in standby."""
        ...

    def hibernate(self, machines: Sequence[Machine]) -> None:
        """Suspend running machines, memory kept."""
        ...

    def stop(self, machines: Sequence[Machine]) -> None:
        """Stop running machines, disk kept."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """End these machines and their disks, and no others; what is not there is left out."""
        ...

    def note(self, ids: Sequence[str], notes: Mapping[str, str | None]) -> None:
        """Write notes on machines, None = take the note away; other notes stay as they are."""
        ...
