"""What preprov may do in a cloud, by role and by what it is done to: the Terraform modules' roles are made from this.

The role *observe* has no right that writes. The role *act* has the rights of *observe* and, scope by scope, those that
the modules narrow to one pool: by tag, by group or by name, whatever the cloud can.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from preprov.pools.aws import actions as aws


@dataclass(frozen=True)
class Rights:
    """Rights as the cloud names them.

    Attributes:
        observe: reads only. act: scope -> writes; the scopes are those a module narrows in different ways.
        agent: what a node needs to leave its reports on its own machine.
    """

    observe: tuple[str, ...]
    act: Mapping[str, tuple[str, ...]]
    agent: tuple[str, ...] = ()

    def writes(self) -> frozenset[str]:
        """All rights of `act`."""
        return frozenset(r for some in self.act.values() for r in some)

    def as_json(self) -> dict[str, object]:
        """As the modules read it."""
        act = {k: sorted(v) for k, v in sorted(self.act.items())}
        return {"observe": sorted(self.observe), "act": act, "agent": sorted(self.agent)}


def by_scope(rights: Iterable[str], scope: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """Rights under the scope of each."""
    out: dict[str, tuple[str, ...]] = {}
    for right in rights:
        out[scope(right)] = (*out.get(scope(right), ()), right)
    return out


_AWS_SCOPES: Final = {
    "autoscaling:CompleteLifecycleAction": "tend",
    "autoscaling:RecordLifecycleActionHeartbeat": "tend",
    "autoscaling:SetInstanceProtection": "tend",
    "ec2:CreateFleet": "fleet",
    "ec2:CreateImage": "bake",
    "ec2:CreateLaunchTemplateVersion": "template",
    "ec2:DeleteSnapshot": "image",
    "ec2:DeregisterImage": "image",
    "ec2:ModifyLaunchTemplate": "template",
    "ec2:RunInstances": "run",
    "iam:PassRole": "pass",
    "ec2:CreateTags": "note",
    "ec2:DeleteTags": "note",
    "ec2:StartInstances": "node",
    "ec2:StopInstances": "node",
    "ec2:TerminateInstances": "node",
}
_AWS_SERVICES: Final = {"autoscaling": "group", "sqs": "queue"}


def _aws_scope(action: str) -> str:
    """Raises KeyError for an action that no statement of the module would narrow."""
    return _AWS_SCOPES.get(action) or _AWS_SERVICES[action.partition(":")[0]]


AWS: Final = Rights(aws.OBSERVE, by_scope((*aws.ACT, *aws.IMPLIED), _aws_scope), aws.AGENT)
"""Scopes: group and tend (by ARN and tag), node and note (by tag), queue (by ARN), fleet, run (by template), pass; and
where images are baked image (by tag), bake, template."""

GCP_CALLS: Final[Mapping[str, str]] = {
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
_GCP_WRITES: Final = {
    "compute.instanceGroupManagers.update": "group",
    "compute.instances.setMetadata": "node",
    "compute.images.create": "image",
    "compute.images.delete": "image",
    "compute.instanceTemplates.create": "image",
    "compute.instanceTemplates.delete": "image",
}
_GCP_IMPLIED: Final = {"compute.disks.useReadOnly": "image", "compute.images.useReadOnly": "image"}
"""Not called by us, but needed by an image that is made of a disk, and by a template that names an image."""

GCP: Final = Rights(
    observe=tuple(sorted(set(GCP_CALLS.values()) - set(_GCP_WRITES))),
    act=by_scope({**_GCP_WRITES, **_GCP_IMPLIED}, {**_GCP_WRITES, **_GCP_IMPLIED}.__getitem__),
)
"""Scopes: group (the project: it cannot be narrowed further), node (by the names that a group gives its machines), and
image (the project), where images are baked.

A node writes guest attributes of its own, for which it needs no right.
"""

AZURE_CALLS: Final[Mapping[str, str]] = {
    "autoscaleSettings.list": "Microsoft.Insights/autoscaleSettings/read",
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
_AZURE_POLLED: Final = "Microsoft.Compute/locations/operations/read"
"""Asked by the SDK itself, until an operation is over."""
_AZURE_IMPLIED: Final = {
    "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action": "group",
    "Microsoft.Network/networkSecurityGroups/join/action": "join",
    "Microsoft.Network/virtualNetworks/subnets/join/action": "join",
}
"""Not called by us, but needed by a scale set that grows: its machines join a network and have an identity."""
_AZURE_GENERALISES: Final = "Microsoft.Compute/virtualMachines/generalize/action"
_AZURE_KINDS: Final = {
    "galleries": "image",
    "virtualMachineScaleSets": "group",
    "virtualMachines": "node",
    "standbyVirtualMachinePools": "standby",
}


def _azure_scope(action: str) -> str:
    if action == _AZURE_GENERALISES:
        return "image"
    return _AZURE_IMPLIED.get(action) or _AZURE_KINDS[action.split("/")[1]]


AZURE: Final = Rights(
    observe=tuple(sorted({*(r for r in AZURE_CALLS.values() if r.endswith("/read")), _AZURE_POLLED})),
    act=by_scope(
        sorted({*(r for r in AZURE_CALLS.values() if not r.endswith("/read")), *_AZURE_IMPLIED}), _azure_scope
    ),
    agent=("Microsoft.Resources/tags/write",),
)
"""Scopes: group, node and standby (the module's own resource group), join (the subnet and its security group), image
(the same resource group), where images are baked."""

MODULES: Final[Mapping[str, Rights]] = {"aws-warm-pool": AWS, "gcp-warm-pool": GCP, "azure-warm-pool": AZURE}
"""Terraform module -> its rights."""
