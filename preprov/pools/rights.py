"""What preprov may do in a cloud, by role and by what it is done to: the Terraform modules' roles are made from this.

The role *observe* has no right that writes. The role *act* has the rights of *observe* and, scope by scope, those that
the modules narrow to one pool: by tag, by group or by name, whatever the cloud can.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from preprov.pools.aws import actions as aws
from preprov.pools.azure import actions as azure
from preprov.pools.gcp import actions as gcp


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
    "ec2:AttachVolume": "volume",
    "ec2:CreateFleet": "fleet",
    "ec2:CreateImage": "bake",
    "ec2:CreateLaunchTemplateVersion": "template",
    "ec2:CreateVolume": "disk",
    "ec2:DeleteSnapshot": "image",
    "ec2:DeleteVolume": "volume",
    "ec2:DeregisterImage": "image",
    "ec2:DetachVolume": "volume",
    "ec2:ModifyLaunchTemplate": "template",
    "ec2:ModifyVolume": "volume",
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
where images are baked image (by tag), bake, template; where volumes are kept volume (by tag), disk (by the tag that it
is to have)."""

_GCP_SCOPES: Final = {**gcp.WRITES, **gcp.IMPLIED}
GCP: Final = Rights(gcp.OBSERVE, by_scope(_GCP_SCOPES, _GCP_SCOPES.__getitem__))
"""Scopes: group (the project: it cannot be narrowed further), node (by the names that a group gives its machines), and
image (the project), where images are baked.

A node writes guest attributes of its own, for which it needs no right.
"""

_AZURE_KINDS: Final = {
    "virtualMachineScaleSets": "group",
    "virtualMachines": "node",
    "standbyVirtualMachinePools": "standby",
}


def _azure_scope(action: str) -> str:
    if action in azure.BAKE:
        return "image"
    return azure.IMPLIED.get(action) or _AZURE_KINDS[action.split("/")[1]]


AZURE: Final = Rights(
    observe=azure.OBSERVE,
    act=by_scope(sorted({*azure.ACT, *azure.BAKE, *azure.IMPLIED}), _azure_scope),
    agent=("Microsoft.Resources/tags/write",),
)
"""Scopes: group, node and standby (the module's own resource group), join (the subnet and its security group), image
(the same resource group), where images are baked."""

MODULES: Final[Mapping[str, Rights]] = {"aws-warm-pool": AWS, "gcp-warm-pool": GCP, "azure-warm-pool": AZURE}
"""Terraform module -> its rights."""
