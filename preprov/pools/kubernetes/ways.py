"""By what a group of a cluster has its room: each way is one object behind one protocol, and the provider asks no more.

| way | what is written | ends by itself |
|---|---|---|
| placeholder | a Job for each node's room | yes, at its deadline |
| capacity_buffer | `spec.replicas` of a CapacityBuffer | no |
| node_pool | `spec.replicas` of a static NodePool of Karpenter | no |
| node_join | nodes of another provider: a taint and a label | as that provider's do |
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias, TypeVar

from preprov.contracts import Capabilities, Finding, LaunchRequest
from preprov.kube.api import Cluster, Json
from preprov.model.errors import PoolError
from preprov.model.nodes import Node
from preprov.model.offerings import Preload, Standby
from preprov.pools.kubernetes.options import KubernetesGroup
from preprov.pools.kubernetes.rights import Rule


class Room(Protocol):
    """The room of one node, as it was seen.

    Attributes:
        name: of the pool's node. work: pods of others on its node, "namespace/name"; more that runs there too.
        exists: False if it is over, and only remembered.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def work(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def exists(self) -> bool: ...  # noqa: D102

    @property
    def on(self) -> str:
        """Name of the cluster's node; "" = it has none now."""
        ...

    def shown(self, now: datetime) -> Node:
        """As a node of the pool."""
        ...


R = TypeVar("R", bound=Room)


class Way(Protocol[R]):
    """One group's way. What a method is given was seen by `rooms` just before, and nothing of it is busy."""

    rules: tuple[Rule, ...]
    """What it needs the right to."""

    @property
    def can(self) -> Capabilities:
        """What it is able to."""
        ...

    def rooms(self) -> list[R]:
        """What there is of it. Raises PoolError if nobody can say."""
        ...

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As a provider's."""
        ...

    def start(self, rooms: Sequence[R], preload: Preload) -> None:
        """As a provider's."""
        ...

    def keep(self, rooms: Sequence[R], state: Standby) -> None:
        """As a provider's `hibernate` and `stop`."""
        ...

    def end(self, rooms: Sequence[R]) -> None:
        """As a provider's `terminate`. ConflictError where it is no longer as it was seen."""
        ...

    def lease(self, until: datetime) -> None:
        """As a provider's. PoolError if nothing ends it."""
        ...

    def tend(self, held: Collection[str]) -> tuple[str, ...]:
        """As a provider's."""
        ...

    def baseline(self) -> Mapping[str, object]:
        """As a provider's."""
        ...

    def restore(self, baseline: Mapping[str, object], held: Collection[str]) -> tuple[str, ...]:
        """As a provider's."""
        ...

    def examine(self) -> Iterator[Finding]:
        """What has to be there beside the rights."""
        ...

    def setup(self) -> list[Json]:
        """What has to be in the cluster before, beside the account and its rights; preprov never makes it."""
        ...

    def sent(self, request: LaunchRequest) -> Json:
        """What a launch sends, to be read."""
        ...


Opened: TypeAlias = Callable[[], Cluster]
"""Connects when it is first asked."""


def keeps_nothing(group: KubernetesGroup, state: Standby) -> PoolError:
    """The refusal of a way whose room is there or not."""
    return PoolError(f"a cluster's room cannot be {state}", where=group.where, hint="use running nodes only")
