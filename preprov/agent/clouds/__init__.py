"""The cloud as a machine of it sees it: who it is, the controller's notes, and a way to leave its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from preprov.agent.clouds.http import CloudError, Http

_VENDOR: Final = Path("/sys/class/dmi/id/sys_vendor")
_VENDORS: Final = {"Amazon EC2": "aws", "Google": "gcp", "Microsoft Corporation": "azure"}


@dataclass(frozen=True, slots=True)
class Machine:
    """Who this machine is.

    Attributes:
        node_id: by which the controller knows it. address: where others in the private network reach it.
    """

    node_id: str
    instance_type: str
    zone: str
    address: str


class Letterbox(Protocol):
    """The cloud's record of this machine, read and written from the machine itself.

    Every method raises CloudError if the cloud did not answer or refused.
    """

    name: str

    def machine(self) -> Machine:
        """Who this machine is."""
        ...

    def orders(self) -> Mapping[str, str]:
        """The controller's notes as they are now."""
        ...

    def post(self, notes: Mapping[str, str]) -> None:
        """Leave notes for the controller; others stay as they are."""
        ...

    def notice(self) -> tuple[str, float] | None:
        """What the cloud is about to do to it: "interruption" or "rebalance", and when (epoch seconds)."""
        ...

    def in_service(self) -> bool:
        """False while the cloud itself keeps it in standby, to be handed over later."""
        ...


def letterbox(cloud: str = "", metadata: str = "", api: str = "") -> Letterbox:
    """The letter box of the cloud this machine is in.

    Args:
        cloud: "aws", "gcp", "azure"; "" = as its firmware says.
        metadata: URL instead of the metadata service's own. api: URL instead of the cloud's API.

    Raises:
        CloudError: it is in none that is known.
    """
    kind = cloud or _by_firmware()
    if kind == "aws":
        from preprov.agent.clouds.aws import Aws

        return Aws(metadata, api)
    if kind == "gcp":
        from preprov.agent.clouds.gcp import Gcp

        return Gcp(metadata)
    if kind == "azure":
        from preprov.agent.clouds.azure import Azure

        return Azure(metadata, api)
    raise CloudError(f"no cloud {kind!r} is known; aws, gcp or azure can be named in the settings")


def _by_firmware() -> str:
    try:
        vendor = _VENDOR.read_text().strip()
    except OSError:
        vendor = ""
    return _VENDORS.get(vendor, vendor or "unknown")


__all__ = ["CloudError", "Http", "Letterbox", "Machine", "letterbox"]
