"""Storage volumes: disks that outlive the nodes they are attached to."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from preprov.model.nodes import Node
from preprov.model.pools import Pool


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of ours, as its provider shows it now.

    Attributes:
        volume_id: the provider's name for it. name: ours, unique in its pool. tenant: whose it is.
        zone: where it can be attached; "" = anywhere.
        node_id: what it is attached to, or is on its way to or from; "" = nothing.
        state: in the provider's words, for people. device: where its node has it; "" = not attached.
        token: of the call that made it.
    """

    volume_id: str
    name: str
    pool: str
    tenant: str
    gib: float
    zone: str = ""
    node_id: str = ""
    state: str = ""
    device: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class NewVolume:
    """Ask for one.

    Attributes:
        gib: at the least; a provider rounds up to what it can make.
        token: the same token never makes a second one, however often it is sent.
    """

    name: str
    tenant: str
    gib: float
    token: str


@runtime_checkable
class KeepsVolumes(Protocol):
    """A provider that has storage volumes: each is on one node at a time at the most, and is never made smaller.

    A volume is found again by its tags, never remembered. Errors and which of them are retryable: as for
    `PoolProvider`; ConflictError is also what a volume that is on its way from one state to another answers.
    """

    def volumes(self, pool: Pool) -> tuple[Volume, ...]:
        """Those of this pool, by name; none that is being deleted.

        Idempotent: reads only. Consistent: may lag behind writes by seconds. Absent: a volume that is not listed is
        gone, whoever deleted it; one whose node is gone is attached to nothing. Retryable: ThrottledError.
        """
        ...

    def create_volume(self, pool: Pool, node: Node, new: NewVolume) -> Volume:
        """Make one, empty and encrypted where the provider can, where this node could have it.

        Idempotent: by token, and by the name: one that is there is returned as it is, whatever its size. Consistent:
        can be attached when this returns. Absent: NotFoundError, there is no such node. Retryable:
        InsufficientCapacityError (no room for it), ThrottledError, ConflictError (it is not ready to be attached yet).
        """
        ...

    def attach_volume(self, pool: Pool, volume_id: str, node_id: str) -> Volume:
        """Let a node have it; it is not formatted, nor mounted.

        Idempotent: one that is on that node is left alone. Consistent: the node has it when this returns, or within
        seconds. Absent: NotFoundError names the volume or the node. Retryable: ThrottledError, ConflictError (it is
        attached to another node, or on its way).
        """
        ...

    def detach_volume(self, pool: Pool, volume_id: str, node_id: str) -> None:
        """Take it away from that node, whatever runs there; unmount it before. What is written on it stays.

        Idempotent: one that is not on that node is left alone. Consistent: can be attached elsewhere when this returns.
        Absent: a volume or a node that is gone is success. Retryable: ThrottledError, ConflictError (the node does not
        let go of it yet).
        """
        ...

    def grow_volume(self, pool: Pool, volume_id: str, gib: float) -> Volume:
        """Make it at least so large, attached or not; a file system on it has to be grown in its node.

        Idempotent: one that is as large or larger is left alone: none is ever made smaller. Consistent: at once, or
        within minutes, which `volumes` shows. Absent: NotFoundError. Retryable: InsufficientCapacityError,
        ThrottledError (it was changed too often lately), ConflictError (an earlier change is under way).
        """
        ...

    def delete_volume(self, pool: Pool, volume_id: str) -> None:
        """Delete it with all that is on it, for good; ConflictError while it is attached, and nothing is done.

        Idempotent, Absent: success. Consistent: it vanishes from `volumes` within seconds. Retryable: ThrottledError,
        ConflictError.
        """
        ...
