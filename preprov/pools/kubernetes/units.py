"""Units of room as nodes: what a cluster's Jobs, pods and nodes say of them."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from preprov.kube.api import Json
from preprov.kube.labels import CLAIMANT, MANAGER, holds_room
from preprov.kube.quantities import requests
from preprov.kube.reading import annotations, finished, instant
from preprov.model.foreign import Foreign
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.model.time import from_epoch
from preprov.pools.kubernetes.manifests import ENDED, FACTS, NODE, READY
from preprov.pools.kubernetes.options import KubernetesGroup

_STUCK: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerError", "CreateContainerConfigError"}
)
EVICTED: Final = "BackoffLimitExceeded"
"""Why a unit's Job is over that has given way: it may not fail even once."""
OVER: Final = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Unit:
    """A Job of ours with what belongs to it.

    Attributes:
        pod: that holds the room; None = there is none now. node: that it is, or was last, on; None = none that exists.
        work: pods that are work on that node, "namespace/name". foreign: what those hold that preprov has not started.
    """

    group: KubernetesGroup
    job: Json
    pod: Json | None
    node: Json | None
    work: tuple[str, ...] = ()
    foreign: tuple[Foreign, ...] = ()

    @property
    def name(self) -> str:
        """Of the Job."""
        return str(self.job["metadata"]["name"])

    @property
    def on(self) -> str:
        """Name of its node; "" = there is none now, or it is over."""
        return str(self.node["metadata"]["name"]) if self.node is not None and self.exists else ""

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What it was made for."""
        return facts(self.job)

    @property
    def created_at(self) -> datetime:
        """When it was made."""
        return instant(self.job["metadata"].get("creationTimestamp")) or from_epoch(0)

    @property
    def deadline(self) -> datetime | None:
        """When Kubernetes ends it; None = it has not begun to count."""
        began = instant((self.job.get("status") or {}).get("startTime"))
        seconds = self.job["spec"].get("activeDeadlineSeconds")
        return None if began is None or seconds is None else from_epoch(began.timestamp() + float(seconds))

    @property
    def holds(self) -> bool:
        """True while its Job goes on: room is held, or asked for."""
        return not over(self.job)

    @property
    def exists(self) -> bool:
        """False if it was given back, its lease ran out, or the room that it had been held for is no longer there."""
        if ENDED in annotations(self.job) or over(self.job) == "DeadlineExceeded":
            return False
        return self.holds or self.node is not None

    @property
    def is_placed(self) -> bool:
        """True while its pod runs on a node."""
        return self.pod is not None and (self.pod.get("status") or {}).get("phase") == "Running"

    def phase(self) -> tuple[Phase, str]:
        """What it is to preprov, and why."""
        if self.holds and not self.is_placed:
            stuck = self._stuck()
            return (Phase.FAILED, stuck) if stuck else (Phase.WARMING, self._waits())
        if self.node is not None and (self.node.get("spec") or {}).get("unschedulable"):
            return Phase.DRAINING, "cordoned"
        return Phase.READY, ""

    def _stuck(self) -> str:
        for state in ((self.pod or {}).get("status") or {}).get("containerStatuses") or ():
            waiting = (state.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in _STUCK:
                return f"{waiting['reason']}: {waiting.get('message', '')}"[:200]
        return ""

    def _waits(self) -> str:
        for c in ((self.pod or {}).get("status") or {}).get("conditions") or ():
            if c.get("type") == "PodScheduled" and c.get("status") == "False":
                return str(c.get("message") or c.get("reason") or "")[:200]
        return ""

    def shown(self, now: datetime) -> Node:
        """As a node of the pool."""
        phase, reason = self.phase()
        ready_at = instant(annotations(self.job).get(READY)) or self._began()
        return Node(
            node_id=self.name,
            pool=self.group.pool.name,
            group=self.group.group.name,
            offering=self._offering(),
            phase=phase,
            created_at=self.created_at,
            since=self.created_at if phase is Phase.WARMING or ready_at is None else ready_at,
            ready_at=None if phase in (Phase.WARMING, Phase.FAILED) else ready_at,
            running=self.work,
            foreign=self.foreign,
            last_seen=now,
            token=str(self.facts.get("token", "")),
            reason=reason,
            tags=dict(self.facts.get("tags") or {}),
            address=str((self.node or {}).get("metadata", {}).get("name", "")),
        )

    def _began(self) -> datetime | None:
        return instant(((self.pod or {}).get("status") or {}).get("startTime"))

    def _offering(self) -> Offering:
        wanted = self.facts.get("offering")
        offerings = self.group.group.offerings
        return next((o for o in offerings if o.key == wanted), offerings[0])


def facts(job: Json) -> Mapping[str, Any]:
    """What a Job was made for; empty if it does not say, and then it is none of ours."""
    try:
        found = json.loads(annotations(job).get(FACTS, ""))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def over(job: Json) -> str:
    """Why a Job is over; "" = it goes on."""
    found = finished(job)
    return str(found.get("reason") or found["type"]) if found else ""


def node_of(job: Json, pod: Json | None) -> str:
    """Name of the node whose room it holds, or last held."""
    return str(((pod or {}).get("spec") or {}).get("nodeName") or annotations(job).get(NODE, ""))


def is_ready(node: Json) -> bool:
    """True if the kubelet says so."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def is_cordoned_by_us(node: Json) -> bool:
    """True if it takes no new pods, and that is our doing."""
    if not (node.get("spec") or {}).get("unschedulable"):
        return False
    managed = node["metadata"].get("managedFields") or ()
    ours = (m.get("fieldsV1") or {} for m in managed if m.get("manager") == MANAGER)
    return any("f:unschedulable" in (f.get("f:spec") or {}) for f in ours)


@dataclass(frozen=True)
class Work:
    """Pods on a node that are not over, hold no room for preprov, and are not there because the node is.

    Attributes:
        names: "namespace/name"; of a task that preprov has started, its claimant.
        foreign: what each of the others asks for.
    """

    names: tuple[str, ...] = ()
    foreign: tuple[Foreign, ...] = ()

    @classmethod
    def of(cls, pods: Iterable[Json]) -> "Work":
        """Among these."""
        found = sorted((p for p in pods if _is_work(p)), key=_name)
        return cls(tuple(_name(p) for p in found), tuple(_foreign(p) for p in found if not _is_ours(p)))


NO_WORK: Final = Work()


def _is_work(pod: Json) -> bool:
    meta = pod["metadata"]
    owners: Sequence[Json] = meta.get("ownerReferences") or ()
    if any(o.get("kind") in ("DaemonSet", "Node") for o in owners):
        return False
    return not holds_room(pod) and (pod.get("status") or {}).get("phase") not in OVER


def _is_ours(pod: Json) -> bool:
    return CLAIMANT in annotations(pod)


def _name(pod: Json) -> str:
    ours = annotations(pod).get(CLAIMANT)
    return ours or f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"


def _foreign(pod: Json) -> Foreign:
    """As the scheduler counts it: a pod that asks for nothing takes nothing."""
    told = (0.0 if math.isnan(v) else v for v in requests(pod.get("spec") or {}))
    return Foreign(Resources(*told), instant((pod.get("status") or {}).get("startTime")))
