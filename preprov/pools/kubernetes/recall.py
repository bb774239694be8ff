"""What a cluster tells of nodes that came before preprov did: when each was asked for, registered, and first ready.

A node has the time at which it was registered, and its Ready condition that at which it last became so. A NodeClaim of
Karpenter, which lives as long as its node, tells when that was asked for; without one an autoscaler's event on the pod
that it made the node for does ("TriggeredScaleUp"), for the hour that a cluster keeps its events. Pulls are told by
events as well ("Successfully pulled image ... in 12.3s"), else by the conditions of the first pod, to whole seconds.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from preprov.contracts import Recollection, Warmed
from preprov.kube.api import Cluster, Json
from preprov.kube.reading import instant
from preprov.model.errors import NotAuthorisedError
from preprov.pools.kubernetes.counted import CLAIM
from preprov.pools.kubernetes.options import KARPENTER, NODE_POOL, KubernetesGroup
from preprov.pools.kubernetes.units import is_ready
from preprov.pools.kubernetes.work import pods_on

MEANS: Final = (
    "from the NodeClaim, or the autoscaler's word that it makes a node, to the node's first Ready; where neither is "
    "told only from its registration (join), which raises what is configured and no more; images come on top"
)
_ZONE: Final = "topology.kubernetes.io/zone"
_JOINS_WITHIN: Final = timedelta(minutes=15)
_LONGEST: Final = timedelta(hours=1)
_CLOCKS: Final = timedelta(seconds=2)
"""Times are whole seconds, by the clocks of those that wrote them."""
_PULLED: Final = re.compile(r"^Successfully pulled image .* in ([\d.hmsµun]+)(?: |$)")
_PART: Final = re.compile(r"([\d.]+)(h|ms|µs|us|ns|m|s)")
_SECONDS: Final[Mapping[str, float]] = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}


@dataclass
class _Told:
    """What is told beside nodes and pods.

    Attributes:
        claims: node -> its NodeClaim. ups: uid of a pod -> when a node was made for it. pulls: uid of a pod -> seconds.
    """

    claims: dict[str, Json] = field(default_factory=dict)
    ups: dict[str, datetime] = field(default_factory=dict)
    pulls: dict[str, float] = field(default_factory=dict)


def recall(group: KubernetesGroup, cluster: Cluster, since: datetime, ours: Collection[str]) -> Recollection:
    """Nodes of the group that exist and were first ready since then.

    Args:
        ours: names of nodes that are of rooms of preprov's, which has timed them itself.

    Raises:
        PoolError: it cannot be asked.
    """
    left: Counter[str] = Counter()
    nodes = cluster.nodes(group.selector)
    told = _told(group, cluster, left) if nodes else _Told()
    pods = pods_on(cluster, [str(n["metadata"]["name"]) for n in nodes])
    warmed = []
    for node in nodes:
        name = str(node["metadata"]["name"])
        one = _warmed(group, node, pods[name], told) if name not in ours else "of preprov's room, which it has timed"
        if isinstance(one, str):
            left[one] += 1
        elif one.at >= since:
            warmed.append(one)
    return Recollection(tuple(sorted(warmed, key=lambda w: w.at)), MEANS, tuple(sorted(left.items())))


def seconds_of(message: str) -> float | None:
    """How long a pull took, by the kubelet's message; None if it tells of none."""
    found = _PULLED.match(message)
    parts = _PART.findall(found[1]) if found else []
    return sum(float(n) * _SECONDS[unit] for n, unit in parts) if parts else None


def _told(group: KubernetesGroup, cluster: Cluster, left: Counter[str]) -> _Told:
    told = _Told()
    if group.way == NODE_POOL:
        for claim in cluster.customs(CLAIM, f"{KARPENTER}={group.object}"):
            told.claims[str((claim.get("status") or {}).get("nodeName"))] = claim
    try:
        events = {reason: cluster.events(reason) for reason in ("TriggeredScaleUp", "Pulled")}
    except NotAuthorisedError:
        left["events, which may not be listed: how long images took is told by conditions"] += 1
        return told
    for event in events["TriggeredScaleUp"]:
        at = _at(event)
        if at is not None:
            told.ups[_about(event)] = min(at, told.ups.get(_about(event), at))
    for event in events["Pulled"]:
        seconds = seconds_of(str(event.get("message", "")))
        if seconds is not None:
            told.pulls[_about(event)] = told.pulls.get(_about(event), 0.0) + seconds
    return told


def _warmed(group: KubernetesGroup, node: Json, pods: Sequence[Json], told: _Told) -> Warmed | str:
    """The warming, or why it tells none."""
    meta = node["metadata"]
    registered, ready = instant(meta.get("creationTimestamp")), _since(node, "Ready")
    if registered is None or ready is None or not is_ready(node):
        return "not ready"
    placed = sorted(((at, p) for p in pods if _comes_later(p) and (at := _since(p, "PodScheduled"))), key=_time)
    if ready - registered > _JOINS_WITHIN or (placed and placed[0][0] < ready - _CLOCKS):
        return "not ready for the first time: it was lost in between"
    first = placed[0][1] if placed else None
    stages = {"join": (ready - registered).total_seconds()}
    asked = _asked(told, str(meta["name"]), first, registered)
    claim = told.claims.get(str(meta["name"]))
    launched = _since(claim, "Launched") if claim is not None else None
    if asked is not None and launched is not None and asked <= launched <= registered:
        stages["allocate"] = (launched - asked).total_seconds()
        stages["boot"] = (registered - launched).total_seconds()
    image = _pulled(told, first)
    if image is not None:
        stages["image"] = image
    labels = meta.get("labels") or {}
    only = {o.instance_type for o in group.group.offerings}
    return Warmed(
        node_id=str(meta["name"]),
        at=ready,
        seconds=(ready - (asked or registered)).total_seconds(),
        zone=str(labels.get(_ZONE, "")),
        instance_type=str(labels.get(group.instance_type_label) or (next(iter(only)) if len(only) == 1 else "")),
        stages=stages,
        whole=asked is not None,
    )


def _asked(told: _Told, name: str, first: Json | None, registered: datetime) -> datetime | None:
    """When the node was asked for; None = nobody tells."""
    claim = told.claims.get(name)
    at = instant(claim["metadata"].get("creationTimestamp")) if claim is not None else None
    if at is None and first is not None:
        at = told.ups.get(str(first["metadata"].get("uid")))
    return at if at is not None and timedelta(0) <= registered - at <= _LONGEST else None


def _pulled(told: _Told, pod: Json | None) -> float | None:
    """How long the images of the first pod took: by events, else from its sandbox to its first container."""
    if pod is None:
        return None
    if (known := told.pulls.get(str(pod["metadata"].get("uid")))) is not None:
        return known
    status = pod.get("status") or {}
    containers = status.get("containerStatuses") or ()
    if status.get("initContainerStatuses") or any(c.get("restartCount") for c in containers):
        return None
    states = (s for c in containers for s in (c.get("state") or {}).values())
    began = min((at for s in states if (at := instant((s or {}).get("startedAt")))), default=None)
    sandbox = _since(pod, "PodReadyToStartContainers")
    return max((began - sandbox).total_seconds(), 0.0) if began is not None and sandbox is not None else None


def _comes_later(pod: Json) -> bool:
    """True for a pod that no node takes before it is ready: not a DaemonSet's, nor the node's own."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return not any(o.get("kind") in ("DaemonSet", "Node") for o in owners)


def _since(thing: Json, kind: str) -> datetime | None:
    """Since when a condition holds; None if it does not, or is not told."""
    for c in (thing.get("status") or {}).get("conditions") or ():
        if c.get("type") == kind and c.get("status") == "True":
            return instant(c.get("lastTransitionTime"))
    return None


def _time(placed: tuple[datetime, Any]) -> datetime:
    return placed[0]


def _about(event: Json) -> str:
    return str((event.get("involvedObject") or {}).get("uid"))


def _at(event: Json) -> datetime | None:
    """When it happened first; newer events have one time, of more digits."""
    return instant(event.get("firstTimestamp") or event.get("eventTime"))
