"""Rights that the code of this package needs, no more: a test compares them with what it is seen to call."""

from typing import Final

OBSERVE: Final = (
    "compute.instanceGroupManagers.get",
    "compute.instanceTemplates.get",
    "compute.instances.get",
    "compute.instances.getGuestAttributes",
    "compute.instances.list",
    "compute.regions.get",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
)
ACT: Final = ("compute.instanceGroupManagers.update", "compute.instances.setMetadata")
IMPLIED: Final = ("iam.serviceAccounts.actAs",)
"""Not called, but asked for with setMetadata on a machine that has a service account."""
