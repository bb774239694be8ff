"""The calls that preprov's code makes on Google Cloud, and the rights they need: roles are made from this list."""

from collections.abc import Mapping
from typing import Final

CALLS: Final[Mapping[str, str]] = {
    "InstanceGroupManagers.get": "compute.instanceGroupManagers.get",
    "InstanceGroupManagers.list_managed_instances": "compute.instanceGroupManagers.get",
    "InstanceGroupManagerResizeRequests.get": "compute.instanceGroupManagers.get",
    "InstanceTemplates.get": "compute.instanceTemplates.get",
    "GlobalOperations.wait": "compute.globalOperations.get",
    "Images.list": "compute.images.list",
    "Instances.get": "compute.instances.get",
    "Instances.get_guest_attributes": "compute.instances.getGuestAttributes",
    "Instances.list": "compute.instances.list",
    "Regions.get": "compute.regions.get",
    "Subnetworks.get": "compute.subnetworks.get",
    "ZoneOperations.list": "compute.zoneOperations.list",
    "ZoneOperations.wait": "compute.zoneOperations.get",
    "InstanceGroupManagers.create_instances": "compute.instanceGroupManagers.update",
    "InstanceGroupManagers.delete_instances": "compute.instanceGroupManagers.update",
    "InstanceGroupManagers.patch": "compute.instanceGroupManagers.update",
    "InstanceGroupManagers.resume_instances": "compute.instanceGroupManagers.update",
    "InstanceGroupManagers.start_instances": "compute.instanceGroupManagers.update",
    "InstanceGroupManagers.stop_instances": "compute.instanceGroupManagers.update",
    "InstanceGroupManagers.suspend_instances": "compute.instanceGroupManagers.update",
    "InstanceGroupManagerResizeRequests.cancel": "compute.instanceGroupManagers.update",
    "InstanceGroupManagerResizeRequests.insert": "compute.instanceGroupManagers.update",
    "Instances.set_metadata": "compute.instances.setMetadata",
    "Images.insert": "compute.images.create",
    "Images.delete": "compute.images.delete",
    "InstanceTemplates.insert": "compute.instanceTemplates.create",
    "InstanceTemplates.delete": "compute.instanceTemplates.delete",
}
"""Call of the SDK -> the right it needs. Where a node has a service account, its metadata also need `actAs` of that."""
WRITES: Final[Mapping[str, str]] = {
    "compute.instanceGroupManagers.update": "group",
    "compute.instances.setMetadata": "node",
    "compute.images.create": "image",
    "compute.images.delete": "image",
    "compute.instanceTemplates.create": "image",
    "compute.instanceTemplates.delete": "image",
}
"""Those that write -> what they are done to."""
IMPLIED: Final[Mapping[str, str]] = {"compute.disks.useReadOnly": "image", "compute.images.useReadOnly": "image"}
"""Not called by us, but needed by an image that is made of a disk, and by a template that names an image."""
OBSERVE: Final = tuple(sorted(set(CALLS.values()) - set(WRITES)))
"""Reads only: enough for the modes observe and recommend."""
ACT: Final = tuple(r for r, scope in WRITES.items() if scope != "image")
"""Writes: what the modes floor and full need on top; images are for those who bake them."""
