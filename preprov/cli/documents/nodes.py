"""Documents of the commands about nodes and their images."""

from pydantic import Field

from preprov.cli.documents.base import Envelope


class NodePackage(Envelope):
    """node package."""

    file: str
    bytes: int
    sha256: str


class NodeUserData(Envelope):
    """node user-data."""

    cloud: str
    bytes: int = Field(description="Of what the cloud is given.")
    limit: int = Field(description="Bytes that the cloud takes, before base64.")
    compressed: bool
    agent_sha256: str
    script: str = Field(description="What cloud-init runs.")
    file: str | None = Field(description="Where it was written; null = nowhere.")
