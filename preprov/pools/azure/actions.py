"""Rights that the code of this package needs, no more: a test compares them with what it is seen to call."""

from typing import Final

OBSERVE: Final = (
    "Microsoft.Compute/locations/operations/read",
    "Microsoft.Compute/locations/usages/read",
    "Microsoft.Compute/virtualMachineScaleSets/read",
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.StandbyPool/standbyVirtualMachinePools/read",
    "Microsoft.StandbyPool/standbyVirtualMachinePools/runtimeViews/read",
    "Microsoft.StandbyPool/standbyVirtualMachinePools/standbyVirtualMachines/read",
)
ACT: Final = (
    "Microsoft.Compute/virtualMachineScaleSets/delete/action",
    "Microsoft.Compute/virtualMachineScaleSets/write",
    "Microsoft.Compute/virtualMachines/deallocate/action",
    "Microsoft.Compute/virtualMachines/start/action",
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.StandbyPool/standbyVirtualMachinePools/write",
)
IMPLIED: Final = (
    "Microsoft.Compute/virtualMachines/delete",
    "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
    "Microsoft.Network/networkSecurityGroups/join/action",
    "Microsoft.Network/virtualNetworks/subnets/join/action",
)
"""Not called, but asked for with a write of a scale set or machine that refers to them."""
