"""What is made in a cluster, as it is sent: pods that hold room, and what has to be there before.

A unit of room is a Job of one pod, the size of an offering, of a priority below everything else. It runs to no end of
its own. Real work that needs the room has it at once, for the scheduler evicts what is lower; and the Job, which may
not fail even once, is then over and asks for no other room. Its deadline ends it if nobody renews it.
"""

import hashlib
import json
import re
from datetime import datetime
from typing import Final

from preprov.contracts import LaunchRequest
from preprov.kube.api import Json
from preprov.kube.labels import MANAGED_BY, MANAGER, POOL
from preprov.model.offerings import Offering
from preprov.pools.kubernetes.options import KubernetesGroup

GROUP: Final = "preprov.io/group"
TOKEN: Final = "preprov.io/token"  # noqa: S105
FACTS: Final = "preprov.io/facts"
"""Annotation: pool, group, token, offering and tags as they are, for labels hold less."""
NODE: Final = "preprov.io/node"
"""Annotation: the node whose room it held when it was last seen."""
READY: Final = "preprov.io/ready-at"
ENDED: Final = "preprov.io/ended-at"
"""Annotation: it is given back. The Job stays for a while, so that its launch is not made again."""
ZONE: Final = "topology.kubernetes.io/zone"
PRIORITY: Final = -10
"""The lowest for which the cluster autoscaler still makes room (`--expendable-pods-priority-cutoff`)."""
_STAYS: Final = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""Autoscalers do not tidy room away that is held for a while."""
KEPT_S: Final = 3_600
"""A Job that is over is deleted by Kubernetes after this."""
LEAST_S: Final = 60
_ODD: Final = re.compile(r"[^A-Za-z0-9_.-]")


def label(text: str) -> str:
    """A text as a label may hold it: as it is if it may be, else what is left of it and a digest."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    plain = _ODD.sub("-", text).strip("-_.")[:63].strip("-_.")
    return plain if plain == text and text else f"{plain[:50].strip('-_.') or 'x'}.{digest}"


def unit_name(request: LaunchRequest, number: int) -> str:
    """The same launch has the same names, however often it is sent."""
    text = "\x1f".join((request.pool.name, request.group, request.token))
    return f"preprov-{hashlib.sha256(text.encode()).hexdigest()[:16]}-{number}"


def unit(group: KubernetesGroup, request: LaunchRequest, number: int, now: datetime) -> Json:
    """The Job that holds room for one node of the request's offering."""
    labels = {
        MANAGED_BY: MANAGER,
        POOL: label(request.pool.name),
        GROUP: label(request.group),
        TOKEN: label(request.token),
    }
    facts = {
        "pool": request.pool.name,
        "group": request.group,
        "token": request.token,
        "offering": request.offering.key,
        "tags": dict(request.tags),
    }
    until = request.expires_at
    lease_s = request.pool.lease_s if until is None else (until - now).total_seconds()
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": unit_name(request, number),
            "namespace": group.namespace,
            "labels": labels,
            "annotations": {FACTS: json.dumps(facts, sort_keys=True, separators=(",", ":"))},
        },
        "spec": {
            "activeDeadlineSeconds": max(int(lease_s), LEAST_S),
            "ttlSecondsAfterFinished": KEPT_S,
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "template": {
                "metadata": {"labels": labels, "annotations": dict(_STAYS)},
                "spec": pod(group, request.offering),
            },
        },
    }


def pod(group: KubernetesGroup, offering: Offering) -> Json:
    """The pod that holds the room of one node."""
    amounts = _amounts(group, offering)
    selector = dict(group.node_selector)
    if group.instance_type_label:
        selector[group.instance_type_label] = offering.instance_type
    if offering.zone:
        selector[ZONE] = offering.zone
    container = {
        "name": "room",
        "image": group.image,
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65535,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "restartPolicy": "Never",
        "priorityClassName": group.priority_class,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": selector,
        "tolerations": list(group.place.tolerations),
        "containers": [container],
    }


def _amounts(group: KubernetesGroup, offering: Offering) -> dict[str, str]:
    room = offering.allocatable
    amounts = {"cpu": f"{int(room.cpu * 1000)}m", "memory": f"{int(room.memory * 1024)}Mi"}
    return {**amounts, group.place.gpu_resource: str(int(room.gpu))} if room.gpu >= 1 else amounts


# --------------------------------------------------------------------------- what has to be there before


def namespace(group: KubernetesGroup) -> Json:
    """Of everything that is made."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": group.namespace}}


def priority_class(group: KubernetesGroup) -> Json:
    """Of the pods that hold room."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": group.priority_class},
        "value": PRIORITY,
        "globalDefault": False,
        "preemptionPolicy": "Never",
        "description": "Room that preprov holds: gives way to everything, and takes nobody's place.",
    }


def cordoned(node: str) -> Json:
    """Applied to a node: nothing new is placed there."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": {"unschedulable": True}}


def uncordoned(node: str) -> Json:
    """Applied after it: what was ours of the node is nobody's again."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}


def ending(now: datetime) -> Json:
    """Patch of a unit that is given back: its deadline is over, and Kubernetes ends its pod."""
    return {"metadata": {"annotations": {ENDED: now.isoformat()}}, "spec": {"activeDeadlineSeconds": 1}}
