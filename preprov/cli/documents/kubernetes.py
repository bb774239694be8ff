"""Document of the command that shows what is made in a cluster."""

from typing import Any

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class KubernetesGroupObjects(Part):
    """Of one group."""

    pool: str
    group: str
    way: str = Field(description="placeholder, capacity_buffer, node_pool or node_join.")
    setup: list[dict[str, Any]] = Field(description="What has to be there before; preprov never makes it.")
    unit: dict[str, Any] = Field(description="What a launch sends: the Job of a node's room, or the count.")


class KubernetesManifests(Envelope):
    """kubernetes manifests."""

    groups: list[KubernetesGroupObjects]
