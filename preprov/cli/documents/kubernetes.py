"""Document of the command that shows what is made in a cluster."""

from typing import Any

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class KubernetesGroupObjects(Part):
    """Of one group."""

    pool: str
    group: str
    setup: list[dict[str, Any]] = Field(description="What has to be there before; preprov never makes it.")
    unit: dict[str, Any] = Field(description="A Job as preprov makes one for each node's room.")


class KubernetesManifests(Envelope):
    """kubernetes manifests."""

    groups: list[KubernetesGroupObjects]
