"""The calls that preprov's code makes on Azure, and the rights they need: roles are made from this list."""

from collections.abc import Mapping
from typing import Final

CALLS: Final[Mapping[str, str]] = {
    "autoscaleSettings.list": "Microsoft.Insights/autoscaleSettings/read",
    "permissions.list": "Microsoft.Authorization/permissions/read",
    "vnet.usages": "Microsoft.Network/virtualNetworks/usages/read",
    "usage.list": "Microsoft.Compute/locations/usages/read",
    "gallery_image_versions.list_by_gallery_image": "Microsoft.Compute/galleries/images/versions/read",
    "gallery_image_versions.begin_create_or_update": "Microsoft.Compute/galleries/images/versions/write",
    "gallery_image_versions.begin_delete": "Microsoft.Compute/galleries/images/versions/delete",
    "virtual_machines.generalize": "Microsoft.Compute/virtualMachines/generalize/action",
    "virtual_machine_scale_sets.get": "Microsoft.Compute/virtualMachineScaleSets/read",
    "virtual_machine_scale_sets.begin_update": "Microsoft.Compute/virtualMachineScaleSets/write",
    "virtual_machine_scale_sets.begin_delete_instances": "Microsoft.Compute/virtualMachineScaleSets/delete/action",
    "virtual_machines.get": "Microsoft.Compute/virtualMachines/read",
    "virtual_machines.list": "Microsoft.Compute/virtualMachines/read",
    "virtual_machines.begin_deallocate": "Microsoft.Compute/virtualMachines/deallocate/action",
    "virtual_machines.begin_start": "Microsoft.Compute/virtualMachines/start/action",
    "virtual_machines.begin_update": "Microsoft.Compute/virtualMachines/write",
    "standby_virtual_machine_pools.get": "Microsoft.StandbyPool/standbyVirtualMachinePools/read",
    "standby_virtual_machine_pools.update": "Microsoft.StandbyPool/standbyVirtualMachinePools/write",
    "standby_virtual_machines.list_by_standby_virtual_machine_pool_resource": (
        "Microsoft.StandbyPool/standbyVirtualMachinePools/standbyVirtualMachines/read"
    ),
    "standby_virtual_machine_pool_runtime_views.get": (
        "Microsoft.StandbyPool/standbyVirtualMachinePools/runtimeViews/read"
    ),
}
"""Call of the SDK -> the right it needs."""
POLLED: Final = "Microsoft.Compute/locations/operations/read"
"""Asked by the SDK itself, until an operation is over."""
IMPLIED: Final[Mapping[str, str]] = {
    "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action": "group",
    "Microsoft.Network/networkSecurityGroups/join/action": "join",
    "Microsoft.Network/virtualNetworks/subnets/join/action": "join",
}
"""Not called by us, but needed by a scale set that grows: its machines join a network and have an identity."""
OBSERVE: Final = tuple(sorted({*(r for r in CALLS.values() if r.endswith("/read")), POLLED}))
"""Reads only: enough for the modes observe and recommend."""
BAKE: Final = tuple(
    sorted(r for r in CALLS.values() if not r.endswith("/read") and ("/galleries/" in r or "/generalize/" in r))
)
"""Writes of those who bake images."""
ACT: Final = tuple(sorted({r for r in CALLS.values() if not r.endswith("/read")} - set(BAKE)))
"""Writes: what the modes floor and full need on top."""
